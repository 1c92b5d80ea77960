"""How packets are written in a trace: by their types, and short."""
from enum import IntEnum

from neo.protocol import types
from neo.protocol.types import CellState, NodeKind, NodeState

# Nothing that a reader of a conversation misses.
UNTOLD = {'clock', 'identity', 'candidate', 'cluster', 'cluster_id', 'history', 'compression',
          'checksum', 'name', 'address', 'condition', 'status', 'user', 'description', 'extension',
          'members', 'kind', 'session', 'partitions', 'replicas', 'topology', 'digest'}
CELLS = {CellState.UP_TO_DATE: '', CellState.OUT_OF_DATE: ' out of date',
         CellState.FEEDING: ' feeding', CellState.CORRUPTED: ' corrupted'}
ENUMS = {cls.__name__: cls for cls in vars(types).values()
         if isinstance(cls, type) and issubclass(cls, IntEnum)}
LARGE = 1 << 40                 # tids and ttids of real times and terms are above


class Names:
    """Tids and ttids are given names: those of a script, or `t1`, `t2`… as they come.  The tid of
    transaction `a` is `A`."""

    def __init__(self):
        self._names = {}
        self._others = 0

    def name(self, number, name):
        self._names[number] = name

    def has_tid(self, ttid, tid):
        self._names.setdefault(tid, self(ttid).upper())

    def __call__(self, number):
        if number < LARGE:
            return str(number)
        if number >= types.MAX_TID:
            return 'end'
        if number not in self._names:
            # Most often it is the one after a known one, as the end of a range.
            if number - 1 in self._names:
                return self._names[number - 1] + '+1'
            self._others += 1
            self._names[number] = 't%d' % self._others
        return self._names[number]

    def number(self, name):
        for number, known in self._names.items():
            if known == name:
                return number
        return int(name)


class Words:

    def __init__(self, names):
        self.names = names

    def packet(self, packet):
        fields = [self._field(name, declared, value) for name, declared, value in zip(
            packet.fields, packet.types, packet.values())]
        return ' '.join([type(packet).__name__, *filter(None, fields)])

    def _field(self, name, declared, value):
        if name in UNTOLD or value is None or value in ('', ()):
            return ''
        return '%s=%s' % (name, self.value(declared, value))

    def value(self, declared, value):
        """`declared` is its neo.protocol.types.Type."""
        if value is None:
            return 'none'
        if declared.kind == 'Optional':
            return self.value(declared.detail, value)
        if declared.kind == 'List':
            return '[%s]' % ', '.join(self.value(declared.detail, item) for item in value)
        if declared.kind == 'Struct':
            return self._struct(declared.detail, value)
        if declared.name in ('Tid', 'Ttid'):
            return self.names(value)
        if declared.name in ENUMS:
            return ENUMS[declared.name](value).name
        if isinstance(value, bytes):
            return self.data(value)
        return repr(value) if isinstance(value, str) and ' ' in value else str(value)

    def data(self, data):
        return repr(data.decode()) if len(data) <= 20 else '<%d bytes>' % len(data)

    def _struct(self, cls, value):
        special = getattr(self, '_' + cls.__name__.lower(), None)
        if special is not None:
            return special(value)
        fields = [self._field(name, declared, item)
                  for (name, declared), item in zip(cls.FIELDS.items(), value)]
        return '(%s)' % ' '.join(filter(None, fields))

    def _tablekey(self, key):
        return '%d.%d' % key

    def _table(self, table):
        """Term and number, and the cells of each row."""
        return '%d.%d<%s>' % (table.term, table.ptid, ' | '.join(
            ' '.join(cell.storage + CELLS[cell.state] for cell in row) for row in table.rows))

    def _nodeinfo(self, info):
        if info.kind == NodeKind.CLIENT and info.state == NodeState.RUNNING:
            return info.id
        return '%s %s' % (info.id, NodeState(info.state).name)

    def _ballot(self, ballot):
        return ballot.storage

    def _objectserial(self, pair):
        return '%d of %s' % (pair.oid, self.names(pair.serial))

    def _revision(self, revision):
        return self.names(revision.tid)

    def _record(self, record):
        made_from = '' if record.base is None else ' from ' + self.names(record.base)
        at = '' if record.tid is None else ' at ' + self.names(record.tid)
        data = 'deleted' if record.data is None else self.data(record.data)
        return '%d: %s%s%s' % (record.oid, data, made_from, at)

    def _metadata(self, metadata):
        at = '' if metadata.tid is None else ' at ' + self.names(metadata.tid)
        return 'wrote %s%s' % (', '.join(map(str, metadata.oids)), at)

    def _rowtid(self, told):
        return '%d: %s' % (told.row, self.names(told.tid))

    def _span(self, span):
        return '%s as %s' % (self.names(span.ttid), self.names(span.tid))

    def _unfinished(self, unfinished):
        if unfinished.tid is None:
            return '%s voted' % self.names(unfinished.ttid)
        return '%s locked as %s' % (self.names(unfinished.ttid), self.names(unfinished.tid))
