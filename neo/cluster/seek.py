"""Finding the primary among several masters: for storages, admins, clients, and masters that are
spare themselves."""
import logging

from ..protocol import limits
from ..protocol.types import ErrorCode
from .addresses import readable

TIMER = 'primary'               # it comes when the next address is to be tried
# Of what a master answers to who connects: nothing that trying again could change.  After any
# other refusal ("not ready", "not the primary") the next one is asked.
FINAL = frozenset([ErrorCode.ANOTHER_CLUSTER, ErrorCode.REFUSED, ErrorCode.VERSION])


class BackOff:
    """How long to wait before the next attempt: longer and longer, up to a limit."""

    __slots__ = 'delay',

    def __init__(self):
        self.delay = limits.RECONNECT_DELAY

    def next(self):
        delay = self.delay
        self.delay = min(delay * 2, limits.RECONNECT_DELAY_MAX)
        return delay


class Seek:
    """One attempt at a time, at each of the `masters`, (host, port), by turns; a pause after each
    round, longer and longer.  In the log there is one line until the trouble is another, and, for
    daemons, the same now and then with the time that it has lasted."""

    def __init__(self, masters, remind=False, timer=TIMER, missed='no primary master'):
        self.masters = [tuple(address) for address in masters]
        self.timer = timer              # name
        self._missed = missed           # in words
        self.since = None               # when a primary was missed first; None: there is one
        self._turn = 0
        self._reasons = {}              # address -> why it was no use when it was tried last
        self._final = set()             # of these, those that trying again could not change
        self._said = None               # in the log
        self._remind = remind
        self._remind_at = self._reminding = 0.0     # when again, and how long after the last time
        self._back_off = BackOff()
        self._left = len(self.masters)  # to be tried before the next pause

    @property
    def address(self):
        """The one that is tried now, or next; or where the primary is."""
        return self.masters[self._turn]

    def connect(self, node):
        """Begin, or go on when the timer has come."""
        if self.since is None:
            self.since = node.now
        node.connect(self.address)

    def failed(self, node, reason, final=False):
        """There is no primary at `address` (any more), and, if `final`, there will never be one for
        this node; go on with the next one."""
        if self.since is None:
            self.since = node.now
        self._reasons[self.address] = reason
        (self._final.add if final else self._final.discard)(self.address)
        self._turn = (self._turn + 1) % len(self.masters)
        self._left -= 1
        pause = 0.0
        if not self._left:
            pause = self._back_off.next()
            self._left = len(self.masters)
            self._say(node)
        node.set_timer(self.timer, node.now + pause)

    def found(self):
        """The primary is at `address`."""
        self.since = self._said = None
        self._reasons.clear()
        self._final.clear()
        self._back_off = BackOff()
        self._left = len(self.masters)

    def _say(self, node):
        trouble = self.trouble()
        if trouble != self._said:
            self._said, self._reminding = trouble, limits.REMIND
            node.log('%s; trying again', trouble, level=logging.WARNING)
        elif self._remind and node.now >= self._remind_at:
            self._reminding = min(2 * self._reminding, limits.REMIND_MAX)
            node.log('%s; trying again', self.waiting(node.now), level=logging.WARNING)
        else:
            return
        self._remind_at = node.now + self._reminding

    def _each(self):
        return '; '.join(
            '%s: %s' % (readable(address), self._reasons.get(address, 'not asked yet'))
            for address in self.masters)

    def refused_by_all(self):
        """What they have said, in words, if none of them will ever be of use; else None: where the
        address of one is wrong, another one, that is down now, may be right."""
        return self._each() if self._final.issuperset(self.masters) else None

    def trouble(self):
        """Why there is no primary, in words."""
        return '%s at %s' % (self._missed, self._each())

    def waiting(self, now):
        """The same, and for how long already."""
        return '%s (for %.0f s)' % (self.trouble(), now - self.since)

    def missing(self):
        """What is missed, and why: as an object of "waiting for"."""
        return 'the primary master (%s)' % self._each()
