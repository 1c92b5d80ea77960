"""Ports for clusters that run beside others."""
import socket

from ..cluster.addresses import readable


class Port:
    """A port of this machine that nobody else is given, except who binds it by its number.

    `number` None: any that is free.  OSError if that one is taken.
    """

    def __init__(self, host='127.0.0.1', number=None):
        self._socket = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
        # Two that are not listened at yet may be the same: an abstract name can't be had twice.
        self._lock = socket.socket(socket.AF_UNIX)
        try:
            # So that the daemon which it is for can bind it as well, while it is kept here.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, number or 0))
            self.host, self.number = host, self._socket.getsockname()[1]
            self._lock.bind('\0neo port %s' % self)
        except OSError as error:
            self.close()
            if number is not None:
                error = OSError(error.errno, error.strerror, readable((host, number)))
            raise error
        except BaseException:
            self.close()
            raise

    def __str__(self):
        return readable((self.host, self.number))

    def close(self):
        self._socket.close()
        self._lock.close()


def preferred(host, number):
    """This port, or another one if it is taken."""
    try:
        return Port(host, number)
    except OSError:
        return Port(host)
