"""What an admin node does for neoctl."""
from ..cluster.context import Context
from ..cluster.node import Refused, handles
from ..protocol.packets import (AddStorages, Check, DescribeCluster, DescribeIds, DropStorage,
                                Error, ForceStart, KillNode, SetClusterState, SetReplicas,
                                Truncate, Tweak)
from ..protocol.types import ErrorCode, NodeKind

CTL = NodeKind.CTL


class Question(Context):
    """What somebody asked here, and the primary was asked for.  It is answered once."""

    __slots__ = 'peer', 'request_id', 'done'

    def __init__(self, peer, request_id):
        self.peer, self.request_id = peer, request_id
        self.done = False

    def answer(self, admin, packet):
        if not self.done and self.peer.connection in admin.peers:
            admin.answer(self.peer, self.request_id, packet)
        self.done = True

    def given_up(self, admin):
        """The primary says nothing for a while."""


class Description(Question):
    """What does not come from the primary is described without it."""

    __slots__ = ()

    def answered(self, admin, peer, answer):
        # It may have been created after this node has joined.
        admin.cluster_id = answer.cluster_id
        self.answer(admin, admin.description(answer.last_tid, answer.last_oid, answer.filling))

    def refused(self, admin, peer, error):
        self.given_up(admin)

    def lost(self, admin, peer):
        self.given_up(admin)

    def given_up(self, admin):
        self.answer(admin, admin.description())


class Order(Question):
    """Passed on to the primary."""

    __slots__ = ()

    def answered(self, admin, peer, answer):
        self.answer(admin, answer)

    def refused(self, admin, peer, error):
        self.answer(admin, error)

    def lost(self, admin, peer):
        self.answer(admin, Error(ErrorCode.NOT_READY, 'the primary master was lost, and this was'
                                 ' done or not: look, and say it again (%s)' % admin.why()))


@handles(DescribeCluster, sender=CTL)
def describe(admin, peer, packet, request_id):
    if admin.primary is None or admin.primary.silent:
        admin.answer(peer, request_id, admin.description())
    else:
        admin.ask(admin.primary, DescribeIds(), Description(peer, request_id))


@handles(SetClusterState, ForceStart, AddStorages, Tweak, DropStorage, SetReplicas, KillNode, Check,
         Truncate, sender=CTL)
def pass_on(admin, peer, packet, request_id):
    if admin.primary is None:
        raise Refused(ErrorCode.NOT_READY, admin.why())
    admin.ask(admin.primary, packet, Order(peer, request_id))
