"""The sides of a migration: a FileStorage, or any other ZODB storage; for NEO see neoside.py.

What is read of either is a `Past`: whole transactions, in tid order.  What is written is taken as
it is: tids, status and pointers to the data of earlier revisions included.
"""
import os
from collections import namedtuple

from ZODB.blob import is_blob_record
from ZODB.FileStorage import FileIterator, FileStorage, packed_version
from ZODB.FileStorage.format import CorruptedError
from ZODB.POSException import POSKeyError
from ZODB.utils import p64, u64

# Transactions that are written together, and where the source is after them.
Batch = namedtuple('Batch', 'transactions position')
# A committed transaction.  `revisions` is [(oid, data or None, tid of the data or None)], by oid;
# the user, the description and the extension are raw bytes.
Past = namedtuple('Past', 'tid status user description extension revisions')

BLOBS = 'there are blobs in %s, and blobs are not available in this version: nothing was changed'


class MigrationError(Exception):
    """Says in one line why it can't go on."""


def read(name, transaction, records):
    """The `Past` of a transaction as ZODB's iterators give it."""
    revisions = {}
    for record in records:
        if record.tid != transaction.tid:
            raise MigrationError('%s is damaged: transaction %#018x has a record of %#x' % (
                name, u64(transaction.tid), u64(record.tid)))
        if is_blob_record(record.data):
            raise MigrationError(BLOBS % name)
        # One that is there twice was stored twice: the last one counts.
        revisions[u64(record.oid)] = record.data, record.data_txn and u64(record.data_txn)
    return Past(u64(transaction.tid), transaction.status, transaction.user, transaction.description,
                transaction.extension_bytes,
                [(oid, *revision) for oid, revision in revisions.items()])


class Side:
    """`position` and `size` say how far reading is: bytes, or transactions if not `in_bytes`."""

    in_bytes = False
    position = 0
    size = None             # not known

    def __init__(self, name):
        self.name = name

    def close(self):
        """Release what is open."""


class StorageSide(Side):
    """A storage of ZODB that has an iterator, as a source; and as a destination if it restores."""

    def __init__(self, name, storage):
        super().__init__(name)
        self.storage = storage

    def close(self):
        self.storage.close()

    def last_tid(self):
        return u64(self.storage.lastTransaction())

    def check(self):
        """Refuse what can't be copied, before anything is changed."""
        self.size = 0
        for transaction in self.storage.iterator():
            self.size += 1
            if any(is_blob_record(record.data) for record in transaction):
                raise MigrationError(BLOBS % self.name)

    def tids(self):
        for transaction in self.storage.iterator():
            yield u64(transaction.tid)

    def transactions(self, start=0):
        """All from this tid on."""
        # It is a read of the whole past: nothing starts before the first one.
        transactions = self.storage.iterator(start and p64(start) or None)
        try:
            for transaction in transactions:
                past = read(self.name, transaction, transaction)
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


class FileSide(Side):
    """The file of a FileStorage, read without index and lock: it may be in use.  What was committed
    when reading started is there."""

    in_bytes = True

    def __init__(self, path):
        super().__init__(path)
        with open(path, 'rb') as file:
            if file.read(4) != packed_version:
                raise MigrationError('%s is not the file of a FileStorage' % path)
            self.size = os.fstat(file.fileno()).st_size
        self._places = {}       # tid: where it starts, for those that `tids` gave last

    def check(self):
        if self._mentions(b'ZODB.blob'):
            for _ in self.transactions():
                pass

    def _mentions(self, text):
        """Much faster than reading the transactions."""
        with open(self.name, 'rb') as file:
            end = b''
            while chunk := file.read(1 << 20):
                if text in end + chunk:
                    return True
                end = chunk[-len(text):]
        return False

    def tids(self):
        self._places.clear()
        for place, transaction in self._read(4):
            tid = u64(transaction.tid)
            self._places[tid] = place
            if len(self._places) > 10_000:
                del self._places[next(iter(self._places))]
            yield tid

    def transactions(self, start=0):
        """All from this tid on, which must be one of the last that `tids` gave, or 0."""
        last = 0
        for place, transaction in self._read(self._places[start] if start else 4):
            if u64(transaction.tid) <= last:
                raise MigrationError('%s is damaged: transaction %#018x comes after %#x' % (
                    self.name, u64(transaction.tid), last))
            records = iter(transaction)
            try:
                past = read(self.name, transaction, records)
            except CorruptedError:
                raise self._damaged(records._pos)
            if records._pos != records._tend:       # it only logs that, and ends
                raise self._damaged(records._pos)
            last = past.tid
            yield past

    def _read(self, place):
        """`(where it starts, transaction)`; `position` is where it ends."""
        transactions = FileIterator(self.name, pos=place)
        self.size = transactions._file_size
        try:
            for transaction in transactions:
                self.position = transactions._pos
                yield place, transaction
                place = self.position
        except CorruptedError:
            pass                # a header that is not whole: maybe one on its way
        finally:
            transactions.close()
        if place < self.size and not self._unfinished(place):
            raise self._damaged(place)
        self.position = self.size

    def _unfinished(self, place):
        """Is there only a transaction that was on its way when the file was opened?"""
        with open(self.name, 'rb') as file:
            file.seek(place + 16)
            # A header that is not whole, or one with the mark of a transaction before its end.
            return file.read(1) in (b'', b'c')

    def _damaged(self, place):
        return MigrationError('%s is damaged at byte %d' % (self.name, place))


class NewFileSide(StorageSide):
    """A FileStorage that is written."""

    def __init__(self, path):
        super().__init__(path, FileStorage(path))
