"""The master: it dispatches what happens to its parts, each of which keeps its own state.

    members, cluster                        who is there, and which cluster this is
    fellows, election, voter, state         the other masters, and who of them leads
    recovery, creation, tables              from nothing to a table in force
    verification                            what is settled by it
    clock, transactions, oids, outcomes     of one term, while it serves
    suspicion                               who says nothing
    stopping                                the end
"""
import logging

from ..cluster.addresses import readable
from ..cluster.cuts import history_of
from ..cluster.ids import tid_text, utc
from ..cluster.node import Node, Refused, handler_table
from ..protocol import limits
from ..protocol.packets import ClusterStateChanged, Identify, SetClusterState
from ..protocol.types import MAX_TERM, ClusterState, ErrorCode, NodeKind, as_reason
from . import (announcements, commits, filling, forcing, orders, outcomes, reports, truncation,
               verification, voter)
from .checking import CHECK, MEND, Checking
from .clock import Clock
from .cluster import Cluster
from .confirmation import Confirmation
from .creation import Creation
from .election import CANVASS, PATIENCE, Election
from .fellows import Fellows
from .filling import Filling
from .members import Members
from .oids import Oids
from .outcomes import Outcomes
from .recovery import GRACE, STAND, Recovery
from .stopping import STOP, Stopping
from .state import State
from .suspicion import Suspicion
from .tables import Tables
from .transactions import Transactions
from .voter import Voter

RECOVERING, RUNNING = ClusterState.RECOVERING, ClusterState.RUNNING
STOPPING = ClusterState.STOPPING
SERVING = RUNNING, STOPPING
STORAGE, ADMIN, CLIENT = NodeKind.STORAGE, NodeKind.ADMIN, NodeKind.CLIENT
REMIND = 'remind'               # timer
PENDING = 'pending'             # timer


class Master(Node):
    """`partitions`, `replicas` and `autostart` count for a new cluster only.  `masters` are the
    addresses of all, `address` among them, unless this is the only one.  `store` keeps the State of
    a master that votes; StateError says why it can't be that of this one."""

    kind = NodeKind.MASTER

    def __init__(self, rnd, cluster, address, partitions=100, replicas=0, autostart=None, name='',
                 amounts=limits.AMOUNTS, masters=(), store=None):
        super().__init__(rnd)
        self.address, self.name, self.amounts = address, name, amounts
        self.state = State(store, cluster, self.identity)
        self.cluster = Cluster(cluster)
        self.members = Members()
        self.fellows = Fellows(address, masters)
        self.election, self.voter = Election(), Voter()
        self.tables = Tables()
        self.creation = Creation(partitions, replicas, autostart)
        self.recovery = Recovery(self.creation)
        self.recovery.learn(self, [self.state])
        self.fellows.rename(self)
        if self.state.is_member:
            self.cluster.follow(self.state)
            self.cluster.certain = True
        self.verification = None
        self.known_before = 0           # the highest tid that was given before this term
        self.clock = Clock()
        self.stopping = Stopping()
        self.transactions = self.oids = self.outcomes = self.filling = None     # while it serves
        self.confirmation = self.checking = None        # likewise
        self.term = 0
        self.phase = RECOVERING
        self.reason = ''                # why it does not run
        self.since = 0.0                # when that began
        self._what = None               # the same, without a time …
        self._waits_since = 0.0         # … and since when it is that
        self.waiting = {}               # connection -> (peer, Identify, request id) of clients
        self._awaited = None            # Pending: the first one when it was looked at last
        self.ordered = orders.Ordered()
        self.history = None             # the one that is served
        self.truncations = []           # truncation.Order that is not answered
        self.forced = None              # forcing.Order that is not answered

    def starting(self):
        self.log('master of cluster %s on %s:%d', self.cluster.name, *self.address)
        if not self.state.is_member:
            self.state.put()            # its identity
            self.durable()
        if self.fellows:
            self.fellows.call(self)
            self.election.begin(self)
        else:
            self.recovery.stand(self)

    def durable(self):
        if self.state.is_durable:
            super().durable()

    def commit(self):
        self.state.commit()

    def ready(self):
        self._tell_orphans()
        while self.tables.hold_own(self):
            self._tell_orphans()
        return super().ready()

    def connected(self, peer):
        self.fellows.connected(self, peer)

    def connect_failed(self, address, reason):
        self.fellows.failed(self, self.fellows.at(address), reason)

    def timer(self, name):
        if name == STOP:
            self.stopping.timer(self)
        elif name == STAND:
            self.recovery.timer(self)
        elif name == GRACE:
            self.recovery.consider(self)
        elif name == REMIND:
            self._remind()
        elif name == CANVASS:
            self.election.timer(self)
        elif name == PATIENCE:
            self.election.patience(self)
        elif name in (CHECK, MEND):
            if self.checking is not None:
                (self.checking.timer if name == CHECK else self.checking.mend)(self)
        elif name == PENDING:
            self._look_at_pending()
        else:
            self.fellows.timer(self, name)

    def stop(self):
        """A clean end of this process: what is durable is so already."""

    def silent(self, peer):
        if self._is_cut_off():
            self.begin_again('%s and others say nothing' % self.describe(peer.id))
        if self.members.joined.get(peer.id) is not peer:
            return
        announcements.tell_condition(self, peer)
        if peer.kind == STORAGE and self.can_leave_behind(peer):
            Suspicion(self, peer)       # commits wait for it: they go on once it is out of date

    def patience(self, peer):
        if peer.kind == NodeKind.MASTER:
            return limits.MASTER_TIMEOUT
        if peer.kind == STORAGE and self.fellows:
            return limits.STORAGE_TIMEOUT
        return super().patience(peer)

    def heard_again(self, peer):
        if self.members.joined.get(peer.id) is peer:
            announcements.tell_condition(self, peer)

    def _is_cut_off(self):
        """Who hears less than half of the voters does not know what the others do."""
        if not self.fellows or not self.serves or self.tables.in_force is None:
            return False
        voters = self.tables.in_force.voters()
        heard = {id for id, peer in self.reached().items() if not peer.silent} | {self.id}
        return 2 * len(heard.intersection(voters)) < len(voters)

    # -- who comes ----------------------------------------------------------------------------
    def waits(self, peer):
        return peer.connection in self.waiting

    def identify(self, peer, packet, request_id):
        if packet.kind == NodeKind.CTL:
            raise Refused(ErrorCode.REFUSED, 'this is a master of cluster %s; neoctl is served by'
                          ' an admin node' % self.cluster.name)
        self.cluster.check_name(packet)
        if packet.kind == NodeKind.MASTER:
            self.fellows.identify(self, peer, packet, request_id)
        elif packet.kind == STORAGE:
            self._identify_storage(peer, packet, request_id)
        elif packet.kind in (ADMIN, CLIENT) and self.voter.primary is not None:
            raise Refused(ErrorCode.NOT_READY, self._redirection())
        elif packet.kind in (ADMIN, CLIENT) and self.election.elsewhere and (
                self.phase == RECOVERING and not self.leads):
            raise Refused(ErrorCode.NOT_READY, self.reason)
        elif packet.kind == ADMIN:
            self._join(peer, packet, request_id)
            announcements.describe_to(self, peer)
        elif packet.kind != CLIENT:
            raise Refused(ErrorCode.REFUSED, 'a master serves no %s'
                          % NodeKind(packet.kind).name.lower())
        elif self.phase == RUNNING:
            self._accept_client(peer, packet, request_id)
        elif self.phase == STOPPING:
            raise Refused(ErrorCode.NOT_READY, 'the cluster is stopping')
        else:
            self.waiting[peer.connection] = peer, packet, request_id
            self.send(peer, ClusterStateChanged(self.phase, self.reason))

    def _identify_storage(self, peer, packet, request_id):
        try:
            self._admit_storage(peer, packet, request_id)
        except Refused as refusal:
            # Of several masters only one knows for certain.
            error = refusal.error if self.serves or not self.fellows else ErrorCode.NOT_READY
            raise Refused(error, str(refusal)) from refusal

    def _admit_storage(self, peer, packet, request_id):
        if self.phase == STOPPING:
            raise Refused(ErrorCode.NOT_READY, 'the cluster is stopping')
        if packet.address is None:
            raise Refused(ErrorCode.REFUSED, 'a storage must say where clients find it')
        if packet.term >= MAX_TERM - 1:
            raise Refused(ErrorCode.REFUSED, 'term %d is above all that can be' % packet.term)
        members, cluster = self.members, self.cluster
        # Others may have led the cluster to a history of which this master has not heard.
        another = cluster.is_another(
            packet, self.cuts if self.serves or not self.fellows else None)
        if another and (cluster.certain or any(
                other.data.cluster_id is not None for other in members.storages.values())):
            cluster.refuse(self, packet)
        if another:
            self._give_up()
        cluster.check_history(packet, self.cuts)
        members.check_storage(packet)
        if packet.cluster_id is not None and cluster.id is None:
            cluster.adopt(packet)
        namesake = members.namesake(packet)
        if namesake is not None:
            self.part(namesake, 'its id belongs to a storage that was there before')
        self._join(peer, packet, request_id)
        self.recovery.joined(self, peer)

    @property
    def cuts(self):
        """Those of the newest table that is known to be in force: one that is only sent counts for
        nobody who comes."""
        table = self.tables.in_force or self.tables.base
        return table.cuts if table else ()

    def _give_up(self):
        """The storages of the cluster that was here first have left before it ran, or it is only
        being created: somebody has come who knows another one."""
        pending = self.tables.pending
        self.creation.forget(self)
        if pending:
            self.recovery.begin(self)

    def _accept_client(self, peer, packet, request_id):
        if self.cluster.is_another(packet):
            raise Refused(ErrorCode.ANOTHER_CLUSTER, 'this is another cluster of the same name')
        self._join(peer, packet, request_id)
        peer.data.taken = self.tables.in_force.key
        announcements.describe_to(self, peer)

    def _join(self, peer, packet, request_id):
        """Accept a node, give it an id and say so to who needs to know."""
        kind = NodeKind(packet.kind)
        id = self.members.join(peer, packet, self.now)
        self.accept(peer, kind, id)
        table = self.tables.newest
        self.answer(peer, request_id, Identify.Answer(
            self.id, id, self.cluster.id, history_of(self.cuts, self.cluster.history), self.term,
            peer.data.session,
            self.transactions.last_told if self.transactions else 0,
            table.partitions if table else 0))
        self.log('%s has joined', self.members.describe(id))
        announcements.changed(self, id)

    # -- who goes -----------------------------------------------------------------------------
    def lost(self, peer, reason):
        self.waiting.pop(peer.connection, None)
        if peer.kind == NodeKind.MASTER:
            self.fellows.lost(self, peer, reason)
            self.voter.lost(self, peer)
            announcements.masters_changed(self)
            return
        if not self.members.leave(peer):
            return
        self.log('%s is gone: %s', peer.id, reason)
        announcements.changed(self, peer.id)
        if peer.kind == STORAGE:
            if self.filling is not None:
                self.filling.left(peer)
            self._storage_lost(peer)
            self.ordered.take_parked(self)
        elif peer.kind == CLIENT and self.filling is not None:
            self.filling.taken(self)
        if self.phase == STOPPING:
            self.stopping.progress(self)

    def _storage_lost(self, peer):
        needed = peer.id in self.tables.readers()
        if self.phase == RECOVERING and not (needed and self.tables.pending):
            self.consider()
        elif needed:
            self._leave_behind(peer)

    def _leave_behind(self, peer):
        """The cluster goes on without this storage, if it can."""
        name = self.members.describe(peer.id)
        cells = self.tables.newest.cells_of([peer.id])
        if not self.can_leave_behind(peer):
            self.begin_again('%s is gone' % name)
        elif cells:
            self.log('%s is left behind: %d cells are out of date', name, len(cells),
                     level=logging.WARNING)
            self.tables.write(self, self.tables.newest.outdated(cells), lambda node: None)

    def can_leave_behind(self, peer, among=None):
        """Do other storages have what it has, of those with an id `among` these?"""
        others = {id for id, other in self.members.storages.items()
                  if other is not peer and (among is None or id in among)}
        # Once it stops, all leave, and none of them is to be out of date afterwards.
        return self.transactions is not None and self.tables.newest.operational(others)

    def table_is_written(self):
        """It was sent to those who obey."""
        if self.fellows:
            self.set_timer(PENDING, self.now + limits.PENDING_TIME)
            self._awaited = self.tables.pending[0]

    def _look_at_pending(self):
        pending = self.tables.pending
        if not pending:
            return
        if pending[0] is self._awaited:
            there = {peer.id for peer in self.obedient()} | {self.id}
            self.begin_again('its table is not in force, without %s' % ', '.join(
                self.describe(id) for id in self.tables.all_voters() if id not in there))
        else:
            self.table_is_written()

    def table_is_in_force(self):
        """Another one than before."""
        if self.phase in SERVING and truncation.is_due(self):
            # Who leads goes on to lead, to answer the order.
            self.begin_again('the operator brings the cluster back to %s' % tid_text(
                self.cuts[-1].tid), self.recovery.stand)
        elif self.phase in SERVING:
            announcements.table_changed(self)
            commits.take_parked(self)
            self.confirmation.renew(self)
            self.filling.table_changed(self)
            self.checking.table_changed(self)
            self.settle_masters()

    def part(self, peer, reason):
        """Close the connection to a node; it may come back."""
        self.close(peer)
        self.lost(peer, reason)

    # -- what goes on -------------------------------------------------------------------------
    def granted(self):
        """{id: RequestTerm.Answer} of the storages that obey this term."""
        return {id: peer.data.grant for id, peer in self.members.storages.items()
                if peer.data.grant is not None}

    def obedient(self):
        """Peers of the storages and other masters that obey this term."""
        return [peer for peer in self.reached().values() if peer.data.grant is not None]

    def reached(self):
        """{id: Peer} of the storages, and of the masters that can be asked."""
        return {**self.members.storages,
                **{fellow.peer.id: fellow.peer for fellow in self.fellows.reached()}}

    def consider(self):
        if self.fellows and not self.leads:
            self.election.consider(self)
        else:
            self.recovery.consider(self)

    # -- several masters ----------------------------------------------------------------------
    @property
    def leads(self):
        """Has it asked for a term, as the last one as far as it knows?"""
        return self.recovery.ballot is not None

    @property
    def serves(self):
        return self.phase in SERVING or self.phase == ClusterState.VERIFYING

    def describe(self, id):
        """A node for people."""
        if id == self.id:
            return '%s (this one)' % id
        fellow = self.fellows.by_id(self).get(id)
        if fellow is None:
            return self.members.describe(id)
        return '%s (%s)' % (id, ', '.join(filter(None, (fellow.name, readable(fellow.address)))))

    def fellow_joined(self, peer):
        announcements.masters_changed(self)
        self.recovery.joined(self, peer)

    def follow(self, peer, term):
        """Another master is promised this term."""
        reached = self.reached()
        away = [self.describe(id) for id in self.tables.all_voters()
                if id not in reached and id != self.id]
        self.step_down('%s recovers the cluster, in term %d%s' % (
            self.describe(peer.id), term, away and ', without %s so far' % ', '.join(away) or ''))
        self.voter.obey(self, peer)

    def disobeyed(self, peer, reason):
        """Another master was promised a higher term."""
        if self.leads:
            self.begin_again('%s: %s' % (self.describe(peer.id), reason))

    def step_down(self, reason):
        if self.phase == STOPPING:
            self.stopping.leave(self)
            return
        self.change_phase(RECOVERING, reason)
        if self.leads:
            self.stop_serving()
            self.recovery.cancel(self)
            for other in self.reached().values():
                self.send(other, ClusterStateChanged(RECOVERING, reason))

    def led(self, packet):
        """It was elected, and has sent this WriteTable."""
        before = self.reason
        self.members.adopt(packet.members)
        self.fellows.rename(self)
        self.cluster.follow(packet)
        self.part_with_misnamed()
        self.change_phase(RECOVERING, self._redirection(), logging.DEBUG)
        if self.reason != before:
            self.log('%s', self.reason)
        self.send_on()

    def send_on(self):
        """There is another primary: who waits here for one finds it by himself."""
        for peer, _, request_id in self.waiting.values():
            self.refuse(peer, request_id, ErrorCode.NOT_READY, self.reason)
            self.close(peer)
        self.waiting = {}
        for peer in list(self.members.admins.values()):
            self.part(peer, 'another master is the primary')

    def _redirection(self):
        primary = self.voter.primary
        return 'the primary is %s' % self.describe(primary.id)

    def unled(self, reason):
        self.wait_for(reason)
        self.election.begin(self)

    def enlist_masters(self):
        """Ids of the masters that are to vote: those with a state file that are there."""
        if self.state.is_durable:
            self.members.enlist_master(self.id, self.state.identity, self.name, self.address)
        voting = [self.id] * self.state.is_durable
        for fellow in self.fellows.reached():
            if fellow.durable and fellow.peer.data.grant is not None:
                self.members.enlist_master(
                    fellow.peer.id, fellow.identity, fellow.name, fellow.address)
                voting.append(fellow.peer.id)
        return voting

    def settle_masters(self):
        """While nothing else changes: who has a state file is to vote, who has lost it or is not
        listed any more is not."""
        if self.tables.pending or self.phase != RUNNING:
            return
        here = {self.address} | {fellow.address for fellow in self.fellows.reached()
                                 if fellow.peer.data.grant is not None}
        away = [fellow.address for fellow in self.fellows if fellow.address not in here]
        known = self.members.known
        voting = self.enlist_masters() + [
            id for id in self.tables.newest.masters if known[id].address in away]
        table = self.tables.newest.with_masters(voting)
        if table.masters != self.tables.newest.masters:
            self.log('the masters that vote are %s from now on', ', '.join(table.masters) or 'none')
            self.tables.write(self, table, lambda node: None)

    def begin_again(self, reason, recover=None):
        """What is under way can't be ended: stop serving, and recover."""
        if self.phase == STOPPING:
            self.stopping.leave(self)
            return
        self.log('%s: the cluster recovers', reason)
        if self.phase == RUNNING:
            self.recovery.ended(self.now - self.since)
        self.change_phase(RECOVERING, reason)
        self.stop_serving()
        (recover or self.recovery.begin)(self)

    def part_with_misnamed(self):
        """Storages that were given an id before the table, which knows better, was known: they come
        back under their own names."""
        misnamed = [peer for peer in self.members.storages.values()
                    if not self.members.is_named_rightly(peer)]
        for peer in misnamed:
            self.part(peer, 'it is known by another id')
        return bool(misnamed)

    def admit_newcomer(self, peer):
        """A storage has granted the term, while the table is written or after."""
        if peer.kind == STORAGE and self.members.enlist(peer):
            self.tables.write_members(self, peer)
        else:
            self.tables.write_to(self, peer)
        if self.confirmation is not None:
            self.confirmation.renew(self)
        self.settle_masters()

    def admit_late(self, peer):
        """It holds the table in force."""
        if verification.settle_late(self, peer) and self.phase == RUNNING:
            announcements.describe_to(self, peer)
            self.filling.came(self, peer)
        if self.filling is not None:
            self.filling.holds(self, peer)
            self.checking.table_changed(self)
        self.ordered.take_parked(self)

    def serve(self, last_told, last_given, next_oid):
        """Every storage that is needed is ready."""
        offsets = [peer.data.clock_offset for peer in self.tables.present(self)]
        self.clock.compare(self, offsets, last_given)
        self.transactions = Transactions(self.term, last_told, last_given)
        self.oids = Oids(next_oid, self.amounts.oids_reserved)
        self.outcomes, self.confirmation = Outcomes(), Confirmation()
        self.history = history_of(self.cuts, self.cluster.history)
        self.change_phase(RUNNING)
        self.filling, self.checking = Filling(self.tables.in_force), Checking()
        for peer in [*self.tables.holders(self), *self.members.admins.values()]:
            announcements.describe_to(self, peer)
        self.oids.reserve(self)
        for peer in self.tables.holders(self):
            self.filling.came(self, peer)
        self.checking.table_changed(self)
        waiting, self.waiting = self.waiting, {}
        for peer, packet, request_id in waiting.values():
            try:
                self._accept_client(peer, packet, request_id)
            except Refused as refusal:
                self.refuse(peer, request_id, refusal.error, str(refusal))
        truncation.answer(self)
        forcing.answer(self)
        requests, self.creation.requests = self.creation.requests, []
        for peer, request_id in requests:
            self.answer(peer, request_id, SetClusterState.Answer('the cluster is running'))
        self.settle_masters()

    def stop_serving(self):
        """Close clients, who come back by themselves; what is in finish is settled later."""
        self.transactions = self.oids = self.outcomes = self.filling = self.verification = None
        self.confirmation = self.checking = None
        self.ordered.give_up(self)
        clients = list(self.members.clients.values())
        for peer in clients:
            self.members.leave(peer)
            self.close(peer)
        announcements.removed(self, [peer.id for peer in clients])

    def tell(self, ended):
        """These transactions have ended."""
        transactions = self.transactions
        for transaction in ended:
            if self.transactions is transactions:       # else one of them has led to a recovery
                commits.tell(self, transaction)
        if ended and self.filling is not None:
            self.filling.told(self)
        if self.phase == STOPPING:
            self.stopping.progress(self)

    # -- what is said of it ---------------------------------------------------------------------
    def change_phase(self, phase, reason='', level=logging.INFO, what=None):
        """Admins are told at once, and clients that wait; storages by what it means for them.
        `what` it waits for, without a time.  Who stops does nothing else any more."""
        if self.phase == STOPPING != phase:
            return
        self._what = what
        reason = as_reason(reason)
        if (phase, reason) != (self.phase, self.reason):
            if phase != self.phase:
                self.since = self.now
            self.phase, self.reason = phase, reason
            self.log('%s%s', phase.name, ': ' + reason if reason else '', level=level)
            told = ClusterStateChanged(phase, reason)
            for peer in self.members.admins.values():
                self.send(peer, told)
            for peer, _, _ in self.waiting.values() if phase != RUNNING else ():
                self.send(peer, told)

    def wait_for(self, what, level=logging.INFO):
        """Recovery can't go on without that; it is said again from time to time."""
        if what != self._what or self.phase != RECOVERING:
            self._waits_since = self.now
            self.change_phase(RECOVERING, '%s, since %s' % (what, utc(self.now)), level, what)
            self.set_timer(REMIND, self.now + limits.REMIND_INTERVAL)

    def _remind(self):
        if self._what is not None:
            self.log('still, for %.0f s now: %s', self.now - self._waits_since, self._what)
            self.set_timer(REMIND, self.now + limits.REMIND_INTERVAL)

    handlers = handler_table(
        announcements, commits, filling, forcing, orders, outcomes, reports, truncation, voter)
