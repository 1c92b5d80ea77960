"""What a master does for another one that leads, or wants to: as a storage does, it promises a
term, keeps tables, and says what it has.  One with a state file is a voter; of another one, the
promise lasts as long as its process."""
from ..cluster.node import Refused, handles
from ..protocol import limits
from ..protocol.packets import (Canvass, ClusterStateChanged, CompareMasters, ConfirmTerm,
                                RequestTerm, TableInForce, WriteTable)
from ..protocol.types import ClusterState, ErrorCode, NodeKind, TableKey

MASTER = NodeKind.MASTER
FOREVER = float('inf')


class Voter:
    """Whom this master follows."""

    def __init__(self):
        self.leader = None              # Peer that was promised the highest term, while it is there
        self.written = {}               # TableKey -> Table, of that term, not in force yet
        self._until = 0.0               # how long it is a candidate that others let try

    def is_led(self, node, asker=None):
        """Is there a primary, or somebody who is about to be one, other than this Fellow?"""
        return (self.leader is not None and self.leader.data is not asker
                and not self.leader.silent and node.now < self._until)

    @property
    def primary(self):
        """Peer of the one that was elected, or None."""
        return self.leader if self._until == FOREVER else None

    def stand(self, node, term):
        """For itself, it votes as well."""
        self.leader, self._until = None, 0.0
        node.state.put(term=term, candidate=node.state.identity)
        node.durable()

    def obey(self, node, peer):
        self.leader, self.written = peer, {}
        self._until = node.now + limits.CANDIDATE_TIME

    def elected(self):
        self._until = FOREVER

    def doubt(self):
        """It does not lead any more, or not yet."""
        self._until = 0.0

    def lost(self, node, peer):
        if peer is self.leader:
            self.leader = None
            node.unled('%s is gone' % node.describe(peer.id))


def leader_only(node, peer):
    if peer is not node.voter.leader:
        raise Refused(ErrorCode.NOT_READY, 'term %d was promised to another master'
                      % node.state.term)


@handles(CompareMasters, sender=MASTER)
def compare_masters(node, peer, packet, request_id):
    node.fellows.compare(node, peer, packet)
    node.answer(peer, request_id, CompareMasters.Answer(
        node.state.identity, node.state.is_durable, node.name))


@handles(Canvass, sender=MASTER)
def canvass(node, peer, packet, request_id):
    state = node.state
    node.answer(peer, request_id, Canvass.Answer(
        max(state.term, node.term), node.leads or node.voter.is_led(node, peer.data),
        node.cluster.id if node.tables.base is not None or state.is_member else None,
        state.table, state.in_force, state.members))


@handles(ConfirmTerm, sender=MASTER)
def confirm_term(node, peer, packet, request_id):
    node.answer(peer, request_id, ConfirmTerm.Answer(packet.term == node.state.term))


@handles(RequestTerm, sender=MASTER)
def request_term(node, peer, packet, request_id):
    state = node.state
    granted = packet.term > state.term or (
        (packet.term, packet.candidate) == (state.term, state.candidate))
    if granted:
        node.follow(peer, packet.term)
        state.put(term=packet.term, candidate=packet.candidate)
    node.durable()
    node.answer(peer, request_id, RequestTerm.Answer(
        granted, state.term, state.table, state.in_force, state.members, 0, 0, (), (),
        float(node.now), state.history, (0, (), ())))


@handles(WriteTable, sender=MASTER)
def write_table(node, peer, packet, request_id):
    leader_only(node, peer)
    state, table = node.state, packet.table
    key = TableKey(table.term, table.ptid)
    if table.term != state.term:
        raise Refused(ErrorCode.REFUSED, 'a table of term %d, while %d is promised'
                      % (table.term, state.term))
    if not state.takes(packet):
        raise Refused(ErrorCode.REFUSED, 'this master is of another cluster, or knows of a'
                      ' later table')
    state.put(cluster_id=packet.cluster_id, history=packet.history, table=table,
              members=packet.members)
    node.voter.written[key] = table
    node.voter.elected()
    node.led(packet)
    node.durable()
    node.answer(peer, request_id, WriteTable.Answer(key))


@handles(TableInForce, sender=MASTER)
def table_in_force(node, peer, packet, request_id):
    if peer is not node.voter.leader:
        return                          # it does not know yet that another term has begun
    written = node.voter.written
    table = written.get(packet.key)
    if table is not None:
        node.voter.written = {key: later for key, later in written.items() if key > packet.key}
        node.state.put(in_force=table)
        node.durable()


@handles(ClusterStateChanged, sender=MASTER)
def cluster_state_changed(node, peer, packet, request_id):
    if peer is not node.voter.leader and (
            packet.state != ClusterState.STOPPING or node.serves or node.voter.leader is not None):
        return                          # it speaks of its past, or has not heard of who serves
    if packet.state == ClusterState.STOPPING:
        node.stopping.follow(node)
    elif packet.state == ClusterState.VERIFYING:
        node.voter.elected()
    elif packet.state == ClusterState.RECOVERING:
        node.voter.doubt()
        # Since when is said of here.
        what = packet.reason.rpartition(', since ')[0] or packet.reason
        node.unled('%s recovers: %s' % (node.describe(peer.id), what))
