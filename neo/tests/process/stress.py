"""A bank on several machines, each of which may be lost or stand still at any moment.

A machine is a master and a storage; it may be a host of its own, which may be cut off.  What
happens follows from a seed, as far as it does not depend on how fast this machine is.
"""
import random
import time

from ..daemons import Cluster, poll
from ..network import Network
from .clients import Bank
from .copies import check_copies, incomplete, stop, wait_complete
from .faults import Cut, Freeze, Isolate, Kill, KillClients, Stop, Together

TICK = 0.05


class Stress:
    """`say(line)` tells what happens.  With `hosts`, machines are on a network of their own, as are
    clients, and links between them are cut as well."""

    def __init__(self, seed, say=lambda line: None, masters=3, storages=3, replicas=1,
                 directory=None, hosts=False):
        self.random = random.Random(seed)
        self.seed, self._say = seed, say
        self.faults = 0
        self.network = Network(max(masters, storages)) if hosts else None
        try:
            self.cluster = Cluster(storages, replicas, masters=masters, admin=True,
                                   directory=directory, network=self.network)
        except BaseException:
            self._close_network()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.cluster.close()
        self._close_network()

    def _close_network(self):
        if self.network is not None:
            self.network.close()

    def say(self, line):
        self._say('%7.1f s  %s' % (time.monotonic() - self._began, line))

    # -- the run ------------------------------------------------------------------------------
    def run(self, faults):
        """One after the other; then all must be well.  AssertionError if it is not."""
        self._began = time.monotonic()
        try:
            self.bank = Bank(self.cluster, self.seed)
            self.bank.wait_everybody()
            self.say('%d masters, %d storages, %d clients; seed %d' % (
                len(self.cluster.master_daemons), len(self.cluster.storages),
                len(self.bank.clients), self.seed))
            for fault in faults:
                self._trouble(fault)
            self._end()
        except BaseException as error:
            self.say('FAILED: %s' % (str(error).splitlines() or [repr(error)])[0])
            raise

    def during(self, seconds):
        """Faults at random, for so long."""
        while time.monotonic() - self._began < seconds:
            yield self._choose()
            if self.random.random() < .7:
                self.everybody_goes_on()
            self._pass(self.random.random() ** 2)

    def everybody_goes_on(self):
        began = time.monotonic()
        self.bank.wait_everybody()
        self.say('each client goes on, %.1f s after that; %s' % (
            time.monotonic() - began, self._status()))

    def _trouble(self, fault):
        self.faults += 1
        self.say(str(fault))
        fault.strike()
        self._pass(fault.seconds)
        fault.heal()

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
        if self.network is not None and self.random.random() < .6:
            return self.random.choice([self._isolated, self._isolated, self._link, self._both])()
        return self._process()

    def _process(self):
        kind = self.random.choices([self._one, self._machine, self._several, self._all,
                                    self._client], [10, 4, 3, 1, 1])[0]
        return kind()

    def _isolated(self):
        return Isolate(self, self._direction(), [self.random.choice(self.network.hosts)],
                       self._seconds(15))

    def _link(self):
        """Between one host and some others."""
        victim = self.random.choice(self.network.hosts)
        others = self.network.others(victim)
        return Cut(self, self._direction(), [victim],
                   self.random.sample(others, self.random.randint(1, len(others))),
                   self._seconds(25))

    def _both(self):
        return Together(self, [self._link(), self._process()])

    def _direction(self):
        return self.random.choice(sorted(Cut.LINKS))

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
