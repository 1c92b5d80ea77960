import pytest
from ZODB.utils import p64

from ...client.core.loads import Regroup
from ...client.exception import (BrokenData, ClusterUnavailable, NoObject, NoRevision,
                                 RequestRefused)
from ...client.reads import Reads
from ...protocol import limits
from ...protocol.checksum import checksum
from ...protocol.packets import (Invalidate, ListRecords, ListTransactions, Load, Measure,
                                 ObjectHistory)
from ...protocol.types import MAX_ID, ErrorCode, StoredRecord
from .conversation import NOT_READY, Conversation


def test_a_load_takes_one_message_and_the_next_one_none():
    c = Conversation()
    storage, = c.up(last_tid=10)
    load = c.load(1)
    storage.loads(5, oid=1, before=11)
    assert load.result[:2] == (5, None) and load.result[4] == b'data'
    again = c.load(1)
    assert again.done and again.result == load.result and not storage.heard
    assert c.client.completed == [load]


@pytest.mark.parametrize('error, exception', [(ErrorCode.NO_OBJECT, NoObject),
                                              (ErrorCode.NO_REVISION, NoRevision)])
def test_what_is_not_there(error, exception):
    c = Conversation()
    storage, = c.up()
    load = c.load(1)
    storage.refuses(Load, error)
    assert isinstance(load.error, exception)


def test_an_invalidation_ends_what_is_cached():
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.load(1)
    storage.loads(5)
    c.master.says(Invalidate(12, (1,)))
    assert c.client.invalidations.popleft() == (12, (1,), None)
    assert c.do('load_before', 1, 12).result[:2] == (5, 12)     # a snapshot that is open
    c.client.delivered(12)
    load = c.load(1)
    storage.loads(12, oid=1, before=13)
    assert load.result[0] == 12


def test_an_answer_that_crosses_an_invalidation_is_cached_as_ended():
    c = Conversation()
    storage, = c.up(last_tid=10)
    load = c.load(1)
    c.master.says(Invalidate(12, (1, 2)))
    c.master.says(Invalidate(13, (1,)))
    storage.loads(5)
    assert load.result[:2] == (5, 12)
    assert c.do('load_before', 1, 12).done
    assert not c.do('load_before', 1, 13).done


def test_below_what_was_heard_an_answer_is_not_ended_by_what_crosses_it():
    """The storage does not tell a tid that is only locked there, though this client has heard it:
    what ended the revision is not the next thing that is heard."""
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.master.says(Invalidate(12, (1,)))             # ZODB has not been told of it
    load = c.load(1)
    c.master.says(Invalidate(13, (1,)))
    storage.loads(5)
    assert load.result[:2] == (5, None)
    assert not c.do('load_before', 1, 13).done


def test_a_revision_newer_than_what_was_heard_is_not_ended_by_its_own_invalidation():
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.do('load_before', 1, 1 << 62)
    storage.loads(12)
    c.master.says(Invalidate(12, (1,)))
    assert c.do('load_before', 1, 13).result[:2] == (12, None)


def test_what_is_current_at_an_old_snapshot_is_not_taken_for_current():
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.master.says(Invalidate(12, (1,)))
    c.do('load_before', 1, 11)          # as the storage has not been told to unlock 12
    storage.loads(5)
    assert not c.do('load_before', 1, 13).done


def test_the_cache_does_not_speak_for_the_future():
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.load(1)
    storage.loads(5)
    assert not c.do('load_before', 1, 12).done


def test_another_storage_is_asked_when_one_can_not_answer():
    c = Conversation(storages=2, partitions=1, replicas=1)
    one, two = c.up(last_tid=10)
    load = c.load(0)
    one.refuses(Load, NOT_READY)
    two.loads(5, oid=0)
    assert load.result[0] == 5
    load = c.load(2)
    assert one.heard
    one.breaks()
    two.loads(6, oid=2)
    assert load.result[0] == 6


def test_all_are_asked_again_a_little_later():
    c = Conversation(storages=2, partitions=1, replicas=1)
    one, two = c.up(last_tid=10)
    load = c.load(0)
    one.refuses(Load, ErrorCode.NOT_HERE)
    two.refuses(Load, NOT_READY)
    assert not one.heard and not two.heard
    c.wait(limits.RECONNECT_DELAY)
    one.loads(5)
    assert load.result[0] == 5


def test_broken_data_are_looked_for_elsewhere_and_then_told():
    c = Conversation(storages=2, partitions=1, replicas=1)
    one, two = c.up()
    load = c.load(0)
    one.refuses(Load, ErrorCode.BROKEN_DATA)
    two.refuses(Load, ErrorCode.BROKEN_DATA)
    assert isinstance(load.error, BrokenData)


def test_loads_survive_the_primary_and_its_storages():
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.load(2)
    storage.loads(3)
    load = c.load(1)
    c.master.breaks()
    early = c.load(3)
    assert c.load(2).done         # what is cached is still true
    c.wait(1)
    c.welcome(last_tid=10)
    storage = c.meet('S1')
    storage.loads(5, oid=1)
    storage.loads(6, oid=3)
    assert load.result[0] == 5 and early.result[0] == 6
    assert c.load(2).done and not c.client.invalidations


def test_loads_do_not_wait_for_ever():
    c = Conversation(wait_timeout=3.0)
    c.up()
    c.master.breaks()
    load = c.load(1)
    c.wait(6)
    assert isinstance(load.error, ClusterUnavailable)
    c.wait(60)
    assert not c.client.operations.unfinished


@pytest.mark.parametrize('last_tid', [10, 11])
def test_in_another_history_everything_may_have_changed(last_tid):
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.load(1)
    storage.loads(5)
    c.master.breaks()
    c.wait(1)
    c.welcome(last_tid=last_tid, history=b'x' * 16)
    assert list(c.client.invalidations) == [(last_tid, None, None)]
    assert not c.load(1).done and not len(c.client.cache)


def test_prefetched_objects_are_in_the_cache():
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.client.prefetch([1, 2], 11)
    c.act()
    storage.loads(5, oid=1)
    storage.loads(6, oid=2)
    assert c.load(1).done and c.load(2).done and not c.client.completed


class Access:
    """Gives Reads what `load`, an operation, has got."""

    def __init__(self, core, load):
        self.core, self.load = core, load
        self.threads = self

    def repeat(self, function, *args):
        return function(self, *args)

    def run(self, method, *args):
        return self.load


def test_only_what_was_verified_is_taken_for_verified():
    """Other data of the same revision, broken on their way, came for a prefetch before."""
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.do('prefetch', [1], 11)
    load = c.load(1)
    _, answer = storage.hears(Load)
    answer(Load.Answer(1, 5, None, 0, checksum(b'data'), b'dada', None))
    storage.loads(5)
    assert Reads(Access(c.client, load)).load_before(p64(1), p64(11)) == (b'data', p64(5), None)
    data, expected = c.load(1).result[4], c.load(1).result[3]
    assert data == b'data' or expected == checksum(b'data')


def test_prefetches_do_not_pile_up_while_there_is_no_storage():
    c = Conversation()
    c.welcome()
    for i in range(10):
        c.do('prefetch', range(1000 * i, 1000 * i + 100), 11)
    assert len(c.client.operations.unfinished) == limits.LOAD_WINDOW


def test_a_prefetch_that_fails_is_nobody_s_concern():
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.client.prefetch([1, MAX_ID + 1], 11)
    c.act()
    storage.refuses(Load, ErrorCode.NO_OBJECT)
    assert not c.client.completed and not c.client.operations.unfinished and not c.client.loading
    assert not c.load(1).done


@pytest.mark.parametrize('method, arguments', [
    ('load_before', (MAX_ID + 1, 11)), ('load_before', (1, MAX_ID + 1)),
    ('object_history', (1, MAX_ID + 1, 1)), ('object_history', (-1, 5, 1)),
    ('transaction_info', (MAX_ID,)), ('list_records', ((0,), MAX_ID + 1, None, 5))])
def test_what_can_be_no_id_is_not_sent(method, arguments):
    c = Conversation()
    storage, = c.up(last_tid=10)
    refused = c.do(method, *arguments)
    assert isinstance(refused.error, RequestRefused) and not storage.heard


def test_history_and_metadata():
    c = Conversation()
    storage, = c.up()
    history = c.do('object_history', 1, 100, 2)
    _, answer = storage.hears(ObjectHistory, oid=1, before=100, limit=2)
    answer(ObjectHistory.Answer(1, ((9, 4), (7, 3))))
    assert history.result == [(9, 4), (7, 3)]
    info = c.do('transaction_info', 9)
    _, answer = storage.hears(ListTransactions, start=9, stop=10, rows=(1,))
    answer(ListTransactions.Answer(((9, 8, ' ', b'u', b'd', b'', (1,)),), None))
    assert info.result[3] == b'u'


def test_copies_are_measured_once():
    c = Conversation(storages=2, replicas=1)
    storages = c.up()
    measure = c.do('measure')
    for storage in storages:
        _, answer = storage.hears(Measure)
        answer(Measure.Answer(10, 1000))
    assert measure.result == (10, 1000)


def test_a_copy_that_is_being_filled_is_not_measured():
    c = Conversation(storages=2, replicas=1)
    one, two = c.up()
    c.changes_table(c.table.without(['S2']))
    measure = c.do('measure')
    _, answer = one.hears(Measure)
    answer(Measure.Answer(10, 1000))
    assert measure.result == (10, 1000)


@pytest.mark.parametrize('dies', [False, True])
def test_who_is_left_behind_is_not_measured_any_more(dies):
    c = Conversation(storages=3, partitions=3, replicas=1)
    one, two, three = c.up()
    measure = c.do('measure')
    for last in False, True:
        for storage in one, two:
            _, answer = storage.hears(Measure)
            answer(Measure.Answer(10, 1000))
        if not last:
            if dies:
                three.breaks()
            c.outdates('S3')
            c.wait(1)
    # Of three rows, two copies each, one is left of two of them.
    assert measure.result == (15, 1500)


def test_rows_that_one_storage_does_not_have_together_are_grouped_anew():
    c = Conversation(storages=2, partitions=4)
    c.up()
    assert sorted(c.client.groups()) == [(0, 2), (1, 3)]
    assert c.do('list_records', (0, 1), 0, None, 10).result == Regroup([(0,), (1,)])


# -- broken data -------------------------------------------------------------------------------
def listed(storage, start=0, **fields):
    """The storage answers ListRecords with one record per row, and has no more."""
    packet, answer = storage.hears(ListRecords, start=start, **fields)
    answer(ListRecords.Answer(tuple(
        StoredRecord(row, 5, 0, bytes(16), b'data', None) for row in packet.rows), None))


def broken(storage, where):
    storage.refuses(ListRecords, ErrorCode.BROKEN_DATA, where)


def test_an_iteration_goes_on_from_another_replica():
    c = Conversation(storages=2, partitions=2, replicas=1)
    one, two = c.up(last_tid=10)
    chunk = c.do('list_records', (0, 1), 0, None, 11)
    broken(one, 'object 0x1 at 0x5')
    listed(two, rows=(0, 1))
    assert len(chunk.result[0]) == 2


def test_rows_are_read_apart_when_one_of_them_is_broken():
    c = Conversation(storages=2, partitions=4)
    one, two = c.up(last_tid=10)
    chunk = c.do('list_records', (0, 2), 0, None, 11)
    broken(one, 'object 0x2 at 0x5')
    assert chunk.result == Regroup([(0,), (2,)])
    good = c.do('list_records', (0,), 0, None, 11)
    listed(one, rows=(0,))
    assert len(good.result[0]) == 1
    bad = c.do('list_records', (2,), 0, None, 11)
    broken(one, 'object 0x2 at 0x5')
    assert isinstance(bad.error, BrokenData) and 'S1: object 0x2 at 0x5' in str(bad.error)


def test_a_replica_that_is_away_may_have_what_is_broken_here():
    c = Conversation(storages=2, partitions=1, replicas=1, wait_timeout=10.0)
    one, two = c.up(last_tid=10)
    two.breaks()
    chunk = c.do('list_records', (0,), 0, None, 11)
    broken(one, 'object 0x2 at 0x5')
    assert not chunk.done
    c.connecting.clear()
    c.wait(limits.RECONNECT_DELAY)
    two = c.meet('S2')
    broken(one, 'object 0x2 at 0x5') if one.heard else None
    listed(two, rows=(0,))
    assert len(chunk.result[0]) == 1


# -- answers that make no sense ------------------------------------------------------------------
@pytest.mark.parametrize('method, arguments, cls, answer', [
    ('load_before', (0, 11), Load, Load.Answer(2, 5, None, 0, bytes(16), b'', None)),
    ('load_before', (0, 11), Load, Load.Answer(0, 11, None, 0, bytes(16), b'', None)),
    ('load_before', (0, 11), Load, Load.Answer(0, 5, 7, 0, bytes(16), b'', None)),
    ('object_history', (0, 11, 2), ObjectHistory, ObjectHistory.Answer(2, ())),
    ('object_history', (0, 11, 2), ObjectHistory, ObjectHistory.Answer(0, ((5, 1), (7, 1)))),
    ('list_transactions', ((0,), 5, 11), ListTransactions, ListTransactions.Answer((), 5)),
    ('list_records', ((0,), 5, 7, 11), ListRecords, ListRecords.Answer((), (5, 7))),
    ('list_records', ((0,), 5, None, 11), ListRecords, ListRecords.Answer(
        (StoredRecord(0, 11, 0, bytes(16), b'', None),), None)),
])
def test_an_answer_that_makes_no_sense_ends_that_connection(method, arguments, cls, answer):
    c = Conversation(storages=2, partitions=1, replicas=1)
    one, two = c.up(last_tid=10)
    read = c.do(method, *arguments)
    _, say = one.hears(cls)
    say(answer)
    assert c.closed == [one.connection] and not read.done
    two.hears(cls)
    assert c.client.primary is not None


def test_the_current_revision_is_that_of_the_call():
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.load(1)
    storage.loads(5)
    current = c.do('load_before', 1, MAX_ID)
    storage.loads(12)
    assert current.result[0] == 12
    c.master.says(Invalidate(12, (1,)))
    assert c.do('load_before', 1, 13).result[0] == 12
