"""What is left of rows that were taken away is removed, and nothing else is."""
import pytest

from neo.cluster import events
from neo.protocol import limits
from neo.protocol.packets import ClusterStateChanged, Lock, Store, TableInForce, WriteTable
from neo.protocol.types import ClusterState, ErrorCode, RowTid
from neo.storage.engine.sqlite import SqliteEngine
from neo.storage.leftovers import LEFTOVERS
from neo.storage.locking import LOCK

from ..engine import samples
from .script import CLUSTER_ID, HISTORY, PARTITIONS, ROWS, TTID, Script, record
from .test_filling import again, cells, complete, put_in_force


def beginning(**options):
    """S1 has all rows; each has some history."""
    script = Script(**options)
    script.m = script.join()
    script.recover(script.m, cells=cells(1, 1, 'UUUU'))
    script.a = script.client('C1')
    for tid in range(100, 110):
        script.commit(script.a, script.m, TTID + tid, tid,
                      *[record(oid, None, b'%d' % tid) for oid in (0, 1, 2, 5, 6)])
    return script


@pytest.fixture
def script():
    return beginning()


def left(script):
    """In which rows there is anything."""
    records, _ = samples.all_records(script.engine)
    transactions, _ = samples.all_transactions(script.engine)
    return ({record.oid % PARTITIONS for record in records}
            | {transaction.tid % PARTITIONS for transaction in transactions})


def of_row(script, *rows):
    return (samples.all_records(script.engine, partitions=PARTITIONS, rows=rows)[0],
            samples.all_transactions(script.engine, partitions=PARTITIONS, rows=rows)[0])


def test_a_row_that_was_taken_away_is_removed(script):
    others = of_row(script, 0, 2)
    script.m.say(WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, cells(1, 2, 'U.U.'),
                            [('S1', script.node.identity, '', None, True)]))
    script.slices()
    assert left(script) == {0, 1, 2, 3}                 # that table is not in force yet
    script.m.say(TableInForce((1, 2)))
    assert script.slices(3) > 3
    assert left(script) == {0, 2} and of_row(script, 0, 2) == others
    script.wait(2 * limits.RETIREMENT)          # nobody writes there any more
    script.slices()
    assert script.node.state.leftovers == ()
    assert script.engine.measure()[0] == 3
    assert RowTid(1, 109) in script.engine.told()       # that is still true
    script.commit(script.a, script.m, TTID + 200, 200, record(0, 109))


def test_it_goes_on_after_a_crash(script):
    put_in_force(script, cells(1, 2, 'U.U.'))
    script.make_durable()
    script.crash()
    again(script, 'U.U.')
    assert script.slices()
    script.make_durable()
    script.crash()
    assert left(script) == {0, 2}
    again(script, 'U.U.')
    assert not script.slices()


def test_it_goes_on_when_the_cluster_serves_again(script):
    put_in_force(script, cells(1, 2, 'U.U.'))
    script.m.say(ClusterStateChanged(ClusterState.RECOVERING, ''))
    assert not script.slices() and left(script) == {0, 1, 2, 3}
    script.m.say(ClusterStateChanged(ClusterState.RUNNING, ''))
    assert script.slices() and left(script) == {0, 2}


@pytest.mark.parametrize('size', [4, 3000])
def test_what_was_begun_before_ends_as_it_would_have(size):
    """… and is removed then.  Of it, the metadata and two objects are in rows 1 and 3."""
    script = beginning(amounts=limits.AMOUNTS._replace(pending_in_memory=1000))
    ttid = TTID + 201
    assert ttid % PARTITIONS == 1
    script.a.voted(ttid, *[record(oid, None, bytes(size)) for oid in range(16)])
    put_in_force(script, cells(1, 2, 'U.U.'))
    script.wait(limits.RETIREMENT)
    assert script.a.ask(Store(ttid + 8, [record(5, 109)], ())).error == ErrorCode.NOT_HERE
    assert script.slices() and left(script) == {0, 2}
    request = script.m.say(Lock(ttid, 201, 201, ROWS))
    script.step(events.Slice(3))
    script.wait(6)
    script.slices(3)
    assert type(script.m.answer_to(request)) is Lock.Answer
    script.m.unlock(ttid)
    assert script.node.state.leftovers == (1, 3)
    script.wait(11)
    script.slices()
    assert left(script) == {0, 2} and script.node.state.leftovers == ()
    assert script.engine.load(2, 300)[0] == 201 and script.engine.measure()[0] == 8
    assert LEFTOVERS not in script.timers and script.nothing_left()


def test_what_is_locked_after_the_rest_was_removed_goes_too():
    """A large transaction takes longer to lock than the rest to be removed."""
    script = beginning(amounts=limits.AMOUNTS._replace(pending_in_memory=1000))
    ttid = TTID + 201
    script.a.voted(ttid, *[record(oid, None, bytes(3000)) for oid in range(64)])
    put_in_force(script, cells(1, 2, 'U.U.'))
    script.slices()
    request = script.m.say(Lock(ttid, 201, 201, ROWS))
    while LEFTOVERS not in script.node.background:
        script.wait(1)
    while LEFTOVERS in script.node.background:
        script.step(events.Slice(9 if script.node.background[0] == LEFTOVERS else 1))
    assert LOCK in script.node.background
    script.slices()
    assert type(script.m.answer_to(request)) is Lock.Answer
    script.m.unlock(ttid)
    assert left(script) == {0, 1, 2, 3}
    script.wait(limits.RETIREMENT + 11)
    script.slices()
    assert left(script) == {0, 2} and script.node.state.leftovers == ()


def test_a_second_row_is_taken_away_before_the_first_one_is_looked_at_again(script):
    put_in_force(script, cells(1, 2, 'U.UU'))
    script.slices()
    assert LEFTOVERS in script.timers and left(script) == {0, 2, 3}
    put_in_force(script, cells(1, 3, 'U..U'))
    script.step(events.Slice(1))
    script.fire(LEFTOVERS)
    script.slices()
    assert left(script) == {0, 3}


def test_a_row_that_comes_back_is_not_removed_any_more(script):
    others = of_row(script, 0, 1, 2)
    put_in_force(script, cells(1, 2, 'U...'))
    put_in_force(script, cells(1, 3, 'UOO.'))
    script.slices()
    assert of_row(script, 0, 1, 2) == others and left(script) == {0, 1, 2}
    assert complete(script) == {1: 0, 2: 0}             # it may be what others do not have


def test_what_is_broken_stays(tmp_path):
    """… and is no reason to stop."""
    path = str(tmp_path / 'data.sqlite')
    script = Script(SqliteEngine(path))
    script.m = script.join()
    script.recover(script.m, cells=cells(1, 1, 'UUUU'))
    for tid in range(100, 150):
        script.commit(script.client(), script.m, TTID + tid, tid, record(1, None, bytes(5000)))
    put_in_force(script, cells(1, 2, 'U.U.'))
    script.make_durable()
    script.engine.close()
    samples.break_page(path, 'large', 30)
    script = Script(SqliteEngine(path))
    again(script, 'U.U.')
    assert script.slices(8) > 2
    assert any('is broken' in line for line in script.logged)
    assert script.node.state.leftovers == (1, 3)
    script.make_durable()
    script.announce('C9')
    client = script.client('C9')
    script.commit(client, script.m, TTID + 200, 200, record(0, None))
    assert client.load(0).tid == 200
    script.engine.close()
