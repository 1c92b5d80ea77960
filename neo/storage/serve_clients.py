"""What a storage does for clients: who may come, and their transactions."""
from ..cluster.node import Refused, handles
from ..protocol import limits
from ..protocol.packets import Abort, Conflict, GaveWay, GiveWay, Identify, Store, Vote
from ..protocol.types import ClusterState, ErrorCode, NodeKind
from . import claims
from .transaction import OPEN, VOTING

CLIENT = NodeKind.CLIENT
RUNNING = ClusterState.RUNNING


class Client:
    """A client that the primary has announced; the `data` of its Peer."""

    __slots__ = 'id', 'peer', 'transactions', 'parked', 'reported'

    def __init__(self, id):
        self.id = id
        self.peer = None            # while it is connected
        self.transactions = {}      # ttid -> Transaction
        self.parked = 0             # reads that wait
        self.reported = False       # as silent, to the primary


def number(id):
    return int(id[1:])


# -- who may come ---------------------------------------------------------------------------
def identify(node, peer, packet, request_id):
    if packet.kind == NodeKind.STORAGE:
        node.filling.sources.links.identify(node, peer, packet, request_id)
        return
    if packet.kind != CLIENT:
        raise Refused(ErrorCode.REFUSED, 'a storage serves clients and storages only')
    if packet.cluster != node.cluster or (
            node.state.cluster_id is not None and packet.cluster_id != node.state.cluster_id):
        raise Refused(ErrorCode.ANOTHER_CLUSTER, 'this is a storage of another cluster')
    if packet.id is None or packet.id[0] != 'C':
        raise Refused(ErrorCode.REFUSED, 'a client gets its id from the primary first')
    if not admit(node, peer, packet, request_id):
        node.waiting[peer.connection] = peer, packet, request_id


def admit(node, peer, packet, request_id):
    """Accept a client which has been announced, refuse one that is gone; False: not known yet."""
    if packet.term < node.state.term:
        raise Refused(ErrorCode.NOT_READY, 'term %d is over' % packet.term)
    if node.phase != RUNNING or packet.term > node.state.term:
        return False
    client = node.clients.get(packet.id)
    if client is None:
        # Numbers grow within a term, and are announced in that order.
        if number(packet.id) <= node.last_announced:
            raise Refused(ErrorCode.NOT_READY, '%s is gone' % packet.id)
        return False
    if client.peer is not None:
        # It has lost its former connection, and this node has not heard of that yet.
        former = client.peer
        node.close(former)
        disconnected(node, former)
    client.peer, peer.data = peer, client
    state = node.state
    node.accept(peer, CLIENT, client.id)
    node.answer(peer, request_id, Identify.Answer(
        node.id, client.id, state.cluster_id, state.history, node.term, node.session, 0,
        state.partitions))
    return True


def admit_waiting(node):
    """Who was not announced before may be now, or be late."""
    for connection, (peer, packet, request_id) in list(node.waiting.items()):
        try:
            admitted = admit(node, peer, packet, request_id)
        except Refused as refusal:
            refuse(node, peer, request_id, refusal)
            admitted = True
        if admitted:
            node.waiting.pop(connection, None)


def announced(node, id):
    if id not in node.clients and number(id) > node.last_announced:
        node.clients[id] = Client(id)
        node.last_announced = number(id)


def removed(node, id):
    """It is gone for good: nothing of it stays but what is locked."""
    node.last_announced = max(node.last_announced, number(id))
    client = node.clients.pop(id, None)
    if client is None:
        return
    if client.peer is not None:
        peer = client.peer
        node.close(peer)
        drop_parked(node, peer)
        client.peer = None
    forget(node, [txn for txn in client.transactions.values() if txn.tid is None])


def disconnected(node, peer):
    """What it voted is kept until it says more, or is gone."""
    client = peer.data
    client.peer = None
    drop_parked(node, peer)
    forget(node, [txn for txn in client.transactions.values()
                  if txn.state in (OPEN, VOTING)])
    tell(node)


def refuse(node, peer, request_id, refusal):
    node.refuse(peer, request_id, refusal.error, str(refusal))


def forget(node, transactions):
    for txn in transactions:
        node.transactions.forget(txn)
    node.tidy()


# -- reads that wait ------------------------------------------------------------------------
def park(node, peer, packet, request_id, ttid):
    """Serve this again when transaction `ttid` is unlocked."""
    if peer.data.parked >= limits.MAX_PARKED:
        raise Refused(ErrorCode.NOT_READY, 'too many requests wait')
    peer.data.parked += 1
    node.parked.setdefault(ttid, []).append((peer, packet, request_id))


def unpark(node, ttid):
    for peer, packet, request_id in node.parked.pop(ttid, ()):
        peer.data.parked -= 1
        try:
            node.handlers[packet.code, peer.kind, RUNNING](node, peer, packet, request_id)
        except Refused as refusal:
            refuse(node, peer, request_id, refusal)


def drop_parked(node, peer):
    for ttid, parked in list(node.parked.items()):
        node.parked[ttid] = kept = [request for request in parked if request[0] is not peer]
        if not kept:
            del node.parked[ttid]
    peer.data.parked = 0


# -- transactions -----------------------------------------------------------------------------
def keep(node, peer, packet, txn):
    """Take part in what was checked; returns its transaction."""
    transactions = node.transactions
    if txn is None:
        txn = transactions.begin(packet.ttid, peer.data)
    txn.heard = node.now
    if transactions.store(txn, packet.records, packet.checks):
        node.lazily()
    return txn


@handles(Store, sender=CLIENT, phase=RUNNING)
def store(node, peer, packet, request_id):
    txn = claims.open_for_stores(node, peer, packet.ttid)
    size = claims.stores(node, txn, packet)
    if packet.records:
        node.space.promise(packet.ttid, size, len(packet.records))
    txn = keep(node, peer, packet, txn)
    if txn.trouble is None:
        node.answer(peer, request_id, Store.Answer(packet.ttid))
    else:
        refuse(node, peer, request_id, node.conditions.broken(txn.trouble))
    tell(node)


@handles(Vote, sender=CLIENT, phase=RUNNING)
def vote(node, peer, packet, request_id):
    txn = claims.open_for_stores(node, peer, packet.ttid)
    size = claims.stores(node, txn, packet) + claims.vote(node, txn, packet)
    if size or packet.records or packet.transactions:
        node.space.promise(packet.ttid, size, len(packet.records) + len(packet.transactions))
    txn = keep(node, peer, packet, txn)
    node.transactions.vote(txn, request_id, packet.transactions)
    tell(node)


@handles(GaveWay, sender=CLIENT, phase=RUNNING)
def gave_way(node, peer, packet, request_id):
    txn = node.transactions.by_ttid.get(packet.ttid)
    # Else it has ended meanwhile, or never was what the client thinks.
    if txn is not None and txn.client is peer.data and txn.tid is None and packet.round > txn.round:
        txn.heard = node.now
        node.transactions.give_way(txn, packet.round)
        tell(node)


@handles(Abort, sender=CLIENT, phase=RUNNING)
def abort(node, peer, packet, request_id):
    ended = [txn for txn in map(node.transactions.by_ttid.get, dict.fromkeys(packet.ttids))
             if txn is not None and txn.client is peer.data and txn.tid is None]
    for txn in ended:
        if txn.vote is not None:
            node.refuse(peer, txn.vote, ErrorCode.UNKNOWN_TTID, 'aborted')
            txn.vote = None
    forget(node, ended)
    tell(node)


def tell(node):
    """Send to clients what became of locks, conflicts and votes."""
    transactions = node.transactions
    if node.filling.copied:
        node.filling.tell(node)
    if transactions.locks.contended:
        node.silence.watch()
    if transactions.in_the_way:
        asked, transactions.in_the_way = transactions.in_the_way, []
        for txn in asked:
            if txn.client.peer is not None:
                node.send(txn.client.peer, GiveWay(txn.ttid))
    if transactions.conflicts:
        conflicts, transactions.conflicts = transactions.conflicts, {}
        for txn, found in conflicts.items():
            if txn.client.peer is not None:
                node.send(txn.client.peer, Conflict(txn.ttid, txn.round, found))
    if transactions.votes:
        votes, transactions.votes = transactions.votes, []
        for txn, request_id in votes:
            peer, trouble = txn.client.peer, txn.trouble
            if peer is None:
                pass
            elif trouble is not None:
                refuse(node, peer, request_id, node.conditions.broken(trouble))
            else:
                node.answer(peer, request_id, Vote.Answer(txn.ttid, txn.round))
