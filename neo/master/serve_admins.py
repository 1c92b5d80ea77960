"""What a master does for the operator."""
from ..cluster.node import Refused, handles
from ..protocol.packets import DescribeIds, SetClusterState
from ..protocol.types import ClusterState, ErrorCode, NodeKind
from . import recovery

ADMIN = NodeKind.ADMIN


@handles(SetClusterState, sender=ADMIN)
def set_cluster_state(master, peer, packet, request_id):
    state = ClusterState(packet.state)
    if state == ClusterState.RUNNING:
        start(master, peer, request_id)
    elif state == ClusterState.STOPPING:
        stop(master, peer, request_id)
    else:
        raise Refused(ErrorCode.REFUSED, 'the state of the cluster can be set to RUNNING or to'
                      ' STOPPING, not to %s' % state.name)


def start(master, peer, request_id):
    if master.phase == ClusterState.STOPPING:
        raise Refused(ErrorCode.REFUSED, 'the cluster is stopping')
    if master.phase == ClusterState.RUNNING:
        master.answer(peer, request_id, SetClusterState.Answer('the cluster is running already'))
        return
    granted = [storage for storage in master.storages() if storage.data.state is not None]
    known = master.table is not None
    if known and not master.writing and master.phase == ClusterState.RECOVERING:
        raise Refused(ErrorCode.NOT_READY, 'the cluster starts by itself when all its storages are'
                      ' there: %s. To force it is not available in this version.' % master.reason)
    if not known:
        missing = recovery.missing_for_start(master, granted)
        if missing:
            raise Refused(ErrorCode.NOT_READY, missing)
    master.start_requests.append((peer, request_id))
    if not known:
        recovery.create(master)


def stop(master, peer, request_id):
    if master.stop_requests is None:
        raise Refused(ErrorCode.REFUSED, 'the cluster is stopping already')
    master.stop_requests.append((peer, request_id))
    if master.phase != ClusterState.STOPPING:
        recovery.stop(master)


@handles(DescribeIds, sender=ADMIN)
def describe_ids(master, peer, packet, request_id):
    master.answer(peer, request_id, DescribeIds.Answer(
        master.cluster_id,
        master.transactions.last_told if master.transactions else 0,
        master.oids.next - 1 if master.oids else 0))
