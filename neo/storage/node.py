"""The storage: its connections, and in which phase it is."""
from ..cluster.node import Node, handler_table
from ..protocol import limits
from ..protocol.packets import Identify
from ..protocol.types import ClusterState, NodeKind
from . import checking, filling, reads, serve_clients, serve_master
from .conditions import Conditions
from .engine.interface import BrokenData
from .filling import FILL, Filling
from .leftovers import LEFTOVERS, Leftovers
from .locking import LOCK, Locking
from .masters import Masters
from .serve_master import CLEAN
from .silence import SILENCE, Silence
from .space import SPACE, Space
from .state import State
from .transactions import Transactions

COMMIT = 'commit'               # timer
RETIREMENT = 'retirement'       # timer


class Storage(Node):
    """Keeps what its primary tells it to, in `engine`, and serves the clients it announces.

    Raises EngineError if the database is not one of this cluster.  The phase is RUNNING while it
    serves clients, else RECOVERING.
    """

    kind = NodeKind.STORAGE

    def __init__(self, rnd, engine, cluster, masters, address, name='',
                 amounts=limits.AMOUNTS, fill_rate=0, topology=None):
        super().__init__(rnd)
        self.engine = engine
        self.amounts = amounts
        self.state = State(engine, cluster, self.identity)
        self.identity = self.state.identity
        self.cluster = cluster
        self.masters = Masters(masters)
        self.address, self.name = address, name
        self.topology = topology or address[0][:limits.MAX_MACHINE]
        self.phase = ClusterState.RECOVERING
        self.id = self.state.id         # as the primary calls it
        self.master = None              # Peer of the one that was promised the highest term …
        self.term = None                # … on this connection
        self.session = 0                # number of this joining of that one
        self.written = {}               # key -> WriteTable: of this term, not in force yet
        self.table = None               # PartitionTable in force
        self.partitions = self.state.partitions
        self.readable = frozenset()     # rows with a readable cell here
        # Rows that were here: clients who have not heard yet that they are not may write to them.
        self.retired = frozenset()
        self.writable = frozenset()     # the readable ones, those that are being filled, and these
        self.transactions = Transactions(engine, amounts)
        self.locking = Locking(self)
        self.conditions = Conditions(self)
        self.space = Space(self)
        self.silence = Silence(self)
        self.fill_rate = fill_rate      # bytes per second, or 0
        self.filling = Filling(self)
        self.leftovers = Leftovers(self)
        self.clients = {}               # id -> Client: those announced
        self.last_announced = 0         # number of the last client announced in this term
        # Clients not announced yet: connection -> (Peer, Identify, request id).
        self.waiting = {}
        # Reads that wait for a transaction: ttid -> [(Peer, packet, request id)].
        self.parked = {}
        self._commit_set = False        # the timer
        self.draining = False           # the cluster is about to stop: no transactions begin
        self.drain_request = None       # request id of Drain, until it is answered

    # -- the connection to the master -------------------------------------------------------
    def starting(self):
        self.log('storage %s of cluster %s on %s:%d', self.id or '(new)', self.cluster,
                 *self.address)
        if self.engine.changed:
            self.lazily()
        self.tidy()
        self.space.look()
        self.masters.connect(self)

    def connected(self, peer):
        if self.filling.sources.links.connected(self, peer):
            return
        peer.kind, peer.data = NodeKind.MASTER, self.masters.link_to(peer.address)
        state = self.state
        self.ask(peer, Identify(
            NodeKind.STORAGE, state.id, self.identity, self.cluster,
            state.cluster_id if state.is_member else None,
            state.history if state.is_member else None,
            state.term, self.name, self.address, float(self.now), self.topology))

    def connect_failed(self, address, reason):
        if not self.filling.sources.links.connect_failed(self, address, reason):
            self.masters.link_to(address).seek.failed(self, reason)

    def joined(self, peer, id, session):
        link = peer.data
        link.peer, link.id, link.session, link.told = peer, id, session, ''
        link.seek.found()
        if self.master is None:
            self.id, self.session = id, session
        self.log('joined %s as %s', peer.id, id)
        self.conditions.tell()

    def obey(self, peer, term):
        """From now on nobody else, who might go on with what has begun."""
        former, self.master = self.master, peer
        if former not in (None, peer):
            self.close(former)
            former.data.lost(self, 'term %d was promised to another one' % term)
        self.term, self.written = term, {}
        self.id, self.session = peer.data.id, peer.data.session
        self.masters.promised(self)

    def give_up(self, reason):
        self.exit(1, reason)

    def lost(self, peer, reason):
        self.waiting.pop(peer.connection, None)
        if peer.kind == NodeKind.MASTER:
            if peer is self.master:
                self.master = self.term = None
                self.stop_serving('the master is lost')
            peer.data.lost(self, 'the connection was lost: %s' % reason)
        elif peer.kind == NodeKind.CLIENT:
            serve_clients.disconnected(self, peer)
        elif peer.kind == NodeKind.STORAGE:
            self.filling.sources.links.lost(self, peer, reason)

    def patience(self, peer):
        if peer.kind == NodeKind.MASTER:
            return self.masters.patience(peer)
        return super().patience(peer)

    def silent(self, peer):
        if peer.kind == NodeKind.CLIENT:
            self.silence.look()

    # -- phases -------------------------------------------------------------------------------
    def use_table(self, table):
        """`table` is in force."""
        former = self.writable if self.phase == ClusterState.RUNNING else frozenset()
        self.table, self.partitions = table, table.partitions
        self.readable = frozenset(
            row for row, storages in enumerate(table.readable) if self.id in storages)
        here = self.readable.union(table.out_of_date.get(self.id, ()))
        self.retired = former - here
        self.writable = here | self.retired
        if self.retired:
            self.set_timer(RETIREMENT, self.now + limits.RETIREMENT)

    def stop_serving(self, reason):
        """Close all clients, and keep only what was voted or locked."""
        if self.phase == ClusterState.RUNNING:
            self.log('not serving any more: %s', reason)
        self.phase = ClusterState.RECOVERING
        for client in self.clients.values():
            if client.peer is not None:
                self.close(client.peer)
        self.clients = {}
        self.last_announced = 0
        self.parked = {}
        self.filling.stop(self)
        self.leftovers.stop()
        self.locking.stop()
        self.draining, self.drain_request = False, None
        self.transactions.reset()
        self.tidy()
        if self.engine.changed:
            self.lazily()

    def ready(self):
        if self.drain_request is not None:
            serve_master.end_draining(self)
        return super().ready()

    def stop(self):
        """A clean end of this process: commit what nobody has waited for."""
        if self.engine.changed:
            self.durable()

    # -- clients ------------------------------------------------------------------------------
    def identify(self, peer, packet, request_id):
        serve_clients.identify(self, peer, packet, request_id)

    def waits(self, peer):
        return peer.connection in self.waiting

    # -- timers and durability ------------------------------------------------------------------
    def lazily(self):
        """The engine was changed, and nobody waits for that to be durable."""
        if self.engine.should_commit:
            self.durable()
        elif not self._commit_set:
            self._commit_set = True
            self.set_timer(COMMIT, self.now + limits.LAZY_COMMIT)

    def tidy(self):
        """Remove what was dropped, in slices."""
        if self.engine.needs_cleaning:
            self.want_slices(CLEAN)

    def commit(self):
        self.engine.commit()

    def slice(self, name, amount):
        if name == LOCK:
            self.locking.slice(amount)
        elif name == LEFTOVERS:
            self.leftovers.slice(amount)
        elif name == CLEAN:
            try:
                more = self.engine.clean(amount)
            except BrokenData as error:
                self.conditions.broken(error)
                more = False
            if not more:
                self.no_slices(CLEAN)
            self.lazily()

    def timer(self, name):
        if self.masters.timer(self, name):
            pass
        elif name == COMMIT:
            self._commit_set = False
            if self.engine.changed:
                self.durable()
        elif name == SPACE:
            self.space.look()
        elif name == LEFTOVERS:
            self.leftovers.timer()
        elif name == RETIREMENT:
            self.writable -= self.retired
            self.retired = frozenset()
        elif name == FILL:
            self.filling.timer(self)
        elif name == SILENCE:
            self.silence.look()

    handlers = handler_table(checking, filling, reads, serve_clients, serve_master)
