"""Telling ZODB of transactions, in their order.

Whoever finds something to be told, tells it, without the lock of the core; one thread at a time.  A
transaction of this process is told by the thread that commits it, and all later ones wait for it.
"""
import logging
import threading

from ZODB.utils import p64

LOGGER = logging.getLogger('neo.client')


class Delivery:

    def __init__(self, core):
        self.core = core
        self.db = None                  # IStorageWrapper, once there is one
        self.own = {}                   # own finish operation -> function(tid), not told yet
        self._condition = threading.Condition(threading.Lock())
        self._teller = None             # ident of the thread that tells
        self._resets = None             # an Event, while everything is declared changed

    def deliver(self):
        """Tell what may be told by any thread."""
        while self._may_tell() and self._begin():
            try:
                while self._tell_next():
                    pass
            finally:
                self._end()

    def deliver_own(self, operation):
        """Tell all up to an own transaction, which has been committed, by this thread."""
        while operation in self.own:
            if self._begin(wait=True):
                try:
                    while operation in self.own and self._tell_next(operation):
                        pass
                    told = operation not in self.own
                finally:
                    self._end()
                if not told:
                    self._wait()
        self.deliver()

    def deliver_until(self, tid):
        """Tell all up to `tid`, which has been heard."""
        self.deliver()
        while (self.core.last_tid < tid and self.core.invalidations
               and self._teller != threading.get_ident()):
            self._wait()
            self.deliver()

    def abandon(self, operation):
        """The thread of an own transaction is not there to tell it: anybody may."""
        if self.own.pop(operation, None) is not None:
            self.deliver()

    def settled(self):
        """Wait while another thread declares everything changed: no snapshot may begin in it."""
        resets = self._resets
        if resets is not None and self._teller != threading.get_ident():
            resets.wait()

    # -- one teller at a time ---------------------------------------------------------------
    def _begin(self, wait=False):
        me = threading.get_ident()
        with self._condition:
            if self._teller == me:
                return False            # called by what it tells
            while self._teller is not None:
                if not wait:
                    return False
                self._condition.wait()
            self._teller = me
            return True

    def _end(self):
        with self._condition:
            self._teller = None
            self._condition.notify_all()

    def _may_tell(self):
        try:
            return self.core.invalidations[0][2] not in self.own
        except IndexError:
            return False

    def _wait(self):
        with self._condition:
            # Not for ever: the thread that is waited for may have ended in between.
            self._condition.wait(0.01)

    def _tell_next(self, mine=None):
        """Tell the first one; false if there is none, or it is for another thread to tell."""
        invalidations = self.core.invalidations
        if not invalidations:
            return False
        tid, oids, operation = invalidations[0]
        function = self.own.get(operation) if operation is not None else None
        if function is not None and operation is not mine:
            return False
        try:
            if function is not None:
                function(p64(tid))
            elif oids is None:
                self._reset(tid)
            elif self.db is not None:
                self._invalidate(tid, oids)
        finally:
            invalidations.popleft()
            if oids is not None:
                self.core.delivered(tid)
            self.own.pop(operation, None)
        return True

    def _invalidate(self, tid, oids):
        try:
            self.db.invalidate(p64(tid), [p64(oid) for oid in oids])
        except Exception:
            LOGGER.exception('the invalidation of transaction %#x has failed', tid)

    def _reset(self, tid):
        """Everything may have changed up to `tid`.

        ZODB's adapter asks for the last tid first and takes its reset later, maybe between any two
        lines here: the new tid goes to its instances between two resets, and nobody who has taken
        the first one can begin a snapshot before the second."""
        self._resets = threading.Event()
        try:
            if self.db is not None:
                self.db.invalidateCache()
                self.db.invalidate(p64(tid), [])
                self.db.invalidateCache()
        except Exception:
            LOGGER.exception('the caches of ZODB could not be reset')
        finally:
            self.core.delivered(tid)
            resets, self._resets = self._resets, None
            resets.set()
