"""Copying the past of one storage into another one, and comparing both."""
from collections import deque, namedtuple
from contextlib import contextmanager
from itertools import islice, zip_longest
from operator import itemgetter

from ..client.imports import BATCH_TRANSACTIONS, batches
from ..cluster.ids import moment, tid_at
from ..protocol.limits import CLOCK_TOLERANCE
from ..protocol.types import MAX_OID
from .digest import digest
from .sides import Batch, MigrationError, reason

# How many transactions `--quick` compares.
QUICK = 1000

# A batch that was copied: tids of the first and the last transaction, how many, and their checksum.
Copied = namedtuple('Copied', 'first last count digest')


class Interrupted(Exception):
    """The user does not want to wait for the end."""


class Differ(MigrationError):
    """The destination holds something else."""


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


@contextmanager
def reading(source):
    """What goes wrong in the source must not be taken for something in the destination, which is
    tried again maybe."""
    try:
        yield
    except MigrationError:
        raise
    except Exception as error:
        raise MigrationError("%s can't be read: %s" % (source.name, reason(error)))


def survey(source, progress, now):
    """Look at all there is, and refuse what can't be copied, before anything is changed; `now` is
    what the clock says, in seconds since 1970."""
    progress.start('reading', 0, source.size, source.in_bytes)
    with reading(source):
        highest = source.survey(progress.update)
    progress.clear()
    source.position = 0
    if highest is not None:
        refuse_ids(source.name, highest, now)


def refuse_ids(name, highest, now):
    """MigrationError if no id could be given any more after these, which have been surveyed."""
    if highest.tid > tid_at(now + CLOCK_TOLERANCE):
        raise MigrationError(
            '%s has transaction %#018x, of %s, which is far ahead of the clock of this machine: all'
            ' later ones would have to be later still. Nothing was changed' % (
                name, highest.tid, moment(highest.tid)))
    if highest.oid > MAX_OID:
        raise MigrationError(
            '%s has object %#x, and a cluster takes none above %#x. Nothing was changed' % (
                name, highest.oid, MAX_OID))


class Migration:
    """`stop()` says whether the user wants it to end.  Unless `to_check`, what is copied can't be
    checked afterwards."""

    def __init__(self, source, destination, progress, stop=lambda: False,
                 batch=BATCH_TRANSACTIONS, tail=QUICK, to_check=True):
        self.source = source
        self.destination = destination
        self.progress = progress
        self.stop = stop
        self.batch = batch
        self.tail = tail
        self.to_check = to_check
        self.compared = 0       # transactions found in the destination
        self.copied = 0         # … and brought there
        self.skipped = 0        # … and found by their number only
        self.checked = False    # was all of those read back, and compared?
        self.last = 0           # tid of the last one that is there
        self.left_out = False   # are there others?
        self._batches = []      # Copied

    @property
    def total(self):
        return self.skipped + self.compared + self.copied

    def run(self, quick=False):
        """Compare what is in the destination, and copy the rest."""
        self.last = self.destination.last_tid()
        start = self._skip() if quick and self.last else 0
        transactions = self._read(start)
        if self.last:
            self._start('comparing')
            self._compare(transactions, start)
            self._end(self.compared)
        self._start('copying')
        self._copy(transactions)
        self._end(self.copied)

    def _read(self, start=0):
        with reading(self.source):
            yield from self.source.transactions(start)

    def check(self):
        """Read back what was copied, and compare counts and checksums with what was read."""
        assert self.to_check
        if self._batches:
            number, total = 0, self.copied
            self.progress.start('checking', 0, total, False)
            there = self.destination.transactions(self._batches[0].first)
            for copied in self._batches:
                if digest(islice(there, copied.count)) != copied.digest:
                    raise Differ('%s does not hold what was copied: something differs from %#018x'
                                 ' to %#018x' % (self.destination.name, *copied[:2]))
                number += copied.count
                self.progress.update(number, number)
                if self.stop():
                    raise Interrupted
            self.progress.end(number, number)
        self.checked = True

    def verify(self):
        """Compare everything, from the beginning."""
        self.skipped = self.compared = self.copied = 0
        self.source.position = 0
        self._start('verifying')
        transactions = self._read()
        self._compare(transactions, 0)
        missing = next(transactions, None)
        if missing is not None:
            raise Differ('%s lacks transaction %#018x' % (self.destination.name, missing.tid))
        self._end(self.compared)
        self.checked = True

    def _start(self, doing):
        self.progress.start(doing, self.source.position, self.source.size, self.source.in_bytes)

    def _update(self, position, transactions):
        self.progress.update(position, transactions)
        if self.stop():
            raise Interrupted

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
            self._update(self.source.position, self.compared)

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
            first, self.last = batch.transactions[0].tid, batch.transactions[-1].tid
            self.copied += len(batch.transactions)
            if self.to_check:
                self._batches.append(Copied(first, self.last, len(batch.transactions),
                                            digest(batch.transactions)))
            self.progress.update(batch.position, self.copied)
        if self.left_out:
            raise Interrupted

    def _wanted(self, transactions):
        for batch in batches(transactions, self.batch):
            if self.stop():
                self.left_out = True
                break
            yield Batch(batch, self.source.position)
