"""An operator stops the cluster."""
import pytest

from neo.protocol.limits import SHUTDOWN_GRACE, STOP_GRACE
from neo.protocol.packets import (ClusterStateChanged, Drain, Error, Finish, SetClusterState,
                                  Settle, TakeTtids)
from neo.protocol.types import ClusterState, ErrorCode

from .conversation import Conversation, grant, running, write
from .test_transactions import begin, finish, lock

STOPPING = ClusterState.STOPPING


def stop(admin):
    return admin.say(SetClusterState(STOPPING))


def is_to_leave(party):
    return any(type(packet) is ClusterStateChanged and packet.state == STOPPING
               and not packet.reason for packet, _ in party.heard)


def stopping(storages=1, **options):
    talk, there = running(storages, **options)
    admin, client = talk.admin(), talk.client()
    ttid = begin(client)
    stop(admin)
    return talk, there, admin, client, ttid


def test_voted_transactions_end():
    """The client has voted, waits a second, and finishes."""
    talk, (storage,), admin, client, ttid = stopping()
    assert storage.hears(Drain) and not is_to_leave(storage)
    talk.wait(1)
    asked = finish(client, ttid, [storage], oids=(1,))
    storage.reply(Drain)                        # it is locked: nothing is voted any more
    assert not is_to_leave(storage)
    tid = lock(storage).tid
    answer, request_id = client.take(Finish.Answer)
    assert (request_id, answer.tid) == (asked, tid)
    assert is_to_leave(storage) and not client.open
    assert not admin.hears(SetClusterState.Answer)
    storage.leave()
    assert admin.take(SetClusterState.Answer)[0].message == 'the cluster has stopped'
    assert is_to_leave(admin) and talk.exit[0] == 0


def test_nothing_begins_any_more():
    talk, (storage,), admin, client, ttid = stopping()
    client.say(TakeTtids(1))
    assert client.take(Error)[0].error == ErrorCode.NOT_READY
    for late in talk.client(), talk.storage():
        assert late.take(Error)[0].error == ErrorCode.NOT_READY
    admin.say(SetClusterState(ClusterState.RUNNING))
    assert 'stopping' in admin.take(Error)[0].message


def test_patience_is_bounded():
    talk, (storage,), admin, client, ttid = stopping()
    talk.wait(STOP_GRACE + 1)
    assert is_to_leave(storage) and not client.open
    talk.wait(SHUTDOWN_GRACE + 1)
    assert admin.take(SetClusterState.Answer)[0].message == \
        'the cluster has stopped, but for S1 (127.0.0.1:20000)'
    assert talk.exit[0] == 0


def test_nobody_is_waited_for_who_is_not_there():
    talk, (storage,) = running()
    client, admin = talk.client(), talk.admin()
    client.leave()
    stop(admin)
    assert is_to_leave(storage) and not storage.hears(Drain)


def test_clients_that_leave_are_not_waited_for():
    talk, (storage,), admin, client, ttid = stopping()
    finish(client, ttid, [storage], oids=(1,))
    client.leave()
    assert not is_to_leave(storage)             # it was finished, though nobody may hear of it
    lock(storage)
    assert is_to_leave(storage)


@pytest.mark.parametrize('order', [(0, 1), (1, 0)])
@pytest.mark.parametrize('when', ['draining', 'locking', 'leaving'])
def test_storages_leave_in_any_order_at_any_time(order, when):
    talk, storages, admin, client, ttid = stopping(2)
    if when != 'draining':
        finish(client, ttid, storages, oids=(1,))
    if when == 'leaving':
        for storage in storages:
            storage.reply(Drain)
            lock(storage)
        assert client.hears(Finish.Answer)
    first, second = (storages[i] for i in order)
    first.leave()
    assert is_to_leave(second) and not client.open
    assert client.hears(Finish.Answer) == (when == 'leaving')
    second.leave()
    assert admin.hears(SetClusterState.Answer) and talk.exit[0] == 0


def test_a_cluster_that_does_not_run_stops_at_once():
    talk = Conversation()
    storage, admin = talk.known(1), talk.admin()
    waiting = talk.client()
    stop(admin)
    assert is_to_leave(storage) and waiting.heard[-1][0].state == STOPPING
    storage.leave()
    assert admin.hears(SetClusterState.Answer)


def test_an_answer_of_before_does_not_make_it_run_again():
    talk = Conversation(autostart=1)
    storage, admin = talk.storage(), talk.admin()
    grant(storage), write(storage)
    stop(admin)
    storage.reply(Settle, 0)
    assert talk.node.phase == STOPPING and is_to_leave(storage)


def test_who_orders_it_again_is_answered_too():
    talk, (storage,), admin, client, ttid = stopping()
    other = talk.admin()
    stop(other)
    storage.reply(Drain)
    storage.leave()
    assert admin.hears(SetClusterState.Answer) and other.hears(SetClusterState.Answer)
