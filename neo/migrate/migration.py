"""Copying the past of one storage into another one, and comparing both."""
from collections import deque
from itertools import zip_longest
from operator import itemgetter

from .sides import Batch, MigrationError

# Transactions travel in batches: large enough for the cost of a commit not to show, small enough to
# be held in memory a few times, and to be stopped between two.
BATCH_BYTES = 1 << 20
BATCH_TRANSACTIONS = 1000
BATCH_REVISIONS = 5000
# How many transactions `--quick` compares.
QUICK = 1000
# What a revision costs beside its data.
OVERHEAD = 64


class Interrupted(Exception):
    """The user does not want to wait for the end."""


class Differ(MigrationError):
    """The destination holds something else."""


def batches(transactions, most=BATCH_TRANSACTIONS):
    """Lists of transactions of about BATCH_BYTES; one that is larger comes alone."""
    batch, size, revisions = [], 0, 0
    for past in transactions:
        weight = sum([len(data or b'') + OVERHEAD for oid, data, data_tid in past.revisions],
                     len(past.user) + len(past.description) + len(past.extension))
        if batch and (size + weight > BATCH_BYTES or len(batch) == most
                      or revisions + len(past.revisions) > BATCH_REVISIONS):
            yield batch
            batch, size, revisions = [], 0, 0
        batch.append(past)
        size += weight
        revisions += len(past.revisions)
    if batch:
        yield batch


def difference(ours, theirs):
    """What of one transaction differs, in words."""
    for name in 'status', 'user', 'description', 'extension':
        if getattr(ours, name) != getattr(theirs, name):
            return '%s %r instead of %r' % (name, getattr(theirs, name), getattr(ours, name))
    # Of a large transaction, a cluster gives the records by oid, not as they were stored.
    for one, other in zip_longest(sorted(ours.revisions, key=itemgetter(0)),
                                  sorted(theirs.revisions, key=itemgetter(0))):
        if one != other:
            if one is None or other is None or one[0] != other[0]:
                return 'it changes other objects'
            if one[1] != other[1]:
                return 'object %#x has other data' % one[0]
            return 'the data of object %#x come from %s instead of %s' % (
                one[0], other[2] and hex(other[2]), one[2] and hex(one[2]))


class Migration:
    """`stop()` says whether the user wants it to end."""

    def __init__(self, source, destination, progress, stop=lambda: False,
                 batch=BATCH_TRANSACTIONS, tail=QUICK):
        self.source = source
        self.destination = destination
        self.progress = progress
        self.stop = stop
        self.batch = batch
        self.tail = tail
        self.compared = 0       # transactions found in the destination
        self.copied = 0         # … and brought there
        self.skipped = 0        # … and found by their number only
        self.last = 0           # tid of the last one that is there
        self.left_out = False   # are there others?

    @property
    def total(self):
        return self.skipped + self.compared + self.copied

    def run(self, quick=False):
        """Compare what is in the destination, and copy the rest."""
        self.last = self.destination.last_tid()
        start = self._skip() if quick and self.last else 0
        transactions = self.source.transactions(start)
        if self.last:
            self._start('comparing')
            self._compare(transactions, start)
            self._end(self.compared)
        self._start('copying')
        self._copy(transactions)
        self._end(self.copied)

    def verify(self):
        """Compare everything, from the beginning."""
        self.skipped = self.compared = self.copied = 0
        self.source.position = 0
        self._start('verifying')
        transactions = self.source.transactions()
        self._compare(transactions, 0)
        missing = next(transactions, None)
        if missing is not None:
            raise Differ('%s lacks transaction %#018x' % (self.destination.name, missing.tid))
        self._end(self.compared)

    def _start(self, doing):
        self.progress.start(doing, self.source.position, self.source.size, self.source.in_bytes)

    def _end(self, transactions):
        self.progress.end(self.source.position, transactions)

    def _skip(self):
        """The tid from which to compare the end of what is there."""
        tids = deque(maxlen=self.tail)
        for tid in self.source.tids():
            if tid > self.last:
                break
            self.skipped += len(tids) == self.tail
            tids.append(tid)
        if not tids or tids[-1] != self.last:
            raise Differ('the last transaction of %s, %#018x, is not in %s' % (
                self.destination.name, self.last, self.source.name))
        return tids[0]

    def _compare(self, transactions, start):
        """Take from `transactions` what the destination has."""
        for theirs in self.destination.transactions(start):
            ours = next(transactions, None)
            if ours != theirs and (ours is None or ours.tid != theirs.tid
                                   or difference(ours, theirs)):
                raise self._differ(ours, theirs)
            self.compared += 1
            self.progress.update(self.source.position, self.compared)
            if self.stop():
                raise Interrupted

    def _differ(self, ours, theirs):
        if ours is None or ours.tid != theirs.tid:
            tid = theirs.tid if ours is None else min(ours.tid, theirs.tid)
            where = self.destination if tid == theirs.tid else self.source
            return Differ('%s holds another history: %#018x is the first transaction that differs,'
                          ' it is in %s only' % (self.destination.name, tid, where.name))
        return Differ('%s holds another history: %#018x is the first transaction that differs: %s'
                      % (self.destination.name, ours.tid, difference(ours, theirs)))

    def _copy(self, transactions):
        # Without some of the batches if the user does not want to wait for them; those that are on
        # their way then are waited for.
        for batch in self.destination.write(self._wanted(transactions)):
            self.copied += len(batch.transactions)
            self.last = batch.transactions[-1].tid
            self.progress.update(batch.position, self.copied)
        if self.left_out:
            raise Interrupted

    def _wanted(self, transactions):
        for batch in batches(transactions, self.batch):
            if self.stop():
                self.left_out = True
                break
            yield Batch(batch, self.source.position)
