"""Transactions on their way at one storage: stores, votes, locks (docs/architecture.md, "Life of a
transaction").

Plain state above the engine: no peers, no clock.  What has to be told to clients is collected in
`conflicts`, `votes` and `in_the_way`, which the caller sends and empties.
"""
from ..protocol.limits import AMOUNTS
from ..protocol.types import Unfinished
from .current import CurrentTids
from .engine.interface import BrokenData
from .locks import Locks
from .transaction import ENDED, LOCKED, LOCKING, OPEN, VOTED, VOTING, Transaction

NONE = -1                       # a serial that is never current
RECORD_OVERHEAD = 100           # bytes, roughly: what a record takes beside its data


class Transactions:

    def __init__(self, engine, amounts=AMOUNTS):
        self.engine = engine
        self.amounts = amounts
        # Voted for a primary that is lost: ttid -> Transaction.  They are not in `by_ttid`, and
        # `settle` ends them.
        self.kept = {}
        self.blind = None           # (partitions, rows that are being filled), or None
        self._clear()

    def _clear(self):
        self.conflicts = {}         # Transaction -> [(oid, current tid)]
        self.votes = []             # (Transaction, request id) to be answered
        self.in_the_way = []        # Transactions that have to give way
        self.by_ttid = {}
        self.locks = Locks()
        self.locked = {}            # ttid -> lowest tid: others may not know of them yet
        self.settled = set()        # those among them that a former primary had left
        self.refresh()

    def refresh(self):
        """The history has changed in other ways than by the locks of transactions."""
        self.current = CurrentTids(self.engine, self.amounts.current_tids)
        self.last_tid = self.engine.last_tid()

    def reset(self):
        """The primary is lost: keep what was voted, drop the rest.  What was locked is in the
        engine."""
        for txn in self.by_ttid.values():
            if txn.state is LOCKING:
                # The engine has shown nothing of it; it may go on when it is settled.
                txn.become(VOTED)
            if txn.state is VOTED:
                self.kept[txn.ttid] = txn
            elif txn.state is not LOCKED:
                self.engine.forget(txn.ttid)
        for txn in self.kept.values():
            if txn.state is LOCKING:
                txn.become(VOTED)         # it was about to be settled
        self._clear()

    # -- what a former primary has left -------------------------------------------------------
    def unfinished(self):
        """`Unfinished`s, by ttid."""
        return sorted([Unfinished(*locked) for locked in self.engine.locked()]
                      + [Unfinished(ttid, None, None, ()) for ttid in self.kept])

    def next_oid(self):
        """No oid below this may be given again if what was voted is settled."""
        return 1 + max([max(txn.writes) for txn in self.kept.values() if txn.writes], default=-1)

    def settle(self, keep, partitions):
        """Drop all of it but these `Unfinished`s.  Returns those that are only voted here: each of
        them is locked by `prepare` and `lock_kept`, and then `settled` ends it."""
        keep = {kept.ttid: kept for kept in keep}
        for ttid, *_ in self.engine.locked():
            if ttid not in keep:
                self.engine.drop(ttid)
        told = dict(self.engine.told())
        for ttid, txn in list(self.kept.items()):
            # What was told here is in the history: its ttid was used again.
            if ttid not in keep or any(told.get(row, 0) >= keep[ttid].tid
                                       for row in keep[ttid].rows):
                self.engine.forget(ttid)
                del self.kept[ttid]
        for txn in self.kept.values():
            _, first, tid, rows = keep[txn.ttid]
            if not (txn.fits(first, tid)
                    and {oid % partitions for oid in txn.writes}.issubset(rows)):
                self._empty(txn)
            txn.become(LOCKING)
            txn.be_locked_as(first, tid, rows)
        return list(self.kept.values())

    def _empty(self, txn):
        """What its client has stored here is not what it has told the primary: nothing of it is
        kept.  It is locked all the same, so that these rows do not lack what others know was
        told."""
        self.engine.forget(txn.ttid)
        txn.in_engine = False
        txn.records.clear()
        txn.metadata = ()

    def lock_kept(self, txn):
        self._lock(txn)
        del self.kept[txn.ttid]

    def are_settled(self):
        """What is locked now is unlocked by the primary.  Which objects are in it is not known
        here: it is in the way of every read."""
        self.settled = {ttid for ttid, *_ in self.engine.locked()}
        self.locked = dict.fromkeys(self.settled, 0)
        self.refresh()

    def drop_kept(self):
        """The cluster runs without having settled what was voted here."""
        for ttid in self.kept:
            self.engine.forget(ttid)
        self.kept.clear()

    def unlock_settled(self, ttid):
        """Returns whether there was one."""
        if ttid not in self.settled:
            return False
        self.settled.remove(ttid)
        del self.locked[ttid]
        self.engine.unlock(ttid)
        return True

    # -- stores ---------------------------------------------------------------------------
    def begin(self, ttid, client):
        txn = self.by_ttid[ttid] = client.transactions[ttid] = Transaction(ttid, client)
        return txn

    def store(self, txn, records, checks):
        """Ask for the locks; what is granted at once is compared with the current tids.  Returns
        whether the engine was given something."""
        if txn.state is VOTED:
            txn.become(OPEN)            # that vote was for what was stored before
        if records and records[0].tid is not None:      # and so in all of them: see claims
            txn.impose([record.tid for record in records])
        held, writes, size = txn.records, txn.writes, RECORD_OVERHEAD * len(records)
        for record in records:
            oid, base, imposed, _, _, data, _ = record
            held[oid if imposed is None else (oid, imposed)] = record
            writes[oid] = base
            if data is not None:
                size += len(data)
            self._take(txn, oid, False)
        txn.size += size
        for oid, serial in checks:
            if txn.checks.setdefault(oid, serial) != serial:
                txn.checks[oid] = NONE      # they can't both be current
            self._take(txn, oid, True)
        pended = txn.size > self.amounts.pending_in_memory
        if pended:
            self.engine.pend(txn.ttid, list(txn.records.values()))
            txn.in_engine = True
            txn.records.clear()
            txn.size = 0
        if txn.vote is not None:
            # What was stored may have resolved the conflicts that it waits for.
            self._end_vote(txn)
        return pended

    def _take(self, txn, oid, shared):
        if self.locks.take(oid, txn, shared):
            self._compare(txn, oid)
        else:
            txn.waiting.add(oid)
            txn.conflicts.discard(oid)
            for other in self.locks.in_the_way(oid, txn):
                # One that has its tid waits for nobody.
                if other.asked != other.round and other.tid is None:
                    other.asked = other.round
                    self.in_the_way.append(other)

    def _compare(self, txn, oid):
        """It has the lock: is the current revision the expected one?"""
        if self.blind is not None and oid % self.blind[0] in self.blind[1]:
            # The data to tell are not here: who can read that row tells.
            txn.blind = txn.blind | {oid % self.blind[0]}
            txn.conflicts.discard(oid)
            return
        base = txn.writes.get(oid)
        serial = txn.checks.get(oid)
        if base is not None or serial is not None:
            try:
                current = self.current[oid]
            except BrokenData as error:
                txn.trouble = error
                return
            if base not in (None, current) or serial not in (None, current):
                txn.conflicts.add(oid)
                self.conflicts.setdefault(txn, []).append((oid, current))
                return
        txn.conflicts.discard(oid)

    # -- votes ----------------------------------------------------------------------------
    def vote(self, txn, request_id, metadata):
        """To be answered once all is granted."""
        txn.become(VOTING)
        txn.vote, txn.metadata = request_id, metadata
        imposed = [described.tid for described in metadata if described.tid is not None]
        if imposed:
            txn.impose(imposed)
        self._end_vote(txn)

    def _end_vote(self, txn):
        if txn.vote is None:
            return
        if txn.trouble is None:
            if txn.waiting or txn.conflicts:
                return
            txn.become(VOTED)
        self.votes.append((txn, txn.vote))
        txn.vote = None

    def give_way(self, txn, round):
        """All that was granted is asked for anew, and a vote that was given is undone."""
        txn.round = round
        if txn.state is VOTED:
            txn.become(OPEN)
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
        """Drop one that is not locked."""
        assert txn.state is not LOCKED
        self.engine.forget(txn.ttid)
        self._end(txn)

    def begin_lock(self, txn, first, tid, rows):
        """It gets its tid: from now on reads have to wait for it.  It is locked by `prepare`, as
        often as that is needed, and `lock`."""
        txn.become(LOCKING)
        txn.be_locked_as(first, tid, rows)
        self.locked[txn.ttid] = first
        self.last_tid = tid

    def prepare(self, txn, amount):
        """Do about `amount` rows of what `lock` would have to do; true if nothing is left of it."""
        return not txn.in_engine or self.engine.prepare_lock(txn.ttid, txn.first, txn.tid, amount)

    def lock(self, txn):
        """Put it into the history."""
        self._lock(txn)
        self.current.changed(txn.writes, None if txn.imposed else txn.tid)

    def _lock(self, txn):
        txn.become(LOCKED)
        self.engine.lock(txn.ttid, txn.first, txn.tid, txn.rows, txn.metadata,
                         list(txn.records.values()))
        txn.records.clear()
        txn.size = 0

    def unlock(self, txn):
        """Everybody knows it."""
        self.engine.unlock(txn.ttid)
        del self.locked[txn.ttid]
        self._end(txn)

    def _end(self, txn):
        txn.become(ENDED)
        del self.by_ttid[txn.ttid]
        txn.client.transactions.pop(txn.ttid, None)
        self.conflicts.pop(txn, None)
        self._release(txn)

    def _release(self, txn):
        granted = self.locks.release_all(txn.oids(), txn)
        for oid, other in granted:
            other.waiting.discard(oid)
            self._compare(other, oid)
        for _, other in granted:
            self._end_vote(other)

    # -- rows that are being filled -------------------------------------------------------------
    def fill(self, partitions, rows):
        """These are not compared with what is stored; others are, also such as were not before.
        What was found to differ from what is here may be right all the same: who knows tells."""
        self.blind = (partitions, frozenset(rows)) if rows else None
        self.current = CurrentTids(self.engine, self.amounts.current_tids)
        for txn in [txn for txn in self.by_ttid.values() if txn.conflicts]:
            for oid in [oid for oid in txn.conflicts if oid % partitions in rows]:
                self._compare(txn, oid)
            self._end_vote(txn)

    def written_blindly(self):
        """Rows of which some transaction has a lock that was not compared."""
        return frozenset().union(*[txn.blind for txn in self.by_ttid.values()])

    # -- what is in the way of reads ----------------------------------------------------------
    def locked_object(self, oid, before):
        """The ttid of a transaction of which it is not known yet whether a read of `oid` below
        `before` has to show it, or None."""
        if self.locks.held:
            for txn in self.locks.writers(oid):
                if txn.tid is not None and txn.first < before and oid in txn.writes:
                    return txn.ttid
        return min(self.settled, default=None) if self.settled else None

    def locked_below(self, stop):
        """The ttid of one with any tid below `stop`, or None."""
        for ttid, tid in self.locked.items():
            if tid < stop:
                return ttid
        return None
