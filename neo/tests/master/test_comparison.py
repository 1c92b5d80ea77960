"""What storages say of rows that some of them are filling, or have filled, misleads no recovery."""
import pytest

from neo.cluster.partition_table import PartitionTable
from neo.master.comparison import Missing, compare
from neo.protocol.packets import RequestTerm
from neo.protocol.types import CellState, Copies, RowTid, Unfinished

STATES = {'U': CellState.UP_TO_DATE, 'O': CellState.OUT_OF_DATE}


def table(*rows):
    """Of S1, S2, …: a letter each."""
    return PartitionTable(1, 1, 1, [
        {'S%d' % (i + 1): STATES[letter] for i, letter in enumerate(row) if letter != '.'}
        for row in rows])


def state(*told, locked=(), filled=(), lacks=()):
    """`told` by row, 0 for nothing; `locked` are (ttid, tid, rows)."""
    return RequestTerm.Answer(
        True, 1, None, None, (), 0, 0,
        tuple(Unfinished(ttid, tid, tid, rows) for ttid, tid, rows in locked),
        tuple(RowTid(row, tid) for row, tid in enumerate(told) if tid), 0.0, None,
        Copies(0, tuple(RowTid(*it) for it in filled), lacks))


@pytest.mark.parametrize('blind', [0, 10, 20, 30])
def test_a_row_that_is_being_filled_is_not_behind(blind):
    """Whatever was written to it blindly meanwhile."""
    assert compare(table('UU', 'UO'), {'S1': state(20, 30), 'S2': state(20, blind)}) == ([], [])


def test_a_blind_write_was_told_as_well():
    """Who can read that row knows it by its lock, for which all have waited."""
    locked = state(20, 20, locked=[(7, 30, (1,))])
    assert compare(table('UU', 'UO'), {'S1': locked, 'S2': state(20, 30)}) == ([], [])
    # One that has lost it is not to be read, though nobody else can be.
    assert compare(table('UU', 'UO'), {'S1': state(20, 20), 'S2': state(20, 30)}) == (
        [(1, 'S1')], [Missing(1, 30, ['S2'], [('S1', 20)])])


def test_a_row_that_was_filled_knows_what_its_source_knew():
    """Row 1 was last written by 30, before S2 has copied it; without that it would be behind, and
    the cluster would wait for 30 as soon as S1 is gone."""
    after = table('UU', 'UU')
    assert compare(after, {'S1': state(20, 30), 'S2': state(20, 30)}) == ([], [])
    assert compare(after, {'S1': state(20, 30), 'S2': state(20, 25)}) == ([(1, 'S2')], [])


def test_who_knows_what_was_told_of_a_row_and_does_not_have_it_is_behind():
    """It took part in 30, of both rows, before it had row 1 itself; then it was given that, and its
    disk was put back."""
    old = state(30, 30, lacks=[1], locked=[(7, 30, (0, 1))])
    assert compare(table('UU', 'UU'), {'S1': state(30, 30), 'S2': old}) == ([(1, 'S2')], [])
    old = state(30, 30, lacks=[1], filled=[(1, 20)])
    assert compare(table('UU', '.U'), {'S1': state(30, 30), 'S2': old}) == (
        [(1, 'S2')], [Missing(1, 30, ['S1', 'S2'], [('S2', 20)])])


def test_who_can_read_nothing_is_not_asked():
    """It may have been away for long, and its disk may be anything."""
    assert compare(table('UO', 'UO'), {'S1': state(20, 20), 'S2': state(90, 90)}) == ([], [])
