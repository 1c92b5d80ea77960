"""What an application has asked for, and what has become of it."""
import logging

from ...cluster.context import Context
from ...protocol import limits
from ..exception import ClusterUnavailable

LATE, RETRY = 'late', 'retry'   # timers
LOOK = 1.0                      # between two looks at what waits


class Operation(Context):
    """Ends with either a `result` or an `error` (an exception instance).  Many are the context of
    their requests too."""

    __slots__ = 'done', 'result', 'error', 'since', 'looked', 'waited'

    internal = False                    # part of another operation: the driver never sees it

    def __init__(self, done=False, result=None, error=None):
        self.done = done
        self.result = result
        self.error = error
        self.waited = 0.0               # seconds that count against its patience

    # -- its end ----------------------------------------------------------------------------
    def succeed(self, client, result=None):
        if not self.done:
            self.result, self.done = result, True       # others look at `done` first
            client.operations.ended(client, self)

    def fail(self, client, error):
        if not self.done:
            self.error, self.done = error, True
            client.operations.ended(client, self)

    # -- called by the core: what a kind of operation does in these cases -------------------
    def resume(self, client):
        """Something has changed: try again what could not be done."""

    def finished(self, client):
        """It has just ended."""

    def look(self, client):
        """It still waits; called now and then."""

    # -- waiting ----------------------------------------------------------------------------
    def waits_for(self, client):
        """For what and whom, in words."""
        return self.lacks(client) or 'an answer'

    def lacks(self, client):
        """What is not there that it needs, in words; false if it has only to be answered."""
        return client.missing()

    def counts(self, client):
        """Does time count against its patience?  Not what others may rightly take."""
        return True

    def patience(self, client):
        """Seconds until it has `expired`."""
        return client.wait_timeout

    def account(self, seconds):
        """Add to what it has waited, and return that."""
        self.waited += seconds
        return self.waited

    def left(self, client):
        """Seconds that it will still wait; None: as long as it takes.  To be called now and
        then."""
        # Time in which this process stood still is not held against anybody.
        seconds = min(client.now - self.looked, 2 * LOOK)
        self.looked = client.now
        if not self.counts(client):
            return None
        return self.patience(client) - self.account(seconds)

    def expired(self, client):
        self.fail(client, ClusterUnavailable(client.unavailable(self)))

    def __repr__(self):
        return '%s(%s)' % (type(self).__name__, (
            'error=%r' % self.error if self.error else 'result=%r' % (self.result,))
            if self.done else 'waiting')


def succeeded(result=None):
    return Operation(True, result)


DONE = succeeded()              # for what is done as soon as it is called, and has no result


def failed(error):
    return Operation(True, error=error)


class Operations:
    """Those of a client that have not ended."""

    def __init__(self):
        self.unfinished = {}            # as ordered sets: all …
        self.stalled = {}               # … and those to be resumed when something has changed
        self._looking = self._retrying = False      # timers
        self._said = None               # when it was last told for whom they wait

    def attempt(self, client, operation):
        """Begin a new one."""
        operation.resume(client)
        if not operation.done:
            self.wait_for(client, operation)
        return operation

    def wait_for(self, client, operation):
        operation.since = operation.looked = client.now
        self.unfinished[operation] = None
        if not self._looking:
            self._look_soon(client)

    def ended(self, client, operation):
        self.stalled.pop(operation, None)
        if self.unfinished.pop(operation, self) is None and not operation.internal:
            client.completed.append(operation)
        operation.finished(client)

    def stall(self, operation):
        """Resume it when something has changed."""
        if not operation.done:
            self.stalled[operation] = None

    def resume_stalled(self, client):
        stalled, self.stalled = self.stalled, {}
        for operation in stalled:
            if not operation.done:
                operation.resume(client)

    def retry_soon(self, client):
        """Resume stalled ones a little later, even if nothing changes."""
        if not self._retrying:
            self._retrying = True
            client.set_timer(RETRY, client.now + limits.RECONNECT_DELAY)

    def retry(self, client):
        """The timer has come."""
        self._retrying = False
        self.resume_stalled(client)

    # -- what waits ---------------------------------------------------------------------------
    def _look_soon(self, client):
        self._looking = True
        client.set_timer(LATE, client.now + LOOK)

    def look(self, client):
        """The timer has come: end what has waited for too long, and say what waits."""
        self._looking = False
        waiting = {}                    # operation -> seconds left
        for operation in list(self.unfinished):
            if not operation.done:
                operation.look(client)
            if not operation.done:
                left = operation.left(client)
                if left is not None and left <= 0:
                    operation.expired(client)
                elif (client.now - operation.since >= limits.WAITING_SAID
                      or left is not None and operation.lacks(client)):
                    waiting[operation] = left
        self._say(client, waiting)
        if self.unfinished:
            self._look_soon(client)

    def _say(self, client, waiting):
        """One line now and then, about who waits longest."""
        if not waiting:
            self._said = None
        elif self._said is None or client.now - self._said >= limits.WAITING_SAID:
            self._said = client.now
            longest = min(waiting, key=lambda operation: operation.since)
            left = waiting[longest]
            client.log('waiting for %s for %.0f s%s%s', longest.waits_for(client),
                       client.now - longest.since,
                       '' if left is None else ', %.0f s more at most' % left,
                       ', %d operations in all' % len(waiting) if len(waiting) > 1 else '',
                       level=logging.WARNING)
