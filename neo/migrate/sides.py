"""The sides of a migration: what each kind of storage is read and written like.

What is read of any is a `Past`: whole transactions, in tid order.  What is written is taken as it
is: tids, status and pointers to the data of earlier revisions included.  Here are the storages that
ZODB can open; see filestorage.py for files, neoside.py for NEO.
"""
from collections import namedtuple
from pickle import dumps

from ZODB.blob import is_blob_record
from ZODB.POSException import POSKeyError
from ZODB.utils import p64, u64

# Transactions that are written together, and where the source is after them.
Batch = namedtuple('Batch', 'transactions position')
# A committed transaction.  `revisions` is [(oid, data or None, tid of the data or None)], by oid;
# the user, the description and the extension are raw bytes.
Past = namedtuple('Past', 'tid status user description extension revisions')

PICKLES = 3             # the protocol of extensions in ZODB
BLOBS = '%s has blobs, which are not available in this version: nothing was changed'


class MigrationError(Exception):
    """Says in one line why it can't go on."""


def reason(error):
    """Why something failed, in one line."""
    if isinstance(error, OSError) and error.filename:
        return '%s: %s' % (error.filename, error.strerror)
    return ' '.join(str(error).split()) or type(error).__name__


def extension_of(transaction):
    """Its raw bytes; not all storages of ZODB keep them as they came."""
    try:
        return transaction.extension_bytes
    except AttributeError:
        return dumps(transaction.extension, PICKLES) if transaction.extension else b''


class Highest:
    """The highest ids that a source has."""

    def __init__(self):
        self.tid = self.oid = 0

    def see(self, tid, oid):
        if tid > self.tid:
            self.tid = tid
        if oid > self.oid:
            self.oid = oid


class Side:
    """`position` and `size` say how far reading is: bytes, or transactions if not `in_bytes`.

    `superseded` are the (tid, oid) read of which there was an earlier revision with other data in
    the same transaction.  A FileStorage may have both; only the last one is ever read."""

    in_bytes = False
    position = 0
    size = None             # not known

    def __init__(self, name):
        self.name = name
        self.superseded = set()

    def close(self):
        """Release what is open."""

    def read(self, transaction, records):
        """The `Past` of a transaction as ZODB's iterators give it."""
        tid, revisions = u64(transaction.tid), {}
        for record in records:
            if record.tid != transaction.tid:
                raise MigrationError('%s is damaged: transaction %#018x has a record of %#x' % (
                    self.name, tid, u64(record.tid)))
            if is_blob_record(record.data):
                raise MigrationError(BLOBS % self.name)
            oid = u64(record.oid)
            if oid in revisions and revisions[oid][0] != record.data:
                self.superseded.add((tid, oid))
            revisions[oid] = record.data, record.data_txn and u64(record.data_txn)
        return Past(tid, transaction.status, transaction.user, transaction.description,
                    extension_of(transaction),
                    [(oid, *revision) for oid, revision in revisions.items()])


class StorageSide(Side):
    """A storage of ZODB that has an iterator, as a source; and as a destination if it restores."""

    def __init__(self, name, storage):
        super().__init__(name)
        self.storage = storage

    def close(self):
        self.storage.close()

    def last_tid(self):
        return u64(self.storage.lastTransaction())

    def survey(self, update):
        """Look at all there is, refuse what can't be copied, and give the highest ids: before
        anything is changed.  `update(position, transactions)` shows how far that is."""
        highest, count = Highest(), 0
        for transaction in self.storage.iterator():
            count += 1
            for record in transaction:
                if is_blob_record(record.data):
                    raise MigrationError(BLOBS % self.name)
                highest.see(u64(transaction.tid), u64(record.oid))
            highest.see(u64(transaction.tid), 0)
            update(count, count)
        self.size = count
        return highest

    def tids(self):
        for transaction in self.storage.iterator():
            yield u64(transaction.tid)

    def transactions(self, start=0):
        """All from this tid on."""
        # It is a read of the whole past: nothing starts before the first one.
        transactions = self.storage.iterator(start and p64(start) or None)
        try:
            for transaction in transactions:
                past = self.read(transaction, transaction)
                self.position += 1
                yield past._replace(revisions=[self._known(*r) for r in past.revisions])
        finally:
            getattr(transactions, 'close', bool)()

    def _known(self, oid, data, data_tid):
        """Where other storages say that data come from is a hint: it may have been packed away."""
        if data_tid is not None and data is not None and not self._has(oid, data_tid, data):
            data_tid = None
        return oid, data, data_tid

    def _has(self, oid, tid, data):
        try:
            return self.storage.loadSerial(p64(oid), p64(tid)) == data
        except POSKeyError:
            # After a pack, a FileStorage may not find what is there all the same.
            return any(record.oid == p64(oid) and record.data == data
                       for transaction in self.storage.iterator(p64(tid), p64(tid))
                       for record in transaction)

    def write(self, batches):
        """Restore the transactions of these, and give each batch when it is there."""
        for batch in batches:
            for past in batch.transactions:
                self._restore(past, Restored(past))
            yield batch

    def _restore(self, past, transaction):
        self.storage.tpc_begin(transaction, p64(past.tid), past.status)
        for oid, data, data_tid in past.revisions:
            self.storage.restore(p64(oid), p64(past.tid), data, '',
                                 None if data_tid is None else p64(data_tid), transaction)
        self.storage.tpc_vote(transaction)
        self.storage.tpc_finish(transaction)


class Restored:
    """What a storage wants to know of a transaction."""

    def __init__(self, past):
        self.user = past.user
        self.description = past.description
        self.extension_bytes = past.extension
