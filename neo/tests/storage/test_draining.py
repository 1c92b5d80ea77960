"""Before a cluster stops: what was voted ends, and nothing begins."""
from neo.protocol.packets import Drain
from neo.protocol.types import ErrorCode

from .script import TTID, Script, record


def test_drained_once_what_was_voted_is_locked():
    script = Script()
    master = script.serve()
    client = script.client()
    client.voted(TTID, record(1))
    asked = master.say(Drain())
    assert master.answer_to(asked) is None
    master.lock(TTID, 1000)
    assert type(master.answer_to(asked)) is Drain.Answer


def test_drained_once_what_was_voted_is_aborted_or_its_client_gone():
    script = Script()
    master = script.serve()
    first, second = script.client('C1'), script.client('C2')
    first.voted(TTID, record(1)), second.voted(TTID + 1, record(2))
    asked = master.say(Drain())
    first.abort(TTID)
    assert master.answer_to(asked) is None
    script.announce(removed=['C2'])
    assert type(master.answer_to(asked)) is Drain.Answer


def test_nothing_begins_and_what_has_begun_may_go_on():
    script = Script()
    master = script.serve()
    client = script.client()
    client.store(TTID, record(1))
    assert type(master.ask(Drain())) is Drain.Answer
    late = client.answer_to(client.vote(TTID + 1, record(2)))
    assert late.error == ErrorCode.NOT_READY and 'stopping' in late.message
    client.voted(TTID)


def test_the_next_primary_begins_anew():
    script = Script()
    master = script.serve()
    master.say(Drain())
    script.recover(master, 2)
    assert script.client(term=2).voted(2 * TTID, record(1)) == 0
