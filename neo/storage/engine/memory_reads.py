"""How the engine in plain Python reads the history."""
from bisect import bisect_left, bisect_right

from ...protocol.checksum import checksum
from ...protocol.limits import SCAN_ROWS
from ...protocol.types import MAX_ID, RecordPosition, Revision, StoredRecord
from .interface import BrokenData, Engine

NOTHING = 0, b'', None, None


class MemoryReads(Engine):

    # -- one object -----------------------------------------------------------------------
    def _visible(self, oid):
        """Its tids, sorted."""
        tids = self._revisions.get(oid, ())
        if self._hidden.ranges:
            return [tid for tid in tids if self._hidden.around(tid) is None]
        return tids

    def load(self, oid, before):
        tids = self._visible(oid)
        i = bisect_left(tids, before)
        if i:
            tid = tids[i - 1]
            return tid, tids[i] if i < len(tids) else None, *self._whole(oid, tid)

    def _whole(self, oid, tid):
        """(compression, checksum, data, data_tid), with the data wherever they are; raises
        BrokenData."""
        found = self._found(oid, tid)
        if (tid, oid) in self.broken or checksum(found[2]) != found[1]:
            raise BrokenData('object %#x is broken at %#x' % (oid, tid), (tid, oid))
        return found

    def _found(self, oid, tid):
        return self._follow(oid, tid, self._data[oid, tid])

    def _follow(self, oid, tid, revision):
        """This one of (oid, tid), with the data wherever they are."""
        compression, sum, data, data_tid = revision
        there = data_tid
        # Tids only get lower on the way: there is no circle, whatever was stored.
        while data is None and there is not None and there < tid:
            tid = there
            hidden = self._hidden.around(tid)
            compression, sum, data, there = (
                NOTHING if hidden else self._data.get((oid, tid), NOTHING))
        return revision if data is None else (compression, sum, data, data_tid)

    def current(self, oid):
        tids = self._visible(oid)
        return tids[-1] if tids else None

    def history(self, oid, before, limit):
        tids = self._visible(oid)
        stop = bisect_left(tids, before)
        return [Revision(tid, len(self._found(oid, tid)[2] or b''))
                for tid in reversed(tids[max(0, stop - limit):stop])]

    # -- ranges of tids -------------------------------------------------------------------
    def transactions(self, start, stop, partitions, rows, max_rows, max_bytes):
        start, stop, after = self._hidden.part(start, stop)
        rows, found, size = set(rows), [], 0
        first, end = bisect_left(self._tids, start), bisect_left(self._tids, stop)
        tid = None
        for tid in self._tids[first:min(end, first + SCAN_ROWS)]:
            if tid % partitions in rows:
                if (tid, None) in self.broken:
                    if found:
                        return found, found[-1].tid + 1
                    raise BrokenData('the metadata of transaction %#x are broken' % tid,
                                     (tid, None))
                found.append(self._transactions[tid])
                size += size_of(found[-1])
                if size >= max_bytes or len(found) >= max_rows:
                    break
        return found, tid + 1 if tid is not None and tid != self._tids[end - 1] else after

    def records(self, start, after_oid, stop, partitions, rows, max_rows, max_bytes):
        first, stop, after = self._hidden.part(start, stop)
        after = after and RecordPosition(after, None)
        after_oid = -1 if after_oid is None or first > start else after_oid
        rows, found, size = set(rows), [], 0
        first = bisect_right(self._order, (first, after_oid))
        end = bisect_right(self._order, (stop - 1, MAX_ID))
        at = None
        for at in self._order[first:min(end, first + SCAN_ROWS)]:
            tid, oid = at
            if oid % partitions in rows:
                try:
                    found.append(StoredRecord(oid, tid, *self._whole(oid, tid)))
                except BrokenData:
                    if found:
                        return found, RecordPosition(found[-1].tid, found[-1].oid)
                    raise
                size += size_of(found[-1])
                if size >= max_bytes or len(found) >= max_rows:
                    break
        return found, (RecordPosition(*at) if at is not None and at != self._order[end - 1]
                       else after)

    def find(self, first, tid):
        start, stop = first, tid + 1
        while start is not None:
            start, end, after = self._hidden.part(start, stop)
            i, j = bisect_left(self._order, (start, -1)), bisect_left(self._tids, start)
            if (i < len(self._order) and self._order[i][0] < end
                    or j < len(self._tids) and self._tids[j] < end):
                return True
            start = after
        return False

    # -- the whole ------------------------------------------------------------------------
    def tid_of(self, ttid):
        tids = self._tids_of.get(ttid)
        return None if not tids or self._hidden.around(tids[-1]) else tids[-1]

    def last_tid(self):
        return max(self._last(self._order, lambda item: item[0], lambda tid: (tid, -1)),
                   self._last(self._tids, lambda item: item, lambda tid: tid))

    def _last(self, items, tid_of, lowest):
        stop = len(items)
        while stop:
            tid = tid_of(items[stop - 1])
            around = self._hidden.around(tid)
            if around is None:
                return tid
            stop = bisect_left(items, lowest(around[0]))
        return 0

    def last_oid(self):
        return max(self._revisions, default=-1)

    def measure(self):
        return len(self._revisions), self._used


def size_of(row):
    """Bytes of a record, a revision or metadata; oids and tids count for 8."""
    return 8 + sum([len(field) * (8 if type(field) is tuple else 1)
                    for field in row if isinstance(field, (bytes, str, tuple))])
