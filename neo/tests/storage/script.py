"""A storage and the conversation with it: what tests of its steps are written in."""
import random

from neo.cluster import events
from neo.cluster.ids import first_ttid
from neo.protocol.checksum import checksum
from neo.protocol.packets import (Abort, ClusterStateChanged, Error, GaveWay, Identify, Load, Lock,
                                  NodesChanged, RequestTerm, Settle, Store, TableInForce, Unlock,
                                  Vote, WriteTable)
from neo.protocol.types import (Cell, CellState, ClusterState, Metadata, NodeKind, NodeState,
                                Record, Table, Unfinished)
from neo.storage.engine.memory import MemoryEngine
from neo.storage.node import Storage

from ..script import driven

CLUSTER = 'test'
CLUSTER_ID, HISTORY, CANDIDATE = b'c' * 16, b'h' * 16, b'm' * 16
MASTER_ADDRESS = '127.0.0.1', 10000
PARTITIONS = 4
ROWS = tuple(range(PARTITIONS))
TTID = first_ttid(1)            # the first one of the first term


def record(oid, base=0, data=b'data', tid=None):
    return Record(oid, base, tid, 0, checksum(data), data, None)


def metadata(*oids, tid=None):
    return Metadata(tid, ' ', b'user', b'description', b'', oids)


def table(term=1, ptid=1, rows=PARTITIONS, owner='S1', state=CellState.UP_TO_DATE):
    return Table(term, ptid, 0, tuple((Cell(owner, int(state)),) for _ in range(rows)), (), ())


class Party(driven.Party):
    """Whoever has a connection with the storage."""

    def take(self, kind):
        """The first packet of this kind not taken yet."""
        return self.pop(kind)[0]

    def ask(self, packet):
        """What is answered at once, an Error maybe; None: nothing yet."""
        return self.answer_to(self.say(packet))

    def answer_to(self, request):
        for i, (packet, request_id) in enumerate(self.heard):
            if request_id == request:
                del self.heard[i]
                return packet

    def quiet(self):
        """Has nothing been heard that was not taken?"""
        return not self.heard

    # -- what clients say -------------------------------------------------------------------
    def store(self, ttid, *records, checks=()):
        assert type(self.ask(Store(ttid, records, checks))) is Store.Answer

    def vote(self, ttid, *records, checks=(), oids=None, transactions=None):
        """Returns the id of the request."""
        if oids is None:
            oids = [record.oid for record in records]
        if transactions is None:
            transactions = [metadata(*oids)]
        return self.say(Vote(ttid, records, checks, tuple(oids), transactions))

    def voted(self, ttid, *records, **options):
        """The same, answered at once."""
        answer = self.answer_to(self.vote(ttid, *records, **options))
        assert type(answer) is Vote.Answer, answer
        return answer.round

    def give_way(self, ttid, round=1):
        self.say(GaveWay(ttid, round))

    def abort(self, *ttids):
        self.say(Abort(ttids))

    def load(self, oid, before=1 << 62):
        return self.ask(Load(oid, before))

    # -- what masters say -------------------------------------------------------------------
    def lock(self, ttid, tid, first=None, rows=ROWS):
        return self.ask(Lock(ttid, tid if first is None else first, tid, rows))

    def unlock(self, ttid):
        self.say(Unlock(ttid))


class Script(driven.Driven):
    """Drives a storage; what needs a commit is sent after it, or never if that fails."""

    def __init__(self, engine=None, masters=(MASTER_ADDRESS,), **options):
        self.engine = engine or MemoryEngine()
        self.masters, self.options = masters, options
        self._connections = 0
        self.mute = []              # parties that do not answer pings
        super().__init__(self._node(), 1e9)
        self.start()

    def _node(self):
        return Storage(random.Random(1), self.engine, CLUSTER, self.masters,
                       ('127.0.0.1', 20000), **self.options)

    def crash(self):
        """The process dies and is started again: what was not committed is lost."""
        self.engine = self.engine.reopened()
        self.begin()

    def begin(self):
        self.drive(self._node())
        self.start()

    def turn(self, *events):
        """Several events, one commit."""
        self.step(*events)

    def fire(self, name):
        # Peers answer pings, so that nobody is taken for dead.
        for peer in self.node.peers.values():
            if self.parties[peer.connection] not in self.mute:
                peer.heard = self.now
        super().fire(name)

    def _party(self):
        self._connections += 1
        party = self.parties[self._connections] = Party(self, self._connections)
        return party

    # -- the master -------------------------------------------------------------------------
    def master(self, address=MASTER_ADDRESS):
        """A master takes up the connection and has been told who this is."""
        party = self._party()
        self.step(events.Connected(party.connection, address))
        self.identify = party.take(Identify)
        return party

    def join(self, id='S1', session=1, term=1, address=MASTER_ADDRESS):
        """… and has accepted the storage."""
        master = self.master(address)
        master.say(Identify.Answer('M1', id, self.identify.cluster_id and CLUSTER_ID,
                                   self.identify.history and HISTORY, term, session, 0, 0), 1)
        assert self.node.masters.joined()
        return master

    def recover(self, master, term=1, settle=(), unlock=True, cells=None):
        """… and goes through the whole recovery; returns the answer to RequestTerm."""
        state = master.ask(RequestTerm(term, CANDIDATE))
        assert state.granted
        cells = cells or table(term, state.table.ptid + 1 if state.table else 1)
        written = master.ask(WriteTable(CLUSTER_ID, HISTORY, PARTITIONS, cells,
                                        [('S1', self.node.identity, '', None, True)]))
        assert written.key == cells[:2]
        master.say(TableInForce(cells[:2]))
        assert type(master.ask(Settle(settle))) is Settle.Answer
        if unlock:
            for kept in settle:
                master.unlock(kept.ttid)
        master.say(NodesChanged((), ()))
        master.say(ClusterStateChanged(ClusterState.RUNNING, ''))
        assert self.node.phase == ClusterState.RUNNING
        self.announcer = master
        return state

    def serve(self):
        """Everything up to RUNNING; returns the master."""
        master = self.join()
        self.recover(master)
        return master

    # -- clients ----------------------------------------------------------------------------
    def announce(self, *ids, removed=()):
        self.announcer.say(NodesChanged(
            [(id, NodeKind.CLIENT, None, NodeState.RUNNING, '', '', '') for id in ids], removed))

    def knock(self, id, term=1, cluster=CLUSTER, cluster_id=CLUSTER_ID, kind=NodeKind.CLIENT):
        """Somebody connects and says who it is."""
        party = self._party()
        self.step(events.Accepted(party.connection))
        party.say(Identify(kind, id, b'i' * 16, cluster, cluster_id, HISTORY, term, '', None,
                           self.now, ''))
        return party

    def client(self, id='C1', term=1):
        """A client that is announced and accepted."""
        if id not in self.node.clients:
            self.announce(id)
        party = self.knock(id, term)
        self.session = party.take(Identify.Answer).session
        return party

    def commit(self, client, master, ttid, tid, *records):
        client.voted(ttid, *records)
        request = master.say(Lock(ttid, tid, tid, ROWS))
        self.slices()
        assert type(master.answer_to(request)) is Lock.Answer
        master.unlock(ttid)

    def slices(self, amount=1000):
        """Do what is to be done in the background; how many slices that took."""
        count = 0
        while self.node.background:
            self.step(events.Slice(amount))
            count += 1
            assert count < 1000
        return count

    def nothing_left(self):
        """Is there no transaction, no lock and nothing parked, once the background is done?"""
        node = self.node
        self.slices()
        return not (node.transactions.by_ttid or node.transactions.locks.held or node.parked
                    or node.transactions.locks.contended or node.transactions.locked
                    or node.transactions.kept or node.background
                    or self.engine.locked() or self.engine._pended or self.engine._promised)


def kept(ttid, tid, first=None, rows=ROWS):
    """What Settle is to keep."""
    return Unfinished(ttid, tid if first is None else first, tid, rows)


__all__ = ['ROWS', 'Error', 'Script', 'TTID', 'kept', 'metadata', 'record', 'table']
