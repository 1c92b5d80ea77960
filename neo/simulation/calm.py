"""What is expected while nothing goes wrong: no error, and a known rate of commits."""
from ..client.exception import RequestRefused, TidRefused, TransactionFailed

# In ways of a message: a transaction of these workloads takes 10 to 40 of them, and up to 120 where
# there are few of them and many contend.
MEAN_TIME = 250
# The others are conflicts that are not resolved.
COMMITTED = .1
ENOUGH = 20                     # transactions, for the means to tell something


class Calm:
    """Told how each transaction of that time ends.  `way`: seconds, on average, from a node to the
    next one, and to the thread that waits there."""

    def __init__(self, world):
        self.world = world
        self.began = None           # virtual time; None: it is not calm
        self.ends = float('inf')
        self.killed_until = 0.0         # a storage that the operator has ended is back by then
        self._times = []
        self._committed = 0
        self._overtaken = 0             # imports: their tids are not above the highest any more
        self._refused = {}          # client label -> when an import of it was refused last
        self._followed = []         # (attempt, when it began, error) of those that followed it

    def begin(self):
        if self.began is None:
            self.began = self.world.now

    def end(self):
        self.ends = self.world.now

    def covers(self, began):
        """Does it last from then until now?"""
        return self.began is not None and self.began <= began and self.world.now < self.ends

    def ended(self, began, committed):
        if self.covers(began):
            self._times.append(self.world.now - began)
            self._committed += committed

    def failed(self, attempt, began, error):
        """`attempt` (None: what is no transaction) came to an error that is no conflict."""
        if self.covers(began) and not self._excused(attempt, began, error):
            self.world.violation('%s: %r, while nothing is wrong' % (attempt, error))

    def _excused(self, attempt, began, error):
        """Who wants a tid is refused once others have been given higher ones; imports of the same
        client that followed fail with it."""
        if type(error) is TransactionFailed and began < self.killed_until:
            return True                     # it may miss the vote of who has come back meanwhile
        if attempt is None or not (attempt.imposed or attempt.wanted):
            return False
        if type(error) in (RequestRefused, TidRefused) and 'is not above' in str(error):
            self._refused[attempt.client] = self.world.now
            self._overtaken += 1
            return True
        if type(error) is TransactionFailed and attempt.imposed:
            self._overtaken += 1
            self._followed.append((attempt, began, error))      # who was first may be told later
            return True
        return False

    def complaints(self, way):
        for attempt, began, error in self._followed:
            if self._refused.get(attempt.client, -1) < began:
                yield '%s: %r, while nothing was wrong' % (attempt, error)
        count = len(self._times)
        if count < ENOUGH:
            return
        mean = sum(self._times) / count
        if mean > MEAN_TIME * way:
            yield ('while nothing was wrong, a transaction took %.4f s on average, which is %.0f'
                   ' times the way of a message' % (mean, mean / way))
        count -= self._overtaken
        if self._committed < COMMITTED * count:
            yield 'while nothing was wrong, only %d of %d transactions were committed' % (
                self._committed, count)
