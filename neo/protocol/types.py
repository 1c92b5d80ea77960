"""Types of the fields of packets.

A type is its own check: `check(name)` gives a Python expression that is true when the value
called `name` may cross the border.  The codec compiles the expressions of a packet into one
function, so that each value is checked once, when it arrives, and never again.  Sequences arrive
as tuples.
"""
from enum import IntEnum

from . import limits

MAX_ID = (1 << 63) - 1          # oids, tids and ttids are below 2^63
ZERO = 0                        # the root object; and "before any transaction" as a tid


class Type:
    """A named check of one value; `expression` uses `{0}` for the value.

    `kind` and `detail` say the same to tools: 'int' and its maximum, 'bytes' or 'str' and the
    longest, 'Optional' or 'List' and the type of what is in it."""

    def __init__(self, name, expression, kind=None, detail=None):
        self.name = name
        self.expression = expression
        self.kind = kind
        self.detail = detail

    def check(self, value):
        return self.expression.format(value)

    def __repr__(self):
        return self.name


def _integer(name, maximum):
    return Type(name, '(type({0}) is int and 0 <= {0} <= %d)' % maximum, 'int', maximum)


def _sized(name, kind, maximum):
    return Type(name, '(type({0}) is %s and len({0}) <= %d)' % (kind, maximum),
                kind, maximum)


Oid = _integer('Oid', MAX_ID)
Tid = _integer('Tid', MAX_ID)
Ttid = _integer('Ttid', MAX_ID)
Count = _integer('Count', MAX_ID)
Term = _integer('Term', (1 << 20) - 1)
Session = _integer('Session', MAX_ID)
Bool = Type('Bool', '(type({0}) is bool)')
Time = Type('Time', '(type({0}) is float)')
Text = _sized('Text', 'str', limits.MAX_TEXT)
Name = Type('Name', '(type({0}) is str and 0 < len({0}) <= 255)')
NodeId = Type('NodeId', "(type({0}) is str and 1 < len({0}) <= 12 and {0}[0] in 'MSAC'"
                        " and {0}[1:].isdecimal())")
Uuid = Type('Uuid', '(type({0}) is bytes and len({0}) == 16)')
Checksum = Type('Checksum', '(type({0}) is bytes and len({0}) == 16)')
Data = _sized('Data', 'bytes', limits.MAX_OBJECT)
Metadata = _sized('Metadata', 'bytes', limits.MAX_METADATA)


def Optional(inner):
    return Type('Optional(%s)' % inner, '({0} is None or %s)' % inner.expression,
                'Optional', inner)


def List(inner):
    """A sequence of values of one type."""
    item = inner.expression.replace('{0}', '{0}_')
    # One comprehension per level; the level shows in the name, which grows with each.
    return Type('List(%s)' % inner, '(type({0}) is tuple and all([%s for {0}_ in {0}]))' % item,
                'List', inner)


class Tuple(Type):
    """A sequence of fixed length with a type for each place, written down as `name=Type`."""

    def __init__(self, **items):
        self.items = items
        super().__init__('(%s)' % ', '.join('%s %s' % item for item in items.items()), None)
        names = ['{0}_%d' % i for i in range(len(items))]
        parts = ' and '.join(t.expression.replace('{0}', n) for t, n in zip(items.values(), names))
        # A tuple is taken apart once, so that no check indexes it again.
        self.expression = ('(type({0}) is tuple and len({0}) == %d and all([%s for %s in ({0},)]))'
                           % (len(items), parts, ', '.join(names) + ','))


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


Address = Tuple(host=Name, port=_integer('Port', 65535))
NodeKindType = Enum(NodeKind)
NodeStateType = Enum(NodeState)
CellStateType = Enum(CellState)
ClusterStateType = Enum(ClusterState)
CompressionType = Enum(Compression)
ErrorCodeType = Enum(ErrorCode)

# The order of two tables: of a later primary, or later of the same one.
TableKey = Tuple(term=Term, ptid=Count)
Cell = Tuple(storage=NodeId, state=CellStateType)
Table = Tuple(term=Term, ptid=Count, replicas=_integer('Replicas', limits.MAX_REPLICAS),
              rows=List(List(Cell)))
# Which node has an id: it is known by its identity before it knows its id itself.
Member = Tuple(id=NodeId, identity=Uuid)
NodeInfo = Tuple(id=NodeId, kind=NodeKindType, address=Optional(Address), state=NodeStateType,
                 name=Text)

# A revision on its way to a storage.  `base` is the tid it was made from (0: a new object; None:
# whatever is there, for imports).  `tid` is imposed, or None for that of the transaction.
# Without data it is a deletion, or the same data as at `data_tid` (undo).
Record = Tuple(oid=Oid, base=Optional(Tid), tid=Optional(Tid), compression=CompressionType,
               checksum=Checksum, data=Optional(Data), data_tid=Optional(Tid))
# A revision as it is stored.
StoredRecord = Tuple(oid=Oid, tid=Tid, compression=CompressionType, checksum=Checksum,
                     data=Optional(Data), data_tid=Optional(Tid))
# Metadata of a transaction on its way to a storage; `tid` as in Record.  `status` is what ZODB
# calls it: ' ' or 'p'.  The extension is ZODB's raw bytes.
Transaction = Tuple(tid=Optional(Tid), status=Text, user=Metadata, description=Metadata,
                    extension=Metadata, oids=List(Oid))
StoredTransaction = Tuple(tid=Tid, ttid=Ttid, status=Text, user=Metadata, description=Metadata,
                          extension=Metadata, oids=List(Oid))
