"""Which storage holds which row (docs/architecture.md, "Ids").

A table is a value: every change makes another one, with the next ptid.
"""
from ..protocol.limits import MAX_CUTS
from ..protocol.types import Cell, CellState, Table, TableKey
from .ids import node_order

READABLE = frozenset([CellState.UP_TO_DATE, CellState.FEEDING])
WRITABLE = READABLE | {CellState.OUT_OF_DATE}
LETTERS = {CellState.UP_TO_DATE: 'U', CellState.OUT_OF_DATE: 'O', CellState.FEEDING: 'F',
           CellState.CORRUPTED: 'C'}


class PartitionTable:
    """`rows[i]` maps the storages that have a cell of row i to its CellState; `masters` are the
    ids of those that vote; `cuts` see cuts.py."""

    __slots__ = ('term', 'ptid', 'key', 'replicas', 'rows', 'partitions', 'masters', 'cuts',
                 'readable', 'writable', '_storages', '_readers', '_packed', '_out_of_date',
                 '_corrupted')

    def __init__(self, term, ptid, replicas, rows, masters=(), cuts=()):
        self.term, self.ptid, self.replicas = term, ptid, replicas
        self.masters = tuple(sorted(masters, key=node_order))
        self.cuts = tuple(cuts)
        self.key, self.partitions = TableKey(term, ptid), len(rows)
        self.rows = [dict(sorted(row.items(), key=lambda cell: node_order(cell[0])))
                     for row in rows]
        # Tuples of storages per row, made once: every load and store looks here.
        self.readable = [tuple(s for s, state in row.items() if state in READABLE)
                         for row in self.rows]
        self.writable = [tuple(s for s, state in row.items() if state in WRITABLE)
                         for row in self.rows]
        # Found when they are asked for first: nothing that happens often walks over all rows.
        self._storages = self._readers = self._packed = None
        self._out_of_date = self._corrupted = None

    @classmethod
    def unpack(cls, packed):
        """From the `Table` of the protocol."""
        return cls(packed.term, packed.ptid, packed.replicas,
                   [{cell.storage: CellState(cell.state) for cell in row}
                    for row in packed.rows], packed.masters, packed.cuts)

    def pack(self):
        if self._packed is None:
            self._packed = Table(self.term, self.ptid, self.replicas, tuple(
                tuple(Cell(storage, int(state)) for storage, state in row.items())
                for row in self.rows), self.masters, self.cuts)
        return self._packed

    def storages(self):
        """All storages that have a cell, in order."""
        if self._storages is None:
            self._storages = tuple(sorted(set().union(*self.rows), key=node_order))
        return self._storages

    def readers(self):
        """The storages with a readable cell, in order."""
        if self._readers is None:
            self._readers = tuple(sorted(set().union(*self.readable), key=node_order))
        return self._readers

    def voters(self):
        """Those, and the masters that vote (docs/architecture.md, "Who may serve")."""
        return self.readers() + self.masters

    @property
    def out_of_date(self):
        """{storage: rows of which its cell is out of date, ascending}."""
        if self._out_of_date is None:
            self._out_of_date = self._rows_of(CellState.OUT_OF_DATE)
        return self._out_of_date

    @property
    def corrupted(self):
        """The same of those that nobody reads or writes."""
        if self._corrupted is None:
            self._corrupted = self._rows_of(CellState.CORRUPTED)
        return self._corrupted

    def _rows_of(self, wanted):
        found = {}
        for number, row in enumerate(self.rows):
            for storage, state in row.items():
                if state == wanted:
                    found.setdefault(storage, []).append(number)
        return found

    def operational(self, running):
        """Does each row have a readable cell on a storage in `running`?"""
        return all(any(storage in running for storage in row) for row in self.readable)

    def rewritten(self, term):
        """The same cells, as the first table of the primary of `term`."""
        return self._changed(term=term)

    def _changed(self, **changes):
        return PartitionTable(**dict(
            term=self.term, ptid=self.ptid + 1, replicas=self.replicas, rows=self.rows,
            masters=self.masters, cuts=self.cuts) | changes)

    def outdated(self, cells):
        """The next one of the same primary, with these cells, (row, storage), out of date."""
        return self._with(cells, CellState.OUT_OF_DATE)

    def condemned(self, cells):
        """The same, with these corrupted."""
        return self._with(cells, CellState.CORRUPTED)

    def filled(self, cells):
        """The same, with these up to date."""
        return self._with(cells, CellState.UP_TO_DATE)

    def _with(self, cells, state):
        rows = [dict(row) for row in self.rows]
        for row, storage in cells:
            rows[row][storage] = state
        return self._changed(rows=rows)

    def next(self, rows=None, replicas=None):
        """The next one of the same primary, with other rows, or another number of copies."""
        return self._changed(replicas=self.replicas if replicas is None else replicas,
                             rows=self.rows if rows is None else rows)

    def with_masters(self, masters):
        """The next one of the same primary, in which these masters vote."""
        return self._changed(masters=masters)

    def cut(self, cut):
        """The next one of the same primary, of another history."""
        return self._changed(cuts=(*self.cuts, cut)[-MAX_CUTS:])

    def forced(self, term, rows, masters, cut):
        """The first one of the primary of `term`, with nobody who is away."""
        return self._changed(term=term, rows=rows, masters=masters,
                             cuts=(*self.cuts, cut)[-MAX_CUTS:])

    def without(self, storages):
        """The next one of the same primary, with all that these have to be read out of date."""
        return self.outdated(self.cells_of(storages))

    def cells_of(self, storages):
        """The readable cells, (row, storage), that these have."""
        return [(row, storage) for row, readable in enumerate(self.readable)
                for storage in readable if storage in storages]

    def letters(self, storage):
        """One letter per row: U, O, F, C, or a dot where `storage` has no cell."""
        return ''.join(LETTERS[row[storage]] if storage in row else '.' for row in self.rows)

    def __eq__(self, other):
        return isinstance(other, PartitionTable) and self.pack() == other.pack()

    __hash__ = None

    def __repr__(self):
        return 'PartitionTable(%d.%d, %s)' % (self.term, self.ptid, ' '.join(
            '%s=%s' % (s, self.letters(s)) for s in self.storages()))
