"""Transactions in finish, and how far tids and ttids have got: plain state."""
from collections import deque

from ..cluster.ids import first_ttid, tid_after


class Finishing:
    """A transaction that has its tid and waits for its storages to lock it."""

    __slots__ = 'ttid', 'tid', 'changes', 'client', 'request_id', 'storages', 'waiting_for'

    def __init__(self, ttid, tid, changes, client, request_id, storages):
        self.ttid = ttid
        self.tid = tid                  # the last one, for an import
        self.changes = changes          # [(tid, oids)]: what to tell other clients
        self.client = client            # Peer
        self.request_id = request_id
        self.storages = storages        # ids of those that voted
        self.waiting_for = set(storages)


class Transactions:
    """Of one term.  No tid is told before every lower one is locked everywhere."""

    def __init__(self, term, last_tid):
        self.first_ttid = self.next_ttid = first_ttid(term)
        self.last_given = last_tid      # highest tid chosen for a transaction
        self.last_told = last_tid       # highest tid that anybody has heard of
        self.finishing = deque()        # Finishing, in tid order
        self.by_ttid = {}               # the same
        self.denied = set()             # ttids of which somebody was told that they never commit

    def take_ttids(self, count):
        """The first of `count` consecutive ttids."""
        first = self.next_ttid
        self.next_ttid += count
        return first

    def was_given(self, ttid):
        return self.first_ttid <= ttid < self.next_ttid

    def finish(self, ttid, oids, imposed, storages, client, request_id, clock, partitions):
        """Choose the tid of `ttid`; congruent, so that its row is known already.  `imposed` is
        [(tid, oids)], increasing and above `last_given`, or empty."""
        if imposed:
            changes = list(imposed)
            tid = imposed[-1][0]
        else:
            tid = tid_after(self.last_given, clock, like=ttid, modulo=partitions)
            changes = [(tid, oids)]
        assert tid > self.last_given >= self.last_told
        self.last_given = tid
        transaction = Finishing(ttid, tid, changes, client, request_id, storages)
        self.finishing.append(transaction)
        self.by_ttid[ttid] = transaction
        return transaction

    def locked(self, ttid, storage):
        """`storage` has locked `ttid`: return what may be told now, in tid order."""
        self.by_ttid[ttid].waiting_for.discard(storage)
        told = []
        while self.finishing and not self.finishing[0].waiting_for:
            transaction = self.finishing.popleft()
            del self.by_ttid[transaction.ttid]
            told.append(transaction)
            self.last_told = transaction.tid
        return told
