"""The client without I/O: a node (see neo.cluster.node) that applications call.

Calls return an Operation, which may be done already.  Those that end later are appended to
`completed`: what drives the node takes them from there, and wakes who waits for them.  Likewise,
`invalidations` are for ZODB, in tid order: `Told`, with the own operation that waits for it.
Whoever has told ZODB calls `delivered`.

This module is what applications and drivers see, and which part hears of what; each part keeps its
own state:

    primary.py, links.py        the connections, to the primary and to the storages
    operation.py                what has not ended, and for how long it waits
    pool.py                     ids taken ahead
    loads.py, cache.py          reads
    commit.py, imports.py       transactions, up to the vote
    finish.py, invalidations.py their end, and in which order it is told
    legacy.py                   what a client takes over from one that it replaces
"""
from ...cluster import seek
from ...cluster.node import Node, handler_table
from ...protocol import limits
from ...protocol.packets import Identify, ListRecords, ListTransactions, ObjectHistory
from ...protocol.types import MAX_ID, ClusterState, NodeKind
from ..exception import NEOStorageError, TidRefused, TransactionFailed
from . import commit, finish, links, loads, operation, pool, primary
from .cache import Cache
from .commit import FINISHING, VOTED, Transaction
from .finish import Finishing, Outcomes
from .imports import Imports
from .invalidations import Invalidations
from .legacy import legacy_of
from .links import Links
from .operation import Operations, failed, succeeded

RUNNING = ClusterState.RUNNING


class Client(Node):
    """`masters` are (host, port), `name` is what the operator reads of this process."""

    kind = NodeKind.CLIENT
    handlers = handler_table(primary, commit, finish)

    def __init__(self, rnd, cluster, masters, cache_size=limits.CACHE_SIZE,
                 wait_timeout=limits.WAIT_TIMEOUT, amounts=limits.AMOUNTS, name=''):
        super().__init__(rnd)
        self.phase = ClusterState.RECOVERING
        self.cluster, self.name = cluster, name
        self.seek = seek.Seek(masters)
        self.wait_timeout, self.amounts = wait_timeout, amounts
        # what the primary has said
        self.id = self.cluster_id = self.history = None
        self.term = 0
        self.primary = None             # the Peer
        self.reason = None              # why it does not accept this client yet
        self.table = None
        # revisions
        self.cache = Cache(cache_size)
        self.heard = 0                  # the highest tid heard of; the cache is as of it
        self.last_tid = 0               # the highest tid delivered to ZODB
        self.loading = {}               # oid -> its loads that are under way
        self.told = Invalidations()
        self.invalidations = self.told.queue
        # transactions
        self.transactions = {}          # ttid -> Transaction, until aborted or finished
        self.completed = []             # Operations
        self.ttids = pool.ttids(amounts.ttids_ahead)
        self.oids = pool.oids(amounts.oids_ahead)
        self.links, self.operations, self.outcomes, self.imports = (
            Links(), Operations(), Outcomes(), Imports())
        self.replaces = False           # … another one, and ZODB has not been told of that yet

    def succeed_to(self, former, unsettled=True):
        """Before it is started: take the place of a client that can't be used any more, as it was
        cut off half-way, or belongs to the parent of this process.  Everything is declared changed
        as soon as there is a primary.  What became of its transactions in *finish* is asked; not so
        without `unsettled`, as they are those of the parent."""
        legacy = legacy_of(former, unsettled)
        self.replaces = True
        self.cluster_id, self.history = legacy.cluster_id, legacy.history
        self.term, self.heard, self.last_tid = legacy.term, legacy.last_tid, legacy.last_tid
        self.outcomes.inherit(legacy)

    def find_out(self, former):
        """As `finish`, for an operation or a transaction of a client that this one has succeeded
        to.  Only what had been sent for *finish*, or was about to be, can have been committed."""
        return self.outcomes.find_out(former.ttid)

    # -- what the node base calls -----------------------------------------------------------
    def starting(self):
        self.outcomes.starting(self)
        self.seek.connect(self)

    def connected(self, peer):
        if peer.address == self.seek.address:
            peer.kind = NodeKind.MASTER
            self.greet(peer, primary.Greeting())
        else:
            self.links.connected(self, peer)

    def greet(self, peer, context):
        self.ask(peer, Identify(
            NodeKind.CLIENT, self.id, self.identity, self.cluster, self.cluster_id, self.history,
            self.term, self.name, None, self.now), context)

    def connect_failed(self, address, reason):
        if address == self.seek.address:
            self.seek.failed(self, reason)
        else:
            self.links.connect_failed(self, address, reason)

    def lost(self, peer, reason):
        if peer.kind == NodeKind.MASTER:
            primary.lost(self, 'the connection was lost: %s' % reason)
        else:
            self.links.lost(self, peer, reason)

    def timer(self, name):
        if name == operation.LATE:
            self.operations.look(self)
        elif name == operation.RETRY:
            self.operations.retry(self)
            self.running()
        elif name == seek.TIMER:
            self.seek.connect(self)
        else:
            self.links.connect(self, name.removeprefix(links.TIMER))

    # -- who hears of what --------------------------------------------------------------------
    def running(self):
        """There is a primary, or another try is due: ask for what is missing."""
        self.ttids.refill(self)
        self.oids.refill(self)
        self.outcomes.ask(self)

    def without_primary(self, reason):
        self.ttids.clear()
        self.outcomes.primary_lost()
        self.links.primary_lost(self)
        error = TransactionFailed('the primary was lost: %s' % reason)
        for transaction in list(self.transactions.values()):
            transaction.primary_lost(self, error)

    def storage_found(self, id):
        for transaction in list(self.transactions.values()):
            transaction.storage_found(self, id)
        self.operations.resume_stalled(self)

    def storage_lost(self, id, reason):
        for transaction in list(self.transactions.values()):
            transaction.storage_lost(self, id, reason)

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

    def part_of(self, ttid, peer):
        """(Transaction, Part) of what a storage speaks about, or None twice: it has ended."""
        transaction = self.transactions.get(ttid)
        part = transaction and transaction.parts.get(peer.id)
        if part is None or part.peer is not peer:
            return None, None
        return transaction, part

    # -- waiting ------------------------------------------------------------------------------
    def missing(self):
        """What there is to wait for before anything can be served, in words, or None."""
        if self.phase == RUNNING:
            return None
        if self.primary is not None:
            return 'the partition table from %s' % self.primary
        if self.reason is not None:
            return 'the cluster, which does not run (%s)' % self.reason
        return self.seek.missing()

    def unavailable(self, waiting):
        """What a ClusterUnavailable says to who has waited."""
        return 'cluster %r is not available: waiting for %s for %.0f s' % (
            self.cluster, waiting.waits_for(self), self.now - waiting.since)

    def give_up(self, error):
        """The cluster does not want this client."""
        for waiting in list(self.operations.unfinished):
            if not isinstance(waiting, Finishing):
                waiting.fail(self, error)

    # -- for applications: reads ------------------------------------------------------------
    def attempt(self, operation):
        """Begin a new operation."""
        return self.operations.attempt(self, operation)

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

    def load_before(self, oid, before):
        """Result: `(tid, next tid or None, compression, checksum, data, tid of the data or None)`;
        the checksum is None once verified.  Errors: NoObject, NoRevision, BrokenData.

        With MAX_ID as `before` it is the current revision: as of this call, not as of what has
        been heard."""
        entry = self.cache.load(oid, before, self.heard)
        if entry is not None:
            return succeeded(entry.record())
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
        """Result: `[Revision]`, newest first.  Errors: NoObject."""
        return self.attempt(loads.History(ObjectHistory(oid, before, limit), oid))

    def transaction_info(self, tid):
        """Result: a StoredMetadata, or None."""
        return self.attempt(loads.TransactionInfo(tid))

    def transactions_info(self, tids):
        """Operations that ask for many at once."""
        return [self.transaction_info(tid) for tid in tids]

    def groups(self, rows=None):
        """Rows (None: all) grouped by a storage that can read them now: `[rows]`."""
        groups, readable = {}, self.table.readable
        for row in range(len(readable)) if rows is None else rows:
            linked = [id for id in readable[row] if self.links.reach(id) is not None]
            # One that nobody can read waits alone.
            storage = next(iter(linked or readable[row]), row)
            groups.setdefault(storage, []).append(row)
        return [tuple(rows) for rows in groups.values()]

    def list_transactions(self, rows, start, stop):
        """Result: `(StoredMetadata…, next)`, or Regroup."""
        return self.attempt(loads.TransactionsChunk(ListTransactions(start, stop, rows), 0))

    def list_records(self, rows, start, after_oid, stop):
        """Result: `(StoredRecords, next)`, or Regroup."""
        return self.attempt(loads.RecordsChunk(ListRecords(start, after_oid, stop, rows), 0))

    def measure(self):
        """Result: `(objects, bytes)`."""
        return self.attempt(loads.Measurement())

    # -- for applications: transactions -------------------------------------------------------
    def new_oid(self):
        return self.attempt(pool.Take(self.oids))

    def can_begin(self):
        self.ttids.refill(self)
        return self.phase == RUNNING and self.ttids.left > 0

    def new_transaction(self, beginning, imposed=None):
        """`beginning` is the operation that has waited for it."""
        ttid = self.ttids.take()
        transaction = self.transactions[ttid] = Transaction(ttid, self.table, imposed)
        transaction.waited = beginning.waited
        self.ttids.refill(self)
        return transaction

    def begin(self, imposed=None):
        """Result: a Transaction.  With `imposed`, that will be its tid."""
        if imposed is not None and not self.heard < imposed < MAX_ID:
            return failed(TidRefused('tid %#x is not above the last one, %#x, or too high'
                                     % (imposed, self.heard)))
        return self.attempt(commit.Begin(imposed))

    def store(self, transaction, record):
        """`record` is a Record of the protocol."""
        fault = transaction.error or self._store_fault(transaction, record)
        return failed(fault) if fault else transaction.store(self, record)

    def _store_fault(self, transaction, record):
        if not 0 <= record.oid <= limits.MAX_OID:
            return NEOStorageError('oid %#x is above the limit of %#x'
                                   % (record.oid, limits.MAX_OID))
        if record.base is not None and record.base >= MAX_ID or record.tid != transaction.imposed:
            return NEOStorageError('the serial %s of object %#x can be none'
                                   % (record.base, record.oid))
        if transaction.described and record.oid not in transaction.records:
            return NEOStorageError('object %#x comes after the vote' % record.oid)

    def check(self, transaction, oid, serial):
        """`vote` will tell if `serial` is not current."""
        if transaction.error is None and not 0 <= max(oid, serial) < MAX_ID:
            return failed(NEOStorageError('there is no serial %#x of object %#x' % (serial, oid)))
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
        finishing = Finishing(transaction.ttid, transaction.written(), transaction)
        finishing.send(self)
        return finishing

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
        return self.imports.begin(self, transactions, after)

    def delivered(self, tid):
        """ZODB has been told of all up to `tid`."""
        self.last_tid = tid
