"""What both drivers share: connections, timers, and the effects of one node.

A turn: what has come is given to the node, the engine is committed if the node asks for it, and the
effects are done in order; then each connection is flushed once (docs/architecture.md, "A node").
"""
import logging
import select
import socket
from collections import deque
from functools import partial
from itertools import islice

from ..cluster import events
from ..protocol import limits
from ..protocol.codec import ProtocolError, encode
from ..protocol.packets import Error
from ..protocol.types import ErrorCode
from . import addresses, clock
from .connection import Connection, ConnectionLost
from .timers import Timers

IN, OUT = select.EPOLLIN, select.EPOLLOUT


class Waker:
    """Ends the poll of another thread.  Made of sockets, because their numbers are
    not used by accident once they are closed."""

    def __init__(self):
        self._reader, self.writer = socket.socketpair()
        self._reader.setblocking(False)
        self.writer.setblocking(False)

    def fileno(self):
        return self._reader.fileno()

    def wake(self):
        try:
            self.writer.send(b'\0')
        except OSError:
            pass        # full: it will wake anyway; closed: nobody is there to be woken

    def drain(self):
        try:
            while len(self._reader.recv(4096)) == 4096:
                pass
        except OSError:
            pass

    def close(self):
        self._reader.close()
        self.writer.close()


class Driver:
    """Not to be used by two threads at once, `poll` and `wake` excepted."""

    def __init__(self, log):
        self.node = None
        self.exit = None                # (status, message), once the node has asked for it
        self.timers = Timers()          # of the node
        self._log = log                 # function(level, message)
        self._deadlines = Timers()      # of the driver: functions to be called
        self._connections = {}          # number -> Connection
        self._last_number = 0
        self._attempts = {}             # Attempt -> function that ends it, while it lasts
        self._handlers = {}             # fd -> function(mask)
        self._events = deque()          # to be given to the node in the next turn
        self._backlog = {}              # number -> Connection with packets that are decoded later
        self._unflushed = {}            # number -> Connection
        self._looked_up = deque()       # (address, candidates, reason); appended by other threads
        self._buffer = memoryview(bytearray(limits.READ_SIZE))
        self._epoll = select.epoll()
        self.waker = Waker()
        self._watch(self.waker, IN, self._woken)
        self._do = {
            events.Connect: self._connect, events.Close: self._close, events.Raise: self._raise,
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
        one, other = self.timers.next(), self._deadlines.next()
        return one if other is None or (one is not None and one < other) else other

    def poll(self, until):
        """Wait till something comes, or until then (None: for ever); the result is for `turn`."""
        timeout = -1 if until is None else max(0, until - clock.now()) if until else 0
        return self._epoll.poll(timeout, limits.EVENTS_PER_TURN)

    def turn(self, ready=()):
        now = clock.now()
        step = self.node.step
        for _ in range(len(self._events)):
            step(now, self._events.popleft())
        if self._backlog:
            backlog, self._backlog = self._backlog, {}
            for connection in backlog.values():
                self._deliver(connection, now)
        for fd, mask in ready:
            # What this turn has closed meanwhile is not there any more.
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(mask)
        due = self.next()
        if due is not None and due <= now:
            for deadline in self._deadlines.due(now):
                deadline()
            for name in self.timers.due(now):
                step(now, events.TimerFired(name))
        self.act()

    def act(self):
        """Do what the node wants done."""
        batch = self.node.ready()
        if batch.commit:
            self.node.commit()
        if batch.effects:
            self._perform(batch.effects)
        if self._unflushed:
            unflushed, self._unflushed = self._unflushed, {}
            for connection in unflushed.values():
                self._flush(connection)

    def _perform(self, effects):
        last = last_id = frame = None
        for effect in effects:
            if type(effect) is events.Send:
                connection = self._connections.get(effect.connection)
                if connection is None or connection.closing:
                    continue
                if effect.packet is not last or effect.request_id != last_id:
                    # What goes to many peers is encoded once.
                    last, last_id = effect.packet, effect.request_id
                    frame = encode(last, last_id)
                connection.send(frame)
                self._unflushed[connection.number] = connection
            else:
                self._do[type(effect)](effect)
                if self.exit is not None:
                    break

    def _exit(self, effect):
        self.exit = effect.status, effect.message

    # -- connecting -------------------------------------------------------------------------
    def _connect(self, effect):
        addresses.lookup(effect.address, partial(self._found, effect.address))

    def _found(self, address, candidates, reason):
        self._looked_up.append((address, candidates, reason))
        self.waker.wake()

    def _woken(self, mask):
        self.waker.drain()
        while self._looked_up:
            attempt = addresses.Attempt(*self._looked_up.popleft())
            self._attempts[attempt] = late = partial(self._connected, attempt, late=True)
            self._deadlines.set(late, clock.now() + limits.CONNECT_TIMEOUT)
            self._attempt(attempt)

    def _attempt(self, attempt):
        if attempt.next():
            self._watch(attempt.socket, OUT, partial(self._connected, attempt))
        else:
            self._deadlines.set(self._attempts.pop(attempt), None)
            self._events.append(events.ConnectFailed(attempt.address, attempt.reason))

    def _connected(self, attempt, mask=0, late=False):
        connected = attempt.connected()
        if connected is None and not late:
            return
        self._unwatch(attempt.socket)
        if connected:
            self._deadlines.set(self._attempts.pop(attempt), None)
            connection = self.add(attempt.socket, outgoing=True)
            self.node.step(clock.now(), events.Connected(connection.number, attempt.address))
        elif late:
            attempt.close()
            del self._attempts[attempt]
            self._events.append(events.ConnectFailed(attempt.address, 'it takes too long'))
        else:
            self._attempt(attempt)

    def add(self, sock, outgoing):
        """A new connection; the node is to be told its number."""
        self._last_number += 1
        connection = Connection(self._last_number, sock, outgoing)
        self._connections[connection.number] = self._unflushed[connection.number] = connection
        connection.mask = IN
        self._watch(sock, IN, partial(self._ready, connection))
        return connection

    # -- receiving --------------------------------------------------------------------------
    def _ready(self, connection, mask):
        if mask & OUT:
            self._unflushed[connection.number] = connection
        if mask & ~OUT:
            if connection.mask & IN:
                self._receive(connection)
            else:
                # Reading is off, so that only sending can show what is wrong.
                self._unflushed[connection.number] = connection

    def _receive(self, connection):
        if connection.held:
            return
        try:
            connection.receive(self._buffer)
        except ConnectionLost as lost:
            self._lose(connection, str(lost))
        else:
            self._deliver(connection, clock.now())

    def _deliver(self, connection, now):
        number, step = connection.number, self.node.step
        if number not in self._connections:
            return
        count = 0
        try:
            for packet, request_id in islice(connection.decoder.packets(), limits.PACKETS_PER_TURN):
                count += 1
                step(now, events.Received(number, packet, request_id))
        except ProtocolError as error:
            self._refuse(connection, str(error))
            return
        connection.held = count == limits.PACKETS_PER_TURN
        if connection.held:
            # `_flush` decides whether it goes on at once, or when enough has been read.
            self._unflushed[number] = connection

    def _refuse(self, connection, reason):
        """Close who does not speak the protocol, telling why if that can be understood."""
        self._log(logging.WARNING, 'a connection is closed: ' + reason)
        if connection.decoder.version is not None:
            connection.send(encode(Error(ErrorCode.PROTOCOL, reason[:limits.MAX_TEXT // 4])))
        self._events.append(events.Closed(connection.number, reason))
        self._end(connection)

    def _lose(self, connection, reason):
        if not connection.closing:
            self._events.append(events.Closed(connection.number, reason))
        self._drop(connection)

    # -- sending and closing ----------------------------------------------------------------
    def _flush(self, connection):
        number = connection.number
        if connection.output:
            connection.flush()
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
        self._deadlines.set(partial(self._drop, connection), clock.now() + limits.CLOSE_GRACE)

    def _drop(self, connection):
        if self._connections.pop(connection.number, None) is not None:
            self._backlog.pop(connection.number, None)
            self._unflushed.pop(connection.number, None)
            self._unwatch(connection.socket)
            connection.close()

    def _raise(self, effect):
        connection = self._connections.get(effect.connection)
        if connection is not None:
            connection.decoder.limit = max(connection.decoder.limit, effect.limit)

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
        for attempt in self._attempts:
            attempt.close()
        self._connections.clear()
        self._attempts.clear()
        self._handlers.clear()
        self._epoll.close()
        self.waker.close()

    # -- epoll ------------------------------------------------------------------------------
    def _watch(self, file, mask, handler):
        self._epoll.register(file, mask)
        self._handlers[file.fileno()] = handler

    def _unwatch(self, file):
        del self._handlers[file.fileno()]
        self._epoll.unregister(file)
