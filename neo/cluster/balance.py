"""The next partition table when an operator changes the cluster (docs/decisions/balance.md).

    first      of a new cluster
    tweak      each row gets as many copies as are wanted, spread evenly over the storages and over
               the machines they run on, with few cells moved
    settled    what was only kept until others had caught up goes
    dropped    storages lose all their cells

A cell that shall go feeds until who comes for it is up to date: readable copies never get fewer
than they were, or than are wanted.  All here is pure: tables in, tables out.
"""
from collections import Counter, deque
from itertools import groupby

from ..protocol.types import CellState
from .ids import node_order
from .partition_table import READABLE, PartitionTable

UP_TO_DATE, OUT_OF_DATE = CellState.UP_TO_DATE, CellState.OUT_OF_DATE
FEEDING, CORRUPTED = CellState.FEEDING, CellState.CORRUPTED


class Impossible(ValueError):
    """Why there is no such table, in words."""


# -- tables -----------------------------------------------------------------------------------
def first(term, partitions, replicas, homes, masters=()):
    """That of a new cluster.  Raises Impossible."""
    table = tweak(PartitionTable(term, 0, replicas, [{}] * partitions, masters), homes)
    return PartitionTable(term, 1, replicas, [
        dict.fromkeys(row, UP_TO_DATE) for row in table.rows], masters)


def tweak(table, homes, leaving=()):
    """The next table, in which the storages of `homes`, {id: machine}, share all rows, and those of
    `leaving` have nothing that is needed.  Who is in neither, since it is away, keeps what it has,
    and that counts as no copy.  Raises Impossible."""
    copies = table.replicas + 1
    if len(homes) < copies:
        raise Impossible('%s of each row need%s %d storage%s that run%s and do not leave, and'
                         ' there %s' % (
                             '1 copy' if copies == 1 else '%d copies' % copies,
                             's' * (copies == 1), copies, 's' * (copies != 1),
                             's' * (copies == 1),
                             'is 1' if len(homes) == 1 else 'are %d' % len(homes)))
    chosen = Assignment(table, homes, copies).rows
    concerned = homes.keys() | set(leaving)
    rows = [_changed(row, storages, concerned) for row, storages in zip(table.rows, chosen)]
    return table.next([_settled(row, copies) for row in rows])


def _changed(row, storages, concerned):
    """The cells of a row that these storages are to have.  One that is corrupted stays so until its
    storage knows that: else that would fill the end of it only."""
    result = {id: state for id, state in row.items() if id not in concerned}
    for id in row.keys() & concerned:
        if row[id] in READABLE:
            result[id] = UP_TO_DATE if id in storages else FEEDING
    for id in storages:
        result.setdefault(id, CORRUPTED if row.get(id) == CORRUPTED else OUT_OF_DATE)
    return result


def settled(table):
    """The next table, without the feeding cells that nothing depends on any more; the same one if
    there are none."""
    rows = [_settled(row, table.replicas + 1) for row in table.rows]
    return table if rows == table.rows else table.next(rows)


def _settled(row, copies):
    feeding = sorted((id for id, state in row.items() if state == FEEDING), key=node_order)
    needed = max(0, copies - sum(state == UP_TO_DATE for state in row.values()))
    return {id: state for id, state in row.items() if id not in feeding[needed:]}


def dropped(table, storages):
    """The next table, without any cell of these.  Raises Impossible if they have the last readable
    copy of a row."""
    lost = only_on(table, storages)
    if lost:
        raise Impossible('of %s there is no other copy that can be read' % rows_text(lost))
    return table.next([{id: state for id, state in row.items() if id not in storages}
                       for row in table.rows])


def only_on(table, storages):
    """Rows of which nobody else has a readable copy."""
    return [row for row, readable in enumerate(table.readable) if not set(readable) - set(storages)]


def may_lose(table, homes):
    """`(storages, machines)`: how many of `homes`, {id of a storage that runs: machine}, may be
    lost one after the other, whichever they are, with each row still readable; -1: some row is not
    readable even now."""
    readers = [[id for id in readable if id in homes] for readable in table.readable]
    return (min(map(len, readers)) - 1,
            min(len({homes[id] for id in readers}) for readers in readers) - 1)


def lacking(table):
    """Rows with fewer readable copies than are wanted."""
    return [row for row, readable in enumerate(table.readable) if len(readable) <= table.replicas]


def rows_text(rows):
    """For people: `rows 1-3, 7`."""
    spans = []
    for _, span in groupby(enumerate(rows), lambda numbered: numbered[1] - numbered[0]):
        span = [row for _, row in span]
        spans.append('%d-%d' % (span[0], span[-1]) if len(span) > 1 else '%d' % span[0])
    return 'row%s %s' % ('s' * (len(rows) > 1), ', '.join(spans))


# -- who is to have what ----------------------------------------------------------------------
class Assignment:
    """`rows[i]` are the storages that are to have row i: `copies` of those in `homes`.

    Of the copies of a row as few as possible are on one machine (`per_machine`); within that, each
    storage has as many rows as any other (`quota`), and what is there stays where it is if it can.
    """

    def __init__(self, table, homes, copies):
        self.homes, self.copies = homes, copies
        self.held = [{id: state for id, state in row.items()
                      if id in homes and state in (UP_TO_DATE, OUT_OF_DATE, FEEDING)}
                     for row in table.rows]
        self.per_machine = _per_machine(homes, copies)
        self.quota = _quotas(homes, copies, self.per_machine, self.held)
        self.load = Counter(dict.fromkeys(homes, 0))
        self.rows = [set() for row in table.rows]
        self._keep()
        self._complete()
        self._even_out()

    # What is there, most precious first: what is readable spares a copy.
    def _keep(self):
        for state in UP_TO_DATE, FEEDING, OUT_OF_DATE:
            for number, held in enumerate(self.held):
                for id in sorted(held, key=lambda id: (self.load[id] - self.quota[id],
                                                       node_order(id))):
                    if held[id] == state and self._has_room(number, id):
                        self._put(number, id)

    def _has_room(self, number, id, instead_of=None):
        """May this storage have the row as well (or instead of another one)?"""
        storages = self.rows[number]
        machine = self.homes[id]
        return (id not in storages and len(storages) - (instead_of is not None) < self.copies
                and sum(self.homes[other] == machine for other in storages
                        if other != instead_of) < self.per_machine)

    def _put(self, number, id):
        self.rows[number].add(id)
        self.load[id] += 1

    def _complete(self):
        """Rows with too few copies get others, of who has the fewest."""
        for number, storages in enumerate(self.rows):
            while len(storages) < self.copies:
                free = [id for id in self.homes if self._has_room(number, id)]
                self._put(number, min(free, key=lambda id: (
                    self.load[id] >= self.quota[id], self.load[id], node_order(id))))

    # -- even loads ---------------------------------------------------------------------------
    def _even_out(self):
        """Move rows from who has too many to who has too few: directly, or else through others."""
        for source, target in self._pairs():
            self._move(source, target, min(self.load[source] - self.quota[source],
                                           self.quota[target] - self.load[target]))
        for source in self._order():
            while self.load[source] > self.quota[source]:
                path = self._path(source)
                if path is None or not all([self._move(a, b, 1) for a, b in zip(path, path[1:])]):
                    break

    def _pairs(self):
        """Those that have too many, and those that have too few at that moment."""
        for source in self._order():
            for target in self._order():
                if self.load[source] > self.quota[source] and (
                        self.load[target] < self.quota[target]):
                    yield source, target

    def _order(self):
        return sorted(self.homes, key=node_order)

    def _movable(self, source, target):
        """Rows that can go from one to the other."""
        return (number for number, storages in enumerate(self.rows)
                if source in storages and self._has_room(number, target, source))

    def _cost(self, number, source, target):
        """What has to be copied more by this move: a row, or a part of one."""
        price = {None: 2, OUT_OF_DATE: 1}
        held = self.held[number]
        return price.get(held.get(target), 0) - price.get(held.get(source), 0)

    def _move(self, source, target, count):
        """So many rows, or as many as can be, those first that cost least; how many?"""
        rows = sorted(self._movable(source, target), key=lambda number: self._cost(
            number, source, target))[:count]
        for number in rows:
            self.rows[number].remove(source)
            self.rows[number].add(target)
        self.load[source] -= len(rows)
        self.load[target] += len(rows)
        return len(rows)

    def _path(self, source):
        """The shortest way of rows, from storage to storage, to one that has too few."""
        came = {source: None}
        found = deque([source])
        while found:
            id = found.popleft()
            if self.load[id] < self.quota[id]:
                path = [id]
                while came[path[-1]] is not None:
                    path.append(came[path[-1]])
                return path[::-1]
            for other in self._order():
                if other not in came and any(True for _ in self._movable(id, other)):
                    came[other] = id
                    found.append(other)
        return None


def _machines(homes):
    """{machine: its storages, in order}"""
    machines = {}
    for id in sorted(homes, key=node_order):
        machines.setdefault(homes[id], []).append(id)
    return machines


def _per_machine(homes, copies):
    """The smallest number of copies of one row on one machine with which there is room for all."""
    sizes = [len(storages) for storages in _machines(homes).values()]
    return next(limit for limit in range(1, copies + 1)
                if sum(min(limit, size) for size in sizes) >= copies)


def _quotas(homes, copies, per_machine, held):
    """{storage: how many rows it is to have}.  A machine whose storages can't take as many as those
    of others has what it can, and the others share the rest."""
    total, rows = copies * len(held), len(held)
    quota = {}
    machines = _machines(homes)
    most = {machine: rows * min(per_machine, len(ids)) for machine, ids in machines.items()}
    while True:
        storages = sum(map(len, machines.values()))
        full = [machine for machine, ids in machines.items()
                if most[machine] * storages < total * len(ids)]
        if not full:
            break
        for machine in full:
            quota |= _shares(machines.pop(machine), most[machine], held)
            total -= most[machine]
    return quota | _shares([id for ids in machines.values() for id in ids], total, held)


def _shares(storages, total, held):
    """`total` in equal parts; what is left over goes to those that have most already."""
    if not storages:
        return {}
    share, more = divmod(total, len(storages))
    have = Counter(id for row in held for id in row)
    order = sorted(storages, key=lambda id: (-have[id], node_order(id)))
    return {id: share + (place < more) for place, id in enumerate(order)}
