"""To end the poll of another thread."""
import socket


class Waker:
    """Made of sockets, because their numbers are not used by accident once they are closed."""

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
