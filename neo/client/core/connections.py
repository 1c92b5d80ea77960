"""The connections of a client: one to the primary, and one to each storage it has announced."""
from collections import deque

from ...cluster.addresses import readable
from ...cluster.node import handles
from ...cluster.partition_table import PartitionTable
from ...cluster.seek import FINAL, BackOff
from ...protocol import limits
from ...protocol.packets import Abort, Error, Identify, NodesChanged, TableChanged
from ...protocol.types import ClusterState, NodeKind, NodeState
from ..exception import ClusterRefused


class Link:
    """A storage, as the primary has announced it, and the connection to it."""

    __slots__ = ('id', 'address', 'running', 'connecting', 'peer', 'session', 'back_off',
                 'aborted')

    def __init__(self, id):
        self.id = id
        self.address = None
        self.running = False
        self.connecting = False         # or connected and not accepted yet
        self.peer = None                # once it has accepted this client
        self.session = 0                # in which what it votes counts
        self.back_off = BackOff()
        self.aborted = deque()          # (when, ttid): lately, on this connection

    def abort(self, client, ttids):
        """Have it forget transactions.  A connection may be lost with this message in it: then it
        is told again on the next one.  Nothing is in flight for longer than a dead peer is kept."""
        aborted = self.aborted
        while aborted and aborted[0][0] < client.now - 2 * limits.PEER_TIMEOUT:
            aborted.popleft()
        aborted.extend((client.now, ttid) for ttid in ttids)
        client.send(self.peer, Abort(tuple(ttids)))

    def refused(self, client, peer, error):
        """As the context of Identify."""
        client.trouble = '%s: %s' % (self.id, error.message)
        client.close(peer)
        link_lost(client, self, error.message)

    def lost(self, client):
        pass                            # `Client.lost` sees to it


class Greeting:
    """The context of Identify to the primary."""

    def refused(self, client, peer, error):
        client.close(peer)
        primary_lost(client, error.message)
        if error.error in FINAL:
            client.fail_all(ClusterRefused('%s:%s: %s' % (*peer.address, error.message)))

    def lost(self, client):
        pass


def greet(client, peer, context):
    client.ask(peer, Identify(
        NodeKind.CLIENT, client.id, client.identity, client.cluster, client.cluster_id,
        client.history, client.term, '', None, client.now), context)


def connected(client, peer):
    if peer.address == client.seek.address:
        peer.kind = NodeKind.MASTER
        greet(client, peer, Greeting())
        return
    for link in client.storages.values():
        if link.address == peer.address and link.connecting and not any(
                other.data is link for other in client.peers.values()):
            peer.kind = NodeKind.STORAGE
            peer.data = link
            greet(client, peer, link)
            return
    client.close(peer)                  # gone meanwhile


def connect_failed(client, address, reason):
    client.trouble = 'no connection to %s: %s' % (readable(address), reason)
    if address == client.seek.address:
        client.seek.failed(client, reason)
        return
    for link in client.storages.values():
        if link.address == address and link.connecting:
            link_lost(client, link, reason)


def lost(client, peer, reason):
    if peer.kind == NodeKind.MASTER:
        client.trouble = 'the connection to the primary at %s:%s was lost: %s' % (
            *peer.address, reason)
        primary_lost(client, reason)
    elif peer.data is not None:
        client.trouble = 'the connection to %s was lost: %s' % (peer.data.id, reason)
        link_lost(client, peer.data, reason)
    drop_requests(client, peer)


def drop_requests(client, peer):
    requests, peer.requests = peer.requests, {}
    for _, context in requests.values():
        if context is not None:
            context.lost(client)


def primary_lost(client, reason):
    """Nothing counts any more that was not in *finish*; all begins anew when one is back."""
    if client.phase == ClusterState.RUNNING:
        client.log('the primary is lost (%s): reconnecting', reason)
    client.phase = ClusterState.RECOVERING
    client.primary = None
    client.seek.failed(client, reason)
    for id in list(client.storages):
        drop_link(client, id, 'the primary is lost')
    client.without_primary(reason)


def drop_link(client, id, reason):
    link = client.storages.pop(id)
    peers = [peer for peer in client.peers.values() if peer.data is link]
    link.running = False
    link_lost(client, link, reason)
    for peer in peers:
        client.close(peer)
        drop_requests(client, peer)


def link_lost(client, link, reason):
    link.connecting = False
    if link.peer is not None:
        link.peer = None
        client.storage_lost(link, reason)
    if link.running:
        client.set_timer('link ' + link.id, client.now + link.back_off.next())


def connect_link(client, id):
    """Connect to a storage, unless that is done or under way."""
    link = client.storages.get(id)
    if link is not None and link.running and not link.connecting and link.peer is None:
        link.connecting = True
        client.connect(link.address)


@handles(Identify.Answer, sender=NodeKind.MASTER)
def identified_by_primary(client, peer, answer, greeting):
    if client.cluster_id not in (None, answer.cluster_id):
        client.close(peer)
        primary_lost(client, 'it is of another cluster')
        client.fail_all(ClusterRefused('the cluster at %s:%s is another one than before, of the '
                                       'same name' % peer.address))
    elif answer.term < client.term:
        client.close(peer)
        primary_lost(client, 'its term is over')
    else:
        client.accept(peer, NodeKind.MASTER, answer.id)
        client.seek.found()
        client.id, client.primary = answer.your_id, peer
        client.cluster_id, client.term = answer.cluster_id, answer.term
        client.welcomed(answer.history, answer.last_tid)


@handles(NodesChanged, sender=NodeKind.MASTER)
def nodes_changed(client, peer, packet, request_id):
    for info in packet.nodes:
        if info.kind == NodeKind.STORAGE:
            node_changed(client, info.id, info.address, info.state)
    for id in packet.removed:
        if id in client.storages:
            drop_link(client, id, 'it was removed')


def node_changed(client, id, address, state):
    link = client.storages.get(id)
    if link is not None and link.address not in (None, address):
        drop_link(client, id, 'it has moved')
        link = None
    if link is None:
        link = client.storages[id] = Link(id)
    link.address = address
    link.running = address is not None and state in (NodeState.RUNNING, NodeState.PENDING)
    connect_link(client, id)


@handles(TableChanged, sender=NodeKind.MASTER)
def table_changed(client, peer, packet, request_id):
    client.table = PartitionTable.unpack(packet.table)
    if client.primary is peer and client.phase != ClusterState.RUNNING:
        client.phase = ClusterState.RUNNING
        client.running()
    client.resume_stalled()


@handles(Identify.Answer, sender=NodeKind.STORAGE)
def identified_by_storage(client, peer, answer, link):
    if client.storages.get(link.id) is not link or answer.id != link.id or (
            answer.cluster_id not in (None, client.cluster_id)):
        client.close(peer)
        link_lost(client, link, 'another node answers at its address')
        return
    client.accept(peer, NodeKind.STORAGE, link.id)
    link.connecting = False
    link.back_off = BackOff()
    link.peer, link.session = peer, answer.session
    client.storage_found(link)


@handles(Error, sender=(NodeKind.MASTER, NodeKind.STORAGE))
def refused(client, peer, error, context):
    if context is not None:             # else a Ping
        context.refused(client, peer, error)
