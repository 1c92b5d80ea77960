"""A start that the operator forces: with whom, from what, and what is removed for it."""
import pytest

from neo.cluster.partition_table import PartitionTable
from neo.protocol.limits import ABSENT_GRACE
from neo.protocol.packets import (Error, FindTransactions, ForceStart, RemoveAbove,
                                  SetClusterState, Settle, WriteTable)
from neo.protocol.types import (MAX_TID, Cell, CellState, ClusterState, Cut, ErrorCode, RowTid,
                                Table, Unfinished)

from .conversation import UP, Conversation, grant, grant_again, table, write, write_all

OUT = int(CellState.OUT_OF_DATE)
HISTORY, NEW = b'h' * 16, b'n' * 16


def cells(*rows, **options):
    """A table of these {storage: state}s."""
    return Table(3, 5, 1, tuple(tuple(Cell(*cell) for cell in row.items()) for row in rows), (),
                 options.get('cuts', ()))


class Alone:
    """S1 of S1 and S2 is there; the operator forces a start."""

    def __init__(self, **state):
        state.setdefault('table', table('S1', 'S2'))
        state.setdefault('history', HISTORY)
        self.talk = Conversation()
        self.storage = self.talk.known(1, **state)
        self.admin = self.talk.admin()
        assert not self.storage.hears(WriteTable)

    def force(self, *others):
        """All who are there promise the term of that."""
        self.admin.say(ForceStart())
        grant_again(self.storage, *others)

    def refusal(self):
        self.force()
        assert not self.storage.hears(WriteTable)
        return self.admin.take(Error)[0].message

    def starts(self, last_tid=0):
        """`(table, RemoveAbove, what the operator is told)`"""
        self.force()
        written = PartitionTable.unpack(write(self.storage).table)
        self.storage.reply(Settle, last_tid)
        removal = self.storage.reply(RemoveAbove, last_tid)
        assert self.talk.node.phase == ClusterState.RUNNING
        return written, removal, self.admin.take(ForceStart.Answer)[0].message


def test_it_is_not_forced_by_a_mere_start():
    alone = Alone()
    alone.admin.say(SetClusterState(ClusterState.RUNNING))
    assert 'neoctl start --force' in alone.admin.take(Error)[0].message
    assert not alone.storage.hears(WriteTable)


def test_who_is_away_is_left_out():
    alone = Alone(last_tid=50)
    written, removal, told = alone.starts(50)
    assert [written.letters(id) for id in ('S1', 'S2')] == ['UU', 'OO']
    cut, = written.cuts
    assert (cut.former, cut.tid, cut.last) == (HISTORY, MAX_TID, 0)
    assert set(cut.kept) == {b'\1' * 16, alone.talk.node.identity}
    assert alone.talk.node.oids.next >= 1 << 32
    assert written.term > 256               # who is left out may have had some of those between
    assert removal == RemoveAbove(cut.history, MAX_TID, 0)
    assert told == ('the cluster runs. S2 (storage_02, 10.0.0.2:1234) is left out: what was'
                    ' committed there alone is lost')
    assert alone.talk.node.transactions.last_told == 50


def test_an_older_copy_takes_all_rows_back():
    """S1 was left behind after tid 50, in row 1 a little earlier, and S2, with what was later, is
    lost."""
    alone = Alone(table=cells({'S1': OUT, 'S2': UP}, {'S1': OUT, 'S2': UP}), last_tid=70,
                  filled=(RowTid(0, 50), RowTid(1, 40)), told=(RowTid(0, 70), RowTid(1, 60)))
    written, removal, told = alone.starts(40)
    assert written.letters('S1') == 'UU' and written.letters('S2') == 'OO'
    assert (removal.tid, removal.last) == (40, 70)
    assert 'what was committed after 0x0000000000000028' in told
    assert 'no later copy of rows 0-1' in told
    assert alone.talk.node.transactions.last_given >= 70
    assert alone.talk.node.transactions.last_told == 40


def test_who_has_not_heard_that_it_was_left_behind():
    """By the table that it knows it can read the row: what it has then counts."""
    before = table('S1', 'S2')
    alone = Alone(table=cells({'S1': OUT, 'S2': UP}, {'S1': OUT, 'S2': UP}), in_force=before,
                  complete=50, last_tid=50)
    # Somebody knows that the later one was in force.
    assert 'waiting for' in alone.talk.node.reason
    written, removal, _ = alone.starts(50)
    assert written.letters('S1') == 'UU' and removal.tid >= 50


def test_what_is_in_no_copy_is_given_up():
    """S1 knows by row 1 that something was told in row 0, where its disk lacks it."""
    alone = Alone(table=cells({'S1': UP}, {'S1': UP, 'S3': UP}), told=(RowTid(0, 30),), last_tid=30)
    third = alone.talk.known(3, ('S1', 'S2', 'S3'), table=cells({'S1': UP}, {'S1': UP, 'S3': UP}),
                             told=(RowTid(0, 40), RowTid(1, 45)), last_tid=45, history=HISTORY)
    assert 'in none' in alone.talk.node.reason
    alone.force(third)
    write(third), write(alone.storage)
    # Of S1 nobody knows whether it has row 1 up to there.
    write_all(third, alone.storage)
    assert alone.talk.node.tables.in_force.letters('S1') == 'UO'
    third.reply(Settle, 45), alone.storage.reply(Settle, 30)
    for storage in third, alone.storage:
        removal = storage.reply(RemoveAbove, 30)
        assert (removal.tid, removal.last) == (30, 45)
    told = alone.admin.take(ForceStart.Answer)[0].message
    assert 'what was committed after 0x000000000000001e' in told
    # And the next recovery does not miss it either.
    in_force = alone.talk.node.tables.in_force
    alone.talk.node.begin_again('a test')
    alone.talk.wait(2)
    for storage, told in (alone.storage, (RowTid(0, 30),)), (third, (RowTid(0, 40), RowTid(1, 45))):
        grant(storage, in_force.pack(), told=told, last_tid=30, history=in_force.cuts[-1].history)
    assert write(third) and write(alone.storage)


def test_a_row_that_is_seldom_written_takes_back_no_more_than_what_is_lost():
    """The disk of S1 was put back: it has all up to 50.  In row 0 nothing was written between 10
    and 60, which S3 knows of."""
    only = cells({'S1': UP}, {'S3': UP})
    alone = Alone(table=only, told=(RowTid(0, 10), RowTid(1, 50)), last_tid=50, complete=50)
    third = alone.talk.known(3, ('S1', 'S2', 'S3'), table=only, complete=60, last_tid=60,
                             told=(RowTid(0, 60), RowTid(1, 60)), history=HISTORY)
    alone.force(third)
    write_all(third, alone.storage)
    third.reply(Settle, 60), alone.storage.reply(Settle, 50)
    for storage in third, alone.storage:
        removal = storage.reply(RemoveAbove, 50)
        assert (removal.tid, removal.last) == (50, 60)
    in_force = alone.talk.node.tables.in_force
    assert in_force.letters('S1') == 'U.'
    # Whether S1 has heard of it or not, it is not behind.
    alone.talk.node.begin_again('a test')
    alone.talk.wait(2)
    grant(alone.storage, in_force.pack(), told=(RowTid(0, 10), RowTid(1, 50)), last_tid=50,
          complete=50, in_force=only, history=HISTORY)
    grant(third, in_force.pack(), told=(RowTid(0, 60), RowTid(1, 60)), last_tid=50, complete=60,
          history=in_force.cuts[-1].history)
    write_all(third, alone.storage)
    assert alone.talk.node.tables.in_force.letters('S1') == 'U.'


def test_what_is_to_be_removed_is_missed_nowhere():
    """45 is locked on S3, and S4 has told of it; the copy of row 1 is one of 40."""
    copies = 'S1', 'S2', 'S3', 'S4'
    state = dict(table=cells({'S3': UP, 'S4': UP}, {'S1': OUT, 'S2': UP}), history=HISTORY)
    locked = Unfinished(7, 45, 45, (0, 1))
    talk = Conversation()
    there = [talk.known(1, copies, last_tid=40, filled=(RowTid(1, 40),), **state),
             talk.known(3, copies, last_tid=40, told=(RowTid(0, 40),), unfinished=(locked,),
                        **state),
             talk.known(4, copies, last_tid=45, told=(RowTid(0, 45),), **state)]
    talk.admin().say(ForceStart())
    grant_again(*there)
    write_all(*there)
    there[0].reply(FindTransactions, ())
    there[2].reply(FindTransactions, (7,))
    for storage in there:
        assert storage.reply(Settle, 45) == Settle((locked,))
    for storage in there:
        assert storage.reply(RemoveAbove, 40).tid == 40
    assert talk.node.phase == ClusterState.RUNNING


NOTHING = 'nothing that is there has a copy of row 1'


@pytest.mark.parametrize('state, why', [
    ({'table': cells({'S1': UP}, {'S2': UP})}, NOTHING),
    ({'table': cells({'S1': UP}, {'S1': OUT, 'S2': UP})}, NOTHING),
    ({'told': (RowTid(1, 5),), 'lacks': (1,)}, NOTHING),
    ({'told': (RowTid(7, 5),)}, 'it speaks of rows that the table has not')])
def test_what_can_not_be_forced(state, why):
    assert why in Alone(**state).refusal()


def test_what_need_not_be_forced():
    talk = Conversation()
    admin = talk.admin()
    admin.say(ForceStart())
    assert 'no cluster that is known' in admin.take(Error)[0].message
    storage = talk.known(1, ('S1',), table=table('S1'))
    admin.say(ForceStart())
    assert 'about to start' in admin.take(Error)[0].message
    write(storage)
    storage.reply(Settle, 0)
    admin.say(ForceStart())
    assert 'the cluster is RUNNING' in admin.take(Error)[0].message


def test_all_of_its_voters_have_to_hold_it():
    """With three of five copies away, half of the other two is not enough."""
    copies = 'S1', 'S2', 'S3', 'S4', 'S5'
    talk = Conversation()
    one, two = [talk.known(number, copies, table=table(*copies), history=HISTORY)
                for number in (1, 2)]
    admin = talk.admin()
    admin.say(ForceStart())
    grant_again(one, two)
    written = write(one)
    assert talk.node.tables.in_force is None
    # Whoever comes meanwhile is not told that he is left out: that may never be so.
    talk.node.cluster.certain = True
    late = talk.storage(identity=b'\4' * 16, id='S4', cluster_id=b'c' * 16, history=HISTORY,
                        address=('10.0.0.4', 1234))
    assert not late.hears(Error)
    late.leave()
    two.leave()
    assert admin.take(Error)[0].error == ErrorCode.NOT_READY
    # Who has it, and has not heard that it is in force, is no reason not to go on without it.
    talk.wait(2)
    grant(one, written.table, in_force=table(*copies), history=HISTORY)
    talk.known(2, copies, table=table(*copies), history=HISTORY)
    three = talk.known(3, copies, table=table(*copies), history=HISTORY)
    talk.wait(ABSENT_GRACE)
    assert write(three).table.cuts == ()


def test_who_was_left_out_does_not_come_back():
    alone = Alone()
    alone.starts()
    late = alone.talk.storage(identity=b'\2' * 16, id='S2', cluster_id=b'c' * 16, history=HISTORY,
                              address=('10.0.0.2', 1234))
    error = late.take(Error)[0]
    assert error.error == ErrorCode.ANOTHER_CLUSTER and 'was forced without it' in error.message
    empty = alone.talk.storage(identity=b'\5' * 16)
    assert empty.id == 'S3'


def test_before_it_is_certain_who_was_left_out_is_sent_away():
    cut = Cut(HISTORY, NEW, MAX_TID, 0, (b'\1' * 16,))
    talk = Conversation()
    two = talk.known(2, table=table('S1', 'S2', term=2), history=HISTORY)
    one = talk.known(1, table=table('S1', cuts=(cut,)), history=NEW)
    assert not two.open
    assert write(one).table.cuts == (cut,)
