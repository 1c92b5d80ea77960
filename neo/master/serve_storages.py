"""What a running master does for its storages."""
from ..cluster.node import handles
from ..protocol.packets import (ClientIsSilent, Error, Finish, Invalidate, Lock, ReserveOids,
                                Unlock, WhatBecameOf)
from ..protocol.types import ClusterState, NodeKind
from . import recovery, serve_clients

SERVING = ClusterState.RUNNING, ClusterState.STOPPING
STORAGE = NodeKind.STORAGE


@handles(Lock.Answer, sender=STORAGE)
def transaction_locked(master, peer, answer, term):
    if term != master.term or master.transactions is None:
        return
    # Several may end at once: a slow storage holds back every higher tid.
    for transaction in master.transactions.locked(answer.ttid, peer.id):
        tell(master, transaction)
    if master.phase == ClusterState.STOPPING:
        recovery.stopping(master)


def tell(master, transaction):
    """Everybody may hear of it, and then its storages may show it."""
    client = transaction.client
    if master.joined.get(client.id) is client:
        master.answer(client, transaction.request_id,
                      Finish.Answer(transaction.ttid, transaction.tid))
    for tid, oids in transaction.changes:
        master.tell_clients(Invalidate(tid, oids), but=client)
    for id in transaction.storages:
        master.send(master.joined[id], Unlock(transaction.ttid))
    serve_clients.outcome_known(master, transaction)


@handles(ReserveOids.Answer, sender=STORAGE)
def oids_reserved(master, peer, answer, context):
    waiting, term = context
    if term == master.term and master.oids is not None:
        waiting.discard(peer.id)
        if not waiting:
            master.oids.reserved(answer.mark)
            serve_clients.give_oids(master)


@handles(WhatBecameOf.Answer, sender=STORAGE)
def outcome_answered(master, peer, answer, question):
    question.answered(master, peer, answer)


@handles(ClientIsSilent, sender=STORAGE, phase=SERVING)
def client_is_silent(master, peer, packet, request_id):
    client = master.joined.get(packet.client)
    if client is not None and client.kind == NodeKind.CLIENT:
        master.drop(client, 'it blocks others, and says nothing')


@handles(Error, sender=STORAGE)
def request_failed(master, peer, error, context):
    """A storage that can't do what it must is no use: it comes back through recovery."""
    master.drop(peer, 'it failed: %s' % error.message)
