"""Transactions that exist elsewhere, committed with their tids."""
from operator import index

from ZODB.blob import is_blob_record
from ZODB.utils import u64

from .commits import checked_status, described
from .core.client import Client
from .exception import ClientReplaced, NEOStorageError
from .records import pack

WINDOW = 2              # batches that are on their way at once
# Transactions travel in batches: large enough for the cost of a commit not to show, small enough to
# be held in memory a few times, and to be stopped between two.
BATCH_BYTES = 1 << 20
BATCH_TRANSACTIONS = 1000
BATCH_RECORDS = 5000
OVERHEAD = 64           # bytes of a record beside its data


def batches(transactions, most=BATCH_TRANSACTIONS):
    """Lists of transactions of about BATCH_BYTES; one that is larger comes alone.  Each is what
    `Storage.import_transactions` wants it to be."""
    batch, size, count = [], 0, 0
    for transaction in transactions:
        _, _, user, description, extension, records = transaction
        weight = len(user) + len(description) + len(extension) + OVERHEAD * len(records)
        weight += sum([len(data) for _, data, _ in records if data is not None])
        if batch and (size + weight > BATCH_BYTES or len(batch) == most
                      or count + len(records) > BATCH_RECORDS):
            yield batch
            batch, size, count = [], 0, 0
        batch.append(transaction)
        size += weight
        count += len(records)
    if batch:
        yield batch


class Imports:

    def __init__(self, access, compress):
        self._access = access
        self._compress = compress

    def run(self, batches):
        """Yields the last tid of each batch; see `Storage.import_transactions`."""
        session, under_way, last = self._access.current(), [], None
        for batch in batches:
            prepared = [self._prepared(*transaction) for transaction in batch]
            if prepared:
                try:
                    last = session.call(Client.import_batch, prepared, last)
                except ClientReplaced:
                    # Who goes on after this has to know how far it came.
                    yield from self._rest(session, under_way)
                    raise
                under_way.append(last)
            if len(under_way) == WINDOW:
                yield self._imported(session, under_way.pop(0))
        yield from self._rest(session, under_way)

    def _rest(self, session, under_way):
        for operation in under_way:
            yield self._imported(session, operation)

    def _prepared(self, tid, status, user, description, extension, records):
        tid, compress = index(tid), self._compress
        return (tid, checked_status(status), bytes(user), bytes(description), bytes(extension),
                [pack(compress, index(oid), None, tid, data,
                      None if data_tid is None else index(data_tid))
                 for oid, data, data_tid in records])

    def _imported(self, session, operation):
        try:
            tid = session.run(lambda core: operation)
        except ClientReplaced:
            tid = self._access.repeat(lambda successor: successor.run(Client.find_out, operation))
        self._access.delivery.deliver()
        return tid


def past(transaction):
    """One of another storage, to be imported; NEOStorageError if a blob belongs to it."""
    records = [(u64(record.oid), record.data, None) for record in transaction]
    for oid, data, _ in records:
        if data is not None and is_blob_record(data):
            raise NEOStorageError('object %#x is a blob: blobs are not available in this version'
                                  % oid)
    return u64(transaction.tid), transaction.status, *described(transaction), records
