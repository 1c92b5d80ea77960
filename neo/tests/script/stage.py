"""Several nodes that talk with each other, one message at a time, in the order in which they were
sent."""
import copy
import random
from collections import deque

from neo.cluster import events
from neo.protocol.limits import FREE_SPACE_RESERVE
from neo.protocol.packets import Lock, Ping
from neo.storage.engine.memory import MemoryEngine

from .driven import Driven, through_codec
from .words import Names, Words

EPOCH = 1_750_000_000.0
STEP = .001                     # seconds, that each turn takes


class Wire:
    """One side of a connection."""

    def __init__(self, actor, number):
        self.actor, self.number = actor, number
        self.other = None
        self.open = True


class Actor(Driven):
    """A process: a node on the stage."""

    def __init__(self, stage, name, node, left=None):
        super().__init__(node, stage.now)
        self.left = left            # function(node), called when it has left; None: that is noted
        self.stage, self.name = stage, name
        self.wires = {}             # connection -> Wire
        self.watched = []           # functions: called after each turn, till one gives something

    def start(self):
        self.now = self.stage.now
        super().start()

    pace = 0                        # it is the stage that has a clock

    def _turn(self, happened):
        self.now = self.stage.now
        super()._turn(happened)
        self.watch()

    def watch(self):
        self.watched = [function for function in self.watched if not function()]

    def make_durable(self):
        super().make_durable()
        self.stage.note('%s commits' % self.name)

    def sends(self, effect):
        wire = self.wires.get(effect.connection)
        if wire is not None:
            self.stage.send(wire, effect.packet, effect.request_id)

    def connects(self, effect):
        self.stage.connect(self, tuple(effect.address))

    def closes(self, effect):
        wire = self.wires.pop(effect.connection, None)
        if wire is not None:
            self.stage.close(wire)

    def logs(self, effect):
        super().logs(effect)
        if self.stage.with_logs:
            self.stage.note('%s: %s' % (self.name, effect.message))

    def exits(self, effect):
        super().exits(effect)
        if self.left is None:
            self.stage.note('%s leaves: %s' % (self.name, effect.message))
        else:
            self.left(self.node)
        self.stage.leave(self.name)

    def new_wire(self):
        self.stage.connections += 1
        wire = Wire(self, self.stage.connections)
        self.wires[wire.number] = wire
        return wire


class Stage:
    """`trace` is what has happened, as lines."""

    def __init__(self):
        self.now = EPOCH
        self.trace = []
        self.with_logs = False
        self.names = Names()
        self.words = Words(self.names)
        self.roles = {}             # name -> function(engine, random.Random): its node
        self.addresses = {}         # (host, port) -> name
        self.engines = {}           # name -> engine, of storages
        self.saved = {}             # name -> a copy of it
        self.actors = {}            # name -> Actor, while it runs
        self.connections = 0
        self.starts = 0             # of processes: no two are alike
        self._queue = deque()       # (Actor, event, packet or None), on their way
        # What is not delivered: (`C1->S1`, or who gets it; kind of packet or None) -> messages.
        self._held = {}

    def note(self, line):
        self.trace.append(line)

    # -- processes --------------------------------------------------------------------------
    def add(self, name, address, make, engine=None):
        self.roles[name] = make
        if address is not None:
            self.addresses[address] = name
        if engine is not None:
            self.engines[name] = engine

    def start(self, name, left=None):
        engine = self.engines.get(name)
        self.starts += 1
        node = self.roles[name](engine, random.Random('%s %d' % (name, self.starts)))
        actor = self.actors[name] = Actor(self, name, node, left)
        actor.start()

    def leave(self, name):
        actor = self.actors.pop(name)
        if name in self.engines:
            self.engines[name] = self.engines[name].reopened()
        self._queue = deque(item for item in self._queue if item[0] is not actor)
        for held in self._held.values():        # it is lost with the connection
            held[:] = [item for item in held if item[0] is not actor and item[2][0] != name]
        for wire in actor.wires.values():
            self.close(wire)
        return actor

    def save(self, name):
        """Copy the disk of one that does not run."""
        assert name not in self.actors
        self.saved[name] = copy.deepcopy(self.engines[name])

    def restore(self, name):
        assert name not in self.actors
        self.engines[name] = copy.deepcopy(self.saved[name])

    def limit_disk(self, name, free):
        engine = self.engines[name]
        assert type(engine) is MemoryEngine
        engine.capacity = engine._used + FREE_SPACE_RESERVE + free

    # -- connections ------------------------------------------------------------------------
    def connect(self, actor, address):
        called = self.actors.get(self.addresses.get(address))
        if called is None:
            self._queue.append((actor, events.ConnectFailed(address, 'refused'), None))
            return
        here, there = actor.new_wire(), called.new_wire()
        here.other, there.other = there, here
        self._queue.append((actor, events.Connected(here.number, address), None))
        self._queue.append((called, events.Accepted(there.number), None))

    def send(self, wire, packet, request_id):
        other = wire.other
        if type(packet) is Lock:
            self.names.has_tid(packet.ttid, packet.tid)
        packet, request_id = through_codec(packet, request_id)
        self._queue.append((other.actor, events.Received(other.number, packet, request_id),
                            (wire.actor.name, packet)))

    def close(self, wire):
        """By its own side."""
        wire.open = False
        other = wire.other
        if other.open:
            other.open = False
            self._queue.append((other.actor, events.Closed(other.number, 'closed'), None))

    def cut(self, one, other):
        """Lose the connections between two, and what is on its way on them."""
        for wire in list(self.actors[one].wires.values()):
            if wire.other.actor.name == other:
                for side in (wire, wire.other):
                    side.open = False
                    self._queue = deque(item for item in self._queue if item[0] is not side.actor
                                        or getattr(item[1], 'connection', None) != side.number)
                    self._queue.append((side.actor, events.Closed(side.number, 'reset'), None))

    # -- what happens -----------------------------------------------------------------------
    def hold(self, way, kind=None):
        """Let no message (of this kind, and what follows it) come this way, until released."""
        self._held.setdefault((way, kind), [])

    def release(self, way, kind=None):
        self._queue.extendleft(reversed(self._held.pop((way, kind))))

    def _is_held(self, item):
        actor, _, (sender, packet) = item
        for (way, kind), held in self._held.items():
            if way in (actor.name, '%s->%s' % (sender, actor.name)) and (
                    kind in (None, type(packet).__name__)
                    or any(other[2][0] == sender for other in held)):
                held.append(item)
                return True
        return False

    def settle(self):
        """Deliver until nothing is left to be delivered."""
        while self._queue or self._slice():
            if self._queue:
                self._deliver(self._queue.popleft())

    def _deliver(self, item):
        actor, event, message = item
        if self.actors.get(actor.name) is not actor or message and self._is_held(item):
            return
        if message is not None:
            sender, packet = message
            if type(packet) not in (Ping, Ping.Answer):
                self.note('%s -> %s  %s' % (sender, actor.name, self.words.packet(packet)))
        elif type(event) is events.Closed:
            actor.wires.pop(event.connection, None)
        self.now += STEP
        actor.step(event)

    def _slice(self):
        """Background work, when there is nothing else."""
        for actor in list(self.actors.values()):
            if actor.node.background:
                actor.step(events.Slice(1000))
                return True
        return False

    def wait(self, seconds):
        """Let time pass, and timers come."""
        end = self.now + seconds
        self.settle()
        while True:
            due = [(*actor.next_timer(), actor) for actor in self.actors.values() if actor.timers]
            at, name, actor = min(due, key=lambda timer: timer[:2], default=(end + 1, '', None))
            if at > end:
                break
            self.now = max(self.now, at)
            actor.now = self.now
            actor.fire(name)
            self.settle()
        self.now = end
