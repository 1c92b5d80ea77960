"""Transactions on their way at one storage: stores, votes, locks (docs/architecture.md, "Life of a
transaction").

Plain state above the engine: no peers, no clock.  What has to be told to clients is collected in
`conflicts`, `votes` and `in_the_way`, which the caller sends and empties.
"""
from ..protocol.limits import AMOUNTS
from .current import CurrentTids
from .locks import Locks

RECORD_OVERHEAD = 100           # bytes, roughly: what a record takes beside its data


class Transaction:
    """One transaction, as far as this storage takes part in it."""

    __slots__ = ('ttid', 'client', 'group', 'round', 'writes', 'checks', 'records', 'size',
                 'waiting', 'conflicts', 'vote', 'metadata', 'alone', 'voted', 'in_engine', 'tid',
                 'first_tid', 'asked', 'heard', 'blocks_since')

    def __init__(self, ttid, client):
        self.ttid = ttid
        self.client = client
        self.group = None       # id of the client if this is an import: see locks.py
        self.round = 0          # how often it has given way
        self.writes = {}        # oid -> base, in order
        self.checks = {}        # oid -> serial, in order
        self.records = {}       # oid or (oid, imposed tid) -> Record: those not in the engine
        self.size = 0           # of `records`, in bytes
        self.waiting = set()    # oids whose lock another transaction has
        self.conflicts = set()  # oids whose current tid is not what was expected
        self.vote = None        # request id of a vote that takes effect later
        self.metadata = ()      # of the vote: Transactions of the protocol
        self.alone = False      # the same: does no other storage take part?
        self.voted = False
        self.in_engine = False  # has anything of it been given to the engine?
        self.tid = None         # once it is locked
        self.first_tid = None   # the lowest imposed one; once it is locked, the lowest of all
        self.asked = -1         # the round in which it was last asked to give way
        self.heard = 0.0        # when its client last said anything about it
        self.blocks_since = None    # when it was first seen to block others

    def oids(self):
        """All it has or wants a lock of."""
        if not self.checks:
            return self.writes
        return [*self.writes, *(oid for oid in self.checks if oid not in self.writes)]

    def impose(self, tid):
        """One of its tids is chosen by the client, which imports it."""
        self.group = self.client.id
        self.first_tid = tid if self.first_tid is None else min(self.first_tid, tid)


class Transactions:

    def __init__(self, engine, amounts=AMOUNTS):
        self.engine = engine
        self.amounts = amounts
        self.conflicts = {}         # Transaction -> [(oid, current tid)]
        self.votes = []             # (Transaction, request id) to be answered
        self.in_the_way = []        # Transactions that have to give way
        self.reset()

    def reset(self):
        """Drop all that was not voted, at a start or for a new primary.  What was voted or locked
        is left in the engine, and is ended by `settle`."""
        for txn in getattr(self, 'by_ttid', {}).values():
            if txn.in_engine and txn.tid is None and (txn.alone or not txn.voted):
                self.engine.forget(txn.ttid)
        self.engine.drop_unvoted()
        self.by_ttid = {}
        self.in_memory = 0          # bytes of records that are not in the engine
        self.locks = Locks()
        self.current = CurrentTids(self.engine, self.amounts.current_tids)
        self.locked = {}            # ttid -> lowest tid: others may not know of them yet
        self.settled = set()        # those among them that a former primary had left

    # -- stores ---------------------------------------------------------------------------
    def begin(self, ttid, client):
        txn = self.by_ttid[ttid] = client.transactions[ttid] = Transaction(ttid, client)
        return txn

    def store(self, txn, records, checks):
        """Ask for the locks; what is granted at once is compared with the current tids.  Returns
        whether the engine was given something."""
        before = txn.size
        for record in records:
            oid, base, imposed, _, _, data, _ = record
            if imposed is not None:
                txn.impose(imposed)
            txn.records[oid if imposed is None else (oid, imposed)] = record
            txn.size += RECORD_OVERHEAD + (len(data) if data else 0)
            txn.writes[oid] = base
            self._take(txn, oid, False)
        self.in_memory += txn.size - before
        for oid, serial in checks:
            txn.checks[oid] = serial
            self._take(txn, oid, True)
        pended = txn.size > self.amounts.pending_in_memory
        if pended:
            self._pend(txn)
        # What was stored may have resolved the conflicts that a vote waits for.
        self._end_vote(txn)
        return pended

    def _pend(self, txn):
        self.engine.pend(txn.ttid, list(txn.records.values()))
        self._left_memory(txn)
        txn.in_engine = True

    def _left_memory(self, txn):
        self.in_memory -= txn.size
        txn.records.clear()
        txn.size = 0

    def _take(self, txn, oid, shared):
        if self.locks.take(oid, txn, shared):
            self._compare(txn, oid)
        else:
            txn.waiting.add(oid)
            txn.conflicts.discard(oid)
            for other in self.locks.in_the_way(oid, txn):
                # One that is locked waits for nobody.
                if other.asked != other.round and other.tid is None:
                    other.asked = other.round
                    self.in_the_way.append(other)

    def _compare(self, txn, oid):
        """It has the lock: is the current revision the expected one?"""
        base = txn.writes.get(oid)
        serial = txn.checks.get(oid)
        if base is not None or serial is not None:
            current = self.current[oid]
            if base not in (None, current) or serial not in (None, current):
                txn.conflicts.add(oid)
                self.conflicts.setdefault(txn, []).append((oid, current))
                return
        txn.conflicts.discard(oid)

    # -- votes ----------------------------------------------------------------------------
    def vote(self, txn, request_id, metadata, alone):
        """To be answered once all is granted."""
        txn.vote, txn.metadata, txn.alone = request_id, metadata, alone
        for transaction in metadata:
            if transaction[0] is not None:
                txn.impose(transaction[0])
        self._end_vote(txn)

    def _end_vote(self, txn):
        if txn.vote is None or txn.waiting or txn.conflicts:
            return
        if not txn.alone:
            # With nobody else to take part, the lock decides, and one commit does for both.
            self._vote_in_engine(txn)
        txn.voted = True
        self.votes.append((txn, txn.vote))
        txn.vote = None

    def _vote_in_engine(self, txn):
        if txn.records:
            self._pend(txn)
        self.engine.vote(txn.ttid, txn.metadata)
        txn.in_engine = True

    def give_way(self, txn, round):
        """All that was granted is asked for anew.  A vote in the engine is left there: until it is
        voted again nobody can finish it, and that vote replaces it."""
        txn.round = round
        txn.voted = False
        txn.waiting.clear()
        txn.conflicts.clear()
        self.conflicts.pop(txn, None)
        self._release(txn)
        for oid in txn.writes:
            self._take(txn, oid, False)
        for oid in txn.checks:
            self._take(txn, oid, True)
        self._end_vote(txn)

    # -- ends -----------------------------------------------------------------------------
    def forget(self, txn):
        """Drop one that is not locked.  Returns whether the engine was told."""
        assert txn.tid is None
        if txn.in_engine:
            self.engine.forget(txn.ttid)
        self._end(txn)
        return txn.in_engine

    def lock(self, txn, tid):
        """Put it into the history."""
        engine, ttid = self.engine, txn.ttid
        if txn.in_engine:
            if txn.alone:
                self._vote_in_engine(txn)
            engine.lock_voted(ttid, tid)
            if txn.alone:
                engine.unlock(ttid)
        else:
            engine.add(ttid, tid, txn.metadata, list(txn.records.values()))
        self.current.changed(txn.writes, tid if txn.group is None else None)
        txn.tid = tid
        if txn.first_tid is None:
            txn.first_tid = tid
        self._left_memory(txn)
        self.locked[ttid] = txn.first_tid

    def unlock(self, txn):
        """Everybody knows it."""
        if not txn.alone:
            self.engine.unlock(txn.ttid)
        del self.locked[txn.ttid]
        self._end(txn)

    def _end(self, txn):
        del self.by_ttid[txn.ttid]
        self._left_memory(txn)
        txn.client.transactions.pop(txn.ttid, None)
        self.conflicts.pop(txn, None)
        self._release(txn)

    def _release(self, txn):
        release = self.locks.release
        granted = []
        for oid in txn.oids():
            for other in release(oid, txn):
                other.waiting.discard(oid)
                self._compare(other, oid)
                granted.append(other)
        for other in granted:
            self._end_vote(other)

    # -- verification -----------------------------------------------------------------------
    def settle(self, tids):
        """End what a former primary left: lock these {ttid: tid}, forget the other voted ones."""
        for ttid, tid in self.engine.unfinished():
            if ttid not in tids:
                assert tid is None, 'locked, and given up by the primary'
                self.engine.forget(ttid)
                continue
            if tid is None:
                self.engine.lock_voted(ttid, tids[ttid])
            assert tid in (None, tids[ttid]), 'locked with another tid'
            # Which objects are in it is not known here: it is in the way of every read.
            self.locked[ttid] = 0
            self.settled.add(ttid)
        self.current = CurrentTids(self.engine, self.amounts.current_tids)

    def unlock_settled(self, ttid):
        """Returns whether there was one."""
        if ttid not in self.settled:
            return False
        self.settled.remove(ttid)
        del self.locked[ttid]
        self.engine.unlock(ttid)
        return True

    # -- what is in the way of reads ----------------------------------------------------------
    def locked_object(self, oid, before):
        """The ttid of a transaction of which it is not known yet whether a read of `oid` below
        `before` has to show it, or None."""
        if self.locks.held:
            for txn in self.locks.writers(oid):
                if txn.tid is not None and txn.first_tid < before and oid in txn.writes:
                    return txn.ttid
        return min(self.settled, default=None) if self.settled else None

    def locked_below(self, stop):
        """The ttid of one with any tid below `stop`, or None."""
        for ttid, tid in self.locked.items():
            if tid < stop:
                return ttid
        return None
