"""What storages say they have, compared when a cluster recovers: plain functions of a table and of
{storage: RequestTerm.Answer} (docs/decisions/settling.md).

A row is complete in a readable cell if that holds the last transaction of which any storage with a
readable cell knows that it was told, and its storage does not know that it lacks others.  A cell
that is behind lacks what clients have seen: its disk was put back to an older copy, or has lied
about what was written.
"""
from collections import namedtuple

from ..cluster.cuts import is_removed, kept_below, made

Missing = namedtuple('Missing', 'row tid knows holders')
Missing.__doc__ = """No readable cell of `row` has transaction `tid`, of which the storages `knows`
know that it was told; `holders` are [(storage, last tid it knows of there)]."""


def locked_by(state):
    """{ttid: Unfinished} of what is locked there."""
    return {it.ttid: it for it in state.unfinished if it.tid is not None}


def compare(table, states):
    """`(behind, missing)`: the readable cells, (row, storage), that are to be out of date before
    anything is settled or served, and the Missing.  Storages without `states` are not looked at.
    What a start was forced without is missed by nobody."""
    told = {id: {it.row: it.tid for it in states[id].told} for id in table.readers()
            if id in states}
    locked = {id: {(row, it.tid) for it in locked_by(states[id]).values() for row in it.rows}
              for id in told}
    behind, missing = [], []
    for row, expected in sorted(last_told(told).items()):
        present = [id for id in table.readable[row] if id in told]
        enough = kept_below(table.cuts, expected)
        holds = {id: held(states[id].copies, row, told[id].get(row, 0), expected)
                 for id in present}
        late = [id for id in present if holds[id] < enough and (
            row in states[id].copies.lacks or (row, expected) not in locked[id])]
        if late and len(late) == len(present):
            missing.append(Missing(
                row, expected, [id for id, rows in told.items() if rows.get(row) == expected],
                [(id, holds[id]) for id in late]))
        behind += [(row, id) for id in late]
    return behind, missing


def held(copies, row, told, expected):
    """The tid up to which a storage has everything of a row, of which it knows what was `told`, and
    somebody what was `expected`."""
    filled = {it.row: it.tid for it in copies.filled}
    if row in copies.lacks:
        return filled.get(row, 0)
    # It has missed nothing as long as it has heard of what was told of other rows.
    return copies.complete if row not in filled and told < copies.complete < expected else told


def last_told(told):
    """{row: the highest tid that is known to have been told in it}."""
    last = {}
    for rows in told.values():
        for row, tid in rows.items():
            if tid > last.get(row, 0):
                last[row] = tid
    return last


def last_known(table, states):
    """The highest tid that was given before, as far as those with a readable cell know."""
    readers = [states[id] for id in table.readers() if id in states]
    return max([cut.last for cut in table.cuts] + [state.last_tid for state in readers]
               + [it.tid for state in readers for it in state.told], default=0)


def knows_more(state, term, known):
    """The tid of what was told to this storage in a former term, if that is above all that those
    knew of whom the present one has started from; else 0.  It must not be filled: what it has and
    they lack would stay there, and only there."""
    complete, in_force = state.copies.complete, state.in_force
    return complete if in_force is not None and in_force.term < term and complete > known else 0


class Locked:
    """A transaction that is locked somewhere, and what becomes of it.  One that is `removed` was
    settled and then removed by who has a truncation behind it: who has only settled it still has to
    know that it was told."""

    def __init__(self, it, table, has, removed):
        self.it, self.removed = it, removed
        self.cells = {id for row in it.rows for id in table.readable[row] if id in has}
        self.having = {id for id in self.cells if it.ttid in has[id]}

    @property
    def uncertain(self):
        """Storages that may have it unlocked: then it was told."""
        return set() if self.removed else self.cells - self.having

    def is_kept(self, found, table):
        """`found`: the storages that have it unlocked.  `table` is the one in force, without the
        cells that are behind."""
        if self.removed:
            return bool(self.having)
        readable = {id for row in self.it.rows for id in table.readable[row]}
        return bool(found) or self.having >= self.cells & readable

    def _is_given_up(self, table):
        """By a start that was forced with copies that lack it: all others will remove it."""
        return all(is_removed([cut for cut in table.cuts if cut.kept], tid)
                   for tid in (self.it.first, self.it.tid))

    def lacking(self, found, table):
        """Readable cells in which it should be, once it is kept, and is not."""
        if self.removed or self._is_given_up(table):
            return []
        return [(row, id) for row in self.it.rows for id in table.readable[row]
                if id in self.cells and id not in self.having and id not in found]


def all_locked(table, states):
    """What is locked on any storage, by ttid."""
    has = {id: {it.ttid for it in state.unfinished} for id, state in states.items()}
    found = {}
    for state in states.values():
        found.update(locked_by(state))
    cuts = made_by_any(table, states)
    return [Locked(it, table, has, is_removed(cuts, it.tid)) for _, it in sorted(found.items())]


def made_by_any(table, states):
    """The truncations that some storage with a readable cell has made."""
    return max([made(table.cuts, states[id].history) for id in table.readers()
                if id in states and states[id].history is not None], key=len, default=())


def contradictions(states):
    """[(ttid, {storage: Unfinished})] of those that are said to have several tids."""
    said = {}
    for id, state in states.items():
        for ttid, it in locked_by(state).items():
            said.setdefault(ttid, {})[id] = it
    return [(ttid, by) for ttid, by in sorted(said.items()) if len(set(by.values())) > 1]


def is_sound(state, partitions):
    """Are all rows that a storage speaks of rows of the table?"""
    return all(it.row < partitions for it in state.told) and all(
        row < partitions for it in state.unfinished for row in it.rows)
