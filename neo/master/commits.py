"""What a running master does for its clients: ids, and the end of transactions."""
from ..cluster.node import Refused, handles
from ..protocol.limits import MAX_OIDS_AHEAD
from ..protocol.packets import (ClientIsSilent, Finish, Invalidate, Lock, Sync, TakeOids, TakeTtids,
                                Unlock)
from ..protocol.types import MAX_OID, MAX_TID, ClusterState, ErrorCode, NodeKind
from . import announcements

CLIENT = NodeKind.CLIENT
RUNNING = ClusterState.RUNNING
SERVING = RUNNING, ClusterState.STOPPING


# -- ids ------------------------------------------------------------------------------------
def check_count(count, what):
    if not 0 < count <= MAX_OIDS_AHEAD:
        raise Refused(ErrorCode.REFUSED, '%d %s at once' % (count, what))


@handles(TakeTtids, sender=CLIENT, phase=RUNNING)
def take_ttids(master, peer, packet, request_id):
    check_count(packet.count, 'ttids')
    transactions = master.transactions
    if not transactions.are_left(packet.count):
        raise Refused(ErrorCode.REFUSED, 'this primary has no ttids left: restart it')
    first = transactions.take_ttids(packet.count)
    peer.data.take(first, packet.count)
    master.answer(peer, request_id, TakeTtids.Answer(first, packet.count))


@handles(TakeOids, sender=CLIENT, phase=RUNNING)
def take_oids(master, peer, packet, request_id):
    check_count(packet.count, 'oids')
    master.oids.ask(master, peer, request_id, packet.count)


@handles(Sync, sender=CLIENT, phase=SERVING)
def sync(master, peer, packet, request_id):
    transactions = master.transactions

    def confirmed(master):
        if master.transactions is transactions and peer.connection in master.peers:
            master.answer(peer, request_id, Sync.Answer(transactions.last_told))
    master.confirmation.ask(master, confirmed)


# -- the end of a transaction -----------------------------------------------------------------
@handles(Finish, sender=CLIENT, phase=SERVING)
def finish(master, peer, packet, request_id):
    transactions = master.transactions
    ttid = packet.ttid
    if ttid not in peer.data.ttids:
        raise Refused(ErrorCode.RETRY, 'transaction %#x was not begun here by this client, or has'
                      ' ended' % ttid)
    if master.tables.pending:
        # Who has to have voted is known when the cells of who was lost are out of date.
        transactions.parked.append((peer, packet, request_id))
        return
    highest = check_oids(packet)
    if packet.imposed:
        check_imposed(master, packet)
    table = master.tables.in_force
    routing = master.tables.sent_in_force(packet.table)
    written, touched = rows(packet, table.partitions)
    storages = check_votes(master, packet, touched, routing)
    try:
        transaction = transactions.finish(
            ttid, packet.oids, packet.imposed, storages, peer, request_id,
            master.clock.time(master.now), table.partitions)
    except OverflowError as error:
        raise Refused(ErrorCode.REFUSED, str(error))
    del peer.data.ttids[ttid]
    master.oids.seen(highest)
    if table.out_of_date:
        master.filling.missed(written, {storage.id for storage in storages}, routing,
                              transaction.tid)
    packet = Lock(ttid, transaction.changes[0][0], transaction.tid, tuple(sorted(written)))
    for storage in storages:
        master.ask(storage, packet, transaction)


def take_parked(master):
    """Go on with what has waited for a table, if that is in force."""
    if master.tables.pending or master.transactions is None:
        return
    parked, master.transactions.parked = master.transactions.parked, []
    for peer, packet, request_id in parked:
        if peer.connection in master.peers:
            try:
                finish(master, peer, packet, request_id)
            except Refused as refusal:
                master.refuse(peer, request_id, refusal.error, str(refusal))


def check_oids(packet):
    """The highest oid it has written."""
    highest = max(packet.oids, default=0)
    for imported in packet.imposed:
        if imported.oids:
            highest = max(highest, max(imported.oids))
    if highest > MAX_OID:
        raise Refused(ErrorCode.REFUSED, 'oid %#x is above the highest one, %#x'
                      % (highest, MAX_OID))
    return highest


def check_imposed(master, packet):
    if packet.oids:
        raise Refused(ErrorCode.REFUSED, 'an import with oids of no tid')
    last = last_given = master.transactions.last_given
    for imported in packet.imposed:
        if imported.tid <= last:
            raise Refused(ErrorCode.REFUSED, 'tid %#018x is not above %#018x'
                          % (imported.tid, last))
        last = imported.tid
    if last > MAX_TID or not master.clock.is_possible(last, last_given, master.now):
        raise Refused(ErrorCode.REFUSED, 'tid %#018x is far ahead of the clocks of the cluster'
                      % last)


def check_votes(master, packet, touched, routing):
    """Every readable cell of each touched row has voted, in its present session; the Peers of all
    storages that voted, or Refused (docs/architecture.md, "Life of a transaction").  What a storage
    has voted is what the table that the client has routed by says it should be given."""
    storages, away = {}, set()
    known, table = master.members.storages, master.tables.in_force
    for ballot in packet.voted:
        id = ballot.storage
        if id in storages or id in away:
            raise Refused(ErrorCode.REFUSED, '%s has voted twice' % id)
        peer = known.get(id)
        if peer is None or peer.data.session != ballot.session or (
                not announcements.belongs(master, id)):
            away.add(id)                # or it was dropped
        else:
            storages[id] = peer
    readable, given = table.readable, routing.writable
    for row in touched:
        for id in readable[row]:
            if id not in storages or id not in given[row]:
                raise Refused(ErrorCode.RETRY, '%s has been away since it voted' % id
                              if id in away else '%s has not voted' % id)
    if not storages:
        raise Refused(ErrorCode.REFUSED, 'nobody has voted')
    return list(storages.values())


def rows(packet, partitions):
    """`(written, touched)`: the rows of its oids and metadata, and with those only checked."""
    written = {oid % partitions for oid in packet.oids}
    if not packet.imposed:
        written.add(packet.ttid % partitions)
    for imported in packet.imposed:
        written.add(imported.tid % partitions)
        written.update(oid % partitions for oid in imported.oids)
    if not packet.checked:
        return written, written
    return written, written.union(oid % partitions for oid in packet.checked)


def tell(master, transaction):
    """Everybody may hear of it, and then its storages may show it."""
    client = transaction.client
    if transaction.refusal is not None:
        fail(master, transaction)
        return
    if client.connection in master.peers:
        master.answer(client, transaction.request_id,
                      Finish.Answer(transaction.ttid, transaction.tid))
    for tid, oids in transaction.changes:
        packet = Invalidate(tid, oids)
        for peer in master.members.clients.values():
            if peer is not client:
                master.send(peer, packet)
    packet = Unlock(transaction.ttid)
    for storage in transaction.storages:
        master.send(storage, packet)
    master.outcomes.known(master, transaction.ttid, transaction.tid)


def fail(master, transaction):
    """Somebody has not voted as its client says."""
    storage, error = transaction.refusal
    client = transaction.client
    if transaction.storages:
        # Others have locked it: what is locked and not told ends by a recovery only.
        master.begin_again('%s has not voted what %s has finished: %s' % (
            storage, client, error.message))
        return
    if client.connection in master.peers:
        master.refuse(client, transaction.request_id, ErrorCode.RETRY, error.message)
    master.outcomes.known(master, transaction.ttid, None)


# -- clients that keep others waiting -----------------------------------------------------------
@handles(ClientIsSilent, sender=NodeKind.STORAGE)
def client_is_silent(master, peer, packet, request_id):
    client = master.members.clients.get(packet.client)
    if client is not None:              # else it has gone meanwhile
        master.drop(client, 'it blocks others, and says nothing')
