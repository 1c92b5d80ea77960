"""Partition tables on their way: sent, durable where it matters, in force (docs/architecture.md,
"Who may serve").

A table once sent can't be withdrawn, only superseded.  It is in force when it is durable on half of
its own voters and of those of the one in force before it; tables come in force one after another.
"""
from operator import attrgetter

from ..cluster import cuts
from ..cluster.context import Context
from ..cluster.node import Refused
from ..cluster.partition_table import PartitionTable
from ..protocol.packets import TableChanged, TableInForce, WriteTable
from ..protocol.types import ErrorCode, NodeKind
from .round import Round

KEY = attrgetter('key')
FORMER = 64                     # so many tables are remembered that transactions may be routed by


class Pending(Context):
    """A table that has been sent; the context of its WriteTable."""

    __slots__ = 'table', 'quorums', 'holders', 'then'

    def __init__(self, table, quorums=(), then=None):
        self.table = table
        self.quorums = quorums          # [(voters, how many of them have to hold it)]
        self.holders = set()            # ids of the nodes on which it is durable
        self.then = [then]              # called with the node when it is in force

    def is_durable(self):
        return all(len(self.holders.intersection(voters)) >= needed
                   for voters, needed in self.quorums)

    def answered(self, node, peer, answer):
        tables = node.tables
        late = tables.in_force is not None and not peer.data.holds(tables.in_force)
        peer.data.held = self.table.key
        if late and peer.data.holds(tables.in_force):
            tables.tell(node, peer)
        tables.held(peer)
        tables.advance(node)

    def refused(self, node, peer, error):
        if error.error == ErrorCode.NOT_READY:
            node.disobeyed(peer, error.message)
        else:
            node.drop(peer, 'it does not take the table: %s' % error.message)


def all_of(voters):
    return voters, len(voters)


def half(voters):
    return voters, (len(voters) + 1) // 2


class Tables:
    """Of one candidate: what it knows of former tables, and those it sends, which are `pending`
    until they are in force."""

    def __init__(self):
        self.base = None                # PartitionTable: the newest known to be in force
        self.later = []                 # those above it that former primaries have sent, in order
        self.in_force = None            # `base`, if that is of the present term
        self.pending = []               # Pending, in the order of their keys
        self._former = {}               # {key: those that were in force lately in this term}
        self._changed = None            # TableChanged of the one in force
        self._own = False               # this master has the newest once this turn is committed

    @property
    def newest(self):
        """The one sent last, whoever has sent it, or None."""
        if self.pending:
            return self.pending[-1].table
        return self.later[-1] if self.later else self.base

    # -- what is known ------------------------------------------------------------------------
    def abandon(self):
        """Another term begins: what is in force is to be found again."""
        self.later += [pending.table for pending in self.pending]
        self._own = False
        self.in_force = None
        self._former = {}
        self.pending = []

    def forget(self):
        self.__init__()

    def learn(self, states):
        """Look at the RequestTerm.Answers of storages.  A table that was never in force, nowhere,
        is of a cluster that was not created."""
        forced = [PartitionTable.unpack(state.in_force) for state in states if state.in_force]
        self.base = max([*forced, *[self.base] * bool(self.base)], key=KEY, default=None)
        if self.base is not None:
            later = {table.key: table for table in self.later}
            for state in states:
                if state.table is not None and state.table[:2] not in later:
                    later[state.table[:2]] = PartitionTable.unpack(state.table)
            # A start that was being forced, and is not known to be in force, has to be forced anew.
            self.later = [later[key] for key in sorted(later) if key > self.base.key
                          and cuts.forced(later[key].cuts) == cuts.forced(self.base.cuts)]

    def is_elected_by(self, ids):
        """Are these nodes more than half of the voters of the table in force, and of all that may
        be, and have they a readable cell of each row?"""
        return self.newest.operational(ids) and all(
            2 * len(ids & set(table.voters())) > len(table.voters())
            for table in (self.base, *self.later))

    def lacking(self, ids):
        """`(needed, number, others)`: whom these nodes lack to be elected.  Without the `needed` a
        row can't be read; of the `others`, that many have to come, if not more."""
        unreadable = [row for row in self.newest.readable if ids.isdisjoint(row)]
        needed = {id for row in unreadable if len(row) == 1 for id in row}
        there = ids | needed
        number = max(len(table.voters()) // 2 + 1 - len(there.intersection(table.voters()))
                     for table in (self.base, *self.later))
        if number < 1:
            number = int(any(there.isdisjoint(row) for row in unreadable))
        away = [id for id in self.all_voters() if id not in ids]
        return ([id for id in away if id in needed], number,
                [id for id in away if id not in needed] if number else [])

    def storages(self):
        """Ids of those that have a cell, in order."""
        return () if self.newest is None else self.newest.storages()

    def readers(self):
        """Ids of those that have a readable cell in the table in force, or in one that may be."""
        tables = [self.in_force or self.base, *self.later, *[it.table for it in self.pending]]
        return tuple(dict.fromkeys(
            id for table in tables if table is not None for id in table.readers()))

    def present(self, node):
        """Peers of those that are there."""
        storages = node.members.storages
        return [storages[id] for id in self.readers() if id in storages]

    def all_voters(self):
        """Ids of those of the table in force and of all that may be."""
        tables = [self.in_force or self.base, *self.later, *[it.table for it in self.pending]]
        return tuple(dict.fromkeys(
            id for table in tables if table is not None for id in table.voters()))

    def holders(self, node):
        """Peers of storages that hold the table in force, in the order of their coming."""
        return [peer for peer in node.members.storages.values() if peer.data.holds(self.in_force)]

    # -- changes ------------------------------------------------------------------------------
    def write(self, node, table, then, quorums=None):
        """Send `table` to all who have granted the term; call `then(node)` when it is in force."""
        pending = Pending(table, quorums or self._quorums(table), then)
        self.pending.append(pending)
        packet = self._write_table(node)
        for peer in node.obedient():
            node.ask(peer, packet, pending)
        self._keep(node, packet)
        node.table_is_written()

    def _keep(self, node, packet):
        """Here as well."""
        node.state.put(cluster_id=packet.cluster_id, history=packet.history, table=packet.table,
                       members=packet.members)
        node.durable()
        self._own = True

    def hold_own(self, node):
        """At the end of a turn, what is sent after its commit may count on that.  Was there any
        news?"""
        if not self._own:
            return False
        self._own = False
        for pending in self.pending:
            pending.holders.add(node.id)
        self.advance(node)
        return True

    def _quorums(self, table):
        if self.base is None:           # it is the first one of a new cluster
            return [all_of(table.voters())]
        if self.pending:
            return [half(table.voters()), half(self.pending[-1].table.voters())]
        # Of the first one of a term: all those by whom its primary was elected.
        return [half(it.voters()) for it in (table, self.base, *self.later)]

    def _write_table(self, node):
        cluster, table = node.cluster, self.newest
        return WriteTable(cluster.id, cluster.history, table.partitions, table.pack(),
                          node.members.written())

    def held(self, peer):
        for pending in self.pending:
            if peer.data.holds(pending.table):
                pending.holders.add(peer.id)

    def advance(self, node):
        """Put in force what can be, the oldest first."""
        while self.pending and self.pending[0].is_durable():
            pending = self.pending.pop(0)
            self.base = self.in_force = pending.table
            self._remember(pending.table)
            self.later, self._changed = [], None
            node.cluster.certain = True
            node.state.put(in_force=pending.table.pack())
            node.durable()
            for peer in node.obedient():
                if peer.data.holds(self.in_force):
                    self.tell(node, peer)
            node.table_is_in_force()
            for then in pending.then:
                then(node)

    def _remember(self, table):
        self._former[table.key] = table
        if len(self._former) > FORMER:
            del self._former[min(self._former)]

    def sent_in_force(self, key):
        """The table of this term with that key, which was in force; raises Refused."""
        if key == self.in_force.key:
            return self.in_force
        table = self._former.get(key)
        if table is None:
            raise Refused(ErrorCode.RETRY, 'the table has changed too often since this transaction'
                          ' began')
        return table

    def when_in_force(self, node, function):
        """Call `function(node)` once what has been sent by now is in force."""
        if self.pending:
            self.pending[-1].then.append(function)
        else:
            function(node)

    def tell(self, node, peer):
        """It holds the table in force: it may rely on that."""
        peer.data.cluster_id = node.cluster.id
        node.send(peer, TableInForce(self.in_force.key))
        if peer.kind == NodeKind.STORAGE:
            node.admit_late(peer)

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
        self._keep(node, packet)
        Round(node, dict.fromkeys(self.present(node), packet), kept)

    def changed(self):
        """What tells the table in force: one packet for all."""
        if self._changed is None:
            self._changed = TableChanged(self.in_force.pack())
        return self._changed
