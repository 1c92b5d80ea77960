"""What clients claim, compared with what is known here.

A claim that does not hold fails that request, and so that transaction: it harms nobody else.
Raises Refused before anything is changed.
"""
from ..cluster.ids import term_of
from ..cluster.node import Refused
from ..protocol.limits import MAX_OBJECT
from ..protocol.types import MAX_OID, MAX_TID, ErrorCode
from .conditions import look
from .transaction import OPEN


def refused(message, *args):
    return Refused(ErrorCode.REFUSED, message % args)


def not_here(node, row):
    return Refused(ErrorCode.NOT_HERE, '%s has no cell of row %d' % (node.id, row))


def own(node, peer, ttid):
    """The transaction of this client that is still open, or None."""
    txn = node.transactions.by_ttid.get(ttid)
    if txn is not None:
        if txn.client is not peer.data:
            raise refused('transaction %#x is of another client', ttid)
        if txn.tid is not None:
            raise refused('transaction %#x is being finished', ttid)
    return txn


def open_for_stores(node, peer, ttid):
    """The same; no stores come by the ttid of another term."""
    txn = own(node, peer, ttid)
    if txn is None:
        if term_of(ttid) != node.term:
            raise Refused(ErrorCode.UNKNOWN_TTID, 'transaction %#x is of another term' % ttid)
        if node.draining:
            raise Refused(ErrorCode.NOT_READY, 'the cluster is stopping')
    return txn


def stores(node, txn, packet):
    """Are these records and checks for rows that are here, and with tids that may be?  Returns the
    bytes of data."""
    partitions, here, size = node.partitions, node.writable, 0
    imposes = None if txn is None or not txn.writes else bool(txn.imposed)
    for oid, _, tid, _, _, data, data_tid in packet.records:
        if oid % partitions not in here:
            raise not_here(node, oid % partitions)
        if imposes is not (tid is not None):
            if imposes is not None:
                raise refused('some records of transaction %#x impose a tid, and some do not',
                              packet.ttid)
            imposes = tid is not None
        if oid > MAX_OID or (tid is not None and not 0 < tid <= MAX_TID):
            raise refused('object %#x with tid %r: that is out of range', oid, tid)
        if data is not None:
            size += len(data)
        elif data_tid is not None:
            _data_elsewhere(node, oid, tid, data_tid)
    for oid, _ in packet.checks:
        if oid > MAX_OID:
            raise refused('object %#x is out of range', oid)
        if oid % partitions not in here:
            raise not_here(node, oid % partitions)
    return size


def _data_elsewhere(node, oid, tid, data_tid):
    """An undo.  Of an import, the data may be under way as well."""
    if oid % node.partitions not in node.readable:
        return                          # who can read the row sees to it
    if tid is None:
        found = look(node, node.engine.load, oid, data_tid + 1)
        there = found is not None and found[0] == data_tid and found[4] is not None
    else:
        there = data_tid < tid
    if not there:
        raise refused('object %#x has no data at %#x', oid, data_tid)


def vote(node, txn, packet):
    """Is all here that its client says it has stored here, and do its metadata fit it?  Returns
    the bytes of the metadata."""
    if txn is not None and txn.state is not OPEN:
        raise refused('transaction %#x is being voted already', packet.ttid)
    records = packet.records
    held = {record.oid for record in records}
    imposed = set()
    if records and records[0].tid is not None:
        imposed.update([record.tid for record in records])
    if txn is not None:
        held.update(txn.writes)
        imposed.update(txn.imposed)
    if not held.issuperset(packet.oids):
        raise Refused(ErrorCode.UNKNOWN_TTID, 'not all of transaction %#x is here' % packet.ttid)
    return _metadata(node, packet, held, imposed)


def _metadata(node, packet, held, imposed):
    size, last, partitions, here = 0, 0, node.partitions, node.writable
    for tid, status, user, description, extension, oids in packet.transactions:
        if tid is None:
            if last or imposed or len(packet.transactions) > 1:
                raise refused('transaction %#x has several metadata, or imposes tids and does not',
                              packet.ttid)
        elif not last < tid <= MAX_TID:
            raise refused('transaction %#x imposes tid %#x after %#x', packet.ttid, tid, last)
        elif held and not imposed:
            raise refused('the metadata of transaction %#x impose a tid, and its records do not',
                          packet.ttid)
        last = tid or 0
        row = (packet.ttid if tid is None else tid) % partitions
        if row not in here:
            raise not_here(node, row)
        one = len(user) + len(description) + len(extension) + 9 * len(oids)
        if one > MAX_OBJECT:
            raise refused('transaction %#x is too large', packet.ttid)
        size += one
    if imposed:
        # Where a cell is new, clients that do not know of it yet send nothing.
        missing = {tid for tid in imposed if tid % partitions in node.readable}.difference(
            [described.tid for described in packet.transactions])
        if missing:
            # Its client may know of a table that takes the row away from here.
            raise Refused(ErrorCode.RETRY, 'transaction %#x has no metadata for tid %#x' % (
                packet.ttid, min(missing)))
    return size


def lock(node, txn, packet):
    """Does the tid that the primary has chosen, by what the client has told it, fit what the
    client has stored here?"""
    first, tid, partitions = packet.first, packet.tid, node.partitions
    if not node.transactions.last_tid < first <= tid <= MAX_TID:
        raise refused('tid %#x to %#x after %#x', first, tid, node.transactions.last_tid)
    if not txn.fits(first, tid):
        raise refused('transaction %#x has imposed tids %#x to %#x here, not %#x to %#x',
                      txn.ttid, min(txn.imposed), max(txn.imposed), first, tid)
    row = tid % partitions              # its cell may have been taken away since the vote
    if not txn.imposed and txn.metadata and (
            first != tid or row not in node.writable and row != txn.ttid % partitions):
        raise refused('tid %#x does not fit transaction %#x', tid, txn.ttid)
    rows = packet.rows if len(packet.rows) < 10 else set(packet.rows)
    for oid in txn.writes:
        if oid % partitions not in rows:
            raise refused('transaction %#x has written in row %d as well', txn.ttid,
                          oid % partitions)
    for row in rows:
        if row >= partitions:
            raise refused('there is no row %d', row)
