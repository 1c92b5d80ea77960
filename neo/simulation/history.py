"""What clients were told, as it happened: the oracles compare it with what is there at the end."""

from collections import Counter

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
            self.problems.append('%s heard of %d after %d' % (client, tid, heard[-1][0]))
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
