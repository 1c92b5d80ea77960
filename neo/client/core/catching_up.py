"""What was committed while the primary was lost, so that the cache outlives that
(docs/architecture.md, "Reads and caches")."""
import logging

from ...protocol import limits
from ...protocol.packets import ListTransactions
from ...protocol.types import ClusterState
from ..exception import NEOStorageError
from .loads import Regroup, TransactionsChunk

TIMER = 'catch up'


class Missed(TransactionsChunk):
    """A chunk of it.  Until all have come, nothing else is asked for: the phase is VERIFYING."""

    __slots__ = 'whole',
    internal = True
    phase = ClusterState.VERIFYING

    def __init__(self, whole, rows, start, stop):
        super().__init__(ListTransactions(start, stop, rows), 0)
        self.whole = whole

    def finished(self, client):
        self.whole.came(client, self)

    def counts(self, client):
        return False                    # all of it has one limit


class CatchingUp:
    """All transactions above `heard` up to `last`, which the primary has named.  Those of which it
    tells meanwhile wait: what is cached is as of `heard` until everything is known."""

    def __init__(self, heard, last):
        self.heard, self.last = heard, last
        self.later = []                 # (tid, oids) above `last`
        self._found = {}                # tid -> oids
        self._count = 0                 # of both
        self._chunks = set()            # that have not ended
        self._begun = self._ended = False

    def begin(self, client):
        """There is a table, which says where to ask."""
        if not self._begun:
            self._begun = True
            client.set_timer(TIMER, client.now + limits.CATCH_UP_TIME)
            for rows in client.groups():
                self._ask(client, rows, self.heard + 1)

    def _ask(self, client, rows, start):
        chunk = Missed(self, rows, start, self.last + 1)
        self._chunks.add(chunk)
        client.attempt(chunk)

    def came(self, client, chunk):
        self._chunks.discard(chunk)
        if self._ended:
            return
        if chunk.error is not None:
            self.give_up(client, str(chunk.error))
        elif type(chunk.result) is Regroup:
            for rows in chunk.result.groups:
                self._ask(client, rows, chunk.packet.start)
        else:
            self._take(client, chunk.packet.rows, *chunk.result)
        if not self._chunks and not self._ended:
            self._succeed(client)

    def _take(self, client, rows, transactions, next):
        for described in transactions:
            self._found[described.tid] = described.oids
            self._count += 1 + len(described.oids)
        if self._count > limits.CATCH_UP_OIDS:
            self.give_up(client, 'more than %d objects have changed' % limits.CATCH_UP_OIDS)
        elif next is not None:
            self._ask(client, rows, next)

    # -- its end --------------------------------------------------------------------------------
    def abandon(self, client):
        """The primary is lost again."""
        self._ended = True
        client.set_timer(TIMER, None)
        for chunk in list(self._chunks):
            chunk.fail(client, NEOStorageError('it is not needed any more'))

    def _succeed(self, client):
        self.abandon(client)
        client.log('%d transactions were committed meanwhile', len(self._found))
        client.caught_up(sorted(self._found.items()), self)

    def give_up(self, client, reason):
        self.abandon(client)
        client.log('what is cached is dropped: %s', reason, level=logging.WARNING)
        client.cache.clear()
        client.caught_up([(self.last, None)], self)
