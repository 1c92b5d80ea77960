"""What a storage says of its rows, so that others can be compared with it."""
import pytest

from neo.protocol import limits
from neo.protocol.checksum import checksum
from neo.protocol.packets import (ConditionChanged, Digest, TableInForce, WriteTable)
from neo.protocol.types import (CellState, ErrorCode, RecordPosition, StoredRecord)
from neo.storage.engine.interface import COPIED
from neo.storage.engine.memory import MemoryEngine
from neo.storage.engine.sqlite import SqliteEngine

from .script import CLUSTER_ID, HISTORY, PARTITIONS, TTID, Script, record, table

END = RecordPosition(1000, None)
START = RecordPosition(0, None)
FEW = limits.AMOUNTS._replace(fill_rows=2)
UP, OUT, BAD = CellState.UP_TO_DATE, CellState.OUT_OF_DATE, CellState.CORRUPTED


@pytest.fixture(params=['memory', 'sqlite'])
def make(request, tmp_path):
    """A function that gives a storage with a history of row 1 (and others)."""
    engines = []

    def make(**options):
        engines.append(MemoryEngine() if request.param == 'memory'
                       else SqliteEngine(str(tmp_path / str(len(engines)))))
        script = Script(engines[-1], **options)
        script.m = script.serve()
        client = script.client()
        for i in range(1, 5):
            base = 100 * (i - 1)
            script.commit(client, script.m, TTID + i, 100 * i,
                          *[record(oid, base, data=b'%d of %d' % (i, oid)) for oid in (1, 2, 5)])
        return script
    yield make
    for engine in engines:
        engine.close()


def ask(script, start=START, stop=END, metadata=False, row=1):
    return script.m.ask(Digest(row, metadata, start, stop))


def replace(script, *records, after, last):
    """Another content of row 1."""
    assert script.engine.promise(COPIED, 1000, len(records))
    script.engine.replace_records(after, last, PARTITIONS, (1,), records)
    script.engine.commit()


def stored(oid, tid, data):
    return StoredRecord(oid, tid, 0, checksum(data), data, None)


@pytest.mark.parametrize('metadata', [True, False])
def test_equal_histories_have_equal_digests(make, metadata):
    first, second = make(), make()
    assert ask(first, metadata=metadata) == ask(second, metadata=metadata)
    assert ask(first, metadata=metadata).next == END


def test_of_a_row_only(make):
    script = make()
    assert [ask(script, row=row).count for row in (0, 1, 2)] == [0, 8, 4]
    assert len({ask(script, row=row).digest for row in (0, 1, 2)}) == 3


def test_as_much_as_one_answer_holds(make):
    script = make(amounts=FEW)
    places, start = [], START
    while start != END:
        answer = ask(script, start)
        assert answer.count <= 2
        places.append(tuple(answer.next))
        start = answer.next
    assert places[:3] == [(100, 5), (200, 5), (300, 5)]


def test_up_to_a_place_within_a_transaction(make):
    one, other = make(amounts=FEW), make()
    first = ask(one, stop=RecordPosition(200, 1))
    assert (first.count, tuple(first.next)) == (2, (100, 5))
    rest = ask(one, first.next, RecordPosition(200, 1))
    assert (rest.count, tuple(rest.next)) == (1, (200, 1))
    assert rest == ask(other, RecordPosition(100, 5), RecordPosition(200, 1))
    assert ask(other, RecordPosition(200, 1), RecordPosition(201, None)).count == 1


@pytest.mark.parametrize('records', [
    (), [stored(5, 200, b'else')], [stored(5, 200, b'2 of 5'), stored(9, 200, b'')]])
def test_what_differs_shows(make, records):
    script = make()
    before, late = ask(script), ask(script, RecordPosition(201, None))
    replace(script, *records, after=(200, 1), last=(200, 99))
    assert ask(script).digest != before.digest
    assert ask(script, RecordPosition(201, None)) == late
    replace(script, stored(5, 200, b'2 of 5'), after=(200, 1), last=(200, 99))
    assert ask(script) == before


def broken(script, oid, tid):
    """What is there does not match its checksum."""
    replace(script, StoredRecord(oid, tid, 0, b'?' * 16, b'data', None),
            after=(tid, oid - 1), last=(tid, oid))


def test_what_is_broken_is_alone(make):
    script = make()
    broken(script, 5, 200)
    first = ask(script)
    assert (first.count, first.broken, tuple(first.next)) == (3, False, (200, 1))
    second = ask(script, first.next)
    assert (second.count, second.broken, tuple(second.next)) == (1, True, (200, 5))
    assert ask(script, second.next).count == 4
    assert script.m.hears(ConditionChanged)


def test_what_is_broken_behind_the_end(make):
    script = make()
    broken(script, 5, 200)
    answer = ask(script, RecordPosition(200, 1), RecordPosition(200, 3))
    assert (answer.count, answer.broken, tuple(answer.next)) == (0, False, (200, 3))
    assert answer == ask(make(), RecordPosition(200, 1), RecordPosition(200, 3))


def test_broken_metadata():
    engine = MemoryEngine()
    script = Script(engine)
    script.m = script.serve()
    script.commit(script.client(), script.m, TTID, 101, record(1))
    engine.broken.add((101, None))
    answer = ask(script, metadata=True)
    assert (answer.count, answer.broken, tuple(answer.next)) == (1, True, (102, None))
    assert not ask(script, answer.next, metadata=True).broken


# -- what is refused ---------------------------------------------------------------------------
def test_nothing_is_said_of_what_is_locked(make):
    script = make()
    script.client('C2').voted(TTID + 9, record(1, 400))
    script.m.lock(TTID + 9, 500)
    assert ask(script).error == ErrorCode.NOT_READY
    assert ask(script, stop=RecordPosition(499, None)).count == 8
    script.m.unlock(TTID + 9)
    assert ask(script).count == 9


def test_of_a_row_that_is_not_here(make):
    assert ask(make(), row=PARTITIONS).error == ErrorCode.NOT_HERE


# -- a cell that is thrown away --------------------------------------------------------------------
def write(script, ptid, state, term=1):
    cells = table(term, ptid, state=state)
    script.m.ask(WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, cells,
                            [('S1', script.node.identity, '', None, True)]))
    return cells[:2]


def into_force(script, ptid, state, term=1):
    script.m.say(TableInForce(write(script, ptid, state, term)))


def complete(script):
    return set(script.node.filling.cells.complete.values())


def test_what_was_left_behind_misses_the_end_only(make):
    script = make()
    into_force(script, 2, OUT)
    assert complete(script) == {400}


@pytest.mark.parametrize('heard', [True, False])
def test_what_was_thrown_away_is_copied_from_the_beginning(make, heard):
    """Whether it has heard that it was, or only what came after that."""
    script = make()
    key = write(script, 2, BAD)
    if heard:
        script.m.say(TableInForce(key))
        assert not complete(script)
    into_force(script, 3, OUT)
    assert complete(script) == {0}
    # That is not forgotten, and not repeated.
    script.node.filling.cells.raise_to(range(PARTITIONS), 300)
    into_force(script, 4, OUT)
    assert complete(script) == {300}


def test_it_is_known_after_a_crash():
    script = Script()
    script.m = script.serve()
    script.commit(script.client(), script.m, TTID, 100, record(1))
    write(script, 2, BAD)
    script.crash()
    script.m = script.join()
    script.recover(script.m, term=2, cells=table(2, 3, state=OUT))
    assert complete(script) == {0}


def test_a_cell_that_was_not_thrown_away_in_the_end(make):
    script = make()
    """The next primary has not heard of that table."""
    write(script, 2, BAD)
    script.recover(script.m, 2, cells=table(2, 3))
    into_force(script, 4, OUT, term=2)
    assert complete(script) == {400}


def test_what_was_broken_is_not_any_more_when_it_is_filled():
    script = Script()
    script.m = script.serve()
    script.commit(script.client(), script.m, TTID, 100, record(1))
    script.engine.broken.add((100, 1))
    assert script.client().load(1).error == ErrorCode.BROKEN_DATA
    assert script.m.take(ConditionChanged).condition.startswith('broken data')
    into_force(script, 2, BAD)
    into_force(script, 3, OUT)
    assert not script.m.hears(ConditionChanged)
    into_force(script, 4, UP)
    assert script.m.take(ConditionChanged).condition == ''
