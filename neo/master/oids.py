"""Oids: given in blocks, each below a mark that is durable on the storages."""
from ..protocol.limits import AMOUNTS


class Oids:

    def __init__(self, next_oid, reserved=AMOUNTS.oids_reserved):
        self._reserved = reserved           # how many at a time
        self.next = max(next_oid, 1)        # 0 is the root object
        self.mark = 0                       # durable everywhere: nothing below is given again
        self.asked = 0                      # the mark that is being made durable
        self.waiting = []                   # (peer, request id, count), in order

    def needs(self, count):
        """The mark to make durable before `count` oids can be given, or None.  A new one is asked
        for when half of the last is used up, so that nobody waits for it."""
        wanted = self.next + count + self._reserved // 2
        if wanted <= max(self.mark, self.asked):
            return None
        self.asked = self.next + count + self._reserved
        return self.asked

    def reserved(self, mark):
        self.mark = max(self.mark, mark)

    def take(self, count):
        """The first of `count` consecutive oids, or None until a mark is durable."""
        if self.next + count > self.mark:
            return None
        first = self.next
        self.next += count
        return first

    def seen(self, oid):
        """An oid that came from elsewhere, with an import: it is not given any more."""
        self.next = max(self.next, oid + 1)
