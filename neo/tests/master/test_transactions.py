"""What a running master does with transactions, step by step."""
from neo.cluster.ids import time_of
from neo.protocol.limits import OIDS_RESERVED
from neo.protocol.packets import (Error, Finish, Invalidate, Lock, NodesChanged, ReserveOids,
                                  Sync, TakeOids, TakeTtids, Unlock, WhatBecameOf)
from neo.protocol.types import ErrorCode

from .conversation import running

import pytest


def begin(client):
    client.say(TakeTtids(1))
    return client.take(TakeTtids.Answer)[0].first


def finish(client, ttid, storages, oids=(), checked=(), imposed=()):
    return client.say(Finish(ttid, (1, 1), oids, checked, tuple(
        (storage.id, storage.welcome.session) for storage in storages), imposed))


def lock(storage):
    return storage.reply(Lock, next(p.ttid for p, _ in storage.heard if type(p) is Lock))


def test_a_tid_is_told_when_every_storage_has_locked():
    talk, (first, second) = running(2, replicas=1, partitions=4)
    writer, reader = talk.client(), talk.client()
    ttid = begin(writer)
    asked = finish(writer, ttid, [first, second], oids=(5,))
    tid = lock(first).tid
    assert tid % 4 == ttid % 4
    assert time_of(tid) == pytest.approx(talk.now, abs=1)
    assert not writer.hears(Finish.Answer) and not first.hears(Unlock)
    lock(second)
    answer, request_id = writer.take(Finish.Answer)
    assert (request_id, answer.ttid, answer.tid) == (asked, ttid, tid)
    assert reader.take(Invalidate)[0] == Invalidate(tid, (5,))
    assert not writer.hears(Invalidate)
    assert first.take(Unlock)[0].ttid == second.take(Unlock)[0].ttid == ttid


def test_no_tid_is_told_before_a_lower_one():
    talk, (first, second) = running(2, partitions=2)        # S1 has row 0, S2 row 1
    client = talk.client()
    client.say(TakeTtids(2))
    even = client.take(TakeTtids.Answer)[0].first
    assert even % 2 == 0
    one = finish(client, even, [first], oids=(2,))
    two = finish(client, even + 1, [second], oids=(3,))
    lock(second)
    assert not client.hears(Finish.Answer)
    lock(first)
    answers = [client.take(Finish.Answer), client.take(Finish.Answer)]
    assert [request_id for _, request_id in answers] == [one, two]
    assert answers[0][0].tid < answers[1][0].tid


def refusal(client):
    error, _ = client.take(Error)
    return error.error


def test_what_is_not_voted_by_all_is_refused():
    talk, (first, second) = running(2, partitions=2)
    client = talk.client()
    ttid = begin(client)
    finish(client, ttid, [first], oids=(1,))                # its row is on S2
    assert refusal(client) == ErrorCode.RETRY
    finish(client, ttid, [first], checked=(1,))
    assert refusal(client) == ErrorCode.RETRY
    assert not first.hears(Lock)


def test_a_vote_of_another_session_does_not_count():
    talk, (storage,) = running()
    client = talk.client()
    storage.welcome.session += 1
    finish(client, begin(client), [storage], oids=(1,))
    assert refusal(client) == ErrorCode.RETRY


def test_a_ttid_of_another_term_is_refused():
    talk, (storage,) = running()
    client = talk.client()
    finish(client, 77, [storage], oids=(1,))
    assert refusal(client) == ErrorCode.RETRY


def test_imposed_tids_must_be_above_the_last():
    talk, (storage,) = running(partitions=3)
    client, other = talk.client(), talk.client()
    finish(client, begin(client), [storage], imposed=((1000, (1,)), (1001, (2, 9))))
    assert lock(storage).tid == 1001
    assert client.take(Finish.Answer)[0].tid == 1001
    assert [other.take(Invalidate)[0].tid for _ in range(2)] == [1000, 1001]
    finish(client, begin(client), [storage], imposed=((1001, (1,)),))
    assert refusal(client) == ErrorCode.REFUSED
    client.say(TakeOids(1))
    assert client.hears(TakeOids.Answer) or storage.hears(ReserveOids)


def test_oids_are_given_below_a_durable_mark():
    talk, (first, second) = running(2)
    client = talk.client()
    client.say(TakeOids(10))
    assert not client.hears(TakeOids.Answer)
    mark = next(p.mark for p, _ in first.heard if type(p) is ReserveOids)
    assert mark > OIDS_RESERVED
    first.reply(ReserveOids, mark)
    assert not client.hears(TakeOids.Answer)
    second.reply(ReserveOids, mark)
    assert client.take(TakeOids.Answer)[0].first == 1       # 0 is the root
    client.say(TakeOids(10))
    assert client.take(TakeOids.Answer)[0].first == 11


def test_a_gone_client_is_announced_after_its_locks():
    talk, (storage,) = running()
    client = talk.client()
    ttid = begin(client)
    finish(client, ttid, [storage], oids=(1,))
    client.leave()
    kinds = [type(packet) for packet, _ in storage.heard]
    assert kinds.index(Lock) < len(kinds) - 1 - kinds[::-1].index(NodesChanged)
    assert storage.heard[-1][0].removed == (client.id,)
    lock(storage)
    assert storage.take(Unlock)[0].ttid == ttid
    assert talk.client().id != client.id


def test_what_became_of_a_transaction_in_finish():
    talk, (storage,) = running()
    client, again = talk.client(), talk.client()
    ttid = begin(client)
    finish(client, ttid, [storage], oids=(1,))
    again.say(WhatBecameOf(ttid))
    assert not again.heard[-1:] or not again.hears(WhatBecameOf.Answer)
    tid = lock(storage).tid
    assert again.take(WhatBecameOf.Answer)[0].tid == tid


def test_what_was_said_never_to_commit_does_not():
    talk, (storage,) = running()
    client, again = talk.client(), talk.client()
    ttid = begin(client)
    again.say(WhatBecameOf(ttid))
    storage.reply(WhatBecameOf, ttid, None)
    assert again.take(WhatBecameOf.Answer)[0].tid is None
    finish(client, ttid, [storage], oids=(1,))              # it was on its way
    assert refusal(client) == ErrorCode.RETRY


def test_sync_tells_the_last_tid():
    talk, (storage,) = running()
    client = talk.client()
    finish(client, begin(client), [storage], oids=(1,))
    tid = lock(storage).tid
    client.say(Sync())
    assert client.take(Sync.Answer)[0].last_tid == tid
