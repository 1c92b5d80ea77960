"""Host names and ports to sockets."""
import errno
import socket
import threading

from ..protocol import limits


class ListenError(Exception):
    """An address can't be listened at; the message says which, and why, in one line.  `in_use`: it
    is an address of this machine, and somebody else has it."""

    def __init__(self, message, in_use=False):
        super().__init__(message)
        self.in_use = in_use


def show(address):
    host, port = address
    return ('[%s]:%d' if ':' in host else '%s:%d') % (host, port)


def _lookup(address, flags):
    host, port = address
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    return [(family, sockaddr) for family, _type, _proto, _name, sockaddr in infos]


def lookup(address, done):
    """Call `done(candidates, reason)` with [(family, socket address)] for `(host, port)`.

    At once for numbers; later, and from another thread, for names: a name server may be slow.
    """
    try:
        done(_lookup(address, socket.AI_NUMERICHOST), None)
    except (OSError, OverflowError, UnicodeError):
        threading.Thread(target=_lookup_name, args=(address, done), daemon=True,
                         name='NEO name lookup').start()


def _lookup_name(address, done):
    try:
        candidates, reason = _lookup(address, 0), None
    except (OSError, OverflowError, UnicodeError) as error:
        candidates, reason = [], getattr(error, 'strerror', None) or str(error)
    done(candidates, reason)


def listen(host, port):
    """`(listening sockets, port)`, one per address that `host` stands for; port 0: any.

    Raises ListenError."""
    try:
        candidates = _lookup((host, port), socket.AI_PASSIVE)
        # A port found free at one address may be used at the next one.
        for last in [True] if port else [False, False, True]:
            try:
                return _bind_all(candidates, port)
            except OSError:
                if last:
                    raise
    except (OSError, OverflowError, UnicodeError) as error:
        raise ListenError('cannot listen at %s: %s' % (
            show((host, port)), getattr(error, 'strerror', None) or error),
            in_use=getattr(error, 'errno', None) == errno.EADDRINUSE)


def _bind_all(candidates, port):
    sockets, failure = [], OSError('the name has no address')
    for family, sockaddr in candidates:
        try:
            one = _bind(family, (sockaddr[0], port) + sockaddr[2:], len(candidates) > 1)
        except OSError as error:
            failure = error
            if error.errno == errno.EADDRINUSE:
                break
        else:
            sockets.append(one)
            port = one.getsockname()[1]
    # An address of a kind that this machine lacks does not matter as long as there is another.
    if sockets and failure.errno != errno.EADDRINUSE:
        return sockets, port
    for one in sockets:
        one.close()
    raise failure


def _bind(family, sockaddr, several):
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and several:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(sockaddr)
        listener.listen(limits.BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
