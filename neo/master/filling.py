"""How cells that are out of date become readable (docs/architecture.md, "Replication").

    wait       for all clients to write to a cell that is new: what votes there may lack this row
    order      a storage that is there copies what its rows lack, up to what was told by now
    missed     a transaction was committed without the vote of such a cell: what it wrote there has
               to be copied as well
    filled     a row has all, and nothing was missed since: it is up to date with the next table

Of a cell that was there before, *finish* says whether what is committed has been written to it.
"""
from ..cluster.balance import settled
from ..cluster.node import handles
from ..protocol.packets import Fill, Filled, FillProgress
from ..protocol.types import Filling as Progress
from ..protocol.types import NodeKind


class Cell:
    """An out-of-date one, of a storage in its present session."""

    __slots__ = 'upto', 'missed'

    def __init__(self, missed):
        self.upto = None                # it was told to copy up to this tid; None: not yet
        self.missed = missed            # the last transaction that was committed without it


class Filling:
    """Of one term, while the cluster serves."""

    def __init__(self, table):
        self._table = table             # that was looked at last
        self._new = {}                  # (row, storage) -> TableKey: not yet written to by all
        self._cells = {}                # Peer -> {row: Cell}
        self._late = {}                 # Peers some of whose cells have to be told again
        self._ready = {}                # (row, storage) -> None: filled, and not in a table yet
        self._progress = {}             # Peer -> (FillProgress, when it began)

    # -- who is there -------------------------------------------------------------------------
    def came(self, node, peer):
        """It holds the table in force, and whatever it had unfinished has ended."""
        self._cells.setdefault(peer, {})
        self._look(node, peer)

    def holds(self, node, peer):
        """It has the table in force only now."""
        if peer in self._cells:
            self._look(node, peer)

    def left(self, peer):
        self._cells.pop(peer, None)
        self._late.pop(peer, None)
        self._progress.pop(peer, None)
        for cell in [cell for cell in self._ready if cell[1] == peer.id]:
            del self._ready[cell]

    def storages(self):
        """Peers some of whose cells are being filled."""
        return [peer for peer, cells in self._cells.items() if cells]

    def table_changed(self, node):
        former, self._table = self._table, node.tables.in_force
        for storage, rows in self._table.out_of_date.items():
            self._new.update(((row, storage), self._table.key) for row in rows
                             if storage not in former.writable[row])
        self.taken(node)
        for peer in list(self._cells):
            self._drop(peer, self._table)
            self._look(node, peer)
        self._write(node)

    def taken(self, node):
        """Some client routes by a newer table, or is gone."""
        if self._new:
            oldest = min([peer.data.taken for peer in node.members.clients.values()],
                         default=self._table.key)
            self._new = {cell: key for cell, key in self._new.items() if key > oldest}
            self.told(node)

    def _drop(self, peer, table):
        """Cells that it does not fill any more by this table, whether it has heard of that or not:
        what it says of them is of the past."""
        cells = self._cells[peer]
        for row in cells.keys() - set(table.out_of_date.get(peer.id, ())):
            del cells[row]
            self._ready.pop((row, peer.id), None)

    def _look(self, node, peer):
        """Which of its cells are out of date by the table in force?  It hears of none before it
        holds that table itself."""
        if not peer.data.holds(node.tables.in_force):
            return
        self._drop(peer, node.tables.in_force)
        cells = self._cells[peer]
        for row in node.tables.in_force.out_of_date.get(peer.id, ()):
            if row not in cells:
                # What has its tid already, nobody has given to this cell.
                cells[row] = Cell(node.transactions.last_in_finish)
        self._order(node, peer)

    # -- orders ---------------------------------------------------------------------------------
    def _order(self, node, peer):
        """Tell it what it has not been told, as far as that can be copied by now."""
        if not peer.data.holds(node.tables.in_force):
            return                      # it would not know what that is about
        self._late.pop(peer, None)
        told = node.transactions.last_told
        rows = []
        for row, cell in self._cells[peer].items():
            if cell.upto is None or cell.upto < cell.missed:
                if cell.missed <= told and (row, peer.id) not in self._new:
                    cell.upto = told
                    rows.append(row)
                else:
                    self._late[peer] = None
        if rows:
            node.send(peer, Fill(node.tables.in_force.key, tuple(sorted(rows)), told,
                                 node.oids.reserved_up_to))

    def missed(self, rows, storages, routing, tid):
        """`tid` writes in these rows; `storages` have voted what they were given by `routing`."""
        for peer, cells in self._cells.items():
            for row in rows if cells else ():
                if row in cells and (peer.id not in storages or
                                     peer.id not in routing.writable[row]):
                    cells[row].missed = tid
                    self._late[peer] = None
                    self._ready.pop((row, peer.id), None)

    def told(self, node):
        """More transactions have been told."""
        for peer in list(self._late):
            self._order(node, peer)

    # -- for the operator -----------------------------------------------------------------------
    def advanced(self, node, peer, packet):
        before, began = self._progress.get(peer, (None, None))
        if before is None or packet.done < before.done:
            began = node.now
        self._progress[peer] = packet, began

    def progress(self, node):
        """A `types.Filling` of each storage that has told how far it has come."""
        return tuple(Progress(peer.id, packet.bytes, left(packet.done, node.now - began))
                     for peer, (packet, began) in self._progress.items() if self._cells.get(peer))

    # -- their end --------------------------------------------------------------------------------
    def filled(self, node, peer, rows, upto):
        cells = self._cells.get(peer, {})
        for row in rows:
            cell = cells.get(row)
            if cell is not None and cell.upto == upto and cell.missed <= upto:
                self._ready[row, peer.id] = None
        self._write(node)

    def _write(self, node):
        """Those that are ready are up to date with one table, once no other one is under way."""
        if self._ready and not node.tables.pending:
            ready, self._ready = self._ready, {}
            node.tables.write(node, settled(node.tables.newest.filled(ready)), lambda node: None)


@handles(Filled, sender=NodeKind.STORAGE)
def rows_are_filled(master, peer, packet, request_id):
    if master.filling is not None:      # else the cluster does not serve any more
        master.filling.filled(master, peer, packet.rows, packet.upto)


@handles(FillProgress, sender=NodeKind.STORAGE)
def rows_are_being_filled(master, peer, packet, request_id):
    if master.filling is not None:
        master.filling.advanced(master, peer, packet)


def left(done, seconds):
    """Seconds until all is done, when so many thousandths have taken `seconds`."""
    return int(max(0, seconds) * max(0, 1000 - done) / done) if done else None
