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
        tid = self._engine.current(oid) or 0
        self._keep(oid, tid)
        return tid

    def changed(self, oids, tid):
        """These have been written by `tid`; None: by several, so that they are asked for again."""
        for oid in oids:
            if oid > self._last_oid:
                self._last_oid = oid
            if tid is None:
                self._tids.pop(oid, None)
            else:
                self._keep(oid, tid)

    def _keep(self, oid, tid):
        self._tids[oid] = tid
        self._tids.move_to_end(oid)
        if len(self._tids) > self._size:
            self._tids.popitem(last=False)
