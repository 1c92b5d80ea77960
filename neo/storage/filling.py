"""How a storage copies what its out-of-date rows lack (docs/architecture.md, "Replication").

The primary says up to where (`Fill`); whatever is committed later is written here as well.  Rows
that are complete up to the same tid, and are read from the same storage, are one *copy*: first the
metadata of its range, then the records, chunk by chunk, each of which makes the rows here what they
are there, and last what is known to be told.  How far the records have come is durable with the
next commit, whatever that is for.
"""
from ..cluster.context import Context
from ..cluster.node import handles
from ..protocol import limits
from ..protocol.checksum import checksum
from ..protocol.packets import Fill, Filled, ListRecords, ListTransactions, RowsTold
from ..protocol.types import MAX_ID, ClusterState, NodeKind
from .cells import Cells
from .engine.interface import COPIED
from .links import Links
from .space import in_full, in_words

FILL = 'fill'                   # timer
WAIT = 0.5                      # seconds until a source is looked for again
BUSY = 1.0                      # a client that was heard within so many seconds is active


class Copy(Context):
    """Rows on their way; the context of its requests, one at a time."""

    def __init__(self, rows, start, upto, source):
        self.rows = rows                # ascending
        self.start, self.upto = start, upto     # tids, both inclusive
        self.source = source            # Peer
        self.next = start, None         # (tid, after oid): where the records go on; None: are here
        self.next_tid = start           # where the metadata go on; None: they are here
        self.ended = False
        self.asked_at = None            # None: nothing is asked

    def ask(self, node):
        if self.asked_at is not None:
            return
        self.asked_at = node.now
        if self.next_tid is not None:
            node.ask(self.source, ListTransactions(self.next_tid, self.upto + 1, self.rows), self)
        elif self.next is not None:
            node.ask(self.source, ListRecords(*self.next, self.upto + 1, self.rows), self)
        else:
            node.ask(self.source, RowsTold(self.upto + 1, self.rows), self)

    # -- as the context of its requests ---------------------------------------------------------
    def answered(self, node, peer, answer):
        if node.filling.copy is not self:
            return                      # another order has come, or the primary is lost
        busy, self.asked_at = node.now - self.asked_at, None
        if type(answer) is RowsTold.Answer:
            node.engine.raise_told([it for it in answer.told if it.row in self.rows])
            node.lazily()
            self.ended = True
            node.filling.go_on(node)
            return
        if type(answer) is ListTransactions.Answer:
            sizes, take = [len(it.user) + len(it.description) + len(it.extension)
                           + 9 * len(it.oids) for it in answer.transactions], self._transactions
        elif all(map(is_whole, answer.records)):
            sizes, take = [len(it.data or b'') for it in answer.records], self._records
        else:
            node.filling.failed(node, peer, 'it sends broken records')
            return
        size = sum(sizes)
        if not node.engine.promise(COPIED, size, len(sizes)):
            node.filling.no_space(node, size)
            return
        node.conditions.change(FILL, '')
        take(node, answer)
        node.lazily()
        node.filling.go_on(node, size, busy)

    def _transactions(self, node, answer):
        start, stop = self.next_tid, self.upto + 1 if answer.next is None else answer.next
        node.engine.replace_transactions(
            start, stop, node.partitions, self.rows, answer.transactions)
        self.next_tid = answer.next

    def _records(self, node, answer):
        node.engine.replace_records(
            before(*self.next), before(*answer.next) if answer.next else (self.upto, MAX_ID),
            node.partitions, self.rows, answer.records)
        self.next = answer.next and tuple(answer.next)
        complete = self.upto if self.next is None else self.next[0] - 1
        node.filling.cells.raise_to(self.rows, complete)

    def refused(self, node, peer, error):
        if node.filling.copy is self:
            node.filling.failed(node, peer, error.message)

    def lost(self, node, peer):
        if node.filling.copy is self:
            node.filling.failed(node, peer, 'the connection was lost')


def before(tid, after_oid):
    """The position after which records go on."""
    return (tid - 1, MAX_ID) if after_oid is None else (tid, after_oid)


def is_whole(record):
    return checksum(record.data) == record.checksum


class Filling:

    def __init__(self, node):
        self.cells = Cells(node.state)
        self.links = Links()
        self.orders = {}                # row -> tid up to which it is to be copied
        self.copy = None                # Copy that is under way
        self.copied = {}                # row -> that tid, of those that have all
        self._failed = {}               # id of a source -> when it was no use
        self._until = 0.0               # there is a pause until then

    # -- what the primary says ------------------------------------------------------------------
    def table_in_force(self, node, before, table):
        self.cells.table_in_force(node, before, table)
        rows = self.cells.complete
        node.transactions.fill(table.partitions, rows.keys() - self.copied.keys())
        for orders in self.orders, self.copied:
            for row in [row for row in orders if row not in rows]:
                del orders[row]
        if self.copy is not None and not rows.keys() >= set(self.copy.rows):
            self.copy = None
        self.go_on(node)

    def order(self, node, rows, upto):
        for row in rows:
            if row in self.cells.complete:
                self.orders[row] = upto
                self.copied.pop(row, None)
        if self.copy is not None and not self.orders.keys().isdisjoint(self.copy.rows):
            self.copy = None            # from where it is, with the new end
        node.transactions.fill(node.partitions, self.cells.complete.keys() - self.copied.keys())
        self.go_on(node)

    def stop(self, node):
        """The primary is lost, or another term begins: orders come again."""
        self.orders, self.copied, self.copy = {}, {}, None
        self._failed.clear()
        self.links.stop(node)
        node.conditions.change(FILL, '')

    # -- copying ----------------------------------------------------------------------------------
    def go_on(self, node, size=0, busy=0.0):
        """`size` bytes were copied just now, which took `busy` seconds."""
        copy = self.copy
        if copy is not None and copy.ended:
            self._end(node, copy)
            copy = self.copy = None
        if node.phase != ClusterState.RUNNING:
            return
        if copy is None:
            copy = self._next(node)
            if copy is None:
                return
            self.copy = copy
        self._until = max(self._until, node.now + self._pause(node, size, busy))
        if self._until > node.now:
            node.set_timer(FILL, self._until)
        else:
            copy.ask(node)

    def _pause(self, node, size, busy):
        """Seconds to wait before the next chunk: clients come first, and there may be a rate."""
        pause = size / node.fill_rate if node.fill_rate else 0.0
        if any(client.peer is not None and node.now - client.peer.heard < BUSY
               for client in node.clients.values()):
            pause = max(pause, busy * (1 / limits.FILL_SHARE - 1))
        return pause

    def timer(self, node):
        if self.copy is not None:
            self.copy.ask(node)
        else:
            self.go_on(node)

    def _next(self, node):
        """The next Copy: of as many rows as can be copied together; None: there is none now."""
        groups = {}
        for row, upto in self.orders.items():
            if row not in self.copied:
                source = self._source(node, row)
                if source is not None:
                    start = self.cells.complete[row] + 1
                    groups.setdefault((source, start, upto), []).append(row)
        if not groups:
            if self.orders.keys() - self.copied.keys():
                node.set_timer(FILL, node.now + WAIT)
            return None
        (source, start, upto), rows = next(iter(groups.items()))
        copy = Copy(tuple(sorted(rows)), start, upto, source)
        if start > upto:                # nothing is missing
            copy.next = copy.next_tid = None
        return copy

    def _source(self, node, row):
        """A Peer that can read this row; connections to those that can are made."""
        found = None
        for id in node.table.readable[row]:
            if id != node.id and node.now - self._failed.get(id, -WAIT) >= WAIT:
                peer = self.links.reach(node, id)
                found = found or peer
        return found

    def no_space(self, node, size):
        """It is tried again later."""
        node.conditions.change(FILL, 'no space for %s that are to be copied: %s' % (
            in_words(size), in_full(node.engine.space())))
        self._until = node.now + limits.SPACE_INTERVAL
        node.set_timer(FILL, self._until)

    def failed(self, node, peer, reason):
        node.log('rows can\'t be copied from %s: %s', peer, reason)
        self._failed[peer.id] = node.now
        self.copy = None
        self.go_on(node)

    def _end(self, node, copy):
        for row in copy.rows:
            self.copied[row] = copy.upto
        # From now on what is stored is compared with what is here.
        node.transactions.fill(node.partitions, self.cells.complete.keys() - self.copied.keys())
        self.tell(node)

    def tell(self, node):
        """Those in which nothing is left that was not compared are filled."""
        if self.orders and self.copied:
            blind = node.transactions.written_blindly()
            by_tid = {}
            for row, upto in self.copied.items():
                if row in self.orders and row not in blind:
                    by_tid.setdefault(upto, []).append(row)
            if by_tid:
                node.durable()          # what makes them readable relies on it
            for upto, rows in by_tid.items():
                node.send(node.master, Filled(tuple(sorted(rows)), upto))
                for row in rows:
                    del self.orders[row]


@handles(Fill, sender=NodeKind.MASTER, phase=ClusterState.RUNNING)
def fill(node, peer, packet, request_id):
    if packet.oid_mark > node.state.oid_mark:
        node.state.put(oid_mark=packet.oid_mark)
        node.lazily()
    node.filling.order(node, packet.rows, packet.upto)
