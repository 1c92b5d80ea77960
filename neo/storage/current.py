"""What a storage knows about objects without asking its engine each time."""
from collections import OrderedDict

from ..protocol import limits


class CurrentTids:
    """`current[oid]`: the tid of the last revision, 0 if there is none.

    The most recently used are kept in memory, and an oid above all in the history is new.
    """

    def __init__(self, engine, size=limits.CURRENT_TIDS):
        self._engine = engine
        self._size = size
        self._tids = OrderedDict()
        self._last_oid = engine.last_oid()

    def __getitem__(self, oid):
        tid = self._tids.get(oid)
        if tid is not None:
            self._tids.move_to_end(oid)
            return tid
        if oid > self._last_oid:
            return 0
        tid = self._tids[oid] = self._engine.current(oid) or 0
        self._shrink()
        return tid

    def changed(self, oids, tid):
        """These have been written by `tid`; None: by several, so that they are asked for again."""
        self._last_oid = max(self._last_oid, max(oids, default=-1))
        tids = self._tids
        for oid in oids:
            if tid is None:
                tids.pop(oid, None)
            else:
                tids[oid] = tid
                tids.move_to_end(oid)
        self._shrink()

    def _shrink(self):
        while len(self._tids) > self._size:
            self._tids.popitem(last=False)
