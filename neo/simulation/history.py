"""What clients were told, as it happened: the oracles compare it with what is there at the end."""

from collections import Counter
from copy import copy

from ..cluster.cuts import is_removed

OPEN, FINISHING = 'open', 'finishing'
COMMITTED, ABORTED, UNKNOWN = 'committed', 'aborted', 'unknown'


class Attempt:
    """One transaction that a client tried to commit, and how it ended as far as it knows."""

    __slots__ = ('number', 'client', 'kind', 'ttid', 'writes', 'checks', 'state', 'tid', 'imposed',
                 'wanted', 'began', 'told')

    def __init__(self, number, client, kind):
        self.number = number
        self.client = client        # label of its process
        self.kind = kind            # of the workload
        self.ttid = None
        self.writes = {}            # oid -> (base, data); no data: it is deleted
        self.checks = {}            # oid -> serial
        self.state = OPEN
        self.tid = None
        self.imposed = ()           # of an import: [(tid, {oid: data})]
        self.wanted = None          # the tid that it is to have
        self.began = None           # when *finish* was called
        self.told = None            # when it was answered with a tid

    def __repr__(self):
        return '%s %d of %s (ttid %s, tid %s, %s)' % (
            self.kind, self.number, self.client, self.ttid, self.tid, self.state)


class History:
    def __init__(self):
        self.attempts = []
        self.commits = Counter()    # by client
        self.loads = []             # (client, oid, before, tid, next tid, data); no data: no object
        self.latest = []            # of loads of what is current: (client, oid, the highest tid it
                                    # had heard of when it asked, tid or None, data)
        self.chunks = []            # of iterations: (client, start, stop, {tid: (ttid, oids)} or
                                    # None, {(tid, oid): data} or None)
        self.revisions = []         # of object histories: (client, oid, before, limit, tids)
        self.imported = {}          # imposed tid -> the attempt
        self.heard = {}             # client label -> [(tid, oids or None)] as delivered to ZODB;
                                    # None: everything may have changed
        self.syncs = []             # (client, when it was asked, last tid)
        self.conflicts = []         # (attempt, oid, base, serial that is current instead)
        self.oids = {}              # oid -> client it was given to
        self.problems = []          # what was wrong at once
        self.suspects = []          # (before, the same): not if that snapshot was removed meanwhile
        self.backwards = []         # (client, tid, oids, what it had heard of before)
        self.truncated = []         # tids to which an operator was told that all was brought back

    def attempt(self, client, kind):
        attempt = Attempt(len(self.attempts), client, kind)
        self.attempts.append(attempt)
        return attempt

    def given(self, oid, client):
        if oid in self.oids:
            self.problems.append('oid %d was given to %s and to %s'
                                 % (oid, self.oids[oid], client))
        self.oids[oid] = client

    def hears(self, client, tid, oids):
        heard = self.heard.setdefault(client, [])
        # Twice of one is no harm: as everything that has changed, and as an own one.
        if heard and heard[-1][0] > tid:
            self.backwards.append((client, tid, oids, heard[-1][0]))
        heard.append((tid, None if oids is None else frozenset(oids)))

    def told(self):
        """Tids of which anybody has heard."""
        tids = {attempt.tid for attempt in self.attempts}
        tids.update(tid for heard in self.heard.values() for tid, _ in heard)
        tids.update(tid for *_, tid in self.syncs)
        return tids

    def died(self, client):
        """A process is gone: nobody was told what became of its transactions in finish."""
        for attempt in self.attempts:
            if attempt.client == client:
                if attempt.state == FINISHING:
                    attempt.state = UNKNOWN
                elif attempt.state == OPEN:
                    attempt.state = ABORTED

    def without(self, cuts):
        """What of this is to be compared with a past from which these Cuts have removed something.
        Who had begun before may have seen some of both."""
        def gone(tid):
            return tid is not None and is_removed(cuts, tid)
        left = copy(self)
        left.attempts = [_without(attempt, gone) for attempt in self.attempts]
        left.imported = {tid: left.attempts[attempt.number]
                         for tid, attempt in self.imported.items()}
        left.loads = [it for it in self.loads if not (
            gone(it[3]) or gone(it[4]) or it[3] is None and gone(it[2] - 1))]
        left.latest = [it for it in self.latest if it[3] is not None and not gone(it[3])]
        left.chunks = [(*place, _present(transactions, gone), records and {
            key: data for key, data in records.items() if not gone(key[0])})
            for *place, transactions, records in self.chunks]
        left.revisions = [it for it in self.revisions if not any(map(gone, it[-1]))]
        left.heard = {client: [(tid, oids) for tid, oids in heard if oids is None or not gone(tid)]
                      for client, heard in self.heard.items()}
        left.backwards = [it for it in self.backwards if it[2] is not None or not gone(it[3])]
        left.syncs = [it for it in self.syncs if not gone(it[-1])]
        left.conflicts = [it for it in self.conflicts if not (gone(it[2]) or gone(it[3]))]
        left.suspects = [it for it in self.suspects if not gone(it[0] - 1)]
        return left


def _present(transactions, gone):
    return transactions and {tid: it for tid, it in transactions.items() if not gone(tid)}


def _without(attempt, gone):
    if not gone(attempt.tid) and not any(gone(tid) for tid, _ in attempt.imposed):
        return attempt
    attempt = copy(attempt)
    attempt.told = None
    if attempt.imposed:
        attempt.imposed = [it for it in attempt.imposed if not gone(it[0])]
    if not attempt.imposed and attempt.state == COMMITTED:
        attempt.state = UNKNOWN
    return attempt
