"""Types of the fields of packets.

A type is its own check: `check(name)` gives a Python expression that is true when the value
called `name` may cross the border.  The codec compiles the expressions of a packet into one
function, so that each value is checked once, when it arrives, and never again.  Sequences arrive
as tuples.
"""
from collections import namedtuple
from enum import IntEnum
from math import inf

from . import limits

# Bytes on the wire, at most: what comes before a text, bytes or an array; an integer or a float; a
# character.
HEADER = 5
INTEGER = 9
UTF8 = 4

MAX_ID = (1 << 63) - 1          # oids, tids and ttids are below 2^63
ZERO = 0                        # the root object; and "before any transaction" as a tid
# The highest that anybody may use: above it there is room for what follows a last one, such as the
# next tid, a mark above an oid, or `tid + 1` as the end of a range.
MAX_OID = MAX_ID - (1 << 32)
MAX_TID = MAX_ID - (1 << 48)


class Type:
    """A named check of one value; `expression` uses `{0}` for the value.

    `kind` and `detail` say the same to tools: 'int' and its maximum, 'bytes' or 'str' and the
    longest, 'Optional' or 'List' and the type of what is in it, 'Struct' and its class.

    What crosses the border as nested arrays is made of named tuples once it has been checked:
    `conversion` is the Python expression for that (None: the value is as it should be), which may
    use the classes of `classes`.

    `largest` is how many bytes it takes at most on the wire, and `most` how many items its
    longest array has; infinite if nothing but the frame bounds them."""

    def __init__(self, name, expression, kind=None, detail=None, conversion=None, classes=(),
                 largest=INTEGER, most=0, each=None):
        self.name = name
        self.expression = expression
        self.kind = kind
        self.detail = detail
        self.conversion = conversion
        self.classes = frozenset(classes)
        self.largest = largest
        self.most = most
        self._each = each

    def each(self, values):
        """The same as `check`, for all items of a sequence."""
        each = self._each or 'all([%s for {0}_ in {0}])' % self.expression.replace('{0}', '{0}_')
        return each.format(values)

    def check(self, value):
        return self.expression.format(value)

    def convert(self, value):
        return value if self.conversion is None else self.conversion.format(value)

    def __repr__(self):
        return self.name


def type_of(declared):
    """The Type of an annotation: itself, or that of a class made by `Struct`."""
    return getattr(declared, 'TYPE', declared)


def _integer(name, maximum):
    return Type(name, '(type({0}) is int and 0 <= {0} <= %d)' % maximum, 'int', maximum)


def _sized(name, kind, maximum):
    largest = HEADER + maximum * (UTF8 if kind == 'str' else 1)
    return Type(name, '(type({0}) is %s and len({0}) <= %d)' % (kind, maximum),
                kind, maximum, largest=largest)


Oid = _integer('Oid', MAX_ID)
Tid = _integer('Tid', MAX_ID)
Ttid = _integer('Ttid', MAX_ID)
Count = _integer('Count', MAX_ID)
MAX_TERM = (1 << 20) - 1        # the upper bits of a ttid
Term = _integer('Term', MAX_TERM)
Session = _integer('Session', MAX_ID)
Bool = Type('Bool', '(type({0}) is bool)')
# A moment that tids can be made of, and that can be written as a date: until the year 4147.
MAX_TIME = 1 << 36
Time = Type('Time', '(type({0}) is float and 0 <= {0} <= %d)' % MAX_TIME)
Text = _sized('Text', 'str', limits.MAX_TEXT)
Label = _sized('Label', 'str', limits.MAX_NAME)
Machine = _sized('Machine', 'str', limits.MAX_MACHINE)
Name = Type('Name', '(type({0}) is str and 0 < len({0}) <= %d)' % limits.MAX_NAME,
            largest=Label.largest)
NodeId = Type('NodeId', "(type({0}) is str and 1 < len({0}) <= 12 and {0}[0] in 'MSAC'"
                        " and {0}[1:].isdecimal())", largest=HEADER + 12 * UTF8)
Uuid = Type('Uuid', '(type({0}) is bytes and len({0}) == 16)', largest=HEADER + 16)
Checksum = Type('Checksum', '(type({0}) is bytes and len({0}) == 16)', largest=HEADER + 16)
Data = _sized('Data', 'bytes', limits.MAX_OBJECT)
Bytes = _sized('Bytes', 'bytes', limits.MAX_METADATA)



def as_reason(text):
    """As much of it as may be told to everybody."""
    packed = text.encode(errors='replace')
    if len(packed) <= limits.MAX_REASON:
        return text
    return packed[:limits.MAX_REASON - 3].decode(errors='ignore') + '…'


def Optional(inner):
    inner = type_of(inner)
    return Type('Optional(%s)' % inner, '({0} is None or %s)' % inner.expression,
                'Optional', inner,
                inner.conversion and '(None if {0} is None else %s)' % inner.conversion,
                inner.classes, inner.largest, inner.most)


def List(inner, limit=None):
    """A sequence of values of one type, and of `limit` of them at most (None: of what fits in a
    frame)."""
    # One comprehension per level; the level shows in the name, which grows with each.
    inner = type_of(inner)
    conversion = inner.conversion and '_tuple([%s for {0}_ in {0}])' % (
        inner.conversion.replace('{0}', '{0}_'))
    bound = '' if limit is None else 'and len({0}) <= %d ' % limit
    most = inf if limit is None else limit
    return Type('List(%s)' % inner,
                '(type({0}) is tuple %sand %s)' % (bound, inner.each('{0}')),
                'List', inner, conversion, inner.classes,
                HEADER + most * inner.largest, max(most, inner.most))


def scope_of(classes):
    """The names that a `conversion` uses."""
    return {'_new': tuple.__new__, '_tuple': tuple, **{cls.__name__: cls for cls in classes}}


def Struct(name, doc='', /, **fields):
    """A class of named tuples, which cross the border as arrays with a type for each place.  `of`
    makes one of nested tuples that were one before."""
    cls = namedtuple(name, fields)
    cls.__doc__ = doc
    types = [type_of(field) for field in fields.values()]
    names = ['{0}_%d' % i for i in range(len(fields))]
    parts = ' and '.join(t.expression.replace('{0}', n) for t, n in zip(types, names))
    # A tuple is taken apart once, so that no check indexes it again; and many of them in one go.
    shape = 'type({0}) is tuple and len({0}) == %d' % len(fields)
    apart = 'all([%s for %s, in %%s])' % (parts, ', '.join(names))
    expression = '(%s and %s)' % (shape, apart % '({0},)')
    each = 'all([%s for {0}_ in {0}]) and %s' % (shape.replace('{0}', '{0}_'), apart % '{0}')
    conversion = '_new(%s, {0})' % name
    if any(t.conversion for t in types):
        converted = ', '.join((t.conversion or '{0}').replace('{0}', n)
                              for t, n in zip(types, names))
        conversion = '[_new(%s, (%s,)) for %s in ({0},)][0]' % (name, converted, ', '.join(names))
    cls.TYPE = Type(name, expression, 'Struct', cls, conversion,
                    {cls}.union(*(t.classes for t in types)),
                    HEADER + sum(t.largest for t in types),
                    max(len(types), *(t.most for t in types)), each)
    cls.FIELDS = dict(zip(fields, types))
    scope = scope_of(cls.TYPE.classes)
    cls.of = staticmethod(eval('lambda value: ' + cls.TYPE.convert('value'), scope))
    return cls


def Enum(cls):
    return _integer(cls.__name__, max(cls))


class NodeKind(IntEnum):
    MASTER, STORAGE, ADMIN, CLIENT, CTL = range(5)


class NodeState(IntEnum):
    """PENDING: running and not in the table yet; UNKNOWN: known by the table, never seen."""
    RUNNING, DOWN, PENDING, UNKNOWN = range(4)


class CellState(IntEnum):
    UP_TO_DATE, OUT_OF_DATE, FEEDING, CORRUPTED = range(4)


class ClusterState(IntEnum):
    RECOVERING, VERIFYING, RUNNING, STOPPING, STARTING_BACKUP, BACKINGUP, STOPPING_BACKUP = range(7)


class Compression(IntEnum):
    NONE, ZLIB, ZSTD = range(3)


class ErrorCode(IntEnum):
    """Why a request was refused; the client maps these to exceptions."""
    PROTOCOL = 0        # what was sent makes no sense; the connection is closed
    NOT_READY = 1       # try again a little later, or elsewhere
    REFUSED = 2         # will not be done; the message says why
    NO_OBJECT = 3       # no such object
    NO_REVISION = 4     # the object exists, and has no revision that was asked for
    NOT_HERE = 5        # this storage has no readable cell for it
    UNKNOWN_TTID = 6    # the transaction is not, or no longer, known here
    RETRY = 7           # the transaction can't be committed as it was routed; begin it again
    BROKEN_DATA = 8     # stored data do not match their checksum
    FULL = 9            # below the reserve of free space
    READ_ONLY = 10
    ANOTHER_CLUSTER = 11
    VERSION = 12        # no protocol version in common


Address = Struct('Address', host=Name, port=_integer('Port', 65535))
NodeKindType = Enum(NodeKind)
NodeStateType = Enum(NodeState)
CellStateType = Enum(CellState)
ClusterStateType = Enum(ClusterState)
CompressionType = Enum(Compression)
ErrorCodeType = Enum(ErrorCode)

# -- nodes and the partition table ------------------------------------------------------------
TableKey = Struct('TableKey', """The order of two tables: of a later primary, or later of the same
one.""", term=Term, ptid=Count)
Cell = Struct('Cell', storage=NodeId, state=CellStateType)
Cut = Struct('Cut', """A truncation or a forced start: the cluster goes from the history `former` to
`history`, which has nothing above `tid` of what was committed before, up to `last`.  A start was
forced with the storages and masters of the identities `kept`, and without all others.""",
             former=Uuid, history=Uuid, tid=Tid, last=Tid, kept=List(Uuid, limits.MAX_NODES))
Table = Struct('Table', """`masters` are those with a durable state: they vote, as storages with a
readable cell do.  `cuts` are those of its history, the last one last.""",
               term=Term, ptid=Count, replicas=_integer('Replicas', limits.MAX_REPLICAS),
               rows=List(List(Cell, limits.MAX_CELLS), limits.MAX_PARTITIONS),
               masters=List(NodeId, limits.MAX_MASTERS), cuts=List(Cut, limits.MAX_CUTS))
Rows = List(Count, limits.MAX_PARTITIONS)       # of a partition table
Member = Struct('Member', """Which storage or master has an id: it is known by its identity before
it knows its id itself.  By its last name and address, people know it while it is away.  Storages
that were not `added` have no part in the cluster yet.""",
                id=NodeId, identity=Uuid, name=Text, address=Optional(Address), added=Bool)
NodeInfo = Struct('NodeInfo', """`topology` is the machine of a storage that is there, `condition`
says in words what is wrong with the node, if anything is.""",
                  id=NodeId, kind=NodeKindType, address=Optional(Address),
                  state=NodeStateType, name=Label, topology=Machine, condition=Text)
Filling = Struct('Filling', """A storage that fills rows: bytes copied by now, and seconds that it
still takes (None: not known yet).""", storage=NodeId, bytes=Count, seconds=Optional(Count))

# -- objects and transactions -----------------------------------------------------------------
Record = Struct('Record', """A revision on its way to a storage.  `base` is the tid it was made from
(0: a new object; None: whatever is there, for imports).  `tid` is imposed, or None for that of the
transaction.  Without data it is a deletion, or the same data as at `data_tid` (undo).""",
                oid=Oid, base=Optional(Tid), tid=Optional(Tid), compression=CompressionType,
                checksum=Checksum, data=Optional(Data), data_tid=Optional(Tid))
StoredRecord = Struct('StoredRecord', """A revision as it is stored.""",
                      oid=Oid, tid=Tid, compression=CompressionType, checksum=Checksum,
                      data=Optional(Data), data_tid=Optional(Tid))
Metadata = Struct('Metadata', """What describes a transaction, on its way to a storage; `tid` as in
Record.  `status` is what ZODB calls it: ' ' or 'p'.  The extension is ZODB's raw bytes.  `oids` are
those it wrote, in the order of their stores.""",
                  tid=Optional(Tid), status=Text, user=Bytes, description=Bytes, extension=Bytes,
                  oids=List(Oid))
StoredMetadata = Struct('StoredMetadata', """The same as it is stored.""",
                        tid=Tid, ttid=Ttid, status=Text, user=Bytes, description=Bytes,
                        extension=Bytes, oids=List(Oid))
ObjectSerial = Struct('ObjectSerial', """An object, and the tid of its revision that is meant.""",
                      oid=Oid, serial=Tid)
Revision = Struct('Revision', """One entry of the history of an object; `size` in bytes as
stored.""", tid=Tid, size=Count)
RecordPosition = Struct('RecordPosition', """Where an iteration goes on: after this oid within this
tid, or with its first record.""", tid=Tid, after_oid=Optional(Oid))

RecordPosition.place = property(
    lambda self: (self.tid, -1 if self.after_oid is None else self.after_oid),
    doc='The highest (tid, oid) that is not behind it, for comparisons.')
CheckedRow = Struct('CheckedRow', """Copies to be compared: of a row (None: of all), and the storage
whose copy is right (None: most of them are).""", row=Optional(Count), reference=Optional(NodeId))

# -- commits and recovery ---------------------------------------------------------------------
Ballot = Struct('Ballot', """A storage that voted, and the session of it in which it did.""",
                storage=NodeId, session=Session)
Imported = Struct('Imported', """One transaction of an import: its imposed tid, and what it
wrote.""", tid=Tid, oids=List(Oid))
Unfinished = Struct('Unfinished', """A transaction that a storage has voted (without a tid), or
locked and not unlocked: `first` to `tid` are its tids, several for an import, `rows` the rows of
the table in which it wrote objects or metadata, in any storage.""",
                    ttid=Ttid, first=Optional(Tid), tid=Optional(Tid), rows=Rows)
Span = Struct('Span', """Where the records of a transaction are, if they are there: `first` to `tid`
are its tids, both included.""", ttid=Ttid, first=Tid, tid=Tid)
RowTid = Struct('RowTid', """A row of the table, and the highest tid that is known to have been told
to somebody of those that wrote in it.""", row=Count, tid=Tid)
Copies = Struct('Copies', """What a storage has.  A row that it can read by the table in force there
has everything up to `complete`, one that is being filled up to its tid in `filled`.  Of the rows it
`lacks` it has no more than that, whatever it was told of them.""",
                complete=Tid, filled=List(RowTid, limits.MAX_PARTITIONS),
                lacks=List(Count, limits.MAX_PARTITIONS))
