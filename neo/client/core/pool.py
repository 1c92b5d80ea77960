"""Ids taken ahead from the primary, so that `begin` and `new_oid` need no round trip."""
from collections import deque

from ...cluster.node import handles
from ...protocol import limits
from ...protocol.packets import TakeOids, TakeTtids
from ...protocol.types import ClusterState, NodeKind
from .operation import Operation


class Pool:
    """Blocks of ids; another one is asked for when less than half of `amount` is left."""

    def __init__(self, request, amount, maximum):
        self.request = request          # the packet that asks for a block
        self.amount = amount            # grows when ids are used faster than they come
        self.maximum = maximum
        self.left = 0
        self.asked = False
        self._blocks = deque()          # [next id, end]

    def take(self):
        block = self._blocks[0]
        id = block[0]
        block[0] += 1
        if block[0] == block[1]:
            self._blocks.popleft()
        self.left -= 1
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
    def refused(self, client, peer, error):
        self.asked = False
        client.retry_soon()

    def lost(self, client):
        self.asked = False


def ttids(amount):
    return Pool(TakeTtids, amount, amount * 16)


def oids(amount):
    return Pool(TakeOids, amount, limits.MAX_OIDS_AHEAD)


class Take(Operation):
    """Waits for an id; `make` is called with it, for the result."""

    __slots__ = 'pool', 'make'

    def __init__(self, pool, make):
        super().__init__()
        self.pool = pool
        self.make = make

    def resume(self, client):
        pool = self.pool
        if pool.left:
            client.succeed(self, self.make(pool.take()))
        else:
            if pool.asked:
                pool.missed()
            client.stall(self)
        pool.refill(client)


@handles(TakeTtids.Answer, TakeOids.Answer, sender=NodeKind.MASTER)
def ids_given(client, peer, answer, pool):
    pool.asked = False
    pool.put(answer.first, answer.count)
    client.resume_stalled()
    pool.refill(client)
