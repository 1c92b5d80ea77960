"""What another storage sends of its rows is looked at before it is put in: who sends something else
than was asked for, or something broken, must not spoil what is here."""
from ..protocol.checksum import checksum
from ..protocol.packets import ListRecords, ListTransactions
from ..protocol.types import MAX_ID


def before(tid, after_oid):
    """The position, (tid, oid), after which records go on."""
    return (tid - 1, MAX_ID) if after_oid is None else (tid, after_oid)


def wrong_with(answer, packet, partitions):
    """In words, if this can't be the answer to `packet`; else None."""
    rows = set(packet.rows)
    if type(packet) is ListTransactions:
        return _wrong_with_transactions(answer, packet, rows, partitions)
    if type(packet) is ListRecords:
        return _wrong_with_records(answer, packet, rows, partitions)
    if not rows.issuperset([told.row for told in answer.told]):
        return 'it tells of other rows than it was asked for'
    return None


def _wrong_with_transactions(answer, packet, rows, partitions):
    tids, next = [it.tid for it in answer.transactions], answer.next
    if not _grow(packet.start - 1, tids, packet.stop if next is None else next) or (
            next is not None and not packet.start < next < packet.stop) or (
            not rows.issuperset([tid % partitions for tid in tids])):
        return 'it sends other transactions than it was asked for'
    return None


def _wrong_with_records(answer, packet, rows, partitions):
    first, last = before(packet.start, packet.after_oid), (packet.stop, -1)
    keys, next = [(it.tid, it.oid) for it in answer.records], answer.next
    if not _grow(first, keys, last) or (
            next is not None and not _goes_on(before(*next), first, keys, last)) or (
            not rows.issuperset([oid % partitions for _, oid in keys])):
        return 'it sends other records than it was asked for'
    for record in answer.records:
        if checksum(record.data) != record.checksum:
            return 'object %#x at %#x does not match its checksum' % (record.oid, record.tid)
    return None


def _goes_on(next, first, keys, last):
    return first < next < last and (not keys or keys[-1] <= next)


def _grow(first, between, last):
    values = [first, *between, last]
    return all([a < b for a, b in zip(values, values[1:])])
