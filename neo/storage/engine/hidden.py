"""Ranges of tids that are not in the history, whatever the tables have of them.

A large transaction is put there row by row before it is locked, and is taken away row by row after
it was dropped: both are one step for who reads, because its range is hidden meanwhile.  There are
few ranges at any time, and no tid of another transaction is in one.
"""


class Hidden:

    def __init__(self, ranges=()):
        self.ranges = dict(ranges)      # first tid -> last tid

    def __bool__(self):
        return bool(self.ranges)

    def around(self, tid):
        """The `(first, last)` with this tid, or None."""
        for first, last in self.ranges.items():
            if first <= tid <= last:
                return first, last

    def overlapping(self, first, last):
        """The firsts of the ranges that have a tid of this one."""
        return [at for at, end in self.ranges.items() if at <= last and end >= first]

    def around_all(self, first, last):
        """`(the firsts of ranges that begin there, the last tid of these and of this one)`."""
        inside = [at for at in self.ranges if first <= at <= last]
        return inside, max([last, *[self.ranges[at] for at in inside]])

    def part(self, start, stop):
        """`(start, stop, next)`: the first part of start <= tid < stop in which nothing is hidden,
        and where to go on after it, or None."""
        while (around := self.around(start)) is not None:
            start = around[1] + 1
        first = min((first for first in self.ranges if first >= start), default=stop)
        if first >= stop:
            return start, stop, None
        after = self.ranges[first] + 1
        return start, first, after if after < stop else None
