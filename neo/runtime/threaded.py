"""One client core, driven by the threads of an application (docs/architecture.md, "A node").

A thread that asks for something takes the lock, calls the core and sends what it yields.  While it
waits for the answer it reads for everybody, unless another thread does so already: then it sleeps
until it has its answer or reading is handed over to it.  So a thread that is alone never waits for
another one.  Only the poll is done without the lock.

When no application thread has read for IDLE seconds, a background thread does: invalidations, pings
and timers do not wait for the application.  The first thread that reads again sends it away; then
it looks only every IDLE seconds whether it is needed, so that it costs no operation anything.  It
also tells what others have to hear (log lines, invalidations): who listens may wait for locks
that a thread of the application holds, and that thread may wait for us.

The process is not ours.  Signal handlers, finalizers and exceptions sent by other threads strike
anywhere, hence three rules.  The lock is only ever left as `with` leaves it, which nothing can come
in between of.  While a thread works on the core, the node is marked as busy; who finds the mark
and is not that thread knows that the other one was cut off half-way, and the node is *lost*: it
ends, and another one has to take its place.  And nobody sleeps for long without looking whether
that is still right, so that a hand-over that was cut off costs a second and not for ever.
"""
import logging
import os
import select
import threading
import weakref
from _thread import get_ident, start_new_thread
from math import ceil

from . import clock
from .driver import Driver, Waker

IDLE = 0.010
NAP = 1.0               # the longest sleep without a look around
STUCK = 0.1             # a reader that does not take for so long what has come is not waited for
LOCK_TIMEOUT = 5.0      # nor a thread that works on the core for so long
CLOSE_TIMEOUT = 5.0
LOGGER = logging.getLogger('neo.client')

_started = weakref.WeakValueDictionary()        # id -> ThreadedNode


class _Waiter:
    """A thread that waits for an operation, or the one in the background."""

    __slots__ = 'operation', 'wakeup', 'thread', 'outer'

    def __init__(self, operation, thread):
        self.operation = operation
        self.wakeup = None          # a lock that is released to wake the thread, while it sleeps
        self.thread = thread
        self.outer = None           # the reader that this call, of the same thread, came between


class ThreadedNode:
    """Drives `node`, a client core: its methods give operations, and must not raise; it appends
    those that end later to `completed`.

    `closed(message)`, `lost(message)` and `reentered(message)` make the exceptions of calls that
    come, or still wait, when the node is closed or lost, and of those that come, from a finalizer
    or a signal handler, in the middle of another one of the same thread.

    `log(level, message)` is called without the lock, by a thread that has no part in any call; so
    is `tell()`, whenever `news()` is true.  Both may use `call` and `run`.

    Nothing is opened before the first call, so that a fork before it is harmless.  In a child of a
    later fork the node is lost, and what it has inherited is dropped.
    """

    def __init__(self, node, closed=RuntimeError, lost=RuntimeError, reentered=RuntimeError,
                 log=None, news=None, tell=None, lock_timeout=LOCK_TIMEOUT):
        self.node = node
        self._errors = closed, lost, reentered
        self._log = log
        self._news = news
        self._tell = tell
        self._lock_timeout = lock_timeout
        self._lock = threading.Lock()
        self._owner = None              # ident of the thread that has the lock …
        self._keeper = None             # … or may have it; this is for the background thread
        self._busy = False              # a thread works on the core, or was cut off in it
        self._calls = 0                 # how often the lock was taken for one
        self._end = None                # (kind of error, message), once it is closed or lost
        self._close_asked = False       # by a signal handler, in the middle of a call
        self._open = threading.Lock()   # held until all is closed
        self._driver = None
        self._lines = []                # (level, message), to be logged
        self._waiters = {}              # id(operation) -> _Waiter
        self._reader = None             # a _Waiter, or None
        self._polls = False             # the reader is in its poll, or about to be
        self._poll_until = None         # when that ends by itself; None: never
        self._last_read = 0.0           # when application threads have stopped to read
        self._turns = 0                 # how often what has come was taken
        self._seen = 0, 0.0             # how many there were, since when, as of the last look
        self._background = None         # _Waiter, while that thread runs
        self._served = threading.Lock()         # by that thread, from its beginning on
        self._background_waker = None   # to send it away from its poll
        self._standby = None            # a lock, released to end its rest

    # -- calls ------------------------------------------------------------------------------
    def run(self, function, *args):
        """Call `function(*args)`, which gives an operation of the core; wait till it is done.

        Gives the operation, or raises its error."""
        waiter = _Waiter(None, get_ident())
        try:
            operation = self._do(self._call, (function, args, waiter))
            if not operation.done:
                self._wait(waiter)
        except self._errors[:2]:
            operation = waiter.operation
            if operation is None or not operation.done:
                raise                   # else it had ended before the node did
        finally:
            if waiter.operation is not None:
                self._depart(waiter)
        if operation.error is not None:
            _raise(operation.error)
        return operation

    def call(self, function, *args):
        """What `function(*args)` gives, called with the lock held; nothing is waited for."""
        return self._do(self._call, (function, args))

    def take_in(self):
        """Give the node what has come already, without waiting for more."""
        if self._driver is not None:
            self._do(self._take_in)

    def poke(self):
        """Have it looked whether there is `news`.  May be called anywhere, even in a finalizer."""
        if self._background_waker is not None:
            self._background_waker.wake()

    @property
    def lost(self):
        """It has to be replaced."""
        return self._end is not None and self._end[0] is self._errors[1]

    def _take_in(self):
        # Another thread of the application that reads does it at once anyway.
        if self._reader is None or self._reader is self._background:
            self._turn(self._driver.poll(0))

    def _call(self, function, args, waiter=None):
        """With a `waiter`, for the operation that it gives."""
        if self._driver is None:
            self._start()
        node = self.node
        node.now = clock.now()
        result = function(*args)
        if node.has_effects():
            self._driver.act()
            if self._polls:
                self._look_when_due()
        if node.completed or self._lines or self._driver.exit is not None:
            self._look_after()
        if waiter is not None and not result.done:
            waiter.operation = result
            self._waiters[id(result)] = waiter
            self._take_place(waiter)
        return result

    def _look_when_due(self):
        """The reader polls, maybe for longer than till the next turn is due now."""
        due = self._driver.next()
        if due is not None and (self._poll_until is None or due < self._poll_until):
            self._driver.waker.wake()

    # -- the lock ---------------------------------------------------------------------------
    def _do(self, function, args=(), ended=False):
        """Call it with the lock held.  It must not raise: what comes out of it has cut it off.
        Unless `ended`, it is not called any more once the node has ended."""
        me = get_ident()
        if (self._owner == me or self._keeper == me) and self._lock.locked():
            raise self._errors[2]('the client was called by a finalizer or a signal handler, in '
                                  'the middle of another call of this thread')
        try:
            with self._lock:
                self._owner = me
                return self._with_lock(function, args, ended)
        except BaseException as error:
            if self._busy and self._owner == me:
                self._cut_off(error)
            elif isinstance(error, Exception):
                self._check_end()       # or it was, and all was closed
            raise

    def _with_lock(self, function, args, ended):
        if self._busy:
            self._lose('a thread was interrupted in it')
        if self._end is not None and not ended:
            self._owner = None
            self._check_end()
        self._busy = True
        self._calls += 1
        result = function(*args)
        if not self._busy and not ended:
            self._check_end()           # the lock was taken away meanwhile
        self._busy = False
        if self._close_asked and self._end is None:
            self._shut(0, 'it is closed')
        self._owner = None
        return result

    def _check_end(self):
        if self._end is not None:
            kind, message = self._end
            raise kind(message)

    def _cut_off(self, error):
        with self._lock:
            if self._busy:
                self._lose('%s: %s' % (type(error).__name__, error))

    def _lose(self, reason):
        if self._end is None:
            self._lines.append((logging.WARNING, 'the connections are made anew: %s' % reason))
        self._shut(1, 'the connections of the client are made anew: %s' % reason)
        self._busy = False

    # -- waiting ----------------------------------------------------------------------------
    def _wait(self, waiter):
        while not waiter.operation.done:
            if self._end is not None:
                self._check_end()
            if self._reader is waiter:
                self._read(waiter)
            elif waiter.wakeup is not None:
                self._sleep(waiter)
            else:
                self._do(self._take_place, (waiter,))

    def _sleep(self, waiter):
        wakeup = waiter.wakeup
        if wakeup is not None and not wakeup.acquire(timeout=NAP):
            self._do(self._replace_stuck_reader, (waiter,))

    def _depart(self, waiter):
        # It is still there after an error or a signal, or if another thread has got its answer.
        if self._reader is waiter or id(waiter.operation) in self._waiters:
            self._do(self._leave, (waiter,), ended=True)

    def _take_place(self, waiter):
        """Become the reader, unless another thread of the application is."""
        reader = self._reader
        if waiter.operation.done or reader is waiter:
            return
        if reader is None or reader is self._background:
            if reader is not None and self._polls:
                self._background_waker.wake()
            self._give_reading(waiter)
        elif reader.thread == waiter.thread:
            # A finalizer or a signal handler calls; what it came between goes on afterwards.
            waiter.outer = reader
            self._give_reading(waiter)
        else:
            self._lay_down(waiter)

    def _lay_down(self, waiter):
        wakeup = threading.Lock()
        wakeup.acquire()
        waiter.wakeup = wakeup

    def _give_reading(self, reader):
        self._reader = reader
        self._polls = True
        self._poll_until = self._driver.next()

    def _leave(self, waiter):
        """Hand reading over to somebody who waits, if there is anybody."""
        self._waiters.pop(id(waiter.operation), None)
        if self._reader is not waiter:
            return
        self._reader = None
        self._polls = False
        self._last_read = self.node.now
        if self._end is not None:
            return
        if self._background.thread is None:
            self._start_background()
        outer = waiter.outer
        if outer is not None:
            self._driver.waker.wake()   # it may be about to poll although it is done
            if id(outer.operation) in self._waiters:
                self._give_reading(outer)
                return
        for other in self._waiters.values():
            if other.wakeup is not None:
                self._give_reading(other)
                self._wake(other)
                break

    def _wake(self, waiter):
        wakeup, waiter.wakeup = waiter.wakeup, None
        if wakeup is not None:
            wakeup.release()
        elif waiter is self._reader and self._polls:
            self._driver.waker.wake()

    def _look_after(self):
        """See to those whose operations are done, and to what has to be told."""
        node = self.node
        if node.completed:
            completed, node.completed = node.completed, []
            for operation in completed:
                waiter = self._waiters.pop(id(operation), None)
                if waiter is not None:
                    self._wake(waiter)
        if self._lines:
            self._call_background()
        if self._driver.exit is not None and self._end is None:
            self._shut(0, self._driver.exit[1])

    def _call_background(self):
        standby = self._standby
        if self._reader is self._background and self._polls:
            self._background_waker.wake()
        elif standby.locked():
            standby.release()

    # -- reading ----------------------------------------------------------------------------
    def _read(self, waiter):
        try:
            ready = self._driver.poll(self._until())
        except (OSError, ValueError):
            self._check_end()           # closed meanwhile
            raise
        self._do(self._take, (waiter, ready))

    def _until(self):
        """When to look around at the latest."""
        until, soon = self._poll_until, self.node.now + NAP
        return soon if until is None or until > soon else until

    def _take(self, waiter, ready):
        if self._reader is waiter:      # else another thread has taken over meanwhile
            self._polls = False
            self._turn(ready)
            if waiter.operation.done or self._end is not None:
                self._leave(waiter)
            else:
                self._give_reading(waiter)

    def _turn(self, ready):
        self._turns += 1
        if not ready:
            self.node.now = clock.now()     # no event tells it
        self._driver.turn(ready)
        self._look_after()
        if self._news is not None and self._news():
            self._call_background()

    def _reader_is_stuck(self):
        """The thread that reads is held up by something else: a signal handler, maybe, which
        waits for one of those who wait for us.  Or it was cut off where it should have left."""
        turns, since = self._seen
        now = clock.now()
        if turns != self._turns:
            self._seen = self._turns, now
            return False
        if now - since < STUCK:
            return False
        due = self._driver.next()
        return bool((due is not None and due < now) or self._driver.poll(0))

    def _replace_stuck_reader(self, waiter):
        if self._reader not in (None, waiter, self._background) and self._reader_is_stuck():
            self._take_over(waiter)
            waiter.wakeup = None

    def _take_over(self, successor):
        self._lay_down(self._reader)
        self._give_reading(successor)

    # -- the background thread --------------------------------------------------------------
    def _start(self):
        driver = Driver(lambda level, message: self._lines.append((level, message)))
        driver.node = self.node
        standby = threading.Lock()
        standby.acquire()
        self._standby, self._background_waker = standby, Waker()
        self._driver, self._background = driver, _Waiter(None, None)
        self._last_read = clock.now()
        opened = threading.Lock()
        opened.acquire()
        self._start_background()
        self._open = opened             # if this is cut off, nobody needs to wait for it
        _started[id(self)] = self
        self.node.start(clock.now())

    def _start_background(self):
        """Again, if it has not begun: an exception that another thread sends to this one may end it
        before, as Python takes a thread that is being made for the one that makes it."""
        # Not by `threading`, where an interrupt may leave a thread that hangs half-way.
        start_new_thread(self._serve, ())

    def _serve(self):
        if not self._served.acquire(blocking=False):
            return
        self._background.thread = get_ident()
        poll = select.poll()
        poll.register(self._driver, select.POLLIN)
        poll.register(self._background_waker, select.POLLIN)
        try:
            while self._end is None:
                self._tell_all()
                if self._do_in_background(self._is_needed):
                    self._serve_once(poll)
                elif self._end is None:
                    self._standby.acquire(timeout=IDLE)
        finally:
            self._do_in_background(self._shut_by_background)
            self._await_reader()
            self._do_in_background(self._release)
            self._tell_all()

    def _do_in_background(self, function, *args):
        """As `_do`.  Who keeps the lock for too long waits, in a finalizer or a signal handler,
        for somebody who waits for the lock: it is taken away, and with it the node."""
        self._keeper, lock = get_ident(), self._lock
        if not self._acquire(lock):
            self._lose('a thread was held up in a call for %.0f s' % self._lock_timeout)
            self._lock = threading.Lock()
            self._keeper = None
            lock.release()
            return None
        self._owner = self._keeper      # a thread that was interrupted may have left its own here
        try:
            return self._with_lock(function, args, True)
        except Exception as error:
            self._lose('%s: %s' % (type(error).__name__, error))
        finally:
            lock.release()
            self._keeper = None

    def _acquire(self, lock):
        """False: one and the same call has kept it for too long.  That others are faster to take it
        is no such thing, nor is a process that stood still."""
        slice, kept, calls = self._lock_timeout / 10, 0, self._calls
        while not lock.acquire(timeout=slice):
            kept = kept + 1 if calls == self._calls else 0
            calls = self._calls
            if kept == 10:
                return False
        return True

    def _tell_all(self):
        try:
            while self._lines and self._log is not None:
                self._log(*self._lines.pop(0))
            if self._end is None and self._news is not None and self._news():
                self._tell()
        except Exception:
            LOGGER.exception('who listens to the client has failed')

    def _is_needed(self):
        if self._end is not None:
            return False
        if self._reader is None:
            if clock.now() - self._last_read < IDLE:
                return False
            self._give_reading(self._background)
        elif self._reader is self._background:
            self._give_reading(self._background)
        elif self._reader_is_stuck():
            self._take_over(self._background)
        return self._reader is self._background

    def _serve_once(self, poll):
        ready = poll.poll(max(0, ceil((self._until() - clock.now()) * 1000)))
        if any(fd == self._background_waker.fileno() for fd, _mask in ready):
            self._background_waker.drain()
        self._do_in_background(self._take_in_background)

    def _take_in_background(self):
        if self._reader is self._background and self._end is None:
            self._polls = False
            self._turn(self._driver.poll(0))
            if self._lines or (self._news is not None and self._news()):
                # Others may read while this thread tells, which may take long.
                self._reader = None
                self._last_read = clock.now()

    def _shut_by_background(self):
        if self._end is None:
            self._lose('the thread in the background has ended')
        if self._reader is self._background:
            self._reader = None

    def _await_reader(self):
        """It leaves its poll, unless it is held up, or was cut off where it should have left."""
        end = clock.now() + 2 * NAP
        while self._reader is not None and clock.now() < end:
            self._standby.acquire(timeout=IDLE)

    # -- the end ----------------------------------------------------------------------------
    def close(self):
        """Close everything.  Threads that wait get the exception made by `closed`."""
        if get_ident() in (self._owner, self._keeper) and self._lock.locked():
            self._close_asked = True    # by a signal handler: what it came between sees to it
            return
        self._do(self._shut, (0, 'it is closed'), ended=True)
        for waiter in self._background, self._reader:
            if waiter is not None and waiter.thread == get_ident():
                return                  # this came between, or is done by who was told something
        if self._open.acquire(timeout=CLOSE_TIMEOUT):
            self._open.release()

    def _shut(self, error, reason):
        if self._end is None:
            self._end = self._errors[error], reason
        if self._driver is None:
            return
        self._driver.waker.wake()
        self._background_waker.wake()
        if self._standby.locked():
            self._standby.release()
        if not self._served.locked() and self._background is not None:
            self._start_background()
        for waiter in list(self._waiters.values()):
            self._wake(waiter)

    def _release(self):
        """Close the sockets.  Who is held up, if anybody, will find them closed."""
        self._reader = self._background = None
        self._driver.close()
        self._background_waker.close()
        if self._open.locked():
            self._open.release()

    def after_fork(self):
        """In the child: forget everything, and say nothing to anybody.  Called by itself."""
        self._lock, self._open = threading.Lock(), threading.Lock()
        self._owner, self._busy = None, False
        self._end = self._errors[1], 'it was opened before this process was forked'
        self._waiters = {}
        self._reader = self._background = None
        try:
            self._driver.close()
            self._background_waker.close()
        except Exception:
            pass                        # somebody was at work on it when it was copied


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
    for threaded in [reference() for reference in _started.valuerefs()]:
        if threaded is not None:
            threaded.after_fork()


os.register_at_fork(after_in_child=_after_fork)
