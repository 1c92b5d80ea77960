"""What a storage remembers for life, as named values of its engine (docs/architecture.md, "Who may
serve")."""
from ..protocol.types import Table, TableKey
from .engine.interface import EngineError

FORMAT = 1                      # of the named values; a higher one was written by a later version


class State:
    """The named values as attributes; `put` changes them.  They are durable with the next commit.

    Nothing is written before a master has a claim to this database, so that one which was started
    with a wrong cluster name by mistake stays new.
    """

    NAMES = {
        'format': FORMAT,
        'cluster': None,        # name of the cluster
        'cluster_id': None,     # random, from the creation of the cluster
        'history': None,        # likewise, till it is truncated: a new one then
        'identity': None,       # of this storage, random, for life
        'id': None,             # node id
        'partitions': 0,
        'term': 0,              # the highest promised …
        'candidate': None,      # … to this master
        'table': None,          # the newest sent, packed
        'members': (),          # (node id, identity) of the storages, as sent with it
        'in_force': None,       # the newest that was told to be in force, packed
        'oid_mark': 0,          # no oid below may be given again
        'leftovers': (),        # rows of which it had a cell, and still has something
        'corrupted': (),        # rows that were to be thrown away by some table
        'claimed': (),          # rows that it has said to be filled, not heard to be readable
        'cells': (),            # what is being filled: ((tid up to which it is complete, rows)…)
    }

    def __init__(self, engine, cluster, identity):
        self._engine = engine
        for name, default in self.NAMES.items():
            value = engine.get(name)
            setattr(self, name, default if value is None else value)
        self.table = self.table and Table.of(self.table)
        self.in_force = self.in_force and Table.of(self.in_force)
        if self.format > FORMAT:
            raise EngineError('the database was written by a later version of NEO (format %d, this'
                              ' version knows %d)' % (self.format, FORMAT))
        if self.cluster not in (None, cluster):
            raise EngineError('the database belongs to cluster %s, not to %s'
                              % (self.cluster, cluster))
        self.is_new = self.cluster is None
        if self.is_new:
            self.cluster, self.identity = cluster, identity

    def put(self, **values):
        """Change values; those of a new database are written for the first time."""
        if self.is_new:
            self.is_new = False
            values = {'format': FORMAT, 'cluster': self.cluster, 'identity': self.identity,
                      **values}
        for name, value in values.items():
            assert name in self.NAMES
            self._engine.put(name, value)
            setattr(self, name, value)

    @property
    def is_member(self):
        """Does it belong to a cluster?  One of which no table was ever in force was not created."""
        return self.in_force is not None

    @property
    def table_key(self):
        """Key of the newest table, None before the first."""
        return self.table and TableKey(self.table.term, self.table.ptid)

    def next_oid(self):
        """No oid below this may be given again, whatever the mark says."""
        return max(self.oid_mark, self._engine.last_oid() + 1)
