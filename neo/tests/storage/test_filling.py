"""Rows that are out of date here: what is written to them, and how they are copied."""
import pytest

from neo.cluster import events
from neo.protocol.packets import (ClusterStateChanged, Conflict, Error, Fill, Filled,
                                  FillProgress, Identify,
                                  ListRecords, ListTransactions, Load, Lock, NodesChanged,
                                  RequestTerm, RowsTold, Settle, Store, TableChanged, TableInForce,
                                  Unlock, Vote,
                                  WriteTable)
from neo.protocol.types import (Cell, CellState, ClusterState, ErrorCode, NodeKind, NodeState,
                                RowTid, Table, TableKey)
from neo.storage.engine.memory import MemoryEngine
from neo.storage.filling import FILL

from ..engine import samples
from .script import (CANDIDATE, CLUSTER_ID, HISTORY, PARTITIONS, TTID, Script, metadata, record)

UP, OUT = CellState.UP_TO_DATE, CellState.OUT_OF_DATE
SOURCE = '127.0.0.1', 30000
FAR = 1 << 62


def cells(term, ptid, letters):
    """A table: `letters` of S1 by row, U, O or a dot; S2 has all of them up to date."""
    states = {'U': [Cell('S1', int(UP))], 'O': [Cell('S1', int(OUT))], '.': []}
    return Table(term, ptid, 1, tuple(
        (*states[letter], Cell('S2', int(UP))) for letter in letters), (), ())


class Source:
    """Another storage: an engine, and what it answers to who copies."""

    def __init__(self, script, id='S2', address=SOURCE):
        self.script, self.engine = script, MemoryEngine()
        self.id, self.address = id, address
        self.party = None
        self.asked = []             # what it has answered

    def add(self, ttid, tid, *records, rows=None):
        """Locked and told there."""
        oids = tuple(record.oid for record in records)
        rows = {oid % PARTITIONS for oid in oids} | {tid % PARTITIONS} if rows is None else rows
        samples.lock(self.engine, ttid, tid, [metadata(*oids)], records, sorted(rows))
        self.engine.unlock(ttid)

    def announced(self):
        self.script.announcer.say(NodesChanged(
            [(self.id, NodeKind.STORAGE, self.address, NodeState.RUNNING, '', '', '')], ()))

    def connected(self):
        """S1 has wanted a connection, and gets it."""
        self.script.connecting.remove(self.address)
        self.party = party = self.script._party()
        self.script.step(events.Connected(party.connection, self.address))
        identify, request_id = party.pop(Identify)
        assert (identify.kind, identify.id, identify.term) == (NodeKind.STORAGE, 'S1', 1)
        party.say(Identify.Answer(self.id, 'S1', CLUSTER_ID, HISTORY, 1, 1, 0, PARTITIONS),
                  request_id)

    def serve(self, limit=1000, rows=2):
        """Answer what is asked, at most `limit` times; with this many records at once."""
        engine = self.engine
        while limit:
            limit -= 1
            for _ in range(2):              # a chunk is durable, and after a pause
                if not self.party.heard and FILL in self.script.timers:
                    self.script.fire(FILL)
            if not self.party.heard:
                return
            packet, request_id = self.party.heard.pop(0)
            self.asked.append(packet)
            if type(packet) is ListTransactions:
                answer = ListTransactions.Answer(*engine.transactions(
                    packet.start, packet.stop, PARTITIONS, packet.rows, rows, 1 << 20))
            elif type(packet) is ListRecords:
                answer = ListRecords.Answer(*engine.records(
                    packet.start, packet.after_oid, packet.stop, PARTITIONS, packet.rows, rows,
                    1 << 20))
            else:
                answer = RowsTold.Answer([RowTid(*it) for it in engine.told()
                                          if it.row in packet.rows])
            self.party.say(answer, request_id)


def beginning(**options):
    """S1 has had rows 0 and 1, and has an empty cell of rows 2 and 3."""
    script = Script(**options)
    script.m = script.join()
    script.recover(script.m, cells=cells(1, 1, 'UUOO'))
    script.s2 = Source(script)
    return script


@pytest.fixture
def script():
    script = beginning()
    script.a, script.b = script.client('C1'), script.client('C2')
    return script


def put_in_force(script, table, master=None):
    master = master or script.m
    assert master.ask(WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, table,
                                 [('S1', script.node.identity, '', None, True)])).key == table[:2]
    master.say(TableInForce(table[:2]))


def fill(script, upto, *rows):
    script.m.say(Fill(TableKey(1, 1), rows, upto, 0))


def copied(script, upto, *rows):
    """The order comes, and is carried out to the end."""
    fill(script, upto, *rows)
    if script.s2.party is None:
        script.s2.announced()
        if SOURCE not in script.connecting:
            script.wait(1)
        script.s2.connected()
    script.s2.serve()


def complete(script):
    return script.node.filling.cells.complete


# -- what is written blindly ----------------------------------------------------------------
@pytest.mark.parametrize('base', [0, 50, None])
def test_what_is_out_of_date_is_written_to_and_not_compared(script, base):
    script.commit(script.a, script.m, TTID, 100, record(2), record(0))
    script.a.voted(TTID + 1, record(2, base, b'new'), checks=[(6, 77)])
    assert script.a.quiet()
    assert type(script.m.lock(TTID + 1, 101)) is Lock.Answer
    script.m.unlock(TTID + 1)
    assert script.engine.load(2, FAR)[4] == b'new'
    assert script.nothing_left()


def test_what_is_not_out_of_date_is_compared(script):
    script.commit(script.a, script.m, TTID, 100, record(2), record(0))
    script.a.store(TTID + 1, record(2, 50), record(0, 50))
    assert script.a.take(Conflict).conflicts == ((0, 100),)


def test_blind_writes_exclude_each_other(script):
    script.a.voted(TTID, record(2))
    waits = script.b.vote(TTID + 1, record(2, 7))
    assert script.b.quiet()
    script.m.lock(TTID, 100)
    script.m.unlock(TTID)
    assert type(script.b.answer_to(waits)) is Vote.Answer


def test_what_is_out_of_date_is_not_read(script):
    script.commit(script.a, script.m, TTID, 100, record(2))
    for packet in Load(2, FAR), ListRecords(0, None, FAR, (2,)), ListTransactions(0, FAR, (0, 3)):
        assert script.a.ask(packet).error == ErrorCode.NOT_HERE


@pytest.mark.parametrize('filled', [False, True])
def test_blind_writes_are_blind_when_the_cluster_has_paused(script, filled):
    """Nobody tells which table is in force again; something may have been missed meanwhile."""
    if filled:
        copied(script, 50, 2)
    script.m.say(ClusterStateChanged(ClusterState.RECOVERING, ''))
    script.m.say(ClusterStateChanged(ClusterState.RUNNING, ''))
    script.announce('C9')
    client = script.client('C9')
    script.commit(client, script.m, TTID, 100, record(2))
    client.voted(TTID + 1, record(2, 50))
    assert client.quiet()


def test_an_import_gives_metadata_only_where_it_knows_of_a_cell(script):
    """Tid 202 is of a row that has only just got its cell here."""
    script.a.voted(TTID, record(0, None, tid=202), transactions=[])
    script.a.abort(TTID)
    answer = script.a.ask(Vote(TTID + 1, [record(0, None, tid=201)], (), (0,), []))
    assert answer.error == ErrorCode.RETRY and 'no metadata' in answer.message


# -- copying --------------------------------------------------------------------------------
def test_a_row_is_copied(script):
    source = script.s2
    source.add(900, 10, record(2), record(3), record(6, data=bytes(5000)))
    source.add(901, 11, record(2, data=None), record(0))
    source.add(902, 12, record(3, data=b'later'))
    copied(script, 11, 2, 3)
    assert script.m.take(Filled) == Filled((2, 3), 11)
    assert samples.all_records(script.engine)[0] == samples.all_records(
        source.engine, stop=12, partitions=PARTITIONS, rows=(2, 3))[0]
    assert script.engine.load(0, FAR) is None
    assert [it.tid for it in samples.all_transactions(script.engine)[0]] == [10, 11]
    assert script.engine.tid_of(900) == 10
    assert complete(script) == {2: 11, 3: 11}


def test_what_is_there_already_and_what_should_not_be(script):
    """A row that it had long ago, and of which something else became the truth."""
    script.commit(script.a, script.m, TTID, 5, record(2, data=b'other'))
    script.commit(script.a, script.m, TTID + 1, 6, record(6, data=b'never was'))
    script.s2.add(TTID, 5, record(2))
    script.s2.add(901, 7, record(2))
    copied(script, 10, 2)
    script.m.take(Filled)
    assert samples.all_records(script.engine, partitions=PARTITIONS, rows=(2,)) == (
        samples.all_records(script.s2.engine, partitions=PARTITIONS, rows=(2,)))
    assert script.engine.tid_of(TTID) == 5         # of another row
    assert script.engine.tid_of(TTID + 1) is None
    assert script.engine.measure()[0] == 1


def test_it_is_filled_once_no_blind_write_is_left(script):
    script.a.voted(TTID, record(2, 7))
    script.b.voted(TTID + 1, record(3))
    copied(script, 10, 2, 3)
    assert not script.m.hears(Filled)
    script.m.lock(TTID, 100)
    assert not script.m.hears(Filled)
    script.m.unlock(TTID)
    assert script.m.take(Filled).rows == (2,)
    script.b.abort(TTID + 1)
    assert script.m.take(Filled).rows == (3,)
    assert script.nothing_left()


@pytest.mark.parametrize('end', ['removed', 'lost'])
def test_a_client_that_is_gone_has_nothing_blind_left(script, end):
    script.a.store(TTID, record(2))
    copied(script, 10, 2)
    assert not script.m.hears(Filled)
    if end == 'removed':
        script.announce(removed=['C1'])
    else:
        script.a.leave()
    assert script.m.take(Filled).rows == (2,)


def test_what_comes_after_the_copy_is_compared(script):
    """… with what was copied, and with what was written blindly."""
    script.s2.add(900, 10, record(2), record(6))
    script.commit(script.a, script.m, TTID, 50, record(6, 7))
    script.a.voted(TTID + 1, record(10, 7))
    copied(script, 10, 2)
    script.b.store(TTID + 2, record(2, 9), record(6, 10), record(14, 3))
    assert script.b.take(Conflict).conflicts == ((2, 10), (6, 50), (14, 0))
    script.b.abort(TTID + 2)
    script.b.voted(TTID + 3, record(2, 10), record(6, 50), record(14, 0))
    assert not script.m.hears(Filled)
    script.m.lock(TTID + 1, 51)
    script.m.unlock(TTID + 1)
    assert script.m.take(Filled).rows == (2,)


def test_who_waits_for_a_blind_write_is_compared_with_it(script):
    script.a.voted(TTID, record(2, 7))
    copied(script, 10, 2)
    script.b.store(TTID + 1, record(2, 10))
    script.m.lock(TTID, 50)
    script.m.unlock(TTID)
    assert script.b.take(Conflict).conflicts == ((2, 50),)
    assert script.m.take(Filled).rows == (2,)


def test_another_order_copies_the_rest(script):
    script.s2.add(900, 10, record(2))
    copied(script, 10, 2)
    script.m.take(Filled)
    script.s2.add(901, 20, record(2, data=b'missed'))
    script.s2.asked.clear()
    copied(script, 20, 2)
    assert script.m.take(Filled) == Filled((2,), 20)
    assert {packet.start for packet in script.s2.asked if type(packet) is ListRecords} == {11}
    assert script.engine.load(2, FAR)[4] == b'missed'


def test_who_waits_because_of_what_was_not_copied_yet(script):
    """Tid 20 was committed without this storage, which learns of it by the next order only."""
    script.s2.add(900, 10, record(2))
    copied(script, 10, 2)
    waits = script.a.vote(TTID, record(2, 20))
    assert script.a.take(Conflict).conflicts == ((2, 10),)
    fill(script, 20, 2)
    assert type(script.a.answer_to(waits)) is Vote.Answer


def test_what_was_copied_before_a_crash_is_not_copied_again(script):
    for tid in range(10, 20):
        script.s2.add(900 + tid, tid, record(2, data=b'%d' % tid))
    fill(script, 19, 2)
    script.s2.announced()
    script.wait(1)
    script.s2.connected()
    while not any(type(packet) is ListRecords and packet.start > 14 for packet in script.s2.asked):
        script.s2.serve(1)
    script.make_durable()
    script.crash()
    assert 13 <= complete(script)[2] < 19
    again(script, 'UUOO')
    start = complete(script)[2] + 1
    script.s2.party, script.s2.asked = None, []
    copied(script, 19, 2)
    assert script.s2.asked[0].start == start
    assert samples.all_records(script.engine)[0] == samples.all_records(script.s2.engine)[0]


def test_a_transaction_that_was_copied_in_part_is_copied_again(script):
    """A chunk ends within it, that is committed, and then there is a crash."""
    script.s2.add(900, 10, record(2))
    script.s2.add(901, 11, *[record(oid) for oid in (2, 6, 10)])
    fill(script, 11, 2)
    script.s2.announced()
    script.wait(1)
    script.s2.connected()
    while script.engine.load(2, FAR) is None or script.engine.load(2, FAR)[0] < 11:
        script.s2.serve(1)
    assert script.engine.load(10, FAR) is None
    script.make_durable()
    script.crash()
    again(script, 'UUOO')
    script.s2.party = None
    copied(script, 11, 2)
    assert script.m.take(Filled) == Filled((2,), 11)
    assert samples.all_records(script.engine)[0] == samples.all_records(script.s2.engine)[0]


def test_another_order_during_a_copy(script):
    """That ends up to where it began to go, and then the rest is copied."""
    script.s2.add(900, 10, record(2), record(6), record(10))
    fill(script, 10, 2)
    script.s2.announced()
    script.wait(1)
    script.s2.connected()
    script.s2.serve(2)
    script.s2.add(901, 20, record(2, data=b'missed'))
    fill(script, 20, 2)
    script.s2.serve()
    assert script.m.take(Filled) == Filled((2,), 20) and not script.m.hears(Filled)
    assert complete(script)[2] == 20 and script.engine.load(2, FAR)[4] == b'missed'


def test_a_copy_of_what_is_not_to_be_filled_any_more(script):
    script.s2.add(900, 10, record(2), record(6), record(10))
    fill(script, 10, 2)
    script.s2.announced()
    script.wait(1)
    script.s2.connected()
    script.s2.serve(2)
    put_in_force(script, cells(1, 2, 'UU.O'))
    script.s2.serve()
    assert complete(script) == {3: 0} and not script.m.hears(Filled)
    fill(script, 10, 3)
    script.s2.serve()
    assert script.m.take(Filled) == Filled((3,), 10)


def test_a_source_that_was_started_elsewhere_is_called_there(script):
    fill(script, 10, 2)
    script.s2.announced()
    script.wait(1)
    assert SOURCE in script.connecting
    script.s2.address = '127.0.0.1', 30009
    script.s2.announced()
    script.wait(1)
    script.s2.connected()
    script.s2.serve()
    assert script.m.take(Filled) == Filled((2,), 10)


# -- how fast ---------------------------------------------------------------------------------
def time_to_copy(script, latency, client=None):
    """Seconds until row 2, of 40000 bytes, is filled, if each answer takes `latency`, and a client
    reads meanwhile."""
    for tid in range(10, 20):
        script.s2.add(900 + tid, tid, record(2, data=bytes(4000)))
    copied(script, 9, 2)
    fill(script, 19, 2)
    began = script.now
    while not script.m.hears(Filled) or script.m.take(Filled).upto < 19:
        if client is not None:
            client.ask(Load(0, FAR))
        if script.s2.party.heard:
            script.wait(latency)
            script.s2.serve(1)
        else:
            script.wait(.01)
    return script.now - began


def test_it_copies_at_the_rate_that_the_operator_has_set():
    assert time_to_copy(beginning(), 0) < .5
    assert 4 < time_to_copy(beginning(fill_rate=1e4), 0) < 5


def test_clients_have_their_share():
    alone, shared = beginning(), beginning()
    client = shared.client('C1')
    shared.commit(client, shared.m, TTID, 5, record(0))
    seconds = time_to_copy(alone, .1)
    assert 1.7 * seconds < time_to_copy(shared, .1, client) < 2.5 * seconds


def progress(script):
    """All that the primary was told by now."""
    told = [packet for packet, _ in script.m.heard if type(packet) is FillProgress]
    script.m.heard[:] = [it for it in script.m.heard if type(it[0]) is not FillProgress]
    return told


def test_the_operator_hears_how_far_it_has_come():
    script = beginning(fill_rate=1e3)
    for tid in range(1000, 1020):
        script.s2.add(tid, tid, record(2, data=bytes(1000)))
    copied(script, 999, 3)                              # nothing is there
    assert progress(script) == [FillProgress(1, 0, 0)]
    script.m.take(Filled)
    began = script.now
    fill(script, 1019, 2)
    while not script.m.hears(Filled):
        script.wait(.5)
        while script.s2.party.heard:
            script.s2.serve(1)
    told = progress(script)
    assert [it.rows for it in told] == [1] * len(told)
    assert 3 <= len(told) <= (script.now - began) / 5 + 1
    for before, after in zip(told, told[1:]):
        assert before.bytes < after.bytes and before.done < after.done
        assert abs(after.bytes / 20 - after.done) < 150
    script.m.take(Filled)
    copied(script, 1019, 2)
    assert progress(script) == []                       # nothing is missing


# -- up to where a row is complete ------------------------------------------------------------
def again(script, letters, keep=()):
    """It comes back into the running cluster, after whatever it was; returns what it tells."""
    script.m = master = script.join(session=2)
    state = master.ask(RequestTerm(1, CANDIDATE))
    put_in_force(script, cells(1, state.table.ptid + 1, letters))
    assert type(master.ask(Settle(keep))) is Settle.Answer
    master.say(NodesChanged((), ()))
    master.say(ClusterStateChanged(ClusterState.RUNNING, ''))
    script.announcer = master
    return state


def test_a_new_cell_has_nothing(script):
    assert complete(script) == {2: 0, 3: 0}


def test_what_was_readable_has_what_was_told(script):
    script.commit(script.a, script.m, TTID, 100, record(0), record(1))
    script.crash()
    script.m = None
    again(script, 'OUOO')
    assert complete(script) == {0: 0, 2: 0, 3: 0}       # the unlock was not durable
    assert script.engine.load(0, FAR) is None


def test_what_was_told_and_committed(script):
    script.commit(script.a, script.m, TTID, 100, record(0), record(1))
    script.a.voted(TTID + 1, record(0, 100))
    script.m.lock(TTID + 1, 110)                        # with this commit
    script.crash()
    again(script, 'OUOO')
    assert complete(script) == {0: 100, 2: 0, 3: 0}
    assert script.engine.load(0, FAR)[0] == 100         # the other one was dropped
    assert script.engine.locked() == []


def test_a_lower_one_that_is_not_told_counts(script):
    """Of 100 it is known that it was told, of 90 it is not known here."""
    script.a.voted(TTID, record(0))
    script.b.voted(TTID + 1, record(1))
    script.m.lock(TTID, 90, rows=(0, 3))
    script.m.lock(TTID + 1, 100, rows=(0, 1))
    script.m.unlock(TTID + 1)
    put_in_force(script, cells(1, 2, 'OUOO'))
    assert complete(script)[0] == 89
    script.m.unlock(TTID)
    assert complete(script)[0] == 89


@pytest.mark.parametrize('taken_away', [False, True])
def test_what_others_say_of_another_row_is_no_sign_of_what_is_here(script, taken_away):
    """It has not been there when 65 and 70 were committed."""
    script.commit(script.a, script.m, TTID, 60, record(0))
    script.s2.add(900, 65, record(0))
    script.s2.add(901, 70, record(2))
    copied(script, 60, 2)
    assert RowTid(2, 70) in script.engine.told()
    if taken_away:
        put_in_force(script, cells(1, 2, 'UU.O'))
    put_in_force(script, cells(1, 3, 'OU.O' if taken_away else 'OUOO'))
    assert complete(script)[0] == 60


def test_a_row_that_can_be_read_again_is_forgotten(script):
    script.commit(script.a, script.m, TTID, 100, record(0))
    copied(script, 50, 2)
    put_in_force(script, cells(1, 2, 'UUUO'))
    assert complete(script) == {3: 0}
    script.announce('C9')
    assert script.client('C9').load(2).error == ErrorCode.NO_OBJECT
    put_in_force(script, cells(1, 3, 'UUOO'))
    assert complete(script) == {2: 100, 3: 0}


def test_a_row_that_was_taken_away_is_new_when_it_comes_back(script):
    script.commit(script.a, script.m, TTID, 100, record(0), record(2))
    put_in_force(script, cells(1, 2, 'OUOO'))
    put_in_force(script, cells(1, 3, '.UO.'))
    script.commit(script.a, script.m, TTID + 1, 110, record(1))
    put_in_force(script, cells(1, 4, 'OUOO'))
    assert complete(script) == {0: 0, 2: 0, 3: 0}


def test_what_is_complete_outlives_a_crash(script):
    copied(script, 50, 2)
    put_in_force(script, cells(1, 2, 'UUOO'))
    script.crash()
    again(script, 'UUOO')
    assert complete(script) == {2: 50, 3: 0}
    script.announce('C9')
    client = script.client('C9')
    client.voted(TTID, record(2, 77))                   # it may have missed something meanwhile
    assert client.quiet()


# -- what a recovery hears --------------------------------------------------------------------
def test_blind_writes_and_what_was_copied_are_known_as_told(script):
    """The highest of both, whatever comes first: else a row that is complete would seem not to be,
    or the rows of others."""
    script.s2.add(900, 10, record(2), rows=(1, 2))
    script.s2.add(901, 20, record(3), rows=(2, 3))      # its client has claimed to write row 2
    script.commit(script.a, script.m, TTID, 15, record(3))
    copied(script, 20, 2, 3)
    script.m.take(Filled)
    assert [it for it in script.engine.told() if it.row in (2, 3)] == [(2, 20), (3, 20)]
    script.crash()
    assert [it for it in script.engine.told() if it.row in (2, 3)] == [(2, 20), (3, 20)]


def another_storage(script):
    """It wants to copy from here."""
    script.s2.announced()
    reader = script.knock('S2', kind=NodeKind.STORAGE)
    assert reader.take(Identify.Answer).id == 'S1'
    return reader


def test_who_copies_hears_what_was_told_once_that_is_certain(script):
    """A storage that is complete already asks for nothing else."""
    reader = another_storage(script)
    script.a.voted(TTID, record(0))
    script.m.lock(TTID, 100)
    request = reader.say(RowsTold(101, (0,)))
    assert reader.quiet()
    script.m.say(Unlock(TTID))
    assert reader.answer_to(request).told == ((0, 100),)
    assert reader.ask(RowsTold(101, (2,))).error == ErrorCode.NOT_HERE


def test_who_obeys_another_primary_does_not_copy_from_here(script):
    """What that one has settled may be something else."""
    script.s2.announced()
    reader = script.knock('S2', term=2, kind=NodeKind.STORAGE)
    assert reader.take(Error).error == ErrorCode.NOT_READY


def test_a_storage_that_copies_stores_nothing(script):
    reader = another_storage(script)
    reader.say(Store(TTID, [record(0)], ()))
    assert not script.node.transactions.by_ttid


def test_tables_that_were_in_force_before_it_is_told_so_of_a_later_one():
    """It was slow: row 0 was taken away, written without it, and given back, while it took part in
    what was written in row 1."""
    script = beginning()
    script.a = script.client('C1')
    script.commit(script.a, script.m, TTID, 100, record(1))
    members = [('S1', script.node.identity, '', None, True)]
    script.m.ask(WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, cells(1, 2, '.UOO'), members))
    script.commit(script.a, script.m, TTID + 1, 120, record(1, 100))   # 110 was in row 0
    put_in_force(script, cells(1, 3, 'OUOO'))
    assert complete(script)[0] == 0


# -- what a recovery hears of a row that is not here -----------------------------------------------
def lacks(script, term):
    return sorted(script.m.ask(RequestTerm(term, CANDIDATE)).copies.lacks)


def test_of_what_was_told_it_says_which_rows_it_does_not_have():
    """Each transaction here tells of all rows; rows 2 and 3 are not filled."""
    script = beginning()
    script.a = script.client('C1')
    script.commit(script.a, script.m, TTID, 100, record(2), record(0))
    assert lacks(script, 2) == [2, 3]
    script.recover(script.m, 3, cells=cells(3, 2, 'UU.O'))
    assert lacks(script, 4) == [2, 3]


def test_what_it_has_said_to_be_filled_it_has_until_more_is_ordered():
    """That it can be read by now may never be heard here."""
    script = beginning()
    script.a = script.client('C1')
    script.commit(script.a, script.m, TTID, 100, record(2), record(0))
    copied(script, 90, 2, 3)
    assert script.m.take(Filled).rows == (2, 3)
    script.crash()
    script.m = script.join()
    assert lacks(script, 2) == []
    script.recover(script.m, 3, cells=cells(3, 2, 'UUOO'))
    fill(script, 100, 2)
    assert lacks(script, 4) == [2]
    script.recover(script.m, 5, cells=cells(5, 3, 'UUU.'))
    assert lacks(script, 6) == [3]


@pytest.mark.parametrize('new', [False, True])
def test_an_order_may_come_before_the_table_is_known(new):
    """S1 has come while table 3 was on its way; that 2 was in force it has only been told."""
    script = Script() if new else beginning()
    if new:
        script.m = script.join()
        assert script.m.ask(RequestTerm(1, CANDIDATE)).granted
    members = [('S1', script.node.identity, '', None, True)]
    script.m.ask(WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, cells(1, 3, 'OOOO'), members))
    script.m.say(TableInForce((1, 2)))
    if new:
        script.m.ask(Settle(()))
        script.m.say(TableChanged(cells(1, 2, 'OOOO')))
        script.m.say(ClusterStateChanged(ClusterState.RUNNING, ''))
    script.m.say(Fill(TableKey(1, 2), (0, 1), 100, 0))
    assert not script.node.filling.orders
    script.m.say(TableInForce((1, 3)))
    assert script.node.filling.orders == {0: 100, 1: 100}
