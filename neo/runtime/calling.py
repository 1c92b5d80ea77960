"""Connecting: a name is looked up, and each of the addresses it stands for is tried."""
import errno
import os
import select
import socket
from collections import deque
from functools import partial

from ..cluster import events
from ..protocol import limits
from . import clock
from .connection import Connection

# A connection that is being made goes on being made when a signal comes.
UNDER_WAY = 0, errno.EINPROGRESS, errno.EINTR


class Attempt:
    """To connect to one of `candidates`, [(family, socket address)], one after the other."""

    def __init__(self, address, candidates, reason):
        self.address = address
        self.socket = None
        self.sockaddr = None                                # that is being tried
        self.reason = reason or 'the name has no address'   # of the last failure
        self.patience = limits.CONNECT_TIMEOUT / max(1, len(candidates))    # with each of them
        self._candidates = deque(candidates)

    def next(self):
        """Begin with the next address; False if there is none left."""
        self.close()
        while self._candidates:
            family, self.sockaddr = self._candidates.popleft()
            try:
                self.socket = socket.socket(family, socket.SOCK_STREAM)
                self.socket.setblocking(False)
                code = self.socket.connect_ex(self.sockaddr)
            except OSError as error:
                self.reason = error.strerror or str(error)
            else:
                if code in UNDER_WAY:
                    return True
                self.reason = os.strerror(code)
            self.close()
        return False

    def connected(self):
        """None: not known yet; False: this address has failed."""
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.reason = os.strerror(code)
            return False
        try:
            peer = self.socket.getpeername()
        except OSError:
            return None
        # While nobody listens at a port that the system gives to who connects, one can meet
        # oneself there, and keep the port from the one who is meant.
        if peer == self.socket.getsockname():
            self.reason = 'nobody listens there'
            return False
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return True

    def close(self):
        if self.socket is not None:
            self.socket.close()
            self.socket = None


class Question:
    """What `address` stands for."""

    def __init__(self, address):
        self.address = address
        self.late = None                # function that ends the wait for the answer


class Caller:
    """Makes the connections that a node asks for.

    `lookup(address, done)` calls `done(candidates, reason)`, maybe later and in another thread.  A
    name server that does not answer keeps nobody from trying another address.
    """

    def __init__(self, driver, lookup):
        self._driver = driver
        self._lookup = lookup
        self._questions = set()     # that wait for an answer
        self._looked_up = deque()   # (Question, candidates, reason); appended by other threads
        self._attempts = {}         # Attempt -> function that ends its present try
        self._known = {}            # address -> (socket address, did a node accept us there?)

    def call(self, address):
        """The node will be told Connected or ConnectFailed."""
        question = Question(address)
        question.late = partial(self._not_found, question)
        self._questions.add(question)
        self._driver.deadlines.set(question.late, clock.now() + limits.CONNECT_TIMEOUT)
        self._lookup(address, partial(self._found, question))

    def _found(self, question, candidates, reason):
        self._looked_up.append((question, candidates, reason))
        self._driver.waker.wake()

    def _not_found(self, question):
        self._questions.discard(question)
        self._driver.later(events.ConnectFailed(
            question.address, 'it takes too long to look up the name'))

    def begin(self):
        """Go on with what has been looked up."""
        while self._looked_up:
            question, candidates, reason = self._looked_up.popleft()
            if question in self._questions:     # else it was answered too late
                self._questions.discard(question)
                self._driver.deadlines.set(question.late, None)
                address = question.address
                self._try(Attempt(address, self._in_order(address, candidates), reason))

    def _in_order(self, address, candidates):
        """The address where it went well last time comes first; one where something took the
        connection, and no more came of it, comes last."""
        sockaddr, well = self._known.get(address, (None, True))
        for place, (_family, candidate) in enumerate(candidates):
            if candidate == sockaddr:
                place += not well
                return candidates[place:] + candidates[:place]
        return candidates

    def _try(self, attempt):
        driver = self._driver
        driver.deadlines.set(self._attempts.pop(attempt, None), None)
        if attempt.next():
            self._attempts[attempt] = late = partial(self._late, attempt)
            driver.deadlines.set(late, clock.now() + attempt.patience)
            driver.watch(attempt.socket, select.EPOLLOUT, partial(self._tried, attempt))
        else:
            driver.later(events.ConnectFailed(attempt.address, attempt.reason))

    def _tried(self, attempt, mask, now):
        connected = attempt.connected()
        if connected is None:
            return ()
        driver = self._driver
        driver.unwatch(attempt.socket)
        if not connected:
            self._try(attempt)
            return ()
        driver.deadlines.set(self._attempts.pop(attempt), None)
        address, sockaddr = attempt.address, attempt.sockaddr
        self._known[address] = sockaddr, False
        connection = driver.add(partial(
            Connection, socket=attempt.socket,
            accepted=lambda: self._known.update({address: (sockaddr, True)})))
        return [(now, events.Connected(connection.number, address))]

    def _late(self, attempt):
        self._driver.unwatch(attempt.socket)
        attempt.reason = 'it takes too long'
        self._try(attempt)

    def close(self):
        for attempt in self._attempts:
            attempt.close()
        self._attempts.clear()
