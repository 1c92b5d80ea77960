"""Connections: bytes in, bytes out, behind one object (docs/architecture.md, "A node").

Nothing above them knows that the bytes go through a socket as they are.  None is used by two
threads at once.
"""
import select
import socket
from collections import deque
from itertools import islice

from ..cluster.events import Accepted, Closed, Progress, Received
from ..protocol import limits
from ..protocol.codec import Decoder, ProtocolError, encode, preamble
from ..protocol.packets import Error
from ..protocol.types import ErrorCode

IOV_MAX = 1024                  # buffers that Linux takes in one call
# Whoever embeds a client may have brought back the SIGPIPE that Python ignores.
_FLAGS = socket.MSG_NOSIGNAL


class ConnectionLost(Exception):
    """The other side, or the network, has ended it; the message says how."""


class Stream:
    """A connection of any protocol.  One that serves what is not NEO's defines `received` and
    `happened`: it answers with `send`, and ends it with `ends`; the node hears nothing of it.

    `number` is what nodes call it.
    """

    __slots__ = ('number', 'socket', 'output', 'queued', 'mask', 'closing', 'held', 'ends',
                 '_broken')

    answers = True                  # it sends by itself, and not what a node sends

    def __init__(self, number, socket):
        self.number = number
        self.socket = socket
        self.output = deque()       # bytes to be sent; of the first maybe only what is left
        self.queued = 0             # bytes in `output`
        self.mask = 0               # what epoll watches: belongs to the driver
        self.closing = False        # once nothing is left to send: belongs to the driver
        self.held = False           # `happened` may have more to tell, without more bytes
        self.ends = False           # it is to be closed once all is sent
        self._broken = False        # nothing can be sent any more; there may be bytes to read

    @property
    def is_idle(self):
        """Is all sent that was to be, and anything that comes watched for?"""
        return not (self.output or self.closing or self.held) and self.mask == select.EPOLLIN

    # -- for protocols ----------------------------------------------------------------------
    def received(self, data):
        """Bytes (a memoryview, valid until this returns) have come."""
        raise NotImplementedError

    def happened(self, now):
        """`[(now, event)]`, what has happened to the node, and the reason (or None) why what
        came makes no sense from then on; called after `received`."""
        return (), None

    def opened(self):
        """The event for a node, or None."""

    def closed(self, reason):
        """The event for a node, or None."""

    def refuse(self, reason):
        """What has come makes no sense: send last words."""

    @property
    def paused(self):
        """Too many answers wait for somebody who does not read them: let it not ask for more."""
        return self.queued > limits.OUTPUT_PAUSE

    # -- bytes ------------------------------------------------------------------------------
    def receive(self, buffer):
        """Take what has come, at most one `buffer` (a memoryview) of it; raises ConnectionLost."""
        try:
            size = self.socket.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            raise ConnectionLost(error.strerror or str(error))
        if not size:
            raise ConnectionLost('the other side has closed the connection')
        self.received(buffer[:size])

    def send(self, data):
        """Queue bytes for the next `flush`."""
        if not self._broken:
            self.output.append(data)
            self.queued += len(data)

    def flush(self):
        """Send what is queued, as far as it goes; the rest stays in `output`."""
        output = self.output
        try:
            while output:
                if len(output) == 1:
                    size = self.queued
                    sent = self.socket.send(output[0], _FLAGS)
                else:
                    some = output if len(output) <= IOV_MAX else list(islice(output, IOV_MAX))
                    size = sum(map(len, some))
                    sent = self.socket.sendmsg(some, (), _FLAGS)
                self._remove(sent)
                if sent < size:
                    return
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._break()

    def close(self):
        self.socket.close()

    def _remove(self, sent):
        self.queued -= sent
        if not self.queued:
            self.output.clear()
            return
        output = self.output
        while sent:
            first = output.popleft()
            if len(first) > sent:
                output.appendleft(memoryview(first)[sent:])
                return
            sent -= len(first)

    def _break(self):
        # The peer may have said why it left, before it did: that is read before the end is told.
        self._broken = True
        self.output.clear()
        self.queued = 0
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Connection(Stream):
    """The protocol of NEO.  With `accepted` this side has connected: it trusts the address it was
    given, and therefore takes long frames at once; `accepted()` is called when the node knows whom
    it has reached."""

    __slots__ = 'outgoing', 'decoder', '_accepted', '_pause_at'

    answers = False

    def __init__(self, number, socket, accepted=None):
        super().__init__(number, socket)
        self.outgoing = accepted is not None
        self.decoder = Decoder()
        self._accepted = accepted
        self._pause_at = limits.OUTPUT_PAUSE_UNIDENTIFIED
        if self.outgoing:
            self.decoder.trust(limits.MAX_FRAME)
        self.send(preamble())

    def received(self, data):
        self.decoder.feed(data)

    def happened(self, now):
        number, happened, fault = self.number, [], None
        try:
            for packet, request_id in self.decoder.packets(limits.PACKETS_PER_TURN):
                happened.append((now, Received(number, packet, request_id)))
        except ProtocolError as error:
            fault = str(error)
        self.held = len(happened) == limits.PACKETS_PER_TURN
        return happened or [(now, Progress(number))], fault

    def trust(self, limit):
        """The node knows who this is: take frames up to `limit` bytes."""
        self.decoder.trust(limit)
        self._pause_at = limits.OUTPUT_PAUSE
        if self._accepted is not None:
            self._accepted()

    def opened(self):
        try:
            address = self.socket.getpeername()[:2]
        except OSError:
            address = None              # it has gone already
        return Accepted(self.number, address)

    def closed(self, reason):
        return Closed(self.number, reason)

    def refuse(self, reason):
        if self.decoder.version is not None:
            self.send(encode(Error(ErrorCode.PROTOCOL, reason[:limits.MAX_TEXT // 4])))

    @property
    def paused(self):
        # Only who was connected to does so, else two sides might wait for each other.
        return self.queued > self._pause_at and not self.outgoing
