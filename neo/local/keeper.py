"""Starts daemons of a local cluster again, as a supervisor would."""
import signal
import time
from collections import deque

from ..protocol.limits import SHUTDOWN_GRACE
from .process import ClusterError

# A daemon that ends so often within so many seconds will not do better the next time.
ENOUGH, WITHIN = 5, 60.0
# A daemon that ends cleanly is part of a cluster that stops, if all others do within this.
ALL_STOP = 2 * SHUTDOWN_GRACE


class Keeper:
    """`say(line)` tells what has happened."""

    def __init__(self, cluster, say, clock=time.monotonic):
        self._cluster = cluster
        self._say = say
        self._clock = clock
        self._ends = {daemon.name: deque(maxlen=ENOUGH) for daemon in cluster.daemons}
        self._stopping_since = None     # a daemon has ended cleanly

    def look(self):
        """Start again what has ended.  False once the cluster has been stopped by an operator;
        ClusterError if a daemon ends again and again."""
        ended = [daemon for daemon in self._cluster.daemons if not daemon.runs]
        if not ended:
            return True
        statuses = [daemon.wait() for daemon in ended]
        if len(ended) == len(self._cluster.daemons) and not any(statuses):
            return False
        if any(statuses) or self._waited():
            for daemon in ended:
                self._again(daemon)
        return True

    def _waited(self):
        """Have the others not followed one that has ended cleanly?"""
        now = self._clock()
        if self._stopping_since is None:
            self._stopping_since = now
        return now - self._stopping_since > ALL_STOP

    def _again(self, daemon):
        self._stopping_since = None
        ends, now = self._ends[daemon.name], self._clock()
        ends.append(now)
        if len(ends) == ENOUGH and now - ends[0] < WITHIN:
            raise ClusterError('%s has ended %d times within a minute, the last time %s:\n%s' % (
                daemon.name, ENOUGH, how(daemon.status), daemon.tail()))
        self._say('%s has ended %s, and is started again' % (daemon.name, how(daemon.status)))
        self._cluster.start([daemon])


def how(status):
    if status >= 0:
        return 'with status %d' % status
    return 'by %s' % signal.Signals(-status).name
