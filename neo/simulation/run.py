"""One seed: a cluster is made, disturbed, healed, and judged.

    boot        without faults, or with them from the beginning
    disturb     workloads run while things go wrong: nothing false may ever be said
    heal        no faults any more: within bounded time every client commits again
    fill        all cells are up to date, and those that were only kept for that are gone
    calm        nothing fails any more, and nothing takes long; where a seed has no faults, it is
                calm from the beginning
    old disk    in some seeds a storage is found to have one; then all daemons crash
    backup      in some seeds all daemons crash, and one comes back with a somewhat older disk
    stop        in some seeds the operator stops the cluster, and starts it again
    end         transactions end; nothing is locked, nothing is left unfinished
    judge       what clients were told against what the disks hold
    restart     of everything at once: every object is still read as it should be
"""
from collections import Counter
from random import Random
from tempfile import TemporaryDirectory

from ..client.exception import NoObject
from ..cluster.balance import settled
from ..protocol.limits import (CONNECT_TIMEOUT, PING_INTERVAL, RECONNECT_DELAY_MAX, SHUTDOWN_GRACE,
                               STOP_GRACE)
from . import oracles
from .application import load
from .checks import Checks
from .calm import Calm
from .choices import choose_cluster
from .faults import Faults
from .old_disk import LONG_ENOUGH, OldDisk
from .operator import Operator
from .simulation import Simulation
from .workers import Workers

# Virtual seconds.  Nothing may last until silent clients are dropped (LOCK_PATIENCE): that is not
# what may end anything.
BOOT = 150                      # with faults, which last as long as they like
HEAL = 20                       # a dead peer is noticed within 5, and back-offs end within 2
FILL = 30
CALM = 3
STOP = STOP_GRACE + SHUTDOWN_GRACE
END = 10
SETTLE = 5                      # lazy commits, and clients that close
# Connections to who died silently are found to be broken, and attempts to connect time out.
NOTICE = PING_INTERVAL + CONNECT_TIMEOUT + RECONNECT_DELAY_MAX
EVENTS = 12_000                 # as many of a busy cluster are as good as more
CALM_EVENTS = 3_000


class Result:
    def __init__(self, run):
        self.seed = run.seed
        self.violations = run.sim.world.violations
        self.digest = run.sim.world.trace.digest()
        self.commits = sum(run.sim.history.commits.values())
        self.attempts = len(run.sim.history.attempts)
        self.events = run.sim.world.scheduler.count
        self.seconds = run.sim.world.now
        self.counts = Counter(run.sim.world.counts)

    @property
    def faults(self):
        return sum(n for what, n in self.counts.items() if what.startswith('fault: '))


class Failed(Exception):
    """The run can't go on: its violation has been noted."""


class Run:
    """`overrides` of `Simulation` replace what the seed chooses; `seconds` is how long it is
    disturbed."""

    def __init__(self, seed, show=None, seconds=None, faults=True, **overrides):
        self.seed = seed
        rnd = self.rnd = Random('run %s' % seed)
        options = choose_cluster(rnd) | overrides
        # Most of the time is that of the database, where it is a real one.
        self._folder = TemporaryDirectory(prefix='neo-simulation-') if (
            rnd.random() < .12) else None
        self.seconds = seconds or rnd.choice([5, 10, 20])
        self.early = rnd.random() < .2          # faults from the beginning
        self.sim = sim = Simulation(
            seed, show=show, folder=self._folder and self._folder.name, **options)
        sim.world.trace.note('%s %s' % (options, self.seconds))
        sim.world.restart_after_exit = 1.0
        sim.world.slice_rows = rnd.choice([1, 10, 300])
        sim.world.network.mean_delay = rnd.choice([.0002, .001, .005])
        faults = faults and rnd.random() < .9
        self.old = OldDisk(sim, rnd.choice(sim.storage_names)) if (
            sim.replicas and rnd.random() < .4) else None
        self.backup = OldDisk(sim, rnd.choice(sim.storage_names)) if (
            sim.replicas and rnd.random() < .2) else None
        if self.old is not None:
            sim.world.scheduler.after(rnd.uniform(.5, self.seconds), self.old.copy)
        self.faults = Faults(sim, Random('faults %s' % seed), self.old) if faults else None
        self.calm = Calm(sim.world)
        self.workers = Workers(sim, self.calm, rnd)
        self.operator = Operator(sim, self.calm, rnd, self._lowest) if (
            rnd.random() < .4) else None
        self.stops = rnd.random() < .5
        if self.operator is not None:
            self.operator.changes = rnd.random() < .6
        self.checks = Checks(sim, rnd) if rnd.random() < .3 else None
        sim.on_application = self.workers.give

    def __call__(self):
        try:
            self._boot()
            self._disturb()
            self._heal()
            self._fill()
            self._be_calm()
            if self.old is not None and self.old.can_begin:
                self._put_back_a_disk()
                self._heal()
                self._crash()
                self._heal()
            if self.backup is not None:
                self._restore_a_backup()
                self._heal()
            if self.operator is not None and self.stops:
                self._stop()
                self._heal()
            self._end()
            self._judge()
            self._restart()
        except Failed:
            pass
        finally:
            self.sim.close()
            if self._folder is not None:
                self._folder.cleanup()
        return Result(self)

    def _require(self, condition, seconds, what):
        world = self.sim.world
        if not world.violations and not world.run_for(
                seconds, lambda: bool(world.violations) or condition()):
            world.violation('not within %s s: %s' % (seconds, what()))
        self._check()

    def _pass(self, seconds, events=float('inf')):
        """Let time go by, and not more than so many events."""
        world = self.sim.world
        limit = world.scheduler.count + events
        world.run_for(seconds, lambda: bool(world.violations) or world.scheduler.count > limit)

    def _check(self, complaints=()):
        for complaint in complaints:
            self.sim.world.violation(complaint)
        if self.sim.world.violations:
            raise Failed

    def _lowest(self):
        """The tid below which nothing may be removed: objects that the workloads use are there.
        None: not now."""
        if self.workers.waiting_for_setup or self.calm.began is not None:
            return None
        return self.workers.ready_tid

    # -- the phases -----------------------------------------------------------------------------
    def _boot(self):
        sim = self.sim
        early = self.early and self.faults
        if early:
            self.faults.begin()
        for name in sim.world.permanent():
            sim.world.start(name)
            if not early:
                sim.run_for(.05)
        if self.operator is not None:
            self.operator.begin()
        if self.checks is not None:
            self.checks.begin()
        if not early:
            self._require(lambda: not self.workers.waiting_for_setup, BOOT,
                          lambda: 'the first objects are made')

    def _disturb(self):
        if self.faults is None:
            self.calm.begin()
        elif not self.early:
            self.faults.begin()
        self._pass(self.seconds, EVENTS)
        if self.faults is not None:
            self.faults.end()
        if self.operator is not None:
            self.operator.changes = False
        self._check()

    def _heal(self):
        """Everybody commits again."""
        sim = self.sim
        commits = sim.history.commits
        before = commits.copy()

        def done():
            # A commit from before may be told only now: the cluster must run as well.
            return not self.workers.waiting_for_setup and all(
                commits[a.label] > before[a.label] for a in sim.applications.values()
            ) and sim.running()
        self._require(done, HEAL, lambda: 'a commit of everybody after all faults: %s' % (
            commits - before))

    def _fill(self):
        """Whatever has copies elsewhere is copied."""
        self._require(lambda: not self._lacking(), FILL, lambda: 'all cells are up to date: %s' % (
            self._lacking(),))

    def _lacking(self):
        """A table that is still to change, if there is one."""
        master = self.sim.primary()
        if master is None:
            return 'no primary'
        table = master.tables.newest
        return table if master.tables.pending or table.out_of_date or settled(table) is not table \
            else None

    def _be_calm(self):
        """After a while, in which it shows what is broken, nothing fails any more."""
        workers = self.workers
        if self.faults is not None:
            think, workers.think = workers.think, 1.0
            self._pass(NOTICE)
            workers.think = think
            self.calm.begin()
        self._pass(CALM, CALM_EVENTS)
        self._check()

    def _put_back_a_disk(self):
        """If that has not happened yet."""
        self.calm.end()
        self.old.take_away()
        self._pass(LONG_ENOUGH)
        self.old.put_back()
        self.sim.world.start(self.old.machine.name)

    def _restore_a_backup(self):
        self.calm.end()
        self._fill()
        self.backup.copy()
        self._pass(CALM, CALM_EVENTS)
        think, self.workers.think = self.workers.think, 1.0     # it is quiet at times
        self.backup.put_back_while_all_are_down()
        self.workers.think = think

    def _crash(self):
        """All daemons die while there is work."""
        world = self.sim.world
        self._pass(.5)
        daemons = [name for name in world.permanent() if name[0] != 'C']
        for name in daemons:
            world.kill(name)
        for name in daemons:
            world.start(name)

    def _stop(self):
        """By order of the operator, all daemons leave in order, and are started again."""
        world, operator = self.sim.world, self.operator
        self.calm.end()
        exits = len(world.exits)
        world.restart_after_exit = None
        operator.stop()

        def done():
            return operator.stopped is not None and not any(
                world.node(name) for name in world.permanent() if name[0] != 'C')
        self._require(done, STOP, lambda: 'the cluster stops: %s' % [
            process.label for process in world.processes()])
        if operator.stopped.failure is not None:
            world.violation('neoctl stop says: %s' % operator.stopped.failure)
        for name, status, message in world.exits[exits:]:
            if status and name in world.permanent():    # else somebody has asked at a wrong time
                world.violation('%s leaves with %d: %s' % (name, status, message))
        for name in self.sim.storage_names:
            locked = world.machines[name].disk.engine.locked()
            if locked:
                world.violation('%s has stopped, and its disk has %s' % (name, locked))
        self._check()
        world.restart_after_exit = 1.0
        self.sim.restart()

    def _end(self):
        """What is under way ends, and leaves nothing behind."""
        sim, workers = self.sim, self.workers
        workers.stopping = True
        self._require(lambda: not workers.working, END, lambda: 'threads end: %s' % [
            (a.label, a.waiting()) for a in sim.applications.values()])
        self._require(lambda: not self._left(), SETTLE, lambda: '; '.join(self._left()))
        self.calm.end()
        self._check(self.calm.complaints(workers.way()))

    def _left(self):
        """What should not be there when nobody does anything."""
        left = []
        for name, machine in self.sim.world.machines.items():
            node = self.sim.world.node(name)
            if node is None:
                there = machine.permanent and 'no process',
            elif name[0] == 'S':
                there = (machine.disk.unfinished(), node.transactions.by_ttid,
                         node.transactions.locks.held, node.transactions.kept, node.parked,
                         node.leftovers.rows)
            elif name[0] == 'C':
                there = (node.operations.unfinished, node.transactions, node.outcomes.finishing,
                         node.imports.queue)
            elif name[0] == 'M':
                there = ((node.transactions.finishing, node.outcomes)
                         if node.transactions is not None
                         else (node.voter.primary is None and (node.phase, node.reason),))
            else:
                there = [peer for peer in node.peers.values() if peer.requests],
            if any(there):
                left.append('%s has %s' % (name, ', '.join(map(repr, filter(None, there)))))
        return left

    def _judge(self):
        self.past = self.sim.past()
        self._check(oracles.judge(self.sim.history, self.past, self.workers.workloads))
        self._check(self.sim.stray_complaints())

    def _restart(self):
        """Kill all at once; a new client reads every object, and it is what was judged."""
        sim = self.sim
        sim.kill()
        sim.on_application = None
        sim.restart()
        sample = sorted(self.past.revisions)
        sample = sample if len(sample) <= 40 else self.rnd.sample(sample, 40)
        reading = sim.do('C1', self._read_all(sim.applications['C1'], sample))
        self._require(lambda: reading.done, HEAL, lambda: 'all is read after a restart')
        if reading.error:
            sim.world.violation('after a restart: %r' % reading.error)
        again = sim.past()
        if (again.transactions, again.data) != (self.past.transactions, self.past.data):
            sim.world.violation('a restart has changed the past')

    def _read_all(self, application, oids):
        yield application.client.when_ready()
        for oid in oids:
            tid = self.past.revisions[oid][-1]
            data = self.past.data[oid, tid]
            try:
                record = yield from load(application, oid, application.client.last_tid + 1)
                found = record[0], record[4]
            except NoObject:
                found = tid, None
            if found != (tid, data):
                self.sim.world.violation('after a restart object %d is of %d, not of %d' % (
                    oid, found[0], tid))
