"""The engine in plain Python, for simulations and tests.

Changes are made at once, and what undoes each is kept until the commit: `crash` goes back to the
last one, at a cost that depends on what was changed only.
"""
from bisect import bisect_left, bisect_right, insort
from copy import copy
from functools import partial, wraps

from ...protocol.limits import FREE_SPACE_RESERVE, SCAN_ROWS
from ...protocol.types import MAX_ID
from .interface import Engine, EngineError, Space

ROW = 100       # bytes, roughly: what a row takes beside its data


def _counted(method):
    @wraps(method)
    def counted(self, *args):
        self._call()
        try:
            return method(self, *args)
        except EngineError as error:
            self._failed = str(error)       # something may be half done
            raise
    return counted


class MemoryEngine(Engine):
    """`capacity` is in bytes of data and metadata; a commit of more fails, as on a full disk."""

    def __init__(self, capacity=None):
        self.capacity = capacity
        self.calls = 0          # how often this engine was called
        self._fail_at = None    # the number of the call that fails
        self._failed = None     # why it must not be used any more
        self._undo = []         # what to call, the last one first, to be at the last commit again
        self._used = self._committed = 0    # bytes, now and at the last commit
        self._values = {}
        self._pended = {}       # ttid -> {(oid, imposed tid): Record}
        self._promised = {}     # ttid -> bytes; a crash forgets them
        self._locked = {}       # ttid -> (first, tid, rows)
        self._told = {}         # partition row -> tid
        self._voted = {}        # ttid -> {imposed tid: Transaction}
        self._unfinished = {}   # ttid -> tid or None
        self._revisions = {}    # oid -> its tids, sorted
        self._data = {}         # (oid, tid) -> (compression, checksum, data, data_tid)
        self._order = []        # (tid, oid), sorted
        self._transactions = {}     # tid -> StoredTransaction
        self._tids = []         # keys of the former, sorted
        self._tid_of = {}       # ttid -> its highest tid

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
        self._promised.clear()
        self._failed = self._fail_at = None

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
        if self.capacity is not None and self._used > max(self.capacity, self._committed):
            raise EngineError('the disk is full')
        self._undo.clear()
        self._committed = self._used

    def close(self):
        self.crash()
        self._failed = 'the database is closed'

    def free_space(self):
        if self.capacity is None:
            return None
        promised = sum(self._promised.values())
        return max(0, self.capacity - self._used - FREE_SPACE_RESERVE - promised)

    def space(self):
        free = self.free_space()
        if free is not None:
            return Space('memory', free, FREE_SPACE_RESERVE, sum(self._promised.values()))

    def promise(self, ttid, size, count):
        cost = size + count * ROW
        free = self.free_space()
        if free is not None and cost > free:
            return False
        self._promised[ttid] = self._promised.get(ttid, 0) + cost
        return True

    @property
    def changed(self):
        return bool(self._undo)

    # -- named values ---------------------------------------------------------------------
    def get(self, name):
        return self._values.get(name)

    def put(self, name, value):
        value = _frozen(value)
        # Their types count as well: True is not 1.
        if name not in self._values or repr(self._values[name]) != repr(value):
            self._set(self._values, name, value)

    # -- transactions on their way --------------------------------------------------------
    def pend(self, ttid, records):
        assert self._unfinished.get(ttid) is None, 'locked already'
        if not records:
            return
        if ttid not in self._pended:
            self._set(self._pended, ttid, {})
        pended = self._pended[ttid]
        for record in records:
            key = record[0], record[2]
            if key in pended:
                self._used -= _size(pended[key])
            self._used += _size(record)
            self._set(pended, key, tuple(record))

    def vote(self, ttid, transactions):
        assert self._unfinished.get(ttid) is None, 'locked already'
        self._drop(self._voted, ttid)
        voted = {transaction[0]: tuple(transaction) for transaction in transactions}
        self._used += sum(map(_size, voted.values()))
        self._set(self._voted, ttid, voted)
        self._set(self._unfinished, ttid, None)

    def prepare_lock(self, ttid, first, tid, amount):
        return True

    def lock(self, ttid, first, tid, rows, metadata, records):
        locked = self._locked.get(ttid)
        if locked is not None:
            if locked[1] != tid:
                raise EngineError('transaction %#x is locked as %#x, and has been as %#x'
                                  % (ttid, tid, locked[1]))
            return
        self._promised.pop(ttid, None)
        if ttid in self._pended:
            self.pend(ttid, records)
            records = self._drop(self._pended, ttid)
        self._write(ttid, tid, metadata, records)
        self._set(self._locked, ttid, (first, tid, tuple(rows)))

    def drop(self, ttid):
        if ttid not in self._locked:
            return
        first, tid, rows = self._locked[ttid]
        self._delete(self._locked, ttid)
        start = bisect_left(self._order, (first, -1))
        for at, oid in self._order[start:bisect_right(self._order, (tid, MAX_ID))]:
            self._erase_record(oid, at)
        start = bisect_left(self._tids, first)
        for at in self._tids[start:bisect_right(self._tids, tid)]:
            self._used -= _size(self._transactions[at])
            self._delete(self._transactions, at)
            self._remove(self._tids, at)
        if ttid in self._tid_of:
            self._delete(self._tid_of, ttid)

    def _erase_record(self, oid, tid):
        self._used -= _size(self._data[oid, tid])
        self._delete(self._data, (oid, tid))
        self._remove(self._order, (tid, oid))
        self._remove(self._revisions[oid], tid)
        if not self._revisions[oid]:
            self._delete(self._revisions, oid)

    def locked(self):
        return sorted((ttid, *locked) for ttid, locked in self._locked.items())

    def told(self):
        return sorted(self._told.items())

    def find(self, first, tid):
        i, j = bisect_left(self._order, (first, -1)), bisect_left(self._tids, first)
        return (i < len(self._order) and self._order[i][0] <= tid
                or j < len(self._tids) and self._tids[j] <= tid)

    @property
    def needs_cleaning(self):
        return False

    def clean(self, amount):
        return False

    def lock_voted(self, ttid, tid):
        if ttid not in self._unfinished:
            raise EngineError('transaction %#x is locked, and was not voted here' % ttid)
        locked = self._unfinished[ttid]
        if locked is not None:
            if locked != tid:
                raise EngineError('transaction %#x is locked as %#x, and has been as %#x'
                                  % (ttid, tid, locked))
            return
        records = self._drop(self._pended, ttid)
        self._write(ttid, tid, self._drop(self._voted, ttid), records)
        self._set(self._unfinished, ttid, tid)

    def unlock(self, ttid):
        if ttid in self._locked:
            _, tid, rows = self._locked[ttid]
            self._delete(self._locked, ttid)
            for row in rows:
                if tid > self._told.get(row, -1):
                    self._set(self._told, row, tid)
            return
        if self._unfinished.get(ttid) is not None:
            self._delete(self._unfinished, ttid)

    def add(self, ttid, tid, transactions, records):
        self._write(ttid, tid, transactions, records)

    def forget(self, ttid):
        self._promised.pop(ttid, None)
        if self._unfinished.get(ttid) is None:
            self._drop(self._pended, ttid)
            self._drop(self._voted, ttid)
            if ttid in self._unfinished:
                self._delete(self._unfinished, ttid)

    def unfinished(self):
        return sorted(self._unfinished.items())

    def drop_unvoted(self):
        for ttid in [ttid for ttid in self._pended if ttid not in self._unfinished]:
            self._drop(self._pended, ttid)

    def _drop(self, mapping, ttid):
        """Take pended records or voted metadata away, and return them."""
        if ttid not in mapping:
            return ()
        dropped = list(mapping[ttid].values())
        self._delete(mapping, ttid)
        self._used -= sum(map(_size, dropped))
        return dropped

    def _write(self, ttid, tid, transactions, records):
        last = {}
        for oid, base, imposed, *revision in records:
            last[oid, tid if imposed is None else imposed] = tuple(revision)
        for (oid, at), revision in last.items():
            self._write_record(oid, at, revision)
        last = {}
        for imposed, *metadata, oids in transactions:
            at = tid if imposed is None else imposed
            last[at] = at, ttid, *metadata, tuple(oids)
        for at, transaction in last.items():
            self._write_metadata(ttid, at, transaction)

    def _write_record(self, oid, tid, revision):
        if (oid, tid) in self._data:
            raise EngineError('object %#x is written twice at %#x' % (oid, tid))
        if oid not in self._revisions:
            self._set(self._revisions, oid, [])
        self._insert(self._revisions[oid], tid)
        self._insert(self._order, (tid, oid))
        self._set(self._data, (oid, tid), revision)
        self._used += _size(revision)

    def _write_metadata(self, ttid, tid, transaction):
        if tid in self._transactions:
            raise EngineError('transaction %#x is written twice' % tid)
        self._insert(self._tids, tid)
        self._set(self._transactions, tid, transaction)
        self._set(self._tid_of, ttid, max(tid, self._tid_of.get(ttid, 0)))
        self._used += _size(transaction)

    # -- the history ----------------------------------------------------------------------
    def load(self, oid, before):
        revisions = self._revisions.get(oid, ())
        i = bisect_left(revisions, before)
        if i:
            tid = revisions[i - 1]
            found = self._found(oid, tid)
            return (tid, revisions[i] if i < len(revisions) else None, *found)

    def _found(self, oid, tid):
        """(compression, checksum, data, data_tid), with the data wherever they are."""
        compression, checksum, data, data_tid = found = self._data[oid, tid]
        there = data_tid
        # Tids only get lower on the way: there is no circle, whatever was stored.
        while data is None and there is not None and there < tid:
            tid = there
            compression, checksum, data, there = self._data.get((oid, tid), (0, b'', None, None))
        return found if data is None else (compression, checksum, data, data_tid)

    def current(self, oid):
        revisions = self._revisions.get(oid)
        return revisions[-1] if revisions else None

    def history(self, oid, before, limit):
        revisions = self._revisions.get(oid, ())
        stop = bisect_left(revisions, before)
        return [(tid, len(self._found(oid, tid)[2] or b''))
                for tid in reversed(revisions[max(0, stop - limit):stop])]

    def transactions(self, start, stop, partitions, rows, max_rows, max_bytes):
        rows, found, size = set(rows), [], 0
        first, end = bisect_left(self._tids, start), bisect_left(self._tids, stop)
        tid = None
        for tid in self._tids[first:min(end, first + SCAN_ROWS)]:
            if tid % partitions in rows:
                found.append(self._transactions[tid])
                size += _size(found[-1])
                if size >= max_bytes or len(found) >= max_rows:
                    break
        return found, tid + 1 if tid is not None and tid != self._tids[end - 1] else None

    def records(self, start, after_oid, stop, partitions, rows, max_rows, max_bytes):
        rows, found, size = set(rows), [], 0
        first = bisect_right(self._order, (start, -1 if after_oid is None else after_oid))
        end = bisect_right(self._order, (stop - 1, MAX_ID))
        at = None
        for at in self._order[first:min(end, first + SCAN_ROWS)]:
            tid, oid = at
            if oid % partitions in rows:
                found.append((oid, tid, *self._found(oid, tid)))
                size += _size(found[-1])
                if size >= max_bytes or len(found) >= max_rows:
                    break
        return found, at if at is not None and at != self._order[end - 1] else None

    def tid_of(self, ttid):
        return self._tid_of.get(ttid)

    def last_tid(self):
        return max(self._order[-1][0] if self._order else 0, self._tids[-1] if self._tids else 0)

    def last_oid(self):
        return max(self._revisions, default=-1)

    def measure(self):
        return len(self._revisions), self._used


for _name in Engine.__abstractmethods__ - {'changed', 'close', 'needs_cleaning'}:
    setattr(MemoryEngine, _name, _counted(getattr(MemoryEngine, _name)))


def _frozen(value):
    return tuple(map(_frozen, value)) if isinstance(value, (list, tuple)) else value


def _remove(items, item):
    del items[bisect_left(items, item)]


def _size(row):
    """Bytes of a record, a revision or metadata; oids and tids count for 8."""
    return 8 + sum(len(field) * (8 if type(field) is tuple else 1)
                   for field in row if isinstance(field, (bytes, str, tuple)))
