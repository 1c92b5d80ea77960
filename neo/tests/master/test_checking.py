"""Copies of rows are compared, and what is wrong is made anew, step by step."""
import pytest

from neo.master.checking import verdict
from neo.protocol.packets import (Check, Digest, Error, Fill, Filled, FoundBroken, NodesChanged,
                                  TableTaken, Tweak, WriteTable)
from neo.protocol.types import MAX_TID, CheckedRow, ErrorCode, RecordPosition

from .conversation import Conversation, write_all
from .test_filling import back
from .test_orders import Desk
from .test_transactions import begin, finish, lock

GOOD, OTHER = b'g' * 16, b'o' * 16


def digest(content=GOOD, count=1, broken=False):
    return Digest.Answer(content, count, broken, RecordPosition(9, None))


BROKEN = digest(count=1, broken=True)


# -- who is right ------------------------------------------------------------------------------
@pytest.mark.parametrize('answers, reference, wrong', [
    ('ggg', None, ''), ('ggo', None, '3'), ('gog', 'S2', '13'), ('go', None, None),
    ('go', 'S1', '2'), ('g', None, ''), ('b', None, None), ('b', 'S1', None), ('gb', None, '2'),
    ('gbb', None, '23'), ('gob', None, None), ('gob', 'S2', '13'), ('bg', 'S1', '1'),
    ('ggob', None, '34'), ('ggoo', None, None), ('eb', None, None), ('eb', 'S1', '2'),
    ('gg', 'S9', '')])
def test_who_is_right(answers, reference, wrong):
    kinds = {'g': digest(), 'o': digest(OTHER), 'b': BROKEN, 'e': digest(count=0)}
    answers = {'S%d' % i: kinds[kind] for i, kind in enumerate(answers, 1)}
    assert verdict(answers, reference) == (
        None if wrong is None else {'S' + number for number in wrong})


# -- one row after the other -----------------------------------------------------------------------
class Checked(Desk):
    """A cluster with `storages` copies of each of two rows, and something in its history."""

    def __init__(self, storages=2):
        super().__init__(storages, partitions=2, replicas=storages - 1)
        self.client = self.talk.client()
        finish(self.client, begin(self.client), self.storages, oids=(0, 1))
        for storage in self.storages:
            lock(storage)
        self.told = self.talk.node.transactions.last_told

    def check(self, *rows, first=0, last=MAX_TID):
        self.admin.say(Check([CheckedRow(*row) for row in rows or [(None, None)]], first, last))

    def tick(self):
        for name in [name for name in self.talk.timers if name in ('check', 'mend')]:
            self.talk.now = max(self.talk.now, self.talk.timers[name])
            self.talk.fire(name)

    def asked(self, number=0):
        """The next Digest of a storage, and its request id."""
        if not self.storages[number].hears(Digest):
            self.tick()
        return self.storages[number].take(Digest)

    def answer(self, *contents, upto=None):
        """All are asked for the same, and answer."""
        asked = [self.asked(number) for number in range(len(self.storages))]
        assert all(packet == asked[0][0] for packet, _ in asked)
        for storage, (packet, request_id), content in zip(self.storages, asked, contents):
            broken = content is None
            storage.say(Digest.Answer(content or GOOD, 1, broken, upto or packet.stop), request_id)
        return asked[0][0]

    def condition(self, number):
        conditions = [info.condition for packet, _ in self.admin.heard
                      if type(packet) is NodesChanged for info in packet.nodes
                      if info.id == self.storages[number].id]
        return conditions[-1] if conditions else ''


def test_all_rows_are_compared_up_to_what_was_told():
    desk = Checked()
    desk.check()
    assert desk.admin.take(Check.Answer)[0].message.startswith('rows 0-1: copies are compared')
    end = RecordPosition(desk.told + 1, None)
    for row in (0, 1):
        for metadata in (True, False):
            assert desk.answer(GOOD, GOOD) == Digest(row, metadata, RecordPosition(0, None), end)
    assert 'the check of 2 rows has ended: all copies are equal' in desk.talk.logged
    desk.tick()
    assert not desk.storages[0].hears(Digest) and desk.letters() == ['S1 UU', 'S2 UU']


def test_the_range_is_as_long_as_the_shortest_of_all():
    desk = Checked()
    desk.check((1, None))
    desk.answer(GOOD, GOOD)
    first, second = desk.asked(0), desk.asked(1)
    desk.storages[0].say(Digest.Answer(GOOD, 5, False, first[0].stop), first[1])
    desk.storages[1].say(Digest.Answer(OTHER, 3, False, RecordPosition(7, 3)), second[1])
    again, request_id = desk.storages[0].take(Digest)
    assert again.stop == (7, 3) and not desk.storages[1].hears(Digest)
    desk.storages[0].say(Digest.Answer(OTHER, 3, False, RecordPosition(7, 3)), request_id)
    assert desk.answer(GOOD, GOOD).start == (7, 3)
    assert 'all copies are equal' in desk.talk.logged[-1]


def test_the_cluster_is_not_asked_all_the_time():
    desk = Checked()
    desk.check()
    desk.tick()
    desk.talk.now += 3
    desk.answer(GOOD, GOOD)
    assert desk.talk.timers['check'] - desk.talk.now > 6


def test_what_is_wrong_is_made_anew():
    desk = Checked(3)
    desk.check((1, None))
    desk.answer(GOOD, GOOD, GOOD)
    desk.answer(GOOD, OTHER, GOOD, upto=RecordPosition(5, 1))
    desk.answer(GOOD, GOOD, GOOD)
    assert any('row 1 of S2 is not as it should be: it is made anew from S1, S3' in line
               for line in desk.talk.logged)
    # It is corrupted first: it is not to take itself for one that misses the end only.
    write_all(*desk.storages)
    assert desk.letters() == ['S1 UU', 'S2 UC', 'S3 UU']
    desk.tick()
    write_all(*desk.storages)
    assert desk.letters() == ['S1 UU', 'S2 UO', 'S3 UU']
    desk.client.say(TableTaken(desk.table.key))
    order = desk.storages[1].take(Fill)[0]
    desk.storages[1].say(Filled(order.rows, order.upto))
    write_all(*desk.storages)
    assert order.rows == (1,) and desk.letters() == ['S1 UU', 'S2 UU', 'S3 UU']
    assert 'the check of 1 rows has ended: 1 cells are wrong or in doubt' in desk.talk.logged


def test_the_reference_is_right():
    desk = Checked(3)
    desk.check((None, None), (1, 'S2'))
    for _ in range(2):
        desk.answer(GOOD, GOOD, GOOD)
    desk.answer(GOOD, OTHER, GOOD)
    desk.answer(GOOD, GOOD, GOOD)
    write_all(*desk.storages)
    assert desk.letters() == ['S1 UC', 'S2 UU', 'S3 UC']


def test_where_nobody_knows_the_operator_is_told():
    desk = Checked()
    desk.check((1, None))
    desk.answer(GOOD, GOOD)
    desk.answer(GOOD, OTHER)
    for number in range(2):
        assert desk.condition(number) == (
            'row 1: copies differ or are broken, and none is known to be right')
    assert 'neoctl check 1:REFERENCE' in '\n'.join(desk.talk.logged)
    assert not desk.storages[0].hears(WriteTable)
    # Until they are found to be equal, all of them.
    for last, condition in ((desk.told, desk.condition(0)), (MAX_TID, '')):
        desk.check((1, None), last=last)
        desk.answer(GOOD, GOOD), desk.answer(GOOD, GOOD)
        assert desk.condition(0) == condition


def test_a_difference_that_nobody_understands_leaves_the_row_as_it_is():
    """What S1 lacks S2 may have, where it is broken."""
    desk = Checked()
    desk.check((1, None))
    desk.answer(GOOD, None, upto=RecordPosition(3, None))
    desk.answer(GOOD, OTHER), desk.answer(GOOD, GOOD)
    assert not desk.storages[0].hears(WriteTable) and 'row 1' in desk.condition(1)


def test_each_is_broken_somewhere():
    desk = Checked()
    desk.check((1, None))
    desk.answer(GOOD, None, upto=RecordPosition(3, None))
    desk.answer(None, GOOD), desk.answer(GOOD, GOOD)
    assert not desk.storages[0].hears(WriteTable) and 'row 1' in desk.condition(0)


def test_between_two_tids():
    desk = Checked()
    desk.check((0, None), first=desk.told - 5, last=desk.told - 2)
    asked = desk.answer(GOOD, GOOD)
    assert (asked.start, asked.stop) == ((desk.told - 5, None), (desk.told - 1, None))
    desk.answer(GOOD, GOOD)
    desk.check((0, None), first=desk.told + 1)          # there is nothing, yet
    assert desk.talk.logged[-1].endswith('has ended: all copies are equal')


# -- storages that come and go -----------------------------------------------------------------
def test_a_row_is_begun_again_when_a_storage_is_lost():
    desk = Checked(3)
    desk.check((0, None))
    desk.answer(GOOD, GOOD, GOOD)
    desk.tick()
    desk.storages.pop().leave()
    write_all(*desk.storages)
    for storage in desk.storages:
        storage.take(Digest)
    assert desk.answer(GOOD, GOOD).metadata
    desk.answer(GOOD, GOOD)
    assert 'all copies are equal' in desk.talk.logged[-1]


def test_a_row_that_can_not_be_compared_is_given_up():
    desk = Checked()
    desk.check((0, None))
    for _ in range(5):
        desk.asked(0)
        _, request_id = desk.asked(1)
        desk.storages[1].say(Error(ErrorCode.NOT_READY, 'not now'), request_id)
    assert "row 0 can't be compared: S2: not now" in desk.talk.logged
    assert not desk.talk.node.checking.progress


def test_a_digest_of_another_range_is_the_end_of_a_connection():
    desk = Checked()
    desk.check()
    packet, request_id = desk.asked(1)
    desk.storages[1].say(Digest.Answer(GOOD, 0, False, packet.start), request_id)
    assert not desk.storages[1].open


def test_the_only_good_copy_is_lost_meanwhile():
    desk = Checked()
    desk.check((0, 'S1'))
    desk.answer(GOOD, GOOD)
    desk.talk.node.tables.write(desk.talk.node, desk.table.next(), lambda node: None)
    desk.talk.act()
    desk.answer(GOOD, OTHER)                            # it waits for that table
    desk.storages[0].leave()
    while desk.storages[1].hears(WriteTable):
        write_all(desk.storages[1])
    assert desk.letters() == ['S1 OO', 'S2 UU']


def test_a_corrupted_cell_waits_for_its_storage():
    desk = Checked()
    desk.check((0, 'S1'))
    desk.answer(GOOD, GOOD), desk.answer(GOOD, OTHER)
    write_all(*desk.storages)
    desk.storages[1].leave()
    write_all(desk.storages[0])
    desk.tick()
    assert desk.letters() == ['S1 UU', 'S2 CO'] and not desk.storages[0].hears(WriteTable)
    desk.storages[1] = back(desk.talk, desk.storages[1])
    desk.tick()
    write_all(*desk.storages)
    assert desk.letters() == ['S1 UU', 'S2 OO']
    assert desk.storages[1].last(Fill)[0].rows


def test_a_cell_is_corrupted_until_its_storage_knows_that():
    """Two of three are enough for the table to be in force: the third one would go on from what it
    has, if it were out of date before it has heard of that."""
    desk = Checked(3)
    desk.check((0, 'S1'))
    desk.answer(GOOD, GOOD, GOOD), desk.answer(GOOD, OTHER, GOOD)
    write_all(desk.storages[0], desk.storages[2])
    desk.tick()
    assert desk.letters() == ['S1 UU', 'S2 CU', 'S3 UU'] and not desk.storages[0].hears(WriteTable)
    write_all(desk.storages[1])
    desk.tick()
    write_all(*desk.storages)
    assert desk.letters() == ['S1 UU', 'S2 OU', 'S3 UU']


def test_a_tweak_does_not_mend_what_its_storage_has_not_heard_of():
    """It would take itself for one that misses the end only."""
    desk = Checked()
    desk.check((0, 'S1'))
    desk.answer(GOOD, GOOD), desk.answer(GOOD, OTHER)
    desk.admin.say(Tweak((), False))
    desk.storages[1].leave()                    # it has written none of these tables
    write_all(desk.storages[0])
    assert desk.letters() == ['S1 UU', 'S2 CO']


def test_another_term_is_the_end_of_a_check():
    desk = Checked()
    desk.check()
    _, request_id = desk.asked(0)
    desk.talk.node.begin_again('test')
    desk.talk.act()
    desk.storages[0].say(Digest.Answer(GOOD, 1, False, RecordPosition(1, None)), request_id)
    assert desk.talk.node.checking is None and desk.storages[0].open


# -- what clients find ---------------------------------------------------------------------------
def test_what_a_client_finds_broken_is_compared_and_made_anew():
    desk = Checked()
    desk.client.say(FoundBroken(3, desk.told, 'S2'))
    assert 'broken data, as clients have found: 1' in desk.condition(1)
    end = RecordPosition(desk.told + 1, None)
    assert desk.answer(GOOD, GOOD) == Digest(1, True, RecordPosition(desk.told, None), end)
    desk.answer(GOOD, None, upto=RecordPosition(desk.told, 3))
    desk.answer(GOOD, GOOD)
    write_all(*desk.storages)
    assert desk.letters() == ['S1 UU', 'S2 UC']
    desk.tick()
    write_all(*desk.storages)
    assert desk.letters() == ['S1 UU', 'S2 UO'] and desk.condition(1) == ''


def test_what_a_client_finds_without_another_copy_is_only_told():
    desk = Checked(1)
    desk.client.say(FoundBroken(3, desk.told, 'S1'))
    desk.tick()
    assert not desk.storages[0].hears(Digest) and 'broken' in desk.condition(0)


# -- what is refused ---------------------------------------------------------------------------
@pytest.mark.parametrize('row, why', [
    ((2, None), 'there is no row 2: the table has rows 0 to 1'),
    ((1, 'S9'), 'S9 has no copy of row 1 that can be read'),
    ((None, 'S9'), 'S9 has no copy of any row that can be read')])
def test_what_can_not_be_checked(row, why):
    desk = Checked()
    assert desk.refusal(Check([CheckedRow(0, None), CheckedRow(*row)], 0, MAX_TID)) == why
    assert not desk.talk.node.checking.progress


def test_a_reference_that_is_out_of_date():
    desk = Checked()
    desk.storages.pop().leave()
    write_all(*desk.storages)
    assert 'S2 has no copy' in desk.refusal(Check([CheckedRow(0, 'S2')], 0, MAX_TID))


def test_one_check_at_a_time():
    desk = Checked()
    desk.check()
    desk.answer(GOOD, GOOD), desk.answer(GOOD, GOOD)
    assert desk.refusal(Check([CheckedRow(None, None)], 0, MAX_TID)) == (
        'there is a check already: 1 of 2 rows are compared')


def test_tids_in_the_wrong_order():
    assert Checked().refusal(Check([CheckedRow(None, None)], 2, 1)) == (
        'the first TID is above the last one')


def test_not_while_the_cluster_does_not_run():
    talk = Conversation()
    admin = talk.admin()
    admin.say(Check([CheckedRow(None, None)], 0, MAX_TID))
    error = admin.take(Error)[0]
    assert error.error == ErrorCode.NOT_READY and 'while the cluster runs only' in error.message
