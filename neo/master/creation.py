"""How a new cluster comes to be (docs/decisions/creation.md)."""
import logging

from ..cluster import balance
from ..cluster.node import Refused
from ..protocol.types import ClusterState, ErrorCode
from . import verification


class Creation:
    """`partitions` and `replicas` of a new cluster; it is created by itself once `autostart`
    storages are there (None: an operator has to say so)."""

    def __init__(self, partitions, replicas, autostart):
        self.partitions, self.replicas, self.autostart = partitions, replicas, autostart
        self.requests = []              # (peer, request id) of operators who wait for it to run
        self.under_way = False          # the first table has been sent, and is not in force

    # -- the operator -------------------------------------------------------------------------
    def order(self, node, peer, request_id):
        """Raises Refused, or answers when the cluster runs."""
        if node.tables.newest is None:
            reason = self._lacks(node)
            if reason:
                raise Refused(ErrorCode.NOT_READY, reason)
        elif node.phase == ClusterState.RECOVERING and not node.tables.pending:
            raise Refused(ErrorCode.NOT_READY, waits_text(node))
        self.requests.append((peer, request_id))
        node.consider()

    def refuse(self, node, reason):
        """What the operators have ordered can't be done now."""
        requests, self.requests = self.requests, []
        for peer, request_id in requests:
            node.refuse(peer, request_id, ErrorCode.NOT_READY, reason)

    # -- rules ----------------------------------------------------------------------------------
    def consider(self, node):
        """There is no table at all: nothing says that this is not a new cluster."""
        storages = node.members.storages.values()
        silent = [peer for peer in [*storages, *[it.peer for it in node.fellows.reached()]]
                  if peer.data.grant is None]
        lacks = self._lacks(node)
        if silent and (not lacks or any(peer.data.cluster_id is not None for peer in storages)):
            # Whatever comes next comes with their answers, most often at once.
            node.wait_for('waiting for an answer of ' + ', '.join(
                node.describe(peer.id) for peer in silent), logging.DEBUG)
        elif lacks:
            node.wait_for(lacks)
            self.refuse(node, lacks)
        elif self.requests or self._starts_alone(node):
            self._create(node)
        else:
            node.wait_for(self._waits(node))

    def _starts_alone(self, node):
        """Without an operator, never beside masters that may create another one."""
        # A cluster of which somebody has been here is not given up for a new one by itself.
        return self.autostart and node.cluster.id is None and (
            len(node.members.storages) >= self.autostart) and not node.fellows.missing()

    def _waits(self, node):
        count = len(node.members.storages)
        alone = self.autostart if node.cluster.id is None else None
        what = []
        if not alone:
            what = ['`neoctl start`']
        elif count < alone:
            what = ['%d of them' % alone]
        if alone and node.fellows.missing():
            what.append(node.fellows.missing())
        return 'a new cluster, with %d storage%s: waiting for %s' % (
            count, 's' * (count != 1), ', and for '.join(what))

    def is_possible(self, node, answers):
        """May this one of several masters stand to create a cluster?  `answers` are {id:
        Canvass.Answer}."""
        lacks = self._lacks(node)
        if lacks or any(id not in answers for id in node.reached()):
            node.wait_for(lacks or 'waiting for answers')
            return False
        if any(answer.led for answer in answers.values()):
            return False                # whom they follow comes first
        if self.requests or self._starts_alone(node):
            return True
        node.wait_for(self._waits(node))
        return False

    def _lacks(self, node):
        """Why a new cluster can't be created whatever the operator wants, or an empty string."""
        storages = node.members.storages.values()
        count = len(storages)
        if not count:
            return 'no storage is there'
        knowing = [peer for peer in [*storages, *[it.peer for it in node.fellows.reached()]]
                   if peer.data.cluster_id is not None]
        if knowing:
            return 'waiting for the table of %s, which knows a cluster' % ', '.join(
                node.describe(peer.id) for peer in knowing)
        if count <= self.replicas:
            return 'a new cluster with %d replica%s needs at least %d storages, and %d %s there' % (
                self.replicas, 's' * (self.replicas != 1), self.replicas + 1, count,
                'is' if count == 1 else 'are')
        return ''

    def _create(self, node):
        """Of all the storages that are there."""
        self.under_way = True
        node.cluster.create(node.rnd)
        node.members.forget()
        for peer in node.members.storages.values():
            node.members.enlist(peer)
        storages = list(node.members.known)
        node.members.set_added(storages, True)
        node.fellows.rename(node)
        masters = node.enlist_masters()
        node.log('a new cluster is created, with %s', ', '.join(node.members.known))
        states = node.granted()

        def created(node):
            self.under_way = False
            verification.begin(node, [], [], states)
        homes = {id: node.members.storages[id].data.topology for id in storages}
        node.tables.write(node, balance.first(
            node.term, self.partitions, self.replicas, homes, masters), created)

    def undo(self, node):
        """The first table is not in force: what has been written of it counts for nobody."""
        if self.under_way:
            self.forget(node)

    def forget(self, node):
        """There is no cluster after all, or another one."""
        self.under_way = False
        node.tables.forget()
        node.members.forget()
        node.cluster.forget()


def waits_text(node):
    return ('the cluster starts by itself when all it needs is there: %s. To start with what is'
            ' there, and lose the rest: neoctl start --force' % node.reason)
