"""How a packet is declared: a class with annotations becomes a small class with slots.

There is no base class and no introspection at run time.  `__init__`, `values` and `check` are
compiled once from the annotations, and so are its sizes: `largest`, in bytes (infinite if nothing
but MAX_FRAME bounds it), `longest`, the items of its longest array (-1: as many as fit), and
`plain`, the bytes up to which a frame can be decoded without further care.
"""
from math import inf

from . import limits
from .types import HEADER, INTEGER, scope_of, type_of

BY_CODE = {}                    # code -> packet class
ANSWER = 0x80                   # the code of an answer is that of its request, with this bit
POINTER = 8                     # bytes of memory for one item of an array
DEPTH = 1024                    # levels of arrays that msgpack follows


def packet(code, route):
    """Declare a packet that expects no answer.  `route` says who may send it to whom: for
    example `'client -> storage, storage -> storage'`; `any` stands for each kind."""
    return lambda cls: _declare(cls, code, _parse(route))


def request(code, route):
    """Declare a packet that expects an answer, which is its inner class `Answer`, or an `Error`."""
    def declare(cls):
        routes = _parse(route)
        answer = _declare(cls.Answer, code | ANSWER, {(b, a) for a, b in routes})
        answer.__qualname__ = answer.__name__ = cls.__name__ + '.Answer'
        declared = _declare(cls, code, routes)
        declared.Answer = answer
        return declared
    return declare


def _parse(route):
    kinds = ['master', 'storage', 'admin', 'client', 'ctl']
    routes = set()
    for arrow in route.split(','):
        sender, receiver = (kinds if side.strip() == 'any' else [side.strip()]
                            for side in arrow.split('->'))
        routes |= {(kinds.index(a), kinds.index(b)) for a in sender for b in receiver}
    return routes


def _declare(cls, code, routes):
    fields = tuple(cls.__dict__.get('__annotations__', ()))
    types = [type_of(cls.__annotations__[field]) for field in fields]
    body = {
        '__slots__': fields, '__doc__': cls.__doc__, '__module__': cls.__module__,
        '__qualname__': cls.__qualname__, '__repr__': _repr, '__eq__': _eq, '__hash__': None,
        'code': code, 'routes': frozenset(routes), 'fields': fields, 'types': types,
        'is_answer': bool(code & ANSWER),
        **_sizes(types),
        '__init__': _compile('__init__(self, %s)' % ', '.join(fields),
                             ['self.%s = %s' % (field, field) for field in fields] or ['pass']),
        'values': _compile('values(self)', ['return (%s)' % ''.join(
            'self.%s, ' % field for field in fields)] if fields else ['return ()']),
        'check': staticmethod(_compile('check(frame)', _check(types))),
    }
    declared = type(cls.__name__, (), body)
    declared.from_frame = staticmethod(_from_frame(declared, types))
    if BY_CODE.setdefault(code, declared) is not declared:
        raise ValueError('%s and %s have the same code' % (declared, BY_CODE[code]))
    return declared


def _sizes(types):
    largest = HEADER + 2 * INTEGER + sum(t.largest for t in types)
    most = max([2 + len(types), *(t.most for t in types)])
    longest = -1 if most == inf else most
    plain = largest
    if announced(limits.MAX_FRAME, longest) > limits.UNPACK_SPARE:
        plain = 3 * int((limits.UNPACK_SPARE / 3 / POINTER) ** .5)
        assert announced(plain, -1) <= limits.UNPACK_SPARE
    return {'largest': largest, 'longest': longest, 'plain': min(plain, largest)}


def announced(size, longest):
    """Bytes of memory that msgpack may take for arrays of which only the beginnings are in a frame
    of that size: one within the other, each as long as it may be."""
    length = size if longest < 0 else min(size, longest)
    return POINTER * length * min(DEPTH, size // 3)


def _check(types):
    """Lines of a function that is true for `(code, request id, field, field…)` of these types."""
    lines = ['if len(frame) != %d: return False' % (2 + len(types))]
    lines += ['v%d = frame[%d]' % (i, i + 2) for i in range(len(types))]
    return lines + ['return %s' % (
        ' and '.join(t.check('v%d' % i) for i, t in enumerate(types)) or 'True')]


def _from_frame(cls, types):
    """A function that makes the packet of a frame that has been checked."""
    classes = set().union(*(t.classes for t in types))
    scope = {'_cls': cls, **scope_of(classes)}
    fields = ', '.join(t.convert('v%d' % i) for i, t in enumerate(types))
    names = ''.join(', v%d' % i for i in range(len(types)))
    return _compile('from_frame(frame)', ['_code, _id%s = frame' % names,
                                          'return _cls(%s)' % fields], scope)


def _compile(signature, lines, scope=None):
    scope = {} if scope is None else scope
    exec('def %s:\n    %s' % (signature, '\n    '.join(lines)), scope)
    return scope[signature.partition('(')[0]]


def _repr(self):
    return '%s(%s)' % (type(self).__name__, ', '.join(
        '%s=%s' % (field, _short(value)) for field, value in zip(self.fields, self.values())))


def _short(value):
    text = ''.join(_pieces(value, 80))
    return text if len(text) <= 80 else text[:60] + '…'


def _pieces(value, room):
    """Parts of what `repr` gives, until there is no room: it may be of a value of many MiB."""
    if isinstance(value, (bytes, str)) and len(value) > room:
        yield '%r…(%d)' % (value[:room // 2], len(value))
    elif isinstance(value, (tuple, list)):
        yield '('
        for place, item in enumerate(value):
            if room <= 0:
                yield '…(%d)' % len(value)
                return
            for piece in (', ' if place else '', *_pieces(item, room)):
                yield piece
                room -= len(piece)
        yield ')'
    else:
        yield repr(value)


def _eq(self, other):
    return type(self) is type(other) and self.values() == other.values()
