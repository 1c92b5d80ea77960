"""What both drivers share: connections, timers, and the effects of one node.

In a turn (neo.cluster.turn), what has come is given to the node and its effects are done in order;
then each connection is flushed once.
"""
import logging
import select
from collections import deque
from functools import partial

from ..cluster import events
from ..cluster.turn import finish_turn, take_turn
from ..protocol import limits
from ..protocol.codec import TooLarge, encode
from ..protocol.packets import Error
from ..protocol.types import ErrorCode
from . import addresses, clock
from .calling import Caller
from .connection import ConnectionLost
from .slices import Slices
from .timers import Timers
from .waker import Waker

IN, OUT = select.EPOLLIN, select.EPOLLOUT


class Driver:
    """Not to be used by two threads at once, `poll` and `wake` excepted.

    `log(level, message)` is called in the midst of a turn: who holds a lock meanwhile gives
    a function that only keeps the line, and writes it later.  `lookup` finds the addresses of a
    name, as that of neo.runtime.addresses does.
    """

    def __init__(self, log, lookup=addresses.lookup):
        self.node = None
        self.exit = None                # (status, message), once the node has asked for it
        self.timers = Timers()          # of the node
        self._log = log
        self.deadlines = Timers()       # of the driver: functions to be called
        self.waker = Waker()
        self._caller = Caller(self, lookup)
        self._connections = {}          # number -> Stream
        self._last_number = 0
        self._handlers = {}     # fd -> function(mask, now), gives [(now, event)] for the node
        self._events = deque()          # to be given to the node in the next turn
        self._backlog = {}              # number -> Stream with packets that are decoded later
        self._unflushed = {}            # number -> Stream
        self._moved = {}                # number -> None: some of what had to wait has been sent
        self._slices = Slices()
        self._last_sent = self._frame = None    # a Send of this turn, and its bytes
        self._buffer = memoryview(bytearray(limits.READ_SIZE))
        self._epoll = select.epoll()
        self.watch(self.waker, IN, self._woken)
        self._do = {
            events.Send: self._send,
            events.Connect: lambda effect: self._caller.call(effect.address),
            events.Close: self._close, events.Raise: self._raise,
            events.SetTimer: lambda effect: self.timers.set(effect.name, effect.at),
            events.Log: lambda effect: self._log(effect.level, effect.message),
            events.Exit: self._exit,
        }

    def fileno(self):
        """Readable when a poll would give something."""
        return self._epoll.fileno()

    # -- a turn -----------------------------------------------------------------------------
    def next(self):
        """When a turn is due even if nothing comes; None: never."""
        if self._events or self._backlog:
            return 0
        one, other = self.timers.next(), self.deadlines.next()
        due = one if other is None or (one is not None and one < other) else other
        if self.node.background:
            at = self._slices.next()
            return at if due is None or at < due else due
        return due

    def poll(self, until):
        """Wait till something comes, or until then (None: for ever); the result is for `turn`."""
        timeout = -1 if until is None else max(0, until - clock.now()) if until else 0
        return self._epoll.poll(timeout, limits.EVENTS_PER_TURN)

    def turn(self, ready=()):
        node = self.node
        happened = self._happened(ready, clock.now())
        busy = bool(happened)
        take_turn(node, happened, node.commit, self._do)
        self._flush_all()
        if node.background and self.exit is None:
            if busy:
                self._slices.busy(clock.now())
            if self._slices.next() <= clock.now():
                self._slice(node.background[0])

    def act(self):
        """Do what the node wants done of what was called on it."""
        finish_turn(self.node, self.node.commit, self._do)
        self._flush_all()

    def _happened(self, ready, now):
        happened = [(now, event) for event in self._events]
        self._events.clear()
        if self._backlog:
            backlog, self._backlog = self._backlog, {}
            for connection in backlog.values():
                happened += self._deliver(connection, now)
        for fd, mask in ready:
            # What this turn has closed meanwhile is not there any more.
            handler = self._handlers.get(fd)
            if handler is not None:
                happened += handler(mask, now)
        if self.deadlines.are_due(now):
            for deadline in self.deadlines.due(now):
                deadline()
        if self.timers.are_due(now):
            # Only a timer can take a peer for dead.
            moved, self._moved = self._moved, {}
            happened += [(now, events.Progress(number)) for number in moved]
            happened += [(now, events.TimerFired(name)) for name in self.timers.due(now)]
        return happened

    def later(self, event):
        """Give the node this event in the next turn."""
        if event is not None:
            self._events.append(event)

    def _slice(self, name):
        # A turn of its own: what came before it is answered first.
        node, began = self.node, clock.now()
        slice = events.Slice(self._slices.amount(name))
        take_turn(node, [(began, slice)], node.commit, self._do)
        self._flush_all()
        self._slices.took(name, began, clock.now(), name in node.background)

    def _send(self, effect):
        connection = self._connections.get(effect.connection)
        if connection is None or connection.closing:
            return
        last = self._last_sent
        if last is None or effect.packet is not last.packet or (
                effect.request_id != last.request_id):
            # What goes to many peers is encoded once.
            try:
                self._frame = encode(effect.packet, effect.request_id)
            except TooLarge as error:
                self._refuse_to_send(connection, effect, str(error))
                return
            self._last_sent = effect
        connection.send(self._frame)
        self._unflushed[connection.number] = connection

    def _refuse_to_send(self, connection, effect, reason):
        """A bug, or an amount that nobody has thought of: that request fails, and nothing else."""
        self._log(logging.CRITICAL, 'a packet is not sent: ' + reason)
        error = Error(ErrorCode.REFUSED, reason)
        if effect.packet.is_answer:
            self._send(events.Send(connection.number, error, effect.request_id))
        elif effect.request_id:
            self.later(events.Received(connection.number, error, effect.request_id))
        else:
            # The peer would not know what it has missed, unless it begins anew.
            self.later(connection.closed(reason))
            self._end(connection)

    def _exit(self, effect):
        self.exit = effect.status, effect.message

    # -- connecting -------------------------------------------------------------------------
    def _woken(self, mask, now):
        self.waker.drain()
        self._caller.begin()
        return ()

    def add(self, make):
        """A new connection, `make(number)`; the node is to be told its number."""
        number = self._last_number = self._last_number + 1
        connection = self._connections[number] = self._unflushed[number] = make(number)
        connection.mask = IN
        self.watch(connection.socket, IN, partial(self._ready, connection))
        return connection

    # -- receiving --------------------------------------------------------------------------
    def _ready(self, connection, mask, now):
        if mask & OUT:
            self._unflushed[connection.number] = connection
        if mask & ~OUT:
            if connection.mask & IN:
                return self._receive(connection, now)
            # Reading is off, so that only sending can show what is wrong.
            self._unflushed[connection.number] = connection
        return ()

    def _receive(self, connection, now):
        if connection.held:
            return ()
        try:
            connection.receive(self._buffer)
        except ConnectionLost as lost:
            self._lose(connection, str(lost))
            return ()
        return self._deliver(connection, now)

    def _deliver(self, connection, now):
        if connection.number not in self._connections:
            return ()
        happened, fault = connection.happened(now)
        if fault is not None:
            self._refuse(connection, fault)
        elif connection.ends and not connection.closing:
            self._end(connection)
        elif connection.held or connection.answers:
            # `_flush` decides whether it goes on at once, or when enough has been read.
            self._unflushed[connection.number] = connection
        return happened

    def _refuse(self, connection, reason):
        """Close who does not speak the protocol, telling why if that can be understood."""
        self._log(logging.WARNING, 'a connection is closed: ' + reason)
        connection.refuse(reason)
        self.later(connection.closed(reason))
        self._end(connection)

    def _lose(self, connection, reason):
        if not connection.closing:
            self.later(connection.closed(reason))
        self._drop(connection)

    # -- sending and closing ----------------------------------------------------------------
    def _flush_all(self):
        self._last_sent = self._frame = None
        if self._unflushed:
            unflushed, self._unflushed = self._unflushed, {}
            for connection in unflushed.values():
                self._flush(connection)

    def _flush(self, connection):
        number = connection.number
        if connection.output:
            before = connection.queued
            connection.flush()
            if connection.is_idle:
                return
            if connection.mask & OUT and connection.queued < before:
                self._moved[number] = None
        if connection.closing and not connection.output:
            self._drop(connection)
            return
        if connection.queued > limits.OUTPUT_LIMIT:
            self._lose(connection, 'it does not read what it is sent')
            return
        paused = connection.paused
        mask = (0 if paused or connection.closing else IN) | (OUT if connection.output else 0)
        if mask != connection.mask and number in self._connections:
            self._epoll.modify(connection.socket, mask)
            connection.mask = mask
        if connection.held:
            if paused or connection.closing:
                self._backlog.pop(number, None)
            else:
                self._backlog[number] = connection

    def _close(self, effect):
        connection = self._connections.get(effect.connection)
        if connection is not None:
            self._end(connection)

    def _end(self, connection):
        """Close after what was sent before, if it is read soon."""
        connection.closing = True
        self._backlog.pop(connection.number, None)
        self._unflushed[connection.number] = connection
        self.deadlines.set(partial(self._drop, connection), clock.now() + limits.CLOSE_GRACE)

    def _drop(self, connection):
        if self._connections.pop(connection.number, None) is not None:
            self._backlog.pop(connection.number, None)
            self._unflushed.pop(connection.number, None)
            self._moved.pop(connection.number, None)
            self.unwatch(connection.socket)
            connection.close()

    def _raise(self, effect):
        connection = self._connections.get(effect.connection)
        if connection is not None:
            connection.trust(effect.limit)

    # -- the end ----------------------------------------------------------------------------
    def flush_all(self, deadline):
        """Send what is left to be sent, as far as that is possible until then."""
        while clock.now() < deadline:
            poll = select.poll()
            waiting = False
            for connection in self._connections.values():
                connection.flush()
                if connection.output:
                    poll.register(connection.socket, select.POLLOUT)
                    waiting = True
            if not waiting:
                return
            poll.poll(max(0, (deadline - clock.now()) * 1000))

    def close(self):
        """Close all sockets; in a child process, this says nothing to the peers of its parent."""
        for connection in self._connections.values():
            connection.close()
        self._caller.close()
        self._connections.clear()
        self._handlers.clear()
        self._epoll.close()
        self.waker.close()

    # -- epoll ------------------------------------------------------------------------------
    def watch(self, file, mask, handler):
        self._epoll.register(file, mask)
        self._handlers[file.fileno()] = handler

    def unwatch(self, file):
        del self._handlers[file.fileno()]
        self._epoll.unregister(file)
