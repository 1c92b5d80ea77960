"""The master: who is there, and in which state the cluster is."""
import logging

from ..cluster.ids import LETTERS, node_id, node_order
from ..cluster.node import Node, Refused, handler_table
from ..protocol import limits
from ..protocol.packets import (ClusterStateChanged, Identify, NodesChanged, SetClusterState,
                                TableChanged)
from ..protocol.types import ClusterState, ErrorCode, NodeInfo, NodeKind, NodeState
from . import recovery, serve_admins, serve_clients, serve_storages
from .oids import Oids
from .transactions import Transactions


class Joined:
    """What the master keeps of a node that has joined; the `data` of its Peer."""

    __slots__ = ('identity', 'address', 'name', 'session', 'known', 'clock_offset', 'state',
                 'term', 'waiting_for', 'last_tid')

    def __init__(self, packet, session, now):
        self.identity = packet.identity
        self.term = packet.term
        self.address = packet.address
        self.name = packet.name
        self.session = session
        self.known = packet.id is not None      # it came with its id, kept in its database
        self.clock_offset = packet.clock - now  # seconds that its clock is ahead of ours
        self.state = None                       # its RequestTerm.Answer, granted in this term
        self.waiting_for = None                 # kind of request that recovery wants answered


class Master(Node):
    """`partitions`, `replicas` and `autostart` count for a new cluster only."""

    kind = NodeKind.MASTER

    def __init__(self, rnd, cluster, address, partitions=100, replicas=0, autostart=None, name='',
                 amounts=limits.AMOUNTS):
        super().__init__(rnd)
        self.id = node_id(NodeKind.MASTER, 1)
        self.cluster, self.address, self.name = cluster, address, name
        self.partitions, self.replicas, self.autostart = partitions, replicas, autostart
        self.amounts = amounts
        self.phase = ClusterState.RECOVERING
        self.reason = ''
        self.term = 0
        self.cluster_id = self.history = None
        self.certain = False            # of these: the cluster has run, or was created, under us
        self.rivals = False             # storages of another cluster of this name are waiting
        self.table = None               # PartitionTable in force, or about to be
        self.members = {}               # storage id -> identity, of the table
        self.writing = False            # that table is being written, and is to come in force
        self.settling = []              # [(ttid, tid)] that are locked before the cluster runs
        self.joined = {}                # node id -> Peer, of all that have joined
        self.waiting = []               # (peer, Identify, request id) of clients, until it runs
        self.start_requests = []        # (peer, request id) of operators who wait for it to run
        self.stop_requests = []
        self.transactions = None        # Transactions of this term, while it runs
        self.oids = None
        self.questions = []             # about transactions that are in finish
        self.clock_offset = 0.0         # of the time used for tids
        self._last_number = {}          # NodeKind -> number last given
        self._sessions = 0

    def starting(self):
        self.log('master of cluster %s on %s:%d', self.cluster, *self.address)
        recovery.begin(self, 'no storage is there')

    # -- who is there -----------------------------------------------------------------------
    def peers_of(self, *kinds):
        """Peers that have joined, of these kinds, in a fixed order."""
        return [peer for id, peer in sorted(self.joined.items(), key=lambda i: node_order(i[0]))
                if peer.kind in kinds]

    def storages(self):
        return self.peers_of(NodeKind.STORAGE)

    def needed(self):
        """Peers of the storages that have cells in the table."""
        return [self.joined[id] for id in self.table.storages()]

    def waits(self, peer):
        return any(peer is waiting[0] for waiting in self.waiting)

    def identify(self, peer, packet, request_id):
        self._check_identity(packet)
        if packet.kind == NodeKind.STORAGE:
            self._check_storage(packet)
            self._join(peer, packet, request_id)
            recovery.storage_joined(self, peer)
        elif packet.kind == NodeKind.ADMIN:
            self._join(peer, packet, request_id)
            self.describe_to(peer)
        elif packet.kind != NodeKind.CLIENT:
            raise Refused(ErrorCode.REFUSED, 'a master serves no %s' % packet.kind)
        elif self.phase == ClusterState.RUNNING:
            self.accept_client(peer, packet, request_id)
        else:
            self.waiting.append((peer, packet, request_id))
            self.send(peer, ClusterStateChanged(self.phase, self.reason))

    def _check_identity(self, packet):
        if packet.cluster != self.cluster:
            raise Refused(ErrorCode.ANOTHER_CLUSTER, 'this is the master of cluster %s, not of %s'
                          % (self.cluster, packet.cluster))
        if packet.kind == NodeKind.STORAGE and packet.cluster_id is not None:
            if self.cluster_id is None:
                self.cluster_id, self.history = packet.cluster_id, packet.history
            elif (self.cluster_id, self.history) != (packet.cluster_id, packet.history):
                self._refuse_stranger(packet)

    def _refuse_stranger(self, packet):
        """A storage of another cluster of this name.  Until this cluster has run, it may just as
        well be that the others, who came first, do not belong here."""
        message = 'the database belongs to another cluster of the same name'
        if self.certain:
            raise Refused(ErrorCode.ANOTHER_CLUSTER, message)
        if not self.rivals:
            self.rivals = True
            self.log('storages of two clusters that are called %s are here: those of %s, which'
                     ' came first, and %s:%s of %s', self.cluster, self.cluster_id.hex(),
                     *(packet.address or ('?', 0)), packet.cluster_id.hex(),
                     level=logging.WARNING)
        raise Refused(ErrorCode.NOT_READY, message + ' than that of storages who came first')

    def _id_of(self, packet):
        """The id of a storage which has been here before, even if it does not know it yet."""
        for id, identity in self.members.items():
            if identity == packet.identity:
                return id
        return packet.id

    def _check_storage(self, packet):
        if packet.address is None:
            raise Refused(ErrorCode.REFUSED, 'a storage must say where clients find it')
        for peer in self.storages():
            if peer.data.identity == packet.identity:
                raise Refused(ErrorCode.NOT_READY, '%s is connected already' % peer.id)
        other = self.joined.get(self._id_of(packet))
        if other is not None:
            if other.data.known:
                raise Refused(ErrorCode.REFUSED, 'another node is %s already' % packet.id)
            # That one was given an id before it was known whose it is: it asks again.
            self.close(other)
            self.lost(other, 'its id belongs to a storage that was there before')

    def _join(self, peer, packet, request_id):
        """Accept a node, give it an id and say so to who needs to know."""
        kind = NodeKind(packet.kind)
        if kind == NodeKind.STORAGE:
            self._sessions += 1
        peer.data = Joined(packet, self._sessions, self.now)
        id = self._id_of(packet) if kind == NodeKind.STORAGE else None
        self.accept(peer, kind, id or self._new_id(kind))
        self.joined[peer.id] = peer
        self.answer(peer, request_id, Identify.Answer(
            self.id, peer.id, self.cluster_id, self.history, self.term, self._sessions,
            self.transactions.last_told if self.transactions else 0,
            self.table.partitions if self.table else 0))
        self.log('%s has joined%s', peer.id, ' (%s:%d)' % tuple(packet.address)
                 if packet.address else '')
        self.announce([peer.id])

    def _new_id(self, kind):
        used = [int(id[1:]) for id in self.joined if id[0] == LETTERS[kind]]
        if kind == NodeKind.STORAGE and self.table is not None:
            used += [int(id[1:]) for id in self.table.storages()]
        # The number of a client who has gone is not given again: its late packets are not to be
        # taken for somebody else's.
        number = max([self._last_number.get(kind, 0) * (kind == NodeKind.CLIENT), *used]) + 1
        self._last_number[kind] = number
        return node_id(kind, number)

    def lost(self, peer, reason):
        self.waiting = [waiting for waiting in self.waiting if waiting[0] is not peer]
        if not peer.identified or self.joined.get(peer.id) is not peer:
            return
        del self.joined[peer.id]
        self.log('%s is gone: %s', peer.id, reason)
        self.announce([peer.id])
        if self.phase == ClusterState.STOPPING:
            recovery.stopping(self)
        elif peer.kind == NodeKind.STORAGE:
            self._forget_cluster()
            recovery.storage_lost(self, peer)

    def _forget_cluster(self):
        """Let rivals in, once those who came first have left without having started."""
        if self.rivals and not self.certain and not any(
                storage.data.known for storage in self.storages()):
            self.rivals = False
            self.cluster_id = self.history = self.table = None
            self.members = {}

    # -- what is told to whom -----------------------------------------------------------------
    def node_info(self, id):
        peer = self.joined.get(id)
        if id == self.id:
            return NodeInfo(id, NodeKind.MASTER, self.address, NodeState.RUNNING, self.name, '')
        kind = next(kind for kind, letter in LETTERS.items() if letter == id[0])
        if peer is None:
            return NodeInfo(id, kind, None, NodeState.DOWN, '', '')
        return NodeInfo(id, kind, peer.data.address, self._state_of(peer), peer.data.name, '')

    def _state_of(self, peer):
        if peer.kind == NodeKind.STORAGE and (
                self.table is None or peer.id not in self.table.storages()):
            return NodeState.PENDING
        return NodeState.RUNNING

    def announce(self, ids):
        """Tell of these nodes, which have come, gone or changed: storages hear of clients,
        clients of storages, admins of all.  Who is gone for good is removed; a storage of the
        table is down."""
        removed = {id for id in ids if id not in self.joined and not (
            self.table and id in self.table.storages())}
        for peer in self.peers_of(NodeKind.STORAGE, NodeKind.CLIENT, NodeKind.ADMIN):
            if peer.kind != NodeKind.ADMIN and self.phase != ClusterState.RUNNING:
                continue
            told = [id for id in ids if id != peer.id and self._concerns(peer, id)]
            if told:
                self.send(peer, NodesChanged(
                    [self.node_info(id) for id in told if id not in removed],
                    [id for id in told if id in removed]))

    def _concerns(self, peer, id):
        return peer.kind == NodeKind.ADMIN or id[0] == (
            'C' if peer.kind == NodeKind.STORAGE else 'S')

    def describe_to(self, peer):
        """Everything that is told of changes later: to who joins, or when the cluster starts."""
        known = set(self.joined) | {self.id} | set(self.table.storages() if self.table else ())
        infos = [self.node_info(id) for id in sorted(known, key=node_order)
                 if self._concerns(peer, id)]
        self.send(peer, NodesChanged(infos, ()))
        if self.table is not None and self.phase in (ClusterState.RUNNING, ClusterState.STOPPING):
            self.send(peer, TableChanged(self.table.pack()))
        if peer.kind != NodeKind.CLIENT:
            self.send(peer, ClusterStateChanged(self.phase, self.reason))

    def accept_client(self, peer, packet, request_id):
        self._join(peer, packet, request_id)
        self.describe_to(peer)

    def change_phase(self, phase, reason=''):
        """Admins are told at once, and clients that wait; storages by what the phase means for
        them."""
        if self.set_phase(phase, reason):
            told = ClusterStateChanged(phase, reason)
            for peer in self.peers_of(NodeKind.ADMIN):
                self.send(peer, told)
            for peer, _, _ in self.waiting:
                self.send(peer, told)

    def set_phase(self, phase, reason=''):
        if (phase, reason) == (self.phase, self.reason):
            return False
        self.phase, self.reason = phase, reason
        self.log('%s%s', phase.name, ': ' + reason if reason else '')
        return True

    # -- running ------------------------------------------------------------------------------
    def run(self, last_tid, next_oid):
        """Every storage is ready: serve."""
        self.certain = True
        self.transactions = Transactions(self.term, last_tid)
        self.oids = Oids(next_oid, self.amounts.oids_reserved)
        self.set_phase(ClusterState.RUNNING)
        for peer in self.peers_of(NodeKind.STORAGE, NodeKind.ADMIN):
            # A storage that has not promised this term takes no part, or is told later.
            if peer.kind == NodeKind.ADMIN or peer.data.state is not None:
                self.describe_to(peer)
        serve_clients.reserve_oids(self, 0)
        waiting, self.waiting = self.waiting, []
        for peer, packet, request_id in waiting:
            self.accept_client(peer, packet, request_id)
        self.answer_operators(self.start_requests, 'the cluster is running')

    def stop_serving(self):
        """Close clients, who come back by themselves; what is in finish is settled later."""
        clients = self.peers_of(NodeKind.CLIENT)
        for peer in clients:
            del self.joined[peer.id]
            self.close(peer)
        self.announce([peer.id for peer in clients])
        self.transactions = self.oids = None
        self.questions.clear()              # who has asked is closed, and asks again

    def answer_operators(self, requests, message):
        """Those who waited for the cluster to start or to stop."""
        for peer, request_id in requests:
            if peer.connection in self.peers:
                self.answer(peer, request_id, SetClusterState.Answer(message))
        requests.clear()

    def tell_clients(self, packet, but=None):
        for peer in self.joined.values():
            if peer.kind is NodeKind.CLIENT and peer is not but:
                self.send(peer, packet)

    def clock(self):
        """The time for tids: never ahead of what the storages take for possible."""
        return self.now + self.clock_offset

    def check_clock(self, last_tid_time):
        """Compare with the clocks of the storages; a clock far ahead makes no tids."""
        offsets = [peer.data.clock_offset for peer in self.needed()]
        self.clock_offset = 0.0
        if max(offsets) < -limits.CLOCK_TOLERANCE:
            self.clock_offset = max(offsets)
            self.log('the clock of this master is %.0f s ahead of those of all storages: it is not'
                     ' used for tids', -max(offsets), level=logging.WARNING)
        elif min(offsets) > limits.CLOCK_TOLERANCE:
            self.log('the clock of this master is %.0f s behind those of all storages',
                     min(offsets), level=logging.WARNING)
        if last_tid_time > self.clock() + limits.CLOCK_TOLERANCE:
            self.log('the last transaction is %.0f s ahead of the clock: tids go on from there',
                     last_tid_time - self.clock(), level=logging.WARNING)

    def timer(self, name):
        if name == 'stop':
            recovery.stopping(self, patient=False)

    def stop(self):
        """A clean end of this process: nothing here is durable."""

    handlers = handler_table(recovery, serve_admins, serve_clients, serve_storages)
