"""What truncations have removed."""
from neo.cluster.cuts import history_of, is_removed, knows, made, missed
from neo.cluster.partition_table import PartitionTable
from neo.protocol.limits import MAX_CUTS
from neo.protocol.types import CellState, Cut

CUTS = Cut(b'a', b'b', 50, 60, ()), Cut(b'b', b'c', 80, 90, ()), Cut(b'c', b'd', 55, 99, ())


def test_the_present_history_is_the_last_one():
    assert history_of((), b'a') == b'a' and history_of(CUTS, b'a') == b'd'


def test_histories_of_before_are_known():
    assert all(knows(CUTS, b'a', history) for history in (b'a', b'b', b'c', b'd'))
    assert not knows(CUTS, b'a', b'x') and not knows((), b'a', b'x')
    assert knows((), b'a', b'a')


def test_who_comes_from_before_goes_back_to_the_lowest_since():
    assert missed(CUTS, b'a') == (50, 99)
    assert missed(CUTS, b'b') == (55, 99)
    assert missed(CUTS[:2], b'b') == (80, 90)
    assert missed(CUTS, b'd') is missed(CUTS, None) is missed((), b'a') is None


def test_what_was_done_before_a_history():
    assert [made(CUTS, history) for history in (b'a', b'b', b'd')] == [(), CUTS[:1], CUTS]


def test_what_is_removed():
    assert [tid for tid in range(40, 110) if is_removed(CUTS[:2], tid)] == [
        *range(51, 61), *range(81, 91)]
    assert is_removed(CUTS, 99) and not is_removed(CUTS, 100)


def test_each_later_table_keeps_them():
    table = PartitionTable(1, 1, 0, [{'S1': CellState.UP_TO_DATE}]).cut(CUTS[0])
    assert table.key == (1, 2) and table.cuts == CUTS[:1]
    for later in (table.rewritten(2), table.outdated([(0, 'S1')]), table.filled([(0, 'S1')]),
                  table.next(replicas=1), table.with_masters(['M1']),
                  PartitionTable.unpack(table.pack())):
        assert later.cuts == CUTS[:1]
    assert table != PartitionTable(1, 2, 0, table.rows)


def test_not_more_than_so_many_are_kept():
    table = PartitionTable(1, 1, 0, [{'S1': CellState.UP_TO_DATE}])
    for number in range(MAX_CUTS + 3):
        table = table.cut(Cut(b'%d' % number, b'%d' % (number + 1), number, number, ()))
    assert len(table.cuts) == MAX_CUTS and table.cuts[-1].tid == MAX_CUTS + 2
