"""The loop of a daemon: one thread, one node, one epoll (docs/architecture.md, "A node").

    loop = Loop(log)
    address = loop.listen('127.0.0.1', 0)       # before the node, which has to know it
    sys.exit(loop.run(Storage(rnd, engine, cluster, masters, address)))
"""
import errno
import gc
import logging
import signal
import socket
import threading
from contextlib import contextmanager
from functools import partial

from ..master.state import StateError
from ..protocol import limits
from . import addresses, clock
from .connection import Connection
from .driver import IN, Driver

STOP = signal.SIGTERM, signal.SIGINT
REOPEN = signal.SIGHUP, signal.SIGUSR1
NO_RESOURCES = errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM


class Loop(Driver):
    """`log` is a neo.runtime.logs.Log."""

    def __init__(self, log, lookup=addresses.lookup):
        super().__init__(self._write, lookup)
        self._logs = log
        self._listeners = {}            # socket -> function(number, socket): a Stream
        self._stopping = False
        self._reopening = False

    def listen(self, host, port, make=Connection):
        """Begin to listen; gives `(host, port)` with the real port.  Raises ListenError.

        Who connects is served by `make(number, socket)`: a Connection or another kind of Stream.
        """
        sockets, port = addresses.listen(host, port)
        self._listeners.update(dict.fromkeys(sockets, make))
        return host, port

    def run(self, node, release=None):
        """Drive `node` until it exits, fails, or is told to stop; gives the exit status.

        In the main thread, SIGTERM and SIGINT stop it with status 0, SIGHUP and SIGUSR1 reopen the
        log.  All sockets are closed afterwards, after `release()`: who sees that this process is
        gone may rely on what that has given back.
        """
        self.node = node
        try:
            with self._signals(), _tuned_gc():
                try:
                    return self._run()
                finally:
                    if release is not None:
                        release()
        finally:
            self.close()

    def stop(self):
        """Make `run` return 0, as SIGTERM does; for any thread."""
        self._stopping = True
        self.waker.wake()

    def close(self):
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        super().close()

    # -- running ----------------------------------------------------------------------------
    def _run(self):
        try:
            self._listen_again()
            self.node.start(clock.now())
            self.act()
            while self.exit is None:
                self.turn(self.poll(self.next()))
                if self._reopening:
                    self._reopening = False
                    self._logs.reopen()
                if self._stopping and self.exit is None:
                    self._stop()
        except StateError as error:
            self._logs.fail(str(error))     # likewise
            return 1
        except Exception as error:
            # What the node wanted done in this turn is not: it may rest on what is wrong now.
            text = '%s: %s' % (type(error).__name__, error)
            self._logs.fail('stopped by an error: ' + text.replace('\n', ' '), exc_info=True)
            return 1
        status, message = self.exit
        if status:
            self._logs.fail(message)
        elif message:
            self._write(logging.INFO, message)
        self.flush_all(clock.now() + limits.CLOSE_GRACE)
        return status

    def _stop(self):
        stop = getattr(self.node, 'stop', None)
        if stop is not None:
            self.node.now = clock.now()
            stop()
            self.act()
        if self.exit is None:
            self.exit = 0, 'stopped'

    def _write(self, level, message):
        # A node is known by its id once it has one.
        id = getattr(self.node, 'id', None)
        if id:
            self._logs.name = id
        self._logs(level, message)

    # -- accepting --------------------------------------------------------------------------
    def _listen_again(self):
        for listener in self._listeners:
            self.watch(listener, IN, partial(self._accept, listener))

    def _accept(self, listener, mask, now):
        happened = []
        for _ in range(limits.ACCEPTS_PER_TURN):
            try:
                sock, _address = listener.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in NO_RESOURCES:
                    self._listen_later(error)
                    break
                continue        # this one is gone already
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            event = self.add(partial(self._listeners[listener], socket=sock)).opened()
            if event is not None:
                happened.append((now, event))
        return happened

    def _listen_later(self, error):
        # Who waits to be accepted would wake the loop again and again.
        self._write(logging.ERROR, 'no connection can be accepted: %s' % error.strerror)
        for listener in self._listeners:
            self.unwatch(listener)
        self.deadlines.set(self._listen_again, clock.now() + limits.ACCEPT_PAUSE)

    # -- signals ----------------------------------------------------------------------------
    @contextmanager
    def _signals(self):
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._signalled) for number in STOP + REOPEN}
        wakeup = signal.set_wakeup_fd(self.waker.writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, number, frame):
        if number in STOP:
            self._stopping = True
        else:
            self._reopening = True


@contextmanager
def _tuned_gc():
    """Packets live short and hold no cycles: what is there at the start is never looked at again,
    and new objects less often than by default."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
