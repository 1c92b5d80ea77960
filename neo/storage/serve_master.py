"""What a storage does for its primary: obey a term, keep tables, settle, lock and unlock."""
import logging

from ..cluster.cuts import LEFT_OUT, history_of, is_left_out, knows
from ..cluster.ids import LETTERS, tid_text
from ..cluster.node import Refused, handles
from ..cluster.partition_table import PartitionTable
from ..cluster.seek import FINAL
from ..protocol.codec import ProtocolError
from ..protocol.packets import (Canvass, ClusterStateChanged, ConfirmTerm, Drain, Error,
                                FindTransactions, Identify, Leave, Lock, NodesChanged,
                                RemoveAbove, RequestTerm, ReserveOids, Settle, TableChanged,
                                TableInForce, Unlock, WhatBecameOf, WriteTable)
from ..protocol.types import (MAX_OID, MAX_TID, ClusterState, ErrorCode, NodeKind, NodeState,
                              RowTid, TableKey)
from . import claims, serve_clients
from .conditions import look
from .transaction import LOCKED, VOTED

CLEAN = 'clean'                 # name of background work: what was dropped

MASTER = NodeKind.MASTER
RECOVERING, RUNNING = ClusterState.RECOVERING, ClusterState.RUNNING


# -- joining --------------------------------------------------------------------------------
@handles(Identify.Answer, sender=MASTER)
def joined(node, peer, answer, context):
    state = node.state
    if state.is_member and answer.cluster_id not in (None, state.cluster_id):
        _refused(node, peer, 'the database belongs to another cluster %s than that of the master'
                 % node.cluster)
        return
    node.accept(peer, MASTER, answer.id)
    node.joined(peer, answer.your_id, answer.session)


@handles(Error, sender=MASTER)
def not_joined(node, peer, error, context):
    if error.error in FINAL:
        _refused(node, peer, 'the master refuses this storage: %s' % error.message)
    else:
        node.close(peer)
        peer.data.lost(node, error.message)


def _refused(node, peer, reason):
    """For good."""
    if node.masters.may_be_wrong():
        node.close(peer)
        peer.data.lost(node, reason)
    else:
        node.give_up(reason)


# -- recovery -------------------------------------------------------------------------------
def obeyed(node, peer):
    """Is `peer` the one that has been promised the highest term?"""
    if peer is not node.master:
        raise Refused(ErrorCode.REFUSED, 'no term was promised on this connection')


@handles(Canvass, sender=MASTER)
def canvass(node, peer, packet, request_id):
    state = node.state
    node.answer(peer, request_id, Canvass.Answer(
        state.term, node.masters.is_led(node, peer), state.cluster_id if state.is_member else None,
        state.table, state.in_force, state.members))


@handles(ConfirmTerm, sender=MASTER)
def confirm_term(node, peer, packet, request_id):
    node.answer(peer, request_id, ConfirmTerm.Answer(packet.term == node.state.term))


@handles(RequestTerm, sender=MASTER)
def request_term(node, peer, packet, request_id):
    state = node.state
    promised = state.term, state.candidate
    granted = packet.term > state.term or (packet.term, packet.candidate) == promised
    if granted:
        node.stop_serving('term %d begins' % packet.term)
        state.put(term=packet.term, candidate=packet.candidate)
        node.obey(peer, packet.term)
        node.log('%s recovers the cluster, in term %d', peer, packet.term)
        serve_clients.admit_waiting(node)
    else:
        node.log('%s asks for term %d, but %d was promised before: a higher one is needed', peer,
                 packet.term, state.term)
    node.durable()
    engine = node.engine
    node.answer(peer, request_id, RequestTerm.Answer(
        granted, state.term, state.table, state.in_force, state.members, engine.last_tid(),
        max(state.next_oid(), node.transactions.next_oid()), node.transactions.unfinished(),
        [RowTid(*told) for told in engine.told()], float(node.now),
        state.history if state.is_member else None, node.filling.cells.have(node)))


@handles(WriteTable, sender=MASTER)
def write_table(node, peer, packet, request_id):
    obeyed(node, peer)
    state, table = node.state, packet.table
    key = TableKey(table.term, table.ptid)
    if table.term != node.term:
        raise Refused(ErrorCode.REFUSED, 'a table of term %d, while %d is promised'
                      % (table.term, node.term))
    if state.is_member:
        if state.cluster_id != packet.cluster_id or not knows(
                table.cuts, packet.history, state.history):
            raise Refused(ErrorCode.ANOTHER_CLUSTER, 'the database belongs to another cluster')
        if is_left_out(table.cuts, state.history, state.identity):
            raise Refused(ErrorCode.ANOTHER_CLUSTER, LEFT_OUT)
        if state.partitions != packet.partitions:
            raise Refused(ErrorCode.REFUSED, 'the cluster has %d partitions, not %d'
                          % (state.partitions, packet.partitions))
        if tuple(state.table_key) > tuple(key):
            raise Refused(ErrorCode.REFUSED, 'a later table is known')
    if any(member.id == node.id and member.identity != state.identity
           for member in packet.members):
        raise Refused(ErrorCode.REFUSED, '%s is the id of another storage' % node.id)
    if len(table.rows) != packet.partitions or not packet.partitions:
        raise Refused(ErrorCode.REFUSED, 'a table of %d rows for %d partitions'
                      % (len(table.rows), packet.partitions))
    state.put(cluster_id=packet.cluster_id, id=node.id, partitions=packet.partitions, table=table,
              members=packet.members)
    node.written[key] = packet
    node.filling.cells.table_written(node, table)
    node.masters.elected()
    node.durable()
    node.answer(peer, request_id, WriteTable.Answer(key))


@handles(TableInForce, sender=MASTER)
def table_in_force(node, peer, packet, request_id):
    obeyed(node, peer)
    written = node.written
    if packet.key in written:
        # Tables come in force one after another: so those before it were, though nobody has said
        # so here.  What they have taken away, and this one gives back, was written without us.
        for key in sorted(key for key in written if key <= packet.key):
            put_in_force(node, written[key])
        node.written = {key: later for key, later in written.items() if key > packet.key}
        serve_clients.tell(node)


def put_in_force(node, written):
    """This WriteTable of the present term."""
    table, state = written.table, node.state
    before = state.in_force and PartitionTable.unpack(state.in_force)
    if before is None:
        # There is nothing of a former one.
        state.put(history=history_of(table.cuts, written.history))
    state.put(in_force=table)
    node.lazily()
    node.use_table(PartitionTable.unpack(table))
    node.filling.table_in_force(node, before, node.table)
    node.leftovers.table_in_force(before, node.table)


@handles(TableChanged, sender=MASTER)
def table_changed(node, peer, packet, request_id):
    if node.term is None or node.state.table is None:
        return                          # all is told again to who has written a table
    if len(packet.table.rows) != node.state.partitions:
        raise ProtocolError('a table of %d rows' % len(packet.table.rows))
    node.use_table(PartitionTable.unpack(packet.table))


@handles(Settle, sender=MASTER, phase=RECOVERING)
def settle(node, peer, packet, request_id):
    obeyed(node, peer)
    for kept in packet.keep:
        if kept.tid is None or not kept.first <= kept.tid <= MAX_TID:
            raise Refused(ErrorCode.REFUSED, '%r can\'t be kept' % (kept,))
    transactions = node.transactions
    if transactions.kept and node.locking.busy:
        raise Refused(ErrorCode.NOT_READY, 'it is being settled already')
    left = transactions.settle(packet.keep, node.state.partitions)
    node.tidy()

    def prepared(txn):
        transactions.lock_kept(txn)
        if not transactions.kept:
            settled(node, peer, request_id)

    for txn in left:
        node.locking.begin(txn, prepared)
    if not left:
        settled(node, peer, request_id)


def settled(node, peer, request_id):
    node.transactions.are_settled()
    mark = node.state.next_oid()
    if mark > node.state.oid_mark:
        node.state.put(oid_mark=mark)
    node.durable()
    node.answer(peer, request_id, Settle.Answer(node.transactions.last_tid))


@handles(FindTransactions, sender=MASTER)
def find_transactions(node, peer, packet, request_id):
    obeyed(node, peer)
    engine = node.engine
    locked = {ttid for ttid, *_ in engine.locked()}
    # What its client has claimed to write here, and has not, has left no other trace.
    told = {tid for _, tid in engine.told()}
    node.answer(peer, request_id, FindTransactions.Answer([
        span.ttid for span in packet.transactions
        if span.ttid not in locked and (
            span.tid in told or look(node, engine.find, span.first, span.tid))]))


@handles(RemoveAbove, sender=MASTER, phase=RECOVERING)
def remove_above(node, peer, packet, request_id):
    obeyed(node, peer)
    if node.transactions.kept:
        raise Refused(ErrorCode.REFUSED, 'there is something to settle')
    # Oids of what is removed are not given again.
    node.state.put(history=packet.history, oid_mark=node.state.next_oid())
    if packet.tid < packet.last:
        node.log('what is above %s is removed', tid_text(packet.tid), level=logging.WARNING)
        node.engine.truncate(packet.tid + 1, packet.last)
        node.filling.cells.lower_to(packet.tid)
        node.transactions.refresh()
        node.tidy()
    node.durable()
    node.answer(peer, request_id, RemoveAbove.Answer(node.transactions.last_tid))


@handles(ReserveOids, sender=MASTER)
def reserve_oids(node, peer, packet, request_id):
    obeyed(node, peer)
    if packet.mark > MAX_OID:
        raise Refused(ErrorCode.REFUSED, 'the mark of oids can\'t be %#x' % packet.mark)
    if packet.mark > node.state.oid_mark:
        node.state.put(oid_mark=packet.mark)
    node.durable()
    node.answer(peer, request_id, ReserveOids.Answer(packet.mark))


@handles(Leave, sender=MASTER)
def leave(node, peer, packet, request_id):
    node.stop()
    node.exit(0, packet.reason)


@handles(ClusterStateChanged, sender=MASTER)
def cluster_state_changed(node, peer, packet, request_id):
    if node.master not in (None, peer):
        return                          # it speaks of its past
    if packet.state == ClusterState.STOPPING:
        node.log('the cluster stops')
        node.stop()
        node.exit(0, 'stopped')
    elif packet.state == RUNNING:
        obeyed(node, peer)
        if node.table is None:
            raise ProtocolError('RUNNING without a table')
        if node.phase != RUNNING:
            node.transactions.drop_kept()
            node.filling.serves(node)
            node.phase = RUNNING
            node.log('serving' if any(
                member.id == node.id and member.added for member in node.state.members)
                else 'waiting to be added to the cluster: neoctl add %s' % node.id)
            node.leftovers.begin()
            serve_clients.admit_waiting(node)
    elif packet.state == ClusterState.VERIFYING:
        node.masters.elected()
    else:
        node.masters.doubt()
        node.stop_serving(packet.reason or 'the cluster does not run')


@handles(Drain, sender=MASTER, phase=RUNNING)
def drain(node, peer, packet, request_id):
    node.draining, node.drain_request = True, request_id


def end_draining(node):
    """Answer, if all that was voted has come to an end."""
    if not any(txn.state is VOTED for txn in node.transactions.by_ttid.values()):
        request_id, node.drain_request = node.drain_request, None
        node.answer(node.master, request_id, Drain.Answer())


@handles(NodesChanged, sender=MASTER)
def nodes_changed(node, peer, packet, request_id):
    if node.term is None:
        return                          # they are announced again later
    for info in packet.nodes:
        if info.kind == NodeKind.CLIENT and info.state == NodeState.RUNNING:
            serve_clients.announced(node, info.id)
        elif info.kind == NodeKind.STORAGE:
            node.filling.sources.links.announced(node, info)
    for id in packet.removed:
        if id[0] == LETTERS[NodeKind.CLIENT]:
            serve_clients.removed(node, id)
        elif id[0] == LETTERS[NodeKind.STORAGE]:
            node.filling.sources.links.removed(node, id)
    serve_clients.admit_waiting(node)
    serve_clients.tell(node)


# -- commits --------------------------------------------------------------------------------
@handles(Lock, sender=MASTER, phase=RUNNING)
def lock(node, peer, packet, request_id):
    transactions, ttid = node.transactions, packet.ttid
    txn = transactions.by_ttid.get(ttid)
    if txn is not None and txn.tid is not None:
        raise Refused(ErrorCode.REFUSED, 'transaction %#x has its tid already' % ttid)
    if txn is None or txn.state is not VOTED:
        raise Refused(ErrorCode.UNKNOWN_TTID, 'transaction %#x was not voted here' % ttid)
    try:
        claims.lock(node, txn, packet)
    except Refused:
        # It can't be locked like this, by nobody: no recovery is to take it for one that can.
        serve_clients.forget(node, [txn])
        serve_clients.tell(node)
        raise
    transactions.begin_lock(txn, packet.first, packet.tid, packet.rows)
    if txn.in_engine:
        node.locking.begin(txn, lambda txn: locked(node, peer, request_id, txn))
    else:
        locked(node, peer, request_id, txn)


def locked(node, peer, request_id, txn):
    """Nothing is left to be prepared for its lock."""
    node.transactions.lock(txn)
    if txn.writes:
        mark = max(txn.writes) + 1
        if mark > node.state.oid_mark:
            node.state.put(oid_mark=mark)
    node.durable()
    node.answer(peer, request_id, Lock.Answer(txn.ttid))


@handles(Unlock, sender=MASTER)
def unlock(node, peer, packet, request_id):
    obeyed(node, peer)
    transactions, ttid = node.transactions, packet.ttid
    txn = transactions.by_ttid.get(ttid)
    if txn is not None:
        if txn.state is not LOCKED:
            raise ProtocolError('Unlock of transaction %#x, which is not locked' % ttid)
        transactions.unlock(txn)
        node.lazily()
        serve_clients.tell(node)
    elif transactions.unlock_settled(ttid):
        node.lazily()
    # Else it was ended here before a crash of others: everybody is told.
    if node.parked:
        serve_clients.unpark(node, ttid)


@handles(WhatBecameOf, sender=MASTER)
def what_became_of(node, peer, packet, request_id):
    obeyed(node, peer)
    txn = node.transactions.by_ttid.get(packet.ttid)
    tid = None if txn is None else txn.tid
    if tid is None:
        # A client may have begun again what is in the history.
        tid = look(node, node.engine.tid_of, packet.ttid)
    node.answer(peer, request_id, WhatBecameOf.Answer(packet.ttid, tid))
