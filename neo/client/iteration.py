"""The whole history, transaction by transaction, in bounded memory.

Metadata and records come from several storages, in chunks, each in the order of tids; they are
merged here.  Records are only asked for where somebody iterates over a transaction.
"""
from heapq import merge

from ZODB.BaseStorage import DataRecord, TransactionRecord
from ZODB.utils import p64

from ..protocol.limits import ITERATION_MEMORY
from .core.loads import Regroup


def stream(run, client, rows, position, fetch):
    """All items of these rows from a position on, in order.  `fetch(rows, position)` gives an
    operation of the core.  Rows that one storage can't read any more are split."""
    while position is not None:
        chunk = run(fetch, rows, position)
        if type(chunk) is Regroup:
            yield from merge(*[stream(run, client, group, position, fetch)
                               for group in chunk.groups], key=fetch.order)
            return
        items, position = chunk
        yield from items


class _Transactions:
    """How to fetch metadata; a position is a tid."""

    def __init__(self, client, stop):
        self.client, self.stop = client, stop

    def __call__(self, rows, position):
        return self.client.list_transactions(rows, position, self.stop)

    @staticmethod
    def order(transaction):
        return transaction[0]


class _Records:
    """How to fetch records; a position is (tid, oid or None)."""

    def __init__(self, client, stop):
        self.client, self.stop = client, stop

    def __call__(self, rows, position):
        return self.client.list_records(rows, *position, self.stop)

    @staticmethod
    def order(record):
        return record[1], record[0]


class Iterator:
    """What `Storage.iterator` gives: transactions with start <= tid < stop.

    `run(function, *args)` waits for an operation of `client`; `decode(compression, checksum, data)`
    makes data as the application knows them.  Records of one transaction are kept with it up to
    `keep` bytes, in the order in which they were stored; beyond, they are asked for again each
    time, and come by oid.
    """

    def __init__(self, run, client, decode, start, stop, keep=ITERATION_MEMORY):
        self._run = run
        self._client = client
        self._decode = decode
        self._stop = stop
        self._keep = keep
        self._transactions = self._stream(_Transactions(client, stop), start)
        self._given = 0
        self._expected = 0              # the transaction whose records `_records` comes to next
        self._records = None
        self._record = None             # taken from it, and of a later transaction

    def _stream(self, fetch, position):
        if fetch.stop <= (position if isinstance(position, int) else position[0]):
            return iter(())
        client = self._client
        groups = client.groups()
        return merge(*[stream(self._run, client, rows, position, fetch) for rows in groups],
                     key=fetch.order)

    def __iter__(self):
        return self

    def __next__(self):
        tid, _ttid, status, user, description, extension, oids = next(self._transactions)
        self._given += 1
        return Transaction(self, self._given - 1, tid, status, user, description, extension, oids)

    def close(self):
        self._transactions, self._records = iter(()), None

    def few_records(self, number, tid):
        """The records of a transaction as a list, or None if they are many."""
        if number != self._expected or self._records is None:
            # The first one is asked for alone; if the next one is wanted too, all that follow are.
            follows = number == self._expected
            self._records = self._stream(
                _Records(self._client, self._stop if follows else tid + 1), (tid, None))
            self._record = next(self._records, None)
            if not follows:
                found = self._take(tid)
                self._records, self._expected = None, number + 1
                return found
        self._expected = number + 1
        return self._take(tid)

    def _take(self, tid):
        found, size = [], 0
        record = self._record
        while record is not None and record[1] <= tid:
            if record[1] == tid:
                found.append(record)
                size += len(record[4] or b'') + 100
                if size > self._keep:
                    self._records = None
                    return None
            record = next(self._records, None)
        self._record = record
        return found

    def all_records(self, tid):
        """The records of a transaction, one after another."""
        return self._stream(_Records(self._client, tid + 1), (tid, None))

    def data_record(self, record):
        oid, tid, compression, checksum, data, data_tid = record
        if data is not None:
            data = self._decode(compression, checksum, data, oid, tid)
        return DataRecord(p64(oid), p64(tid), data, None if data_tid is None else p64(data_tid))


class Transaction(TransactionRecord):
    """One transaction; may be iterated over again and again."""

    def __init__(self, iterator, number, tid, status, user, description, extension, oids):
        super().__init__(p64(tid), status, user, description, extension)
        self._iterator = iterator
        self._number = number
        self._tid = tid
        self._oids = oids               # as they were stored
        self._records = None
        self._many = False

    def __iter__(self):
        if self._records is None and not self._many:
            self._records = self._iterator.few_records(self._number, self._tid)
            self._many = self._records is None
            if self._records:
                place = {oid: i for i, oid in enumerate(self._oids)}
                self._records.sort(key=lambda record: place.get(record[0], len(place)))
        records = self._iterator.all_records(self._tid) if self._many else self._records
        return map(self._iterator.data_record, records)
