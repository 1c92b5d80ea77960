"""A disk that is put back to an older copy: as an operator does who restores a backup, or a machine
that has lied about what it had written."""
from ..cluster.partition_table import PartitionTable
from ..protocol.limits import LAZY_COMMIT
from ..protocol.types import Table

LONG_ENOUGH = 3 * LAZY_COMMIT       # seconds, for the others to have on their disks what was told

WAIT = 10                           # seconds, for a moment without a doubt about what was told


class OldDisk:
    """Happens to one storage of a run, once.  What it has done since the copy is known to others:
    so nothing that was told may be lost."""

    def __init__(self, sim, name):
        self.sim = sim
        self.world = sim.world
        self.machine = sim.world.machines[name]
        self.done = False
        self._others = None         # processes of the other storages, while it is away

    def copy(self):
        """Keep a copy of what is there after the next commit."""
        self.machine.disk.wants_copy = True

    @property
    def can_begin(self):
        disk = self.machine.disk
        return disk.copy is not None and not (self.done or self.machine.detained)

    def take_away(self):
        self.world.kill(self.machine.name, 'its disk is taken away')
        self.machine.detained = True
        self._others = [self.world.machines[name].process for name in self.sim.storage_names
                        if name != self.machine.name]

    def put_back_while_all_are_down(self):
        """All daemons crash when the others know all that was told; one of them comes back with the
        copy.  Nobody has noted that it lacks something."""
        self._others = [self.world.machines[name].process for name in self.sim.storage_names
                        if name != self.machine.name]
        disk = self.machine.disk
        can = disk.copy is not None and self.world.run_for(WAIT, self._all_is_elsewhere)
        daemons = [name for name in self.world.permanent() if name[0] != 'C']
        self.sim.kill(*daemons)
        # With an older table it might start alone.
        if can and disk.knows() == disk.copy_knows and self._has_copies():
            self._take_copy()
        self.sim.restart(*daemons)

    def _has_copies(self):
        """Is each row that is read here also read elsewhere?"""
        with self.machine.disk.unobserved() as engine:
            id, table = engine.get('id'), Table.of(engine.get('in_force'))
        return all(readable != (id,) for readable in PartitionTable.unpack(table).readable)

    def put_back(self):
        """After LONG_ENOUGH: the copy, or what was there if others might not know all of it."""
        self.machine.detained = False
        if self._all_is_elsewhere() and self._others_serve():
            self._take_copy()

    def _take_copy(self):
        self.world.trace.note('%s has an old disk' % self.machine)
        self.world.counts['old disks'] += 1
        self.machine.disk.put_back()
        # What it had promised it has forgotten.
        self.world.promises.clear()
        self.done = True

    def _others_serve(self):
        """They have gone on without it, with a copy of each row."""
        return self.sim.running()

    def _all_is_elsewhere(self):
        """Have the others been running, and no doubt about what was told?"""
        told = self.sim.history.told()
        return all(process is not None and not process.dead and not process.node.engine.changed
                   and told.isdisjoint(locked.tid for locked in process.node.engine.locked())
                   for process in self._others)
