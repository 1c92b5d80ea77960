"""Clients that do whatever the protocol lets them, in any order; some go, some come back."""
import random

import pytest

from neo.protocol.packets import (Abort, Conflict, GaveWay, GiveWay, Lock, Store, Vote)

from .script import TTID, Error, Script, metadata, record


class Actor:
    """A client with some transactions, which keeps to the rules."""

    def __init__(self, script, id):
        self.script, self.id = script, id
        self.party = script.client(id)
        self.open = {}              # ttid -> [oids, round, request id of the vote or None]

    def reconnect(self):
        self.party.leave()
        self.party = self.script.client(self.id)
        self.party.say(Abort(sorted(self.open)))
        self.open = {}

    def store(self, ttid, oid, base, check):
        oids, round, vote = self.open.setdefault(ttid, [set(), 0, None])
        if vote is None:
            records, checks = ((), [(oid, base)]) if check else ([record(oid, base)], ())
            self.party.ask(Store(ttid, records, checks))
            if not check:
                oids.add(oid)

    def vote(self, ttid):
        oids, round, vote = self.open[ttid]
        if vote is None:
            self.open[ttid][2] = self.party.say(
                Vote(ttid, (), (), sorted(oids), [metadata(*sorted(oids))]))

    def abort(self, ttid):
        del self.open[ttid]
        self.party.say(Abort([ttid]))

    def listen(self):
        """Do what is asked for; returns ttids whose vote counts."""
        ready = []
        heard, self.party.heard = self.party.heard, []
        for packet, request in heard:
            ttid = getattr(packet, 'ttid', None)
            if ttid not in self.open:
                continue
            state = self.open[ttid]
            if type(packet) is GiveWay:
                state[1] += 1
                answered = request_of(self.party, state[2], heard)
                self.party.say(GaveWay(ttid, state[1]))
                if answered:
                    state[2] = None
            elif type(packet) is Conflict:
                if packet.round == state[1]:
                    for oid, serial in packet.conflicts:
                        if oid in state[0]:
                            self.party.ask(Store(ttid, [record(oid, serial)], ()))
            elif type(packet) is Vote.Answer and request == state[2]:
                if packet.round == state[1]:
                    ready.append(ttid)
                else:
                    state[2] = None
        return ready


def request_of(party, request, heard):
    return any(request == other for _, other in heard)


@pytest.mark.parametrize('seed', range(60))
def test_nothing_is_left_in_the_end(seed):
    rnd = random.Random(seed)
    script = Script()
    master = script.serve()
    actors = [Actor(script, 'C%d' % i) for i in range(1, 5)]
    tid, ttid, clients, committed, locked = 100, TTID, len(actors), {}, []
    for step in range(250):
        actor = rnd.choice(actors)
        act = rnd.random()
        some = rnd.choice(sorted(actor.open)) if actor.open and rnd.random() < .8 else None
        if some is None:
            ttid += 1
            some = ttid
        oid = rnd.randrange(6)
        if act < .5:
            base = rnd.choice([committed.get(oid, 0), committed.get(oid, 0), None, 1])
            actor.store(some, oid, base or 0, rnd.random() < .3)
        elif act < .75 and some in actor.open:
            actor.vote(some)
        elif act < .8 and some in actor.open:
            actor.abort(some)
        elif act < .82:
            actor.reconnect()
        elif act < .84:
            clients += 1
            script.announce(removed=[actor.id])
            actors[actors.index(actor)] = Actor(script, 'C%d' % clients)
        elif act < .95:
            for voted in actor.listen():
                oids = actor.open[voted][0]
                tid += 1
                if type(master.lock(voted, tid)) is Lock.Answer:
                    committed.update((oid, tid) for oid in oids)
                    locked.append(voted)
                    del actor.open[voted]
        elif locked:
            master.unlock(locked.pop(0))
        assert all(actor.party.open for actor in actors), script.logged[-1]
    for voted in locked:
        master.unlock(voted)
    for oid, tid in committed.items():
        assert script.engine.current(oid) == tid
    for packet, request in master.heard:
        assert type(packet) is not Error
    script.announce(removed=[actor.id for actor in actors])
    assert script.nothing_left()
