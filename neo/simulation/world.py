"""The virtual world: machines, the processes on them, and what can be done to them."""
import traceback
from collections import Counter
from random import Random

from .network import Network
from .process import Process
from .scheduler import Scheduler, Trace


class Machine:
    """What outlives a process: name, address, clock and disk."""

    def __init__(self, name, address, make_node, disk=None, permanent=True):
        self.name = name
        self.address = address      # None: nothing listens here
        self.make_node = make_node  # function(machine, random.Random) -> node
        self.disk = disk
        self.store = None           # StateStore of a master that has one
        self.permanent = permanent  # is a node that has ended started again?
        self.clock_offset = 0.0     # of processes started from now on
        self.powered = True
        self.detained = False       # nothing can be started there
        self.process = None
        self.incarnations = 0
        self.slowness = 1.0         # factor of the time between an event and its turn
        self.disturbed = None       # when something was done to it last
        self.world = None

    def turn_delay(self):
        return self.world.rnd.random() * World.TURN * self.slowness

    def __repr__(self):
        return self.name


class World:
    """Machines and their processes in one virtual time.

    `violations` collects what may never happen, whoever finds it.
    """

    TURN = .0002                # seconds, at most, between an event and the turn for it

    def __init__(self, seed, show=None):
        self.seed = seed
        self.scheduler = Scheduler()
        self.trace = Trace(self.scheduler, show)
        self.rnd = Random('world %s' % seed)
        self.network = Network(self.scheduler, Random('network %s' % seed), self.trace)
        self.machines = {}
        self.violations = []
        self.counts = Counter()     # packets by kind, deaths, …
        self.promises = {}          # (identity of a voter, term) -> identity of the candidate
        self.reigns = {}            # term -> label of its primary
        self.intact = False         # no disk was made to differ from others
        self.in_force = None        # PartitionTable: the highest that was
        self.exits = []             # (machine name, status, message)
        self.slice_rows = 300       # of background work at once, at most
        self.on_start = None        # function(process), called when its node has been made
        self.on_death = None        # function(process)
        self.restart_after_exit = None      # seconds, or None: exited nodes stay away

    @property
    def now(self):
        return self.scheduler.now

    def run_for(self, seconds, stop=None):
        """Let virtual time pass; True if `stop()` became true."""
        return self.scheduler.run(self.now + seconds, stop)

    def violation(self, message):
        message = '%.6f %s' % (self.now, message)
        self.trace.note('VIOLATION %s' % message)
        self.violations.append(message)

    # -- machines -------------------------------------------------------------------------
    def add(self, machine):
        machine.world = self
        self.machines[machine.name] = machine
        if machine.address is not None:
            self.network.listeners[machine.address] = machine
        return machine

    def permanent(self):
        """Names of the machines on which a node is meant to run."""
        return [name for name, machine in self.machines.items() if machine.permanent]

    def start(self, name):
        """Start the node of a machine, if it does not run."""
        machine = self.machines[name]
        if machine.process is not None or machine.detained:
            return machine.process
        if not machine.powered:
            machine.powered = True
            self.network.power(name)
        machine.incarnations += 1
        process = machine.process = Process(self, machine, machine.incarnations)
        node = machine.make_node(machine, Random('%s %s' % (self.seed, process.label)))
        process.start(node)
        if self.on_start is not None:
            self.on_start(process)
        return process

    def kill(self, name, reason='kill', silently=False):
        """End a process as kill -9 does or, `silently`, as a power failure does."""
        machine = self.machines[name]
        self.disturb(name)
        process, machine.process = machine.process, None
        if silently:
            machine.powered = False
        if process is not None:
            self.counts['deaths'] += 1
            self.trace.note('%s dies: %s' % (process.label, reason))
            self._die(process, silently)

    def _die(self, process, silently=False, leaving=False):
        process.die(silently, leaving)
        if self.on_death is not None:
            self.on_death(process)

    def processes(self):
        return [m.process for m in self.machines.values() if m.process is not None]

    def node(self, name):
        """The node that runs on a machine, or None."""
        process = self.machines[name].process
        return process and process.node

    def disturb(self, name):
        """Something is being done to this machine: what others think of it may be due to that."""
        self.machines[name].disturbed = self.now

    # -- what may be done to them -----------------------------------------------------------
    def freeze(self, name):
        process = self.machines[name].process
        if process is not None:
            process.frozen += 1
            self.disturb(name)
            self.trace.note('%s is frozen' % process.label)
        return process

    def thaw(self, name):
        process = self.machines[name].process
        if process is not None and process.frozen:
            process.frozen -= 1
            self.disturb(name)
            self.trace.note('%s goes on' % process.label)
            process.wake()

    def isolate(self, name):
        """Cut a machine from all others, both ways."""
        for other in self.machines:
            if other != name:
                self.network.cut(name, other)
                self.network.cut(other, name)

    def reset(self, name):
        """Reset all connections of a machine."""
        self.disturb(name)
        for end in list(self.network.ends):
            if end.machine.name == name:
                self.network.reset(end)

    def heal(self):
        """End every fault, and start all that does not run."""
        self.network.mend_all()
        for machine in self.machines.values():
            machine.slowness, machine.detained = 1.0, False
            if machine.disk is not None:
                machine.disk.full = False
                machine.disk.engine.fail_at(None)
            process = machine.process
            if process is not None:
                process.doom = None
                while process.frozen:
                    self.thaw(machine.name)
            if machine.permanent:
                self.start(machine.name)
            elif machine.disk is not None:
                self.kill(machine.name, 'it does not belong here')

    # -- reports of processes ---------------------------------------------------------------
    def broken(self, process, error):
        """A node raised: it is stopped with its effects undone, and that is a bug."""
        self.violation('%s raised %s' % (process.label, ''.join(
            traceback.format_exception(error)).rstrip()))
        self.kill(process.name, 'broken')

    def logged(self, process, level, message):
        self.trace.note('%s logs: %s' % (process.label, message))

    def exited(self, process, status, message):
        self.trace.note('%s exits with %d: %s' % (process.label, status, message))
        self.exits.append((process.name, status, message))
        self.counts['exits'] += 1
        process.machine.process = None
        self._die(process, leaving=True)
        if self.restart_after_exit is not None and process.machine.permanent:
            self.scheduler.after(self.restart_after_exit, self.start, process.name)
