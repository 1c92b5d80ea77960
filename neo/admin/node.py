"""The admin node: it knows what the primary says of the cluster, and passes orders on to it."""
import logging

from ..cluster.addresses import readable
from ..cluster.ids import node_order
from ..cluster.node import Node, Refused, handler_table
from ..protocol import limits
from ..protocol.packets import DescribeCluster, Error, Identify
from ..protocol.types import ClusterState, ErrorCode, NodeKind, NodeState
from . import follow, serve

CTL, MASTER = NodeKind.CTL, NodeKind.MASTER


class Admin(Node):
    """`masters` and `address` are (host, port).  All that is known of the cluster is what the
    primary has told on the present connection; without one, it is why there is none."""

    kind = NodeKind.ADMIN

    def __init__(self, rnd, cluster, masters, address, name=''):
        super().__init__(rnd)
        self.cluster, self.masters, self.address, self.name = cluster, masters, address, name
        self.id = None
        self.cluster_id = self.history = None
        self.delay = limits.RECONNECT_DELAY
        self._forget('not connected to a master yet')

    def _forget(self, reason):
        self.phase, self.reason = ClusterState.RECOVERING, reason
        self.primary = None             # Peer
        self.nodes = {}                 # node id -> NodeInfo
        self.table = None               # Table, as the protocol has it
        self.partitions = 0

    # -- the primary ------------------------------------------------------------------------
    def starting(self):
        self.log('admin of cluster %s on %s', self.cluster, readable(self.address))
        self.connect(self.masters[0])

    def connected(self, peer):
        peer.kind = MASTER
        self.ask(peer, Identify(
            NodeKind.ADMIN, self.id, self.identity, self.cluster, self.cluster_id, self.history, 0,
            self.name, self.address, self.now))

    def connect_failed(self, address, reason):
        self._away(reason)

    def lost(self, peer, reason):
        if peer.kind != MASTER:
            return
        if self.phase == ClusterState.STOPPING:
            self.exit(0, 'the cluster has stopped')
            return
        for _, context in peer.requests.values():
            if isinstance(context, serve.Question):
                self.answer_error(context, Error(
                    ErrorCode.NOT_READY, 'the primary master was lost: %s' % reason))
        self._away(reason)

    def _away(self, reason):
        """Say so, once, and try again a little later."""
        no_primary = 'no primary master at %s' % readable(self.masters[0])
        if self.reason != no_primary:
            self.log('%s: %s', no_primary, reason, level=logging.WARNING)
        self._forget(no_primary)
        self.set_timer('connect', self.now + self.delay)
        self.delay = min(2 * self.delay, limits.RECONNECT_DELAY_MAX)

    def timer(self, name):
        if name == 'connect':
            self.connect(self.masters[0])
        elif name == 'leave':
            self.exit(0, 'the cluster is stopping')

    def stop(self):
        """A clean end of this process: nothing here is durable."""

    def leave_if_last(self):
        """A cluster that stops: go when the storages have, so that who asked for it can wait."""
        if not any(info.kind == NodeKind.STORAGE and info.state in (
                NodeState.RUNNING, NodeState.PENDING) for info in self.nodes.values()):
            self.exit(0, 'the cluster has stopped')

    # -- neoctl -----------------------------------------------------------------------------
    def identify(self, peer, packet, request_id):
        # neoctl knows an address and nothing else: the name of the cluster is not compared.
        if packet.kind != CTL:
            raise Refused(ErrorCode.REFUSED, 'this is an admin node, which serves neoctl only')
        self.accept(peer, CTL, 'neoctl')
        # It has no number before the primary has given it one: A0 is never given.
        self.answer(peer, request_id, Identify.Answer(
            self.id or 'A0', 'A0', self.cluster_id, self.history, 0, 0, 0, self.partitions))

    def description(self, last_tid=0, last_oid=0):
        nodes = sorted(self.nodes.values(), key=lambda info: node_order(info.id))
        return DescribeCluster.Answer(
            self.phase, self.reason, self.cluster, self.cluster_id,
            self.primary.id if self.primary else None, tuple(nodes), self.partitions, self.table,
            last_tid, last_oid)

    def answer_error(self, question, error):
        if question.kind is DescribeCluster:
            self.answer_to(question, self.description())
        else:
            self.answer_to(question, error)

    def answer_to(self, question, packet):
        if question.peer.connection in self.peers:
            self.answer(question.peer, question.request_id, packet)

    handlers = handler_table(follow, serve)
