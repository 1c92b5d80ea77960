"""A NEO cluster as one side of a migration."""
from collections import deque
from itertools import chain

from transaction.interfaces import TransientError
from ZODB.utils import p64, u64

from .sides import StorageSide


class NEOSide(StorageSide):
    """`unavailable(error)` is called when the cluster, or a part of it, has been lost: it raises
    to give up, else the same is tried again."""

    def __init__(self, name, storage, unavailable):
        super().__init__(name, storage)
        self._unavailable = unavailable

    def survey(self, update):
        """There are no blobs in this version, and no ids that a cluster did not take."""
        self.size = 0
        for _ in self.tids():
            self.size += 1
            update(self.size, self.size)

    def tids(self):
        # Records are asked for only where somebody iterates over a transaction.
        return self._steady(lambda start: map(
            lambda transaction: u64(transaction.tid), self.storage.iterator(p64(start))), int)

    def transactions(self, start=0):
        return self._steady(super().transactions, lambda past: past.tid, start)

    def _steady(self, read, tid_of, start=0):
        """What `read(start)` gives, from one transaction to the next whatever is lost meanwhile."""
        while True:
            try:
                for found in read(start):
                    yield found
                    start = tid_of(found) + 1
                return
            except TransientError as error:
                self._unavailable(error)

    def _known(self, oid, data, data_tid):
        return oid, data, data_tid      # what it says of data is no hint

    def write(self, batches):
        """`batches` must raise no TransientError: that would be taken for one of the cluster."""
        under_way = deque()

        def taken():
            for batch in batches:
                under_way.append(batch)
                yield batch

        coming, again = taken(), []
        while True:
            try:
                for _ in self.storage.import_transactions(
                        batch.transactions for batch in chain(again, coming)):
                    yield under_way.popleft()
                return
            except TransientError as error:
                self._unavailable(error)
                # Whatever follows one that has failed has failed as well.
                again = list(under_way)
