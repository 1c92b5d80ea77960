"""A client core, and a script that speaks for its master and its storages."""
import random

from ...client.core.client import Client
from ...cluster import events
from ...cluster.balance import first
from ...protocol.checksum import checksum
from ...protocol.packets import (Error, Identify, ListTransactions, Load, NodesChanged,
                                 TableChanged, TakeOids, TakeTtids, Vote)
from ...protocol.types import ErrorCode, NodeKind, NodeState, Record, StoredMetadata

from ..script import driven

MASTER = '127.0.0.1', 10000
CLUSTER_ID, HISTORY = b'c' * 16, b'h' * 16
FIRST_TTID = 1 << 43


def record(oid, base, data=b'data', tid=None):
    return Record(oid, base, tid, 0, checksum(data), data, None)


class Peer(driven.Party):
    """What the script says and hears on one connection."""

    def says(self, packet, request_id=0):
        self.say(packet, request_id)

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

    def tells_missed(self, missed, next=None, **fields):
        packet, answer = self.hears(ListTransactions, **fields)
        answer(ListTransactions.Answer(tuple(
            StoredMetadata(tid, tid, ' ', b'', b'', b'', oids) for tid, oids in missed
            if tid % 2 in packet.rows and packet.start <= tid < packet.stop), next))

    def breaks(self):
        self.heard.clear()
        self.leave('reset')


class Conversation(driven.Driven):

    pace = 0

    def __init__(self, storages=1, partitions=2, replicas=0, masters=(MASTER,), former=None,
                 **options):
        self.client = Client(random.Random(1), 'test', masters, **options)
        if former is not None:
            self.client.succeed_to(former)
        super().__init__(self.client, 1000.0)
        self.closed = []                # connections
        self.connections = 0
        self.ids = ['S%d' % (i + 1) for i in range(storages)]
        self.table = first(1, partitions, replicas, {id: id for id in self.ids})
        self.next_ttid, self.next_oid = FIRST_TTID, 100
        self.start()

    def sends(self, effect):
        if effect.connection in self.parties:
            super().sends(effect)

    def closes(self, effect):
        self.closed.append(effect.connection)
        del self.parties[effect.connection]

    def do(self, method, *args):
        operation = getattr(self.client, method)(*args)
        self.act()
        return operation

    def load(self, oid):
        """As ZODB does at the last snapshot."""
        return self.do('load_before', oid, self.client.last_tid + 1)

    def accepts(self, address):
        """The connection that the client has asked for."""
        self.connecting.remove(address)
        self.connections += 1
        peer = self.parties[self.connections] = Peer(self, self.connections)
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
            (id, NodeKind.STORAGE, self.address(id), NodeState.RUNNING, 'store-' + id, '', '')
            for id in self.ids), ()))
        master.says(TableChanged(self.table.pack()))
        return master

    def changes_table(self, table):
        self.table = table
        self.master.says(TableChanged(table.pack()))

    def outdates(self, *ids):
        """The primary has left these storages behind."""
        self.changes_table(self.table.without(ids))

    def gives_ids(self):
        """The primary answers what is asked ahead, whatever it is."""
        for cls, attribute in (TakeTtids, 'next_ttid'), (TakeOids, 'next_oid'):
            for packet, request_id in list(self.master.heard):
                if type(packet) is cls:
                    self.master.heard.remove((packet, request_id))
                    first = getattr(self, attribute)
                    setattr(self, attribute, first + packet.count)
                    self.master.says(cls.Answer(first, packet.count), request_id)

    def catches_up(self, missed=(), ids=('S1',)):
        """These storages tell what was committed while the primary was lost: (tid, oids)…; gives
        them."""
        storages = [self.meet(id) for id in ids]
        for storage in storages:
            while storage.heard:
                storage.tells_missed(missed)
        self.gives_ids()
        return storages

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
