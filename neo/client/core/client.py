"""What applications call (see node.py for how it works).

Calls return an Operation, which may be done already.  Those that end later are appended to
`completed`: what drives the node takes them from there, and wakes who waits for them.  Likewise,
`invalidations` are for ZODB, in tid order: `Told`, with the own operation that waits for it.
Whoever has told ZODB calls `delivered`.
"""
from ...protocol.limits import LOAD_WINDOW
from ...protocol.packets import ListRecords, ListTransactions, ObjectHistory
from ...protocol.types import MAX_ID, MAX_OID
from ..exception import NEOStorageError, TidRefused, TransactionFailed
from . import commit, loads, pool
from .commit import FINISHING, VOTED
from .finish import Finishing
from .node import ClientNode
from .operation import DONE, failed, succeeded


class Client(ClientNode):

    # -- reads ------------------------------------------------------------------------------
    def when_ready(self):
        return self.attempt(loads.WhenReady())

    def sync(self):
        """Result: the last tid anybody has heard of; invalidations up to it have come."""
        return self.attempt(loads.Synchronization())

    def forget(self, oid, tid):
        """The data of this revision are broken."""
        entry = self.cache.holds(oid, tid + 1, tid)
        if entry is not None:
            self.cache.discard(entry)

    def load_elsewhere(self, load, oid, before):
        """As `load_before`, which has given `load` with broken data."""
        self.forget(oid, load.result[0])
        again = loads.LoadObject(oid, before)
        if type(load) is loads.LoadObject:
            again.distrust(self, load)
        return self.attempt(again)

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
        room = LOAD_WINDOW - len(self.loading) - len(self.operations.stalled)
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
        groups, readable, links = {}, self.table.readable, self.links
        for row in range(len(readable)) if rows is None else rows:
            linked = [id for id in readable[row] if links.reach(id) is not None]
            # One that nobody can read waits alone.
            storage = next(iter([id for id in linked if not links.is_mute(id)]
                                or linked or readable[row]), row)
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

    # -- transactions -------------------------------------------------------------------------
    def new_oid(self):
        oids = self.oids
        return succeeded(oids.take(self)) if oids.left else self.attempt(pool.Take(oids))

    def begin(self, imposed=None):
        """Result: a Transaction.  With `imposed`, that will be its tid."""
        if imposed is not None and not self.heard < imposed < MAX_ID:
            return failed(TidRefused('tid %#x is not above the last one, %#x, or too high'
                                     % (imposed, self.heard)))
        if self.can_begin():
            return succeeded(self.new_transaction(imposed))
        return self.attempt(commit.Begin(imposed))

    def store(self, transaction, record):
        """`record` is a Record of the protocol."""
        oid, base = record.oid, record.base
        fault = transaction.error
        if fault is None and not 0 <= oid <= MAX_OID:
            fault = NEOStorageError('oid %#x is above the limit of %#x' % (oid, MAX_OID))
        elif fault is None and (record.tid != transaction.imposed
                                or base is not None and base >= MAX_ID):
            fault = NEOStorageError('the serial %s of object %#x can be none' % (base, oid))
        elif transaction.described and oid not in transaction.records:
            fault = NEOStorageError('object %#x comes after the vote' % oid)
        return failed(fault) if fault else transaction.store(self, record)

    def check(self, transaction, oid, serial):
        """`vote` will tell if `serial` is not current."""
        if transaction.error is None and not 0 <= max(oid, serial) < MAX_ID:
            return failed(NEOStorageError('there is no serial %#x of object %#x' % (serial, oid)))
        if transaction.error is not None:
            return failed(transaction.error)
        if transaction.described:
            return failed(NEOStorageError('the check of object %#x comes after the vote' % oid))
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
            transaction.abort(self)
            self.forget_transaction(transaction)
        return DONE

    def abort_begun(self, beginning):
        """As `abort`, of what `begin` has given, which may still wait."""
        beginning.fail(self, TransactionFailed('aborted'))
        return DONE if beginning.error is not None else self.abort(beginning.result)

    def import_batch(self, transactions, after=None):
        """Commit `[(tid, status, user, description, extension, records)]`, in tid order, as one.
        Records have base None and that tid.  `after` is the operation of the batch before, with
        which this one fails.  Result: the last tid."""
        return self.imports.begin(self, transactions, after)

    def delivered(self, tid):
        """ZODB has been told of all up to `tid`."""
        self.last_tid = tid
