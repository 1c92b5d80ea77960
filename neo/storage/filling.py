"""How a storage copies what its out-of-date rows lack (docs/architecture.md, "Replication").

The primary says up to where (`Fill`); whatever is committed later is written here as well.  Rows
that are complete up to the same tid, and are read from the same storage, are one *copy*: first the
metadata of its range, then the records, chunk by chunk, each of which makes the rows here what they
are there, and last what is known to be told.  How far the records have come is durable with the
next commit, whatever that is for.
"""
from ..cluster.balance import rows_text
from ..cluster.context import Context
from ..cluster.node import handles
from ..protocol import limits
from ..protocol.packets import Fill, Filled, ListRecords, ListTransactions, RowsTold
from ..protocol.types import MAX_ID, ClusterState, ErrorCode, NodeKind
from . import serve_clients
from .cells import Cells
from .chunks import before, wrong_with
from .engine.interface import COPIED, BrokenData
from .progress import Progress
from .sources import Sources
from .space import in_full, in_words

FILL = 'fill'                   # timer
NOT_COPIED = 'rows that can\'t be copied'      # condition
WAIT = 0.5                      # seconds until a source is looked for again
BUSY = 0.2                      # a client that was heard within so many seconds is active


class Copy(Context):
    """Rows on their way; the context of its requests, one at a time."""

    def __init__(self, rows, start, upto, source):
        self.rows = rows                # ascending
        self.start, self.upto = start, upto     # tids, both inclusive
        self.source = source            # Peer
        self.next = start, None         # (tid, after oid): where the records go on; None: are here
        self.next_tid = start           # where the metadata go on; None: they are here
        self.oldest = None              # the tid of the first record there was
        self.ended = False
        self.asked = None               # the packet that is not answered yet
        self.asked_at = 0.0

    def part(self):
        """How much of it is done, from 0 to 1: of the time in which it was written, as nothing
        better is known."""
        if self.next is None:
            return 1
        if self.oldest is None:
            return 0
        return (self.next[0] - self.oldest) / (self.upto + 1 - self.oldest)

    def ask(self, node):
        if self.asked is None:
            self.asked, self.asked_at = self._packet(), node.now
            node.ask(self.source, self.asked, self)

    def _packet(self):
        stop = self.upto + 1
        if self.next_tid is not None:
            return ListTransactions(self.next_tid, stop, self.rows)
        if self.next is not None:
            return ListRecords(*self.next, stop, self.rows)
        return RowsTold(stop, self.rows)

    # -- as the context of its requests ---------------------------------------------------------
    def answered(self, node, peer, answer):
        filling, asked = node.filling, self.asked
        if filling.copy is not self:
            return                      # another order has come, or the primary is lost
        self.asked = None
        wrong = wrong_with(answer, asked, node.partitions)
        if wrong is not None:
            filling.failed(node, peer, wrong, broken=True)
        elif type(asked) is ListTransactions:
            self._put_in(node, self._transactions, answer, [
                len(it.user) + len(it.description) + len(it.extension) + 9 * len(it.oids)
                for it in answer.transactions])
        elif type(asked) is ListRecords:
            self._put_in(node, self._records, answer, [
                len(it.data or b'') for it in answer.records])
        else:
            node.engine.raise_told(answer.told)
            node.lazily()
            self.ended = True
            filling.succeeded(node, peer)
            filling.go_on(node)

    def _put_in(self, node, take, answer, sizes):
        size = sum(sizes)
        if not node.engine.promise(COPIED, size, len(sizes)):
            node.filling.no_space(node, size)
            return
        try:
            take(node, answer)
        except BrokenData as error:
            node.filling.broken(node, error)
        else:
            node.lazily()
            node.filling.advanced(node, size)
            node.filling.taken(node, size, self.asked_at)

    def _transactions(self, node, answer):
        start, stop = self.next_tid, self.upto + 1 if answer.next is None else answer.next
        node.engine.replace_transactions(
            start, stop, node.partitions, self.rows, answer.transactions)
        self.next_tid = answer.next

    def _records(self, node, answer):
        node.engine.replace_records(
            before(*self.next), before(*answer.next) if answer.next else (self.upto, MAX_ID),
            node.partitions, self.rows, answer.records)
        if self.oldest is None and answer.records:
            self.oldest = answer.records[0].tid
        self.next = answer.next and tuple(answer.next)
        complete = self.upto if self.next is None else self.next[0] - 1
        node.filling.cells.raise_to(self.rows, complete)
        if complete >= self.start:
            node.filling.succeeded(node, self.source)

    def refused(self, node, peer, error):
        if node.filling.copy is self:
            node.filling.failed(node, peer, error.message, error.error == ErrorCode.BROKEN_DATA)

    def lost(self, node, peer):
        if node.filling.copy is self:
            node.filling.failed(node, peer, 'the connection was lost')


class Filling:

    def __init__(self, node):
        self.cells = Cells(node.state)
        self.sources = Sources()
        self.progress = Progress()
        self.orders = {}                # row -> tid up to which it is to be copied
        self._early = []                # Fill by a table of which it is not known here what it is
        self.copy = None                # Copy that is under way
        self.copied = {}                # row -> that tid, of those that have all
        self._taken = None              # (bytes, since when) of a chunk that is not durable yet
        self._until = 0.0               # there is a pause until then
        self._stuck_at = None           # since when there is nobody to copy from
        self._said = ''                 # what is in the way

    # -- what the primary says ------------------------------------------------------------------
    def table_in_force(self, node, before, table):
        filled = self.cells.complete.keys() & node.readable
        self.cells.table_in_force(node, before, table)
        rows = self.cells.complete
        if filled:
            node.conditions.filled(table.partitions, filled)
        self._compare(node)
        for orders in self.orders, self.copied:
            for row in [row for row in orders if row not in rows]:
                del orders[row]
        self._check_copy()
        self.go_on(node)
        early, self._early = self._early, []
        for packet in early:
            self.take(node, packet)

    def take(self, node, packet):
        """Who comes while a table is on its way hears of that one only when it is in force, and
        may be told before what to copy by the one before."""
        in_force = node.state.in_force
        if in_force is None or packet.key > in_force[:2]:
            self._early.append(packet)
        else:
            self.order(node, packet.rows, packet.upto)

    def serves(self, node):
        """The primary has taken what is here as it is."""
        if self.cells.are_taken(node.readable):
            node.lazily()
            self._compare(node)

    def order(self, node, rows, upto):
        self.progress.ordered(rows, self._left())
        for row in rows:
            if row in self.cells.complete:
                self.orders[row] = upto
                self.copied.pop(row, None)
        self.cells.ordered(rows)
        node.lazily()
        self._check_copy()
        self._compare(node)
        self.go_on(node)

    def _check_copy(self):
        """It goes on to its end also when another order has come: orders may come faster than any
        copy ends.  It does not if what came before it is to be copied again."""
        copy, complete = self.copy, self.cells.complete
        if copy is not None and any(complete.get(row, -1) < copy.start - 1 for row in copy.rows):
            self.copy = None

    def _compare(self, node):
        """Let what is written be compared with what is here, where all is here."""
        node.transactions.fill(
            node.partitions, node.retired | (self.cells.complete.keys() - self.copied.keys()))

    def stop(self, node):
        """The primary is lost, or another term begins: orders come again."""
        self.orders, self.copied, self.copy, self._early = {}, {}, None, []
        node.transactions.fill(node.partitions, self.cells.complete.keys())
        self.sources.stop(node)
        self._can_be_copied(node)

    def _left(self):
        """The rows that are not copied yet."""
        return self.orders.keys() - self.copied.keys()

    def advanced(self, node, size):
        self.progress.copied(node, size, self._left(), self.copy)

    # -- copying ----------------------------------------------------------------------------------
    def taken(self, node, size, began):
        """A chunk of so many bytes was copied, for which it was asked then.  How long that took,
        clients have to be left as well; it is known in the next turn, when the chunk is durable."""
        if self._yields(node):
            self._taken = size, began
            node.set_timer(FILL, node.now)
        else:
            self._rest(node, size, 0.0)

    def go_on(self, node):
        copy = self.copy
        if copy is not None and copy.ended:
            self._end(node, copy)
            copy = self.copy = None
        if node.phase != ClusterState.RUNNING or self._taken is not None:
            return
        if copy is None:
            copy = self._next(node)
            if copy is None:
                return
            self.copy = copy
        if self._until > node.now:
            node.set_timer(FILL, self._until)
        else:
            copy.ask(node)

    def _yields(self, node):
        """Is there any client that is active?"""
        return any(client.peer is not None and node.now - client.peer.heard < BUSY
                   for client in node.clients.values())

    def _rest(self, node, size, busy):
        """Before the next chunk: clients come first, and there may be a rate."""
        pause = size / node.fill_rate if node.fill_rate else 0.0
        self._until = node.now + max(pause, busy * (1 / limits.FILL_SHARE - 1))
        self.go_on(node)

    def timer(self, node):
        if self._taken is not None:
            size, began = self._taken
            self._taken = None
            self._rest(node, size, node.now - began)
        elif self.copy is not None:
            self.copy.ask(node)
        else:
            self.go_on(node)

    def _next(self, node):
        """The next Copy: of as many rows as can be copied together; None: there is none now."""
        groups = {}
        for row, upto in self.orders.items():
            if row not in self.copied:
                source = self.sources.pick(node, row)
                if source is not None:
                    start = self.cells.complete[row] + 1
                    groups.setdefault((source, start, upto), []).append(row)
        if not groups:
            self._look_for_sources(node)
            return None
        (source, start, upto), rows = next(iter(groups.items()))
        copy = Copy(tuple(sorted(rows)), start, upto, source)
        if start > upto:                # nothing is missing
            copy.next = copy.next_tid = None
        return copy

    # -- what is in the way -----------------------------------------------------------------------
    def _look_for_sources(self, node):
        """Nothing can be copied now: again in a moment, if there is something to be copied."""
        rows = self._left()
        if not rows:
            self._can_be_copied(node)
            return
        node.set_timer(FILL, node.now + WAIT)
        if self._stuck_at is None:
            self._stuck_at = node.now
        elif node.now - self._stuck_at >= limits.SILENCE_TOLD:
            self._say(node, '%s can\'t be copied here: %s' % (
                rows_text(sorted(rows)), self.sources.describe(node, rows)))

    def no_space(self, node, size):
        """It is tried again later."""
        self._say(node, 'no space for %s that are to be copied: %s' % (
            in_words(size), in_full(node.engine.space())))
        self._until = node.now + limits.SPACE_INTERVAL
        node.set_timer(FILL, self._until)

    def broken(self, node, error):
        """What is here can't be replaced; perhaps that was the disk, for a moment."""
        node.conditions.broken(error)
        self._until = node.now + limits.SPACE_INTERVAL
        node.set_timer(FILL, self._until)

    def failed(self, node, peer, reason, broken=False):
        self.sources.failed(node, peer.id, reason, broken)
        self.copy = None
        self.go_on(node)

    def succeeded(self, node, peer):
        self.sources.succeeded(peer.id)
        self._can_be_copied(node)

    def _can_be_copied(self, node):
        self._stuck_at = None
        self._say(node, '')

    def _say(self, node, text):
        if text != self._said:
            self._said = text
            node.conditions.change(NOT_COPIED, text)

    def _end(self, node, copy):
        for row in copy.rows:
            if self.orders.get(row) == copy.upto:       # else there is more by now
                self.copied[row] = copy.upto
        # From now on what is stored is compared with what is here.
        self._compare(node)
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
                self.cells.claimed(rows)
                node.send(node.master, Filled(tuple(sorted(rows)), upto))
                for row in rows:
                    del self.orders[row]


@handles(Fill, sender=NodeKind.MASTER, phase=ClusterState.RUNNING)
def fill(node, peer, packet, request_id):
    if packet.oid_mark > node.state.oid_mark:
        node.state.put(oid_mark=packet.oid_mark)
        node.lazily()
    node.filling.take(node, packet)
    serve_clients.tell(node)
