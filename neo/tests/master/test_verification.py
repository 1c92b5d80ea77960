"""What the storages of a known cluster are told to keep, to drop and to copy again."""
import pytest

from neo.protocol.packets import (ClusterStateChanged, Error, FindTransactions, RequestTerm,
                                  SetClusterState, Settle, TableInForce, Unlock, WriteTable)
from neo.protocol.limits import ABSENT_GRACE
from neo.protocol.types import (MAX_TERM, Cell, CellState, ClusterState, ErrorCode, Table,
                                Unfinished)

from .conversation import Conversation, grant, running, table, write, write_all

UP, OUT = int(CellState.UP_TO_DATE), int(CellState.OUT_OF_DATE)
RECOVERING, RUNNING = ClusterState.RECOVERING, ClusterState.RUNNING


def locked(ttid, tid, *rows, first=None):
    return Unfinished(ttid, first or tid, tid, rows)


def voted(ttid):
    return Unfinished(ttid, None, None, ())


def cells(packet, storage):
    return [dict(row).get(storage) for row in packet.table.rows]


def states(*of):
    """A cluster of so many storages, each with all of both rows; they have granted the term."""
    talk = Conversation()
    names = ['S%d' % (i + 1) for i in range(len(of))]
    return talk, [talk.known(i + 1, names, **state) for i, state in enumerate(of)]


# -- a disk that was put back -----------------------------------------------------------------
def test_a_cell_that_lacks_what_was_told_is_out_of_date_before_anything_else():
    talk, (good, old) = states({'told': [(0, 1000), (1, 900)], 'last_tid': 1000},
                               {'told': [(0, 700), (1, 900)], 'last_tid': 900})
    write(good), write(old)
    assert good.hears(TableInForce)             # rewritten under this term, first
    outdated = write(good)
    assert cells(outdated, 'S1') == [UP, UP]
    assert cells(outdated, 'S2') == [OUT, UP]
    assert good.hears(Settle) and old.hears(Settle)
    assert [line for line in talk.logged if 'out of date' in line] == [
        'S2 (storage_02, 10.0.0.2:1234) lacks transactions of 1 rows (0) that clients have seen:'
        ' its cells there are out of date']


def test_without_readable_cells_a_storage_is_not_needed():
    talk, (good, old) = states({'told': [(0, 1000), (1, 1000)]}, {'told': [(0, 7), (1, 7)]})
    write_all(good, old)
    assert old.take(Settle)[0].keep == ()
    good.reply(Settle, 1000)
    assert talk.node.phase == RUNNING
    client = talk.client()
    old.leave()
    assert talk.node.phase == RUNNING and client.open
    # Nor is it when all begins again: its cells stay out of date.
    newest = talk.node.tables.newest.pack()
    good.leave()
    good = talk.known(1, table=newest, told=[(0, 1000), (1, 1000)])
    assert cells(write(good), 'S2') == [OUT, OUT]
    assert good.hears(Settle)


@pytest.mark.parametrize('late', [False, True])
@pytest.mark.parametrize('complete, takes_part', [(700, True), (800, False)])
def test_who_knows_what_the_only_copy_has_forgotten_is_not_filled(late, complete, takes_part):
    """S2 was left behind after 700 or 800.  Then the disk of S1, which had gone on alone, was put
    back to a copy of 700."""
    talk = Conversation()
    newest = Table(3, 6, 0, 2 * ((Cell('S1', UP), Cell('S2', OUT)),), (), ())
    only = talk.known(1, table=newest, told=[(0, 700), (1, 700)], last_tid=700)
    state = dict(table=newest, in_force=table('S1', 'S2'), complete=complete, last_tid=complete,
                 told=[(0, complete), (1, complete)])
    other = None if late else talk.known(2, **state)
    talk.wait(ABSENT_GRACE)
    write_all(only)
    only.reply(Settle, 700)
    other = other or talk.known(2, **state)
    write_all(other)
    assert other.open == takes_part and talk.node.phase == RUNNING
    assert takes_part or any('knows of transaction 0x0000000000000320' in line
                             for line in talk.logged)


@pytest.mark.parametrize('state', [
    {'told': [(0, 1000)]}, {'unfinished': [locked(50, 1000, 0, first=900)]}])
def test_the_last_tid_that_was_told_is_known_without_any_record_of_it(state):
    """Of an import, nobody compares each tid that was told with what was stored.  Clients take a
    primary that knows less than they do for one that has lost transactions."""
    talk, (storage,) = states({'last_tid': 900, **state})
    write(storage)
    storage.reply(Settle, 900)
    client = talk.client()
    assert client.welcome.last_tid == 1000


def test_what_is_in_no_copy_is_waited_for():
    """Each row has one copy; S2 took part in a transaction of both."""
    only = ((('S1', UP),), (('S2', UP),))
    talk = Conversation()
    old = talk.known(1, table=(3, 5, 0, only, (), ()), told=[(0, 700), (1, 700)])
    other = talk.known(2, table=(3, 5, 0, only, (), ()), told=[(0, 1000), (1, 1000)])
    assert talk.node.phase == RECOVERING
    assert not old.hears(WriteTable) and not other.hears(WriteTable)
    for text in ('%#018x' % 1000, 'in row 0', 'known by S2 (storage_02, 10.0.0.2:1234)',
                 'S1 (storage_01, 10.0.0.1:1234) has the row up to %#018x' % 700):
        assert text in talk.node.reason
    old.leave()
    good = talk.known(1, table=(3, 5, 0, only, (), ()), told=[(0, 1000), (1, 700)])
    assert write(good).table.rows == only       # row 1 is not its own


def test_who_has_ordered_a_start_hears_what_is_in_no_copy():
    each = tuple((('S%d' % number, UP),) for number in (1, 2, 3))
    talk = Conversation(partitions=3)
    admin = talk.admin()
    lacking, unlocked, holding = [
        talk.known(number, ['S1', 'S2', 'S3'], table=(3, 5, 0, each, (), ()), unfinished=unfinished)
        for number, unfinished in ((1, []), (2, []), (3, [locked(50, 1000, 0, 1)]))]
    for storage in lacking, unlocked, holding:
        write(storage)
    admin.say(SetClusterState(RUNNING))
    lacking.reply(FindTransactions, ())
    unlocked.reply(FindTransactions, (50,))
    assert talk.node.phase == RECOVERING
    assert 'a copy that has what is in none: row 0' in admin.take(Error)[0].message


def test_who_can_not_tell_what_it_has_is_waited_for():
    """It is not dropped: it would come back, and be asked again in the next term."""
    talk, (broken, other) = states({}, {'unfinished': [locked(50, 1000, 0)]})
    write(broken), write(other)
    _, request_id = broken.take(FindTransactions)
    broken.say(Error(ErrorCode.BROKEN_DATA, 'a page is broken'), request_id)
    assert broken.open and talk.node.phase == RECOVERING and not other.hears(Settle)
    assert 'S1 (storage_01, 10.0.0.1:1234) (a page is broken)' in talk.node.reason
    broken.leave()
    mended = talk.known(1, told=[(0, 1000)])
    write(mended), write(other)
    mended.reply(FindTransactions, (50,))
    assert other.take(Settle)[0].keep == (locked(50, 1000, 0),)


def test_many_missing_rows_are_named_in_a_line():
    every = tuple((('S%d' % (row % 2 + 1), UP),) for row in range(1000))
    talk = Conversation()
    talk.known(1, table=(3, 5, 0, every, (), ()), told=[(row, 7) for row in range(1000)])
    talk.known(2, table=(3, 5, 0, every, (), ()), told=[(row, 1000) for row in range(1000)])
    assert 'and likewise in 497 more rows' in talk.node.reason and len(talk.node.reason) < 2000


def test_who_has_the_last_one_locked_is_not_behind():
    talk, (first, second) = states({'told': [(0, 1000)]},
                                   {'told': [(0, 900)], 'unfinished': [locked(50, 1000, 0)]})
    write(first), write(second)
    assert first.reply(FindTransactions, (50,)).transactions == ((50, 1000, 1000),)
    assert first.take(Settle)[0].keep == (locked(50, 1000, 0),)
    assert cells_in_force(talk, 'S2') == [UP, UP]


def cells_in_force(talk, storage):
    return [row.get(storage) for row in talk.node.tables.in_force.rows]


# -- what was being committed -------------------------------------------------------------------
def decided(*of, found=()):
    """What is kept; `found` are the ttids that each of those who are asked has unlocked."""
    talk, storages = states(*of)
    for storage in storages:
        write(storage)
    for storage in storages:
        if storage.hears(FindTransactions):
            storage.reply(FindTransactions, found)
    kept = [storage.take(Settle)[0].keep for storage in storages]
    assert len(set(kept)) == 1
    return [it.ttid for it in kept[0]]


@pytest.mark.parametrize('other, found, kept', [
    ([locked(50, 1000, 0)], (), True),
    ([voted(50)], (), True),
    ([], (), False),                # it never locked it: nobody was told
    ([], (50,), True),              # it was told so
], ids=['locked', 'voted', 'not there', 'unlocked'])
def test_what_becomes_of_a_transaction_that_is_locked(other, found, kept):
    assert decided({'unfinished': [locked(50, 1000, 0)]}, {'unfinished': other},
                   found=found) == [50] * kept


def test_a_vote_alone_is_dropped():
    assert decided({'unfinished': [voted(50)]}, {'unfinished': [voted(50)]}) == []


def test_only_cells_of_rows_it_wrote_count():
    split = (3, 5, 0, ((('S1', UP),), (('S2', UP),)), (), ())
    assert decided({'table': split, 'unfinished': [locked(50, 1000, 0)]}, {'table': split}) == [50]
    assert decided({'table': split, 'unfinished': [locked(50, 1000, 0, 1)]},
                   {'table': split}) == []


def test_cells_that_are_behind_do_not_count():
    """S3 was put back to an older copy: that it lacks a transaction does not drop it."""
    talk, storages = states(
        {'told': [(0, 900)], 'unfinished': [locked(50, 1000, 0)]},
        {'told': [(0, 900)], 'unfinished': [voted(50)]}, {'told': [(0, 7)]})
    write_all(*storages)
    assert storages[2].reply(FindTransactions, ()).transactions
    for storage in storages:
        assert storage.take(Settle)[0].keep == (locked(50, 1000, 0),)


def test_what_was_told_and_is_not_where_it_should_be_makes_that_out_of_date():
    """Whatever S2 says of its rows: it lacks a transaction that S1 has shown."""
    talk, storages = states({'unfinished': []}, {'unfinished': []},
                            {'unfinished': [locked(50, 1000, 0)]})
    write_all(*storages)
    storages[0].reply(FindTransactions, (50,)), storages[1].reply(FindTransactions, ())
    outdated = write_all(*storages)
    assert cells(outdated[0], 'S2') == [OUT, UP]
    assert storages[0].take(Settle)[0].keep == (locked(50, 1000, 0),)


def test_kept_transactions_are_unlocked_when_all_have_them():
    talk, (first, second) = states({'last_tid': 1000, 'unfinished': [locked(50, 1000, 0)]},
                                   {'last_tid': 900, 'unfinished': [voted(50)]})
    write(first), write(second)
    first.reply(Settle, 1000)
    assert not first.hears(Unlock)
    second.reply(Settle, 1000)
    assert first.take(Unlock)[0].ttid == second.take(Unlock)[0].ttid == 50
    assert talk.node.transactions.last_told == 1000


def test_the_tid_of_what_was_dropped_is_not_given_again_and_nobody_has_heard_of_it():
    far = 1 << 62
    talk, (first, second) = states({'last_tid': far, 'unfinished': [locked(50, far, 0)]}, {})
    write(first), write(second)
    second.reply(FindTransactions, ())
    first.reply(Settle, 900), second.reply(Settle, 900)
    assert talk.node.transactions.last_told == 900
    assert talk.node.transactions.last_given == far


def test_two_tids_of_one_transaction_are_waited_for():
    talk, (first, second) = states({'unfinished': [locked(50, 1000, 0)]},
                                   {'unfinished': [locked(50, 1001, 0)]})
    assert talk.node.phase == RECOVERING and not first.hears(WriteTable)
    assert 'has two tids: S1 (storage_01, 10.0.0.1:1234) says' in talk.node.reason
    second.leave()
    second = talk.known(2, unfinished=[locked(50, 1000, 0)])
    assert first.hears(WriteTable)


@pytest.mark.parametrize('wrong', [{'told': [(2, 1000)]}, {'unfinished': [locked(50, 1000, 2)]}])
def test_rows_that_are_none_are_waited_for(wrong):
    talk, (first, second) = states({}, wrong)
    assert 'rows that the table has not' in talk.node.reason and not first.hears(WriteTable)


def test_who_can_not_do_what_it_must_is_dropped_and_all_begins_again():
    talk, (first, second) = states({'unfinished': [locked(50, 1000, 0)]}, {})
    write(first), write(second)

    _, request_id = second.take(FindTransactions)
    second.say(Error(2, 'no'), request_id)
    assert not second.open and talk.node.phase == RECOVERING
    assert first.last(RequestTerm)[0].term == 5


@pytest.mark.parametrize('step', ['find', 'settle'])
def test_a_storage_that_is_lost_in_any_step_ends_nothing(step):
    talk, (first, second, third) = states({'unfinished': [locked(50, 1000, 0)]}, {}, {})
    for storage in first, second, third:
        write(storage)
    if step == 'settle':
        second.reply(FindTransactions, ()), third.reply(FindTransactions, ())
        first.reply(Settle, 900), second.reply(Settle, 900)
    else:
        second.reply(FindTransactions, ())
    third.leave()
    assert talk.node.phase == RECOVERING
    assert not first.hears(Unlock) and not first.hears(ClusterStateChanged)
    assert first.hears(RequestTerm) and second.hears(RequestTerm)


def test_who_comes_back_late_without_readable_cells_drops_what_it_had():
    talk, (storage,) = running()
    newcomer = talk.storage()

    grant(newcomer, unfinished=[locked(50, 1000, 0)])
    write(storage), write(newcomer)
    kinds = [type(packet) for packet, _ in newcomer.heard]
    assert kinds[-5:-3] == [TableInForce, Settle]       # before it hears that the cluster runs
    assert newcomer.take(Settle)[0].keep == ()


def test_a_recovery_that_fails_each_time_does_not_use_up_terms():
    talk, (first, second) = states({}, {})
    begun = talk.node.term
    for _ in range(60):
        write(first), write(second)
        second.leave()
        while not first.hears(RequestTerm):
            talk.wait(.1)

        grant(first, table('S1', 'S2'))
        second = talk.known(2)
    assert talk.now - 1e9 > 250 and talk.node.term - begun <= 61


def test_somebody_of_a_higher_term_comes_while_the_table_is_written():
    talk, (first, second) = states({}, {})
    newcomer = talk.storage(term=20)
    assert [storage.last(RequestTerm)[0].term for storage in (first, second, newcomer)] == [21] * 3
    assert not any(type(packet) is TableInForce for packet, _ in first.heard)


def test_a_term_that_can_not_be_is_not_taken_over():
    talk, (first, second) = states({}, {})
    newcomer = talk.storage()
    newcomer.reply(RequestTerm, False, MAX_TERM, None, None, (), 0, 0, (), (), talk.now,
                   None, (0, (), ()))
    assert not newcomer.open and talk.node.term == 4
    write(first), write(second)
    assert first.hears(Settle)
