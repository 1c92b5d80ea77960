"""The client as a node: which of its parts hears of what.

Each part keeps its own state, and is given the client with each call:

    primary.py, links.py        the connections, to the primary and to the storages
    operation.py                what has not ended, and for how long it waits
    pool.py                     ids taken ahead
    loads.py, cache.py          reads
    routing.py                  where transactions write
    commit.py, part.py          transactions, up to the vote;  imports.py: many as one
    finish.py, invalidations.py their end, and in which order it is told
    catching_up.py              what was committed while the primary was lost
    legacy.py                   what a client takes over from one that it replaces

client.py is what applications call.
"""
from ...cluster import seek
from ...cluster.node import Node, handler_table
from ...protocol import limits
from ...protocol.packets import Identify, TableTaken
from ...protocol.types import ClusterState, NodeKind
from ..exception import TransactionFailed
from . import catching_up, commit, finish, links, operation, pool, primary
from .cache import Cache
from .commit import Transaction
from .finish import Finishing, Outcomes
from .imports import Imports
from .invalidations import Invalidations
from .legacy import legacy_of
from .links import Links
from .operation import Operation, Operations
from .routing import Routing

RUNNING = ClusterState.RUNNING


class ClientNode(Node):
    """`masters` are (host, port), `name` is what the operator reads of this process."""

    kind = NodeKind.CLIENT
    handlers = handler_table(primary, commit, finish)

    def __init__(self, rnd, cluster, masters, cache_size=limits.CACHE_SIZE,
                 wait_timeout=limits.WAIT_TIMEOUT, amounts=limits.AMOUNTS, name=''):
        super().__init__(rnd)
        self.phase = ClusterState.RECOVERING
        self.cluster, self.name = cluster, name
        self.seek = seek.Seek(masters)
        self.wait_timeout, self.amounts = wait_timeout, amounts
        # what the primary has said
        self.id = self.cluster_id = self.history = None
        self.term = 0
        self.primary = None             # the Peer
        self.reason = None              # why it does not accept this client yet
        self.table = None
        self.routing = None             # of transactions that begin now
        self.taken = None               # the key of the newest table by which all are routed
        # revisions
        self.cache = Cache(cache_size)
        self.heard = 0                  # the highest tid heard of; the cache is as of it
        self.last_tid = 0               # the highest tid delivered to ZODB
        self.catching_up = None         # a CatchingUp, until it has heard all it has missed
        self.loading = {}               # oid -> its loads that are under way
        self.told = Invalidations()
        self.invalidations = self.told.queue
        # transactions
        self.transactions = {}          # ttid -> Transaction, until aborted or finished
        self.completed = []             # Operations
        self.ttids = pool.ttids(amounts.ttids_ahead)
        self.oids = pool.oids(amounts.oids_ahead)
        self.links, self.operations, self.outcomes, self.imports = (
            Links(), Operations(), Outcomes(), Imports())
        self.replaces = False           # … another one, and ZODB has not been told of that yet

    def succeed_to(self, former, unsettled=True):
        """Before it is started: take the place of a client that can't be used any more, as it was
        cut off half-way, or belongs to the parent of this process.  Everything is declared changed
        as soon as there is a primary.  What became of its transactions in *finish* is asked; not so
        without `unsettled`, as they are those of the parent."""
        legacy = legacy_of(former, unsettled)
        self.replaces = True
        self.cluster_id, self.history = legacy.cluster_id, legacy.history
        self.term, self.heard, self.last_tid = legacy.term, legacy.last_tid, legacy.last_tid
        self.outcomes.inherit(legacy)

    def find_out(self, former):
        """As `finish`, for an operation or a transaction of a client that this one has succeeded
        to.  Only what had been sent for *finish*, or was about to be, can have been committed.  Of
        an operation that had ended there, nothing is known here, nor need it be."""
        if isinstance(former, Operation) and former.done:
            return former
        return self.outcomes.find_out(former.ttid)

    # -- what the node base calls -----------------------------------------------------------
    def starting(self):
        self.outcomes.starting(self)
        self.seek.connect(self)

    def connected(self, peer):
        if peer.address == self.seek.address:
            peer.kind = NodeKind.MASTER
            if len(self.seek.masters) > 1:
                self.set_timer(primary.KEPT, self.now + limits.KEPT_WAITING)
            self.greet(peer, primary.Greeting())
        else:
            self.links.connected(self, peer)

    def greet(self, peer, context):
        self.ask(peer, Identify(
            NodeKind.CLIENT, self.id, self.identity, self.cluster, self.cluster_id, self.history,
            self.term, self.name, None, self.now, ''), context)

    def patience(self, peer):
        if peer.kind == NodeKind.MASTER and len(self.seek.masters) > 1:
            return limits.MASTER_TIMEOUT if peer.heard > peer.since else limits.MUTE_TIMEOUT
        return super().patience(peer)

    def connect_failed(self, address, reason):
        if address == self.seek.address:
            self.seek.failed(self, reason)
        else:
            self.links.connect_failed(self, address, reason)

    def lost(self, peer, reason):
        if peer.kind == NodeKind.MASTER:
            primary.lost(self, 'the connection was lost: %s' % reason)
        else:
            self.links.lost(self, peer, reason)

    def timer(self, name):
        if name == operation.LATE:
            self.operations.look(self)
        elif name == operation.RETRY:
            self.operations.retry(self)
            self.running()
        elif name == seek.TIMER:
            self.seek.connect(self)
        elif name == primary.KEPT:
            primary.kept_waiting(self)
        elif name == catching_up.TIMER:
            if self.catching_up is not None:    # else that has ended in the same turn
                self.catching_up.give_up(
                    self, 'what was committed meanwhile is not known after %.0f s'
                    % limits.CATCH_UP_TIME)
        elif name.startswith(commit.PATIENCE):
            transaction = self.transactions.get(int(name.removeprefix(commit.PATIENCE)))
            if transaction is not None:
                transaction.patience_ends(self)
        else:
            self.links.connect(self, name.removeprefix(links.TIMER))

    # -- who hears of what --------------------------------------------------------------------
    def running(self):
        """There is a primary, or another try is due: ask for what is missing."""
        self.ttids.refill(self)
        self.oids.refill(self)
        self.outcomes.ask(self)

    def caught_up(self, missed, catching_up):
        """`missed` are (tid, oids), in order."""
        self.catching_up = None
        for tid, oids in missed + catching_up.later:
            self.hear(tid, oids or ())
            self.told.add(tid, oids)
        self.heard = max(self.heard, catching_up.last)
        self.phase = RUNNING
        self.running()
        self.operations.resume_stalled(self)

    def without_primary(self, reason):
        if self.catching_up is not None:
            self.catching_up.abandon(self)
            self.catching_up = None
        self.taken = None
        self.ttids.clear()
        self.outcomes.primary_lost()
        error = TransactionFailed('the primary was lost: %s' % reason)
        for transaction in list(self.transactions.values()):
            transaction.primary_lost(self, error)
        self.links.primary_lost(self)

    def storage_found(self, link):
        self.route()
        for transaction in list(self.transactions.values()):
            transaction.storage_found(self, link)
        self.operations.resume_stalled(self)

    def storage_lost(self, id, reason):
        self.route()
        for transaction in list(self.transactions.values()):
            transaction.storage_lost(self, id, reason)

    def hear(self, tid, oids):
        """A transaction has been committed."""
        self.heard = tid
        invalidate, skip, loading = self.cache.invalidate, self.oids.skip, self.loading
        for oid in oids:
            invalidate(oid, tid)
            skip(oid)
            if oid in loading:
                for load in loading[oid]:
                    load.crossed = (*(load.crossed or ()), tid)

    def report(self, packet):
        """Tell the primary, if there is one."""
        if self.primary is not None:
            self.send(self.primary, packet)

    # -- the table ----------------------------------------------------------------------------
    def use_table(self, table):
        former, self.table = self.table, table
        self.routing = Routing(table, self.links.takes)
        if self.taken is None:
            self.taken = table.key      # who joins has the present one
            return
        for transaction in list(self.transactions.values()):
            transaction.table_changed(self, former)
        self.take_table()

    def route(self):
        """Links have changed: with a storage that is being filled, more or fewer are written to."""
        if self.routing is not None:
            self.routing = self.routing.renewed(self.links.takes)

    def take_table(self):
        """Tell the primary by which tables no transaction is routed any more.  What a former one
        was to commit, this one knows."""
        table = self.table
        oldest = min([transaction.table.key for transaction in self.transactions.values()
                      if transaction.error is None and transaction.table.term == table.term],
                     default=table.key)
        if oldest > self.taken:
            self.taken = oldest
            self.send(self.primary, TableTaken(oldest))

    # -- transactions -------------------------------------------------------------------------
    def can_begin(self):
        return self.phase == RUNNING and self.ttids.left > 0

    def new_transaction(self, imposed=None):
        ttid = self.ttids.take(self)
        transaction = self.transactions[ttid] = Transaction(ttid, self.routing, imposed)
        return transaction

    def forget_transaction(self, transaction):
        """It has ended."""
        self.transactions.pop(transaction.ttid, None)
        if transaction.table is not self.table and self.taken is not None:
            self.take_table()

    def part_of(self, ttid, peer):
        """(Transaction, Part) of what a storage speaks about, or None twice: it has ended."""
        transaction = self.transactions.get(ttid)
        part = transaction and transaction.parts.get(peer.id)
        if part is None or part.peer is not peer:
            return None, None
        return transaction, part

    # -- operations ---------------------------------------------------------------------------
    def attempt(self, operation):
        """Begin a new operation."""
        return self.operations.attempt(self, operation)

    def missing(self):
        """What there is to wait for before anything can be served, in words, or None."""
        if self.phase == RUNNING:
            return None
        if self.phase == ClusterState.VERIFYING:
            return 'what was committed meanwhile'
        if self.primary is not None:
            return 'the partition table from %s' % self.primary
        if self.reason is not None:
            return 'the cluster, which does not run (%s)' % self.reason
        return self.seek.missing()

    def unavailable(self, waiting):
        """What a ClusterUnavailable says to who has waited."""
        return 'cluster %r is not available: waiting for %s for %.0f s' % (
            self.cluster, waiting.waits_for(self), self.now - waiting.since)

    def give_up(self, error):
        """The cluster does not want this client."""
        for waiting in list(self.operations.unfinished):
            if not isinstance(waiting, Finishing):
                waiting.fail(self, error)
