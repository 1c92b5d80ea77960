"""A bank on several machines, each of which may be lost or stand still at any moment.

A machine is a master and a storage.  What happens follows from a seed, as far as it does not
depend on how fast this machine is.
"""
import random
import signal
import time

from ..daemons import Cluster, poll
from .clients import Bank
from .copies import check_copies, incomplete, stop, wait_complete

TICK = 0.05


class Fault:
    """`strike()` happens to some processes, and after `seconds` it is over: `heal()`."""

    def __init__(self, stress, victims, seconds):
        self.stress, self.victims, self.seconds = stress, victims, seconds

    def __str__(self):
        return '%s %s, for %.1f s' % (
            self.what, ' '.join(victim.name for victim in self.victims), self.seconds)


class Kill(Fault):
    what = 'kill -9'

    def strike(self):
        self.stress.cluster.kill(*self.victims)

    def heal(self):
        self.stress.cluster.start(self.victims)


class Stop(Kill):
    """As an operator does it."""

    what = 'SIGTERM'

    def strike(self):
        for victim in self.victims:
            victim.terminate()
        for victim in self.victims:
            status = victim.wait()
            assert status == 0, '%s ended with status %s\n%s' % (victim, status, victim.tail(50))


class Freeze(Fault):
    what = 'SIGSTOP'

    def strike(self):
        for victim in self.victims:
            victim.signal(signal.SIGSTOP)

    def heal(self):
        for victim in self.victims:
            victim.signal(signal.SIGCONT)


class KillClients(Fault):
    what = 'kill -9'

    def strike(self):
        for victim in self.victims:
            victim.kill()
            victim.start()

    def heal(self):
        pass


class Stress:
    """`say(line)` tells what happens; `machines` have a master each if there are `masters`."""

    def __init__(self, seed, say=lambda line: None, masters=3, storages=3, replicas=1,
                 directory=None):
        self.random = random.Random(seed)
        self.seed, self._say = seed, say
        self.faults = 0
        self.cluster = Cluster(storages, replicas, masters=masters, admin=True,
                               directory=directory)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.cluster.close()

    def say(self, line):
        self._say('%7.1f s  %s' % (time.monotonic() - self._began, line))

    # -- the run ------------------------------------------------------------------------------
    def run(self, seconds):
        """Trouble for so long; then all must be well.  AssertionError if it is not."""
        self._began = time.monotonic()
        try:
            self.bank = Bank(self.cluster, self.seed)
            self.bank.wait_everybody()
            self.say('%d masters, %d storages, %d clients; seed %d' % (
                len(self.cluster.master_daemons), len(self.cluster.storages),
                len(self.bank.clients), self.seed))
            while time.monotonic() - self._began < seconds:
                self._trouble()
            self._end()
        except BaseException as error:
            self.say('FAILED: %s' % (str(error).splitlines() or [repr(error)])[0])
            raise

    def _trouble(self):
        fault = self._choose()
        self.faults += 1
        self.say(str(fault))
        fault.strike()
        self._pass(fault.seconds)
        fault.heal()
        if self.random.random() < .7:
            began = time.monotonic()
            self.bank.wait_everybody()
            self.say('each client goes on, %.1f s after that; %s' % (
                time.monotonic() - began, self._status()))
        self._pass(self.random.random() ** 2)

    def _pass(self, seconds):
        """Let clients work; nobody may end by himself."""
        def ended():
            self.bank.check()
            self.cluster.check()
        poll(ended, seconds, TICK)

    def _status(self):
        return '%d transfers; %s' % (
            sum(self.bank.counts()), incomplete(self.cluster) or 'all is up to date')

    def _end(self):
        self.say('all trouble has ended')
        self.bank.wait_everybody()
        wait_complete(self.cluster)
        self.say('all is up to date')
        retries = self.bank.retries()
        self.bank.finish()
        wait_complete(self.cluster)
        stop(self.cluster)
        check_copies(self.cluster)
        self.say('%d faults, %d transfers, nothing lost, all copies equal; %d transfers were tried'
                 ' again%s' % (self.faults, sum(self.bank.counts()), len(retries),
                               ', %.1f s after they began at most' % max(retries)
                               if retries else ''))

    # -- what happens -------------------------------------------------------------------------
    def _choose(self):
        kind = self.random.choices([self._one, self._machine, self._several, self._all,
                                    self._client], [10, 4, 3, 1, 1])[0]
        return kind()

    def _one(self):
        return self._fault([self.random.choice(self.cluster.daemons)])

    def _machine(self):
        masters, storages = self.cluster.master_daemons, self.cluster.storages
        number = self.random.randrange(max(len(masters), len(storages)))
        return self._fault([*masters[number:number + 1], *storages[number:number + 1]])

    def _several(self):
        daemons = self.cluster.daemons
        return self._fault(self.random.sample(daemons, self.random.randint(2, len(daemons))))

    def _all(self):
        daemons = self.cluster.daemons
        return Kill(self, self.random.sample(daemons, len(daemons)), self._seconds(1))

    def _client(self):
        return KillClients(self, [self.random.choice(self.bank.clients)], 0)

    def _fault(self, victims):
        kind, longest = self.random.choice([(Kill, 3), (Kill, 3), (Freeze, 2), (Freeze, 12),
                                            (Stop, 2)])
        return kind(self, victims, self._seconds(longest))

    def _seconds(self, longest):
        """Most often a short time."""
        return longest * self.random.random() ** 2
