"""What goes wrong.  Each seed has its own mix: few kinds, often, find other bugs than all kinds,
seldom."""
from .old_disk import LONG_ENOUGH


class Faults:
    """Strikes at random moments, from `begin` until `end`."""

    def __init__(self, sim, rnd, old=None):
        self.sim = sim
        self.old = old              # the OldDisk that may be put back
        self.world = world = sim.world
        self.rnd = rnd
        self.network = world.network
        self.counts = world.counts
        kinds = sorted(self.KINDS)
        self.kinds = rnd.sample(kinds, rnd.randint(1, len(kinds)))
        self.weights = [rnd.choice([.2, 1, 5]) for _ in self.kinds]
        self.pause = rnd.choice([.3, 1, 3, 8])      # seconds between two, on average
        self.lasting = rnd.choice([.1, 1, 5])       # of what ends by itself, on average
        self.active = False

    def begin(self):
        self.active = True
        self._next()

    def end(self):
        """Heal everything; nothing goes wrong from now on."""
        self.active = False
        self.world.heal()

    def _next(self):
        self.world.scheduler.after(self.rnd.expovariate(1 / self.pause), self._strike)

    def _strike(self):
        if self.active:
            kind, = self.rnd.choices(self.kinds, self.weights)
            self.counts['fault: ' + kind] += 1
            self.world.trace.note('FAULT %s' % kind)
            self.KINDS[kind](self)
            self._next()

    def _later(self, function, *arguments, times=1):
        """What undoes a fault; at the end `World.heal` has done so already."""
        def call():
            if self.active:
                function(*arguments)
        self.world.scheduler.after(self.rnd.expovariate(1 / (self.lasting * times)), call)

    def _machine(self, kinds='MSAC'):
        return self.rnd.choice([m for name, m in self.world.machines.items() if name[0] in kinds])

    def _process(self):
        running = self.world.processes()
        return self.rnd.choice(running) if running else None

    # -- the kinds --------------------------------------------------------------------------
    def kill(self):
        machine = self._machine()
        self.world.kill(machine.name)
        self._later(self.world.start, machine.name)

    def interrupt(self):
        """In the middle of a client, which goes on with a fresh core."""
        process = self._machine('C').process
        if process is not None and not process.frozen:
            process.on_interrupt()

    def kill_everything(self):
        for name in self.world.permanent():
            self.world.kill(name)
            self._later(self.world.start, name)

    def kill_daemons(self):
        for name in self.world.permanent():
            if name[0] != 'C':
                self.world.kill(name)
                self._later(self.world.start, name)

    def power_failure(self):
        machine = self._machine()
        self.world.kill(machine.name, 'power failure', silently=True)
        self._later(self.world.start, machine.name)

    def crash_within_turn(self):
        """The next turns of a process end early: before a commit, after it, between two sends."""
        process = self._process()
        if process is not None:
            process.doom = (self.rnd.choice(['commit', 'committed', 'send', 'effect']),
                            self.rnd.randint(1, 10))
            process.world.scheduler.after(self.lasting, self._restart_dead, process.machine)

    def _restart_dead(self, machine):
        if self.active and machine.permanent:
            self.world.start(machine.name)

    def disk_failure(self):
        machine = self._machine('S')
        machine.disk.engine.fail_at(self.rnd.randint(1, 60))
        self._later(self._restart_dead, machine)

    def disk_full(self):
        """Somebody else takes all that was not promised, at any call."""
        machine = self._machine('S')
        machine.disk.fill_at(self.rnd.choice([1, self.rnd.randint(1, 60)]))
        self._later(setattr, machine.disk, 'full', False)

    def old_disk(self):
        disk = self.old
        if disk is not None and disk.can_begin:
            disk.take_away()
            self.world.scheduler.after(LONG_ENOUGH, self._put_back, disk)

    def _put_back(self, disk):
        if self.active:
            disk.put_back()
            self._later(self.world.start, disk.machine.name)

    def lose_state(self):
        """A master starts without its state file, if the others are enough without its vote."""
        machine = self._machine('M')
        if machine.store is not None and self.sim.can_lose(machine):
            self.world.kill(machine.name, 'its state is lost')
            machine.store.lose()
            self.counts['states lost'] += 1
            self._later(self.world.start, machine.name)

    def stray(self):
        """A storage of another cluster of the same name tries to join."""
        if self.sim.stray is not None:
            self.world.start(self.sim.stray)
            self._later(self.world.kill, self.sim.stray, 'it was a mistake')

    def jump_of_clock(self):
        """Seen by the next process on that machine: a running one has a monotonic clock."""
        machine = self._machine()
        machine.clock_offset = self.rnd.choice([
            self.rnd.uniform(-5, 5), self.rnd.uniform(-1000, 1000), self.rnd.uniform(-1e7, 1e7)])
        self.world.kill(machine.name, 'its clock jumps')
        self._later(self.world.start, machine.name)

    def freeze(self):
        process = self.world.freeze(self._machine().name)
        if process is not None:
            self._later(self._thaw, process)

    def _thaw(self, process):
        if process.machine.process is process:
            self.world.thaw(process.name)

    def slow_machine(self):
        machine = self._machine()
        machine.slowness = self.rnd.choice([10, 100, 1000])
        self.world.disturb(machine.name)
        self._later(setattr, machine, 'slowness', 1.0)

    def slow_network(self):
        machine = self._machine()
        self.network.slow[machine.name] = self.rnd.choice([10, 100])
        self.world.disturb(machine.name)
        self._later(self.network.slow.pop, machine.name, None)

    def reset(self):
        ends = list(self.network.ends)
        if ends:
            end = self.rnd.choice(ends)
            for side in end, end.other:
                self.world.disturb(side.machine.name)
            self.network.reset(end)

    def stall(self):
        """Of one connection, for long enough that another one takes its place, as a rule."""
        ends = list(self.network.ends)
        if ends:
            end = self.rnd.choice(ends)
            for side in self.rnd.choice([[end], [end, end.other]]):
                self.network.stall(side)
                self._later(self.network.go_on, side, times=8)
            for side in end, end.other:         # either may be said to be silent
                self.world.disturb(side.machine.name)

    def reset_machine(self):
        self.world.reset(self._machine().name)

    def cut_one_way(self):
        self._cut([self.rnd.sample(list(self.world.machines), 2)])

    def cut(self):
        one, other = self.rnd.sample(list(self.world.machines), 2)
        self._cut([(one, other), (other, one)])

    def isolate(self):
        alone = self._machine().name
        others = [name for name in self.world.machines if name != alone]
        self._cut([(alone, other) for other in others] + [(other, alone) for other in others])

    def _cut(self, ways):
        for way in ways:
            self.network.cut(*way)
            for name in way:
                self.world.disturb(name)
            self._later(self.network.mend, *way)

    def refuse(self):
        name = self._machine('MS').name
        self.network.refusing.add(name)
        self.world.disturb(name)
        self._later(self.network.refusing.discard, name)

    KINDS = {function.__name__: function for function in (
        kill, interrupt, kill_everything, kill_daemons, power_failure, crash_within_turn,
        disk_failure, disk_full, lose_state, jump_of_clock, freeze, slow_machine, slow_network,
        reset, reset_machine, cut_one_way, cut, isolate, refuse, stall, old_disk, stray)}
