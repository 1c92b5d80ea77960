"""The order in which transactions are told to ZODB (docs/architecture.md, "Reads and caches")."""
from collections import deque
from typing import NamedTuple


class Told(NamedTuple):
    """A transaction that ZODB is to be told of."""
    tid: int
    oids: tuple                     # None: everything may have changed
    operation: object               # the own finish that waits for it, or None


class Invalidations:
    """In the order of tids.  While it is not known what became of own transactions, all are held
    back."""

    def __init__(self):
        self.queue = deque()            # of Told
        self._held = None

    def add(self, tid, oids, operation=None):
        if operation is not None and (operation.done or operation.internal):
            operation = None            # nobody waits for it any more
        queue = self.queue if self._held is None else self._held
        queue.append(Told(tid, oids, operation))

    @property
    def are_held(self):
        return self._held is not None

    def hold(self):
        if self._held is None:
            self._held = []

    def release(self):
        """All outcomes are known."""
        held, self._held = self._held, None
        if held:
            # "Everything up to a tid" goes before what is known of that tid.
            self.queue.extend(sorted(held, key=lambda told: (told.tid, told.oids is not None)))
