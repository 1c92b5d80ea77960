"""Connections of a storage to other storages, of which it copies; they end with the term."""
from ..cluster.context import Context
from ..cluster.node import Refused
from ..cluster.seek import BackOff
from ..protocol.packets import Identify
from ..protocol.types import ClusterState, ErrorCode, NodeKind, NodeState
from . import serve_clients


class Link(Context):
    """The context of Identify."""

    def __init__(self, id, address):
        self.id, self.address = id, address
        self.peer = None                # once it has accepted this storage
        self.connecting = False
        self.again = 0.0                # not to be tried before
        self.trouble = 'not connected yet'      # unless it is
        self.back_off = BackOff()

    def answered(self, node, peer, answer):
        if answer.id != self.id or node.filling.sources.links.known.get(self.id) is not self:
            node.close(peer)
            self.failed(node, 'another node answers at its address')
            return
        node.accept(peer, NodeKind.STORAGE, self.id)
        self.peer, self.connecting, self.back_off = peer, False, BackOff()
        node.filling.go_on(node)

    def refused(self, node, peer, error):
        node.close(peer)
        self.failed(node, error.message)

    def failed(self, node, reason):
        self.peer, self.connecting, self.trouble = None, False, reason
        self.again = node.now + self.back_off.next()


class Links:

    def __init__(self):
        self.known = {}                 # id -> Link, of storages that run, as the primary says
        self._connecting = {}           # address -> Link for which it is tried, be it gone or not

    def announced(self, node, info):
        runs = info.state in (NodeState.RUNNING, NodeState.PENDING) and info.address is not None
        link = self.known.get(info.id)
        if link is not None and (not runs or link.address != info.address):
            self.removed(node, info.id)
        if runs and info.id not in self.known and info.id != node.id:
            self.known[info.id] = Link(info.id, info.address)

    def removed(self, node, id):
        link = self.known.pop(id, None)
        if link is not None:
            self._close(node, link)

    def stop(self, node):
        for id in list(self.known):
            self.removed(node, id)

    def _close(self, node, link):
        for peer in [peer for peer in node.peers.values() if peer.data is link
                     or peer.kind == NodeKind.STORAGE and peer.id == link.id]:
            node.close(peer)
            self.lost(node, peer, 'it is gone')

    def describe(self, id):
        """Why there is no connection, in words; empty if there is one."""
        link = self.known.get(id)
        if link is None:
            return 'it is down'
        return '' if link.peer is not None else link.trouble

    def reach(self, node, id):
        """The Peer, or None while there is no connection: one is made."""
        link = self.known.get(id)
        if link is None or link.peer is not None:
            return link and link.peer
        if not link.connecting and node.now >= link.again and (
                link.address not in self._connecting):
            link.connecting = True
            self._connecting[link.address] = link
            node.connect(link.address)
        return None

    # -- connecting -------------------------------------------------------------------------
    def connected(self, node, peer):
        """Is this what was asked for here?"""
        link = self._connecting.pop(peer.address, None)
        if link is None:
            return False
        if self.known.get(link.id) is not link:
            node.close(peer)            # it has gone meanwhile
            return True
        peer.kind, peer.data = NodeKind.STORAGE, link
        state = node.state
        node.ask(peer, Identify(
            NodeKind.STORAGE, node.id, node.identity, node.cluster, state.cluster_id,
            state.history, node.term, node.name, node.address, float(node.now),
            node.topology), link)
        return True

    def connect_failed(self, node, address, reason):
        link = self._connecting.pop(address, None)
        if link is not None:
            link.failed(node, reason)
        return link is not None

    def lost(self, node, peer, reason):
        if isinstance(peer.data, Link):
            peer.data.failed(node, reason)
        elif peer.data is not None:
            serve_clients.drop_parked(node, peer)

    # -- who copies from here -----------------------------------------------------------------
    def identify(self, node, peer, packet, request_id):
        """Another storage wants to copy: it obeys the same primary, which has announced it."""
        state = node.state
        if packet.id is None:
            raise Refused(ErrorCode.NOT_READY, 'this is a storage, and no master')
        if packet.cluster != node.cluster or packet.cluster_id != state.cluster_id:
            raise Refused(ErrorCode.ANOTHER_CLUSTER, 'this is a storage of another cluster')
        if node.phase != ClusterState.RUNNING or packet.term != node.term or (
                packet.id not in self.known):
            raise Refused(ErrorCode.NOT_READY, '%s is not known here in term %d' % (
                packet.id, packet.term))
        peer.data = Reader()
        node.accept(peer, NodeKind.STORAGE, packet.id)
        node.answer(peer, request_id, Identify.Answer(
            node.id, packet.id, state.cluster_id, state.history, node.term, node.session, 0,
            state.partitions))


class Reader:
    """A storage that copies from here; the `data` of its Peer."""

    def __init__(self):
        self.parked = 0                 # requests that wait
