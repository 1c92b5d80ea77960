"""An operator stops the cluster (docs/decisions/stop.md).

    ending     nothing new begins; what was voted is finished or aborted, in bounded time
    storages   all are told to leave; clients are closed
    gone       who has asked is told that the cluster has stopped; the master leaves, and then the
               admins, so that who sees his admin leave can start the cluster again
"""
from enum import IntEnum

from ..cluster.node import Refused
from ..protocol.limits import SHUTDOWN_GRACE, STOP_GRACE
from ..protocol.packets import ClusterStateChanged, Drain, SetClusterState
from ..protocol.types import ClusterState, ErrorCode, as_reason
from .round import Round

STOPPING = ClusterState.STOPPING
STOP = 'stop'                   # timer


class Stage(IntEnum):
    NONE, ENDING, STORAGES, GONE = range(4)


class Stopping:

    def __init__(self):
        self.stage = Stage.NONE
        self.requests = []              # (peer, request id) of operators
        self._drained = False           # nothing is voted anywhere that is not in finish

    def order(self, node, peer, request_id):
        """Raises Refused, or answers when the cluster has stopped."""
        if self.stage == Stage.GONE:
            raise Refused(ErrorCode.REFUSED, 'the cluster has stopped already')
        self.requests.append((peer, request_id))
        if self.stage == Stage.NONE:
            self._begin(node)

    def _begin(self, node):
        self.stage = Stage.ENDING
        node.change_phase(STOPPING, 'commits in progress end, in %g s at most' % STOP_GRACE)
        node.set_timer(STOP, node.now + STOP_GRACE)
        if node.transactions is None or not node.members.clients:
            self._drained = True
        else:
            def drained(node, answers):
                self._drained = True
                self.progress(node)
            Round(node, dict.fromkeys(node.tables.present(node), Drain()), drained)
        self.progress(node)

    def progress(self, node):
        """Called whenever something has ended, or somebody has left."""
        if self.stage == Stage.ENDING:
            if node.transactions is None or not node.transactions.are_under_way and (
                    self._drained or not node.members.clients):
                self.leave(node)
        elif self.stage == Stage.STORAGES:
            if not node.members.storages:
                self._storages_gone(node)

    def leave(self, node):
        """All that could end has ended, or can't any more."""
        if self.stage == Stage.ENDING:
            self.stage = Stage.STORAGES
            node.stop_serving()
            node.recovery.cancel(node)
            node.change_phase(STOPPING, 'the storages leave, in %g s at most' % SHUTDOWN_GRACE)
            for peer in node.members.storages.values():
                node.send(peer, ClusterStateChanged(STOPPING, ''))
            node.set_timer(STOP, node.now + SHUTDOWN_GRACE)
            self.progress(node)

    def _storages_gone(self, node):
        self.stage = Stage.GONE
        left = ', '.join(map(node.members.describe, node.members.storages))
        message = as_reason('the cluster has stopped' + (', but for %s' % left if left else ''))
        for peer, request_id in self.requests:
            node.answer(peer, request_id, SetClusterState.Answer(message))
        for peer in [*node.members.admins.values(), *[it.peer for it in node.fellows.reached()]]:
            node.send(peer, ClusterStateChanged(STOPPING, ''))
        node.exit(0, 'the cluster has stopped')

    def follow(self, node):
        """Another master has stopped the cluster: who is connected to this one only leaves too."""
        for peer in [*node.members.storages.values(), *node.members.admins.values()]:
            node.send(peer, ClusterStateChanged(STOPPING, ''))
        node.exit(0, 'the cluster has stopped')

    def timer(self, node):
        """Patience is over."""
        if self.stage == Stage.ENDING:
            self.leave(node)
        elif self.stage == Stage.STORAGES:
            self._storages_gone(node)
