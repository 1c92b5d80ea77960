"""What engines on SQL databases share; see schema.py for the tables."""
import msgpack

from . import rows
from .hidden import Hidden
from .interface import COMMIT_ABOVE, BrokenData, EngineError
from .locked import Locks
from .sql_copies import SqlCopies
from .sql_reads import SqlReads
from .sql_writes import SqlWrites


class SqlEngine(SqlReads, SqlWrites, SqlCopies):
    """A subclass opens the database, then calls `_read_state`.  It gives `_sql` (the statements),
    `_execute(statement, values)`, which returns a cursor, `_executemany`, `_begin` and `_end`
    (a transaction of the database), `_size()` (bytes of the database), `path` (for messages),
    `_space` (a Reserve or the like), `Error` (what its database raises), `_harmless(error)`: is
    only this call harmed by it? and `_undo()`, which goes back to the last commit.  Texts come as
    bytes, since those of a broken row may be anything.

    Small things that are asked for all the time are mirrored in memory: the named values, what is
    locked and what is hidden.
    """

    _changed = False
    _failed = None      # why this engine must not be used any more
    _cleanable = True   # false once that has met something broken

    def __init__(self):
        self._written = []      # (function, statement, values) of all changes since the commit

    # -- life -----------------------------------------------------------------------------
    def _read_state(self):
        sql = self._sql
        self._values, self._broken_values = {}, set()
        for name, value, sum in self._execute(sql.config):
            if rows.is_whole(rows.value_sum, (name, value), sum):
                self._values[name.decode()] = msgpack.unpackb(value, use_list=False)
            else:
                self._broken_values.add(name)
        try:
            self._objects = self._journaled = 0     # how many oids have a revision
            self._locks = Locks(self._read_journal())
        except (LookupError, ValueError):
            raise self._lost()
        self._hidden = Hidden(self._needed(rows.range_sum, self._execute(sql.hidden)))
        self._pending = {}          # ttid -> Pending
        self._preparing = set()     # the firsts of hidden ranges that are going to be locked
        first, last = (self._execute(sql.first_pended).fetchone()[0],
                       self._execute(sql.last_pended).fetchone()[0])
        self._forgotten = [] if first is None else [(first, last)]      # numbers of what is pended
        self._last_number = last or 0
        self._last_large = self._execute(sql.last_large).fetchone()[0] or 0
        # No oid is above this one; it is not lowered by deletions.
        self._top_oid = self.last_oid()

    def _read_journal(self):
        """`(number, changes)`s, as they were written."""
        for number, packed in self._needed(
                rows.journal_sum, self._execute(self._sql.lock_journal)):
            self._objects, changes = msgpack.unpackb(packed, use_list=False)
            self._journaled = self._objects
            yield number, changes

    def _needed(self, sum_of, found):
        """These rows without their checksums, if all are whole."""
        for *fields, sum in found:
            if not rows.is_whole(sum_of, fields, sum):
                raise self._lost()
            yield fields

    def _lost(self):
        return EngineError('%s: what is known of locked transactions is broken' % self.path)

    def _change(self):
        """To be called before anything is changed."""
        if not self._changed:
            self._begin()
            self._changed = True

    def _write(self, statement, values):
        self._written.append((self._execute, statement, values))
        self._execute(statement, values)

    def _write_many(self, statement, rows):
        if rows:
            self._written.append((self._executemany, statement, rows))
            self._executemany(statement, rows)

    def _write_again(self):
        """What was corrupt has ended the transaction, or SQLite does not let it be committed: the
        same in another one."""
        self._undo()
        self._begin()
        for function, statement, values in self._written:
            function(statement, values)

    @property
    def changed(self):
        return self._changed

    def commit(self):
        if self._failed:
            raise EngineError(self._failed)
        if self._changed:
            if self._locks.changes or self._objects != self._journaled:
                self._write_journal()
            self._space.make_room()
            self._end()
            self._space.committed()
            self._changed = False
            self._written.clear()

    # -- space ----------------------------------------------------------------------------
    def free_space(self):
        return self._space.space().free

    def space(self):
        return self._space.space()

    def promise(self, ttid, size, count):
        return self._space.promise(ttid, size, count)

    @property
    def should_commit(self):
        return self._space.turn > COMMIT_ABOVE

    # -- named values ---------------------------------------------------------------------
    def get(self, name):
        # A broken row may have lost its name: it could be any that is missing.
        if self._broken_values and name not in self._values:
            raise BrokenData('%s: the value of %s, or of another name, is broken'
                             % (self.path, name))
        return self._values.get(name)

    def put(self, name, value):
        packed = msgpack.packb(value)
        # Compared as packed: True is not 1.
        if name not in self._values or msgpack.packb(self._values[name]) != packed:
            self._change()
            key = name.encode()
            self._write(self._sql.put, (name, packed, rows.value_sum(key, packed)))
            self._values[name] = msgpack.unpackb(packed, use_list=False)
            self._broken_values.discard(key)
