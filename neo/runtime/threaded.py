"""One client core, driven by the threads of an application (docs/architecture.md, "A node").

A thread that asks for something takes the lock, calls the core and sends what it yields.  While it
waits for the answer it reads for everybody, unless another thread does so already: then it sleeps
until it has its answer or reading is handed over to it.  So a thread that is alone never waits for
another one.  Only the poll is done without the lock.

When no application thread has read for IDLE seconds, a background thread does: invalidations, pings
and timers do not wait for the application.  The first thread that reads again sends it away; then
it looks only every IDLE seconds whether it is needed, so that it costs no operation anything.
"""
import logging
import os
import select
import threading
import weakref
from math import ceil

from . import clock
from .driver import Driver, Waker

IDLE = 0.010
CLOSE_TIMEOUT = 5.0
LOGGER = logging.getLogger('neo.client')

_started = weakref.WeakSet()


class _Waiter:
    """A thread that waits for an operation."""

    __slots__ = 'operation', 'wakeup'

    def __init__(self, operation):
        self.operation = operation
        self.wakeup = None          # a lock that is released to wake the thread, while it sleeps


class ThreadedNode:
    """Drives `node`, a client core: its methods give operations, it appends those that end later to
    `completed`, and has `invalidations`.

    `closed(message)` makes the exception of calls that come, or still wait, when it is closed.
    `on_activity()` is called without the lock, by the thread that has read it, when there is
    something new in `node.invalidations`.  Several threads may be in it at once, and it may use
    `call` and `run`.  The operations completed by the same bytes do not wait for it: who
    needs the invalidations before an answer delivers them in its own thread.

    Nothing is opened before the first call, so that a fork before it is harmless.  A child of a
    later fork drops what it has inherited; all its calls fail, and `forked` is true.
    """

    def __init__(self, node, closed=RuntimeError, on_activity=None):
        self.node = node
        self.forked = False
        self._closed_error = closed
        self._on_activity = on_activity
        self._lock = threading.Lock()
        self._closed = None             # why, once it is
        self._released = threading.Event()      # all is closed
        self._driver = None
        self._waiters = {}              # id(operation) -> _Waiter
        self._reader = None             # a _Waiter, or the background thread, or None
        self._polls = False             # the reader is in its poll, or about to be
        self._poll_until = None         # when that ends by itself; None: never
        self._last_read = 0.0           # when application threads have stopped to read
        self._announced = None          # the last invalidation that `on_activity` was called for
        self._background = None         # thread
        self._background_waker = None   # to send it away from its poll
        self._standby = None            # a lock, released to end its rest

    # -- calls ------------------------------------------------------------------------------
    def run(self, function, *args):
        """Call `function(*args)`, which gives an operation of the core; wait till it is done.

        Gives its result or raises its error."""
        waiter = None
        try:
            with self._lock:
                operation = self._call(function, args)
                if not operation.done:
                    waiter = self._waiters[id(operation)] = _Waiter(operation)
                    self._take_place(waiter)
            if waiter is not None:
                self._wait(waiter)
        finally:
            if waiter is not None:
                self._depart(waiter)
        if operation.error is not None:
            _raise(operation.error)
        return operation.result

    def call(self, function, *args):
        """What `function(*args)` gives, called with the lock held; nothing is waited for."""
        with self._lock:
            return self._call(function, args)

    def take_in(self):
        """Give the node what has come already, without waiting for more."""
        news = False
        with self._lock:
            self._check_open()
            # Another thread of the application that reads does it at once anyway.
            if self._driver is not None and self._reader in (None, self._background):
                news = self._turn(self._driver.poll(0))
        if news:
            self._announce()

    def _call(self, function, args):
        self._check_open()
        if self._driver is None:
            self._start()
        self.node.now = clock.now()
        result = function(*args)
        self._guarded(self._driver.act)
        self._wake_done()
        self._check_open()
        if self._polls:
            due = self._driver.next()
            if due is not None and (self._poll_until is None or due < self._poll_until):
                self._driver.waker.wake()
        return result

    def _check_open(self):
        if self._closed is not None:
            raise self._closed_error(self._closed)

    # -- waiting ----------------------------------------------------------------------------
    def _wait(self, waiter):
        while not waiter.operation.done:
            self._check_open()
            if self._reader is waiter:
                self._read(waiter)
            else:
                wakeup = waiter.wakeup
                if wakeup is not None:      # else it was woken meanwhile
                    wakeup.acquire()

    def _depart(self, waiter):
        # It is still there after an error or a signal, or if another thread has got its answer.
        if self._reader is waiter or id(waiter.operation) in self._waiters:
            with self._lock:
                self._waiters.pop(id(waiter.operation), None)
                self._leave(waiter)

    def _take_place(self, waiter):
        """Become the reader, unless another application thread is."""
        if self._reader is None or self._reader is self._background:
            if self._reader is not None and self._polls:
                self._background_waker.wake()
            self._give_reading(waiter)
        else:
            waiter.wakeup = threading.Lock()
            waiter.wakeup.acquire()

    def _give_reading(self, reader):
        self._reader = reader
        self._polls = True
        self._poll_until = self._driver.next()

    def _leave(self, waiter):
        """Hand reading over to somebody who waits, if there is anybody."""
        if self._reader is not waiter:
            return
        self._reader = None
        self._polls = False
        self._last_read = clock.now()
        if self._closed is not None:
            self._release()
            return
        for other in self._waiters.values():
            if other is not waiter and other.wakeup is not None:
                self._give_reading(other)
                self._wake(other)
                break

    def _wake(self, waiter):
        wakeup, waiter.wakeup = waiter.wakeup, None
        if wakeup is not None:
            wakeup.release()
        elif waiter is self._reader and self._polls:
            self._driver.waker.wake()

    def _wake_done(self):
        node = self.node
        if node.completed:
            completed, node.completed = node.completed, []
            for operation in completed:
                waiter = self._waiters.pop(id(operation), None)
                if waiter is not None:
                    self._wake(waiter)

    # -- reading ----------------------------------------------------------------------------
    def _read(self, waiter):
        """Read till the operation is done, or there is something to be announced."""
        news = False
        while not news and self._reader is waiter:
            ready = self._driver.poll(self._poll_until)
            with self._lock:
                self._polls = False
                if self._closed is None:
                    news = self._turn(ready)
                if news or waiter.operation.done or self._closed is not None:
                    self._leave(waiter)
                else:
                    self._give_reading(waiter)
        if news:
            self._announce()
            with self._lock:
                if not waiter.operation.done and self._closed is None:
                    self._take_place(waiter)

    def _turn(self, ready):
        """True if there is something to be announced."""
        self._guarded(self._driver.turn, ready)
        self._wake_done()
        invalidations = self.node.invalidations
        if not invalidations or invalidations[-1] is self._announced:
            return False
        self._announced = invalidations[-1]
        return self._on_activity is not None

    def _announce(self):
        try:
            self._on_activity()
        except Exception:
            # It belongs to everybody, and not to the operation this thread happens to wait for.
            LOGGER.exception('invalidations could not be delivered')

    def _guarded(self, function, *args):
        """A core that has failed is not used any more, even if it was only interrupted."""
        try:
            function(*args)
        except BaseException as error:
            LOGGER.critical('the client is closed by an error', exc_info=True)
            self._shut('it has failed: %s: %s' % (type(error).__name__, error))
            if not isinstance(error, Exception):
                raise
        if self._driver.exit is not None:
            self._shut(self._driver.exit[1])

    # -- the background thread --------------------------------------------------------------
    def _start(self):
        self._driver = Driver(LOGGER.log)
        self._driver.node = self.node
        self._background_waker = Waker()
        self._standby = threading.Lock()
        self._standby.acquire()
        self._last_read = clock.now()
        self._background = threading.Thread(target=self._serve, name='NEO client', daemon=True)
        self._background.start()
        _started.add(self)
        self.node.start(clock.now())
        self._guarded(self._driver.act)

    def _serve(self):
        poll = select.poll()
        poll.register(self._driver, select.POLLIN)
        poll.register(self._background_waker, select.POLLIN)
        while True:
            with self._lock:
                if self._closed is not None:
                    break
                reads = self._is_needed()
            if reads:
                self._serve_once(poll)
            else:
                self._standby.acquire(timeout=IDLE)
        with self._lock:
            if self._reader is self._background:
                self._reader = None
            self._background = None
            self._release()

    def _is_needed(self):
        if self._reader is None and clock.now() - self._last_read < IDLE:
            return False
        if self._reader is not None and self._reader is not self._background:
            return False
        self._give_reading(self._background)
        return True

    def _serve_once(self, poll):
        until = self._poll_until
        ready = poll.poll(None if until is None else max(0, ceil((until - clock.now()) * 1000)))
        news = False
        with self._lock:
            if any(fd == self._background_waker.fileno() for fd, _mask in ready):
                self._background_waker.drain()
            if self._reader is self._background and self._closed is None:
                self._polls = False
                news = self._turn(self._driver.poll(0))
                if news:
                    self._reader = None
        if news:
            self._announce()

    # -- the end ----------------------------------------------------------------------------
    def close(self):
        """Close everything.  Threads that wait get the exception made by `closed`."""
        with self._lock:
            self._shut('it is closed')
            background = self._background
            if self._driver is None:
                return
        if threading.current_thread() is not background:
            self._released.wait(CLOSE_TIMEOUT)
            if background is not None:
                background.join(CLOSE_TIMEOUT)

    def _shut(self, reason):
        if self._closed is not None:
            return
        self._closed = reason
        if self._driver is None:
            return
        self._driver.waker.wake()
        self._background_waker.wake()
        self._standby.release()
        for waiter in self._waiters.values():
            self._wake(waiter)

    def _release(self):
        """Close the sockets, once nobody can be in a poll."""
        if self._reader is None and self._background is None:
            self._driver.close()
            self._background_waker.close()
            self._released.set()

    def after_fork(self):
        """In the child: forget everything, and say nothing to anybody.  Called by itself."""
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._released.set()
        self._closed = 'it was opened before this process was forked'
        self.forked = True
        self._waiters = {}
        self._reader = self._background = None
        self._driver.close()
        self._background_waker.close()


def _raise(error):
    """Raise a copy: one error may end the operations of many threads, and each has its own
    traceback."""
    try:
        fresh = type(error).__new__(type(error), *error.args)
        fresh.__dict__.update(error.__dict__)
    except Exception:
        fresh = error.with_traceback(None)
    try:
        raise fresh from error.__cause__
    finally:
        del fresh, error


def _after_fork():
    for threaded in list(_started):
        threaded.after_fork()


os.register_at_fork(after_in_child=_after_fork)
