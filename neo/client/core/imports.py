"""Many transactions that exist already, with their tids, committed as one."""
from ...protocol.types import MAX_ID, MAX_OID, Imported
from ..exception import NEOStorageError, TransactionFailed
from .commit import VOTED
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

    @property
    def ttid(self):
        return self.transaction and self.transaction.ttid

    def resume(self, client):
        if client.can_begin():
            transaction = self.transaction = client.new_transaction()
            transaction.waited, transaction.importing = self.waited, self
            self.records = iter([record for *_, records in self.batch for record in records])
            self._describe(transaction)
            self.batch = None
            self._store(client)
        else:
            client.operations.stall(self)
            client.ttids.refill(client)

    def _describe(self, transaction):
        imports = []
        for tid, status, user, description, extension, records in self.batch:
            oids = tuple(dict.fromkeys([record.oid for record in records]))
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

    def vote_ended(self, client, operation):
        """More can be stored, or all storages have voted and its turn has come; or neither will
        ever be."""
        transaction = self.transaction
        if operation.error is not None:
            self.fail(client, operation.error)
        elif operation.result:
            self.fail(client, NEOStorageError('imported records conflict: %r' % operation.result))
        elif transaction.state == VOTED:
            client.finish(transaction)
        else:
            self._store(client)

    def finish_ended(self, client, operation):
        if operation.error is not None:
            self.fail(client, operation.error)
        else:
            self.succeed(client, operation.result)

    def finished(self, client):
        if self.error is not None and self.transaction is not None:
            client.abort(self.transaction)
        client.imports.ended(client, self)

    def waits_for(self, client):
        if self.transaction is None:
            return super().waits_for(client)
        return 'its records to be committed'

    def counts(self, client):
        return self.transaction is None     # its vote and its finish have their own limits


class Imports:
    """Those that have not ended, in their order."""

    def __init__(self):
        self.queue = []

    def begin(self, client, batch, after=None):
        """`after` is the import that this one follows, which may have ended meanwhile."""
        if after is not None and after.error is not None:
            return failed(TransactionFailed(FOLLOWS_FAILED))
        fault = _fault(batch)
        if fault:
            return failed(NEOStorageError(fault))
        importing = Import(batch)
        self.queue.append(importing)
        return client.attempt(importing)

    def is_next(self, importing):
        return self.queue[0] is importing

    def ended(self, client, importing):
        if importing not in self.queue:
            return                      # it has failed with one before it
        i = self.queue.index(importing)
        following = self.queue[i + 1:]
        if importing.error is not None:
            del self.queue[i:]
            for other in following:
                other.fail(client, TransactionFailed(FOLLOWS_FAILED))
        else:
            del self.queue[i]
            if following and following[0].transaction is not None:
                following[0].transaction.end_vote(client)


def _fault(batch):
    """Why it can't be imported, or None."""
    last = 0
    for tid, *_, records in batch:
        if not last < tid < MAX_ID:
            return 'transactions to import must have increasing tids: %#x follows %#x' % (tid, last)
        for oid, _, _, _, _, _, data_tid in records:
            if not 0 <= oid <= MAX_OID:
                return 'object %#x is above the limit of %#x' % (oid, MAX_OID)
            if data_tid is not None and not 0 <= data_tid < tid:
                return 'the data of object %#x can not be those of %#x' % (oid, data_tid)
        last = tid
