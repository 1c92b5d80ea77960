"""Oids: given in blocks, each below a mark that is durable on the storages."""
from ..cluster.node import Refused
from ..protocol.limits import AMOUNTS
from ..protocol.packets import ReserveOids, TakeOids
from ..protocol.types import MAX_OID, ErrorCode
from .round import Round


class Oids:

    def __init__(self, next_oid, reserved=AMOUNTS.oids_reserved):
        self._reserved = reserved           # how many at a time
        self.next = max(next_oid, 1)        # 0 is the root object
        self.mark = 0                       # durable everywhere: nothing below is given again
        self.asked = 0                      # the mark that is being made durable
        self.waiting = []                   # (peer, request id, count), in order

    # -- plain state --------------------------------------------------------------------------
    def needs(self, count):
        """The mark to make durable before `count` oids can be given, or None.  A new one is asked
        for when half of the last is used up, so that nobody waits for it."""
        wanted = min(MAX_OID, self.next + count + self._reserved // 2)
        if wanted <= max(self.mark, self.asked) or not self.are_left(count):
            return None
        self.asked = min(MAX_OID, self.next + count + self._reserved)
        return self.asked

    def are_left(self, count):
        # The mark above them is an oid too.
        return self.next + count <= MAX_OID

    def reserved(self, mark):
        self.mark = max(self.mark, mark)

    def take(self, count):
        """The first of `count` consecutive oids, or None until a mark is durable."""
        if self.next + count > self.mark:
            return None
        first = self.next
        self.next += count
        return first

    @property
    def reserved_up_to(self):
        """No oid at or above this one is given before another mark is durable."""
        return max(self.mark, self.asked, self.next)

    def seen(self, oid):
        """An oid that came from elsewhere, with an import: it is not given any more."""
        self.next = max(self.next, oid + 1)

    # -- in a running cluster -----------------------------------------------------------------
    def ask(self, node, peer, request_id, count):
        """Answer when they can be given."""
        if not self.are_left(count):
            raise Refused(ErrorCode.REFUSED, 'no oids are left above %#x' % self.next)
        self.waiting.append((peer, request_id, count))
        self.reserve(node, count)
        self._give(node)

    def reserve(self, node, count=0):
        """See to it that a mark above what is asked for becomes durable on all storages."""
        mark = self.needs(count)
        if mark is not None:
            def done(node, answers):
                self.reserved(mark)
                self._give(node)
            packet = ReserveOids(mark)
            # Those that are being filled may be needed by the time that oids are given.
            storages = [*node.tables.present(node), *node.filling.storages()]
            Round(node, dict.fromkeys(storages, packet), done)

    def _give(self, node):
        while self.waiting:
            peer, request_id, count = self.waiting[0]
            if not self.are_left(count):
                node.refuse(peer, request_id, ErrorCode.REFUSED,
                            'no oids are left above %#x' % self.next)
            else:
                first = self.take(count)
                if first is None:
                    self.reserve(node, count)
                    return
                node.answer(peer, request_id, TakeOids.Answer(first, count))
            self.waiting.pop(0)
