"""Up to which tid each row has everything, of those that are being filled here; durable."""
from ..cluster.partition_table import PartitionTable
from ..protocol.types import CellState, RowTid


class Cells:
    """`complete` is {row: tid}; a row that can be read is not in it."""

    def __init__(self, state):
        self._state = state
        self.complete = {row: tid for tid, rows in state.cells for row in rows}

    def table_written(self, node, table):
        """Durable with it: which rows may not be relied on when they are filled.  That this table
        is in force may never be heard."""
        corrupted = {row for row, cells in enumerate(table.rows)
                     if (node.id, CellState.CORRUPTED) in cells}
        if not corrupted <= set(self._state.corrupted):
            self._state.put(corrupted=tuple(sorted(corrupted.union(self._state.corrupted))))

    def table_in_force(self, node, before, table):
        """`before` is the former one, or None: what could be read by it, and can't any more, is
        complete up to what this storage had when it was left behind."""
        readable = {row: tid for row, tid in self.complete.items()
                    if node.id in table.readable[row]}
        if readable:
            # Where the last one is not here, nothing else may be missed.
            node.engine.raise_told([RowTid(row, tid) for row, tid in sorted(readable.items())])
        complete, corrupted = {}, set(self._state.corrupted)
        for row in table.out_of_date.get(node.id, ()):
            if row in corrupted:
                complete[row] = 0
                corrupted.discard(row)
            elif row in self.complete:
                complete[row] = self.complete[row]
            elif before is not None and node.id in before.readable[row]:
                complete[row] = last_known(node.engine, before, node.id)
            else:
                complete[row] = 0
        if complete != self.complete:
            self.complete = complete
            self._keep()
        if table.key == self._state.table_key:
            corrupted.intersection_update(table.corrupted.get(node.id, ()))
        if len(corrupted) < len(self._state.corrupted):
            self._state.put(corrupted=tuple(sorted(corrupted)))

    def have(self, node):
        """`(complete, filled)` of RequestTerm.Answer."""
        in_force = self._state.in_force
        filled = tuple(RowTid(*it) for it in sorted(self.complete.items()))
        if in_force is None:
            return 0, filled
        return last_known(node.engine, PartitionTable.unpack(in_force), node.id), filled

    def lower_to(self, tid):
        """What is above is removed."""
        if any(complete > tid for complete in self.complete.values()):
            self.complete = {row: min(complete, tid) for row, complete in self.complete.items()}
            self._keep()

    def raise_to(self, rows, tid):
        for row in rows:
            self.complete[row] = tid
        self._keep()

    def _keep(self):
        groups = {}
        for row, tid in self.complete.items():
            groups.setdefault(tid, []).append(row)
        self._state.put(cells=tuple((tid, tuple(rows)) for tid, rows in groups.items()))


def last_known(engine, table, id):
    """The tid up to which all that storage `id` could read by `table` is complete: no tid was told
    before every lower one was locked wherever it belongs, so only those are in doubt that are
    locked and not told.  Of what it could not read, others may have said what was told."""
    told = max([it.tid for it in engine.told() if id in table.readable[it.row]], default=0)
    locked = min([it.first for it in engine.locked()], default=told + 1)
    return min(told, locked - 1)
