"""Who is there, and who has been: ids, sessions, and what is known of each node."""
from itertools import islice

from ..cluster.addresses import readable
from ..cluster.ids import LETTERS, node_id, node_order, number_of
from ..cluster.node import Refused
from ..protocol.limits import MAX_TTIDS_OPEN
from ..protocol.types import ErrorCode, Member, NodeKind

MASTER, STORAGE, ADMIN, CLIENT = (
    NodeKind.MASTER, NodeKind.STORAGE, NodeKind.ADMIN, NodeKind.CLIENT)
KINDS = {letter: kind for kind, letter in LETTERS.items()}


class Joined:
    """What the master keeps of a node that has joined; the `data` of its Peer."""

    __slots__ = ('identity', 'address', 'name', 'topology', 'session', 'cluster_id',
                 'clock_offset', 'term', 'grant', 'held', 'canvassed', 'settled',
                 'condition', 'ttids', 'taken', 'broken', 'doubtful')

    def __init__(self, packet, address, session, now):
        self.identity = packet.identity
        self.address = address
        self.name = packet.name
        self.topology = packet.topology         # of a storage: its machine
        self.session = session
        self.cluster_id = packet.cluster_id     # it knows a cluster; None: it is new
        self.clock_offset = packet.clock - now  # seconds that its clock is ahead of ours
        self.term = packet.term                 # the highest it has promised, as far as known
        self.grant = None                       # its RequestTerm.Answer, granted in this term
        self.held = None                        # TableKey of the newest it has written in this term
        self.canvassed = None                   # its Canvass.Answer
        self.settled = False                    # it was told in this term what to end
        self.condition = ''                     # what is wrong with it, in words
        self.ttids = {}                         # of a client: those it may finish, in order
        self.taken = None                       # TableKey: it routes nothing by an older table
        self.broken = {}                        # of a storage: (oid, tid) found broken by clients
        self.doubtful = set()                   # rows of which nobody knows which copy is right

    def take(self, first, count):
        """A client is given ttids.  Which of them it has aborted it does not tell: the oldest ones
        are forgotten when there are too many."""
        ttids = self.ttids
        ttids.update(dict.fromkeys(range(first, first + count)))
        if len(ttids) > MAX_TTIDS_OPEN:
            for ttid in list(islice(ttids, len(ttids) - MAX_TTIDS_OPEN)):
                del ttids[ttid]

    def end_term(self):
        self.grant = self.held = None
        self.settled = False

    def holds(self, table):
        return self.held is not None and self.held >= table.key


class Members:
    """All nodes that have joined, each kind in the order of their coming, and the storages and
    voting masters that ever had an id: with their last names and addresses they are written with
    each table."""

    def __init__(self):
        self.id = node_id(NodeKind.MASTER, 1)   # of this master, who has come first
        self.joined = {}        # id -> Peer
        self.storages, self.admins, self.clients = {}, {}, {}       # the same, by kind
        self.of_kind = {STORAGE: self.storages, ADMIN: self.admins, CLIENT: self.clients}
        self.known = {}         # id -> Member
        self.last_heard = {}    # id of a storage that has gone -> when it was heard last
        # {identity: id}: what was given stays.
        self._owned = {kind: {} for kind in (MASTER, STORAGE, ADMIN)}
        self._numbers = dict.fromkeys(LETTERS, 0)       # the highest given
        self._sessions = 0

    # -- joining ----------------------------------------------------------------------------
    def check_storage(self, packet):
        """Raises Refused if this is none that may join, whichever cluster it is of."""
        for peer in self.storages.values():
            if peer.data.identity == packet.identity:
                raise Refused(ErrorCode.NOT_READY, '%s is connected already' % peer.id)
        if packet.id is not None and number_of(packet.id, STORAGE) is None:
            raise Refused(ErrorCode.REFUSED, '%s is no id of a storage' % packet.id)
        if packet.cluster_id is not None and packet.id is not None:
            self._check_claim(packet.id, packet.identity)

    def _is_of_another(self, id, identity):
        return id in self.known and self.known[id].identity != identity

    def _check_claim(self, id, identity):
        if self._is_of_another(id, identity):
            raise Refused(ErrorCode.REFUSED, '%s is the id of another storage' % id)
        own = self._known_id(identity)
        if own not in (None, id):
            raise Refused(ErrorCode.REFUSED, 'this storage is %s, not %s' % (own, id))
        other = self.storages.get(id)
        if other is not None and other.data.cluster_id is not None:
            raise Refused(ErrorCode.REFUSED, 'another storage is %s already' % id)

    def _known_id(self, identity):
        id = self._owned[STORAGE].get(identity)
        return id if id in self.known else None

    def join(self, peer, packet, now):
        """Give it an id, and if it is a storage a session."""
        kind = NodeKind(packet.kind)
        if kind == STORAGE:
            self._sessions += 1
        id = self._id_for(kind, packet)
        peer.data = Joined(packet, packet.address or peer.address, self._sessions, now)
        self.joined[id] = self.of_kind[kind][id] = peer
        if id in self.known:
            self._remember(id, peer.data)
        return id

    def _id_for(self, kind, packet):
        if kind == CLIENT:
            # Late packets of a client that has gone are not to be taken for somebody else's.
            return self._next_id(kind)
        id = self._owned[kind].get(packet.identity)
        if kind == STORAGE and packet.cluster_id is not None and packet.id is not None:
            id = packet.id
        if id is None or id in self.joined or self._is_of_another(id, packet.identity):
            id = self._next_id(kind)
        self._owned[kind][packet.identity] = id
        return id

    def _next_id(self, kind):
        used = [self._numbers[kind]]
        if kind == STORAGE:
            used += [int(id[1:]) for id in (*self.known, *self.storages) if id[0] == 'S']
        self._numbers[kind] = 1 + max(used)
        return node_id(kind, self._numbers[kind])

    def namesake(self, packet):
        """The Peer that was given, for the time being, the id that this storage has for life."""
        return self.storages.get(packet.id) if packet.cluster_id is not None else None

    def leave(self, peer):
        """Was it there?"""
        if not peer.identified or self.joined.get(peer.id) is not peer:
            return False
        del self.joined[peer.id], self.of_kind[peer.kind][peer.id]
        if peer.kind == STORAGE:
            self.last_heard[peer.id] = peer.heard
        return True

    # -- what stays ---------------------------------------------------------------------------
    def adopt(self, members):
        """A table has come with these: they know better than what was given meanwhile."""
        for member in members:
            self.known[member.id] = member
            self._owned[KINDS[member.id[0]]][member.identity] = member.id
        for peer in self.storages.values():
            if self.is_named_rightly(peer) and peer.id in self.known:
                self._remember(peer.id, peer.data)

    def is_named_rightly(self, peer):
        identity = peer.data.identity
        return not self._is_of_another(peer.id, identity) and (
            self._known_id(identity) in (None, peer.id))

    def enlist(self, peer):
        """This storage has its id for good.  Was that new?"""
        if peer.id in self.known:
            return False
        self._remember(peer.id, peer.data)
        return True

    def _remember(self, id, data):
        self.known[id] = Member(id, data.identity, data.name, data.address, self.is_added(id))

    # -- who belongs to the cluster -----------------------------------------------------------
    def is_added(self, id):
        return id in self.known and self.known[id].added

    def added(self):
        """Ids of the storages that belong to the cluster, in order."""
        return [member.id for member in self.written() if member.added]

    def set_added(self, ids, added):
        """It is written with the next table."""
        for id in ids:
            self.known[id] = self.known[id]._replace(added=added)

    # -- masters ------------------------------------------------------------------------------
    def master_id(self, identity, number):
        """Of the master at this place in the list of all: as it is known for life, or the same as
        its place, if nobody else has that id."""
        id = self._owned[MASTER].get(identity)
        if id in self.known:
            return id
        id = node_id(MASTER, number + 1)
        if id in self.known:
            highest = max(int(other[1:]) for other in self.known if other[0] == 'M')
            id = node_id(MASTER, highest + 1 + number)
        return id

    def enlist_master(self, id, identity, name, address):
        """It votes from now on."""
        self.known[id] = Member(id, identity, name, address, False)
        self._owned[MASTER][identity] = id

    def forget(self):
        """Those who are not there were of another cluster."""
        self.known = {}

    def written(self):
        """What is kept with the table, in order."""
        return tuple(self.known[id] for id in sorted(self.known, key=node_order))

    def describe(self, id):
        """A node for people: its id, and what the operator knows it by."""
        peer = self.joined.get(id)
        node = peer.data if peer is not None else self.known.get(id)
        words = [] if node is None else [node.name] * bool(node.name) + [
            readable(address) for address in [node.address] if address is not None]
        return '%s (%s)' % (id, ', '.join(words)) if words else id
