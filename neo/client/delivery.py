"""Telling ZODB of transactions, in their order.

Whoever finds something to be told, tells it, without the lock of the core; one thread at a time.  A
transaction of this process is told by the thread that commits it, and all later ones wait for it.

Telling may be cut off at any point, by an interrupt or by an error of who is told: then some of
ZODB's caches have heard of the transaction, and others have not.  So what is being told is written
down before; who finds it there later declares everything changed, and `lastTransaction` does not
move before.  For the same reason all locks here are left by `with` only, even those that say no
more than that a thread is still there; nobody waits for ever for one to be left by who does not
tell.
"""
import logging
import threading
import time
from threading import get_ident

from ZODB.utils import p64

from .core.invalidations import Told

PAUSE = 0.001           # seconds between two looks, while a process is being forked
HELD_UP = 5.0           # for so long at most others wait for the thread of an own transaction


class Own:
    """A transaction that is committed by this process: `function(tid)` tells it, and is called by
    the thread that commits it, which holds `present` as long as it can do so.

    That thread may be held up, where a signal handler or a finalizer waits for one of those who
    wait for it.  Then others tell it, as one that is not our own, and the function comes late."""

    __slots__ = 'function', 'present', 'thread', 'held_up'

    def __init__(self, function, present):
        self.function = function
        self.present = present
        self.thread = get_ident()
        self.held_up = False

    def may_be_told(self):
        return self.held_up or not self.is_elsewhere()

    def is_elsewhere(self):
        """Is there another thread to call the function?"""
        return self.thread != get_ident() and self.present.locked()

    def is_here(self):
        """Is this thread the one to call the function?"""
        return self.thread == get_ident() and self.present.locked()


def is_left(lock, seconds):
    """Wait for that, for so long at most."""
    acquired = []
    try:
        # `with` knows no time; and here too nothing can come in between that the lock is acquired
        # and that this is known.
        acquired.extend(map(lock.acquire, [True], [seconds]))
    finally:
        if True in acquired:
            lock.release()
    return True in acquired


class Delivery:

    """`log(level, message, exc_info)` logs a line."""

    def __init__(self, core, log, held_up=HELD_UP):
        self.core = core                # may be replaced by its successor
        self._held_up = held_up
        self.db = None                  # IStorageWrapper, once there is one
        self.own = {}                   # ttid -> Own, of own transactions that are not told yet
        self._log = log
        # What is being told, or was when that was cut off: no snapshot may begin meanwhile.
        self._telling = None
        self._failed = None             # that of it which could not even be declared changed
        self._lock = threading.RLock()  # of the next one; a finalizer may come in between
        self._teller = threading.Lock(), None   # held by the thread that tells, and its ident
        self._pauses = {}               # ident of a thread -> nobody begins to tell before

    def news(self):
        """Is there something that another thread has to tell?  An own transaction is not, as long
        as the thread is there that commits it: nobody is woken for it."""
        if self._telling is not None:
            return not self._teller[0].locked() and self._telling is not self._failed
        if not self.core.invalidations:
            return False
        own = self._next_own()
        return own is None or own.held_up or not own.present.locked()

    def _may_tell(self):
        """Is there something that this thread may tell?"""
        if not self.core.invalidations:
            return False
        own = self._next_own()
        return own is None or own.may_be_told()

    def deliver(self):
        """Tell what may be told by any thread, unless another one does so; False if it has
        failed."""
        while self._telling is not None or self._may_tell():
            mine = threading.Lock()
            with mine:
                if not self._begin(mine):
                    return True
                while self._tell_next():
                    pass
                if not self._finish():
                    return False
        return True

    def deliver_own(self, ttid, tid):
        """Tell all up to an own transaction, which has been committed, by this thread."""
        while ttid in self.own:
            mine = threading.Lock()
            with mine:
                if self._begin(mine):
                    if not self._is_queued(ttid):
                        self._tell_late(ttid, tid)
                    while ttid in self.own and self._tell_next():
                        pass
                    if not self._finish():
                        return
            if ttid in self.own:
                self._wait()
        self.deliver()

    def deliver_until(self, tid):
        """Tell all up to `tid`, which has been heard."""
        while self.deliver() and self.core.last_tid < tid and self.core.invalidations:
            if self.tells():
                break
            self._wait()

    def settled(self):
        """Wait while something is being told: a snapshot that begins meanwhile, of a connection
        that is too new to be told, would lack it."""
        while self._telling is not None and not self.tells() and self.deliver():
            self._wait()

    def tells(self):
        """Is it this thread that tells?"""
        lock, thread = self._teller
        return thread == get_ident() and lock.locked()

    def pause(self, seconds):
        """Let nobody hold locks of ZODB by us, for so long at most; that takes so long at most.
        Threads may do so at once: each has to `go_on`."""
        self._pauses[get_ident()] = end = time.monotonic() + seconds
        while self._teller[0].locked() and not self.tells() and time.monotonic() < end:
            time.sleep(PAUSE)

    def go_on(self):
        """Others will tell what is to be told: this thread may have locks of ZODB itself."""
        self._pauses.pop(get_ident(), None)

    # -- one teller at a time ---------------------------------------------------------------
    def _begin(self, mine):
        with self._lock:
            if self._teller[0].locked() or (self._pauses and self._is_paused()):
                return False
            self._teller = mine, get_ident()
            return True

    def _finish(self):
        self._teller = self._teller[0], None
        return self._telling is None

    def _is_paused(self):
        return time.monotonic() < max(list(self._pauses.values()), default=0.0)

    def _wait(self):
        """Wait for the thread that tells, or has to tell the next one."""
        lock = self._teller[0]
        if self._is_paused():
            time.sleep(PAUSE)
        elif lock.locked():
            with lock:
                pass
        elif self._telling is None:
            own = self._next_own()
            if own is not None and not own.may_be_told():
                own.held_up = not is_left(own.present, self._held_up)

    def _next_own(self):
        try:
            operation = self.core.invalidations[0].operation
        except IndexError:
            return None
        return None if operation is None else self.own.get(operation.ttid)

    def _is_queued(self, ttid):
        for told in list(self.core.invalidations):
            if told.operation is not None and told.operation.ttid == ttid:
                return True
        return False

    # -- telling ----------------------------------------------------------------------------
    def _tell_next(self):
        """Tell the first one; False if there is none, if it is for another thread to tell, or if it
        has failed.  What an own function raises is raised, once that harms nobody else."""
        if self._telling is not None:
            return self._tell_again()
        own = self._next_own()
        if own is not None and not own.may_be_told():
            return False
        try:
            self._telling = told = self.core.invalidations[0]
        except IndexError:
            return False                # none, or another core has taken its place
        if own is not None and not own.is_here():
            own = None
        try:
            if own is not None:
                own.function(p64(told.tid))
            elif told.oids is None:
                self._reset(told.tid)
            elif self.db is not None:
                self.db.invalidate(p64(told.tid), [p64(oid) for oid in told.oids])
        except Exception:
            if own is not None:
                self._tell_again()
                raise
            self._log(logging.ERROR, 'the invalidation of transaction %#x has failed' % told.tid,
                      exc_info=True)
            return self._tell_again()
        self._told()
        return True

    def _tell_late(self, ttid, tid):
        """An own transaction of a core that was replaced, or whose place among others is not known
        yet: caches may lack those before it."""
        own, self._telling = self.own.pop(ttid), Told(tid, None, None)
        try:
            own.function(p64(tid))
        finally:
            self._tell_again()

    def _tell_again(self):
        """It was cut off: caches may lack anything of it."""
        try:
            self._reset(self._telling.tid)
        except Exception:
            self._failed = self._telling
            self._log(logging.ERROR, 'the caches of ZODB could not be reset', exc_info=True)
            return False
        self._told()
        return True

    def _told(self):
        core, told = self.core, self._telling
        if core.invalidations and core.invalidations[0] is told:
            core.invalidations.popleft()
        if told.tid > core.last_tid:
            core.delivered(told.tid)
        if told.operation is not None:
            own = self.own.get(told.operation.ttid)
            if own is not None and not own.is_elsewhere():
                self.own.pop(told.operation.ttid, None)
        self._telling = None

    def _reset(self, tid):
        """Everything may have changed up to `tid`.

        ZODB's adapter asks for the last tid first and takes its reset later, maybe between any two
        lines here: the new tid goes to its instances between two resets, and nobody who has taken
        the first one can begin a snapshot before the second."""
        if self.db is not None:
            self.db.invalidateCache()
            self.db.invalidate(p64(tid), [])
            self.db.invalidateCache()
