"""A NEO cluster as one side of a migration."""
from collections import deque
from itertools import chain

from transaction.interfaces import TransientError

from .sides import StorageSide


class NEOSide(StorageSide):
    """`unavailable(error)` is called when the cluster, or a part of it, has been lost: it raises
    to give up, else the same is tried again."""

    def __init__(self, name, storage, unavailable):
        super().__init__(name, storage)
        self._unavailable = unavailable

    def check(self):
        """There are no blobs in this version."""

    def _known(self, oid, data, data_tid):
        return oid, data, data_tid      # what it says of data is no hint

    def write(self, batches):
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
