"""One transaction, as far as one storage takes part in it: plain state."""
from enum import IntEnum


class State(IntEnum):
    """OPEN: stores may come.  VOTING: it is voted as soon as all is granted and no conflict is
    left.  VOTED: it can be locked; nothing of that is on the disk.  LOCKING: it has its tid, and
    what it wrote is put into the history, in slices.  LOCKED: it is in the history, and others may
    not know of it yet."""
    OPEN, VOTING, VOTED, LOCKING, LOCKED, ENDED = range(6)


OPEN, VOTING, VOTED, LOCKING, LOCKED, ENDED = State
MAY_BECOME = (
    (VOTING, ENDED),
    (VOTED, ENDED),
    (OPEN, LOCKING, ENDED),             # OPEN: it gave way
    (VOTED, LOCKED, ENDED),             # VOTED: the primary is lost
    (ENDED,),
    (),
)


NONE = frozenset()


class Transaction:

    __slots__ = ('ttid', 'client', 'group', 'state', 'round', 'writes', 'checks', 'records', 'size',
                 'waiting', 'conflicts', 'trouble', 'vote', 'metadata', 'imposed', 'in_engine',
                 'first', 'tid', 'rows', 'asked', 'heard', 'blocks_since', 'questioned', 'blind')

    def __init__(self, ttid, client):
        self.ttid = ttid
        self.client = client
        self.group = None       # id of the client if this is an import: see locks.py
        self.state = OPEN
        self.round = 0          # how often it has given way
        self.writes = {}        # oid -> base, in order
        self.checks = {}        # oid -> serial, in order
        self.records = {}       # oid or (oid, imposed tid) -> Record: those not in the engine
        self.size = 0           # of `records`, in bytes
        self.waiting = set()    # oids whose lock another transaction has
        self.conflicts = set()  # oids whose current tid is not what was expected
        self.trouble = None     # BrokenData: why it can't be voted any more
        self.vote = None        # request id of a vote that is not answered yet
        self.metadata = ()      # of the vote: Metadata
        self.imposed = set()    # tids chosen by the client; either all are or none is
        self.in_engine = False  # has the engine been given any of its records?
        self.first = self.tid = None    # its lowest and highest tid, from the lock on
        self.rows = ()          # rows it wrote anywhere, from the lock on
        self.asked = -1         # the round in which it was last asked to give way
        self.heard = 0.0        # when its client last said anything about it
        self.blocks_since = None    # when it was first seen to block others
        self.questioned = False     # its client was asked what it waits for
        self.blind = NONE           # rows in which its locks were not compared with anything

    def __repr__(self):
        return 'Transaction(%#x, %s)' % (self.ttid, self.state.name.lower())

    def become(self, state):
        assert state in MAY_BECOME[self.state], '%r becomes %s' % (self, state.name)
        self.state = state

    def oids(self):
        """All it has or wants a lock of."""
        if not self.checks:
            return self.writes
        return [*self.writes, *(oid for oid in self.checks if oid not in self.writes)]

    def group_of(self, oid):
        """Imports of one client replace whatever is there, in their order: they need not exclude
        each other.  What was made from a certain revision does exclude them."""
        return self.group if self.writes.get(oid, 0) is None else None

    def impose(self, tids):
        """These tids are chosen by the client, which imports them."""
        self.group = self.client.id
        self.imposed.update(tids)

    def fits(self, first, tid):
        """Are all tids that are imposed here among those of the transaction?"""
        return not self.imposed or first <= min(self.imposed) and max(self.imposed) <= tid

    def be_locked_as(self, first, tid, rows):
        self.first, self.tid, self.rows = first, tid, rows
