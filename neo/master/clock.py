"""The time that tids are made of."""
import logging

from ..cluster.ids import time_of
from ..protocol.limits import CLOCK_TOLERANCE


class Clock:
    """`offset` in seconds is added to the clock of this master, so that it is not ahead of what the
    storages take for possible."""

    def __init__(self):
        self.offset = 0.0
        self._ahead = 0.0               # of the storages, how much the farthest one is

    def time(self, now):
        return now + self.offset

    def is_possible(self, tid, last_tid, now):
        """Is `tid` not far ahead of every clock?  A last tid that is ahead has moved them all."""
        latest = max(now, now + self._ahead, time_of(last_tid) if last_tid else now)
        return time_of(tid) <= latest + CLOCK_TOLERANCE

    def compare(self, node, offsets, last_tid):
        """`offsets`: how many seconds the clock of each storage is ahead of this one."""
        self._ahead = max(offsets)
        self.offset = 0.0
        if self._ahead < -CLOCK_TOLERANCE:
            self.offset = self._ahead
            node.log('the clock of this master is %.0f s ahead of those of all storages: it is not'
                     ' used for tids', -self._ahead, level=logging.WARNING)
        elif min(offsets) > CLOCK_TOLERANCE:
            node.log('the clock of this master is %.0f s behind those of all storages',
                     min(offsets), level=logging.WARNING)
        ahead = time_of(last_tid) - self.time(node.now) if last_tid else 0.0
        if ahead > CLOCK_TOLERANCE:
            node.log('the last transaction is %.0f s ahead of the clock: tids go on from there',
                     ahead, level=logging.WARNING)
