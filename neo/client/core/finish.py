"""*Finish*, and what became of it when the primary was lost meanwhile."""
from ...cluster.context import Context
from ...cluster.node import handles
from ...protocol import limits
from ...protocol.codec import ProtocolError
from ...protocol.packets import Finish, Invalidate, WhatBecameOf
from ...protocol.types import MAX_ID, ClusterState, Imported, NodeKind
from ..exception import OutcomeUnknown, TransactionFailed, exception_for
from .catching_up import CatchingUp
from .commit import ENDED, FINISHING, VOTED
from .operation import Operation, failed


class Outcomes:
    """Own transactions in *finish*."""

    def __init__(self):
        # ttid -> its Finishing, from before *finish* is sent until its end is known: whoever
        # replaces this client finds here what it has to ask for.
        self.finishing = {}
        self.unknown = {}               # of these, those in which the primary was lost
        # Those of clients that this one replaces, for whoever waits for them.
        self.inherited = {}
        self._asked = set()             # of these, ttids that the present primary was asked about

    def inherit(self, legacy):
        self.inherited.update(legacy.settled)
        for ttid, oids in legacy.unsettled:
            operation = Finishing(ttid, oids)
            self.inherited[ttid] = self.finishing[ttid] = self.unknown[ttid] = operation

    def find_out(self, ttid):
        """What ends when it is known what became of a transaction of a client that was replaced."""
        operation = self.inherited.get(ttid)
        if operation is None:
            # Else it would have been found there.
            return failed(TransactionFailed('this client was replaced before *finish* was sent'))
        return operation

    def starting(self, client):
        for operation in self.unknown.values():
            client.operations.wait_for(client, operation)

    def lost(self, operation):
        """There will be no answer to its *finish*."""
        self.unknown[operation.ttid] = operation

    def primary_lost(self):
        self._asked.clear()

    def ask(self, client):
        """Ask the primary about those that are unknown."""
        if client.phase == ClusterState.RUNNING:
            for ttid in self.unknown:
                if ttid not in self._asked:
                    self._asked.add(ttid)
                    client.ask(client.primary, WhatBecameOf(ttid), Inquiry(ttid))

    def ask_again(self, client, ttid):
        self._asked.discard(ttid)
        client.operations.retry_soon(client)

    def known(self, client, ttid, tid):
        operation = self.unknown.pop(ttid, None)
        self._asked.discard(ttid)
        if operation is not None:
            if tid is None:
                operation.fail(client, TransactionFailed(
                    'the primary was lost before it committed this transaction'))
            else:
                if not client.told.claim(tid, operation):
                    # Others may have been committed before it, which are not known here.
                    client.told.add(tid, None)
                    client.told.add(tid, operation.oids, operation)
                operation.succeed(client, tid)
            operation.settled(client)
        if not self.unknown:
            client.told.release()
            client.operations.resume_stalled(client)


class Finishing(Operation):
    """Result: the tid.  It is the context of its request too."""

    __slots__ = 'ttid', 'oids', 'transaction', 'internal'

    def __init__(self, ttid, oids, transaction=None):
        """`transaction` is None if another client has sent it, which this one replaces."""
        super().__init__()
        self.ttid = ttid
        self.oids = oids                # written, ascending
        self.transaction = transaction
        self.internal = transaction is not None and transaction.importing is not None

    def send(self, client):
        client.outcomes.finishing[self.ttid] = self
        transaction, imports, oids = self.transaction, self.transaction.imports, self.oids
        if transaction.imposed is not None:
            imports = Imported(transaction.imposed, oids),
        transaction.become(FINISHING)
        client.operations.wait_for(client, self)
        client.ask(client.primary, Finish(
            self.ttid, transaction.table.key, () if imports else oids,
            tuple(sorted(transaction.checks)),
            transaction.ballots(client), imports), self)

    def settled(self, client):
        """It is known what became of it, and so are all who have to know."""
        del client.outcomes.finishing[self.ttid]
        if self.transaction is not None:
            self.transaction.become(ENDED)
            client.forget_transaction(self.transaction)

    def finished(self, client):
        if self.internal:
            self.transaction.importing.finish_ended(client, self)

    def lacks(self, client):
        return client.missing() if self.ttid in client.outcomes.unknown else ''

    def waits_for(self, client):
        if self.ttid in client.outcomes.unknown:
            return '%s, to know what became of transaction %#x' % (
                client.missing() or 'the primary', self.ttid)
        return 'the cluster to commit transaction %#x' % self.ttid

    def patience(self, client):
        return limits.OUTCOME_TIMEOUT

    def expired(self, client):
        self.fail(client, OutcomeUnknown(
            'what became of transaction %#x, for which *finish* was sent, is not known after '
            '%.0f s of waiting for %s' % (self.ttid, client.now - self.since,
                                          self.waits_for(client))))

    # -- as the context of Finish ---------------------------------------------------------
    def answered(self, client, peer, answer):
        fault = self._fault(client, answer)
        if fault:
            client.outcomes.lost(self)
            raise ProtocolError(fault)
        tid, transaction = answer.tid, self.transaction
        for heard, written in transaction.imports or ((tid, self.oids),):
            client.hear(heard, written)
        if transaction.size <= client.cache.max_size // 2:
            for record in transaction.records.values():
                if record.data is not None:
                    client.cache.add(record.oid, tid, None, record.compression, None, record.data)
        client.told.add(tid, self.oids, self)
        self.succeed(client, tid)
        self.settled(client)

    def _fault(self, client, answer):
        transaction = self.transaction
        imposed = transaction.imports[-1].tid if transaction.imports else transaction.imposed
        if answer.ttid != self.ttid or answer.tid != (imposed or answer.tid):
            return 'the answer to finish is of another transaction'
        return tid_fault(client, answer.tid)

    def refused(self, client, peer, error):
        # Nothing has been locked.  Who has committed it may have given up.
        del client.outcomes.finishing[self.ttid]
        self.transaction.become(VOTED)
        error = self.transaction.error = exception_for(error, peer)
        self.fail(client, error)
        client.abort(self.transaction)

    def lost(self, client, peer):
        client.outcomes.lost(self)


class Inquiry(Context):
    """The context of WhatBecameOf."""

    __slots__ = 'ttid',

    def __init__(self, ttid):
        self.ttid = ttid

    def answered(self, client, peer, answer):
        if answer.ttid != self.ttid or not (answer.tid is None or 0 < answer.tid < MAX_ID):
            client.outcomes.ask_again(client, self.ttid)
            raise ProtocolError('what became of transaction %#x makes no sense' % self.ttid)
        client.outcomes.known(client, answer.ttid, answer.tid)

    def refused(self, client, peer, error):
        client.outcomes.ask_again(client, self.ttid)

    # When it is lost, the next primary is asked about all.


def tid_fault(client, tid):
    """What is wrong with the tid of a transaction that has just been committed, or None."""
    if not client.heard < tid < MAX_ID:
        return 'transaction %#x was told after %#x' % (tid, client.heard)


@handles(Invalidate, sender=NodeKind.MASTER)
def invalidated(client, peer, packet, request_id):
    missing = client.catching_up
    if missing is not None:
        missing.later.append((packet.tid, packet.oids))
        return
    fault = tid_fault(client, packet.tid)
    if fault:
        raise ProtocolError(fault)
    client.hear(packet.tid, packet.oids)
    client.told.add(packet.tid, packet.oids)


def welcomed(client, history, last_tid):
    """Compare with what was heard before the primary was lost."""
    first = client.history is None
    changed = client.replaces or not first and history != client.history
    if history != client.history:
        client.oids.clear()
    if not first and not changed and last_tid != client.heard:
        client.catching_up = CatchingUp(client.heard, last_tid)
    else:
        client.heard = last_tid
    if first or last_tid < client.last_tid:     # it was truncated
        client.last_tid = last_tid
    client.history = history            # last: it says that the others are known
    if client.outcomes.unknown:
        client.told.hold()
    if changed:
        client.cache.clear()
        client.told.add(last_tid, None)
        client.replaces = False
