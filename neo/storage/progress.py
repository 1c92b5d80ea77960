"""How far a storage has come with what it copies, for the operator."""
from ..protocol import limits
from ..protocol.packets import FillProgress


class Progress:

    def __init__(self):
        self._begin()

    def _begin(self):
        self._bytes = 0                 # copied
        self._rows = set()              # all that were ordered since it began
        self._told_at = None

    def ordered(self, rows, left):
        """`rows` are to be copied, beside those `left` of former orders."""
        if not left:
            self._begin()
        self._rows.update(rows)

    def copied(self, node, size, left, copy):
        """`size` bytes more; `left` rows are not copied yet, among them those of `copy`."""
        self._bytes += size
        if self._told_at is None or node.now - self._told_at >= limits.PROGRESS_INTERVAL:
            self._told_at = node.now
            self._rows.update(left)
            done = len(self._rows) - len(left) + copy.part() * len(copy.rows)
            node.send(node.master, FillProgress(
                len(left), self._bytes, int(1000 * done / len(self._rows))))
