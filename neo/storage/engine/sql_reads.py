"""How an engine on an SQL database reads the history.

Ranges of hidden tids are rare: a look whether there are any is all they cost otherwise.
"""
from contextlib import closing

from ...protocol.checksum import checksum
from ...protocol.limits import SCAN_ROWS
from ...protocol.types import MAX_ID, RecordPosition, Revision, StoredMetadata, StoredRecord
from .interface import BrokenData, Engine
from .rows import is_whole, metadata_sum, unpack_oids

_new = tuple.__new__        # of a named tuple, in half of the time


class SqlReads(Engine):

    # -- one object -----------------------------------------------------------------------
    def load(self, oid, before):
        if self._hidden.ranges:
            return self._load_visible(oid, before)
        row = self._execute(self._sql.newest, (oid,)).fetchone()
        if row is None:
            return None
        next_tid = None
        if row[0] >= before:
            row = self._execute(self._sql.older, (oid, before - 1, oid, before - 1)).fetchone()
            if row is None:
                return None
            *row, next_tid = row
        tid, *revision = row
        return tid, next_tid, *self._whole(oid, tid, *revision)

    def _load_visible(self, oid, before):
        tid = self._below(oid, before - 1)
        if tid is not None:
            revision = self._execute(self._sql.revision, (oid, tid)).fetchone()
            return tid, self._above(oid, tid + 1), *self._whole(oid, tid, *revision)

    def _below(self, oid, tid):
        """The highest tid of a revision that is not above `tid`, or None."""
        while True:
            tid, = self._execute(self._sql.below, (oid, tid)).fetchone()
            around = None if tid is None else self._hidden.around(tid)
            if around is None:
                return tid
            tid = around[0] - 1

    def _above(self, oid, tid):
        """The lowest tid of a revision that is not below `tid`, or None."""
        while True:
            tid, = self._execute(self._sql.above, (oid, tid)).fetchone()
            around = None if tid is None else self._hidden.around(tid)
            if around is None:
                return tid
            tid = around[1] + 1

    def _whole(self, oid, tid, compression, sum, data, data_tid, large):
        """`(compression, checksum, data, data_tid)`, with the data wherever they are; raises
        BrokenData."""
        at = tid
        if data is None:
            if large is None and data_tid is not None:
                found = self._follow(oid, tid, data_tid)
                if found is not None:
                    at, compression, sum, data, large = found
            if large is not None:
                row = self._execute(self._sql.large, (large,)).fetchone()
                data = row[0] if row else b''
        try:
            if (checksum(data) == sum and type(compression) is int
                    and (data_tid is None or type(data_tid) is int)):
                return compression, sum, data, data_tid
        except TypeError:
            pass                        # neither data nor nothing
        raise BrokenData('%s: object %#x is broken at %#x' % (self.path, oid, at), (tid, oid))

    def _follow(self, oid, tid, data_tid):
        """`(its tid, compression, checksum, data, large)` of the revision pointed to, None if it
        has no data."""
        # Tids only get lower on the way: there is no circle, whatever was stored.
        while type(data_tid) is int and data_tid < tid:
            tid = data_tid
            row = self._execute(self._sql.revision, (oid, tid)).fetchone()
            if row is None or self._hidden.around(tid):
                return None
            compression, sum, data, data_tid, large = row
            if data is not None or large is not None:
                return tid, compression, sum, data, large

    def current(self, oid):
        if self._hidden.ranges:
            return self._below(oid, MAX_ID)
        return self._execute(self._sql.current, (oid,)).fetchone()[0]

    def history(self, oid, before, limit):
        history, last = [], before - 1
        while len(history) < limit:
            wanted = limit - len(history)
            rows = self._execute(self._sql.history, (oid, last, wanted)).fetchall()
            for tid, size, data_tid, large in rows:
                if self._hidden.around(tid) is None:
                    history.append(Revision(tid, self._length(oid, tid, size, data_tid, large)))
            if len(rows) < wanted:
                break
            last = rows[-1][0] - 1
        return history

    def _length(self, oid, tid, size, data_tid, large):
        if size is None and large is None:
            found = self._follow(oid, tid, data_tid)
            if found is None:
                return 0
            size, large = found[3] and len(found[3]), found[4]
        if large is not None:
            row = self._execute(self._sql.large_size, (large,)).fetchone()
            if row is None:
                raise BrokenData('%s: object %#x is broken at %#x' % (self.path, oid, tid),
                                 (tid, oid))
            size, = row
        return size or 0

    # -- ranges of tids -------------------------------------------------------------------
    def transactions(self, start, stop, partitions, rows, max_rows, max_bytes):
        start, stop, after = self._hidden.part(start, stop)
        if start >= stop:
            return [], after
        found, next = self._transactions(start, stop, partitions, rows, max_rows, max_bytes)
        return found, after if next is None else next

    def _transactions(self, start, stop, partitions, rows, max_rows, max_bytes):
        sql = self._sql
        wanted, everything = map_of(partitions, rows)
        last, end = stop - 1, None
        found, size = [], 0
        try:
            if everything:
                query = sql.transactions, (start, last, max_rows)
            else:
                end = self._execute(sql.transactions_end, (start, last, SCAN_ROWS)).fetchone()
                query = sql.some_transactions, (
                    start, end[0] if end else last, wanted, partitions, max_rows)
            with closing(self._execute(*query)) as cursor:
                for row in cursor:
                    size += self._collect(row, found)
                    if size >= max_bytes or len(found) == max_rows:
                        return found, row[0] + 1 if row[0] < last else None
        except (self.Error, BrokenData) as error:
            if not self._survives(error):
                raise
            if not found:
                raise self._broken(error, None) from error
            return found, found[-1].tid + 1
        return found, end[0] + 1 if end and end[0] < last else None

    def _collect(self, row, found):
        *fields, sum = row
        if not is_whole(metadata_sum, fields, sum):
            raise BrokenData('%s: the metadata of transaction %#x are broken'
                             % (self.path, row[0]), (row[0], None))
        tid, ttid, status, *texts, oids = fields
        found.append(StoredMetadata(tid, ttid, status.decode(), *texts, unpack_oids(oids)))
        return len(oids) + len(b''.join(texts))

    def records(self, start, after_oid, stop, partitions, rows, max_rows, max_bytes):
        first, stop, after = self._hidden.part(start, stop)
        after = after and RecordPosition(after, None)
        if first >= stop:
            return [], after
        if first > start:
            after_oid = None
        span = first, -1 if after_oid is None else after_oid, stop - 1, MAX_ID
        found, next = self._records(span, *map_of(partitions, rows), partitions,
                                    max_rows, max_bytes)
        return found, after if next is None else next

    def _records(self, span, wanted, everything, partitions, max_rows, max_bytes):
        sql = self._sql
        end = None
        found, size = [], 0
        try:
            if everything:
                query = sql.records, (*span, max_rows)
            else:
                end = self._execute(sql.records_end, (*span, SCAN_ROWS)).fetchone()
                query = sql.some_records, (
                    *(span[:2] + end if end else span), wanted, partitions, max_rows)
            with closing(self._execute(*query)) as cursor:
                for oid, tid, compression, sum, data, data_tid, large in cursor:
                    # Nearly all have their data with them, and are whole.
                    if (type(data) is not bytes or checksum(data) != sum
                            or type(compression) is not int or data_tid is not None):
                        compression, sum, data, data_tid = self._whole(
                            oid, tid, compression, sum, data, data_tid, large)
                    found.append(_new(StoredRecord, (oid, tid, compression, sum, data, data_tid)))
                    if data is not None:
                        size += len(data)
                    if size >= max_bytes or len(found) == max_rows:
                        return found, RecordPosition(tid, oid)
        except (self.Error, BrokenData) as error:
            if not self._survives(error):
                raise
            if not found:
                raise self._broken(error, self._first(span, wanted, partitions)) from error
            return found, RecordPosition(found[-1].tid, found[-1].oid)
        return found, end and RecordPosition(*end)

    def _first(self, span, wanted, partitions):
        """The position of the first record wanted, or None if that can't be known."""
        try:
            return self._execute(self._sql.first_record, (*span, wanted, partitions)).fetchone()
        except self.Error as error:
            if not self._survives(error):
                raise
            return None

    def _survives(self, error):
        """Does this error harm nothing but the call that has met it?"""
        if not isinstance(error, BrokenData):
            if not self._harmless(error):
                return False
            if self._changed:
                try:
                    self._write_again()
                except self.Error:
                    return False
        return True

    def _broken(self, error, position):
        """What to raise for an error that harms one call."""
        if isinstance(error, BrokenData):
            return error
        return BrokenData('%s is broken%s: %s' % (
            self.path, '' if position is None else ' at %#x' % position[0], error), position)

    def find(self, first, tid):
        start, stop = first, tid + 1
        while start is not None:
            start, end, after = self._hidden.part(start, stop)
            if start < end:
                for statement in (self._sql.records_between, self._sql.metadata_between):
                    if self._execute(statement, (start, end - 1, 1)).fetchone():
                        return True
            start = after
        return False

    # -- the whole ------------------------------------------------------------------------
    def tid_of(self, ttid):
        tid, = self._execute(self._sql.tid_of, (ttid,)).fetchone()
        return None if tid is None or self._hidden.around(tid) else tid

    def last_tid(self):
        # Two statements: each is one descent of an index, which a union of both would not be.
        return max(self._last(self._sql.last_tid), self._last(self._sql.last_metadata_tid))

    def _last(self, statement):
        tid = MAX_ID
        while True:
            tid, = self._execute(statement, (tid,)).fetchone()
            around = None if tid is None else self._hidden.around(tid)
            if around is None:
                return tid or 0
            tid = around[0] - 1

    def last_oid(self):
        last = self._execute(self._sql.last_oid).fetchone()[0]
        return -1 if last is None else last

    def measure(self):
        return self._objects, self._size()


def map_of(partitions, rows):
    """`(bytes with 1 for each row wanted, are all of them)`."""
    wanted = bytearray(partitions)
    for row in rows:
        if row < partitions:
            wanted[row] = 1
    return bytes(wanted), 0 not in wanted
