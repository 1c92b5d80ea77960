"""One run of a node: takes its turns as neo.runtime does, and may die within one of them."""
from ..cluster import events
from ..cluster.turn import take_turn
from ..protocol import codec
from .disk import DiskFailure
from .network import FIN, OPENED
from .witness import watch

EPOCH = 1_750_000_000.0             # virtual time 0, in seconds since 1970
SLICE_PAUSE = .01                   # seconds between two slices, at most


class Crash(Exception):
    """The process dies here."""


class Process:
    """Drives one node.  `doom` arms a crash: ('commit', n) before the n-th commit from now,
    ('committed', n) just after it, ('send', n) after n effects that are a Send, ('effect', n) after
    n of any kind."""

    def __init__(self, world, machine, incarnation):
        self.world = world
        self.machine = machine
        self.name = machine.name
        self.label = '%s/%d' % (machine.name, incarnation)
        self.incarnation = incarnation
        self.offset = machine.clock_offset
        self.node = None
        self.dead = False
        self.frozen = 0
        self.doom = None
        self.inbox = []             # what the next turn finds
        self.ends = {}              # connection -> End
        self.after_step = None      # function called in each turn before the effects
        self.on_interrupt = None    # function that puts another node in the place of this one
        self._timers = {}
        self._last_connection = 0
        self._turn_comes = False
        self._slice_comes = False
        self._effects = {
            events.Send: self._send, events.Connect: self._connect, events.Close: self._close,
            events.Raise: self._raise, events.SetTimer: self._set_timer, events.Log: self._log,
            events.Exit: self._exit}

    def now(self):
        return EPOCH + self.offset + self.world.scheduler.now

    def start(self, node):
        self.node = node
        self.world.trace.note('%s starts' % self.label)
        self.call(lambda: node.start(self.now()))

    # -- what happens to it ---------------------------------------------------------------
    def call(self, function):
        """Have `function()` called in a turn of its own process."""
        self._comes(function)

    def receive(self, end, chunk):
        self._comes((end, chunk))

    def accepted(self, end):
        self._comes(events.Accepted(end.connection))

    def connect_failed(self, address, reason):
        self._comes(events.ConnectFailed(tuple(address), reason))

    def new_connection(self, end):
        self._last_connection += 1
        self.ends[self._last_connection] = end
        return self._last_connection

    def _comes(self, item):
        if not self.dead:
            self.inbox.append(item)
            self.wake()

    def wake(self):
        if not (self._turn_comes or self.frozen or self.dead):
            self._turn_comes = True
            self.world.scheduler.after(self.machine.turn_delay(), self._turn)

    def _fire(self, name, entry):
        if self._timers.get(name) is entry:
            self._comes(events.TimerFired(name))

    # -- a turn ---------------------------------------------------------------------------
    def _turn(self):
        self._turn_comes = False
        if self.dead or self.frozen:
            return
        items, self.inbox = self.inbox, []
        try:
            take_turn(self.node, self._happened(items), self._commit,
                      self._effects if self.doom is None else self._doomed())
        except Crash as crash:
            self.world.kill(self.name, 'crash: %s' % crash)
        except DiskFailure as failure:
            self.world.kill(self.name, str(failure))
        except Exception as error:
            self.world.broken(self, error)
        if self.node.background:
            self._slice_soon()

    def _happened(self, items):
        for item in items:
            for event in self._take(item):
                yield self.now(), event
        if self.after_step is not None:
            self.after_step()

    def _commit(self):
        self._point('commit')
        self.node.commit()
        self._point('committed')

    def _doomed(self):
        """The effects, with a chance to die after each."""
        def doomed(function):
            def do(effect):
                function(effect)
                self._point('effect')
            return do
        return {kind: doomed(function) for kind, function in self._effects.items()}

    def _slice_soon(self):
        """Background work has its turn between whatever else happens, in slices of any size."""
        if not self._slice_comes:
            self._slice_comes = True
            rnd = self.world.rnd
            self.world.scheduler.after(rnd.random() * SLICE_PAUSE, self._comes,
                                       events.Slice(rnd.randint(1, self.world.slice_rows)))

    def _point(self, kind):
        if self.doom is not None and self.doom[0] == kind:
            if self.doom[1] <= 1:
                raise Crash('at %s' % kind)
            self.doom = kind, self.doom[1] - 1

    def _take(self, item):
        if type(item) is tuple:
            yield from self._read(*item)
        elif type(item) is events.TimerFired:
            if self._timers.pop(item.name, None) is not None:
                yield item
        elif callable(item):
            item()
        else:
            if type(item) is events.Slice:
                self._slice_comes = False
            yield item

    def _read(self, end, chunk):
        connection = end.connection
        if not end.open:
            return
        if chunk is OPENED:
            end.opened = True
            end.write(codec.preamble())
            yield events.Connected(connection, end.address)
        elif chunk is FIN:
            yield self._ended(end, 'closed by the other side')
        else:
            end.decoder.feed(chunk)
            whole = False
            try:
                for packet, request_id in end.decoder.packets():
                    whole = True
                    yield events.Received(connection, packet, request_id)
            except codec.ProtocolError as error:
                self.world.violation('%s received what is no packet: %s' % (self.label, error))
                yield self._ended(end, str(error))
                return
            if not whole:
                yield events.Progress(connection)

    def _ended(self, end, reason):
        self._drop(end)
        if end.outgoing and not end.opened:
            return events.ConnectFailed(end.address, reason)
        return events.Closed(end.connection, reason)

    def _drop(self, end):
        del self.ends[end.connection]
        end.close()
        end.network.forget(end)

    # -- effects --------------------------------------------------------------------------
    def _send(self, effect):
        end = self.ends.get(effect.connection)
        packet = effect.packet
        if end is None:
            return
        watch(self, packet)
        data = codec.encode(packet, effect.request_id)
        codec.decode(data[codec.HEADER_SIZE:])      # what may not be said shows where it is said
        trace = self.world.trace
        trace.bytes(data)
        trace.note('%s -> %s #%d' % (self.label, end.other.process.label, effect.request_id),
                   packet)
        self.world.counts[type(packet).__name__] += 1
        self.world.counts['messages'] += 1
        self.world.counts['bytes sent'] += len(data)
        end.write(data)
        self._point('send')

    def _connect(self, effect):
        end = self.world.network.connect(self, effect.address)
        assert end is None

    def _close(self, effect):
        end = self.ends.get(effect.connection)
        if end is not None:
            self._drop(end)

    def _raise(self, effect):
        end = self.ends.get(effect.connection)
        if end is not None:
            end.decoder.trust(effect.limit)

    def _set_timer(self, effect):
        entry = self._timers.pop(effect.name, None)
        if entry is not None:
            self.world.scheduler.cancel(entry)
        if effect.at is not None:
            entry = self.world.scheduler.at(effect.at - EPOCH - self.offset, None)
            entry[2:] = self._fire, (effect.name, entry)
            self._timers[effect.name] = entry

    def _log(self, effect):
        self.world.logged(self, effect.level, effect.message)

    def _exit(self, effect):
        self.world.exited(self, effect.status, effect.message)

    # -- the end --------------------------------------------------------------------------
    def replaced(self, node):
        """The same process as it goes on with another node; what was on its way to the former one
        does not reach that."""
        calls = [item for item in self.inbox if callable(item)]
        self.die()
        self.world.trace.note('%s is interrupted' % self.label)
        successor = self.machine.process = Process(self.world, self.machine, self.incarnation)
        successor.offset = self.offset
        successor.start(node)
        for call in calls:
            successor.call(call)
        return successor

    def die(self, silently=False, leaving=False):
        """Stop at once.  The system closes its connections, unless the machine is gone too; who is
        `leaving` has sent all before."""
        self.dead = True
        self.inbox.clear()
        for entry in self._timers.values():
            self.world.scheduler.cancel(entry)
        self._timers.clear()
        rnd = self.world.network.rnd
        for end in list(self.ends.values()):
            if silently:
                end.open = False
            else:
                if not leaving and rnd.random() < .5:
                    end.lose()
                self._drop(end)
        self.ends.clear()
