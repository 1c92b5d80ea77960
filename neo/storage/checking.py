"""What a storage says of its rows to the primary, which compares it with what others say."""
import msgpack

from ..cluster.node import Refused, handles
from ..protocol.checksum import checksum
from ..protocol.packets import Digest
from ..protocol.types import ClusterState, ErrorCode, NodeKind, RecordPosition
from .engine.interface import BrokenData
from .reads import not_readable
from .serve_master import obeyed

NOTHING = checksum(b'')


@handles(Digest, sender=NodeKind.MASTER, phase=ClusterState.RUNNING)
def digest(node, peer, packet, request_id):
    obeyed(node, peer)
    if packet.row not in node.readable:
        raise not_readable(node, packet.row)
    # The primary asks for what was told, and has said before that it is.
    if node.transactions.locked_below(_end(packet.stop)) is not None:
        raise Refused(ErrorCode.NOT_READY, 'something below is locked')
    answer = _metadata if packet.metadata else _records
    try:
        answer = answer(node, packet)
    except BrokenData as error:
        answer = _broken(packet, error.position)
        if answer.broken:
            node.conditions.broken(error)
    node.answer(peer, request_id, answer)


def _metadata(node, packet):
    found, next = node.engine.transactions(
        packet.start.tid, packet.stop.tid, node.partitions, (packet.row,), *_chunk(node))
    return Digest.Answer(checksum(msgpack.packb(found)), len(found), False,
                         packet.stop if next is None else RecordPosition(next, None))


def _records(node, packet):
    start, stop = packet.start, packet.stop
    found, next = node.engine.records(
        *start, _end(stop), node.partitions, (packet.row,), *_chunk(node))
    last = stop.place
    # Their data match their checksums: the engine has looked.
    content = [(oid, tid, compression, sum, data is None, data_tid)
               for oid, tid, compression, sum, data, data_tid in found if (tid, oid) <= last]
    reached = next is None or len(content) < len(found) or next.place > last
    return Digest.Answer(checksum(msgpack.packb(content)), len(content), False,
                         stop if reached else next)


def _end(stop):
    """The lowest tid that is wholly behind it."""
    return stop.tid if stop.after_oid is None else stop.tid + 1


def _chunk(node):
    return node.amounts.fill_rows, node.amounts.fill_chunk


def _broken(packet, position):
    """The answer for the one that is broken, if that can be known and is in the range."""
    stop = packet.stop
    if position is None:
        return Digest.Answer(NOTHING, 0, True, stop)
    tid, oid = position
    next = RecordPosition(tid + 1, None) if oid is None else RecordPosition(tid, oid)
    if next.place > stop.place:
        return Digest.Answer(checksum(msgpack.packb([])), 0, False, stop)
    return Digest.Answer(NOTHING, 1, True, next)
