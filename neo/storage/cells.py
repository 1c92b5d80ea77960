"""Up to which tid each row has everything, of those that are being filled here; durable."""
from ..cluster.partition_table import PartitionTable
from ..protocol.types import MAX_TID, CellState, Copies, RowTid


class Cells:
    """`complete` is {row: tid}; a row that can be read is not in it, unless the table that says so
    is mistaken: the primary sees to that before it serves."""

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
        removed = _removed(before, table)
        complete = self._not_whole(node.id, before, table, removed)
        told = [RowTid(row, self.complete.get(row, removed))
                for row, storages in enumerate(table.readable) if node.id in storages
                and row not in complete and (row in self.complete or removed < MAX_TID)]
        if told:
            # Where the last one is not here, nothing else may be missed.
            node.engine.raise_told(told)
        corrupted = set(self._state.corrupted)
        for row in table.out_of_date.get(node.id, ()):
            if row in corrupted:
                complete[row] = 0
                corrupted.discard(row)
                self.ordered([row])
            elif row in self.complete:
                complete[row] = self.complete[row]
            elif before is not None and node.id in before.readable[row]:
                complete[row] = last_known(node.engine, before, node.id, self.complete)
            else:
                complete[row] = 0
        if complete != self.complete:
            self.complete = complete
            self._keep()
            self.ordered(set(self._state.claimed).difference(complete))
        if table.key == self._state.table_key:
            corrupted.intersection_update(table.corrupted.get(node.id, ()))
        if len(corrupted) < len(self._state.corrupted):
            self._state.put(corrupted=tuple(sorted(corrupted)))

    def _not_whole(self, id, before, table, removed):
        """{row: tid up to which it is complete} of those that can be read here by this table, and
        nothing here says that they were filled: this disk was put back to an older copy.  What is
        `removed` by a forced start an older copy need not have."""
        return {row: self.complete.get(row, 0) for row, readable in enumerate(table.readable)
                if id in readable and row not in self._state.claimed and (
                    row in self.complete or before is not None and id not in before.readable[row])
                and self.complete.get(row, 0) < removed}

    def are_taken(self, readable):
        """The primary serves, and lets clients read these rows: nothing was told that they lack.
        Was it in doubt?"""
        taken = self.complete.keys() & readable
        if taken:
            self.complete = {row: tid for row, tid in self.complete.items() if row not in taken}
            self._keep()
        return bool(taken)

    def have(self, node):
        """The Copies."""
        in_force = self._state.in_force
        filled = tuple(RowTid(*it) for it in sorted(self.complete.items()))
        if in_force is None:
            return Copies(0, filled, ())
        table = PartitionTable.unpack(in_force)
        lacks = [row for row, _ in node.engine.told() if row not in self._state.claimed and (
            row in self.complete or row >= table.partitions or node.id not in table.readable[row])]
        return Copies(last_known(node.engine, table, node.id, self.complete), filled, lacks)

    def claimed(self, rows):
        """The primary is told that they are filled: a table that makes them readable may be in
        force before that is heard here."""
        self._state.put(claimed=tuple(sorted({*self._state.claimed, *rows})))

    def ordered(self, rows):
        """They lack something more, or all."""
        left = set(self._state.claimed).difference(rows)
        if len(left) < len(self._state.claimed):
            self._state.put(claimed=tuple(sorted(left)))

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


def _removed(before, table):
    """All above that tid is removed by starts that were forced since the table `before`."""
    return min([cut.tid for cut in table.cuts if cut.kept and (
        before is None or cut not in before.cuts)], default=MAX_TID)


def last_known(engine, table, id, but=()):
    """The tid up to which all that storage `id` could read by `table` is complete: no tid was told
    before every lower one was locked wherever it belongs, so only those are in doubt that are
    locked and not told.  Of what it could not read, others may have said what was told; likewise of
    the rows `but`."""
    told = max([it.tid for it in engine.told()
                if id in table.readable[it.row] and it.row not in but], default=0)
    locked = min([it.first for it in engine.locked()], default=told + 1)
    return min(told, locked - 1)
