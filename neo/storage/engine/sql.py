"""What engines on SQL databases share; see schema.py for the tables."""
import struct

import msgpack

from ...protocol.limits import SCAN_ROWS
from ...protocol.types import MAX_ID
from .interface import Engine, EngineError
from .locked import Locks, pack_rows
from .schema import NOT_IMPOSED

OBJECTS = 'engine.objects'      # how many oids have a revision, among the named values

ROW = 100       # bytes, roughly: what a row takes beside its data


def pack_oids(oids):
    return struct.pack('>%dQ' % len(oids), *oids)


def unpack_oids(packed):
    return struct.unpack('>%dQ' % (len(packed) // 8), packed)


class SqlEngine(Engine):
    """A subclass opens the database, then calls `_read_state`.  It gives `_sql` (the statements),
    `_execute(statement, values)`, which returns a cursor, `_executemany`, `_begin` and `_end`
    (a transaction of the database) and `_size()` (bytes of the database).

    Small things that are asked for all the time are mirrored in memory: the named values, and the
    ttids of what is on its way.
    """

    _changed = False
    _failed = None      # why this engine must not be used any more

    # -- life -----------------------------------------------------------------------------
    def _read_state(self):
        sql = self._sql
        self._values = {name: msgpack.unpackb(value, use_list=False)
                        for name, value in self._execute(sql.config)}
        self._unfinished = dict(self._execute(sql.unfinished).fetchall())
        self._locks = Locks(self._execute(sql.locked))
        self._promised = {}
        self._pended = {ttid for ttid, in self._execute(sql.pended)}
        # No oid is above this one; it is not lowered by deletions.
        self._top_oid = self.last_oid()
        self._objects = self._values.get(OBJECTS, 0)

    def _change(self):
        """To be called before anything is changed."""
        if not self._changed:
            self._begin()
            self._changed = True

    @property
    def changed(self):
        return self._changed

    def commit(self):
        if self._failed:
            raise EngineError(self._failed)
        if self._changed:
            if self._objects != self._values.get(OBJECTS, 0):
                self.put(OBJECTS, self._objects)
            self._end()
            self._changed = False

    # -- named values ---------------------------------------------------------------------
    def get(self, name):
        return self._values.get(name)

    def put(self, name, value):
        packed = msgpack.packb(value)
        # Compared as packed: True is not 1.
        if name not in self._values or msgpack.packb(self._values[name]) != packed:
            self._change()
            self._execute(self._sql.put, (name, packed))
            self._values[name] = msgpack.unpackb(packed, use_list=False)

    # -- transactions on their way --------------------------------------------------------
    def pend(self, ttid, records):
        assert self._unfinished.get(ttid) is None, 'locked already'
        if not records:
            return
        self._change()
        self._pended.add(ttid)
        self._executemany(self._sql.pend, [
            (ttid, oid, NOT_IMPOSED if tid is None else tid, compression, checksum, data, data_tid)
            for oid, base, tid, compression, checksum, data, data_tid in records])

    def vote(self, ttid, transactions):
        assert self._unfinished.get(ttid) is None, 'locked already'
        self._change()
        if ttid in self._unfinished:
            self._execute(self._sql.drop_metadata, (ttid,))
        self._executemany(self._sql.vote, [
            (ttid, NOT_IMPOSED if tid is None else tid, *metadata, pack_oids(oids))
            for tid, *metadata, oids in transactions])
        self._set_unfinished(ttid, None)

    def lock_voted(self, ttid, tid):
        if ttid not in self._unfinished:
            raise EngineError('transaction %#x is locked, and was not voted here' % ttid)
        locked = self._unfinished[ttid]
        if locked is not None:
            if locked != tid:
                raise EngineError('transaction %#x is locked as %#x, and has been as %#x'
                                  % (ttid, tid, locked))
            return
        self._change()
        sql = self._sql
        if ttid in self._pended:
            self._lock_pended(ttid, tid)
        self._execute(sql.lock_metadata, (tid, ttid))
        self._drop_pended(ttid)
        self._set_unfinished(ttid, tid)

    def prepare_lock(self, ttid, first, tid, amount):
        return True

    def lock(self, ttid, first, tid, rows, metadata, records):
        locked = self._locks.locked.get(ttid)
        if locked is not None:
            if locked.tid != tid:
                raise EngineError('transaction %#x is locked as %#x, and has been as %#x'
                                  % (ttid, tid, locked.tid))
            return
        self._promised.pop(ttid, None)
        if ttid in self._pended:
            self.pend(ttid, records)
            self._lock_pended(ttid, tid)
            records = ()
        self.add(ttid, tid, metadata, records)
        self._locks.lock(ttid, first, tid, rows)
        self._execute(self._sql.set_locked, (ttid, first, tid, pack_rows(rows)))

    def drop(self, ttid):
        if ttid not in self._locks.locked:
            return
        self._change()
        locked = self._locks.locked.pop(ttid)
        self._execute(self._sql.drop_locked, (ttid,))
        self._execute(self._sql.drop_history, (locked.first, locked.tid))
        self._execute(self._sql.drop_transactions, (locked.first, locked.tid))
        self._objects, = self._execute(self._sql.count_objects).fetchone()

    def locked(self):
        return sorted((ttid, *locked) for ttid, locked in self._locks.locked.items())

    def told(self):
        return self._locks.told()

    def find(self, first, tid):
        sql = self._sql
        return (self._execute(sql.any_record, (first, tid)).fetchone() is not None
                or self._execute(sql.any_transaction, (first, tid)).fetchone() is not None)

    @property
    def needs_cleaning(self):
        return False

    def clean(self, amount):
        return False

    def promise(self, ttid, size, count):
        cost = size + count * ROW
        if cost > self.free_space():
            return False
        self._promised[ttid] = self._promised.get(ttid, 0) + cost
        return True

    def unlock(self, ttid):
        if ttid in self._locks.locked:
            self._change()
            self._execute(self._sql.set_told, (ttid,))
            self._executemany(self._sql.drop_locked, [(old,) for old in self._locks.unlock(ttid)])
            return
        if self._unfinished.get(ttid) is not None:
            self._change()
            self._drop_unfinished(ttid)

    def add(self, ttid, tid, transactions, records):
        self._change()
        rows = {}
        for oid, base, imposed, compression, checksum, data, data_tid in records:
            at = tid if imposed is None else imposed
            rows[oid, at] = oid, at, compression, checksum, data, data_tid
        self._count({oid for oid, at in rows})
        self._executemany(self._sql.add_record, rows.values())
        metadata = {}
        for imposed, status, user, description, extension, oids in transactions:
            at = tid if imposed is None else imposed
            metadata[at] = at, ttid, status, user, description, extension, pack_oids(oids)
        self._executemany(self._sql.add_metadata, metadata.values())

    def forget(self, ttid):
        self._promised.pop(ttid, None)
        voted = ttid in self._unfinished
        if voted and self._unfinished[ttid] is not None:
            return
        if voted or ttid in self._pended:
            self._change()
            self._drop_pended(ttid)
        if voted:
            self._drop_unfinished(ttid)

    def unfinished(self):
        return sorted(self._unfinished.items())

    def drop_unvoted(self):
        for ttid in sorted(self._pended.difference(self._unfinished)):
            self._change()
            self._drop_pended(ttid)

    def _lock_pended(self, ttid, tid):
        sql = self._sql
        new, = self._execute(sql.count_new, (ttid,)).fetchone()
        last, = self._execute(sql.last_pended_oid, (ttid,)).fetchone()
        if last is not None:
            self._objects += new
            self._top_oid = max(self._top_oid, last)
            self._execute(sql.lock_records, (tid, ttid))
        self._execute(sql.drop_records, (ttid,))
        self._pended.remove(ttid)

    def _set_unfinished(self, ttid, tid):
        self._unfinished[ttid] = tid
        self._execute(self._sql.set_unfinished, (ttid, tid))

    def _drop_unfinished(self, ttid):
        del self._unfinished[ttid]
        self._execute(self._sql.drop_unfinished, (ttid,))

    def _drop_pended(self, ttid):
        self._execute(self._sql.drop_metadata, (ttid,))
        if ttid in self._pended:
            self._pended.remove(ttid)
            self._execute(self._sql.drop_records, (ttid,))

    def _count(self, oids):
        """These are about to get a revision."""
        top, exists = self._top_oid, self._sql.exists
        for oid in oids:
            # Most new oids are above all others: no look is needed then.
            if oid > top or self._execute(exists, (oid,)).fetchone() is None:
                self._objects += 1
        self._top_oid = max(top, *oids) if oids else top

    # -- the history ----------------------------------------------------------------------
    def load(self, oid, before):
        row = self._execute(self._sql.newest, (oid,)).fetchone()
        if row is None:
            return None
        tid, compression, checksum, data, data_tid = row
        next_tid = None
        if tid >= before:
            row = self._execute(self._sql.older,
                                (oid, before - 1, oid, before - 1)).fetchone()
            if row is None:
                return None
            tid, compression, checksum, data, data_tid, next_tid = row
        if data is None and data_tid is not None:
            compression, checksum, data = self._follow(oid, tid, data_tid) or (
                compression, checksum, None)
        return tid, next_tid, compression, checksum, data, data_tid

    def _follow(self, oid, tid, data_tid):
        """`(compression, checksum, data)` of the revision pointed to, None if it has no data."""
        # Tids only get lower on the way: there is no circle, whatever was stored.
        while data_tid is not None and data_tid < tid:
            tid = data_tid
            row = self._execute(self._sql.revision, (oid, tid)).fetchone()
            if row is None:
                break
            *found, data_tid = row
            if found[2] is not None:
                return found

    def current(self, oid):
        return self._execute(self._sql.current, (oid,)).fetchone()[0]

    def history(self, oid, before, limit):
        history = []
        for tid, size, data_tid in self._execute(
                self._sql.history, (oid, before - 1, limit)).fetchall():
            if size is None:
                found = self._follow(oid, tid, data_tid)
                size = len(found[2]) if found else 0
            history.append((tid, size))
        return history

    def transactions(self, start, stop, partitions, rows, max_rows, max_bytes):
        if start >= stop:
            return [], None
        sql = self._sql
        wanted, everything = _map_of(partitions, rows)
        last, end = stop - 1, None
        if everything:
            cursor = self._execute(sql.transactions, (start, last, max_rows))
        else:
            end = self._execute(sql.transactions_end, (start, last, SCAN_ROWS)).fetchone()
            cursor = self._execute(sql.some_transactions, (
                start, end[0] if end else last, wanted, partitions, max_rows))
        found, size = [], 0
        for tid, ttid, status, user, description, extension, oids in cursor:
            found.append((tid, ttid, status, user, description, extension, unpack_oids(oids)))
            size += len(user) + len(description) + len(extension) + len(oids)
            if size >= max_bytes or len(found) == max_rows:
                cursor.close()
                return found, tid + 1 if tid < last else None
        return found, end[0] + 1 if end and end[0] < last else None

    def records(self, start, after_oid, stop, partitions, rows, max_rows, max_bytes):
        if start >= stop:
            return [], None
        sql = self._sql
        wanted, everything = _map_of(partitions, rows)
        span = start, -1 if after_oid is None else after_oid, stop - 1, MAX_ID
        end = None
        if everything:
            cursor = self._execute(sql.records, (*span, max_rows))
        else:
            end = self._execute(sql.records_end, (*span, SCAN_ROWS)).fetchone()
            cursor = self._execute(sql.some_records, (
                *(span[:2] + end if end else span), wanted, partitions, max_rows))
        found, size = [], 0
        for row in cursor:
            oid, tid, _, _, data, data_tid = row
            if data is None and data_tid is not None:
                there = self._follow(oid, tid, data_tid)
                if there:
                    row = oid, tid, *there, data_tid
                    data = there[2]
            found.append(row)
            size += len(data or b'')
            if size >= max_bytes or len(found) == max_rows:
                cursor.close()
                return found, (tid, oid)
        return found, end

    def tid_of(self, ttid):
        return self._execute(self._sql.tid_of, (ttid,)).fetchone()[0]

    def last_tid(self):
        # Two statements: each is one descent of an index, which a union of both would not be.
        return max(self._execute(self._sql.last_tid).fetchone()[0] or 0,
                   self._execute(self._sql.last_metadata_tid).fetchone()[0] or 0)

    def last_oid(self):
        last = self._execute(self._sql.last_oid).fetchone()[0]
        return -1 if last is None else last

    def measure(self):
        return self._objects, self._size()


def _map_of(partitions, rows):
    """`(bytes with 1 for each row wanted, are all of them)`."""
    wanted = bytearray(partitions)
    for row in rows:
        if row < partitions:
            wanted[row] = 1
    return bytes(wanted), 0 not in wanted
