"""What a storage lets clients read: never something of which others may not know yet."""
from ..cluster.node import Refused, handles
from ..protocol.packets import ListRecords, ListTransactions, Load, Measure, ObjectHistory
from ..protocol.types import ClusterState, ErrorCode, NodeKind
from .engine.interface import BrokenData
from .serve_clients import park

CLIENT = NodeKind.CLIENT
RUNNING = ClusterState.RUNNING


def not_here(node, row):
    return Refused(ErrorCode.NOT_HERE, '%s has no readable cell of row %d' % (node.id, row))


def unbroken(read, *args):
    try:
        return read(*args)
    except BrokenData as error:
        raise Refused(ErrorCode.BROKEN_DATA, str(error))


def must_wait(node, peer, packet, request_id):
    """Check that the object of a read is here; true if the read was parked."""
    row = packet.oid % node.partitions
    if row not in node.readable:
        raise not_here(node, row)
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
    found = unbroken(node.engine.load, oid, packet.before)
    if found is None:
        if unbroken(node.engine.current, oid) is None:
            raise Refused(ErrorCode.NO_OBJECT, 'no object %#x' % oid)
        raise Refused(ErrorCode.NO_REVISION, 'object %#x has no revision before %#x'
                      % (oid, packet.before))
    tid, next_tid, _, _, data, _ = found
    if data is None:
        raise Refused(ErrorCode.NO_OBJECT if next_tid is None else ErrorCode.NO_REVISION,
                      'object %#x was deleted at %#x' % (oid, tid))
    node.answer(peer, request_id, Load.Answer(oid, *found))


@handles(ObjectHistory, sender=CLIENT, phase=RUNNING)
def object_history(node, peer, packet, request_id):
    if must_wait(node, peer, packet, request_id):
        return
    revisions = unbroken(node.engine.history, packet.oid, packet.before,
                         min(packet.limit, node.amounts.chunk_rows))
    if not revisions and unbroken(node.engine.current, packet.oid) is None:
        raise Refused(ErrorCode.NO_OBJECT, 'no object %#x' % packet.oid)
    node.answer(peer, request_id, ObjectHistory.Answer(packet.oid, revisions))


def range_must_wait(node, peer, packet, request_id):
    """The same for a range of tids."""
    for row in packet.rows:
        if row not in node.readable:
            raise not_here(node, row)
    ttid = node.transactions.locked_below(packet.stop)
    if ttid is None:
        return False
    park(node, peer, packet, request_id, ttid)
    return True


@handles(ListTransactions, sender=CLIENT, phase=RUNNING)
def list_transactions(node, peer, packet, request_id):
    if not range_must_wait(node, peer, packet, request_id):
        node.answer(peer, request_id, ListTransactions.Answer(*unbroken(
            node.engine.transactions, packet.start, packet.stop, node.partitions, packet.rows,
            node.amounts.chunk_rows, node.amounts.chunk)))


@handles(ListRecords, sender=CLIENT, phase=RUNNING)
def list_records(node, peer, packet, request_id):
    if not range_must_wait(node, peer, packet, request_id):
        node.answer(peer, request_id, ListRecords.Answer(*unbroken(
            node.engine.records, packet.start, packet.after_oid, packet.stop, node.partitions,
            packet.rows, node.amounts.chunk_rows, node.amounts.chunk)))


@handles(Measure, sender=CLIENT, phase=RUNNING)
def measure(node, peer, packet, request_id):
    node.answer(peer, request_id, Measure.Answer(*node.engine.measure()))
