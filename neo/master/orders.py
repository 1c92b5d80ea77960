"""What a master does for the operator."""
from ..cluster.node import Refused, handles
from ..protocol.packets import DescribeIds, SetClusterState
from ..protocol.types import ClusterState, ErrorCode, NodeKind

ADMIN = NodeKind.ADMIN


@handles(SetClusterState, sender=ADMIN)
def set_cluster_state(master, peer, packet, request_id):
    state = ClusterState(packet.state)
    if state == ClusterState.RUNNING:
        start(master, peer, request_id)
    elif state == ClusterState.STOPPING:
        master.stopping.order(master, peer, request_id)
    else:
        raise Refused(ErrorCode.REFUSED, 'the state of the cluster can be set to RUNNING or to'
                      ' STOPPING, not to %s' % state.name)


def start(master, peer, request_id):
    if master.phase == ClusterState.STOPPING:
        raise Refused(ErrorCode.REFUSED, 'the cluster is stopping')
    if master.phase == ClusterState.RUNNING:
        master.answer(peer, request_id, SetClusterState.Answer('the cluster is running already'))
    else:
        master.creation.order(master, peer, request_id)


@handles(DescribeIds, sender=ADMIN)
def describe_ids(master, peer, packet, request_id):
    master.answer(peer, request_id, DescribeIds.Answer(
        master.cluster.id,
        master.transactions.last_told if master.transactions else 0,
        master.oids.next - 1 if master.oids else 0))
