"""One connection: bytes in, bytes out, behind one object (docs/architecture.md, "A node").

Nothing above it knows that the bytes go through a socket as they are.  It is not used by two
threads at once.
"""
import socket
from collections import deque
from itertools import islice

from ..cluster.events import Received
from ..protocol import limits
from ..protocol.codec import Decoder, preamble

IOV_MAX = 1024                  # buffers that Linux takes in one call
# Whoever embeds a client may have brought back the SIGPIPE that Python ignores.
_FLAGS = socket.MSG_NOSIGNAL


class ConnectionLost(Exception):
    """The other side, or the network, has ended it; the message says how."""


class Connection:
    """`number` is what nodes call it.  `outgoing` if this side has connected: it trusts the address
    it was given, and therefore takes long frames at once."""

    __slots__ = ('number', 'socket', 'outgoing', 'decoder', 'output', 'queued', 'mask', 'closing',
                 'held', '_broken')

    def __init__(self, number, socket, outgoing):
        self.number = number
        self.socket = socket
        self.outgoing = outgoing
        self.decoder = Decoder()
        if outgoing:
            self.decoder.limit = limits.MAX_FRAME
        self.output = deque()       # frames, or what is left of the first
        self.queued = 0             # bytes in `output`
        self.mask = 0               # what epoll watches: belongs to the driver
        self.closing = False        # once nothing is left to send: belongs to the driver
        self.held = False           # packets may be left in the decoder
        self._broken = False        # nothing can be sent any more; there may be bytes to read
        self.send(preamble())

    @property
    def paused(self):
        """Too many answers wait for somebody who does not read them: let it not ask for more.

        Only who was connected to does so, else two sides might wait for each other.
        """
        return self.queued > limits.OUTPUT_PAUSE and not self.outgoing

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
        self.decoder.feed(buffer[:size])

    def happened(self, now):
        """Give `(now, event)` for what was received, up to PACKETS_PER_TURN; raises ProtocolError.

        `held` tells afterwards whether there may be more to give."""
        number, count = self.number, 0
        for packet, request_id in islice(self.decoder.packets(), limits.PACKETS_PER_TURN):
            count += 1
            yield now, Received(number, packet, request_id)
        self.held = count == limits.PACKETS_PER_TURN

    def send(self, frame):
        """Queue bytes for the next `flush`."""
        if not self._broken:
            self.output.append(frame)
            self.queued += len(frame)

    def flush(self):
        """Send what is queued, as far as it goes; the rest stays in `output`."""
        output = self.output
        try:
            while output:
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
