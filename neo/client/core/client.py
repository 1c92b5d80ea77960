"""The client without I/O: a node (see neo.cluster.node) that applications call.

Calls return an Operation, which may be done already.  Those that end later are appended to
`completed`: what drives the node takes them from there, and wakes who waits for them.  Likewise,
`invalidations` are for ZODB, in tid order: `(tid, oids or None, own operation or None)`, where None
as oids means that everything may have changed.  Whoever has told ZODB calls `delivered`.
"""
from collections import deque

from ...cluster import seek
from ...cluster.node import Node, handler_table
from ...protocol import limits
from ...protocol.packets import ListRecords, ListTransactions, ObjectHistory
from ...protocol.types import ClusterState, NodeKind
from . import commit, connections, finish, imports, loads, pool
from .cache import Cache
from .commit import FINISHING, VOTED, Transaction
from ..exception import NEOStorageError, TidRefused, TransactionFailed
from .operation import failed, succeeded

RUNNING = ClusterState.RUNNING
LATE = 'late'                   # timers
RETRY = 'retry'


class Client(Node):

    kind = NodeKind.CLIENT
    handlers = handler_table(connections, pool, commit, finish, loads)

    def __init__(self, rnd, cluster, masters, cache_size=limits.CACHE_SIZE,
                 wait_timeout=limits.WAIT_TIMEOUT, amounts=limits.AMOUNTS):
        super().__init__(rnd)
        self.phase = ClusterState.RECOVERING
        self.cluster = cluster
        self.seek = seek.Seek(masters)
        self.wait_timeout = wait_timeout
        self.amounts = amounts
        # what the primary has said
        self.id = self.cluster_id = self.history = None
        self.term = 0
        self.primary = None             # the Peer
        self.table = None
        self.storages = {}              # id -> Link
        self.trouble = 'no connection yet'
        # revisions
        self.cache = Cache(cache_size)
        self.heard = 0                  # the highest tid heard of; the cache is as of it
        self.last_tid = 0               # the highest tid delivered to ZODB
        self.loading = {}               # oid -> its loads that are under way
        self.invalidations = deque()
        self.held = None                # of these, until own outcomes are known
        # transactions
        self.ttids = pool.ttids(amounts.ttids_ahead)
        self.oids = pool.oids(amounts.oids_ahead)
        self.transactions = {}          # ttid -> Transaction, until aborted or finished
        self.outcomes = {}              # ttid -> its Finishing, when the primary was lost in it
        self.asked_outcomes = set()
        self.imports = []
        self.orphans = {}               # storage -> ttids aborted while it was not connected
        # operations
        self.completed = []
        self.unfinished = {}            # as ordered sets: all …
        self.stalled = {}               # … and those to be resumed when something has changed
        self._watching = self._retrying = False

    # -- what the node base calls -----------------------------------------------------------
    def starting(self):
        self.seek.connect(self)

    def connected(self, peer):
        connections.connected(self, peer)

    def connect_failed(self, address, reason):
        connections.connect_failed(self, address, reason)

    def lost(self, peer, reason):
        connections.lost(self, peer, reason)

    def timer(self, name):
        if name == LATE:
            self._look_for_late()
        elif name == RETRY:
            self._retrying = False
            self.resume_stalled()
            self.ttids.refill(self)
            self.oids.refill(self)
            finish.ask_outcomes(self)
        elif name == seek.TIMER:
            self.seek.connect(self)
        else:
            connections.connect_link(self, name.partition(' ')[2])

    # -- what connections.py tells ----------------------------------------------------------
    def welcomed(self, history, last_tid):
        finish.welcomed(self, history, last_tid)

    def running(self):
        self.ttids.refill(self)
        self.oids.refill(self)
        finish.ask_outcomes(self)

    def without_primary(self, reason):
        self.ttids.clear()
        self.asked_outcomes.clear()
        self.orphans.clear()
        error = TransactionFailed('the primary was lost: %s' % reason)
        for transaction in list(self.transactions.values()):
            transaction.primary_lost(self, error)

    def storage_found(self, link):
        orphans = self.orphans.pop(link.id, None)
        if orphans:
            link.abort(self, orphans)
        for transaction in list(self.transactions.values()):
            transaction.storage_found(self, link.id)
        self.resume_stalled()

    def storage_lost(self, link, reason):
        if link.aborted:
            self.orphans.setdefault(link.id, []).extend(ttid for _, ttid in link.aborted)
            link.aborted.clear()
        for transaction in list(self.transactions.values()):
            transaction.storage_lost(self, link.id, reason)

    # -- operations -------------------------------------------------------------------------
    def attempt(self, operation):
        """Begin a new operation."""
        operation.resume(self)
        if not operation.done:
            self.wait_for(operation)
        return operation

    def wait_for(self, operation):
        self.unfinished[operation] = None
        if not self._watching:
            self._watching = True
            self.set_timer(LATE, self.now + 1.0)

    def succeed(self, operation, result):
        if not operation.done:
            operation.result = result
            self._end(operation)

    def fail(self, operation, error):
        if not operation.done:
            operation.error = error
            self._end(operation)

    def _end(self, operation):
        operation.done = True
        self.stalled.pop(operation, None)
        if self.unfinished.pop(operation, self) is None and not operation.internal:
            self.completed.append(operation)
        operation.finished(self)

    def stall(self, operation):
        """Resume it when something has changed."""
        if not operation.done:
            self.stalled[operation] = None

    def resume_stalled(self):
        stalled, self.stalled = self.stalled, {}
        for operation in stalled:
            if not operation.done:
                operation.resume(self)

    def retry_soon(self):
        """Resume stalled operations a little later, even if nothing changes."""
        if not self._retrying:
            self._retrying = True
            self.set_timer(RETRY, self.now + limits.RECONNECT_DELAY)

    def fail_all(self, error):
        """The cluster does not want this client."""
        self.trouble = str(error)
        for operation in list(self.unfinished):
            if not isinstance(operation, finish.Finishing):
                self.fail(operation, error)

    def _look_for_late(self):
        self._watching = False
        for operation in list(self.unfinished):
            if operation.done:
                continue
            if operation.deadline is None:
                # Time counts from here: `now` may have been old when it began.
                operation.deadline = self.now + operation.patience(self)
            elif self.now >= operation.deadline:
                operation.expired(self)
        if self.unfinished:
            self._watching = True
            self.set_timer(LATE, self.now + 1.0)

    def unavailable(self):
        return 'cluster %r is not available: %s' % (self.cluster, self.trouble)

    def part_of(self, ttid, peer):
        """(Transaction, Part) of what a storage speaks about, or None twice: it has ended."""
        transaction = self.transactions.get(ttid)
        part = transaction and transaction.parts.get(peer.id)
        if part is None or part.peer is not peer:
            return None, None
        return transaction, part

    def hear(self, tid, oids):
        """A transaction has been committed."""
        self.heard = tid
        invalidate, skip, loading = self.cache.invalidate, self.oids.skip, self.loading
        for oid in oids:
            invalidate(oid, tid)
            skip(oid)
            if oid in loading:
                for load in loading[oid]:
                    load.crossed = (*(load.crossed or ()), tid)

    # -- for applications: reads ------------------------------------------------------------
    def when_ready(self):
        return self.attempt(loads.WhenReady())

    def sync(self):
        """Result: the last tid anybody has heard of; invalidations up to it have come."""
        return self.attempt(loads.Synchronization())

    def cached(self, oid, before):
        """What `load_before` would give, if that is in the cache, else None."""
        entry = self.cache.load(oid, before, self.heard)
        return None if entry is None else entry.record()

    def forget(self, oid, tid):
        """The data of this revision are broken."""
        entry = self.cache.holds(oid, tid + 1, tid)
        if entry is not None:
            self.cache.discard(entry)

    def load(self, oid):
        return self.load_before(oid, self.last_tid + 1)

    def load_before(self, oid, before):
        """Result: `(tid, next tid or None, compression, checksum, data, tid of the data or None)`;
        the checksum is None once verified.  Errors: NoObject, NoRevision, BrokenData."""
        entry = self.cache.load(oid, before, self.heard)
        if entry is not None:
            return succeeded(entry.record())
        return self.load_missed(oid, before)

    def load_missed(self, oid, before):
        """`load_before` of what is not in the cache."""
        return self.attempt(loads.LoadObject(oid, before))

    def prefetch(self, oids, before):
        """Begin to load what is not in the cache; nobody waits for it.  Beyond a limit, the rest is
        left for when it is needed."""
        room = limits.LOAD_WINDOW - len(self.loading)
        for oid in oids:
            if room <= 0:
                return
            if oid not in self.loading and not self.cache.holds(oid, before, self.heard):
                load = loads.LoadObject(oid, before)
                load.internal = True
                self.attempt(load)
                room -= 1

    def object_history(self, oid, before, limit):
        """Result: `[(tid, size)]`, newest first.  Errors: NoObject."""
        return self.attempt(loads.History(ObjectHistory(oid, before, limit), oid))

    def transaction_info(self, tid):
        """Result: a StoredTransaction, or None."""
        return self.attempt(loads.TransactionInfo(tid))

    def transactions_info(self, tids):
        """Operations that ask for many at once."""
        return [self.transaction_info(tid) for tid in tids]

    def groups(self, rows=None):
        """Rows (None: all) grouped by a storage that can read them now: `[rows]`."""
        groups, readable, links = {}, self.table.readable, self.storages
        for row in range(len(readable)) if rows is None else rows:
            linked = [s for s in readable[row] if s in links and links[s].peer is not None]
            # One that nobody can read waits alone.
            storage = next(iter(linked or readable[row]), row)
            groups.setdefault(storage, []).append(row)
        return [tuple(rows) for rows in groups.values()]

    def list_transactions(self, rows, start, stop):
        """Result: `(StoredTransactions, next)`, or None if `rows` must be grouped anew."""
        return self.attempt(loads.Chunk(ListTransactions(start, stop, rows), 0))

    def list_records(self, rows, start, after_oid, stop):
        """Result: `(StoredRecords, next)`, or None if `rows` must be grouped anew."""
        return self.attempt(loads.Chunk(ListRecords(start, after_oid, stop, rows), 0))

    def measure(self):
        """Result: `(objects, bytes)`."""
        return self.attempt(loads.Measurement())

    # -- for applications: transactions -------------------------------------------------------
    def new_oid(self):
        return self.attempt(pool.Take(self.oids, int))

    def can_begin(self):
        self.ttids.refill(self)
        return self.phase == RUNNING and self.ttids.left > 0

    def new_transaction(self, imposed=None):
        ttid = self.ttids.take()
        transaction = self.transactions[ttid] = Transaction(ttid, self.table, imposed)
        self.ttids.refill(self)
        return transaction

    def begin(self, imposed=None):
        """Result: a Transaction.  With `imposed`, that will be its tid."""
        if imposed is not None and imposed <= self.heard:
            return failed(TidRefused('tid %#x is not above the last one, %#x'
                                     % (imposed, self.heard)))
        return self.attempt(commit.Begin(imposed))

    def store(self, transaction, record):
        """`record` is a Record of the protocol."""
        if transaction.error is not None:
            return failed(transaction.error)
        if transaction.described and record.oid not in transaction.records:
            return failed(NEOStorageError('object %#x comes after the vote' % record.oid))
        return transaction.store(self, record)

    def check(self, transaction, oid, serial):
        """`vote` will tell if `serial` is not current."""
        if transaction.error is not None:
            return failed(transaction.error)
        return transaction.check(self, oid, serial)

    def vote(self, transaction, metadata):
        """`metadata` is (status, user, description, extension).  Result: conflicts, as `[(oid,
        base, current serial, is a check)]`, to be resolved by storing again, or []: all voted."""
        if transaction.error is not None:
            return failed(transaction.error)
        if not transaction.described:
            transaction.describe(metadata)
        return transaction.vote(self)

    def finish(self, transaction):
        """Result: the tid.  Errors: OutcomeUnknown; with any other one it is not committed."""
        if transaction.error is not None:
            return failed(transaction.error)
        if transaction.state != VOTED:
            return failed(NEOStorageError('%r has not been voted' % transaction))
        operation = finish.Finishing(transaction)
        self.start_finish(transaction, operation)
        return operation

    def start_finish(self, transaction, operation):
        transaction.operation = operation
        self.wait_for(operation)
        operation.send(self)

    def abort(self, transaction):
        """Does nothing once *finish* has been sent."""
        if transaction.state < FINISHING:
            self.transactions.pop(transaction.ttid, None)
            transaction.abort(self)
        return succeeded()

    def import_batch(self, transactions, after=None):
        """Commit `[(tid, status, user, description, extension, records)]`, in tid order, as one.
        Records have base None and that tid.  `after` is the operation of the batch before, with
        which this one fails.  Result: the last tid."""
        return imports.begin(self, transactions, after)

    def delivered(self, tid):
        """ZODB has been told of all up to `tid`."""
        self.last_tid = tid


