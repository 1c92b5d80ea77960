"""A disk: what of an engine outlives the process that used it."""
from ..storage.engine.interface import EngineError
from ..storage.engine.memory import MemoryEngine


class DiskFailure(EngineError):
    """A call of the engine failed because the simulation wanted it to."""


class DiskEngine(MemoryEngine):
    """The memory engine, which loses at `reopened` what was not committed, and may fail."""

    disk = None

    def _call(self):
        self.calls += 1
        if self.calls == self._fail_at:
            self._failed = 'planted failure'
        if self._failed:
            raise DiskFailure(self._failed)

    def commit(self):
        if self.calls + 1 == self._fail_at and self.disk.rnd.random() < .5:
            # Nobody can tell whether a commit that failed has reached the disk.
            self._fail_at = None
            super().commit()
            raise DiskFailure('planted failure after a commit')
        super().commit()

    def free_space(self):
        return 0 if self.disk.full else None


class Disk:
    """`opened` gives each process its engine; what its predecessor had not committed is lost."""

    def __init__(self, rnd):
        self.rnd = rnd
        self.full = False
        self.engine = DiskEngine()
        self.engine.disk = self

    def unfinished(self):
        """What is there of transactions that have not ended."""
        return self.engine.locked() + sorted(self.engine._pended)

    def opened(self):
        self.engine = self.engine.reopened()
        return self.engine
