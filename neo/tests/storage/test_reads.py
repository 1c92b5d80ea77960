"""What clients may read, and what has to wait."""
import pytest

from neo.protocol import limits
from neo.protocol.packets import (ListRecords, ListTransactions, Load, Measure, ObjectHistory,
                                  TableChanged)
from neo.protocol.types import CellState, ErrorCode, Record

from .script import PARTITIONS, TTID, metadata, record, table

ROWS = tuple(range(PARTITIONS))
END = 1 << 62


def test_load(script):
    script.commit(script.a, script.m, TTID, 100, record(1, data=b'1'))
    script.commit(script.a, script.m, TTID + 1, 200, record(1, 100, data=b'2'))
    first, second = script.a.load(1, 200), script.a.load(1, 201)
    assert (first.tid, first.next_tid, first.data) == (100, 200, b'1')
    assert (second.tid, second.next_tid, second.data) == (200, None, b'2')
    assert script.a.load(1, 100).error == ErrorCode.NO_REVISION
    assert script.a.load(2).error == ErrorCode.NO_OBJECT


def test_deletions(script):
    script.commit(script.a, script.m, TTID, 100, record(1))
    script.commit(script.a, script.m, TTID + 1, 200, record(1, 100, data=None))
    assert script.a.load(1, 200).data == b'data'
    assert script.a.load(1).error == ErrorCode.NO_OBJECT
    script.commit(script.a, script.m, TTID + 2, 300, record(1, 200))
    assert script.a.load(1, 300).error == ErrorCode.NO_REVISION
    assert script.a.load(1).tid == 300


def test_data_that_are_elsewhere(script):
    script.commit(script.a, script.m, TTID, 100, record(1, data=b'first'))
    script.commit(script.a, script.m, TTID + 1, 200, record(1, 100, data=b'second'))
    undo = Record(1, 200, None, 0, record(1, data=b'first').checksum, None, 100)
    script.commit(script.a, script.m, TTID + 2, 300, undo)
    loaded = script.a.load(1)
    assert (loaded.tid, loaded.data, loaded.data_tid) == (300, b'first', 100)


def test_broken_data(script):
    broken = Record(1, 0, None, 0, b'?' * 16, b'data', None)
    script.commit(script.a, script.m, TTID, 100, broken)
    assert script.a.load(1).error == ErrorCode.BROKEN_DATA


def test_what_is_only_locked_does_not_end_a_revision(script):
    script.commit(script.a, script.m, TTID, 100, record(1, data=b'1'))
    script.a.voted(TTID + 1, record(1, 100, data=b'2'))
    script.m.lock(TTID + 1, 200)
    assert script.b.load(1, 150).next_tid is None
    script.m.unlock(TTID + 1)
    assert script.b.load(1, 150).next_tid == 200


def test_a_read_waits_for_what_is_locked_below_it(script):
    script.commit(script.a, script.m, TTID, 100, record(1, data=b'1'))
    script.a.voted(TTID + 1, record(1, 100, data=b'2'))
    assert script.b.load(1).data == b'1'        # voted is not locked
    script.m.lock(TTID + 1, 200)
    assert script.b.load(1, 200).data == b'1'   # only below
    request = script.b.say(Load(1, 201))
    history = script.b.say(ObjectHistory(1, END, 10))
    assert script.b.quiet()
    assert script.b.load(2).error == ErrorCode.NO_OBJECT    # only this object
    script.m.unlock(TTID + 1)
    assert script.b.answer_to(request).data == b'2'
    assert script.b.answer_to(history).revisions == ((200, 1), (100, 1))
    assert script.nothing_left()


def test_a_check_is_in_nobody_s_way(script):
    script.commit(script.a, script.m, TTID, 100, record(1))
    script.a.voted(TTID + 1, checks=[(1, 100)], transactions=[])
    script.m.lock(TTID + 1, 200)
    assert script.b.load(1).tid == 100


def test_a_read_that_waits_for_two(script):
    script.a.voted(TTID, record(1))
    script.b.voted(TTID + 1, record(2))
    script.m.lock(TTID, 100)
    script.m.lock(TTID + 1, 101)
    request = script.b.say(ListTransactions(0, 102, ROWS))
    early = script.b.say(ListTransactions(0, 100, ROWS))
    assert script.b.answer_to(early).transactions == ()
    script.m.unlock(TTID)
    assert script.b.quiet()
    script.m.unlock(TTID + 1)
    assert [t[0] for t in script.b.answer_to(request).transactions] == [100, 101]


def test_what_turns_out_not_to_be_there(script):
    script.a.voted(TTID, record(1, data=None))
    script.m.lock(TTID, 100)
    request = script.b.say(Load(1, END))
    script.m.unlock(TTID)
    assert script.b.answer_to(request).error == ErrorCode.NO_OBJECT
    assert script.m.open


@pytest.mark.parametrize('how', ['leave', 'removed'])
def test_reads_of_who_has_gone_are_dropped(script, how):
    script.a.voted(TTID, record(1))
    script.m.lock(TTID, 100)
    script.b.say(Load(1, END))
    kept = script.a.say(Load(1, END))
    script.b.leave() if how == 'leave' else script.announce(removed=['C2'])
    assert len(script.node.parked[TTID]) == 1
    script.m.unlock(TTID)
    assert script.a.answer_to(kept).tid == 100 and script.b.quiet()


def test_waiting_reads_are_bounded(script):
    script.a.voted(TTID, record(1))
    script.m.lock(TTID, 100)
    client = next(c for c in script.node.clients.values() if c.id == 'C2')
    client.parked = limits.MAX_PARKED
    assert script.b.load(1).error == ErrorCode.NOT_READY


def test_rows_that_are_not_here(script):
    script.commit(script.a, script.m, TTID, 100, record(1))
    for state in CellState.OUT_OF_DATE, CellState.CORRUPTED:
        script.m.say(TableChanged(table(1, 2, state=state)))
        assert script.a.load(1).error == ErrorCode.NOT_HERE
        assert script.a.ask(ListRecords(0, None, END, [1])).error == ErrorCode.NOT_HERE
        assert script.a.ask(ListTransactions(0, END, [1])).error == ErrorCode.NOT_HERE
        assert script.a.ask(ObjectHistory(1, END, 9)).error == ErrorCode.NOT_HERE
    script.m.say(TableChanged(table(1, 3, state=CellState.FEEDING)))
    assert script.a.load(1).tid == 100
    script.m.say(TableChanged(table(1, 4, owner='S2')))
    assert script.a.load(1).error == ErrorCode.NOT_HERE
    assert script.a.ask(ListRecords(0, None, END, [PARTITIONS])).error == ErrorCode.NOT_HERE


def test_lists(script):
    for i in range(8):
        script.commit(script.a, script.m, TTID + i, 100 + i, record(i))
    answer = script.a.ask(ListTransactions(101, 105, [1, 2]))
    assert [t[0] for t in answer.transactions] == [101, 102]
    assert answer.transactions[0][1:] == (TTID + 1, *metadata(1)[1:])
    answer = script.a.ask(ListRecords(100, None, END, [3]))
    assert [(r[0], r[1]) for r in answer.records] == [(3, 103), (7, 107)]
    assert script.a.ask(Measure()).objects == 8


def test_history_of_nothing(script):
    script.commit(script.a, script.m, TTID, 100, record(1))
    assert script.a.ask(ObjectHistory(2, END, 9)).error == ErrorCode.NO_OBJECT
    assert script.a.ask(ObjectHistory(1, 100, 9)).revisions == ()
