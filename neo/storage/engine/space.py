"""Space that is there when it is needed, whatever else fills the disk meanwhile.

What was promised to open transactions, and a reserve for all else, is kept in a file beside the
database, of which some is given back to the file system when a commit would not have room.  So a
promise costs no system call, as long as that file is large enough.
"""
import os

from ...protocol.limits import FREE_SPACE_RESERVE, KiB, MiB
from .interface import Space

STEP = 16 * MiB         # the file grows by this much, at a cost of some 10 µs
SHRINK_ABOVE = 128 * MiB    # more than is needed is given back beyond this
# A commit finds so much beside what it writes itself: a checkpoint may follow it.
MARGIN = 16 * MiB
# What a row costs beside its data: in the log a page of an index (its neighbours are elsewhere, at
# worst), in the file its entries in three trees.
LOG_ROW, FILE_ROW = 8 * KiB, 256


class Reserve:
    """`unused` tells how many bytes inside the database could be written again."""

    def __init__(self, database, unused, kept=FREE_SPACE_RESERVE):
        self.path, self.database = database + '-reserve', database
        self.kept = kept                # bytes for what was not promised
        self.size = 0                   # of the file
        self.turn = 0                   # bytes that the next commit will have written
        self._unused = unused
        self._promises = {}             # ttid -> (bytes of the log, of the file)
        self._log = self._file = 0      # their sums
        self._checked = 0               # the turn for which there was room
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC,
                                   0o600)
        self._grow(kept + STEP) or self._grow(kept) or self._grow(self._left() // STEP * STEP)

    def close(self):
        os.close(self._descriptor)
        os.unlink(self.path)

    # -- promises -------------------------------------------------------------------------
    def promise(self, ttid, size, count):
        log, file = size + count * LOG_ROW, size + count * FILE_ROW
        need = self.kept + self.turn + self._log + log
        if need + self._file + file > self.size and not self._grows(need, self._file + file):
            return False
        self._add(ttid, log, file)
        return True

    def _grows(self, log, file):
        # Less of the disk is needed if the database itself has room.
        return self._covers(log + file) or self._covers(log + max(0, file - self._unused()))

    def pended(self, ttid, size, inline, count):
        """So much of what was promised is being written; `inline` bytes of it are moved once
        more."""
        log, file = self._promises.get(ttid, (0, 0))
        moved = count * FILE_ROW
        self._add(ttid, inline + moved - min(log, size + count * LOG_ROW),
                  moved - min(file, size + moved))
        self.wrote(2 * size + count * FILE_ROW)

    def locked(self, ttid):
        """All that was promised is being written."""
        self.wrote(self.release(ttid))

    def release(self, ttid):
        """Returns how much was promised."""
        log, file = self._promises.pop(ttid, (0, 0))
        self._log -= log
        self._file -= file
        return log + file

    def _add(self, ttid, log, file):
        self._log += log
        self._file += file
        before = self._promises.get(ttid)
        self._promises[ttid] = (log, file) if before is None else (
            before[0] + log, before[1] + file)

    # -- the disk -------------------------------------------------------------------------
    def wrote(self, size):
        self.turn += size
        if self.turn - self._checked > MARGIN:
            # The log grows before the commit if it does not fit into the cache of pages.
            self.make_room()

    def make_room(self):
        """Before a commit: give back what it lacks."""
        self._checked = self.turn
        lacks = self.turn + MARGIN - self._left()
        if lacks > 0 and self.size:
            self._resize(max(0, self.size - lacks))

    def committed(self):
        self.turn = self._checked = 0
        need = self.kept + self._log + self._file
        if self.size > need + SHRINK_ABOVE:
            self._resize(need + STEP)

    def space(self):
        promised = self._log + self._file
        # A disk that is smaller than the reserve is kept as a whole, also where there is no room
        # for the file.
        there = self._left() + self.size
        free = there + self._unused() - self.kept - promised - self.turn
        return Space(self.database, max(0, free), min(self.kept, there), promised)

    def _covers(self, need):
        return need <= self.size or self._grow(-(-need // STEP) * STEP) or self._grow(need)

    def _left(self):
        found = os.fstatvfs(self._descriptor)
        return found.f_bavail * found.f_frsize

    def _grow(self, size):
        if size - self.size > self._left():
            return False
        try:
            os.posix_fallocate(self._descriptor, 0, size)
        except OSError:
            # Some of it may have been there.
            self._resize(self.size)
            return False
        self.size = size
        return True

    def _resize(self, size):
        os.ftruncate(self._descriptor, size)
        self.size = size
