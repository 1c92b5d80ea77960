"""What a running master does for its clients: ids, and the end of transactions."""
from ..cluster.node import Refused, handles
from ..protocol.codec import ProtocolError
from ..protocol.limits import MAX_OIDS_AHEAD, TTID_BITS
from ..protocol.packets import (Finish, Lock, ReserveOids, Sync, TakeOids, TakeTtids, WhatBecameOf)
from ..protocol.types import ClusterState, ErrorCode, NodeKind

CLIENT = NodeKind.CLIENT
RUNNING = ClusterState.RUNNING
SERVING = RUNNING, ClusterState.STOPPING


# -- ids ------------------------------------------------------------------------------------
@handles(TakeTtids, sender=CLIENT, phase=RUNNING)
def take_ttids(master, peer, packet, request_id):
    if not 0 < packet.count <= MAX_OIDS_AHEAD:
        raise ProtocolError('%d ttids at once' % packet.count)
    transactions = master.transactions
    if transactions.next_ttid + packet.count > transactions.first_ttid + (1 << TTID_BITS):
        raise Refused(ErrorCode.REFUSED, 'this primary has no ttids left: restart it')
    master.answer(peer, request_id, TakeTtids.Answer(
        transactions.take_ttids(packet.count), packet.count))


@handles(TakeOids, sender=CLIENT, phase=RUNNING)
def take_oids(master, peer, packet, request_id):
    if not 0 < packet.count <= MAX_OIDS_AHEAD:
        raise ProtocolError('%d oids at once' % packet.count)
    master.oids.waiting.append((peer, request_id, packet.count))
    reserve_oids(master, packet.count)
    give_oids(master)


def reserve_oids(master, count):
    """See to it that a mark above what is asked for becomes durable on all storages."""
    mark = master.oids.needs(count)
    if mark is not None:
        needed = master.needed()
        waiting = {peer.id for peer in needed}
        for peer in needed:
            master.ask(peer, ReserveOids(mark), (waiting, master.term))


def give_oids(master):
    oids = master.oids
    while oids.waiting:
        peer, request_id, count = oids.waiting[0]
        first = oids.take(count)
        if first is None:
            reserve_oids(master, count)
            return
        oids.waiting.pop(0)
        master.answer(peer, request_id, TakeOids.Answer(first, count))


@handles(Sync, sender=CLIENT, phase=SERVING)
def sync(master, peer, packet, request_id):
    master.answer(peer, request_id, Sync.Answer(master.transactions.last_told))


# -- the end of a transaction -----------------------------------------------------------------
@handles(Finish, sender=CLIENT, phase=SERVING)
def finish(master, peer, packet, request_id):
    transactions = master.transactions
    ttid = packet.ttid
    if ttid in transactions.denied or not transactions.was_given(ttid):
        raise Refused(ErrorCode.RETRY, 'the primary has changed since this transaction began')
    if ttid in transactions.by_ttid:
        raise ProtocolError('a transaction is finished twice')
    check_imposed(master, packet)
    storages = check_routing(master, packet)
    written = tuple(sorted(written_rows(packet, master.partitions)))
    for _, oids in packet.imposed:
        if oids:
            master.oids.seen(max(oids))
    if packet.oids:
        master.oids.seen(max(packet.oids))
    transaction = transactions.finish(ttid, packet.oids, packet.imposed, storages, peer,
                                      request_id, master.clock(), master.partitions)
    for id in storages:
        master.ask(master.joined[id], Lock(
            ttid, transaction.changes[0][0], transaction.tid, written), master.term)


def check_imposed(master, packet):
    last = master.transactions.last_given
    for tid, _ in packet.imposed:
        if tid <= last:
            raise Refused(ErrorCode.REFUSED, 'tid %#018x is not above %#018x' % (tid, last))
        last = tid
    if packet.imposed and packet.oids:
        raise ProtocolError('an import with oids of no tid')


def check_routing(master, packet):
    """Every writable cell of each touched row has voted, in its present session; the ids of all
    storages that voted, or Refused (docs/architecture.md, "Life of a transaction")."""
    voted = dict(packet.voted)
    for id, session in voted.items():
        storage = master.joined.get(id)
        if storage is None or storage.data.session != session:
            raise Refused(ErrorCode.RETRY, '%s has been away since it voted' % id)
    partitions, writable = master.partitions, master.table.writable
    for row in touched_rows(packet, partitions):
        for id in writable[row]:
            if id not in voted:
                raise Refused(ErrorCode.RETRY, '%s has not voted' % id)
    if len(voted) != len(packet.voted) or not voted:
        raise ProtocolError('the list of storages that voted is wrong')
    return list(voted)


def touched_rows(packet, partitions):
    rows = written_rows(packet, partitions)
    rows.update(oid % partitions for oid in packet.checked)
    return rows


def written_rows(packet, partitions):
    rows = {oid % partitions for oid in packet.oids}
    if not packet.imposed:
        rows.add(packet.ttid % partitions)
    for tid, oids in packet.imposed:
        rows.add(tid % partitions)
        rows.update(oid % partitions for oid in oids)
    return rows


# -- what became of a transaction ---------------------------------------------------------------
class Question:
    """Somebody has lost the answer to *finish*, and asks all storages through us."""

    __slots__ = 'ttid', 'peer', 'request_id', 'term', 'waiting', 'tid'

    def __init__(self, ttid, peer, request_id, term):
        self.ttid, self.peer, self.request_id, self.term = ttid, peer, request_id, term
        self.waiting = set()
        self.tid = None

    def ask(self, master):
        for peer in master.needed():
            self.waiting.add(peer.id)
            master.ask(peer, WhatBecameOf(self.ttid), self)

    def answered(self, master, peer, answer):
        self.waiting.discard(peer.id)
        if answer.tid is not None:
            self.tid = answer.tid
        if not self.waiting and self.term == master.term:
            self.reply(master)

    def reply(self, master):
        if self.peer.connection in master.peers:
            master.answer(self.peer, self.request_id, WhatBecameOf.Answer(self.ttid, self.tid))


@handles(WhatBecameOf, sender=CLIENT, phase=SERVING)
def what_became_of(master, peer, packet, request_id):
    transactions = master.transactions
    question = Question(packet.ttid, peer, request_id, master.term)
    if packet.ttid in transactions.by_ttid:
        master.questions.append(question)       # it is about to be known
        return
    # A *finish* that is still on its way, by a connection that its client has given up, must not
    # make a liar of this answer.
    if transactions.was_given(packet.ttid):
        transactions.denied.add(packet.ttid)
    question.ask(master)


def outcome_known(master, transaction):
    for question in list(master.questions):
        if question.ttid == transaction.ttid:
            master.questions.remove(question)
            question.tid = transaction.tid
            question.reply(master)
