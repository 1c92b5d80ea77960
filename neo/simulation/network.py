"""A virtual network: connections that carry bytes in order, late, or not at all.

What travels is bytes, as on TCP: a preamble and frames, made and cut by the real codec.  Within one
direction of a connection nothing overtakes; between them, everything may.  A cut holds bytes back,
as retransmission does; a reset loses what is in flight, maybe half a frame.
"""
from collections import deque

from ..protocol import codec, limits

FIN = object()                      # the end of a stream
SLOWEST = 3.0                       # seconds that anything is on its way, if it is not cut
OPENED = object()                   # to who connected: the connection is there


class End:
    """One side of a connection: where a process reads and writes it."""

    def __init__(self, network, process, peer_machine, outgoing):
        self.network = network
        self.process = process
        self.machine = process.machine
        self.peer_machine = peer_machine
        self.connection = process.new_connection(self)
        self.other = None           # the End at the other side
        self.outgoing = outgoing
        self.opened = False         # of who connects: it knows that the connection is there
        self.address = None         # it connected to
        self.decoder = codec.Decoder()
        if outgoing:
            self.decoder.trust(limits.MAX_FRAME)        # as neo.runtime trusts whom it calls
        self.open = True            # until this side closes it or learns that it is closed
        self.stalled = False        # what is in flight towards this end does not come
        self.finished = False       # nothing more arrives here
        self.flight = deque()       # towards this end
        self.last = 0.0             # when the last thing in flight arrives

    def write(self, chunk):
        """Send bytes (or a mark) to the other side."""
        other = self.other
        if other.finished:
            return
        network = self.network
        if type(chunk) is bytes and len(chunk) > 8 and network.rnd.random() < network.split:
            at = network.rnd.randrange(1, len(chunk))
            network.fly(other, chunk[:at])
            chunk = chunk[at:]
        network.fly(other, chunk)
        if chunk is FIN:
            other.finished = True

    def close(self):
        if self.open:
            self.open = False
            self.write(FIN)

    def arrive(self):
        """The first thing in flight is here, unless the way is cut."""
        network = self.network
        way = self.peer_machine.name, self.machine.name
        if self.stalled:
            network.stalled.append(self)
        elif way in network.cuts:
            network.held.setdefault(way, []).append(self)
        elif self.flight:
            chunk = self.flight.popleft()
            if self.open:
                self.process.receive(self, chunk)
            elif chunk is not FIN:
                self.is_gone()

    def is_gone(self):
        """Nobody is here any more, and something was sent: the system answers with a reset, or will
        once there is power, as it is sent again and again."""
        if not self.machine.powered:
            self.network.unheard.setdefault(self.machine.name, []).append(self)
        elif not self.other.finished:
            self.lose()
            self.write(FIN)

    def lose(self):
        """Lose some of what is in flight to the other side, maybe half a frame."""
        flight, rnd = self.other.flight, self.network.rnd
        for _ in range(rnd.randint(0, len(flight))):
            lost = flight.pop()
            if type(lost) is bytes and lost and rnd.random() < .5:
                flight.append(lost[:rnd.randrange(len(lost))])
                return


class Network:
    """All connections, and what is wrong with them at the moment."""

    def __init__(self, scheduler, rnd, trace):
        self.scheduler = scheduler
        self.rnd = rnd
        self.trace = trace
        self.mean_delay = .001
        self.split = .02            # chance that a chunk arrives in two pieces
        self.slow = {}              # machine name -> factor of its delays
        self.cuts = {}              # (from, to) machine names -> how many cuts
        self.held = {}              # (from, to) -> Ends that something waits for
        self.unheard = {}           # machine name, without power -> Ends that were sent something
        self.stalled = []           # Ends that something waits for, once for each arrival
        self.refusing = set()       # machine names that accept no connection now
        self.listeners = {}         # address -> machine
        self.ends = {}              # End -> None, both of each connection, in order

    def delay(self, source, target):
        delay = self.rnd.expovariate(1 / self.mean_delay)
        if self.rnd.random() < .01:
            delay *= 30
        if self.slow:
            delay *= max(self.slow.get(source.name, 1), self.slow.get(target.name, 1))
        return min(delay, SLOWEST)

    def fly(self, end, chunk):
        end.flight.append(chunk)
        end.last = max(end.last, self.scheduler.now + self.delay(end.peer_machine, end.machine))
        self.scheduler.at(end.last, end.arrive)

    # -- connections ----------------------------------------------------------------------
    def connect(self, process, address):
        target = self.listeners.get(tuple(address))
        if target is None:
            self.scheduler.after(.001, process.connect_failed, address, 'no route to host')
        else:
            self.scheduler.after(self.delay(process.machine, target),
                                 self._accept, process, address, target)

    def _accept(self, process, address, target):
        source = process.machine
        if (process.dead or not target.powered or (source.name, target.name) in self.cuts
                or (target.name, source.name) in self.cuts):
            self.scheduler.after(limits.CONNECT_TIMEOUT,
                                 process.connect_failed, address, 'timed out')
        elif target.process is None or target.name in self.refusing:
            self.scheduler.after(self.delay(target, source),
                                 process.connect_failed, address, 'refused')
        else:
            caller = End(self, process, target, True)
            called = End(self, target.process, source, False)
            caller.address = tuple(address)
            caller.other, called.other = called, caller
            self.ends[caller] = self.ends[called] = None
            target.process.accepted(called)
            called.write(OPENED)
            called.write(codec.preamble())

    def forget(self, end):
        if not end.open and not end.other.open:
            self.ends.pop(end, None)
            self.ends.pop(end.other, None)

    # -- faults ---------------------------------------------------------------------------
    def reset(self, end):
        """Break a connection for both sides."""
        for side in (end, end.other):
            if not side.other.finished:
                side.lose()
                side.write(FIN)

    def cut(self, source, target):
        """Let nothing through from one machine to another."""
        way = source, target
        self.cuts[way] = self.cuts.get(way, 0) + 1

    def mend(self, source, target):
        way = source, target
        left = self.cuts.pop(way, 1) - 1
        if left:
            self.cuts[way] = left
            return
        for end in self.held.pop(way, ()):
            end.last = max(end.last, self.scheduler.now + self.rnd.random() * self.mean_delay)
            self.scheduler.at(end.last, end.arrive)

    def power(self, name):
        """A machine is on again, and hears what is sent again."""
        for end in self.unheard.pop(name, ()):
            self.scheduler.after(self.rnd.random(), end.is_gone)

    def stall(self, end):
        """Let nothing through on one connection, towards one end; others between the same machines
        work."""
        end.stalled = True

    def go_on(self, end):
        end.stalled = False
        stalled, self.stalled = self.stalled, []
        for other in stalled:
            if other.stalled:
                self.stalled.append(other)
            else:
                other.last = max(other.last, self.scheduler.now)
                self.scheduler.at(other.last, other.arrive)

    def mend_all(self):
        for end in list(dict.fromkeys(self.stalled)):
            self.go_on(end)
        for end in self.ends:
            end.stalled = False
        for source, target in sorted(self.cuts):
            self.cuts[source, target] = 1
            self.mend(source, target)
        self.slow.clear()
        self.refusing.clear()
