"""A cache that outlives the loss of the primary."""
from ...cluster import events
from ...protocol import limits
from ...protocol.packets import Invalidate, ListTransactions, Load, Sync
from ...protocol.types import MAX_ID, ErrorCode
from .conversation import Conversation


def lost(last_tid=20, **options):
    """(conversation, its storage or storages later): 1 to 3 are cached as of 5, all had been told
    up to 10, and the next primary is at `last_tid`."""
    c = Conversation(**options)
    storages = c.up(last_tid=10)
    for oid in 1, 2, 3:
        c.load(oid)
        for storage in storages:
            if storage.heard:
                storage.loads(5)
    c.master.breaks()
    c.wait(1)
    c.welcome(term=2, last_tid=last_tid)
    c.next_ttid = 2 << 43
    c.gives_ids()
    return c


def is_cached(c, oid, before):
    return c.client.cache.holds(oid, before, c.client.heard) is not None


def told(c):
    return [(tid, oids) for tid, oids, _ in c.client.invalidations]


def test_only_what_has_changed_is_dropped():
    c = lost()
    c.catches_up([(15, (2, 7)), (20, (3,))])
    assert told(c) == [(15, (2, 7)), (20, (3,))]
    assert c.client.heard == 20 and c.client.last_tid == 10
    assert is_cached(c, 1, 21) and not is_cached(c, 2, 21) and not is_cached(c, 3, 21)
    assert is_cached(c, 2, 15) and is_cached(c, 3, 20)      # as they were until then
    assert c.do('begin').done


def test_nothing_has_changed():
    c = lost(last_tid=10)
    assert not told(c) and is_cached(c, 1, 11) and c.do('begin').done


def test_until_it_is_known_nothing_is_current():
    """Old snapshots are read, what is current is asked when it is known what was missed."""
    c = lost()
    storage = c.meet('S1')
    old, new, current = c.load(1), c.do('load_before', 1, 21), c.do('load_before', 1, MAX_ID)
    sync, begin = c.do('sync'), c.do('begin')
    assert old.done and not (new.done or current.done or sync.done or begin.done)
    storage.tells_missed([(15, (1,))], start=11, stop=21, rows=(0, 1))
    c.gives_ids()
    assert begin.done
    for _ in range(2):
        storage.hears(Load, oid=1)
    c.master.hears(Sync)


def test_what_is_told_meanwhile_comes_afterwards():
    c = lost()
    storage = c.meet('S1')
    c.master.says(Invalidate(21, (1,)))
    assert not told(c)
    storage.tells_missed([(15, (2,))])
    assert told(c) == [(15, (2,)), (21, (1,))] and c.client.heard == 21
    assert not is_cached(c, 1, 22) and is_cached(c, 3, 22)


def test_it_comes_in_chunks_and_from_all_rows():
    c = lost(storages=2)
    even, odd = c.meet('S1'), c.meet('S2')
    even.tells_missed([(12, (2,))], next=13, start=11, rows=(0,))
    odd.tells_missed([(15, (3,))], rows=(1,))
    assert not told(c)
    even.tells_missed([(20, (7,))], start=13, stop=21, rows=(0,))
    assert told(c) == [(12, (2,)), (15, (3,)), (20, (7,))] and is_cached(c, 1, 21)


def test_a_copy_is_asked_if_one_is_lost():
    c = lost(storages=2, partitions=1, replicas=1)
    one, two = c.meet('S1'), c.meet('S2')
    one.hears(ListTransactions)
    one.breaks()
    packet, answer = two.hears(ListTransactions)
    answer(ListTransactions.Answer((), None))
    assert not told(c) and is_cached(c, 1, 21)


def dropped(c):
    return told(c) == [(20, None)] and not len(c.client.cache) and c.do('begin').done


def test_too_much_has_changed():
    c = lost()
    half = limits.CATCH_UP_OIDS // 2
    storage = c.meet('S1')
    storage.tells_missed([(12, tuple(range(half)))], next=13)
    assert not told(c)
    storage.tells_missed([(14, tuple(range(half)))], next=15)
    c.gives_ids()
    assert dropped(c) and not storage.heard


def test_nobody_can_tell():
    c = lost()
    c.meet('S1').refuses(ListTransactions, ErrorCode.REFUSED)
    c.gives_ids()
    assert dropped(c)


def test_nobody_tells_in_time():
    c = lost()
    for _ in range(int(limits.CATCH_UP_TIME)):
        c.master.heard.clear()
        c.client.peers[c.master.connection].heard = c.now
        assert not told(c)
        c.wait(1)
    c.gives_ids()
    assert dropped(c)


def test_its_time_ends_in_the_same_turn_as_it_does_itself():
    c = lost()
    c.catches_up([(15, (2,))])
    c.step(events.TimerFired('catch up'))
    assert told(c) == [(15, (2,))] and is_cached(c, 1, 21)


def test_how_long_operations_wait_does_not_bound_it():
    c = lost(wait_timeout=0.0)
    for _ in range(5):
        c.wait(1)
        c.client.peers[c.master.connection].heard = c.now
    c.catches_up([(15, (2,))])
    assert told(c) == [(15, (2,))] and is_cached(c, 1, 21)


def test_the_primary_is_lost_again():
    c = lost()
    storage = c.meet('S1')
    c.master.says(Invalidate(21, (1,)))
    storage.hears(ListTransactions)
    c.master.breaks()
    c.wait(1)
    assert not told(c) and c.client.heard == 10
    c.welcome(term=3, last_tid=22)
    c.next_ttid = 3 << 43
    c.gives_ids()
    c.catches_up([(15, (2,)), (21, (1,)), (22, (9,))])
    assert told(c) == [(15, (2,)), (21, (1,)), (22, (9,))]
    c.wait(2 * limits.CATCH_UP_TIME)
    assert is_cached(c, 3, 23) and not is_cached(c, 1, 23)


def test_cached_reads_go_on_while_there_is_no_primary_and_that_is_said_once():
    c = Conversation()
    storage, = c.up(last_tid=10)
    c.load(1)
    storage.loads(5)
    c.master.breaks()
    c.wait(15)
    assert c.load(1).result[0] == 5 and not c.load(2).done
    assert len([line for line in c.logged if 'what is cached is still read' in line]) == 1
