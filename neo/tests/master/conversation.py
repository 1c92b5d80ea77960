"""A master and the conversation with it: what tests of its steps are written in."""
import random

from neo.cluster import events
from neo.master.node import Master
from neo.protocol.codec import HEADER_SIZE, decode, encode
from neo.protocol.packets import (Identify, RequestTerm, Settle, WriteTable)
from neo.protocol.types import NodeKind

CLUSTER = 'test'


class Party:
    """The other end of a connection with the master; `heard` is what the master sent to it."""

    def __init__(self, conversation, connection, kind, identity):
        self.conversation, self.connection = conversation, connection
        self.kind, self.identity = kind, identity
        self.id = None
        self.heard = []             # (packet, request id)
        self.open = True
        self._requests = 0

    def say(self, packet, request_id=None):
        """Send a packet; a request gets a new id, which is returned."""
        if request_id is None:
            request_id = 0
            if hasattr(packet, 'Answer'):
                self._requests += 1
                request_id = self._requests
        self.conversation.receive(self, packet, request_id)
        return request_id

    def leave(self):
        self.open = False
        self.conversation.step(events.Closed(self.connection, 'test'))

    def take(self, kind):
        """The first packet of this kind that was heard and not taken yet, with its request id."""
        for i, (packet, request_id) in enumerate(self.heard):
            if type(packet) is kind:
                del self.heard[i]
                return packet, request_id
        raise AssertionError('no %s in %s' % (kind.__name__, self.heard))

    def hears(self, kind):
        return any(type(packet) is kind for packet, _ in self.heard)

    def reply(self, kind, *fields):
        """Answer the first request of this kind; the request is returned."""
        packet, request_id = self.take(kind)
        self.say(kind.Answer(*fields), request_id)
        return packet


class Conversation:

    def __init__(self, **options):
        self.node = Master(random.Random(1), CLUSTER, ('127.0.0.1', 10000), **options)
        self.now = 1e9
        self.parties = {}
        self.exit = None
        self.node.start(self.now)
        self._effects()

    def step(self, event):
        self.now += 0.001
        self.node.step(self.now, event)
        self._effects()

    def receive(self, party, packet, request_id):
        packet, request_id = decode(encode(packet, request_id)[HEADER_SIZE:])
        self.step(events.Received(party.connection, packet, request_id))

    def _effects(self):
        for effect in self.node.ready().effects:
            kind = type(effect)
            if kind is events.Send:
                party = self.parties[effect.connection]
                party.heard.append(decode(encode(
                    effect.packet, effect.request_id)[HEADER_SIZE:]))
            elif kind is events.Close:
                self.parties[effect.connection].open = False
            elif kind is events.Exit:
                self.exit = effect.status

    def arrive(self, kind, identity=None, id=None, cluster=CLUSTER, cluster_id=None, history=None,
               term=0, address=None, clock=None):
        """Somebody connects and says who he is."""
        party = Party(self, len(self.parties) + 1, kind,
                      identity or bytes([len(self.parties) + 1]) * 16)
        self.parties[party.connection] = party
        self.step(events.Accepted(party.connection))
        party.say(Identify(kind, id, party.identity, cluster, cluster_id, history, term, '',
                           address, clock or self.now))
        if party.hears(Identify.Answer):
            party.welcome, _ = party.take(Identify.Answer)
            party.id = party.welcome.your_id
        return party

    def storage(self, **claims):
        return self.arrive(NodeKind.STORAGE, address=('127.0.0.1', 20000), **claims)

    def client(self):
        return self.arrive(NodeKind.CLIENT)

    def admin(self):
        return self.arrive(NodeKind.ADMIN)


def grant(storage, table=None, in_force=None, members=(), last_tid=0, mark=0, unfinished=()):
    """A storage obeys the term it is asked for."""
    term = next(p.term for p, _ in storage.heard if type(p) is RequestTerm)
    storage.reply(RequestTerm, True, term, table, in_force, members, last_tid, mark, unfinished, (),
                  storage.conversation.now)


def write(storage):
    packet = next(p for p, _ in storage.heard if type(p) is WriteTable)
    storage.reply(WriteTable, packet.table[:2])
    return packet


def running(storages=1, **options):
    """A new cluster that runs, with its storages."""
    talk = Conversation(autostart=storages, **options)
    there = [talk.storage() for _ in range(storages)]
    for storage in there:
        grant(storage)
    for storage in there:
        storage.written = write(storage)
    for storage in there:
        storage.reply(Settle, 0)
    return talk, there
