"""A client core, and a script that speaks for its master and its storages."""
import random

from ...client.core.client import Client
from ...cluster import events
from ...cluster.partition_table import new_table
from ...protocol.checksum import checksum
from ...protocol.codec import decode, encode
from ...protocol.packets import (Error, Identify, Load, NodesChanged, TableChanged, TakeOids,
                                 TakeTtids, Vote)
from ...protocol.types import ErrorCode, NodeKind, NodeState, Record

MASTER = '127.0.0.1', 10000
CLUSTER_ID, HISTORY = b'c' * 16, b'h' * 16
FIRST_TTID = 1 << 43


def record(oid, base, data=b'data', tid=None):
    return Record(oid, base, tid, 0, checksum(data), data, None)


class Peer:
    """What the script says and hears on one connection."""

    def __init__(self, conversation, connection):
        self.conversation = conversation
        self.connection = connection
        self.heard = []                 # (packet, request id), not expected yet

    def says(self, packet, request_id=0):
        decoded = decode(encode(packet, request_id)[4:])
        self.conversation.step(events.Received(self.connection, *decoded))

    def hears(self, cls, **fields):
        """The next packet has to be this one; gives it and a function that answers it."""
        assert self.heard, 'nothing was sent, where %s was expected' % cls.__name__
        packet, request_id = self.heard.pop(0)
        assert type(packet) is cls, packet
        for field, value in fields.items():
            assert getattr(packet, field) == value, packet
        return packet, lambda answer: self.says(answer, request_id)

    def refuses(self, cls, error, message='no'):
        _, answer = self.hears(cls)
        answer(Error(error, message))

    def votes(self, round=0, **fields):
        vote, answer = self.hears(Vote, **fields)
        answer(Vote.Answer(vote.ttid, round))

    def loads(self, tid, next_tid=None, data=b'data', **fields):
        load, answer = self.hears(Load, **fields)
        answer(Load.Answer(load.oid, tid, next_tid, 0, checksum(data), data, None))

    def breaks(self):
        self.heard.clear()
        self.conversation.step(events.Closed(self.connection, 'reset'))


class Conversation:

    def __init__(self, storages=1, partitions=2, replicas=0, masters=(MASTER,), former=None,
                 **options):
        self.now = 1000.0
        self.client = Client(random.Random(1), 'test', masters, **options)
        if former is not None:
            self.client.succeed_to(former)
        self.peers = {}                 # connection -> Peer
        self.connecting = []            # addresses
        self.closed = []                # connections
        self.logged = []
        self.timers = {}
        self.connections = 0
        self.ids = ['S%d' % (i + 1) for i in range(storages)]
        self.table = new_table(1, partitions, replicas, self.ids)
        self.next_ttid, self.next_oid = FIRST_TTID, 100
        self.client.start(self.now)
        self.perform()

    def step(self, event):
        self.client.step(self.now, event)
        self.perform()

    def perform(self):
        for effect in self.client.ready().effects:
            kind = type(effect)
            if kind is events.Send:
                peer = self.peers.get(effect.connection)
                if peer is not None:
                    decoded = decode(encode(effect.packet, effect.request_id)[4:])
                    peer.heard.append(decoded)
            elif kind is events.Connect:
                self.connecting.append(effect.address)
            elif kind is events.Close:
                self.closed.append(effect.connection)
                del self.peers[effect.connection]
            elif kind is events.Log:
                self.logged.append(effect.message)
            elif kind is events.SetTimer:
                self.timers[effect.name] = effect.at

    def do(self, method, *args):
        operation = getattr(self.client, method)(*args)
        self.perform()
        return operation

    def load(self, oid):
        """As ZODB does at the last snapshot."""
        return self.do('load_before', oid, self.client.last_tid + 1)

    def wait(self, seconds):
        """Let time pass, and timers fire."""
        end = self.now + seconds
        while True:
            due = [(at, name) for name, at in self.timers.items() if at is not None and at <= end]
            if not due:
                break
            at, name = min(due)
            self.now = max(self.now, at)
            del self.timers[name]
            self.step(events.TimerFired(name))
        self.now = end

    def accepts(self, address):
        """The connection that the client has asked for."""
        self.connecting.remove(address)
        self.connections += 1
        peer = self.peers[self.connections] = Peer(self, self.connections)
        self.step(events.Connected(self.connections, address))
        return peer

    def address(self, id):
        return id.lower(), 20000

    def welcome(self, last_tid=0, history=HISTORY, term=1, id='C1'):
        """The primary accepts the client."""
        master = self.master = self.accepts(MASTER)
        _, answer = master.hears(Identify)
        answer(Identify.Answer('M1', id, CLUSTER_ID, history, term, 0, last_tid, 2))
        master.says(NodesChanged(tuple(
            (id, NodeKind.STORAGE, self.address(id), NodeState.RUNNING, 'store-' + id, '')
            for id in self.ids), ()))
        master.says(TableChanged(self.table.pack()))
        return master

    def gives_ids(self):
        """The primary answers what is asked ahead, whatever it is."""
        for cls, attribute in (TakeTtids, 'next_ttid'), (TakeOids, 'next_oid'):
            for packet, request_id in list(self.master.heard):
                if type(packet) is cls:
                    self.master.heard.remove((packet, request_id))
                    first = getattr(self, attribute)
                    setattr(self, attribute, first + packet.count)
                    self.master.says(cls.Answer(first, packet.count), request_id)

    def meet(self, id):
        """Storage `id` accepts the client."""
        peer = self.accepts(self.address(id))
        identify, answer = peer.hears(Identify)
        answer(Identify.Answer(id, identify.id, CLUSTER_ID, HISTORY, 1, 7, 0, 2))
        return peer

    def up(self, last_tid=0, **options):
        """All that is needed to work; gives the storages."""
        self.welcome(last_tid, **options)
        self.gives_ids()
        return [self.meet(id) for id in self.ids]

    def begin(self):
        operation = self.do('begin')
        assert operation.done and operation.error is None
        self.gives_ids()
        return operation.result


METADATA = ' ', b'user', b'description', b''
NOT_READY = ErrorCode.NOT_READY
