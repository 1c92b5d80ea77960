"""What is wrong with a storage: a full disk, broken data.  It says so, and serves the rest."""
import pytest

from neo.cluster import events
from neo.cluster.node import Refused
from neo.protocol import limits
from neo.protocol.packets import (ConditionChanged, FindTransactions, ListRecords,
                                  ListTransactions, Load, Measure, ObjectHistory, Store, Vote,
                                  WhatBecameOf)
from neo.protocol.types import ErrorCode, Metadata, Span
from neo.storage.engine.interface import BrokenData
from neo.storage.engine.memory import MemoryEngine
from neo.storage.engine.sqlite import SqliteEngine
from neo.tests.engine import samples

from .script import ROWS, TTID, Script, metadata, record

END = 1 << 62
MiB = limits.MiB


def heard(master):
    """The conditions told to it since the last call."""
    told = [packet.condition for packet, _ in master.heard if type(packet) is ConditionChanged]
    master.heard = [it for it in master.heard if type(it[0]) is not ConditionChanged]
    return told


# -- space ----------------------------------------------------------------------------------
@pytest.fixture
def small():
    script = Script(MemoryEngine(capacity=limits.FREE_SPACE_RESERVE + 3 * MiB))
    script.m = script.serve()
    script.a = script.client()
    heard(script.m)
    return script


def large(oid, size):
    return record(oid, data=bytes(int(size * MiB)))


def test_stores_are_refused_that_do_not_fit(small):
    small.a.store(TTID, large(1, 2))
    answer = small.a.ask(Store(TTID, [large(2, 1.5)], ()))
    assert answer.error == ErrorCode.FULL
    # It says where, what is free, and what is kept.
    for words in ('no space for 1.5 MiB more', 'memory has 10', '64.0 MiB kept in reserve',
                  '2.0 MiB promised'):
        assert words in answer.message
    assert answer.message in small.logged
    small.a.voted(TTID, oids=[1])
    small.a.abort(TTID)
    small.a.store(TTID + 1, large(2, 2.5))      # what was promised is free again


def test_a_vote_is_refused_that_does_not_fit(small):
    small.a.store(TTID, large(1, 2))
    request = small.a.vote(TTID, large(2, 1.5), oids=[1, 2])
    assert small.a.answer_to(request).error == ErrorCode.FULL
    request = small.a.vote(TTID, oids=[1], transactions=[
        metadata(1)._replace(extension=bytes(2 * MiB))])
    assert small.a.answer_to(request).error == ErrorCode.FULL
    small.a.voted(TTID, oids=[1])               # what is there already goes through
    small.a.abort(TTID)
    assert small.nothing_left()


def test_what_was_promised_is_there_at_the_lock(small):
    small.a.voted(TTID, large(1, 2))
    other = small.client('C2')
    granted = 0
    for i in range(30):
        granted += type(other.ask(Store(TTID + 1, [large(2 + i, .1)], ()))) is Store.Answer
    assert 5 < granted < 15
    small.m.lock(TTID, 100)
    other.voted(TTID + 1, oids=[2])
    small.m.lock(TTID + 1, 101)
    assert small.engine.current(1) == 100 and small.engine.current(2) == 101
    for ttid in TTID, TTID + 1:
        small.m.unlock(ttid)
    assert small.nothing_left()


def test_the_operator_hears_of_a_disk_that_gets_full_and_of_space_again():
    engine = MemoryEngine(capacity=limits.FREE_SPACE_RESERVE + limits.SPACE_LOW * 2)
    script = Script(engine)
    master = script.serve()
    assert heard(master) == []
    engine.capacity -= limits.SPACE_LOW + MiB
    script.wait(limits.SPACE_INTERVAL)
    text, = heard(master)
    assert text == ('disk nearly full: memory has 255.0 MiB free, beside 64.0 MiB kept in reserve'
                    ' and 0 bytes promised to open transactions')
    assert text in script.logged
    engine.capacity -= MiB
    script.wait(limits.SPACE_INTERVAL * 3)
    assert heard(master) == []                  # nothing new
    engine.capacity -= limits.SPACE_LOW * 3 // 4
    script.wait(limits.SPACE_INTERVAL)
    text, = heard(master)
    master.leave()
    master = script.join(session=2)
    assert heard(master) == [text]              # another master knows nothing
    engine.capacity *= 8
    script.wait(limits.SPACE_INTERVAL)
    assert heard(master) == ['']


def test_who_tries_again_at_once_is_not_worth_a_line(small):
    for _ in range(50):
        small.a.ask(Store(TTID, [large(1, 4)], ()))
    assert len([line for line in small.logged if 'no space' in line]) == 1
    assert small.nothing_left()


# -- broken data --------------------------------------------------------------------------------
class Cracked(MemoryEngine):
    """Some of its pages can't be read: those of these oids and tids, and whatever is in `all`."""

    def __init__(self):
        super().__init__()
        self.oids, self.tids, self.all = set(), set(), False

    def _check(self, broken, what, position=None):
        if broken or self.all:
            raise BrokenData('%s can\'t be read' % what, position)

    def load(self, oid, before):
        self._check(oid in self.oids, 'object %#x' % oid)
        return super().load(oid, before)

    def current(self, oid):
        self._check(oid in self.oids, 'object %#x' % oid)
        return super().current(oid)

    def history(self, oid, before, limit):
        self._check(oid in self.oids, 'object %#x' % oid)
        return super().history(oid, before, limit)

    def records(self, *args):
        found, next = super().records(*args)
        for i, (oid, tid, *_) in enumerate(found):
            if oid in self.oids or self.all:
                self._check(i == 0, 'object %#x' % oid, (tid, oid))
                return found[:i], (found[i - 1][1], found[i - 1][0])
        return found, next

    def transactions(self, *args):
        found, next = super().transactions(*args)
        for i, (tid, *_) in enumerate(found):
            if tid in self.tids or self.all:
                self._check(i == 0, 'transaction %#x' % tid, (tid, None))
                return found[:i], tid
        return found, next

    def tid_of(self, ttid):
        self._check(False, 'the index of transactions')
        return super().tid_of(ttid)

    def find(self, first, tid):
        self._check(False, 'the index of transactions')
        return super().find(first, tid)

    def measure(self):
        self._check(False, 'the count')
        return super().measure()


@pytest.fixture
def cracked():
    script = Script(Cracked())
    script.m = script.serve()
    script.a, script.b = script.client('C1'), script.client('C2')
    for i in range(6):
        script.commit(script.a, script.m, TTID + i, 100 + i, record(i))
    return script


def test_broken_data_are_an_answer(cracked):
    cracked.engine.all = True
    for packet in (Load(1, END), ObjectHistory(1, END, 9), ListRecords(0, None, END, ROWS),
                   ListTransactions(0, END, ROWS), Measure()):
        answer = cracked.a.ask(packet)
        assert answer.error == ErrorCode.BROKEN_DATA and 'can\'t be read' in answer.message
    for packet in WhatBecameOf(TTID), FindTransactions([Span(TTID, 100, 100)]):
        assert cracked.m.ask(packet).error == ErrorCode.BROKEN_DATA
    cracked.engine.all = False
    assert cracked.a.load(1).tid == 101
    assert cracked.a.open and cracked.m.open


def test_it_is_said_once_per_place(cracked):
    cracked.engine.oids = {1, 2}
    for _ in range(5):
        assert cracked.a.load(1).error == ErrorCode.BROKEN_DATA
    assert heard(cracked.m) == ['broken data: object 0x1 can\'t be read']
    cracked.a.load(2)
    assert heard(cracked.m) == ['broken data in 2 places, the last one: object 0x2 can\'t be read']
    assert len([line for line in cracked.logged if 'broken' in line]) == 2
    assert cracked.a.load(3).tid == 103


def ranges(script, kind, start):
    """Follow an iteration until its end or an error; what it gave."""
    found = []
    while start is not None:
        answer = script.a.ask(ListRecords(*start, END, ROWS) if kind == 'records'
                              else ListTransactions(start, END, ROWS))
        if hasattr(answer, 'error'):
            return found, answer.error
        found += [row.tid for row in (
            answer.records if kind == 'records' else answer.transactions)]
        start = answer.next
    return found, None


@pytest.mark.parametrize('how', ['page', 'checksum'])
def test_an_iteration_comes_up_to_what_is_broken_and_goes_on_behind_it(cracked, how):
    if how == 'page':
        cracked.engine.oids = {3}
    else:
        data = cracked.engine._data
        data[3, 103] = (data[3, 103][0], b'?' * 16, *data[3, 103][2:])
    assert ranges(cracked, 'records', (0, None)) == ([100, 101, 102], ErrorCode.BROKEN_DATA)
    # The client reads the range that begins with it elsewhere, and goes on where that ended.
    assert ranges(cracked, 'records', (103, 3)) == ([104, 105], None)
    assert len(heard(cracked.m)) == 1


def test_metadata_that_are_broken(cracked):
    cracked.engine.tids = {102}
    assert ranges(cracked, 'transactions', 0) == ([100, 101], ErrorCode.BROKEN_DATA)
    assert ranges(cracked, 'transactions', 103) == ([103, 104, 105], None)


def test_a_store_over_what_is_broken_fails_that_transaction(cracked):
    cracked.node.transactions.refresh()         # nothing is remembered
    cracked.engine.oids = {1}
    assert cracked.a.ask(Store(TTID + 9, [record(1, 101)], ())).error == ErrorCode.BROKEN_DATA
    request = cracked.a.vote(TTID + 9, oids=[1])
    assert cracked.a.answer_to(request).error == ErrorCode.BROKEN_DATA
    cracked.a.abort(TTID + 9)
    cracked.commit(cracked.b, cracked.m, TTID + 10, 110, record(2, 102))
    assert cracked.nothing_left()


def test_one_that_waited_for_what_is_broken(cracked):
    """It is read when another one ends: that one is not harmed."""
    cracked.a.voted(TTID + 9, record(1, 101))
    vote = cracked.b.vote(TTID + 10, record(1, 101))
    cracked.node.transactions.refresh()
    cracked.engine.oids = {1}
    cracked.a.abort(TTID + 9)
    assert cracked.b.answer_to(vote).error == ErrorCode.BROKEN_DATA
    cracked.b.abort(TTID + 10)
    assert cracked.nothing_left()


def test_places_are_not_remembered_without_end(cracked):
    for i in range(3000):
        assert isinstance(cracked.node.conditions.broken(BrokenData('place %d' % i)), Refused)
    assert len(heard(cracked.m)) < 1100


# -- answers fit in a frame -----------------------------------------------------------------------
def test_a_large_object_comes_alone():
    script = Script()
    master = script.serve()
    client = script.client()
    small = [record(oid, data=bytes(2_500)) for oid in range(1, 90)]
    script.commit(client, master, TTID, 100, *small, record(90, data=bytes(30 * MiB)),
                  record(91))
    sizes, start = [], (0, None)
    while start is not None:
        answer = client.ask(ListRecords(*start, END, ROWS))
        sizes.append(len(answer.records))
        start = answer.next
    assert sizes == [89, 1, 1]


def test_large_metadata_come_alone():
    script = Script()
    master = script.serve()
    client = script.client()
    for i in range(4):
        many = range(500_000) if i == 2 else [1]
        client.voted(TTID + i, oids=[], transactions=[metadata(*many)])
        master.lock(TTID + i, 100 + i)
        master.unlock(TTID + i)
    first = client.ask(ListTransactions(0, END, ROWS))
    second = client.ask(ListTransactions(first.next, END, ROWS))
    assert [t.tid for t in first.transactions] == [100, 101]
    assert [t.tid for t in second.transactions] == [102]
    third = client.ask(ListTransactions(second.next, END, ROWS))
    assert [t.tid for t in third.transactions] == [103] and third.next is None


def test_metadata_that_would_not_fit_in_an_answer_are_refused():
    script = Script()
    script.serve()
    client = script.client()
    oids = range(limits.MAX_OBJECT // 9 + 1)
    described = Metadata(None, ' ', b'', b'', b'', oids)
    script.step(events.Received(client.connection, Vote(TTID, (), (), (), [described]), 99))
    assert client.answer_to(99).error == ErrorCode.REFUSED
    assert script.nothing_left()


def test_what_can_not_be_cleaned_is_said(tmp_path):
    path = str(tmp_path / 'data.sqlite')
    engine = SqliteEngine(path)
    samples.lock(engine, 1, 10, [], [samples.record(oid, bytes(5000)) for oid in range(40)])
    engine.drop(1)
    engine.commit()
    engine.close()
    samples.break_page(path, 'large', 20)
    script = Script(SqliteEngine(path))
    while script.node.background:
        script.step(events.Slice(6))
    assert script.exit is None and 'is broken' in script.node.conditions.text
    script.engine.close()
