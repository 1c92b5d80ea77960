"""A master and the conversation with it: what tests of its steps are written in."""
import random

from neo.cluster import events
from neo.master.node import Master
from neo.protocol.packets import (Identify, RequestTerm, Settle, WriteTable)
from neo.protocol.types import Cell, CellState, Member, NodeKind, Table

from ..script import driven

CLUSTER = 'test'


class Party(driven.Party):
    """Whoever has a connection with the master."""

    def __init__(self, conversation, connection, kind, identity):
        super().__init__(conversation, connection)
        self.kind, self.identity = kind, identity
        self.id = None

    def take(self, kind):
        """The first packet of this kind that was heard and not taken yet, with its request id."""
        return self.pop(kind)

    def last(self, kind):
        """The last one of this kind, with its request id; those before are of the past."""
        found = self.take(kind)
        while self.hears(kind):
            found = self.take(kind)
        return found

    def reply(self, kind, *fields):
        """Answer the first request of this kind; the request is returned."""
        packet, request_id = self.take(kind)
        self.say(kind.Answer(*fields), request_id)
        return packet


class Conversation(driven.Driven):

    def __init__(self, **options):
        super().__init__(Master(random.Random(1), CLUSTER, ('127.0.0.1', 10000), **options), 1e9)
        self.start()

    def arrive(self, kind, identity=None, id=None, cluster=CLUSTER, cluster_id=None, history=None,
               term=0, address=None, clock=None, name='', topology=''):
        """Somebody connects and says who he is."""
        party = Party(self, len(self.parties) + 1, kind,
                      identity or bytes([100 + len(self.parties)]) * 16)
        self.parties[party.connection] = party
        self.step(events.Accepted(party.connection))
        party.say(Identify(kind, id, party.identity, cluster, cluster_id, history, term, name,
                           address, clock or self.now, topology))
        if party.hears(Identify.Answer):
            party.welcome, _ = party.take(Identify.Answer)
            party.id = party.welcome.your_id
        return party

    def storage(self, **claims):
        claims.setdefault('address', ('127.0.0.1', 20000))
        return self.arrive(NodeKind.STORAGE, **claims)

    def known(self, number, storages=('S1', 'S2'), **state):
        """A storage of a cluster of these storages, which was in force."""
        storage = self.storage(
            identity=bytes([number]) * 16, id='S%d' % number, cluster_id=b'c' * 16,
            history=b'h' * 16, term=3, name='storage_%02d' % number,
            address=('10.0.0.%d' % number, 1234))
        members = tuple(Member(s, bytes([int(s[1:])]) * 16, 'storage_%02d' % int(s[1:]),
                               ('10.0.0.%d' % int(s[1:]), 1234), True) for s in storages)
        state.setdefault('table', table(*storages))
        grant(storage, members=members, **state)
        return storage

    def client(self, **claims):
        return self.arrive(NodeKind.CLIENT, **claims)

    def admin(self):
        return self.arrive(NodeKind.ADMIN)


UP = int(CellState.UP_TO_DATE)


def table(*storages, term=3, ptid=5, replicas=0, partitions=2, cuts=()):
    """All rows on all of these storages."""
    return Table(term, ptid, replicas, tuple(tuple(Cell(s, UP) for s in storages)
                                             for _ in range(partitions)), (), cuts)


def grant(storage, table=None, members=(), last_tid=0, mark=0, unfinished=(), told=(), clock=0.0,
          was_in_force=True, history=None, in_force=None, complete=0, filled=(),
          lacks=()):
    """A storage obeys the term it is asked for; it has been told that `table` is in force, or
    `in_force`."""
    storage.has = (table, in_force or (table if was_in_force else None), members, last_tid, mark,
                   unfinished, told, storage.driven.now + clock, history, (complete, filled, lacks))
    grant_again(storage)


def grant_again(*storages):
    """They obey, and have what they had before."""
    for storage in storages:
        packet, request_id = storage.last(RequestTerm)
        storage.say(RequestTerm.Answer(True, packet.term, *storage.has), request_id)


def write(storage):
    packet, request_id = storage.last(WriteTable)
    storage.say(WriteTable.Answer(packet.table[:2]), request_id)
    return packet


def write_all(*storages):
    """They write all they are told to; returns the last one of each."""
    written = {}
    while any(storage.hears(WriteTable) for storage in storages):
        for storage in storages:
            if storage.hears(WriteTable):
                written[storage] = write(storage)
    return [written.get(storage) for storage in storages]


def running(storages=1, clock=0.0, **options):
    """A new cluster that runs, with its storages, whose clocks are ahead by `clock` seconds."""
    talk = Conversation(autostart=storages, **options)
    there = [talk.storage() for _ in range(storages)]
    for storage in there:
        grant(storage, clock=clock)
    for storage in there:
        storage.written = write(storage)
    for storage in there:
        storage.reply(Settle, 0)
    return talk, there
