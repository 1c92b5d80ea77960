"""All that is committed, as the engines hold it at the end."""
from bisect import bisect_left

from ..protocol.types import MAX_ID


def all_of(call):
    """All that `transactions` or `records` of an engine gives: `call(place)` gives a part."""
    found, place = call(None)
    found = list(found)
    while place is not None:
        more, place = call(place)
        found += more
    return found


class Past:
    """`revisions[oid]` is a sorted list of tids, `data[oid, tid]` what was written,
    `transactions[tid]` is (ttid, oids)."""

    def __init__(self):
        self.transactions = {}
        self.revisions = {}
        self.data = {}
        self.cuts = ()              # of the table
        self.different = []         # complaints: cells of one row that do not hold the same
        self.left_over = []         # complaints: what is of rows that are not there

    def before(self, oid, tid):
        """`(tid, next tid)` of the last revision below `tid`, or None."""
        tids = self.revisions.get(oid, ())
        at = bisect_left(tids, tid)
        if at:
            return tids[at - 1], tids[at] if at < len(tids) else None


def read_past(table, engines):
    """Collect a Past from `{storage id: engine}`, and compare the cells of each row."""
    past = Past()
    past.cuts = table.cuts
    partitions = table.partitions
    for row in range(partitions):
        contents = {storage: _row(engines[storage], partitions, row)
                    for storage in table.readable[row]}
        (first, content), *others = contents.items()
        for other, their in others:
            for here, there, what in zip(content, their, ('transactions', 'records')):
                if here != there:
                    past.different.append('row %d: %s of %s and %s differ: %s' % (
                        row, what, first, other, sorted(_keys(here) ^ _keys(there))[:3]))
        transactions, records = content
        for transaction in transactions:
            past.transactions[transaction[0]] = transaction[1], transaction[-1]
        for record in records:
            oid, tid, data = record[0], record[1], record[4]
            past.revisions.setdefault(oid, []).append(tid)
            past.data[oid, tid] = data
        for storage in table.storages():
            if storage not in table.rows[row] and any(_row(engines[storage], partitions, row)):
                past.left_over.append('%s has something of row %d' % (storage, row))
    for tids in past.revisions.values():
        tids.sort()
    return past


def _keys(rows):
    return {row[:2] for row in rows}


def _row(engine, partitions, row):
    limits = partitions, (row,), 1000, 1 << 20
    return (all_of(lambda place: engine.transactions(place or 0, MAX_ID, *limits)),
            all_of(lambda place: engine.records(*(place or (0, None)), MAX_ID, *limits)))
