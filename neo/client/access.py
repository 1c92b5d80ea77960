"""The client core that is in use, what drives it, and what takes their place.

A core that was cut off half-way, by an interrupt or an error, is never used again: a fresh one,
with connections of its own, succeeds to it, as one does in a child process after a fork.  What has
been told to ZODB goes on from there, after a reset of all caches.
"""
import threading
from collections import deque

from ..runtime.threaded import ThreadedNode
from .core.client import Client
from .delivery import Delivery
from .exception import ClientReplaced, Reentered, StorageClosed

ATTEMPTS = 4            # of what is lost again and again, and not by chance
FORK_TIMEOUT = 5.0      # seconds that a fork waits for a thread that tells ZODB something


class Session:
    """One core and its connections."""

    __slots__ = 'core', 'threads', 'ready', 'inherited'

    def __init__(self, core, threads):
        self.core = core
        self.threads = threads
        self.ready = False              # it has met the cluster, and ZODB knows what it said
        self.inherited = False          # by a child process

    def run(self, method, *args):
        """Wait for the operation that `method(core, *args)` gives; its result."""
        return self.threads.run(method, self.core, *args).result

    def call(self, method, *args):
        """`method(core, *args)`, which is no operation, or not waited for."""
        return self.threads.call(method, self.core, *args)


class Access:
    """`make_core()` gives a new Client."""

    def __init__(self, make_core, log):
        self._make_core = make_core
        self._log = log
        self._lock = threading.RLock()  # of the replacement; a finalizer may come in between
        self._closed = False
        self._chores = deque()          # functions
        core = make_core()
        self.delivery = Delivery(core, log)
        self.session = self._session(core, self.delivery)

    def _session(self, core, delivery):
        def news():
            return self._chores or delivery.news()

        def tell():
            while self._chores:
                self._chores.popleft()()
            delivery.deliver()

        return Session(core, ThreadedNode(
            core, StorageClosed, ClientReplaced, Reentered, self._log, news, tell))

    def later(self, function):
        """Have it called soon, by a thread that has no part in any call."""
        self._chores.append(function)
        self.session.threads.poke()

    @property
    def core(self):
        return self.session.core

    def current(self):
        """The session in use."""
        session = self.session
        return self._replace(session) if session.threads.lost else session

    def _replace(self, session):
        with self._lock:
            if self.session is session:
                core = self._make_core()
                core.succeed_to(session.core)
                successor = self._session(core, self.delivery)
                if self.session is session and not self._closed:
                    self.delivery.core, self.session = core, successor
            if self._closed:
                self.session.threads.close()    # a signal handler has closed what was here before
                raise StorageClosed('it is closed')
            return self.session

    def repeat(self, function, *args):
        """`function(session, *args)`; from the beginning, with the next session, if that one is
        lost meanwhile: for what only reads."""
        for _ in range(ATTEMPTS):
            session = self.current()
            try:
                return function(session, *args)
            except ClientReplaced as error:
                replaced = error
        raise replaced

    def run(self, method, *args):
        """Wait for the operation that `method(core, *args)` gives, which only reads; its result."""
        return self.repeat(Session.run, method, *args)

    def call(self, method, *args):
        """`method(core, *args)`, which is no operation and only reads."""
        return self.repeat(Session.call, method, *args)

    def ready(self):
        """The session in use, once it has heard of the cluster."""
        session = self.current()
        return session if session.ready else self.repeat(self._get_ready)

    def _get_ready(self, session):
        session.run(Client.when_ready)
        self.delivery.deliver_until(session.core.heard)
        session.ready = True
        return session

    def take_in(self):
        """Hear of what has come already; gives the last tid that is known then."""
        return self.repeat(self._take_in)

    def _take_in(self, session):
        if not session.ready:
            self._get_ready(session)
        session.threads.take_in()
        return session.core.heard

    def close(self):
        self._closed = True
        with self._lock:
            session = self.session
        session.threads.close()

    # -- forks ------------------------------------------------------------------------------
    def before_fork(self):
        """A lock of ZODB that one of our threads has would be locked in the child for ever."""
        self.delivery.pause(FORK_TIMEOUT)

    def after_fork_in_parent(self):
        self.delivery.go_on()
        self.session.threads.poke()

    def after_fork_in_child(self):
        self._lock = threading.RLock()
        parent = self.session
        parent.inherited = True
        if not self._closed:
            core = self._make_core()
            core.succeed_to(parent.core, unsettled=False)
            delivery = Delivery(core, self._log)
            delivery.db = self.delivery.db
            self.delivery, self.session = delivery, self._session(core, delivery)
