"""A NEO cluster as one side of a migration."""
from collections import deque

from transaction.interfaces import TransientError

from ..protocol.checksum import checksum
from .sides import MigrationError, StorageSide

# Batches that are on their way at once: while one is made durable, others are read, sent and
# received.
WINDOW = 4


class Flight:
    """A batch on its way."""

    __slots__ = 'transactions', 'done', 'operation'

    def __init__(self, transactions, done):
        self.transactions, self.done, self.operation = transactions, done, None


class NEOSide(StorageSide):
    """`unavailable(error)` is called when the cluster, or a part of it, has been lost: it raises
    to give up, else the same is tried again."""

    def __init__(self, name, storage, unavailable):
        super().__init__(name, storage)
        self._unavailable = unavailable
        self._flights = deque()

    def check(self):
        """There are no blobs in this version."""

    def _known(self, oid, data, data_tid):
        return oid, data, data_tid

    # -- as a destination ---------------------------------------------------------------------
    def write(self, batch, done):
        flight = Flight([self._prepared(past) for past in batch], done)
        self._flights.append(flight)
        self._begin(flight)
        while len(self._flights) >= WINDOW:
            self._end_first()

    def flush(self):
        while self._flights:
            self._end_first()

    def _prepared(self, past):
        """As the core of the client takes it."""
        encode = self.storage.encode
        records = []
        for oid, data, data_tid in past.revisions:
            if data_tid is None and data is not None:
                compression, data = encode(data)
                records.append((oid, None, past.tid, compression, checksum(data), data, None))
            else:
                # The data are at that tid; or there are none.
                records.append((oid, None, past.tid, 0, checksum(None), None, data_tid))
        return (past.tid, past.status, past.user, past.description, past.extension, records)

    def _begin(self, flight):
        flight.operation = self.storage.begin_import(flight.transactions)

    def _end_first(self):
        flight = self._flights[0]
        try:
            self.storage.end_import(flight.operation)
        except TransientError as error:
            self._begin_again(error)
        else:
            self._flights.popleft()
            flight.done()

    def _begin_again(self, error):
        """Those after one that failed fail as well, so that there is never a hole."""
        for flight in list(self._flights)[1:]:
            try:
                self.storage.end_import(flight.operation)
            except TransientError:
                pass
            else:
                raise MigrationError('a later batch was committed, and an earlier one was not: %s'
                                     % error)
        self._unavailable(error)
        for flight in self._flights:
            self._begin(flight)
