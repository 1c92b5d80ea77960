"""Ids taken ahead from the primary, so that `begin` and `new_oid` need no round trip."""
from collections import deque

from ...cluster.context import Context
from ...cluster.ids import term_of
from ...protocol import limits
from ...protocol.codec import ProtocolError
from ...protocol.packets import TakeOids, TakeTtids
from ...protocol.types import MAX_OID, ClusterState
from .operation import Operation


class Pool(Context):
    """Blocks of ids; another one is asked for when less than half of `amount` is left."""

    def __init__(self, request, amount, maximum, is_right):
        self.request = request          # the packet that asks for a block
        self.amount = amount            # grows when ids are used faster than they come
        self.maximum = maximum
        self.is_right = is_right        # function(client, first, end): may such a block be given?
        self.left = 0
        self.asked = False
        self._blocks = deque()          # [next id, end]

    def take(self, client):
        """The next id, of those that are left."""
        block = self._blocks[0]
        id = block[0]
        block[0] += 1
        if block[0] == block[1]:
            self._blocks.popleft()
        self.left -= 1
        if self.left * 2 < self.amount:
            self.refill(client)
        return id

    def put(self, first, count):
        if count:
            self._blocks.append([first, first + count])
            self.left += count

    def skip(self, id):
        """Somebody has used `id`, by an import: if it is here, it and those below are not given."""
        for block in self._blocks:
            if block[0] <= id < block[1]:
                self.left -= id + 1 - block[0]
                block[0] = id + 1
                if block[0] == block[1]:
                    self._blocks.remove(block)
                return

    def clear(self):
        self._blocks.clear()
        self.left = 0

    def refill(self, client):
        if self.left * 2 < self.amount and not self.asked and (
                client.phase == ClusterState.RUNNING):
            self.asked = True
            client.ask(client.primary, self.request(self.amount), self)

    def missed(self):
        """Somebody has to wait: take more at a time from now on."""
        self.amount = min(self.amount * 2, self.maximum)

    # -- as the context of a request ------------------------------------------------------
    def answered(self, client, peer, answer):
        self.asked = False
        end = answer.first + answer.count
        if not (answer.count <= self.amount and self.is_right(client, answer.first, end)):
            client.operations.retry_soon(client)
            raise ProtocolError('the ids from %#x to %#x are not for this client'
                                % (answer.first, end))
        self.put(answer.first, answer.count)
        client.operations.resume_stalled(client)
        self.refill(client)

    def refused(self, client, peer, error):
        self.asked = False
        client.operations.retry_soon(client)

    def lost(self, client, peer):
        self.asked = False


def ttids(amount):
    return Pool(TakeTtids, amount, amount * 16, _of_this_term)


def oids(amount):
    return Pool(TakeOids, amount, limits.MAX_OIDS_AHEAD, _above_root)


def _of_this_term(client, first, end):
    return term_of(first) == client.term == term_of(end - 1)


def _above_root(client, first, end):
    return 0 < first and end <= MAX_OID + 1


class Take(Operation):
    """Result: an id."""

    __slots__ = 'pool',

    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def resume(self, client):
        pool = self.pool
        if pool.left:
            self.succeed(client, pool.take(client))
        else:
            if pool.asked:
                pool.missed()
            client.operations.stall(self)
            pool.refill(client)

