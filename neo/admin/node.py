"""The admin node: it knows what the primary says of the cluster, and passes orders on to it."""
from ..cluster import seek
from ..cluster.addresses import readable
from ..cluster.ids import node_order, utc
from ..cluster.node import Node, Refused, handler_table
from ..protocol import limits
from ..protocol.packets import DescribeCluster, Identify
from ..protocol.types import ClusterState, ErrorCode, NodeInfo, NodeKind
from . import follow, serve

CTL, MASTER = NodeKind.CTL, NodeKind.MASTER


class Admin(Node):
    """`masters` and `address` are (host, port).  All that is known of the cluster is what the
    primary has told on the present connection; without one, it is why there is none."""

    kind = NodeKind.ADMIN

    def __init__(self, rnd, cluster, masters, address, name=''):
        super().__init__(rnd)
        self.cluster, self.address, self.name = cluster, address, name
        self.seek = seek.Seek(masters, remind=True)
        self.id = None
        self.cluster_id = self.history = None
        self._forget()

    def _forget(self):
        self.phase, self.reason = ClusterState.RECOVERING, ''
        self.primary = None             # Peer
        self.nodes = {}                 # node id -> NodeInfo
        self.table = None               # Table, as the protocol has it
        self.partitions = 0

    # -- the primary ------------------------------------------------------------------------
    def starting(self):
        self.log('admin of cluster %s on %s', self.cluster, readable(self.address))
        self.seek.connect(self)

    def connected(self, peer):
        peer.kind = MASTER
        self.ask(peer, Identify(
            NodeKind.ADMIN, self.id, self.identity, self.cluster, self.cluster_id, self.history, 0,
            self.name, self.address, self.now, ''))

    def patience(self, peer):
        if peer.kind == MASTER and len(self.seek.masters) > 1:
            return limits.MASTER_TIMEOUT if peer.identified else limits.MUTE_TIMEOUT
        return super().patience(peer)

    def connect_failed(self, address, reason):
        self.away(reason)

    def lost(self, peer, reason):
        if peer.kind != MASTER:
            return
        if self.phase == ClusterState.STOPPING and not self.reason:
            self.exit(0, 'the cluster has stopped')
            return                      # else its master has died before all had left
        self.away(reason)

    def away(self, reason, final=False):
        """There is no primary where it was looked for, and, if `final`, there never will be one."""
        self.seek.failed(self, reason, final)
        self._forget()

    def timer(self, name):
        if name == seek.TIMER:
            self.seek.connect(self)
        elif name == 'leave':
            self.exit(0, 'the cluster has stopped, but for its master')

    def stop(self):
        """A clean end of this process: nothing here is durable."""

    # -- neoctl -----------------------------------------------------------------------------
    def identify(self, peer, packet, request_id):
        # neoctl knows an address and nothing else: the name of the cluster is not compared.
        if packet.kind != CTL:
            raise Refused(ErrorCode.REFUSED, 'this is an admin node, which serves neoctl only')
        self.accept(peer, CTL, 'neoctl')
        # It has no number before the primary has given it one: A0 is never given.
        self.answer(peer, request_id, Identify.Answer(
            self.id or 'A0', 'A0', self.cluster_id, self.history, 0, 0, 0, self.partitions))

    def silent(self, peer):
        if peer is self.primary:
            for _, context in peer.requests.values():
                if isinstance(context, serve.Question):
                    context.given_up(self)

    def why(self):
        """What the cluster waits for and since when, in words; empty if it does not."""
        if self.primary is None:
            return self.seek.waiting(self.now)
        if self.primary.silent:
            return '%s at %s says nothing (for %.0f s)' % (
                self.primary.id, readable(self.seek.address), self.now - self.primary.heard)
        return self.reason

    def _node_infos(self):
        # That the primary says nothing is what it can't tell.
        nodes = dict(self.nodes)
        primary = self.primary
        if primary is not None and primary.silent and primary.id in nodes:
            *known, condition = nodes[primary.id]
            silence = 'it says nothing, since %s' % utc(primary.heard)
            nodes[primary.id] = NodeInfo(*known, '; '.join(filter(None, (silence, condition))))
        return tuple(sorted(nodes.values(), key=lambda info: node_order(info.id)))

    def description(self, last_tid=0, last_oid=0, filling=()):
        return DescribeCluster.Answer(
            self.phase, self.why(), self.cluster, self.cluster_id,
            self.primary.id if self.primary else None, self._node_infos(), self.partitions,
            self.table, last_tid, last_oid, filling)

    handlers = handler_table(follow, serve)
