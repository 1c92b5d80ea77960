"""What a storage lets clients read: never something of which others may not know yet."""
from ..cluster.node import Refused, handles
from ..protocol.packets import (ListRecords, ListTransactions, Load, Measure, ObjectHistory,
                                RowsTold)
from ..protocol.types import ClusterState, ErrorCode, NodeKind, RecordPosition, RowTid
from .conditions import look
from .serve_clients import park

CLIENT, STORAGE = NodeKind.CLIENT, NodeKind.STORAGE
RUNNING = ClusterState.RUNNING


def not_readable(node, row):
    return Refused(ErrorCode.NOT_HERE, '%s has no readable cell of row %d' % (node.id, row))


def must_wait(node, peer, packet, request_id):
    """Check that the object of a read is here; true if the read was parked."""
    row = packet.oid % node.partitions
    if row not in node.readable:
        raise not_readable(node, row)
    transactions = node.transactions
    if transactions.locked:
        ttid = transactions.locked_object(packet.oid, packet.before)
        if ttid is not None:
            park(node, peer, packet, request_id, ttid)
            return True
    return False


@handles(Load, sender=CLIENT, phase=RUNNING)
def load(node, peer, packet, request_id):
    if must_wait(node, peer, packet, request_id):
        return
    oid = packet.oid
    found = look(node, node.engine.load, oid, packet.before)
    if found is None:
        if look(node, node.engine.current, oid) is None:
            raise Refused(ErrorCode.NO_OBJECT, 'no object %#x' % oid)
        raise Refused(ErrorCode.NO_REVISION, 'object %#x has no revision before %#x'
                      % (oid, packet.before))
    tid, next_tid, *rest = found
    if next_tid is not None and node.transactions.locked_below(next_tid + 1) is not None:
        next_tid = None         # it may still be dropped: as far as anybody knows, nothing follows
    data = rest[2]
    if data is None:
        raise Refused(ErrorCode.NO_OBJECT if next_tid is None else ErrorCode.NO_REVISION,
                      'object %#x was deleted at %#x' % (oid, tid))
    node.answer(peer, request_id, Load.Answer(oid, tid, next_tid, *rest))


@handles(ObjectHistory, sender=CLIENT, phase=RUNNING)
def object_history(node, peer, packet, request_id):
    if must_wait(node, peer, packet, request_id):
        return
    revisions = look(node, node.engine.history, packet.oid, packet.before,
                     min(packet.limit, node.amounts.chunk_rows))
    if not revisions and look(node, node.engine.current, packet.oid) is None:
        raise Refused(ErrorCode.NO_OBJECT, 'no object %#x' % packet.oid)
    node.answer(peer, request_id, ObjectHistory.Answer(packet.oid, revisions))


def range_must_wait(node, peer, packet, request_id):
    """The same for a range of tids."""
    for row in packet.rows:
        if row not in node.readable:
            raise not_readable(node, row)
    ttid = node.transactions.locked_below(packet.stop)
    if ttid is None:
        return False
    park(node, peer, packet, request_id, ttid)
    return True


def chunk_for(node, peer):
    """`(rows, bytes)` of an answer."""
    amounts = node.amounts
    if peer.kind == STORAGE:
        return amounts.fill_rows, amounts.fill_chunk
    return amounts.chunk_rows, amounts.chunk


@handles(ListTransactions, sender=(CLIENT, STORAGE), phase=RUNNING)
def list_transactions(node, peer, packet, request_id):
    if range_must_wait(node, peer, packet, request_id):
        return
    transactions, next = look(
        node, node.engine.transactions, packet.start, packet.stop, node.partitions, packet.rows,
        *(chunk := chunk_for(node, peer)))
    size = 0
    for i, (tid, _, _, user, description, extension, oids) in enumerate(transactions):
        size += len(user) + len(description) + len(extension) + 9 * len(oids)
        if i and size > 2 * chunk[1]:
            transactions, next = transactions[:i], tid      # a large one comes alone
            break
    node.answer(peer, request_id, ListTransactions.Answer(transactions, next))


@handles(ListRecords, sender=(CLIENT, STORAGE), phase=RUNNING)
def list_records(node, peer, packet, request_id):
    if range_must_wait(node, peer, packet, request_id):
        return
    records, next = look(
        node, node.engine.records, packet.start, packet.after_oid, packet.stop, node.partitions,
        packet.rows, *(chunk := chunk_for(node, peer)))
    if len(records) > 1 and len(records[-1].data or b'') > chunk[1]:
        records = records[:-1]                              # the same
        next = RecordPosition(records[-1].tid, records[-1].oid)
    node.answer(peer, request_id, ListRecords.Answer(records, next))


@handles(RowsTold, sender=STORAGE, phase=RUNNING)
def rows_told(node, peer, packet, request_id):
    if range_must_wait(node, peer, packet, request_id):
        return
    rows = set(packet.rows)
    node.answer(peer, request_id, RowsTold.Answer(
        [RowTid(*it) for it in node.engine.told() if it.row in rows]))


@handles(Measure, sender=CLIENT, phase=RUNNING)
def measure(node, peer, packet, request_id):
    node.answer(peer, request_id, Measure.Answer(*look(node, node.engine.measure)))
