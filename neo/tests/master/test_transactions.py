"""What a running master does with transactions, step by step."""
from neo.cluster.ids import first_ttid, tid_at, time_of
from neo.protocol.limits import (CLOCK_TOLERANCE, MAX_OIDS_AHEAD, MAX_TTIDS_OPEN,
                                 OIDS_RESERVED, SILENCE_TOLD)
from neo.protocol.packets import (ClientIsSilent, Error, Finish, Invalidate, Lock, NodesChanged,
                                  Ping, RequestTerm, ReserveOids, Settle, Sync, TableChanged,
                                  TakeOids, TakeTtids, Unlock, WhatBecameOf)
from neo.protocol.types import MAX_OID, MAX_TID, Cell, CellState, ClusterState, ErrorCode

from .conversation import Conversation, grant, running, write

import pytest

OUT = int(CellState.OUT_OF_DATE)


def begin(client):
    client.say(TakeTtids(1))
    return client.take(TakeTtids.Answer)[0].first


def finish(client, ttid, storages, oids=(), checked=(), imposed=(), table=None):
    table = table or client.driven.node.tables.in_force.key
    return client.say(Finish(ttid, table, oids, checked, tuple(
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


def test_a_transaction_is_finished_by_its_client_only():
    talk, (storage,) = running()
    client, other = talk.client(), talk.client()
    ttid = begin(client)
    finish(other, ttid, [storage], oids=(1,))
    assert refusal(other) == ErrorCode.RETRY and not storage.hears(Lock)
    finish(client, ttid, [storage], oids=(1,))
    lock(storage)
    assert client.hears(Finish.Answer)


def test_a_transaction_is_finished_once():
    """Else it could have one tid here and another one there when all begins again."""
    talk, (storage,) = running()
    client = talk.client()
    ttid = begin(client)
    finish(client, ttid, [storage], oids=(1,))
    finish(client, ttid, [storage], oids=(1,))
    assert refusal(client) == ErrorCode.RETRY
    tid = lock(storage).tid
    assert client.hears(Finish.Answer)
    finish(client, ttid, [storage], oids=(1,))
    assert refusal(client) == ErrorCode.RETRY and not storage.hears(Lock)
    client.say(Sync())
    assert client.take(Sync.Answer)[0].last_tid == tid


def test_sync_tells_the_last_tid():
    talk, (storage,) = running()
    client = talk.client()
    finish(client, begin(client), [storage], oids=(1,))
    tid = lock(storage).tid
    client.say(Sync())
    assert client.take(Sync.Answer)[0].last_tid == tid


# -- what clients claim --------------------------------------------------------------------------
def claim(client, **fields):
    """Finish what is right but for these; the code and message of the refusal."""
    ttid = begin(client)
    storages = fields.pop('voted', None)
    right = dict(ttid=ttid, table=(1, 1), oids=(1,), checked=(), imposed=(), voted=tuple(
        (storage.id, storage.welcome.session) for storage in client.driven.parties.values()
        if storage.id and storage.id[0] == 'S') if storages is None else storages)
    right.update(fields)
    client.say(Finish(**right))
    error, _ = client.take(Error)
    return error.error, error.message


def still_works(talk, storages):
    """Nobody was disturbed, and nothing is left."""
    assert all(storage.open and not storage.hears(Lock) for storage in storages)
    client = talk.client()
    finish(client, begin(client), storages, oids=(1,))
    for storage in storages:
        lock(storage)
    assert client.hears(Finish.Answer)


@pytest.mark.parametrize('fields, message', [
    ({'voted': ()}, 'has not voted'),
    ({'voted': (('S1', 1), ('S1', 1), ('S2', 2))}, 'voted twice'),
    ({'voted': (('S1', 1), ('S2', 3))}, 'been away'),
    ({'oids': (MAX_OID + 1,)}, 'above the highest'),
    ({'oids': (), 'imposed': ((1000, (MAX_OID + 1,)),)}, 'above the highest'),
    ({'imposed': ((1000, (1,)),)}, 'oids of no tid'),
    ({'oids': (), 'imposed': ((1000, (1,)), (1000, (2,)))}, 'is not above'),
    ({'oids': (), 'imposed': ((1001, (1,)), (1000, (2,)))}, 'is not above'),
    ({'oids': (), 'imposed': ((0, (1,)),)}, 'is not above'),
    ({'oids': (), 'imposed': ((MAX_TID + 1, (1,)),)}, 'ahead of the clocks'),
    ({'ttid': first_ttid(2)}, 'was not begun here by this client'),
    ({'ttid': first_ttid(1) + 999}, 'was not begun here by this client'),
])
def test_a_wrong_claim_fails_that_transaction(fields, message):
    talk, storages = running(2, replicas=1)
    client = talk.client()
    assert message in claim(client, **fields)[1]
    assert client.open
    still_works(talk, storages)


@pytest.mark.parametrize('other', ['S9', 'C1'])
def test_a_vote_of_who_has_no_cell_does_not_matter(other):
    """It may have been taken out of the table meanwhile."""
    talk, storages = running(2, replicas=1)
    client = talk.client()
    client.say(Finish(begin(client), (1, 1), (1,), (), (('S1', 1), ('S2', 2), (other, 3)), ()))
    for storage in storages:
        lock(storage)
    assert client.hears(Finish.Answer)


def test_a_newcomer_has_no_vote():
    talk, (storage,) = running()
    newcomer = talk.storage()
    grant(newcomer)
    write(storage), write(newcomer)
    client = talk.client()
    finish(client, begin(client), [storage, newcomer], oids=(1,))
    assert not newcomer.hears(Lock)
    lock(storage)
    assert client.hears(Finish.Answer)


@pytest.mark.parametrize('count', [0, MAX_OIDS_AHEAD + 1, (1 << 63) - 1])
@pytest.mark.parametrize('kind', [TakeOids, TakeTtids])
def test_counts_out_of_range_are_refused(kind, count):
    talk, storages = running()
    client = talk.client()
    client.say(kind(count))
    assert refusal(client) == ErrorCode.REFUSED and client.open
    still_works(talk, storages)


def test_a_tid_far_ahead_of_all_clocks_is_refused():
    talk, (storage,) = running()
    client = talk.client()
    ahead = ((tid_at(talk.now + CLOCK_TOLERANCE + 60), (1,)),)
    assert claim(client, oids=(), imposed=ahead)[0] == ErrorCode.REFUSED
    near = tid_at(talk.now + CLOCK_TOLERANCE - 60)
    finish(client, begin(client), [storage], imposed=((near, (1,)),))
    assert lock(storage).tid == near
    # Time goes on from there: the next one is not refused for that.
    next_to_it = near + (30 << 32) // 60
    finish(client, begin(client), [storage], imposed=((next_to_it, (1,)),))
    assert lock(storage).tid == next_to_it


def test_a_clock_of_a_storage_that_is_right_counts():
    talk, (storage,) = running(clock=1e6)
    client = talk.client()
    imposed = tid_at(talk.now + 1e6)
    finish(client, begin(client), [storage], imposed=((imposed, (1,)),))
    assert lock(storage).tid == imposed


def test_the_last_oid_there_can_be():
    talk, (storage,) = running()
    client = talk.client()
    finish(client, begin(client), [storage], oids=(MAX_OID,))
    lock(storage)
    assert client.hears(Finish.Answer)
    client.say(TakeOids(1))
    assert refusal(client) == ErrorCode.REFUSED
    still_works(talk, [storage])


def test_a_mark_that_is_above_all_oids_stops_nothing_but_oids():
    talk = Conversation()
    storage = talk.known(1, ['S1'], mark=(1 << 63) - 1, last_tid=(1 << 63) - 1)
    write(storage)
    storage.reply(Settle, (1 << 63) - 1)
    assert talk.node.phase == ClusterState.RUNNING
    client = talk.client()
    client.say(TakeOids(1))
    assert refusal(client) == ErrorCode.REFUSED
    finish(client, begin(client), [storage], oids=(1,))     # there are no tids either
    assert refusal(client) == ErrorCode.REFUSED
    assert client.open and storage.open and not storage.hears(Lock)


def test_the_last_oids_are_given():
    talk = Conversation()
    storage = talk.known(1, ['S1'], mark=MAX_OID - 5)
    write(storage)
    storage.reply(Settle, 0)
    client = talk.client()
    client.say(TakeOids(3))
    # A storage takes no higher one.
    assert storage.reply(ReserveOids, MAX_OID).mark == MAX_OID
    assert client.take(TakeOids.Answer)[0].first == MAX_OID - 5
    client.say(TakeOids(3))
    assert refusal(client) == ErrorCode.REFUSED
    client.say(TakeOids(2))
    assert client.take(TakeOids.Answer)[0].first == MAX_OID - 2
    assert storage.open and not storage.hears(ReserveOids)


def test_after_the_last_tid():
    talk = Conversation()
    storage = talk.known(1, ['S1'], last_tid=MAX_TID)
    write(storage)
    storage.reply(Settle, MAX_TID)
    client = talk.client()
    finish(client, begin(client), [storage], oids=(1,))
    assert refusal(client) == ErrorCode.REFUSED and not storage.hears(Lock)


def test_the_oldest_of_very_many_ttids_are_forgotten():
    talk, (storage,) = running()
    client = talk.client()
    first = begin(client)
    client.say(TakeTtids(MAX_TTIDS_OPEN))
    finish(client, first, [storage], oids=(1,))
    assert refusal(client) == ErrorCode.RETRY
    finish(client, first + 1, [storage], oids=(1,))
    lock(storage)
    assert client.hears(Finish.Answer)


def test_a_vote_that_was_not_is_undone_by_recovery_where_others_have_locked():
    talk, (first, second) = running(2, replicas=1)
    client = talk.client()
    ttid = begin(client)
    finish(client, ttid, [first, second], oids=(1,))
    lock(first)
    _, request_id = second.take(Lock)
    second.say(Error(ErrorCode.UNKNOWN_TTID, 'it was not voted'), request_id)
    assert first.open and second.open and not client.hears(Finish.Answer)
    assert talk.node.phase == ClusterState.RECOVERING
    assert first.hears(RequestTerm) and second.hears(RequestTerm)


def test_a_client_that_is_silent_is_dropped():
    talk, (storage,) = running()
    silent, other = talk.client(), talk.client()
    storage.say(ClientIsSilent(silent.id))
    assert not silent.open and other.open
    assert storage.last(NodesChanged)[0].removed == (silent.id,)
    for id in silent.id, 'C99', storage.id:     # it has gone meanwhile, or is no client
        storage.say(ClientIsSilent(id))
    still_works(talk, [storage])


def test_what_is_said_of_a_silent_client_may_come_late():
    talk, (storage, other) = running(2)
    client = talk.client()
    other.leave()
    assert talk.node.phase == ClusterState.RECOVERING
    storage.say(ClientIsSilent(client.id))
    assert storage.open


# -- losses ---------------------------------------------------------------------------------------
@pytest.mark.parametrize('request_kind', [Lock, ReserveOids, WhatBecameOf])
@pytest.mark.parametrize('lost', [0, 1])
@pytest.mark.parametrize('replicas', [0, 1])
def test_a_storage_lost_while_it_is_waited_for(request_kind, lost, replicas):
    talk, storages = running(2, replicas=replicas)
    client = talk.client()
    ttid = begin(client)
    if request_kind is Lock:
        finish(client, ttid, storages, oids=(1,))
    elif request_kind is ReserveOids:
        client.say(TakeOids(1))
    else:
        client.say(WhatBecameOf(ttid))
    client.heard.clear()
    other = storages[1 - lost]
    packet, request_id = other.take(request_kind)
    storages[lost].leave()
    fields = {Lock: (ttid,), ReserveOids: (packet.mark if request_kind is ReserveOids else 0,),
              WhatBecameOf: (ttid, None)}[request_kind]
    other.say(request_kind.Answer(*fields), request_id)
    # Nobody is told anything before it is known that the cluster goes on without the other one.
    assert {type(packet) for packet, _ in client.heard} == {NodesChanged}
    if replicas:
        assert talk.node.phase == ClusterState.RUNNING
        table = write(other).table
        assert all(Cell(storages[lost].id, OUT) in row for row in table.rows)
        kinds = [type(packet) for packet, _ in client.heard]
        answers = {Lock: Finish, ReserveOids: TakeOids, WhatBecameOf: WhatBecameOf}
        assert kinds.index(TableChanged) < kinds.index(answers[request_kind].Answer)
    else:
        # What is answered late belongs to the past.
        assert not client.open and other.open


def test_without_the_last_copy_the_cluster_recovers():
    talk, (first, second) = running(2, replicas=1)
    client = talk.client()
    first.leave()
    write(second)
    second.leave()
    assert talk.node.phase == ClusterState.RECOVERING and not client.open


def test_both_copies_lost_at_once_are_one_loss_too_many():
    talk, (first, second) = running(2, replicas=1)
    first.leave()
    second.leave()
    assert talk.node.phase == ClusterState.RECOVERING


def test_finish_waits_until_it_is_known_who_has_to_have_voted():
    talk, (first, second) = running(2, replicas=1)
    client = talk.client()
    ttid = begin(client)
    first.leave()
    finish(client, ttid, [first, second], oids=(1,))
    assert not second.hears(Lock) and not client.hears(Error)
    write(second)
    lock(second)
    assert client.take(Finish.Answer)[0].ttid == ttid


def test_who_left_and_came_back_has_not_voted():
    talk, (first, second) = running(2, replicas=1)
    client = talk.client()
    ttid = begin(client)
    first.leave()
    back = talk.storage(identity=first.identity, id='S1', cluster_id=talk.node.cluster.id,
                        history=talk.node.cluster.history, term=1)
    grant(back)
    write(second), write(back)
    assert back.take(Settle)[0].keep == ()      # whatever it has unfinished is dropped
    finish(client, ttid, [first, second], oids=(1,))
    assert not back.hears(Lock)
    lock(second)
    assert client.hears(Finish.Answer)


def test_the_highest_tid_of_an_import_is_told_whoever_answers_last():
    for order in (0, 1), (1, 0):
        talk, storages = running(2, partitions=2)
        again = talk.client()
        again.say(WhatBecameOf(77))
        for i in order:
            storages[i].reply(WhatBecameOf, 77, (1000, 1001)[i])
        assert again.take(WhatBecameOf.Answer)[0].tid == 1001


@pytest.mark.parametrize('known', [1000, None])
def test_what_is_broken_in_one_storage_is_asked_of_the_others(known):
    talk, (first, second) = running(2, replicas=1)
    client = talk.client()
    client.say(WhatBecameOf(77))
    _, request_id = first.take(WhatBecameOf)
    first.say(Error(ErrorCode.BROKEN_DATA, 'a page is broken'), request_id)
    second.reply(WhatBecameOf, 77, known)
    assert client.take(WhatBecameOf.Answer)[0].tid == known
    assert first.open and client.open and talk.node.phase == ClusterState.RUNNING


def test_what_is_broken_in_the_only_copy_is_not_known():
    talk, (first, second) = running(2)
    client = talk.client()
    client.say(WhatBecameOf(77))
    _, request_id = first.take(WhatBecameOf)
    first.say(Error(ErrorCode.BROKEN_DATA, 'a page is broken'), request_id)
    second.reply(WhatBecameOf, 77, 1000)
    assert refusal(client) == ErrorCode.BROKEN_DATA
    assert first.open and client.open and talk.node.phase == ClusterState.RUNNING


def test_a_question_about_a_term_to_come_is_refused():
    talk, (storage,) = running()
    client = talk.client()
    client.say(WhatBecameOf(first_ttid(2)))
    assert refusal(client) == ErrorCode.REFUSED and not storage.hears(WhatBecameOf)


# -- storages that stand still ------------------------------------------------------------------
def keep_speaking(talk, seconds, *parties):
    for _ in range(round(seconds)):
        talk.wait(1)
        for party in parties:
            while party.hears(Ping):
                party.reply(Ping)


def test_who_stands_still_is_left_behind_within_seconds():
    talk, (first, second) = running(2, replicas=1)
    client = talk.client()
    finish(client, begin(client), [first, second], oids=(1,))
    lock(first)
    keep_speaking(talk, 3, first, client)
    assert second.open and not client.hears(Finish.Answer)      # a pause of some seconds is none
    keep_speaking(talk, SILENCE_TOLD + 2, first, client)
    assert not second.open
    write(first)
    assert client.hears(Finish.Answer)


def test_the_last_copy_is_waited_for():
    talk, (first, second) = running(2)
    client = talk.client()
    keep_speaking(talk, SILENCE_TOLD + 4, first, client)
    assert second.open and talk.node.phase == ClusterState.RUNNING


def test_both_copies_stand_still():
    """None of them is left behind: there would be nobody to go on with, and it may be the master
    that hears nobody."""
    talk, (first, second) = running(2, replicas=1)
    client = talk.client()
    first.say(Ping())
    talk.wait(1)
    second.say(Ping())                  # so it is found silent later
    keep_speaking(talk, SILENCE_TOLD + 4, client)
    assert first.open and second.open and talk.node.phase == ClusterState.RUNNING


def test_who_speaks_again_before_the_others_is_not_left_behind():
    talk, (first, second) = running(2, replicas=1)
    client = talk.client()
    keep_speaking(talk, SILENCE_TOLD + 2, client)
    second.say(Ping())
    keep_speaking(talk, 1, first)
    assert first.open and second.open
