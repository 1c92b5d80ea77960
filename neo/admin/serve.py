"""What an admin node does for neoctl."""
from ..cluster.node import Refused, handles
from ..protocol.packets import DescribeCluster, DescribeIds, SetClusterState
from ..protocol.types import ErrorCode, NodeKind

CTL = NodeKind.CTL


class Question:
    """What somebody asked here, and the primary was asked for."""

    __slots__ = 'kind', 'peer', 'request_id'

    def __init__(self, kind, peer, request_id):
        self.kind, self.peer, self.request_id = kind, peer, request_id


@handles(DescribeCluster, sender=CTL)
def describe(admin, peer, packet, request_id):
    if admin.primary is None:
        admin.answer(peer, request_id, admin.description())
    else:
        admin.ask(admin.primary, DescribeIds(), Question(DescribeCluster, peer, request_id))


@handles(SetClusterState, sender=CTL)
def set_state(admin, peer, packet, request_id):
    if admin.primary is None:
        raise Refused(ErrorCode.NOT_READY, admin.why())
    admin.ask(admin.primary, packet, Question(SetClusterState, peer, request_id))
