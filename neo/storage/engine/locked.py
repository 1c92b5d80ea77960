"""What is locked, and which tids were told (docs/decisions/sqlite-schema.md).

It is kept as a journal: each commit adds one entry with all that has changed since the last one.
Now and then an entry has everything, and those before it are removed.
"""
from ...protocol.types import RowTid, Unfinished

# Changes in the journal, beside as many as are needed to tell everything.
KEPT = 128

# Kinds of changes.
LOCKED = 0      # ttid, first, tid, rows
UNLOCKED = 1    # ttid
DROPPED = 2     # ttid
TOLD = 3        # partition row, tid


class Locks:
    """`entries` are the `(number, changes)` of the journal.  Raises ValueError or
    LookupError if it can be seen that any is missing."""

    def __init__(self, entries=()):
        self.locked = {}        # ttid -> Unfinished
        self.changes = []       # since the last entry
        self._told = {}         # partition row -> the highest tid
        self._number = None     # of the last entry
        self._length = 0        # changes in the journal
        for number, changes in entries:
            if self._number not in (None, number - 1):
                raise ValueError('entry %d after %d' % (number, self._number))
            self._number = number
            self._length += len(changes)
            for kind, *values in changes:
                self._read(kind, *values)

    def _read(self, kind, *values):
        if kind == LOCKED:
            self.locked[values[0]] = Unfinished(*values)
        elif kind == UNLOCKED:
            self._raise(self.locked.pop(*values))
        elif kind == DROPPED:
            del self.locked[values[0]]
        elif kind == TOLD:
            row, tid = values
            self._told[row] = tid
        else:
            raise ValueError('change of kind %r' % kind)

    def _raise(self, locked):
        told, tid = self._told, locked.tid
        for row in locked.rows:
            if tid > told.get(row, -1):
                told[row] = tid

    def lock(self, locked):
        self.locked[locked.ttid] = locked
        self.changes.append((LOCKED, *locked))

    def unlock(self, ttid):
        """It was told."""
        self._raise(self.locked.pop(ttid))
        self.changes.append((UNLOCKED, ttid))

    def drop(self, ttid):
        """It never was; returns its Unfinished."""
        self.changes.append((DROPPED, ttid))
        return self.locked.pop(ttid)

    def raise_told(self, told):
        """Others know of these RowTids."""
        for row, tid in told:
            if tid > self._told.get(row, -1):
                self._told[row] = tid
                self.changes.append((TOLD, row, tid))

    def told(self):
        return sorted(RowTid(*told) for told in self._told.items())

    def entry(self):
        """`(number, changes, does it replace all others?)`: to be added to the journal."""
        changes, self.changes = self.changes, []
        self._number = 0 if self._number is None else self._number + 1
        self._length += len(changes)
        whole = self._length > KEPT + len(self._told) + len(self.locked)
        if whole:
            changes = [(TOLD, *told) for told in self._told.items()]
            changes += [(LOCKED, *locked) for locked in self.locked.values()]
            self._length = len(changes)
        return self._number, changes, whole
