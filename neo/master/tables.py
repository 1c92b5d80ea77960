"""Partition tables on their way: sent, durable where it matters, in force (docs/architecture.md,
"Who may serve")."""
from ..cluster.context import Context
from ..protocol.packets import TableChanged, TableInForce, WriteTable
from .round import Round


class Pending(Context):
    """A table that has been sent; the context of its WriteTable."""

    __slots__ = 'table', 'required', 'then'

    def __init__(self, table, required=(), then=None):
        self.table = table
        self.required = required        # ids of the storages that have to hold it
        self.then = then                # called with the node when it is in force

    def is_durable(self, storages):
        return all(id in storages and storages[id].data.holds(self.table) for id in self.required)

    def answered(self, node, peer, answer):
        tables = node.tables
        if self in tables.pending:
            peer.data.held = self.table.key
            tables.advance(node)
        elif self.table is tables.in_force:
            peer.data.held = self.table.key
            tables.tell(node, peer)     # it comes late
            node.admit_late(peer)

    def refused(self, node, peer, error):
        node.drop(peer, 'it does not take the table: %s' % error.message)


class Tables:
    """Of one candidate: it starts from `newest`, the newest one known; each that it sends is
    `pending` until it is in force, one after the other."""

    def __init__(self):
        self.newest = None              # PartitionTable: sent last, or what is begun with
        self.in_force = None            # under this term
        self.pending = []               # Pending, in the order of their keys
        self._changed = None            # TableChanged of the one in force

    def abandon(self):
        """Another term begins: what is in force is to be found again."""
        self.in_force = None
        self.pending = []

    def forget(self):
        self.abandon()
        self.newest = None

    def storages(self):
        """Ids of those that have a cell, in order."""
        return () if self.newest is None else self.newest.storages()

    def voters(self):
        """Ids of those without which there is no cluster.  A table that is pending can't be
        withdrawn any more: both sides of each change count."""
        if not self.pending:
            return () if self.newest is None else self.newest.voters()
        return tuple(dict.fromkeys(id for pending in self.pending for id in pending.required))

    def holders(self, node):
        """Peers that hold the table in force, in the order of their coming."""
        return [peer for peer in node.members.storages.values() if peer.data.holds(self.in_force)]

    # -- changes ------------------------------------------------------------------------------
    def write(self, node, table, then):
        """Send `table` to all who have granted the term; call `then(node)` when it is in force:
        durable with all voters of it and of the one before."""
        before, self.newest = self.newest or table, table
        pending = Pending(table, tuple(dict.fromkeys((*before.voters(), *table.voters()))), then)
        self.pending.append(pending)
        packet = self._write_table(node)
        for peer in node.members.storages.values():
            if peer.data.grant is not None:
                node.ask(peer, packet, pending)

    def _write_table(self, node):
        cluster, table = node.cluster, self.newest
        return WriteTable(cluster.id, cluster.history, table.partitions, table.pack(),
                          node.members.written())

    def advance(self, node):
        """Put in force what can be, the oldest first."""
        while self.pending and self.pending[0].is_durable(node.members.storages):
            pending = self.pending.pop(0)
            self.in_force, self._changed = pending.table, None
            node.cluster.certain = True
            for peer in self.holders(node):
                self.tell(node, peer)
            pending.then(node)

    def tell(self, node, peer):
        """It holds the table in force: it may rely on that."""
        peer.data.cluster_id = node.cluster.id
        node.send(peer, TableInForce(self.in_force.key))

    def write_to(self, node, peer):
        """To one that comes late."""
        node.ask(peer, self._write_table(node),
                 self.pending[-1] if self.pending else Pending(self.newest))

    def write_members(self, node, peer):
        """The same to all, since `peer` has got an id for good: it hears of that last, so that it
        can't come back with an id which nobody else remembers."""
        grant = peer.data.grant

        def kept(node, answers):
            if peer.data.grant is grant:
                self.write_to(node, peer)
        packet = self._write_table(node)
        Round(node, {node.members.storages[id]: packet for id in self.voters()}, kept)

    def changed(self):
        """What tells the table in force: one packet for all."""
        if self._changed is None:
            self._changed = TableChanged(self.in_force.pack())
        return self._changed
