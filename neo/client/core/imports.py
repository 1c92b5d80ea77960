"""Many transactions that exist already, with their tids, committed as one."""
from ...protocol.types import Imported
from .commit import ENDED, FINISHING, OPEN
from ..exception import ClusterUnavailable, NEOStorageError, TransactionFailed
from .finish import Finishing
from .operation import Operation, failed

FOLLOWS_FAILED = 'an import before this one has failed'


class Import(Operation):
    """Result: the last tid.  Several may be under way: they are finished one after another, in
    the order in which they were begun; after one has failed, all that follow do.  So what is
    there can be told by the last tid."""

    __slots__ = 'batch', 'records', 'transaction'

    def __init__(self, batch):
        super().__init__()
        self.batch = batch
        self.records = None             # those that have not been stored
        self.transaction = None

    def resume(self, client):
        if client.can_begin():
            transaction = self.transaction = client.new_transaction()
            transaction.importing = self
            self.records = iter([record for *_, records in self.batch for record in records])
            self._describe(transaction)
            self.batch = None
            self._store(client)
        else:
            client.stall(self)

    def _describe(self, transaction):
        imports = []
        for tid, status, user, description, extension, records in self.batch:
            oids = tuple(dict.fromkeys(record.oid for record in records))
            transaction.set_metadata((status, user, description, extension), tid, oids)
            imports.append(Imported(tid, oids))
        transaction.imports = tuple(imports)

    def _store(self, client):
        """As far as storages keep up, then vote."""
        transaction = self.transaction
        for record in self.records:
            if not transaction.add(client, record, internal=True).done:
                return
        transaction.vote(client, internal=True)

    def progress(self, client, operation):
        """More can be stored, or the vote or the finish of its transaction has ended."""
        if self.done:
            return                      # it has failed, and takes its transaction with it
        transaction = self.transaction
        if operation.error is None and transaction.state < FINISHING and operation.result:
            operation.error = NEOStorageError('imported records conflict: %r' % operation.result)
        if operation.error is not None:
            self._failed(client, operation.error)
        elif transaction.state == ENDED:
            client.imports.remove(self)
            client.succeed(self, operation.result)
            if client.imports and client.imports[0].transaction is not None:
                client.imports[0].transaction.end_vote(client)
        elif transaction.state == OPEN:
            self._store(client)
        else:
            client.start_finish(transaction, Finishing(transaction))

    def is_next(self, client):
        return client.imports[0] is self

    def _failed(self, client, error):
        following = client.imports[client.imports.index(self):] if self in client.imports else []
        for other in following:
            client.imports.remove(other)
        client.fail(self, error)
        for other in following[1:]:
            client.fail(other, TransactionFailed(FOLLOWS_FAILED))

    def finished(self, client):
        if self.transaction is not None and self.error is not None:
            client.abort(self.transaction)

    def expired(self, client):
        if self.transaction is None:
            self._failed(client, ClusterUnavailable(client.unavailable()))
        else:
            self.deadline = None        # its vote and its finish have their own limits


def begin(client, batch, after=None):
    """`after` is the import that this one follows, which may have ended meanwhile."""
    if after is not None and after.error is not None:
        return failed(TransactionFailed(FOLLOWS_FAILED))
    last = 0
    for tid, *_ in batch:
        if tid <= last:
            raise ValueError('transactions to import must have increasing tids')
        last = tid
    importing = Import(batch)
    client.imports.append(importing)
    return client.attempt(importing)


