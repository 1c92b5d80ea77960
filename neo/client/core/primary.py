"""The connection of a client to the primary master, and what that says of the cluster."""
from ...cluster.context import Context
from ...cluster.node import handles
from ...cluster.partition_table import PartitionTable
from ...cluster.seek import FINAL
from ...protocol import limits
from ...protocol.codec import ProtocolError
from ...protocol.packets import ClusterStateChanged, NodesChanged, TableChanged
from ...protocol.types import MAX_ID, ClusterState, NodeKind
from ..exception import ClusterRefused
from . import finish


KEPT = 'kept waiting'           # timer


class Greeting(Context):
    """The context of Identify."""

    def answered(self, client, peer, answer):
        fault = _fault(client, answer)
        if fault:
            client.close(peer)
            lost(client, fault)
        elif client.cluster_id not in (None, answer.cluster_id):
            client.close(peer)
            lost(client, 'it is of another cluster than before, of the same name', final=True)
        else:
            client.accept(peer, NodeKind.MASTER, answer.id)
            client.seek.found()
            client.id, client.primary, client.reason = answer.your_id, peer, None
            client.cluster_id, client.term = answer.cluster_id, answer.term
            finish.welcomed(client, answer.history, answer.last_tid)

    def refused(self, client, peer, error):
        client.close(peer)
        lost(client, error.message, error.error in FINAL)


def _fault(client, answer):
    """Why this is not the primary to be used, or None."""
    if answer.term < client.term:
        return 'its term is over'
    if answer.cluster_id is None or answer.history is None or answer.last_tid >= MAX_ID:
        return 'its greeting makes no sense'
    # Who replaces another one drops what is cached in any case.
    if (answer.history == client.history and answer.last_tid < client.heard
            and not client.replaces):
        return ('its last transaction is %#x, and this client has been told of %#x: the cluster '
                'has lost transactions' % (answer.last_tid, client.heard))


def lost(client, reason, final=False):
    """Nothing counts any more that was not in *finish*; all begins anew when one is back.  `final`:
    that master will never be of use."""
    if client.phase != ClusterState.RECOVERING:
        client.log('the primary is lost (%s): reconnecting; what is cached is still read', reason)
    client.phase = ClusterState.RECOVERING
    client.primary = client.reason = None
    client.seek.failed(client, reason, final)
    client.without_primary(reason)
    refusals = final and client.seek.refused_by_all()
    if refusals:
        client.give_up(ClusterRefused(refusals))


def kept_waiting(client):
    """By a master that has not accepted this client: another one may be the primary."""
    for peer in list(client.peers.values()):
        if peer.kind == NodeKind.MASTER and not peer.identified and (
                client.now - peer.since >= limits.KEPT_WAITING):
            client.close(peer)
            lost(client, client.reason or 'it does not say what it waits for')


@handles(ClusterStateChanged, sender=NodeKind.MASTER)
def state_changed(client, peer, packet, request_id):
    """Why it has to wait to be accepted."""
    state = ClusterState(packet.state)
    client.reason = state.name + (packet.reason and ': ' + packet.reason)


@handles(NodesChanged, sender=NodeKind.MASTER)
def nodes_changed(client, peer, packet, request_id):
    for info in packet.nodes:
        if info.kind == NodeKind.STORAGE:
            client.links.announced(client, info)
    for id in packet.removed:
        client.links.removed(client, id, 'it was removed')


@handles(TableChanged, sender=NodeKind.MASTER)
def table_changed(client, peer, packet, request_id):
    if not packet.table.rows:
        raise ProtocolError('a table without rows')
    client.use_table(PartitionTable.unpack(packet.table))
    if client.primary is peer and client.phase == ClusterState.RECOVERING:
        if client.catching_up is None:
            client.phase = ClusterState.RUNNING
            client.running()
        else:
            client.phase = ClusterState.VERIFYING
            client.catching_up.begin(client)
    client.operations.resume_stalled(client)
