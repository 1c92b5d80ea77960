"""One of several masters, step by step: whom it follows, and when it stands."""
from neo.cluster import events
from neo.protocol.limits import CANDIDATE_TIME, CANVASS_DELAY_MAX
from neo.protocol.packets import (Canvass, CompareMasters, Identify, Ping, RequestTerm, WriteTable)
from neo.protocol.types import Address, Member, NodeKind

from .conversation import Conversation, Party, grant, table, write

MASTER = NodeKind.MASTER
ADDRESSES = [Address(host, 10000) for host in ('127.0.0.1', '10.1.0.2', '10.1.0.3')]
SECOND, THIRD = ADDRESSES[1:]
IDENTITIES = {SECOND: b'2' * 16, THIRD: b'3' * 16}
MEMBERS = tuple(Member('S%d' % number, bytes([number]) * 16, '', ('10.0.0.%d' % number, 1234), True)
                for number in (1, 2))
TABLE = table('S1', 'S2')


class Store:
    """The state file."""

    saved = None

    def load(self):
        return self.saved

    def save(self, values):
        self.saved = values


class Masters(Conversation):
    """The first one of three, which has called both others."""

    def __init__(self, store=None):
        super().__init__(masters=ADDRESSES, store=store)
        self.began = self.now
        self.fellows = {address: self.called(address) for address in list(self.connecting)}

    def called(self, address):
        party = Party(self, 100 + len(self.parties), MASTER, IDENTITIES[address])
        self.parties[party.connection] = party
        self.step(events.Connected(party.connection, address))
        party.reply(Identify, 'M1', 'M2', None, None, 0, 0, 0, 0)
        party.reply(CompareMasters, party.identity, False, '')
        return party

    def caller(self, address, term=0):
        """That master calls."""
        return self.arrive(MASTER, IDENTITIES[address], address=address, term=term)

    def asks_for_term(self, caller, term):
        """Is it granted?"""
        asked = caller.say(RequestTerm(term, caller.identity))
        answer, request_id = caller.take(RequestTerm.Answer)
        assert request_id == asked
        return answer.granted

    def is_led(self, asker):
        asker.say(Canvass())
        return asker.take(Canvass.Answer)[0].led

    def all_are_alive(self):
        for party in self.parties.values():
            if party.open and party.hears(Ping):
                party.reply(Ping)

    def reign(self, caller, term=5, ptid=8):
        """That master was promised the term, and sends a table."""
        assert self.asks_for_term(caller, term)
        caller.say(WriteTable(b'c' * 16, b'h' * 16, 2, table('S1', 'S2', term=term, ptid=ptid),
                              MEMBERS))
        caller.take(WriteTable.Answer)

    def two_storages(self, term=3):
        return [self.storage(identity=bytes([number]) * 16, id='S%d' % number,
                             cluster_id=b'c' * 16, history=b'h' * 16, term=term,
                             address=('10.0.0.%d' % number, 1234)) for number in (1, 2)]


def canvassed(*parties, led=False, table=TABLE, members=MEMBERS):
    """They say what they have, as they were asked for that."""
    for party in parties:
        _, request_id = party.last(Canvass)
        party.say(Canvass.Answer(3, led, b'c' * 16, table, table, members), request_id)


def needed():
    """`(talk, S1, M2, what both have)`: these two have to be for it, for this one to be elected."""
    talk = Masters(Store())
    members = MEMBERS + tuple(
        Member('M%d' % number, identity, '', address, False) for number, (address, identity) in
        enumerate([(ADDRESSES[0], talk.node.state.identity), *IDENTITIES.items()], 1))
    return talk, talk.two_storages()[0], talk.fellows[SECOND], {
        'table': table('S1')._replace(masters=('M1', 'M2', 'M3')), 'members': members}


def comes_back(talk, party, address):
    party.leave()
    while address not in talk.connecting:
        talk.wait(.1)
    talk.connecting.remove(address)
    return talk.called(address)


# -- whom it follows ------------------------------------------------------------------------------
def test_a_term_is_promised_once():
    talk = Masters(Store())
    second, third = talk.caller(SECOND), talk.caller(THIRD)
    assert talk.asks_for_term(second, 5)
    assert not talk.asks_for_term(third, 5) and not talk.asks_for_term(third, 4)
    assert talk.asks_for_term(second, 5)                # it has not heard the answer
    assert talk.asks_for_term(third, 6)


def test_a_promise_is_kept_by_who_starts_again():
    store = Store()
    talk = Masters(store)
    assert talk.asks_for_term(talk.caller(SECOND), 5)
    again = Masters(store)
    assert not again.asks_for_term(again.caller(THIRD), 5)


def test_a_new_process_asks_for_a_term_that_it_has_not_promised():
    store = Store()
    talk = Masters(store)
    assert talk.asks_for_term(talk.caller(SECOND), 5)
    again = Masters(store)
    storages = again.two_storages()
    again.wait(2 * CANVASS_DELAY_MAX)
    canvassed(*storages, *again.fellows.values())
    assert {it.take(RequestTerm)[0].term for it in [*storages, *again.fellows.values()]} == {6}


def test_who_calls_again_leads_no_more_by_the_former_connection():
    talk = Masters()
    second, third = talk.caller(SECOND), talk.caller(THIRD)
    talk.reign(second)
    assert talk.is_led(third) and not talk.is_led(second)
    talk.caller(SECOND)
    assert not second.open and not talk.is_led(third)


# -- when it stands -------------------------------------------------------------------------------
def test_nobody_stands_against_a_primary_that_others_hear():
    talk = Masters()
    storages = talk.two_storages()
    everybody = [*storages, *talk.fellows.values()]
    talk.wait(2 * CANVASS_DELAY_MAX)
    canvassed(*everybody, led=True)
    talk.wait(2 * CANVASS_DELAY_MAX)
    canvassed(storages[0])
    assert not any(it.hears(RequestTerm) for it in everybody)       # that is half of the voters
    canvassed(storages[1])
    assert all(it.hears(RequestTerm) for it in everybody)


def test_a_candidate_that_is_not_answered_lets_others_try_and_tries_again():
    talk = Masters()
    storages = talk.two_storages()
    third = talk.caller(THIRD)
    talk.wait(2 * CANVASS_DELAY_MAX)
    canvassed(*storages, *talk.fellows.values())
    grant(storages[0], table('S1', 'S2'), MEMBERS)
    term = storages[1].take(RequestTerm)[0].term
    assert talk.is_led(third)
    while talk.is_led(third):
        assert talk.now < talk.began + 3 * CANDIDATE_TIME
        talk.wait(.1)
        talk.all_are_alive()
    talk.wait(2 * CANVASS_DELAY_MAX)
    assert storages[1].take(RequestTerm)[0].term > term


def test_who_was_left_behind_stands_by_what_it_has_kept_itself():
    """Of the newest table only this master knows."""
    talk = Masters(Store())
    second = talk.caller(SECOND)
    talk.reign(second)
    storages = talk.two_storages(term=5)
    second.leave()
    talk.wait(2 * CANVASS_DELAY_MAX)
    canvassed(*storages)
    for storage in storages:
        grant(storage, table('S1', 'S2'), MEMBERS)
    assert write(storages[0]).table[:2] == (6, 9)


def test_what_a_master_has_said_counts_as_long_as_it_is_connected():
    talk, storage, second, known = needed()
    talk.wait(2 * CANVASS_DELAY_MAX)
    canvassed(second, **known)
    second = comes_back(talk, second, SECOND)
    canvassed(storage, **known)
    assert not storage.hears(RequestTerm)               # it may hear a primary by now
    if not second.hears(Canvass):
        talk.wait(2 * CANVASS_DELAY_MAX)
    canvassed(second, **known)
    assert storage.hears(RequestTerm)


def test_what_a_master_has_promised_counts_as_long_as_it_is_connected():
    """Without a state file it may have forgotten that."""
    talk, storage, second, known = needed()
    talk.wait(2 * CANVASS_DELAY_MAX)
    canvassed(storage, second, **known)
    grant(second, **known)
    second = comes_back(talk, second, SECOND)
    grant(storage, **known)
    assert not storage.hears(WriteTable)
    grant(second, **known)
    assert write(storage).table.masters == ('M1', 'M2', 'M3')
