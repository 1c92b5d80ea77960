"""What clients claim is compared with what is here: a wrong claim fails that transaction only."""
import random

import pytest

from neo.cluster import events
from neo.protocol import limits
from neo.protocol.checksum import checksum
from neo.protocol.codec import HEADER_SIZE, decode, encode
from neo.protocol.declare import BY_CODE
from neo.protocol.packets import (Lock, ReserveOids, Store, TableChanged, TableInForce, Vote,
                                  WriteTable)
from neo.protocol.types import (MAX_ID, MAX_OID, MAX_TID, Cell, CellState, ErrorCode, NodeKind,
                                Record, Table)

from .script import (CLUSTER_ID, HISTORY, PARTITIONS, ROWS, TTID, Error, Script, metadata, record,
                     table)


@pytest.fixture
def script(script):
    script.commit(script.a, script.m, TTID, 100, record(1))
    return script


def half(state=CellState.UP_TO_DATE):
    """A table of which only the even rows are here."""
    return Table(1, 1, 0, tuple(
        (Cell('S1' if row % 2 == 0 else 'S2', int(state)),) for row in range(PARTITIONS)), (), ())


def undo(oid, data_tid, tid=None):
    return Record(oid, None, tid, 0, bytes(16), None, data_tid)


def harmless(script):
    """Nothing of a refused request has stayed, and everybody goes on."""
    script.a.abort(TTID + 4)
    assert script.nothing_left()
    assert script.a.open and script.b.open and script.m.open
    script.commit(script.b, script.m, TTID + 5, 105, record(2))
    assert script.b.load(2).tid == 105


def test_a_row_that_has_gone_since_the_vote(script):
    """What was voted is locked, wherever the rows of it are by now."""
    ttid = TTID + 5                             # its metadata are in row 1
    script.a.voted(ttid, record(2))
    script.m.say(TableChanged(half()))
    script.wait(limits.RETIREMENT)
    assert 1 not in script.node.writable
    assert type(script.m.lock(ttid, 105)) is Lock.Answer
    script.m.unlock(ttid)
    assert script.nothing_left()


@pytest.mark.parametrize('records, checks', [
    ([record(MAX_ID)], ()), ([record(MAX_OID + 1)], ()), ((), [(MAX_OID + 1, 0)]),
    ([record(3, tid=MAX_TID + 1)], ()), ([record(3, tid=0)], ()),
    ([record(3, tid=300), record(4)], ()), ([record(3), record(4, tid=300)], ()),
    ([undo(1, 99)], ()), ([undo(1, 101)], ()), ([undo(2, 100)], ()), ([undo(1, MAX_ID - 1)], ()),
    ([undo(1, 300, 300)], ()), ([undo(1, 301, 300)], ()),
])
def test_stores_that_are_refused(script, records, checks):
    answer = script.a.ask(Store(TTID + 4, records, checks))
    assert answer.error == ErrorCode.REFUSED
    request = script.a.vote(TTID + 4, *records, checks=checks)
    assert script.a.answer_to(request).error == ErrorCode.REFUSED
    assert not script.node.transactions.by_ttid
    harmless(script)


def test_the_highest_ones_are_not_refused(script):
    script.a.voted(TTID + 4, record(MAX_OID, tid=MAX_TID, base=None), checks=[(MAX_OID - 1, 0)],
                   transactions=[metadata(MAX_OID, tid=MAX_TID)])
    assert type(script.m.lock(TTID + 4, MAX_TID)) is Lock.Answer
    script.m.unlock(TTID + 4)
    assert script.a.load(MAX_OID, MAX_ID).tid == MAX_TID


def test_an_undo(script):
    script.commit(script.a, script.m, TTID + 1, 101, record(1, 100, b'new'))
    script.commit(script.a, script.m, TTID + 2, 102, undo(1, 100))
    assert script.a.load(1).data == b'data'
    harmless(script)


@pytest.mark.parametrize('state', [CellState.UP_TO_DATE, CellState.CORRUPTED])
def test_rows_that_are_not_here(state):
    script = Script()
    script.m = script.join()
    script.recover(script.m, cells=half(state))
    script.a = script.client()
    oid = 2 if state == CellState.CORRUPTED else 1
    for records, checks in ([record(oid)], ()), ((), [(oid, 0)]):
        assert script.a.ask(Store(TTID, records, checks)).error == ErrorCode.NOT_HERE
    for ttid, described in (TTID + 1, metadata(4)), (TTID, metadata(4, tid=201)):
        request = script.a.vote(ttid, oids=[], transactions=[described])
        assert script.a.answer_to(request).error == ErrorCode.NOT_HERE
    assert script.nothing_left() and script.a.open


@pytest.mark.parametrize('tids, described', [
    ([200], []), ([200], [None]), ([None], [200]), ([200, 204], [200]), ([200], [200, 200]),
    ([200, 204], [204, 200]), ([None], [None, None]), ([None], [None, 200]), ([], [200, None]),
    ([200], [200, MAX_TID + 1]), ([], [0]),
])
def test_metadata_that_do_not_fit(script, tids, described):
    records = [record(8 + i, None, tid=tid) for i, tid in enumerate(tids)]
    request = script.a.vote(TTID + 4, *records,
                            transactions=[metadata(8, tid=tid) for tid in described])
    error = ErrorCode.RETRY if tids == [200] and not described or tids == [200, 204] and (
        described == [200]) else ErrorCode.REFUSED      # the table may be another one now
    assert script.a.answer_to(request).error == error
    # The same when the records have come before.
    if records:
        script.a.store(TTID + 4, *records)
    request = script.a.vote(TTID + 4, oids=[],
                            transactions=[metadata(8, tid=tid) for tid in described])
    assert script.a.answer_to(request).error == error
    harmless(script)


def test_metadata_of_another_row_are_not_missed():
    script = Script()
    script.m = script.join()
    script.recover(script.m, cells=half())
    script.a = script.client()
    script.a.voted(TTID, record(2, None, tid=201), record(4, None, tid=204),
                   transactions=[metadata(4, tid=204)])
    assert type(script.m.lock(TTID, 204, first=201)) is Lock.Answer


@pytest.mark.parametrize('first, tid, rows', [
    (104, 100, ROWS), (100, 104, ROWS), (90, 90, ROWS), (MAX_TID + 4, MAX_TID + 4, ROWS),
    (104, 104, (1, 2)), (104, 104, ()), (104, 104, (0, PARTITIONS)), (104, 108, ROWS),
])
def test_locks_that_do_not_fit(script, first, tid, rows):
    script.a.voted(TTID + 4, record(4))
    assert script.m.ask(Lock(TTID + 4, first, tid, rows)).error == ErrorCode.REFUSED
    # Not locked, and no vote any more that a recovery could take for one.
    assert script.m.lock(TTID + 4, 104).error == ErrorCode.UNKNOWN_TTID
    harmless(script)


@pytest.mark.parametrize('first, tid', [(204, 208), (200, 204), (300, 308), (90, 208)])
def test_locks_that_do_not_fit_an_import(script, first, tid):
    script.a.voted(TTID + 4, record(4, None, tid=200), record(4, None, tid=208), oids=[4],
                   transactions=[metadata(4, tid=200), metadata(4, tid=208)])
    assert script.m.ask(Lock(TTID + 4, first, tid, ROWS)).error == ErrorCode.REFUSED
    harmless(script)


def test_a_mark_of_oids_has_a_ceiling(script):
    assert script.m.ask(ReserveOids(MAX_OID + 1)).error == ErrorCode.REFUSED
    assert script.m.ask(ReserveOids(MAX_OID)).mark == MAX_OID
    assert script.m.open


def test_a_vote_while_it_is_being_voted(script):
    script.b.store(TTID + 1, record(2))
    first = script.a.vote(TTID + 4, record(2))
    second = script.a.vote(TTID + 4, record(3))
    assert script.a.answer_to(second).error == ErrorCode.REFUSED
    assert script.a.answer_to(first) is None
    script.b.abort(TTID + 1)
    assert type(script.a.answer_to(first)) is Vote.Answer
    harmless(script)


# -- whatever a client sends ----------------------------------------------------------------------
EDGES = [0, 1, 100, 200, TTID, MAX_TID, MAX_OID, MAX_ID]
LIKELY = {'Ttid': [TTID, TTID + 1, TTID + 4, TTID + 5], 'Oid': [0, 0, 1, 2, 4], 'Count': [0, 1, 2],
          'Tid': [100, 100, 200, 300]}
SENT = [packet for packet in BY_CODE.values()
        if (NodeKind.CLIENT, NodeKind.STORAGE) in packet.routes
        and not packet.is_answer and packet.__name__ not in ('Identify', 'Error')]


def any_value(rnd, type):
    """Something that the border lets through."""
    if type.kind == 'int':
        likely = LIKELY.get(type.name, EDGES) if rnd.random() < .9 else EDGES
        return rnd.choice([it for it in likely if it <= type.detail] or [0])
    if type.kind == 'Optional':
        return None if rnd.random() < .7 else any_value(rnd, type.detail)
    if type.kind == 'List':
        return tuple(any_value(rnd, type.detail) for _ in range(rnd.choice([0, 0, 1, 1, 2])))
    if type.kind == 'Struct':
        return tuple(any_value(rnd, field) for field in type.detail.FIELDS.values())
    return {'Checksum': checksum(b'data'), 'Data': b'data', 'Bytes': b'x'}.get(type.name, ' ')


def any_packet(rnd):
    packet = rnd.choice(SENT + [Store, Vote, Vote])
    return packet(*[any_value(rnd, field) for field in packet.types])


@pytest.mark.parametrize('seed', range(40))
def test_nothing_a_client_sends_harms_others(seed):
    rnd = random.Random(seed)
    script = Script()
    script.m = script.join()
    script.recover(script.m, cells=half() if seed % 2 else table())
    wild, tame = script.client('C1'), script.client('C2')
    tid, ttid, last, request = 300, TTID + 1000, 0, 0
    for i in range(150):
        for _ in range(rnd.randint(1, 5)):
            request += 1
            packet = any_packet(rnd)
            sent = encode(packet, request if hasattr(packet, 'Answer') else 0)
            packet, request_id = decode(sent[HEADER_SIZE:])
            script.step(events.Received(wild.connection, packet, request_id))
        # The primary takes what it says for true.
        for voted, _ in list(wild.heard):
            if type(voted) is Vote.Answer and rnd.random() < .5:
                tid += 4
                answer = script.m.lock(voted.ttid, tid, rnd.choice([tid, 100, 200]))
                script.slices()
                if type(answer) is Lock.Answer:
                    script.m.unlock(voted.ttid)
        wild.heard.clear()
        assert wild.open and script.m.open and script.exit is None
        if rnd.random() < .3:
            tid, ttid = tid + 4, ttid + PARTITIONS
            script.commit(tame, script.m, ttid, tid, record(1 << 20, last))
            last = tid
            assert tame.load(1 << 20).tid == tid
    assert not [packet for packet, _ in script.m.heard if type(packet) is Error]
    script.announce(removed=['C1', 'C2'])
    assert script.nothing_left()


def test_rows_that_were_here_may_be_written_by_who_has_not_heard(script):
    """What is written there is compared with nothing, and read by nobody."""
    script.m.ask(WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, half()._replace(ptid=2),
                            [('S1', script.node.identity, '', None, True)]))
    script.m.say(TableInForce((1, 2)))
    request = script.a.vote(TTID + 4, record(1, 5, b'blind'), record(2))
    assert type(script.a.answer_to(request)) is Vote.Answer
    assert script.a.load(1).error == ErrorCode.NOT_HERE
    request = script.a.vote(TTID + 5, oids=[], transactions=[metadata(4)])
    assert type(script.a.answer_to(request)) is Vote.Answer
