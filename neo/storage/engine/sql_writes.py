"""How an engine on an SQL database keeps transactions on their way, and cleans up after them."""
import msgpack

from ...protocol.limits import KiB
from ...protocol.types import MAX_ID, Unfinished
from . import rows as packing
from .interface import BrokenData, Engine, EngineError
from .schema import INLINE, NOT_IMPOSED

# Data of so many bytes cost as much as a row when they are removed: the pages are looked at.
ROW_OF_DATA = 64 * KiB
AT_ONCE = 1000          # rows that are moved or removed together where all have to be
EVERYTHING = MAX_ID, MAX_ID


class Pending:
    """What is in the tables of a transaction that has not been locked."""

    __slots__ = 'number', 'top', 'first', 'tid'

    def __init__(self, number):
        self.number = number
        self.top = -1               # no oid above was pended
        self.first = self.tid = None    # once its lock is being prepared


class SqlWrites(Engine):

    # -- pending records ------------------------------------------------------------------
    def pend(self, ttid, records):
        assert ttid not in self._locks.locked, 'locked already'
        if not records:
            return
        pending = self._pending.get(ttid)
        if pending is None:
            self._last_number += 1
            pending = self._pending[ttid] = Pending(self._last_number)
        self._change()
        sizes = [len(record.data) for record in records if record.data is not None]
        self._space.pended(ttid, sum(sizes), sum([size for size in sizes if size <= INLINE]),
                           len(records))
        self._pend(pending, records)

    def _pend(self, pending, records):
        number, sql = pending.number, self._sql
        inline, others = self._revisions(NOT_IMPOSED, records)
        keys = [*inline, *others]
        self._write_many(sql.drop_large, self._replaced(pending, keys))
        self._write_many(sql.pend_inline, [(number, *key, *row) for key, row in inline.items()])
        self._write_many(sql.pend, [(number, *key, *row) for key, row in others.items()])
        pending.top = max(pending.top, *[oid for oid, tid in keys])

    def _replaced(self, pending, keys):
        """The keys of the large data of what is pended again."""
        replaced = []
        for oid, tid in keys:
            if oid <= pending.top:
                row = self._execute(self._sql.pended_large, (pending.number, oid, tid)).fetchone()
                if row and row[0] is not None:
                    replaced.append(row)
        return replaced

    def _revisions(self, tid, records):
        """The columns of these, twice `{(oid, tid): columns}`: of those with their data and nothing
        else in the row, and of the others.  Each has the last record; `tid` is that of those which
        impose none.  Large data go into a table of their own."""
        inline, others = {}, {}
        for oid, _base, imposed, compression, sum, data, data_tid in records:
            key = oid, tid if imposed is None else imposed
            if data is not None and len(data) <= INLINE and data_tid is None:
                inline[key] = compression, sum, data
                if others:
                    others.pop(key, None)
            else:
                others[key] = compression, sum, data, data_tid, None
                inline.pop(key, None)
        for key, (compression, sum, data, data_tid, _) in others.items():
            if data is not None and len(data) > INLINE:
                self._last_large += 1
                self._write(self._sql.add_large, (self._last_large, data))
                others[key] = compression, sum, None, data_tid, self._last_large
        return inline, others

    def forget(self, ttid):
        self._space.release(ttid)
        pending = self._pending.pop(ttid, None)
        if pending is not None:
            # Nothing is written: the next process would forget it as well.
            self._forgotten.append((pending.number, pending.number))
            self._preparing.discard(pending.first)

    # -- locks ----------------------------------------------------------------------------
    def prepare_lock(self, ttid, first, tid, amount):
        pending = self._pending.get(ttid)
        if pending is None:
            return True
        self._change()
        if pending.first is None:
            self._make_room(first, tid)
            pending.first, pending.tid = first, tid
            self._preparing.add(first)
            self._hide(first, tid)
        assert (pending.first, pending.tid) == (first, tid), 'prepared with other tids'
        return self._move(pending, tid, amount)

    def _move(self, pending, tid, amount):
        """Move so many rows into the history; returns whether no more are left."""
        sql, number = self._sql, pending.number
        end = self._execute(sql.move_end, (number, amount - 1)).fetchone()
        rows = number, *(end or EVERYTHING)
        self._objects += self._execute(sql.move_new, rows).fetchone()[0]
        self._write(sql.move, (tid, *rows))
        self._write(sql.moved, rows)
        self._top_oid = max(self._top_oid, pending.top)
        return end is None

    def lock(self, ttid, first, tid, rows, metadata, records):
        locked = self._locks.locked.get(ttid)
        if locked is not None:
            if locked.tid != tid:
                raise EngineError('transaction %#x is locked as %#x, and has been as %#x'
                                  % (ttid, tid, locked.tid))
            return
        self._change()
        self._space.locked(ttid)
        pending = self._pending.pop(ttid, None)
        if pending is not None:
            self._lock_pended(pending, first, tid, records)
        else:
            if self._hidden:
                self._make_room(first, tid)
            self._add_records(tid, records)
        self._add_metadata(ttid, tid, metadata)
        self._locks.lock(Unfinished(ttid, first, tid, tuple(rows)))

    def _lock_pended(self, pending, first, tid, records):
        if pending.first is None:
            self._make_room(first, tid)
        else:
            assert (pending.first, pending.tid) == (first, tid), 'prepared with other tids'
            # What was moved already may be replaced as well.
            for record in records:
                self._drop_record(record.oid, tid if record.tid is None else record.tid)
        if records:
            self._pend(pending, records)
        while not self._move(pending, tid, AT_ONCE):
            pass
        if pending.first is not None:
            self._preparing.remove(first)
            self._show(first)

    def _add_records(self, tid, records):
        inline, others = self._revisions(tid, records)
        self._count({oid for oid, at in (*inline, *others)})
        self._write_many(self._sql.add_inline, [key + row for key, row in inline.items()])
        self._write_many(self._sql.add_record, [key + row for key, row in others.items()])

    def _add_metadata(self, ttid, tid, metadata):
        found = {}
        for one in metadata:
            at = tid if one.tid is None else one.tid
            found[at] = packing.metadata_row(at, ttid, one)
        self._write_many(self._sql.add_metadata, list(found.values()))

    def _count(self, oids):
        """These are about to get a revision."""
        top, exists = self._top_oid, self._sql.exists
        for oid in oids:
            # Most new oids are above all others: no look is needed then.
            if oid > top or self._execute(exists, (oid,)).fetchone() is None:
                self._objects += 1
        self._top_oid = max(top, *oids) if oids else top

    def unlock(self, ttid):
        if ttid in self._locks.locked:
            self._change()
            self._locks.unlock(ttid)

    def drop(self, ttid):
        if ttid in self._locks.locked:
            self._change()
            locked = self._locks.drop(ttid)
            self._hide(locked.first, locked.tid)

    def locked(self):
        return sorted(self._locks.locked.values())

    def told(self):
        return self._locks.told()

    def raise_told(self, told):
        self._change()
        self._locks.raise_told(told)

    def _write_journal(self):
        number, changes, is_whole = self._locks.entry()
        packed = msgpack.packb((self._objects, changes))
        self._journaled = self._objects
        self._write(self._sql.add_to_journal, (
            number, packed, packing.journal_sum(number, packed)))
        if is_whole:
            self._write(self._sql.shorten_journal, (number,))

    # -- hidden ranges --------------------------------------------------------------------
    def _hide(self, first, last):
        self._hidden.ranges[first] = last
        self._write(self._sql.hide, (first, last, packing.range_sum(first, last)))

    def _show(self, first):
        del self._hidden.ranges[first]
        self._write(self._sql.show, (first,))

    def _make_room(self, first, tid):
        """Nothing that was dropped may come back with what gets its tids."""
        for other in self._hidden.overlapping(first, tid):
            while not self._clean_range(other, AT_ONCE):
                pass

    def truncate(self, first, last):
        self._change()
        inside, last = self._hidden.around_all(first, last)
        for at in inside:
            self._show(at)
        self._hide(first, last)

    # -- cleaning -------------------------------------------------------------------------
    @property
    def needs_cleaning(self):
        return self._cleanable and (
            bool(self._forgotten) or len(self._hidden.ranges) > len(self._preparing))

    def clean(self, amount):
        if self.needs_cleaning:
            try:
                self._carefully(self._clean, amount)
            except BrokenData:
                # It is hidden, broken as it is: it can stay, for this process at least.
                self._cleanable = False
                raise
        return self.needs_cleaning

    def _carefully(self, change, *args):
        """Returns what `change` does.  If that meets something broken, nothing of it is done, and
        BrokenData is raised."""
        self._change()
        objects, done = self._objects, len(self._written)
        try:
            return change(*args)
        except self.Error as error:
            del self._written[done:]
            if not self._survives(error):
                raise
            self._objects = objects
            raise self._broken(error, None) from error

    def _clean(self, amount):
        if self._forgotten:
            self._clean_pended(amount)
        else:
            self._clean_range(next(first for first in self._hidden.ranges
                                   if first not in self._preparing), amount)

    def _clean_pended(self, amount):
        keys = self._some(self._sql.some_pended, self._forgotten[-1], amount)
        self._write_many(self._sql.drop_pended, keys)
        if not keys:
            self._forgotten.pop()

    def _clean_range(self, first, amount):
        """Returns whether nothing is left of it."""
        sql, span = self._sql, (first, self._hidden.ranges[first])
        keys = self._some(sql.records_between, span, amount)
        if keys:
            self._write_many(sql.drop_record, keys)
            self._uncount({oid for oid, tid in keys})
            return False
        tids = self._execute(sql.metadata_between, (*span, amount)).fetchall()
        self._write_many(sql.drop_metadata, tids)
        if tids:
            return False
        self._show(first)
        return True

    def _some(self, statement, where, amount):
        """The keys of about `amount` rows; their large data are removed."""
        keys, sql = [], self._sql
        for *key, large in self._execute(statement, (*where, amount)).fetchall():
            keys.append(key)
            if large is not None:
                size, = self._execute(sql.large_size, (large,)).fetchone() or (0,)
                self._write(sql.drop_large, (large,))
                amount -= size // ROW_OF_DATA
            if len(keys) >= amount:
                break
        self._space.wrote(len(keys) * KiB)
        return keys

    def _drop_record(self, oid, tid):
        row = self._execute(self._sql.revision, (oid, tid)).fetchone()
        if row is not None:
            self._write(self._sql.drop_large, row[-1:])
            self._write(self._sql.drop_record, (oid, tid))
            self._uncount({oid})

    def _uncount(self, oids):
        """A revision of each was removed."""
        for oid in oids:
            if self._execute(self._sql.exists, (oid,)).fetchone() is None:
                self._objects -= 1
