"""Locking of transactions that are too large for one turn: in slices, while others are served."""
from collections import deque

from ..protocol.limits import SLICE_FIRST

LOCK = 'lock'                   # name of this background work


class Locking:

    def __init__(self, node):
        self._node = node
        self._queue = deque()       # (Transaction, what to do when it is prepared)

    @property
    def busy(self):
        return bool(self._queue)

    def begin(self, txn, done):
        """Call `done(txn)` once nothing is left to be prepared for its lock: at once, if that is
        little."""
        if self._node.transactions.prepare(txn, SLICE_FIRST):
            done(txn)
        else:
            self._node.lazily()
            self._queue.append((txn, done))
            self._node.want_slices(LOCK)

    def slice(self, amount):
        txn, done = self._queue[0]
        if self._node.transactions.prepare(txn, amount):
            self._queue.popleft()
            done(txn)
        else:
            self._node.lazily()
        if not self._queue:
            self._node.no_slices(LOCK)

    def stop(self):
        """The primary that wanted it is gone."""
        self._queue.clear()
        self._node.no_slices(LOCK)
