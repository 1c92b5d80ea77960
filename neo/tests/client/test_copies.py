"""Reads that one storage can't serve, and another one can."""
import pytest
from ZODB.utils import p64

from ...client.core.loads import Regroup
from ...client.exception import BrokenData
from ...client.history import History
from ...client.reads import Reads
from ...protocol import limits
from ...protocol.checksum import checksum
from ...protocol.packets import FoundBroken, Invalidate, Load
from ...protocol.types import ErrorCode, StoredRecord
from .conversation import Conversation

GOOD, BAD = b'data', b'dada'


def copies(**options):
    """(conversation, storages): two copies of one row; object 0 is read from S1."""
    c = Conversation(storages=2, partitions=1, replicas=1, **options)
    return c, c.up(last_tid=10)


def passes(c, seconds, *speaking):
    """Time passes, and only these are heard of."""
    for _ in range(seconds):
        c.wait(1)
        for peer in speaking:
            c.client.peers[peer.connection].heard = c.now


def reports(c):
    return [(packet.oid, packet.tid, packet.storage) for packet, _ in c.master.heard
            if type(packet) is FoundBroken]


# -- who does not answer ------------------------------------------------------------------------
def test_a_read_goes_elsewhere_when_it_has_waited():
    c, (one, two) = copies()
    load = c.load(0)
    _, answer = one.hears(Load)
    passes(c, int(limits.READ_PATIENCE) - 1, c.master, two)
    assert not two.heard
    passes(c, 2, c.master, two)
    two.loads(5, oid=0)
    assert load.result[0] == 5
    answer(Load.Answer(0, 5, None, 0, checksum(GOOD), GOOD, None))      # late, and no harm
    assert c.client.primary is not None and not c.client.loading


def test_others_are_asked_first_until_it_is_heard():
    c, (one, two) = copies()
    c.load(0)
    passes(c, 3, c.master, two)
    two.loads(5, oid=0)
    c.load(2)
    two.loads(5, oid=2)
    _, answer = one.hears(Load, oid=0)
    c.wait(.1)
    answer(Load.Answer(0, 5, None, 0, checksum(GOOD), GOOD, None))
    one.heard.clear()
    c.load(4)
    one.loads(5, oid=4)


def test_where_all_keep_it_waiting_it_is_patient():
    """It may wait for a transaction, on each of them."""
    c, (one, two) = copies()
    load = c.load(0)
    passes(c, 3, c.master, one, two)
    _, answer = two.hears(Load)
    passes(c, 3, c.master, one, two)
    assert not two.heard and len([p for p, _ in one.heard if type(p) is Load]) == 1
    answer(Load.Answer(0, 5, None, 0, checksum(GOOD), GOOD, None))
    assert load.result[0] == 5


@pytest.mark.parametrize('left_behind', [False, True])
def test_rows_of_who_does_not_answer_are_read_from_others(left_behind):
    """Though none of these has all of them."""
    c = Conversation(storages=3, partitions=6, replicas=1)
    storages = c.up(last_tid=10)
    rows = c.client.groups()[0]
    chunk = c.do('list_records', rows, 0, None, 11)
    mute = next(storage for storage in storages if storage.heard)
    others = [storage for storage in storages if storage is not mute]
    if left_behind:
        c.outdates(c.client.peers[mute.connection].id)
    passes(c, 3, c.master, *others)
    assert type(chunk.result) is Regroup and len(chunk.result.groups) == 2
    for group in chunk.result.groups:
        c.do('list_records', group, 0, None, 11)
    assert [len(storage.heard) for storage in others] == [1, 1]


def test_the_only_one_is_waited_for():
    c = Conversation()
    storage, = c.up(last_tid=10)
    load = c.load(1)
    _, answer = storage.hears(Load)
    passes(c, 4, c.master, storage)
    answer(Load.Answer(1, 5, None, 0, checksum(GOOD), GOOD, None))
    assert load.result[0] == 5


def test_what_is_heard_meanwhile_ends_the_answer_of_the_other():
    c, (one, two) = copies()
    load = c.load(0)
    passes(c, 3, c.master, two)
    c.master.says(Invalidate(12, (0,)))
    two.loads(5, oid=0)
    assert load.result[:2] == (5, 12)


# -- broken data --------------------------------------------------------------------------------
class Access:
    """For one thread: `script(operation)` speaks until it is done."""

    def __init__(self, c, script):
        self.core, self.threads, self._c, self._script = c.client, self, c, script

    def repeat(self, function, *args):
        return function(self, *args)

    def run(self, method, *args):
        operation = method(*args)
        self._c.act()
        if not operation.done:
            self._script()
        if operation.error is not None:
            raise operation.error
        return operation


def reads(c, *scripts):
    scripts = iter(scripts)
    return Reads(Access(c, lambda: next(scripts)()))


def gives(storage, data, oid=0):
    def say():
        packet, answer = storage.hears(Load)
        answer(Load.Answer(oid, 5, None, 0, checksum(GOOD), data, None))
    return say


def test_a_wrong_checksum_is_not_given_while_a_copy_is_right():
    c, (one, two) = copies()
    c.master.heard.clear()
    read = reads(c, gives(one, BAD), gives(two, GOOD))
    assert read.load_before(p64(0), p64(11)) == (GOOD, p64(5), None)
    assert reports(c) == [(0, 5, 'S1')]
    assert c.load(0).result[4] == GOOD          # in the cache


def test_where_all_are_wrong_that_is_said():
    c, (one, two) = copies()
    read = reads(c, gives(one, BAD), gives(two, BAD))
    with pytest.raises(BrokenData, match='S1.*S2'):
        read.load_before(p64(0), p64(11))
    assert reports(c) == [(0, 5, 'S1'), (0, 5, 'S2')]
    assert not c.load(0).done


def test_who_has_given_broken_data_is_not_asked_again_while_the_copy_is_away():
    c, (one, two) = copies()
    two.breaks()

    def copy_comes():
        c.wait(limits.RECONNECT_DELAY)
        assert not one.heard
        c.meet('S2').loads(5, oid=0)
    read = reads(c, gives(one, BAD), copy_comes)
    assert read.load_before(p64(0), p64(11))[0] == GOOD


def test_a_storage_that_finds_it_itself_is_told_of_too():
    c, (one, two) = copies()
    load = c.load(0)
    one.refuses(Load, ErrorCode.BROKEN_DATA)
    assert reports(c) == []
    two.loads(5, oid=0)
    assert load.result[0] == 5 and reports(c) == [(0, 5, 'S1')]


def test_what_was_prefetched_broken_is_loaded_again():
    c, (one, two) = copies()
    c.do('prefetch', [0], 11)
    gives(one, BAD)()
    read = reads(c, gives(one, BAD), gives(two, GOOD))
    assert read.load_before(p64(0), p64(11))[0] == GOOD
    assert reports(c) == [(0, 5, 'S1')]


def test_an_iteration_goes_on_with_what_a_copy_has():
    c, (one, two) = copies()
    read = reads(c, gives(one, GOOD))
    record = StoredRecord(0, 5, 0, checksum(GOOD), BAD, None)
    found = History(None, read)._unpack(record.compression, record.checksum, record.data, 0, 5)
    assert found == GOOD
