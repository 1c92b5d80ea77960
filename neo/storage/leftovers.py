"""Rows that this storage had once, and has no cell of any more by the table in force: what is left
of them is removed, in slices.

Clients that have not heard of that table yet may go on with what they have begun, so that something
more may come: that is removed later, when no more can.
"""
from ..cluster.balance import rows_text
from ..protocol.types import ClusterState
from .engine.interface import BrokenData

LEFTOVERS = 'leftovers'         # name of this background work, and timer
WAIT = 5.0                      # seconds until what came meanwhile is removed


class Leftovers:
    """Which rows these are is durable, how far they are removed is not."""

    def __init__(self, node):
        self._node = node
        self._after = None              # (tid, oid): so far the records are removed; None: all are
        self._start = None              # a tid: the same for metadata
        self._next_tid = 0              # what came before it is removed by now, or by the end
        self._open = None               # ttids that may still write there; None: others may as well
        self._last = False              # is this time the last one?

    @property
    def rows(self):
        return self._node.state.leftovers

    def table_in_force(self, before, table):
        """`before` is the former one, or None."""
        id = self._node.id
        had = [] if before is None else [row for row, cells in enumerate(before.rows)
                                         if id in cells]
        rows = tuple(sorted(row for row in {*self.rows, *had} if id not in table.rows[row]))
        if rows != self.rows:
            self._node.state.put(leftovers=rows)
            self._node.lazily()
            self.begin()

    def begin(self):
        """From the first transaction on."""
        self._next_tid, self._open = 0, None
        self.stop()
        if self.rows and self._node.phase == ClusterState.RUNNING:
            self._node.log('removing what is left of %s', rows_text(self.rows))
            self.go_on()

    def stop(self):
        self._node.no_slices(LEFTOVERS)

    def timer(self):
        """It was set when what was left then had been removed; meanwhile there may be more rows."""
        if LEFTOVERS not in self._node.background:
            self.go_on()

    def go_on(self):
        """With what may have come since it was begun."""
        node = self._node
        if self.rows and node.phase == ClusterState.RUNNING:
            self._last = not self._may_come()
            self._after, self._start = (self._next_tid, -1), self._next_tid
            transactions = node.transactions
            self._next_tid = min([transactions.last_tid + 1, *transactions.locked.values()])
            node.want_slices(LEFTOVERS)

    def _may_come(self):
        """May anybody still write there?"""
        transactions = self._node.transactions
        if not self._node.writable.isdisjoint(self.rows):
            self._open = None
            return True
        there = {*transactions.by_ttid, *transactions.settled}
        self._open = there if self._open is None else self._open & there
        return bool(self._open)

    def slice(self, amount):
        node = self._node
        try:
            self._remove(node.engine, node.partitions, amount)
        except BrokenData as error:
            # It is in nobody's way: it can stay, for this process at least.
            node.conditions.broken(error)
            self.stop()
        else:
            if self._after is None and self._start is None:
                self._end()
        node.lazily()

    def _remove(self, engine, partitions, amount):
        if self._after is not None:
            self._after = engine.remove_records(self._after, partitions, self.rows, amount)
        else:
            self._start = engine.remove_transactions(self._start, partitions, self.rows, amount)

    def _end(self):
        node = self._node
        self.stop()
        if self._last:
            node.log('nothing is left of %s', rows_text(self.rows))
            node.state.put(leftovers=())
        else:
            node.set_timer(LEFTOVERS, node.now + WAIT)
