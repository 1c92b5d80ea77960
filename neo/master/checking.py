"""Copies of rows are compared, and what is wrong is made anew
(docs/decisions/checking.md).

    compare    the readable cells of a row give digests of the same ranges, one after the other,
               up to what was told when that began
    condemn    a cell that is broken, or not what the reference or most others are, is CORRUPTED:
               nobody reads or writes it
    mend       once its storage knows that, it is OUT_OF_DATE, and filled from the beginning

Where nobody can tell which one is right, that is told to the operator, and nothing is changed.
"""
import logging
from collections import Counter, deque

from ..cluster.context import Context
from ..protocol import limits
from ..protocol.packets import Digest
from ..protocol.types import MAX_TID, ClusterState, RecordPosition
from . import announcements

CHECK = 'check'                 # timer
MEND = 'mend'                   # timer
ATTEMPTS = 5                    # a row whose storages come and go is given up then …
AGAIN = 1.0                     # … and begun again so many seconds later before


class Task:
    """A row that is to be compared, from `start` to `last` (tids, both included), or to what is
    told by then.  `reference` is the id of the storage that is right, or None.  It was `ordered` by
    the operator, or else a client has met something there."""

    __slots__ = 'row', 'reference', 'start', 'last', 'ordered', 'attempts'

    def __init__(self, row, reference=None, start=0, last=MAX_TID, ordered=True):
        self.row, self.reference = row, reference
        self.start, self.last, self.ordered = start, last, ordered
        self.attempts = 0

    @property
    def is_whole(self):
        return self.start == 0 and self.last >= MAX_TID


class Comparison(Context):
    """A row on its way; the context of its Digests."""

    def __init__(self, task, peers, last):
        self.task = task
        self.peers = peers              # {id: Peer} of its readable cells
        self.first, self.end = RecordPosition(task.start, None), RecordPosition(last + 1, None)
        self.metadata = True            # they come first, then the records
        self.start = self.stop = self.first     # of the range that is asked for
        self._answers = {}              # id -> Digest.Answer
        self._waiting = set()           # ids
        self._asked_at = 0.0
        self.bad = set()                # ids of cells that are not as they should be
        self.unclear = False            # there is a difference of which nobody knows who is right

    def ask(self, node):
        """For the next range, as far as each of them goes."""
        self._asked_at, self._answers, self.stop = node.now, {}, self.end
        self._ask(node, self.peers)

    def _ask(self, node, ids):
        packet = Digest(self.task.row, self.metadata, self.start, self.stop)
        self._waiting = set(ids)
        for id in ids:
            node.ask(self.peers[id], packet, self)

    # -- as the context of its requests ---------------------------------------------------------
    def answered(self, node, peer, answer):
        if not self._is_current(node):
            return
        if not self.start.place < answer.next.place <= self.stop.place:
            node.drop(peer, 'its digest is of another range')
            return
        self._answers[peer.id] = answer
        self._waiting.discard(peer.id)
        if not self._waiting:
            self._align(node)

    def _is_current(self, node):
        return node.checking is not None and node.checking.current is self

    def _align(self, node):
        """They end where the first of them does."""
        self.stop = min([it.next for it in self._answers.values()], key=lambda it: it.place)
        further = [id for id, it in self._answers.items() if it.next.place > self.stop.place]
        if further:
            self._ask(node, further)
            return
        wrong = verdict(self._answers, self.task.reference)
        if wrong is None:
            self.unclear = True
        else:
            self.bad |= wrong
        self.start = self.stop
        if self.start.place >= self.end.place and self.metadata:
            self.metadata, self.start = False, self.first
        node.checking.go_on(node, node.now - self._asked_at)

    @property
    def ended(self):
        return not self.metadata and self.start.place >= self.end.place

    def refused(self, node, peer, error):
        if self._is_current(node):
            node.checking.again(node, '%s: %s' % (peer.id, error.message))

    def lost(self, node, peer):
        if self._is_current(node):
            node.checking.again(node, '%s is lost' % peer.id)


def verdict(answers, reference=None):
    """Ids of those whose {id: Digest.Answer} of one range is wrong, or None where nobody knows: the
    reference is right, or else what more than half of those have that are not broken."""
    whole = {id: (it.count, it.digest) for id, it in answers.items() if not it.broken}
    if not whole:
        return None
    if reference in whole:
        right = whole[reference]
    else:
        right, votes = Counter(whole.values()).most_common(1)[0]
        # Who has less than what is broken elsewhere is no better.
        lost = any(it.broken and it.count > right[0] for it in answers.values())
        if 2 * votes <= len(whole) or lost:
            return None
    return {id for id in answers if whole.get(id) != right}


class Checking:
    """Of one term, while the cluster serves; one row at a time."""

    def __init__(self):
        self._tasks = deque()
        self.current = None             # Comparison
        self._count = 0                 # rows that the operator has ordered …
        self._left = 0                  # … and how many of them are not compared yet
        self._found = 0                 # cells that were found to be wrong or in doubt, of these

    # -- what is to be done ---------------------------------------------------------------------
    @property
    def progress(self):
        """Of what the operator has ordered, in words; empty when nothing is."""
        return self._left and '%d of %d rows are compared' % (
            self._count - self._left, self._count) or ''

    def order(self, node, tasks):
        """The operator wants these rows compared."""
        self._tasks.extend(tasks)
        self._count = self._left = len(tasks)
        self._found = 0
        node.log('the check of %d rows begins', self._count)
        self._begin(node)

    def suspect(self, node, row, tid, id):
        """A client has found what `tid` has written in this cell to be broken."""
        readable = node.tables.in_force.readable[row]
        if id in readable and len(readable) > 1 and tid <= node.transactions.last_told:
            self._tasks.appendleft(Task(row, None, tid, tid, ordered=False))
            self._begin(node)

    def _begin(self, node):
        if self.current is None:
            self.go_on(node)

    # -- one row after the other ------------------------------------------------------------------
    def go_on(self, node, busy=0.0):
        """The last range took `busy` seconds."""
        current = self.current
        if current is not None and current.ended:
            self._conclude(node, current)
            current = None
        if current is None:
            current = self.current = self._next(node)
        if current is not None:
            node.set_timer(CHECK, node.now + busy * (1 / limits.CHECK_SHARE - 1))

    def _next(self, node):
        while self._tasks:
            task = self._tasks.popleft()
            table, storages = node.tables.in_force, node.members.storages
            peers = {id: storages[id] for id in table.readable[task.row] if id in storages}
            last = min(task.last, node.transactions.last_told)
            if peers and task.start <= last:
                return Comparison(task, peers, last)
            self._done(node, task)

    def again(self, node, reason):
        """Storages or the table have changed meanwhile."""
        task, self.current = self.current.task, None
        task.attempts += 1
        if task.attempts < ATTEMPTS:
            self._tasks.append(task)
        else:
            node.log('row %d can\'t be compared: %s', task.row, reason, level=logging.WARNING)
            self._done(node, task)
        self.current = self._next(node)
        if self.current is not None:
            node.set_timer(CHECK, node.now + AGAIN)

    def timer(self, node):
        current = self.current
        if current is None or node.phase != ClusterState.RUNNING:
            return
        readable = set(node.tables.in_force.readable[current.task.row])
        if current.peers.keys() != readable.intersection(node.members.storages):
            self.again(node, 'its cells change')
        else:
            current.ask(node)

    def _done(self, node, task):
        if task.ordered:
            self._left -= 1
            if not self._left:
                node.log('the check of %d rows has ended: %s', self._count, (
                    '%d cells are wrong or in doubt' % self._found if self._found
                    else 'all copies are equal'))

    # -- what comes of it -------------------------------------------------------------------------
    def _conclude(self, node, comparison):
        task, bad, ids = comparison.task, comparison.bad, set(comparison.peers)
        row, doubtful = task.row, comparison.unclear or bad == ids
        self._found += task.ordered * len(ids if doubtful else bad)
        if doubtful or task.is_whole:
            doubt(node, ids, row, doubtful)
        if doubtful:
            node.log('row %d: %s differ or are broken, and nobody can tell which one is right:'
                     ' neoctl check %d:REFERENCE', row, ', '.join(sorted(ids)), row,
                     level=logging.ERROR)
        elif bad:
            node.log('row %d of %s is not as it should be: it is made anew from %s', row,
                     ', '.join(sorted(bad)), ', '.join(sorted(ids - bad)), level=logging.WARNING)
            node.tables.when_in_force(node, lambda node: condemn(node, row, bad, ids - bad))
        self._done(node, task)

    def table_changed(self, node):
        """There is another one in force, or a storage holds it."""
        if node.tables.in_force.corrupted:
            node.set_timer(MEND, node.now)

    def mend(self, node):
        """Fill what is corrupted, where its storage is there and knows that it is."""
        tables = node.tables
        if node.phase != ClusterState.RUNNING or tables.pending:
            return                      # it is looked at again then
        table, storages = tables.in_force, node.members.storages
        cells = [(row, id) for id, rows in table.corrupted.items() for row in rows
                 if id in storages and storages[id].data.holds(table)
                 and any(other in storages for other in table.readable[row])]
        if cells:
            tables.write(node, table.outdated(cells), lambda node: None)
            for row, id in cells:
                forget_broken(node, storages[id], row)


def condemn(node, row, bad, good):
    """These cells are corrupted, if that is as it was."""
    table, storages = node.tables.newest, node.members.storages
    readable = table.readable[row]
    cells = [(row, id) for id in bad if id in readable]
    if node.phase == ClusterState.RUNNING and cells and any(
            id in readable and id in storages for id in good):
        node.tables.write(node, table.condemned(cells), lambda node: None)


def doubt(node, ids, row, doubtful):
    """Tell the operator which rows can't be trusted."""
    for id in ids:
        peer = node.members.storages.get(id)
        if peer is not None and (row in peer.data.doubtful) != doubtful:
            peer.data.doubtful ^= {row}
            announcements.tell_condition(node, peer)


def forget_broken(node, peer, row):
    """What clients have found there is replaced."""
    partitions = node.tables.in_force.partitions
    left = {place: None for place in peer.data.broken if place[0] % partitions != row}
    if left != peer.data.broken:
        peer.data.broken = left
        announcements.tell_condition(node, peer)
