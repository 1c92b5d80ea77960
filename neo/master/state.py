"""What a master remembers: for life if it has a state file, else as long as its process runs
(docs/decisions/masters.md)."""
from ..protocol.packets import WriteTable
from ..protocol.types import Member, Table, TableKey

FORMAT = 1                      # a higher one was written by a later version


class StateError(Exception):
    """The state can't be used by this master; the message says why."""


class State:
    """Named values as attributes; `put` changes them, and `commit` makes them durable in `store`,
    which has `load()`, a dictionary or None, and `save(dictionary)`.  Without a store nothing is
    durable, and this master has no vote.

    Raises StateError.
    """

    NAMES = {
        'format': FORMAT,
        'cluster': None,        # its name
        'cluster_id': None,     # random, from the creation of the cluster
        'history': None,        # likewise, before all cuts of the table
        'identity': None,       # of this master, random, for life
        'term': 0,              # the highest promised …
        'candidate': None,      # … to this master
        'table': None,          # the newest sent, packed
        'members': (),          # whose the ids in it are
        'in_force': None,       # the newest that was told to be in force, packed
    }

    def __init__(self, store, cluster, identity):
        self._store = store
        self._changed = False
        values = self.NAMES | {'cluster': cluster, 'identity': identity}
        found = store.load() if store is not None else None
        if found is not None:
            self._check(found, cluster)
            values.update(found)
        for name, value in values.items():
            setattr(self, name, value)
        self.table = self.table and Table.of(self.table)
        self.in_force = self.in_force and Table.of(self.in_force)
        self.members = tuple(Member.of(member) for member in self.members)

    def _check(self, found, cluster):
        if found.get('format', 0) > FORMAT:
            raise StateError('the state was written by a later version of NEO (format %d, this'
                             ' version knows %d)' % (found['format'], FORMAT))
        if set(found) != set(self.NAMES):
            raise StateError('this is no state of a master')
        if found['cluster'] != cluster:
            raise StateError('the state belongs to cluster %s, not to %s' % (
                found['cluster'], cluster))

    @property
    def is_durable(self):
        return self._store is not None

    @property
    def is_member(self):
        """Does it belong to a cluster?  One of which no table was ever in force was not created."""
        return self.in_force is not None

    def put(self, **values):
        for name, value in values.items():
            assert name in self.NAMES
            setattr(self, name, value)
        self._changed = True

    def commit(self):
        if self._changed and self._store is not None:
            self._store.save({name: getattr(self, name) for name in self.NAMES})
        self._changed = False

    def takes(self, packet):
        """Is this WriteTable of the same cluster as the one it knows, and not of the past?"""
        assert type(packet) is WriteTable
        key = TableKey(packet.table.term, packet.table.ptid)
        return self.table is None or not self.is_member or (
            self.cluster_id == packet.cluster_id and
            TableKey(self.table.term, self.table.ptid) <= key)
