"""A disk: what of an engine outlives the process that used it."""
from copy import deepcopy

from ..storage.engine.interface import EngineError
from ..storage.engine.memory import MemoryEngine


class DiskFailure(EngineError):
    """A call of the engine failed because the simulation wanted it to."""


class DiskEngine(MemoryEngine):
    """The memory engine, which loses at `reopened` what was not committed, and may fail."""

    disk = None

    def _call(self):
        self.calls += 1
        if self.calls == self.disk.fills_at:
            self.full = True
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
        try:
            super().commit()
        except EngineError as error:
            assert not self.full, '%s, though all was promised' % error
            raise
        self.disk.committed()

    def copied(self):
        """Another one with the same content, of the same disk."""
        disk, self.disk = self.disk, None
        copy = deepcopy(self)
        self.disk = copy.disk = disk
        return copy


class Disk:
    """`opened` gives each process its engine; what its predecessor had not committed is lost."""

    def __init__(self, rnd):
        self.rnd = rnd
        self.wants_copy = False     # of what the next commit leaves
        self.copy = None            # an engine
        self.fills_at = None        # the call of the engine at which it becomes full
        self.engine = DiskEngine(reserve=0)
        self.engine.disk = self

    @property
    def full(self):
        """Does somebody else take all space that was not promised?"""
        return self.engine.full

    @full.setter
    def full(self, full):
        self.fills_at = None
        self.engine.full = full

    def committed(self):
        if self.wants_copy:
            self.wants_copy = False
            self.copy = self.engine.copied()

    def put_back(self):
        """Take the copy for what was there, while nobody uses it."""
        self.engine = self.copy

    def fill_at(self, number):
        """At the call with this number, counted from the next one as 1."""
        self.fills_at = self.engine.calls + number

    def unfinished(self):
        """What is there of transactions that have not ended."""
        return self.engine.locked() + sorted(self.engine._pended)

    def opened(self):
        self.engine = self.engine.reopened()
        return self.engine
