"""Where transactions write (docs/architecture.md, "Life of a transaction")."""


class Routing:
    """What a table says to transactions that begin now.  Each keeps to one from its begin to its
    end, so that no storage has a part of it only.

    `cells[row]` are the storages to write to: those with a readable cell, and those with one that
    is being filled, if `takes(storage)`.  `filled` are all of the latter, `blind` those written to.
    The vote of a storage is for all of its cells: who can be read in any row is written to in all.
    """

    __slots__ = 'table', 'cells', 'filled', 'blind'

    def __init__(self, table, takes, filled=None):
        self.table = table
        self.filled = _filled(table) if filled is None else filled
        self.blind = frozenset(filter(takes, self.filled)).union(
            self.filled.intersection(table.readers()))
        self.cells = table.readable if not self.blind else [
            tuple([id for id in writable if id in readable or id in self.blind])
            for readable, writable in zip(table.readable, table.writable)]

    def renewed(self, takes):
        """The same table, where other storages can be reached."""
        return Routing(self.table, takes, self.filled) if self.filled else self


def _filled(table):
    """The storages that have a cell which is out of date."""
    found = set()
    for readable, writable in zip(table.readable, table.writable):
        if len(writable) > len(readable):
            found.update(id for id in writable if id not in readable)
    return frozenset(found)
