"""Nodes with a bug each, to see whether the oracles find it."""
from neo.client.core.client import Client
from neo.cluster.events import Send
from neo.cluster.node import handles
from neo.master.node import Master
from neo.master.transactions import Transactions
from neo.protocol.packets import Lock, NodesChanged, ReserveOids, Settle, WhatBecameOf
from neo.protocol.types import NodeKind
from neo.storage import serve_master
from neo.storage.node import Storage

MASTER, CLIENT = NodeKind.MASTER, NodeKind.CLIENT


def with_handler(base, function):
    """The class `base` with another handler for a packet."""
    handlers = dict(base.handlers)
    for code, kind, phase in function.handled:
        handlers = {key: value for key, value in handlers.items() if key[:2] != (code, kind)}
    handlers.update({key: function for key in function.handled})
    return type('Wrong' + base.__name__, (base,), {'handlers': handlers})


# -- the client is told before the last storage has locked --------------------------------------
class HastyTransactions(Transactions):

    def finish(self, *args):
        transaction = super().finish(*args)
        while len(transaction.waiting) > 1:
            transaction.waiting.discard(max(transaction.waiting, key=lambda peer: peer.id))
        return transaction


class HastyMaster(Master):

    def serve(self, *args):
        super().serve(*args)
        self.transactions.__class__ = HastyTransactions


# -- a lock is answered before it is durable ----------------------------------------------------
class VolatileLocks(Storage):

    def ready(self):
        batch = super().ready()
        if any(type(effect) is Send and type(effect.packet) is Lock.Answer
               for effect in batch.effects):
            batch.commit = False
        return batch


# -- nobody compares the base of a record -------------------------------------------------------
class CarelessStorage(Storage):

    def __init__(self, *args):
        super().__init__(*args)
        self.transactions._compare = lambda txn, oid: txn.conflicts.discard(oid)


# -- serial checks are done, and not kept until the end -----------------------------------------
class ForgetfulOfChecks(Storage):

    def __init__(self, *args):
        super().__init__(*args)
        take = self.transactions._take

        def take_no_shared(txn, oid, shared):
            if not shared or oid in txn.writes:
                take(txn, oid, shared)
            else:
                self.transactions._compare(txn, oid)
        self.transactions._take = take_no_shared


# -- locks of clients that are gone stay ----------------------------------------------------------
@handles(NodesChanged, sender=MASTER)
def keep_gone_clients(node, peer, packet, request_id):
    serve_master.nodes_changed(node, peer, NodesChanged(packet.nodes, ()), request_id)


# -- the mark of the oids is not kept -------------------------------------------------------------
@handles(ReserveOids, sender=MASTER)
def reserve_nothing(node, peer, packet, request_id):
    node.answer(peer, request_id, ReserveOids.Answer(packet.mark))


# -- "certainly not" is said too early ------------------------------------------------------------
@handles(WhatBecameOf, sender=CLIENT)
def deny(master, peer, packet, request_id):
    master.answer(peer, request_id, WhatBecameOf.Answer(packet.ttid, None))


# -- recovery drops what is locked ----------------------------------------------------------------
@handles(Settle, sender=MASTER)
def drop_all(node, peer, packet, request_id):
    node.transactions.settle(())
    node.durable()
    node.answer(peer, request_id, Settle.Answer(node.engine.last_tid()))


# -- a client does not look at all invalidations --------------------------------------------------
class DeafClient(Client):

    def hear(self, tid, oids):
        super().hear(tid, oids[:1])


PLANTS = {
    'a lock is not durable': {'storage': VolatileLocks},
    'told before the last lock': {'master': HastyMaster},
    'no base is compared': {'storage': CarelessStorage},
    'a serial check is not locked': {'storage': ForgetfulOfChecks},
    'locks of gone clients stay': {'storage': with_handler(Storage, keep_gone_clients)},
    'oids are not reserved': {'storage': with_handler(Storage, reserve_nothing)},
    'a committed transaction is denied': {'master': with_handler(Master, deny)},
    'recovery drops what is locked': {'storage': with_handler(Storage, drop_all)},
    'a client ignores invalidations': {'client': DeafClient},
}
