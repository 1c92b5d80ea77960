"""One seed: a cluster is made, disturbed, healed, and judged.

    boot        without faults, or with them from the beginning
    disturb     workloads run while things go wrong: nothing false may ever be said
    heal        no faults any more: within bounded time every client commits again
    stop        transactions end; nothing is locked, nothing is left unfinished
    judge       what clients were told against what the disks hold
    restart     of everything at once: every object is still read as it should be
"""
from collections import Counter
from random import Random

from ..client.exception import NEOStorageError, NoObject, NoRevision
from . import oracles
from .application import GaveUp, Work, load
from .faults import Faults
from .simulation import Simulation
from .workloads import WORKLOADS

# Virtual seconds.  Peers that were cut off are given up after 20 + 5, silent clients after 30.
PATIENCE = 150
SETTLE = 5                      # lazy commits, and clients that close
EVENTS = 12_000                 # as many of a busy cluster are as good as more


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
        options = self._options(rnd) | overrides
        self.seconds = seconds or rnd.choice([5, 10, 20])
        self.early = rnd.random() < .2          # faults from the beginning
        self.threads = rnd.randint(1, 3)
        self.think = rnd.choice([.01, .1, .3])  # seconds between transactions, on average
        self.clumsy = rnd.choice([1, 1, .95])   # patience of transactions
        self.sim = sim = Simulation(seed, show=show, **options)
        sim.world.trace.note('%s %s' % (options, self.seconds))
        sim.world.restart_after_exit = 1.0
        sim.world.network.mean_delay = rnd.choice([.0002, .001, .005])
        sim.on_application = self._give_threads
        self.workloads = [kind(Random(rnd.random())) for kind in rnd.sample(
            WORKLOADS, rnd.randint(1, len(WORKLOADS)))]
        self.waiting_for_setup = list(self.workloads)
        self.ready_tid = 0
        self.faults = Faults(sim.world, Random('faults %s' % seed)) if faults else None
        self.stopping = False

    @staticmethod
    def _options(rnd):
        storages = rnd.randint(1, 3)
        return {'storages': storages, 'replicas': rnd.randint(0, min(1, storages - 1)),
                'partitions': rnd.randint(1, 12), 'clients': rnd.randint(1, 4)}

    # -- threads of the clients ---------------------------------------------------------------
    def _give_threads(self, application):
        application.spawn(self._setup(application))
        for _ in range(self.threads):
            application.spawn(self._worker(application, Random(self.rnd.random())))

    def _setup(self, application):
        """The first client makes the objects of all workloads; another goes on if it dies."""
        if application.process.name != 'C1':
            return
        while self.waiting_for_setup:
            yield .01
            workload = self.waiting_for_setup[0]
            done = yield from self._attempt(application, self._prepare(workload, application))
            if done:
                self.waiting_for_setup.pop(0)

    def _prepare(self, workload, application):
        yield application.client.when_ready()
        work = Work(application, workload.kind + ' setup')
        yield from workload.setup(work)
        self.ready_tid = yield from work.commit()

    def _worker(self, application, rnd):
        while not self.stopping:
            yield rnd.expovariate(1 / self.think)
            if self.waiting_for_setup or application.client.last_tid < self.ready_tid:
                yield .1            # the objects are not there yet, or not seen by this client
            elif not self.stopping:
                yield from self._attempt(application, self._transact(application, rnd))

    def _transact(self, application, rnd):
        if rnd.random() < .1:
            asked = self.sim.world.now
            last_tid = yield application.client.sync()
            self.sim.history.syncs.append((application.label, asked, last_tid))
        workload = rnd.choice(self.workloads)
        work = Work(application, workload.kind, workload.resolve, self.clumsy)
        yield from workload.transact(work, rnd)

    def _attempt(self, application, generator):
        """Run one transaction; gives whether it was committed."""
        application.busy += 1
        try:
            yield from generator
            return True
        except GaveUp:
            pass
        except (NoObject, NoRevision) as error:
            # Workloads read only what is there.
            self.sim.world.violation('%s: %r' % (application.label, error))
        except NEOStorageError as error:
            self.sim.world.trace.note('%s: %r' % (application.label, error))
            yield .05
        finally:
            application.busy -= 1
        return False

    # -- the phases -----------------------------------------------------------------------------
    def __call__(self):
        try:
            self._boot()
            self._disturb()
            self._heal()
            self._stop()
            self._judge()
            self._restart()
        except Failed:
            pass
        return Result(self)

    def _require(self, condition, seconds, what):
        sim = self.sim
        if not sim.world.violations and not sim.run_for(
                seconds, lambda: bool(sim.world.violations) or condition()):
            sim.world.violation('not within %s s: %s' % (seconds, what()))
        if sim.world.violations:
            raise Failed

    def _boot(self):
        sim = self.sim
        if self.early and self.faults:
            self.faults.begin()
        for name in sim.world.machines:
            sim.world.start(name)
            if not self.early:
                sim.run_for(.05)
        if not self.early:
            self._require(lambda: not self.waiting_for_setup, PATIENCE,
                          lambda: 'the first objects are made')

    def _disturb(self):
        sim = self.sim
        if self.faults and not self.early:
            self.faults.begin()
        limit = sim.world.scheduler.count + EVENTS
        sim.run_for(self.seconds, lambda: (
            bool(sim.world.violations) or sim.world.scheduler.count > limit))
        if self.faults:
            self.faults.end()

    def _heal(self):
        """Everybody commits again."""
        sim = self.sim
        commits = sim.history.commits
        before = commits.copy()

        def done():
            # A commit from before may be told only now: the cluster must run as well.
            master = sim.world.node('M1')
            return not self.waiting_for_setup and all(
                commits[a.label] > before[a.label] for a in sim.applications.values()
            ) and master is not None and master.transactions is not None
        self._require(done, PATIENCE, lambda: 'a commit of everybody after all faults: %s' % (
            commits - before))

    def _stop(self):
        """What is under way ends, and leaves nothing behind."""
        sim = self.sim
        self.stopping = True
        self._require(lambda: not any(a.threads for a in sim.applications.values()), PATIENCE,
                      lambda: 'threads end: %s' % [
                          (a.label, a.waiting()) for a in sim.applications.values()])
        self._require(lambda: not self._left(), SETTLE, lambda: '; '.join(self._left()))

    def _left(self):
        """What should not be there when nobody does anything."""
        left = []
        for name in self.sim.world.machines:
            node = self.sim.world.node(name)
            if name[0] == 'S':
                there = (node.engine.unfinished(), node.transactions.by_ttid,
                         node.transactions.locks.held, node.parked)
            elif name[0] == 'C':
                there = node.unfinished, node.transactions, node.outcomes
            elif node.transactions is None:
                there = node.reason,
            else:
                there = node.transactions.finishing, node.questions
            if any(there):
                left.append('%s has %s' % (name, ', '.join(map(repr, filter(None, there)))))
        return left

    def _judge(self):
        sim = self.sim
        self.past = sim.past()
        for complaint in oracles.judge(sim.history, self.past, self.workloads):
            sim.world.violation(complaint)
        if sim.world.violations:
            raise Failed

    def _restart(self):
        """Kill all at once; a new client reads every object, and it is what was judged."""
        sim = self.sim
        sim.kill()
        sim.on_application = None
        sim.restart()
        sample = sorted(self.past.revisions)
        sample = sample if len(sample) <= 40 else self.rnd.sample(sample, 40)
        reading = sim.do('C1', self._read_all(sim.applications['C1'], sample))
        self._require(lambda: reading.done, PATIENCE, lambda: 'all is read after a restart')
        if reading.error:
            sim.world.violation('after a restart: %r' % reading.error)
        again = sim.past()
        if (again.transactions, again.data) != (self.past.transactions, self.past.data):
            sim.world.violation('a restart has changed the past')

    def _read_all(self, application, oids):
        yield application.client.when_ready()
        for oid in oids:
            record = yield from load(application, oid, application.client.last_tid + 1)
            now = self.past.before(oid, application.client.last_tid + 1)
            if now[0] != record[0] or record[4] != self.past.data[oid, now[0]]:
                self.sim.world.violation('after a restart object %d is of %d, not of %d' % (
                    oid, record[0], now[0]))
