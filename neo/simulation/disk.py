"""A disk: what of an engine outlives the process that used it."""
import os
from contextlib import contextmanager
from copy import deepcopy
from functools import wraps

from ..storage.engine.interface import Engine, EngineError, Space
from ..storage.engine.memory import MemoryEngine
from ..storage.engine.sqlite import SqliteEngine


class DiskFailure(EngineError):
    """A call of the engine failed because the simulation wanted it to."""


class Failing:
    """Mixed into an engine that has a Disk and says at each call `_call()`: it may fail."""

    disk = None
    full = False                    # somebody else takes all space that was not promised
    calls = 0
    _fail_at = None                 # number of the call that fails
    _planted = None                 # why it must not be used any more

    def fail_at(self, number):
        """The call with this number, counted from the next one as 1; None: none does."""
        self._fail_at = number and self.calls + number

    def _call(self):
        self.calls += 1
        if self.calls == self.disk.fills_at:
            self.full = True
        if self.calls == self._fail_at:
            self._planted = 'planted failure'
        if self._planted:
            raise DiskFailure(self._planted)

    def commit(self):
        if self.calls + 1 == self._fail_at and self.disk.rnd.random() < .5:
            # Nobody can tell whether a commit that failed has reached the disk.
            self._fail_at = None
            super().commit()
            raise DiskFailure('planted failure after a commit')
        try:
            super().commit()
        except EngineError as error:
            assert not self.full or isinstance(error, DiskFailure), (
                '%s, though all was promised' % error)
            raise
        self.disk.committed()


class FailingMemory(Failing, MemoryEngine):

    def reopened(self):
        other = super().reopened()
        other._planted = other._fail_at = None
        return other


class CountedSqlite(SqliteEngine):
    """Nothing in it depends on the real disk."""

    def free_space(self):
        return 0 if self.full else None

    def space(self):
        return Space('disk', 0, 0, 0) if self.full else None

    def promise(self, ttid, size, count):
        return not self.full


def _counted(method):
    @wraps(method)
    def counted(self, *args):
        self._call()
        return method(self, *args)
    return counted


for _name in Engine.__abstractmethods__ - {'changed', 'needs_cleaning', 'should_commit', 'close'}:
    setattr(CountedSqlite, _name, _counted(getattr(CountedSqlite, _name)))


class FailingSqlite(Failing, CountedSqlite):

    def __init__(self, disk):
        self.disk = disk
        # A process that dies leaves what it had committed, synchronous or not.
        super().__init__('file:%s?synchronous=OFF' % disk.path, reserve=0)


class Disk:
    """`opened` gives each process its engine; what its predecessor had not committed is lost."""

    def __init__(self, rnd):
        self.rnd = rnd
        self.wants_copy = False     # of what the next commit leaves
        self.copy = None            # of what was there
        self.copy_knows = None      # what `knows()` was then
        self.fills_at = None        # the call of the engine at which it becomes full
        self.engine = None
        self._begin()

    @property
    def full(self):
        """Does somebody else take all space that was not promised?"""
        return self.engine.full

    @full.setter
    def full(self, full):
        self.fills_at = None
        self.engine.full = full

    def fill_at(self, number):
        """At the call with this number, counted from the next one as 1."""
        self.fills_at = self.engine.calls + number

    @contextmanager
    def unobserved(self):
        """The engine, asked by who does not belong to this world: nothing fails by that."""
        engine = self.engine
        before = engine.calls, engine._fail_at, engine._planted, self.fills_at
        engine._fail_at = engine._planted = self.fills_at = None
        yield engine
        engine.calls, engine._fail_at, engine._planted, self.fills_at = before

    def committed(self):
        if self.wants_copy:
            self.wants_copy = False
            self._make_copy()
            self.copy_knows = self.knows()

    def knows(self):
        """What there is of the cluster: its history and tables."""
        with self.unobserved() as engine:
            return [engine.get(name) for name in ('history', 'table', 'in_force')]

    # -- in memory --------------------------------------------------------------------------
    def _begin(self):
        self.engine = FailingMemory(reserve=0)
        self.engine.disk = self

    def opened(self):
        self.engine = self.engine.reopened()
        return self.engine

    def unfinished(self):
        """What is there of transactions that have not ended."""
        return self.engine.locked() + sorted(self.engine._pended)

    def _make_copy(self):
        engine = self.engine
        engine.disk = None
        self.copy = deepcopy(engine)
        engine.disk = self.copy.disk = self

    def put_back(self):
        """Take the copy for what was there, while nobody uses it."""
        self.engine = self.copy

    def close(self):
        pass


class SqliteDisk(Disk):
    """A file, in a folder that is there as long as the simulation."""

    def __init__(self, rnd, path):
        self.path = path
        super().__init__(rnd)

    def _begin(self):
        self.engine = FailingSqlite(self)

    def opened(self):
        full = self.engine.full
        self.engine.close()
        self._begin()
        self.engine.full = full
        return self.engine

    def unfinished(self):
        engine = self.engine
        pended = engine._execute(engine._sql.first_pended).fetchone()[0]
        return engine.locked() + ([] if pended is None else [pended])

    def _make_copy(self):
        self.copy = self.path + '-copy'
        if os.path.exists(self.copy):
            os.remove(self.copy)
        self.engine._execute('VACUUM INTO ?', (self.copy,))

    def put_back(self):
        self.engine.close()
        os.replace(self.copy, self.path)
        self._begin()

    def close(self):
        self.engine.close()
