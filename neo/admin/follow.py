"""What an admin node is told by the primary."""
from ..cluster.node import handles
from ..cluster.seek import FINAL
from ..protocol import limits
from ..protocol.packets import (ClusterStateChanged, Error, Identify, Leave, NodesChanged,
                                TableChanged)
from ..protocol.types import ClusterState, NodeKind

MASTER = NodeKind.MASTER


@handles(Identify.Answer, sender=MASTER)
def accepted(admin, peer, answer, context):
    admin.accept(peer, MASTER, answer.id)
    admin.primary, admin.id = peer, answer.your_id
    admin.cluster_id, admin.history = answer.cluster_id, answer.history
    admin.partitions = answer.partitions
    admin.seek.found()
    admin.log('connected to %s, as %s', answer.id, answer.your_id)


@handles(Error, sender=MASTER)
def refused(admin, peer, error, context):
    final = error.error in FINAL
    admin.close(peer)
    admin.away(error.message, final)
    refusals = final and admin.seek.refused_by_all()
    if refusals:
        admin.exit(1, 'refused by the master at %s' % refusals)


@handles(NodesChanged, sender=MASTER)
def nodes_changed(admin, peer, packet, request_id):
    for info in packet.nodes:
        admin.nodes[info.id] = info
    for id in packet.removed:
        admin.nodes.pop(id, None)


@handles(TableChanged, sender=MASTER)
def table_changed(admin, peer, packet, request_id):
    admin.table = packet.table
    admin.partitions = len(packet.table[3])


@handles(Leave, sender=MASTER)
def leave(admin, peer, packet, request_id):
    admin.exit(0, packet.reason)


@handles(ClusterStateChanged, sender=MASTER)
def state_changed(admin, peer, packet, request_id):
    told = ClusterState(packet.state), packet.reason
    if told != (admin.phase, admin.reason):
        admin.phase, admin.reason = told
        admin.log('%s%s', admin.phase.name, ': ' + packet.reason if packet.reason else '')
    # With a reason, others are still ending; without one, only the master is left, which leaves
    # now: then this node does, so that who sees it leave knows that all others have.
    if told == (ClusterState.STOPPING, ''):
        admin.set_timer('leave', admin.now + limits.SHUTDOWN_GRACE)
