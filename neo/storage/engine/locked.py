"""What is locked, and which tids were told (docs/decisions/sqlite-schema.md).

A transaction that was told stays in the table until others have been told in all of its rows: the
highest of each row are known from that, and a commit writes to one small table for both.
"""
from collections import namedtuple
from struct import pack, unpack

Locked = namedtuple('Locked', 'first tid rows')


def pack_rows(rows):
    return pack('>%dH' % len(rows), *rows)


def unpack_rows(packed):
    return unpack('>%dH' % (len(packed) // 2), packed)


class Locks:
    """The table in memory; `entries` are (ttid, first, tid, packed rows, was it told?)."""

    def __init__(self, entries):
        self.locked = {}        # ttid -> Locked
        self._last = {}         # partition row -> (tid, ttid) of the highest told
        self._kept = {}         # ttid -> how many rows it is the last of
        for ttid, first, tid, packed, told in sorted(entries, key=lambda entry: entry[2]):
            self.locked[ttid] = Locked(first, tid, unpack_rows(packed))
            if told:
                self.unlock(ttid)

    def lock(self, ttid, first, tid, rows):
        self.locked[ttid] = Locked(first, tid, tuple(rows))

    def unlock(self, ttid):
        """It was told; returns the ttids that are not needed in the table any more."""
        locked = self.locked.pop(ttid)
        kept, last, gone = self._kept, self._last, []
        kept[ttid] = 0
        for row in locked.rows:
            tid, former = last.get(row, (-1, ttid))
            if locked.tid > tid:
                last[row] = locked.tid, ttid
                kept[ttid] += 1
                if former != ttid:
                    kept[former] -= 1
                    if not kept[former]:
                        del kept[former]
                        gone.append(former)
        if not kept[ttid]:
            del kept[ttid]
            gone.append(ttid)
        return gone

    def told(self):
        return sorted((row, tid) for row, (tid, ttid) in self._last.items())
