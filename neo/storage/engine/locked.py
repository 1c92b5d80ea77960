"""What is locked, and which tids were told (docs/decisions/sqlite-schema.md).

A transaction that was told stays in the table until others have been told in all of its rows: the
highest of each row are known from that, and a commit writes to one small table for both.
"""
from ...protocol.types import RowTid


class Locks:
    """The table in memory; `entries` are (Unfinished, was it told?)."""

    def __init__(self, entries=()):
        self.locked = {}        # ttid -> Unfinished
        self._last = {}         # partition row -> Unfinished: the highest told
        self._kept = {}         # ttid -> of how many rows it is the highest
        for locked, told in sorted(entries, key=lambda entry: entry[0].tid):
            self.locked[locked.ttid] = locked
            if told:
                self.unlock(locked.ttid)

    def unlock(self, ttid):
        """It was told; returns the ttids that the table does not need any more."""
        locked = self.locked.pop(ttid)
        kept, last, gone = self._kept, self._last, []
        count = 0
        for row in locked.rows:
            former = last.get(row)
            if former is None or former.tid < locked.tid:
                last[row] = locked
                count += 1
                if former is not None:
                    kept[former.ttid] -= 1
                    if not kept[former.ttid]:
                        del kept[former.ttid]
                        gone.append(former.ttid)
        if count:
            kept[ttid] = count
        else:
            gone.append(ttid)
        return gone

    def told(self):
        return sorted(RowTid(row, locked.tid) for row, locked in self._last.items())
