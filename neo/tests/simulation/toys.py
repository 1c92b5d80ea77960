"""Two small nodes that talk about numbers, to see the virtual world work."""

from neo.cluster.node import Node, handler_table, handles
from neo.protocol import limits
from neo.protocol.packets import Identify, Sync
from neo.protocol.types import NodeKind
from neo.simulation.world import Machine, World

ADDRESS = 'm1', 1


@handles(Sync, sender=NodeKind.CLIENT)
def count(counter, peer, packet, request_id):
    counter.count += 1
    counter.answer(peer, request_id, Sync.Answer(counter.count))


class Counter(Node):
    """Answers every Sync with the next number."""

    kind = NodeKind.MASTER
    handlers = handler_table()
    handlers.update({key: count for key in count.handled})

    def __init__(self, rnd):
        super().__init__(rnd)
        self.count = 0

    def identify(self, peer, packet, request_id):
        self.accept(peer, NodeKind.CLIENT, 'C1')
        self.answer(peer, request_id, Identify.Answer('M1', 'C1', None, None, 0, 0, 0, 0))


class Caller(Node):
    """Asks for numbers, ten at once, and starts over when its connection is lost."""

    kind = NodeKind.CLIENT

    def __init__(self, rnd):
        super().__init__(rnd)
        self.heard = []             # (connection, number)
        self.reasons = []           # why connections failed or ended

    def starting(self):
        self.connect(ADDRESS)

    def connected(self, peer):
        peer.kind = NodeKind.MASTER
        self.ask(peer, Identify(NodeKind.CLIENT, None, self.identity, 'toys', None, None, 0, '',
                                None, self.now, ''))

    def connect_failed(self, address, reason):
        self.reasons.append(reason)
        self.set_timer('connect', self.now + limits.RECONNECT_DELAY)

    def lost(self, peer, reason):
        self.connect_failed(None, reason)

    def timer(self, name):
        self.connect(ADDRESS)


@handles(Identify.Answer, sender=NodeKind.MASTER)
def accepted(caller, peer, answer, context):
    caller.accept(peer, NodeKind.MASTER, answer.id)
    for _ in range(10):
        caller.ask(peer, Sync())


@handles(Sync.Answer, sender=NodeKind.MASTER)
def answered(caller, peer, answer, context):
    caller.heard.append((peer.connection, answer.last_tid))
    caller.ask(peer, Sync())


Caller.handlers = {key: function for function in (accepted, answered)
                   for key in function.handled}


def toy_world(seed=1, show=None):
    world = World(seed, show)
    world.add(Machine('M1', ADDRESS, lambda machine, rnd: Counter(rnd)))
    world.add(Machine('C1', None, lambda machine, rnd: Caller(rnd)))
    world.start('M1')
    world.start('C1')
    return world


