"""Transactions in finish, and how far tids and ttids have got."""
from collections import deque

from ..cluster.context import Context
from ..cluster.ids import first_ttid, tid_after
from ..protocol.limits import TTID_BITS


class Finishing(Context):
    """A transaction that has its tid and waits for its storages to lock it; the context of its
    locks."""

    __slots__ = 'ttid', 'tid', 'changes', 'client', 'request_id', 'storages', 'waiting', 'refusal'

    def __init__(self, ttid, tid, changes, client, request_id, storages):
        self.ttid = ttid
        self.tid = tid                  # the last one, for an import
        self.changes = changes          # [(tid, oids)]: what to tell other clients
        self.client = client            # Peer
        self.request_id = request_id
        self.storages = storages        # Peers of those that voted
        self.waiting = set(storages)    # of them
        self.refusal = None             # (Peer, Error) of one that has not voted so

    def answered(self, node, peer, answer):
        self.waiting.discard(peer)
        transactions = node.transactions
        if not self.waiting and transactions is not None:
            node.tell(transactions.ended(self))

    def refused(self, node, peer, error):
        """The client has claimed what is not so: that is no fault of the storage."""
        if peer.id not in node.tables.readers():
            node.part(peer, 'it does not lock what it has voted: %s' % error.message)
            self.lost(node, peer)
            return
        self.refusal = peer, error
        self.storages.remove(peer)
        self.answered(node, peer, None)

    def lost(self, node, peer):
        # Nobody is told before it is out of date in force.
        node.tables.when_in_force(node, lambda node: self.answered(node, peer, None))


class Transactions:
    """Of one term.  No tid is told before every lower one is locked everywhere."""

    def __init__(self, term, last_told, last_given):
        self.first_ttid = self.next_ttid = first_ttid(term)
        self.last_given = last_given    # highest tid chosen for a transaction
        self.last_told = last_told      # highest tid that anybody has heard of
        self.finishing = deque()        # Finishing, in tid order
        self.by_ttid = {}               # the same
        self.parked = []                # (peer, Finish, request id): wait for a table

    @property
    def last_in_finish(self):
        """The highest tid that was chosen and not told; 0: none."""
        return self.finishing[-1].tid if self.finishing else 0

    @property
    def are_under_way(self):
        return bool(self.finishing or self.parked)

    def are_left(self, count):
        return self.next_ttid + count <= self.first_ttid + (1 << TTID_BITS)

    def take_ttids(self, count):
        """The first of `count` consecutive ttids."""
        first = self.next_ttid
        self.next_ttid += count
        return first

    def finish(self, ttid, oids, imposed, storages, client, request_id, clock, partitions):
        """Choose the tid of `ttid`; congruent, so that its row is known already.  `imposed` is
        [(tid, oids)], increasing and above `last_given`, or empty.  Raises OverflowError when there
        are no more tids."""
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

    def ended(self, transaction):
        """All its storages have said what they can: return what may be told now, in tid order; one
        that has a `refusal` is not committed."""
        told = []
        if self.by_ttid.get(transaction.ttid) is transaction:
            while self.finishing and not self.finishing[0].waiting:
                transaction = self.finishing.popleft()
                del self.by_ttid[transaction.ttid]
                told.append(transaction)
                if transaction.refusal is None:
                    self.last_told = transaction.tid
        return told
