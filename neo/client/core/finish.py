"""*Finish*, what became of it when the primary was lost meanwhile, and the order in which
transactions are told to ZODB (docs/architecture.md, "Reads and caches")."""
from ...cluster.node import handles
from ...protocol import limits
from ...protocol.codec import ProtocolError
from ...protocol.packets import Finish, Invalidate, WhatBecameOf
from ...protocol.types import Ballot, ClusterState, Imported, NodeKind
from .commit import ENDED, FINISHING, VOTED
from ..exception import OutcomeUnknown, TransactionFailed, exception_for
from .operation import Operation


class Finishing(Operation):
    """Result: the tid.  It is the context of its request too."""

    __slots__ = 'transaction', 'internal'

    def __init__(self, transaction):
        super().__init__()
        self.transaction = transaction
        self.internal = transaction.importing is not None

    def send(self, client):
        transaction = self.transaction
        transaction.become(FINISHING)
        imports = transaction.imports
        oids = tuple(sorted(transaction.records))
        if transaction.imposed is not None:
            imports, oids = (Imported(transaction.imposed, oids),), ()
        client.ask(client.primary, Finish(
            transaction.ttid, transaction.table.key, oids, tuple(sorted(transaction.checks)),
            tuple(Ballot(part.storage, part.session) for part in transaction.parts.values()),
            imports), self)

    def written(self):
        transaction = self.transaction
        oids = set(transaction.records)
        oids.update(oid for imported in transaction.imports for oid in imported.oids)
        return sorted(oids)

    def patience(self, client):
        return limits.OUTCOME_TIMEOUT

    def expired(self, client):
        client.fail(self, OutcomeUnknown(
            'the primary was lost while it committed %r, and no other one could tell within '
            '%.0f s what became of it' % (self.transaction, limits.OUTCOME_TIMEOUT)))

    def finished(self, client):
        if self.transaction.importing is not None:
            self.transaction.importing.progress(client, self)

    # -- as the context of Finish ---------------------------------------------------------
    def refused(self, client, peer, error):
        # Nothing has been locked: the storages are to be told when the transaction is aborted.
        self.transaction.become(VOTED)
        error = self.transaction.error = exception_for(error, peer)
        client.fail(self, error)

    def lost(self, client):
        client.outcomes[self.transaction.ttid] = self


class Question:
    """The context of WhatBecameOf."""

    __slots__ = 'ttid',

    def __init__(self, ttid):
        self.ttid = ttid

    def refused(self, client, peer, error):
        client.asked_outcomes.discard(self.ttid)
        client.retry_soon()

    def lost(self, client):
        pass                            # all are asked again at the next primary


def end(client, finishing):
    transaction = finishing.transaction
    transaction.become(ENDED)
    client.transactions.pop(transaction.ttid, None)


@handles(Finish.Answer, sender=NodeKind.MASTER)
def finished(client, peer, answer, finishing):
    tid = answer.tid
    if tid <= client.heard:
        raise ProtocolError('the transaction %#x was told after %#x' % (tid, client.heard))
    transaction = finishing.transaction
    oids = finishing.written()
    for heard, written in transaction.imports or ((tid, oids),):
        client.hear(heard, written)
    if transaction.size <= client.cache.max_size // 2:
        for oid, _, _, compression, _, data, _ in transaction.records.values():
            if data is not None:
                client.cache.add(oid, tid, None, compression, None, data)
    end(client, finishing)
    tell(client, tid, oids, finishing)
    client.succeed(finishing, tid)


@handles(Invalidate, sender=NodeKind.MASTER)
def invalidated(client, peer, packet, request_id):
    if packet.tid <= client.heard:
        raise ProtocolError('the transaction %#x was told after %#x' % (packet.tid, client.heard))
    client.hear(packet.tid, packet.oids)
    tell(client, packet.tid, packet.oids, None)


def tell(client, tid, oids, operation):
    """In tid order; while it is not known what became of own ones, later ones are held back."""
    queue = client.invalidations if client.held is None else client.held
    queue.append((tid, oids, None if operation is None or operation.done or operation.internal
                  else operation))


# -- after a reconnection ---------------------------------------------------------------------
def welcomed(client, history, last_tid):
    """Compare with what was heard before the primary was lost."""
    first = client.history is None
    changed = not first and (history != client.history or last_tid != client.heard)
    if changed and history != client.history:
        client.oids.clear()
    client.history = history
    client.heard = last_tid
    if first:
        client.last_tid = last_tid
    if client.outcomes and client.held is None:
        client.held = []
    if changed:
        client.cache.clear()
        tell(client, last_tid, None, None)


def ask_outcomes(client):
    if client.phase == ClusterState.RUNNING:
        for ttid in client.outcomes:
            if ttid not in client.asked_outcomes:
                client.asked_outcomes.add(ttid)
                client.ask(client.primary, WhatBecameOf(ttid), Question(ttid))


@handles(WhatBecameOf.Answer, sender=NodeKind.MASTER)
def outcome_known(client, peer, answer, question):
    finishing = client.outcomes.pop(answer.ttid, None)
    client.asked_outcomes.discard(answer.ttid)
    if finishing is None:
        return
    end(client, finishing)
    if answer.tid is None:
        client.fail(finishing, TransactionFailed(
            'the primary was lost before it committed this transaction'))
    else:
        # Others may have been committed before it, which this client has not heard of.
        tell(client, answer.tid, None, None)
        tell(client, answer.tid, finishing.written(), finishing)
        client.succeed(finishing, answer.tid)
    if not client.outcomes:
        held, client.held = client.held, None
        client.invalidations.extend(sorted(held, key=lambda told: (told[0], told[1] is not None)))
