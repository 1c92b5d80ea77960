"""One storage's part in a transaction, until *finish* is sent."""
from ...cluster.context import Context
from ...protocol.codec import ProtocolError
from ...protocol.packets import GaveWay, Store, Vote
from ..exception import TransactionFailed

RECORD_OVERHEAD = 64            # of a record or check beside its data, in a packet


class Part(Context):
    """What was sent, or is to be, and what has been answered; the context of its Vote."""

    __slots__ = ('transaction', 'storage', 'peer', 'session', 'records', 'checks', 'size',
                 'unacked', 'oids', 'metadata', 'round', 'asked', 'later', 'voted', 'conflicts',
                 'trouble', 'until', 'dropped')

    def __init__(self, transaction, storage):
        self.transaction = transaction
        self.storage = storage
        self.peer = None                # of all that was sent; None: nothing was
        self.session = None
        self.records = []               # not sent yet
        self.checks = []
        self.size = 0                   # of these
        self.unacked = 0                # bytes sent and not acknowledged
        self.oids = set()               # written: it must hold them
        self.metadata = []
        self.round = 0                  # how often it gave way here
        self.asked = False              # a Vote waits for its answer
        self.later = 0                  # batches that were sent meanwhile, and not acknowledged
        self.voted = False              # in this round
        self.conflicts = {}             # oid -> current serial, not resolved yet
        self.trouble = None             # why nothing can be sent any more: it is suspended
        self.until = None               # when patience with it ends
        self.dropped = False            # the transaction goes on without it

    def add(self, client, record, check, size):
        amounts = client.amounts
        if self.size + size > amounts.store_batch and self.size:
            self.flush(client)
        if record is not None:
            self.records.append(record)
            self.oids.add(record.oid)
        else:
            self.checks.append(check)
        self.size += size
        if self.trouble is not None:
            self.voted = False          # for this as well
        elif self.size >= amounts.store_batch or (
                len(self.records) + len(self.checks) >= amounts.store_batch_records):
            self.flush(client)

    def reach(self, client):
        """The peer to send to, or None while the storage is not connected."""
        if self.peer is None:
            link = client.links.connected_to(self.storage)
            if link is not None:
                self.peer, self.session = link.peer, link.session
        return self.peer

    def take(self, amounts):
        """All that was not sent, as `[(records, checks, size)]`: more than one if the storage was
        not connected for a while, as a packet has a limit."""
        batches, records, checks, size = [], self.records, self.checks, self.size
        self.records, self.checks, self.size = [], [], 0
        while size > amounts.store_batch and len(records) > 1:
            taken = count = 0
            while count < len(records) and (
                    not count or taken + size_of(records[count]) <= amounts.store_batch):
                taken += size_of(records[count])
                count += 1
            batches.append((tuple(records[:count]), (), taken))
            records, size = records[count:], size - taken
        batches.append((tuple(records), tuple(checks), size))
        return batches

    def flush(self, client):
        peer = self.reach(client)
        if peer is not None and self.size and self.trouble is None:
            if self.voted:
                self.give_way(client)
            for batch in self.take(client.amounts):
                self._store(client, *batch)

    def _store(self, client, records, checks, size):
        self.unacked += size
        self.later += self.asked
        client.ask(self.peer, Store(self.transaction.ttid, records, checks),
                   Batch(self, size, self.asked))

    def vote(self, client):
        """Ask for what is missing of its vote."""
        if self.trouble is not None:
            return
        if self.asked:
            self.flush(client)
        elif self.size or not self.voted:
            peer = self.reach(client)
            if peer is not None:
                if self.voted:
                    # What is resolved now has to take the place of what it voted.
                    self.give_way(client)
                self.asked = True
                *first, (records, checks, _) = self.take(client.amounts)
                for batch in first:
                    self._store(client, *batch)
                client.ask(peer, Vote(
                    self.transaction.ttid, records, checks, tuple(sorted(self.oids)),
                    tuple(self.metadata)), self)

    def give_way(self, client):
        self.round += 1
        self.conflicts.clear()
        self.voted = False
        client.send(self.peer, GaveWay(self.transaction.ttid, self.round))

    def suspend(self, trouble, until):
        """Nothing can be sent, and what was sent may be lost; what it has voted counts."""
        self.asked, self.trouble, self.until = False, trouble, until

    def resume(self, client, link):
        """It is connected again, in the same session, and has kept its vote.  What it has said
        meanwhile is lost, and may have been that this transaction is in the way."""
        self.peer, self.trouble, self.until = link.peer, None, None
        self.give_way(client)

    # -- as the context of its Vote; `Transaction.storage_lost` sees to the loss of it ------
    def answered(self, client, peer, answer):
        if self.dropped:
            return
        self.asked = False
        if answer.ttid != self.transaction.ttid or answer.round > self.round:
            self.transaction.fail(client, TransactionFailed('%s answers what was not asked' % peer))
            raise ProtocolError('a vote of transaction %#x, round %d, does not answer one of %r'
                                % (answer.ttid, answer.round, self.transaction))
        # It is answered before what was stored later, which therefore it is not for.
        self.transaction.part_has_voted(client, self, answer.round, not self.later)

    def refused(self, client, peer, error):
        self.asked = False
        self.transaction.part_refused(client, self, peer, error)


def size_of(record):
    """Bytes of a record in a packet."""
    return RECORD_OVERHEAD + (len(record.data) if record.data else 0)


class Batch(Context):
    """The context of a Store."""

    __slots__ = 'part', 'size', 'later'

    def __init__(self, part, size, later):
        self.part = part
        self.size = size
        self.later = later              # than a vote that was not answered then

    def answered(self, client, peer, answer):
        self.part.unacked -= self.size
        self.part.later -= self.later
        self.part.transaction.acknowledged(client)

    def refused(self, client, peer, error):
        self.part.transaction.part_refused(client, self.part, peer, error)
