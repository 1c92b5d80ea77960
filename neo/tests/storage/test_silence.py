"""Who blocks others and says nothing is reported; who waits as well is not silent."""

from neo.protocol import limits
from neo.protocol.packets import ClientIsSilent, DoesWait, GiveWay, Vote
from neo.storage.silence import LOOKS, SILENCE

from .script import TTID, record

OLD, YOUNG = TTID, TTID + 1
STEP = limits.LOCK_PATIENCE / LOOKS


def reported(script):
    found = [packet.client for packet, _ in script.m.heard if type(packet) is ClientIsSilent]
    script.m.heard.clear()
    return found


def wait(script, seconds, **waits):
    """Let time pass; clients that are named answer as they are told, the others don't.  What
    happened, in its order."""
    told = []
    for _ in range(int(seconds / STEP)):
        script.wait(STEP)
        for name, answer in waits.items():
            party = getattr(script, name)
            for packet, request in list(party.heard):
                if type(packet) is DoesWait:
                    party.heard.remove((packet, request))
                    told.append('%s is asked about %d' % (name, packet.ttid - TTID))
                    party.say(DoesWait.Answer(answer), request)
        told += reported(script)
    return told


def test_a_silent_client_is_reported_once(script):
    script.a.voted(OLD, record(1))
    script.b.vote(YOUNG, record(1))
    assert wait(script, limits.LOCK_PATIENCE) == []
    assert wait(script, limits.LOCK_PATIENCE) == ['C1']
    assert script.a.take(DoesWait).ttid == OLD and script.a.quiet()
    assert wait(script, limits.LOCK_PATIENCE * 3) == []
    script.announce(removed=['C1'])
    script.wait(STEP)
    assert SILENCE not in script.timers         # nobody waits: nothing to watch


def test_who_waits_elsewhere_is_not_silent(script):
    script.a.voted(OLD, record(1))
    script.b.vote(YOUNG, record(1))
    told = wait(script, limits.LOCK_PATIENCE * 10, a=True)
    assert set(told) == {'a is asked about 0'} and len(told) > 5
    # Now it is frozen.
    assert wait(script, limits.LOCK_PATIENCE * 2) == ['C1']


def test_whose_application_has_no_end_is_reported(script):
    script.a.voted(OLD, record(1))
    script.b.vote(YOUNG, record(1))
    told = wait(script, limits.LOCK_PATIENCE * 2, a=False)
    assert told == ['a is asked about 0'] * 2 + ['C1']


def test_who_says_something_about_it_is_not_silent(script):
    script.a.store(OLD, record(1))
    script.b.vote(YOUNG, record(1))
    for oid in range(2, 30):
        assert wait(script, limits.LOCK_PATIENCE * .5) == []
        script.a.store(OLD, record(oid))
    assert wait(script, limits.LOCK_PATIENCE * 2) == ['C1']


def test_who_is_cut_off_is_reported(script):
    script.a.voted(OLD, record(1))
    script.b.vote(YOUNG, record(1))
    script.a.leave()                            # what it voted is kept
    assert wait(script, limits.LOCK_PATIENCE * 2) == ['C1']


def test_a_question_that_was_lost_is_asked_again(script):
    script.a.voted(OLD, record(1))
    script.b.vote(YOUNG, record(1))
    wait(script, limits.LOCK_PATIENCE * .75)
    assert script.a.take(DoesWait).ttid == OLD
    script.a.leave()
    script.a = script.client('C1')              # it has heard nothing of an outage
    assert wait(script, limits.LOCK_PATIENCE * 3, a=True)[0] == 'a is asked about 0'
    assert reported(script) == []


def test_who_blocks_nobody_may_be_silent(script):
    script.a.voted(OLD, record(1))
    assert wait(script, limits.LOCK_PATIENCE * 3) == []
    script.b.vote(YOUNG, record(1))
    assert wait(script, limits.LOCK_PATIENCE / 2) == []
    script.m.lock(OLD, 100)                     # in finish: it is for the master to end it
    assert wait(script, limits.LOCK_PATIENCE * 3) == []
    assert script.a.quiet()


def test_who_waits_here_for_an_older_one_may_be_silent(script):
    c = script.client('C3')
    c.store(TTID, record(1))
    script.a.store(TTID + 1, record(2))
    script.a.vote(TTID + 1, record(1), oids=[1, 2])
    script.b.vote(TTID + 2, record(2))
    told = []
    for _ in range(20):
        c.store(TTID, record(1))                # it is alive
        told += wait(script, STEP)
    assert told == [] and script.a.quiet()


def test_who_should_give_way_and_does_not(script):
    script.a.store(OLD, record(1))
    script.b.store(YOUNG, record(2))
    script.a.store(OLD, record(2))
    script.b.store(YOUNG, record(1))            # waits as well, and blocks an older one
    assert script.b.take(GiveWay).ttid == YOUNG
    assert wait(script, limits.LOCK_PATIENCE * 2) == ['C2']


def test_the_end_of_a_transaction_that_was_asked_about(script):
    script.a.voted(OLD, record(1))
    vote = script.b.vote(YOUNG, record(1))
    wait(script, limits.LOCK_PATIENCE * .75)
    request = next(request for packet, request in script.a.heard if type(packet) is DoesWait)
    script.a.abort(OLD)
    script.a.say(DoesWait.Answer(False), request)
    assert type(script.b.answer_to(vote)) is Vote.Answer
    script.b.abort(YOUNG)
    assert script.nothing_left() and script.a.open


# -- no sign of life ----------------------------------------------------------------------------
SOON = limits.CLIENT_PATIENCE + 2 * limits.WATCH_INTERVAL


def test_who_is_mute_and_blocks_others_is_reported_soon(script):
    script.a.voted(OLD, record(1))
    script.b.vote(YOUNG, record(1))
    script.mute = [script.a]
    script.wait(SOON)
    assert reported(script) == ['C1']


def test_who_is_mute_may_keep_what_nobody_wants(script):
    script.a.voted(OLD, record(1))
    script.mute = [script.a]
    script.wait(SOON)
    assert reported(script) == []
    script.b.vote(YOUNG, record(1))
    script.wait(2 * limits.WATCH_INTERVAL)
    assert reported(script) == ['C1']


def test_a_storage_that_is_cut_off_blames_no_client(script):
    script.a.voted(OLD, record(1))
    script.b.vote(YOUNG, record(1))
    script.mute = [script.a, script.b, script.m]
    script.wait(SOON)
    assert reported(script) == []


def test_what_is_in_finish_does_not_wait_for_its_client(script):
    script.a.voted(OLD, record(1))
    script.m.lock(OLD, 100)
    script.b.vote(YOUNG, record(1))
    script.mute = [script.a]
    script.wait(SOON)
    assert reported(script) == []
