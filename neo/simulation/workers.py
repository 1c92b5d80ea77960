"""The threads of all clients: each does one transaction after another, of any workload."""
from random import Random

from ..client.exception import NEOStorageError, NoObject, NoRevision
from .application import GaveUp, Work
from .workloads import WORKLOADS


class Workers:
    """`give` is called with each application as its process starts."""

    def __init__(self, sim, calm, rnd):
        self.sim = sim
        self.calm = calm
        self.rnd = rnd
        self.threads = rnd.randint(1, 3)        # per client
        self.think = rnd.choice([.01, .1, .3])  # seconds between transactions, on average
        self.clumsy = rnd.choice([1, 1, .95])   # patience of transactions
        self.workloads = [kind(Random(rnd.random())) for kind in rnd.sample(
            WORKLOADS, rnd.randint(1, len(WORKLOADS)))]
        self.waiting_for_setup = list(self.workloads)
        self.ready_tid = 0
        self.stopping = False

    @property
    def working(self):
        return any(application.threads for application in self.sim.applications.values())

    def give(self, application):
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
                began = self.sim.world.now
                done = yield from self._attempt(application, self._transact(application, rnd))
                self.calm.ended(began, done)

    def _transact(self, application, rnd):
        if rnd.random() < .1:
            yield from self._synchronize(application)
        workload = rnd.choice(self.workloads)
        work = Work(application, workload.kind, workload.resolve, self.clumsy)
        try:
            yield from self._told(work.attempt, workload.transact(work, rnd))
        except (NoObject, NoRevision) as error:
            work.suspect('%s: %r' % (application.label, error))     # only what is there is read
            raise GaveUp from None

    def _synchronize(self, application):
        asked = self.sim.world.now

        def sync():
            return (yield application.client.sync())
        last_tid = yield from self._told(None, sync())
        self.sim.history.syncs.append((application.label, asked, last_tid))

    def _told(self, attempt, generator):
        began = self.sim.world.now
        try:
            return (yield from generator)
        except (NoObject, NoRevision):
            raise
        except NEOStorageError as error:
            self.calm.failed(attempt, began, error)
            raise

    def _attempt(self, application, generator):
        """Run one transaction; gives whether it was committed."""
        world = self.sim.world
        application.busy += 1
        try:
            yield from generator
            return True
        except GaveUp:
            pass
        except NEOStorageError as error:
            world.trace.note('%s: %r' % (application.label, error))
            yield .05
        finally:
            application.busy -= 1
        return False

    def way(self):
        """Seconds that a message takes on average, until who waits for it goes on."""
        world = self.sim.world
        slow = [application.slow / 2 for application in self.sim.applications.values()]
        return 1.3 * world.network.mean_delay + world.TURN / 2 + sum(slow) / len(slow)
