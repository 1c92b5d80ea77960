"""The other side of a connection, blocking and simple, for tests."""
import socket
import time

from neo.protocol.codec import Decoder, encode, preamble
from neo.protocol.limits import MAX_FRAME


class Peer:

    def __init__(self, address, greet=True, buffer=None):
        host, port = address
        family = socket.AF_INET6 if ':' in host else socket.AF_INET
        self.socket = socket.socket(family)
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(20)
        self.socket.connect((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.decoder = Decoder(limit=MAX_FRAME)
        if greet:
            self.socket.sendall(preamble())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, packet, request_id=0):
        self.socket.sendall(encode(packet, request_id))

    def packets(self):
        """Yield what comes, till the other side closes."""
        while True:
            yield from self.decoder.packets()
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                return
            if not data:
                return
            self.decoder.feed(data)

    def receive(self):
        return next(self.packets())

    def ask(self, packet):
        self.send(packet, 1)
        return self.receive()[0]


def until(condition, seconds=20):
    """Wait till `condition()` is true; gives it."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, 'it does not become true'
        time.sleep(0.002)
    return result
