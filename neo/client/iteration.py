"""The whole history, transaction by transaction, in bounded memory.

Metadata and records come from several storages, in chunks, each in the order of tids; they are
merged here.  Records are only asked for where somebody iterates over a transaction.
"""
from heapq import merge
from operator import attrgetter

from ZODB.BaseStorage import DataRecord, TransactionRecord
from ZODB.utils import p64

from ..protocol.limits import ITERATION_MEMORY
from .core.loads import Regroup
from .exception import NEOStorageError

RECORD_OVERHEAD = 100           # bytes that are kept of a record beside its data
OID = attrgetter('oid')


class Stream:
    """An iterator that, once it has failed, fails again: its end is an end, and nothing else."""

    def __init__(self, items):
        self._items = items
        self._failure = None

    def __iter__(self):
        return self

    def __next__(self):
        if self._failure is not None:
            raise NEOStorageError('the iteration has failed before: %s' % self._failure)
        try:
            return next(self._items)
        except StopIteration:
            raise
        except BaseException as error:
            self._failure = '%s: %s' % (type(error).__name__, error)
            raise


def stream(run, rows, position, fetch):
    """All items of these rows from a position on, in order.  Rows that one storage can't read any
    more are split."""
    while position is not None:
        chunk = run(fetch, rows, position)
        if type(chunk) is Regroup:
            yield from merge(*[stream(run, group, position, fetch) for group in chunk.groups],
                             key=fetch.order)
            return
        items, position = chunk
        yield from items


class _Transactions:
    """How to fetch metadata from a core; a position is a tid."""

    def __init__(self, stop):
        self.stop = stop

    def __call__(self, core, rows, position):
        return core.list_transactions(rows, position, self.stop)

    @staticmethod
    def order(transaction):
        return transaction.tid


class _Records:
    """How to fetch records from a core; a position is (tid, oid or None)."""

    def __init__(self, stop):
        self.stop = stop

    def __call__(self, core, rows, position):
        return core.list_records(rows, *position, self.stop)

    @staticmethod
    def order(record):
        return record.tid, record.oid


class Iterator:
    """What `Storage.iterator` gives: transactions with start <= tid < stop.

    `run(function, *args)` waits for the operation that `function(core, *args)` gives; `groups()`
    are all rows, grouped by a storage that can read them now; `decode(compression, checksum, data,
    oid, tid)` makes data as the application knows them.  Records of one transaction are kept with
    it up to `keep` bytes, in the order in which they were stored; beyond, they are asked for again
    each time, and come by oid.
    """

    def __init__(self, run, groups, decode, start, stop, keep=ITERATION_MEMORY):
        self._run = run
        self._groups = groups
        self._decode = decode
        self._stop = stop
        self._keep = keep
        self._transactions = Stream(self._stream(_Transactions(stop), start))
        self._given = 0
        self._expected = 0              # the transaction whose records `_records` comes to next
        self._records = None
        self._record = None             # taken from it, and of a later transaction

    def _stream(self, fetch, position):
        if fetch.stop <= (position if isinstance(position, int) else position[0]):
            return iter(())
        return merge(*[stream(self._run, rows, position, fetch) for rows in self._groups()],
                     key=fetch.order)

    def __iter__(self):
        return self

    def __next__(self):
        metadata = next(self._transactions)
        self._given += 1
        return Transaction(self, self._given - 1, metadata)

    def close(self):
        self._transactions, self._records = iter(()), None

    def few_records(self, number, tid):
        """The records of a transaction as a list, or None if they are many."""
        try:
            if number == self._expected and self._records is not None:
                return self._take(number, tid)
            # The first one is asked for alone; if the next one is wanted too, all that follow are.
            follows = number == self._expected
            self._records = self._stream(_Records(self._stop if follows else tid + 1), (tid, None))
            self._record = next(self._records, None)
            found = self._take(number, tid)
            if not follows:
                self._records = None
            return found
        except BaseException:
            self._records = None        # whoever asks again gets all of it, or fails again
            raise

    def _take(self, number, tid):
        self._expected = number + 1
        found, size, keep, records = [], 0, self._keep, self._records
        record = self._record
        while record is not None and record.tid <= tid:
            if record.tid == tid:
                found.append(record)
                size += len(record.data or b'') + RECORD_OVERHEAD
                if size > keep:
                    self._records = None
                    return None
            record = next(records, None)
        self._record = record
        return found

    def all_records(self, tid):
        """The records of a transaction, one after another."""
        return self._stream(_Records(tid + 1), (tid, None))

    def data_record(self, record):
        oid, tid, compression, checksum, data, data_tid = record
        if data is not None:
            data = self._decode(compression, checksum, data, oid, tid)
        return DataRecord(p64(oid), p64(tid), data, None if data_tid is None else p64(data_tid))


class Transaction(TransactionRecord):
    """One transaction; may be iterated over again and again."""

    def __init__(self, iterator, number, metadata):
        super().__init__(p64(metadata.tid), metadata.status, metadata.user, metadata.description,
                         metadata.extension)
        self._iterator = iterator
        self._number = number
        self._tid = metadata.tid
        self._oids = metadata.oids      # as they were stored
        self._records = None
        self._many = False

    def __iter__(self):
        if self._records is None and not self._many:
            self._records = self._iterator.few_records(self._number, self._tid)
            self._many = self._records is None
            if self._records and tuple(map(OID, self._records)) != self._oids:
                place = {oid: i for i, oid in enumerate(self._oids)}
                self._records.sort(key=lambda record: place.get(record.oid, len(place)))
        records = self._iterator.all_records(self._tid) if self._many else self._records
        return Stream(map(self._iterator.data_record, records))
