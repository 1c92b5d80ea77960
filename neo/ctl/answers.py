"""What neoctl hears from the admin node."""
from ..cluster.node import handles
from ..protocol.packets import (AddStorages, Check, DescribeCluster, DropStorage, Error, Identify,
                                ForceStart, KillNode, SetClusterState, SetReplicas, Truncate, Tweak)
from ..protocol.types import NodeKind

ADMIN = NodeKind.ADMIN


@handles(Identify.Answer, sender=ADMIN)
def accepted(ctl, peer, answer, context):
    ctl.accept(peer, ADMIN, answer.id)
    ctl.ask(peer, ctl.request)
    ctl.was_asked = True


@handles(DescribeCluster.Answer, SetClusterState.Answer, ForceStart.Answer, AddStorages.Answer,
         Check.Answer, Tweak.Answer, DropStorage.Answer, SetReplicas.Answer, KillNode.Answer,
         Truncate.Answer, sender=ADMIN)
def answered(ctl, peer, answer, context):
    ctl.result = answer
    if not ctl.stops:
        ctl.exit(0)


@handles(Error, sender=ADMIN)
def refused(ctl, peer, error, context):
    if peer.identified:
        ctl.fail(error.message)
    else:
        ctl.connect_failed(ctl.address, error.message)
