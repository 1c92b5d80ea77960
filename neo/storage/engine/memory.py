"""The engine in plain Python, for simulations and tests.

Changes are made at once, and what undoes each is kept until the commit: `crash` goes back to the
last one, at a cost that depends on what was changed only.
"""
from bisect import bisect_left, bisect_right, insort
from copy import copy
from functools import partial, wraps

from ...protocol.checksum import NO_DATA
from ...protocol.limits import FREE_SPACE_RESERVE
from ...protocol.types import MAX_ID, Metadata, Record, RowTid, StoredMetadata, Unfinished
from .hidden import Hidden
from .interface import COMMIT_ABOVE, COPIED, BrokenData, Engine, EngineError, Space
from .memory_reads import MemoryReads, size_of

ROW = 100       # bytes, roughly: what a row takes beside its data


def _counted(method):
    @wraps(method)
    def counted(self, *args):
        self._call()
        try:
            return method(self, *args)
        except BrokenData:
            raise
        except EngineError as error:
            self._failed = str(error)       # something may be half done
            raise
    return counted


class MemoryEngine(MemoryReads):
    """`capacity` is in bytes of data and metadata; a commit of more fails, as on a full disk.

    Tests may set `full`: somebody else fills the disk, and what was promised, and the reserve, is
    all there is; and `broken`: positions of what can't be read, and names.
    """

    def __init__(self, capacity=None, reserve=FREE_SPACE_RESERVE):
        self.capacity, self.reserve = capacity, reserve
        self.full, self.broken = False, set()
        self.calls = 0          # how often this engine was called
        self._fail_at = None    # the number of the call that fails
        self._failed = None     # why it must not be used any more
        self._undo = []         # what to call, the last one first, to be at the last commit again
        self._used = self._committed = 0    # bytes, now and at the last commit
        self._values = {}
        self._pended = {}       # number -> {(oid, imposed tid): Record}
        self._locked = {}       # ttid -> Unfinished
        self._told = {}         # partition row -> tid
        self._hidden = Hidden()
        self._revisions = {}    # oid -> its tids, sorted
        self._data = {}         # (oid, tid) -> (compression, checksum, data, data_tid)
        self._order = []        # (tid, oid), sorted
        self._transactions = {}     # tid -> StoredMetadata
        self._tids = []         # keys of the former, sorted
        self._tids_of = {}      # ttid -> its tids, sorted
        self._last_number = 0
        self._forget_all()

    def _forget_all(self):
        """What only a process knows."""
        self._promised = {}     # ttid -> bytes
        self._due = 0           # bytes promised for what is not committed yet
        self._pending = {}      # ttid -> number
        self._preparing = {}    # ttid -> the first of its hidden range
        self._forgotten = sorted(self._pended)      # numbers

    # -- planted failures -----------------------------------------------------------------
    def fail_at(self, number):
        """The call with this number, counted from the next one as 1, raises EngineError; None: none
        does."""
        self._fail_at = number and self.calls + number

    def crash(self):
        """Lose what was not committed, as if the process had ended; it can be used again."""
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        self._used = self._committed
        self._failed = self._fail_at = None
        self._forget_all()

    def reopened(self):
        """Another engine with what was committed; this one is closed."""
        self.crash()
        other = copy(self)
        self._failed = 'the database is closed'
        return other

    def _call(self):
        self.calls += 1
        if self.calls == self._fail_at:
            self._failed = 'planted failure'
        if self._failed:
            raise EngineError(self._failed)

    # -- changes that can be undone -------------------------------------------------------
    def _set(self, mapping, key, value):
        if key in mapping:
            self._undo.append(partial(mapping.__setitem__, key, mapping[key]))
        else:
            self._undo.append(partial(mapping.__delitem__, key))
        mapping[key] = value

    def _delete(self, mapping, key):
        self._undo.append(partial(mapping.__setitem__, key, mapping[key]))
        del mapping[key]

    def _insert(self, items, item):
        insort(items, item)
        self._undo.append(partial(_remove, items, item))

    def _remove(self, items, item):
        _remove(items, item)
        self._undo.append(partial(insort, items, item))

    # -- life -----------------------------------------------------------------------------
    def commit(self):
        if self._used > self._committed:
            limit = self._committed + self._due + self.reserve
            if (self.full and self._used > limit
                    or self.capacity is not None and self._used > self.capacity):
                raise EngineError('the disk is full')
        self._undo.clear()
        self._committed = self._used
        self._due = 0

    def close(self):
        self.crash()
        self._failed = 'the database is closed'

    @property
    def changed(self):
        return bool(self._undo)

    @property
    def should_commit(self):
        return self._used - self._committed > COMMIT_ABOVE

    # -- space ----------------------------------------------------------------------------
    def free_space(self):
        if self.full:
            return 0
        if self.capacity is not None:
            return max(0, self.capacity - self._used - self.reserve
                       - sum(self._promised.values()))

    def space(self):
        free = self.free_space()
        if free is not None:
            return Space('memory', free, self.reserve, sum(self._promised.values()))

    def promise(self, ttid, size, count):
        cost, free = size + count * ROW, self.free_space()
        if free is not None and cost > free:
            return False
        self._promised[ttid] = self._promised.get(ttid, 0) + cost
        return True

    # -- named values ---------------------------------------------------------------------
    def get(self, name):
        if name in self.broken:
            raise BrokenData('the value of %s is broken' % name)
        return self._values.get(name)

    def put(self, name, value):
        value = _frozen(value)
        # Their types count as well: True is not 1.
        if name not in self._values or repr(self._values[name]) != repr(value):
            self._set(self._values, name, value)

    # -- transactions on their way --------------------------------------------------------
    def pend(self, ttid, records):
        assert ttid not in self._locked, 'locked already'
        if not records:
            return
        number = self._pending.get(ttid)
        if number is None:
            self._last_number += 1
            number = self._pending[ttid] = self._last_number
            self._set(self._pended, number, {})
        due = min(self._promised.get(ttid, 0), sum(map(size_of, records)))
        if due:
            self._promised[ttid] -= due
            self._due += due
        self._pend(number, records)

    def _pend(self, number, records):
        pended = self._pended[number]
        for record in records:
            key = record.oid, -1 if record.tid is None else record.tid
            if key in pended:
                self._used -= size_of(pended[key])
            self._used += size_of(record)
            self._set(pended, key, record)

    def forget(self, ttid):
        self._promised.pop(ttid, None)
        number = self._pending.pop(ttid, None)
        if number is not None:
            self._forgotten.append(number)
            self._preparing.pop(ttid, None)

    def prepare_lock(self, ttid, first, tid, amount):
        number = self._pending.get(ttid)
        if number is None:
            return True
        if ttid not in self._preparing:
            self._make_room(first, tid)
            self._preparing[ttid] = first
            self._set(self._hidden.ranges, first, tid)
        assert self._hidden.ranges[self._preparing[ttid]] == tid, 'prepared with other tids'
        return self._move(number, tid, amount)

    def _move(self, number, tid, amount):
        """Move so many records into the history; returns whether no more are left."""
        pended = self._pended[number]
        for key in sorted(pended)[:amount]:
            record = pended[key]
            self._used -= size_of(record)
            self._delete(pended, key)
            self._write_record(record, tid)
        return not pended

    def lock(self, ttid, first, tid, rows, metadata, records):
        locked = self._locked.get(ttid)
        if locked is not None:
            if locked.tid != tid:
                raise EngineError('transaction %#x is locked as %#x, and has been as %#x'
                                  % (ttid, tid, locked.tid))
            return
        self._due += self._promised.pop(ttid, 0)
        number = self._pending.pop(ttid, None)
        prepared = self._preparing.pop(ttid, None)
        if prepared is None:
            self._make_room(first, tid)
        if number is not None:
            self._lock_pended(number, tid, records, prepared)
        else:
            last = {(record.oid, record.tid): record for record in records}
            for record in last.values():
                self._write_record(record, tid)
        for one in {one.tid: one for one in metadata}.values():
            self._write_metadata(ttid, tid if one.tid is None else one.tid, one)
        self._set(self._locked, ttid, Unfinished(ttid, first, tid, tuple(rows)))

    def _lock_pended(self, number, tid, records, prepared):
        if prepared is not None:
            # What was moved already may be replaced as well.
            for record in records:
                at = tid if record.tid is None else record.tid
                if (record.oid, at) in self._data:
                    self._drop_record(record.oid, at)
            self._delete(self._hidden.ranges, prepared)
        self._pend(number, records)
        self._move(number, tid, None)
        self._delete(self._pended, number)

    def _write_record(self, record, tid):
        oid, base, imposed, *revision = record
        at = tid if imposed is None else imposed
        if (oid, at) in self._data:
            raise EngineError('object %#x is written twice at %#x' % (oid, at))
        if oid not in self._revisions:
            self._set(self._revisions, oid, [])
        self._insert(self._revisions[oid], at)
        self._insert(self._order, (at, oid))
        self._set(self._data, (oid, at), tuple(revision))
        self._used += size_of(revision)

    def _write_metadata(self, ttid, tid, metadata):
        if tid in self._transactions:
            raise EngineError('transaction %#x is written twice' % tid)
        imposed, *fields, oids = metadata
        stored = StoredMetadata(tid, ttid, *fields, tuple(oids))
        self._insert(self._tids, tid)
        self._set(self._transactions, tid, stored)
        if ttid not in self._tids_of:
            self._set(self._tids_of, ttid, [])
        self._insert(self._tids_of[ttid], tid)
        self._used += size_of(stored)

    def unlock(self, ttid):
        locked = self._locked.get(ttid)
        if locked is not None:
            self._delete(self._locked, ttid)
            for row in locked.rows:
                if locked.tid > self._told.get(row, -1):
                    self._set(self._told, row, locked.tid)

    def drop(self, ttid):
        locked = self._locked.get(ttid)
        if locked is not None:
            self._delete(self._locked, ttid)
            self._set(self._hidden.ranges, locked.first, locked.tid)

    def locked(self):
        return sorted(self._locked.values())

    def told(self):
        return sorted(RowTid(*told) for told in self._told.items())

    def raise_told(self, told):
        for row, tid in told:
            if tid > self._told.get(row, -1):
                self._set(self._told, row, tid)

    # -- copying --------------------------------------------------------------------------
    def replace_records(self, after, last, partitions, rows, records):
        self._due += self._promised.pop(COPIED, 0)
        self._make_room(after[0], last[0])
        wanted = {(record.tid, record.oid): record for record in records}
        first, end = bisect_right(self._order, tuple(after)), bisect_right(self._order, tuple(last))
        for at in self._order[first:end]:
            if at[1] % partitions in rows:
                if at in wanted and self._is(wanted[at]):
                    del wanted[at]
                else:
                    self.broken.discard(at)
                    self._drop_record(at[1], at[0])
        for oid, tid, *revision in wanted.values():
            self._write_record(Record(oid, None, tid, *self._pointer(oid, tid, revision)), tid)

    def _pointer(self, oid, tid, revision):
        """Without its data, if they are there where it points to."""
        pointer = 0, NO_DATA, None, revision[-1]
        return pointer if self._follow(oid, tid, pointer) == tuple(revision) else revision

    def _is(self, record):
        """Is this in the history, and whole?"""
        oid, tid, *wanted = record
        try:
            return self._whole(oid, tid) == tuple(wanted)
        except BrokenData:
            return False

    def replace_transactions(self, start, stop, partitions, rows, transactions):
        self._due += self._promised.pop(COPIED, 0)
        self._make_room(start, stop - 1)
        wanted = {it.tid: it for it in transactions}
        for tid in self._tids[bisect_left(self._tids, start):bisect_left(self._tids, stop)]:
            if tid % partitions in rows:
                if wanted.get(tid) == self._transactions[tid] and (tid, None) not in self.broken:
                    del wanted[tid]
                else:
                    self.broken.discard((tid, None))
                    self._drop_metadata(tid)
        for tid, ttid, *fields in wanted.values():
            self._write_metadata(ttid, tid, Metadata(None, *fields))

    def remove_records(self, after, partitions, rows, amount):
        first = bisect_right(self._order, tuple(after))
        found = self._order[first:first + amount]
        for tid, oid in found:
            if oid % partitions in rows:
                self.broken.discard((tid, oid))
                self._drop_record(oid, tid)
        return found[-1] if len(found) == amount else None

    def remove_transactions(self, start, partitions, rows, amount):
        first = bisect_left(self._tids, start)
        found = self._tids[first:first + amount]
        for tid in found:
            if tid % partitions in rows:
                self.broken.discard((tid, None))
                self._drop_metadata(tid)
        return found[-1] + 1 if len(found) == amount else None

    def truncate(self, first, last):
        inside, last = self._hidden.around_all(first, last)
        for at in inside:
            self._delete(self._hidden.ranges, at)
        self._set(self._hidden.ranges, first, last)

    # -- cleaning -------------------------------------------------------------------------
    def _make_room(self, first, tid):
        """Nothing that was dropped may come back with what gets its tids."""
        if self._hidden.ranges:
            for other in self._hidden.overlapping(first, tid):
                self._clean_range(other, None)

    @property
    def needs_cleaning(self):
        return bool(self._forgotten) or len(self._hidden.ranges) > len(self._preparing)

    def clean(self, amount):
        if self._forgotten:
            pended = self._pended[self._forgotten[-1]]
            for key in sorted(pended)[:amount]:
                self._used -= size_of(pended[key])
                self._delete(pended, key)
            if not pended:
                self._delete(self._pended, self._forgotten.pop())
        elif self.needs_cleaning:
            preparing = self._preparing.values()
            self._clean_range(next(first for first in self._hidden.ranges
                                   if first not in preparing), amount)
        return self.needs_cleaning

    def _clean_range(self, first, amount):
        last = self._hidden.ranges[first]
        start = bisect_left(self._order, (first, -1))
        stop = bisect_right(self._order, (last, MAX_ID))
        for tid, oid in self._order[start:stop][:amount]:
            self._drop_record(oid, tid)
        if amount is not None and stop - start >= amount:
            return
        start, stop = bisect_left(self._tids, first), bisect_right(self._tids, last)
        for tid in self._tids[start:stop]:
            self._drop_metadata(tid)
        self._delete(self._hidden.ranges, first)

    def _drop_record(self, oid, tid):
        self._used -= size_of(self._data[oid, tid])
        self._delete(self._data, (oid, tid))
        self._remove(self._order, (tid, oid))
        self._remove(self._revisions[oid], tid)
        if not self._revisions[oid]:
            self._delete(self._revisions, oid)

    def _drop_metadata(self, tid):
        dropped = self._transactions[tid]
        self._used -= size_of(dropped)
        self._delete(self._transactions, tid)
        self._remove(self._tids, tid)
        self._remove(self._tids_of[dropped.ttid], tid)


for _name in Engine.__abstractmethods__ - {'changed', 'close', 'needs_cleaning', 'should_commit'}:
    setattr(MemoryEngine, _name, _counted(getattr(MemoryEngine, _name)))


def _frozen(value):
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _remove(items, item):
    del items[bisect_left(items, item)]
