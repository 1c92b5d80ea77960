"""The order in which transactions are told to ZODB (docs/architecture.md, "Reads and caches")."""
from collections import deque
from typing import NamedTuple


class Told(NamedTuple):
    """A transaction that ZODB is to be told of."""
    tid: int
    oids: tuple                     # None: everything may have changed
    operation: object               # the own finish that waits for it, or None


def _waited_for(operation):
    """None if nobody waits for it any more."""
    if operation is None or operation.done or operation.internal:
        return None
    return operation


class Invalidations:
    """In the order of tids.  While it is not known what became of own transactions, all are held
    back."""

    def __init__(self):
        self.queue = deque()            # of Told
        self._held = None

    def add(self, tid, oids, operation=None):
        operation = _waited_for(operation)
        queue = self.queue if self._held is None else self._held
        queue.append(Told(tid, oids, operation))

    def claim(self, tid, operation):
        """Transaction `tid`, which is held as if somebody else had committed it, is that of this
        operation; False if it is not held."""
        for i, told in enumerate(self._held or ()):
            if told.tid == tid and told.oids is not None:
                self._held[i] = Told(tid, told.oids, _waited_for(operation))
                return True
        return False

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
