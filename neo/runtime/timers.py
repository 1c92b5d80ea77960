"""Timers with names, one per name."""
from heapq import heapify, heappop, heappush


class Timers:

    def __init__(self):
        self._at = {}           # name -> when
        self._heap = []         # (when, number, name); what `_at` does not confirm is outdated
        self._number = 0        # keeps names, which may not compare, out of comparisons

    def set(self, name, at):
        """Let `name` be due at that time, and at no other; never, if None."""
        if at is None:
            self._at.pop(name, None)
        elif self._at.get(name) != at:
            self._at[name] = at
            self._number += 1
            heappush(self._heap, (at, self._number, name))
            if len(self._heap) > 2 * len(self._at) + 64:
                self._sweep()

    def next(self):
        """When the next one is due, or None."""
        heap = self._heap
        while heap and self._at.get(heap[0][2]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def are_due(self, now):
        heap = self._heap
        return bool(heap) and heap[0][0] <= now

    def due(self, now):
        """Yield the names that are due, earliest first; each is unset before it is given."""
        while True:
            at = self.next()
            if at is None or at > now:
                return
            name = heappop(self._heap)[2]
            del self._at[name]
            yield name

    def _sweep(self):
        # A timer that is moved with each packet would fill the heap with what it was before.
        self._heap = [entry for entry in self._heap if self._at.get(entry[2]) == entry[0]]
        heapify(self._heap)
