"""When the background work of a node has its turn, and how much of it is done in one.

A slice is given when nothing has come for a moment; while there is always something, so often that
slices get their share of the time.  The amount in one is adapted until it takes SLICE_TIME.
"""
from ..protocol import limits


class Slices:

    def __init__(self):
        self._amounts = {}          # name of a work -> units for its next slice
        self._quiet_at = 0.0        # nothing has come for long enough then
        self._share_at = 0.0        # its share is due then, whatever comes

    def next(self):
        """When a slice is due, if the node wants any."""
        return min(self._quiet_at, self._share_at)

    def busy(self, now):
        """The node had something else to do, until now."""
        self._quiet_at = now + limits.SLICE_QUIET

    def amount(self, name):
        return self._amounts.get(name, limits.SLICE_FIRST)

    def took(self, name, began, ended, goes_on):
        """A slice has been given; `goes_on` if more of that work is left."""
        took = ended - began
        self._share_at = ended + took * (1 - limits.SLICE_SHARE) / limits.SLICE_SHARE
        if not goes_on:
            # The last slice of a work says nothing about how much fits in one.
            self._amounts.pop(name, None)
            return
        # Neither one lucky slice nor one fsync that took long decides alone.
        factor = min(2.0, max(0.25, limits.SLICE_TIME / max(took, 1e-6)))
        self._amounts[name] = min(limits.SLICE_MOST, max(1, int(self.amount(name) * factor)))
