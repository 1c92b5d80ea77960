"""For whom a client waits, how long, and what it says about it."""
from ...client.exception import ClusterUnavailable, OutcomeUnknown
from ...cluster import events
from ...protocol import limits
from ...protocol.packets import ClusterStateChanged, Identify, Sync
from ...protocol.types import ClusterState
from .conversation import MASTER, METADATA, Conversation, record


def waiting(c):
    return [line for line in c.logged if line.startswith('waiting for')]


def refuse(c, address):
    c.connecting.remove(address)
    c.step(events.ConnectFailed(address, 'Connection refused'))


def test_no_master_is_said_at_once_and_every_few_seconds_and_in_the_exception():
    c = Conversation(wait_timeout=20.0)
    ready = c.do('when_ready')
    refuse(c, MASTER)
    assert c.logged == [
        'no primary master at 127.0.0.1:10000: Connection refused; trying again']
    c.wait(19.5)
    assert waiting(c)[0] == ('waiting for the primary master (127.0.0.1:10000: Connection refused)'
                             ' for 1 s, 19 s more at most')
    assert 3 <= len(waiting(c)) <= 20 / limits.WAITING_SAID + 1
    c.wait(1)
    assert isinstance(ready.error, ClusterUnavailable)
    assert str(ready.error) == (
        "cluster 'test' is not available: waiting for the primary master (127.0.0.1:10000: "
        "Connection refused) for 20 s")


def test_a_cluster_that_does_not_run_says_why():
    c = Conversation(wait_timeout=5.0)
    ready = c.do('when_ready')
    master = c.accepts(MASTER)
    _, answer = master.hears(Identify)
    master.says(ClusterStateChanged(ClusterState.RECOVERING, 'waiting for S2 (b, 10.0.0.2:1)'))
    c.wait(6)
    assert str(ready.error) == (
        "cluster 'test' is not available: waiting for the cluster, which does not run "
        "(RECOVERING: waiting for S2 (b, 10.0.0.2:1)) for 5 s")
    assert c.client.peers                       # that connection is as good as before


def test_a_storage_that_is_not_there_is_named():
    c = Conversation(storages=2, wait_timeout=10.0)
    c.welcome(last_tid=10)
    c.gives_ids()
    c.meet('S1')
    refuse(c, c.address('S2'))
    assert c.logged[-1] == (
        'no connection to S2 (store-S2, s2:20000: Connection refused); trying again')
    load = c.load(1)
    fine = c.load(2)
    c.wait(2)
    assert waiting(c) == ['waiting for S2 (store-S2, s2:20000: Connection refused) for 1 s, '
                          '9 s more at most']
    c.wait(5)
    assert waiting(c)[-1].endswith(', 2 operations in all')
    c.wait(5)
    assert 'waiting for S2 (store-S2, s2:20000: Connection refused) for 10 s' in str(load.error)
    assert 'an answer' in str(fine.error)       # of S1, which says nothing


def test_what_is_answered_soon_is_not_said():
    """However busy it is: each look finds something that has just been asked."""
    c = Conversation(wait_timeout=30.0)
    storage, = c.up(last_tid=10)
    for oid in 1, 2, 3:
        load = c.load(oid)
        c.wait(1)
        storage.loads(5, oid=oid)
        assert load.done
    assert waiting(c) == []


def test_a_transaction_waits_no_longer_than_one_operation_in_all():
    c = Conversation(storages=2, partitions=2, wait_timeout=10.0)
    begin = c.do('begin')
    c.wait(6)
    c.welcome(last_tid=10)
    c.gives_ids()
    c.meet('S1')
    txn = begin.result
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    c.wait(6)
    assert isinstance(vote.error, ClusterUnavailable) and 'store-S2' in str(vote.error)


def test_locks_of_others_may_take_their_time_and_are_said():
    c = Conversation(wait_timeout=10.0)
    storage, = c.up(last_tid=10)
    txn = c.begin()
    c.do('store', txn, record(1, 5))
    vote = c.do('vote', txn, METADATA)
    for _ in range(10):
        storage.heard = [heard for heard in storage.heard if type(heard[0]).__name__ != 'Ping']
        for peer in c.client.peers.values():
            peer.heard = c.now
        c.wait(4)
    assert not vote.done
    assert waiting(c)[0].startswith('waiting for S1 (store-S1, s1:20000), with transaction ')
    storage.votes()
    assert vote.result == []


def test_time_in_which_this_process_stood_still_does_not_count():
    c = Conversation(wait_timeout=10.0)
    c.up(last_tid=10)
    sync = c.do('sync')
    c.now += 3600
    c.wait(1)
    _, answer = c.master.hears(Sync)
    answer(Sync.Answer(10))
    assert sync.result == 10


def test_a_finish_of_unknown_outcome():
    c = Conversation()
    storage, = c.up(last_tid=10)
    txn = c.begin()
    c.do('store', txn, record(1, 5))
    c.do('vote', txn, METADATA)
    storage.votes()
    finish = c.do('finish', txn)
    c.master.breaks()
    c.wait(8)
    assert 'to know what became of transaction %#x' % txn.ttid in waiting(c)[0]
    c.wait(limits.OUTCOME_TIMEOUT)
    assert isinstance(finish.error, OutcomeUnknown)
    assert 'the primary master (127.0.0.1:10000' in str(finish.error)
