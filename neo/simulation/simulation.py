"""A cluster in a virtual world, for scenarios written by hand and for random runs."""
import os
from random import Random

from ..admin.node import Admin
from ..client.core.client import Client
from ..master.node import Master
from ..protocol.limits import AMOUNTS
from ..protocol.types import ClusterState
from ..storage.node import Storage
from . import oracles
from .application import Application, Work
from .disk import Disk, SqliteDisk
from .history import History
from .past import read_past
from .world import Machine, World

CLUSTER = 'simulated'


class StateStore:
    """The state file of a master."""

    def __init__(self):
        self._saved = None

    def load(self):
        return self._saved and dict(self._saved)

    def save(self, values):
        self._saved = dict(values)

    def lose(self):
        self._saved = None


class Outcome:
    """What becomes of something that an application thread does."""

    def __init__(self):
        self.done = False
        self.result = None
        self.error = None

    @property
    def tid(self):
        """Of a commit that has succeeded."""
        assert self.done and self.error is None, self
        return self.result

    def __repr__(self):
        return 'Outcome(%s)' % (self.error or self.result if self.done else 'not done')

    def follow(self, generator):
        try:
            self.result = yield from generator
        except Exception as error:
            self.error = error
        self.done = True


class Simulation:
    """Masters M1…, of which `stateful` are those with a state file, storages S1…, an admin A1,
    clients C1…; `nodes` may replace the classes of nodes by kind: 'master', 'storage', 'admin' and
    'client'.  The databases of the storages are in
    memory or, if there is a `folder` for them, in files."""

    def __init__(self, seed=0, storages=1, replicas=0, partitions=1, clients=1, show=None,
                 nodes=(), amounts=AMOUNTS, autostart=None, stray=False, folder=None, masters=1,
                 stateful=()):
        self.seed = seed
        self.nodes = {'master': Master, 'storage': Storage, 'admin': Admin,
                      'client': Client} | dict(nodes)
        self.amounts = amounts
        self.partitions, self.replicas = partitions, replicas
        self.autostart = autostart or storages
        self.storage_names = ['S%d' % (i + 1) for i in range(storages)]
        self.world = World(seed, show)
        self.history = History()
        self.world.on_start = self._started
        self.world.on_death = self._died
        self.applications = {}          # machine name -> the present Application
        self.on_application = None      # function(application): gives it threads
        self._rnd = Random('applications %s' % seed)
        self.master_names = ['M%d' % (i + 1) for i in range(masters)]
        self.masters = [(name.lower(), 10000) for name in self.master_names]
        self.admin = 'a1', 10000
        self._operators = {}            # machine name -> function(process): it has ended
        for name in self.master_names:
            self._add(name, self._master)
            self.world.machines[name].store = StateStore() if name in stateful else None
        for name in self.storage_names:
            rnd = Random('%s %s' % (seed, name))
            self._add(name, self._storage, Disk(rnd) if folder is None else SqliteDisk(
                rnd, os.path.join(folder, name)))
        self._add('A1', self._admin)
        for i in range(clients):
            self.world.add(Machine('C%d' % (i + 1), None, self._client))
        self.stray = self._add_stray() if stray else None

    def _add_stray(self):
        """A storage of another cluster of the same name, without the rest of it."""
        other = Simulation('other', storages=2, partitions=2).start()
        other.wait(other.commit('C1', o0=0, o1=0))
        other.kill()
        disk = other.world.machines['S1'].disk
        self._strays_past = self._content(disk.engine)
        self.world.add(Machine('X1', ('x1', 10000), self._storage, disk, permanent=False))
        return 'X1'

    @staticmethod
    def _content(engine):
        return engine.get('cluster_id'), engine.get('history'), engine.last_tid(), engine.measure()

    def stray_complaints(self):
        if self.stray is not None:
            engine = self.world.machines[self.stray].disk.opened()
            if self._content(engine) != self._strays_past:
                yield 'a storage of another cluster was changed: %s' % (self._content(engine),)

    def _add(self, name, make_node, disk=None):
        self.world.add(Machine(name, (name.lower(), 10000), make_node, disk))

    def _master(self, machine, rnd):
        return self.nodes['master'](rnd, CLUSTER, machine.address, self.partitions, self.replicas,
                                    self.autostart, machine.name, self.amounts,
                                    self.masters if len(self.masters) > 1 else (), machine.store)

    def _storage(self, machine, rnd):
        return self.nodes['storage'](rnd, machine.disk.opened(), CLUSTER, self.masters,
                                     machine.address, machine.name, self.amounts)

    def _admin(self, machine, rnd):
        return self.nodes['admin'](rnd, CLUSTER, self.masters, machine.address, machine.name)

    def add_operator(self, name, make_node, ended):
        """A machine on which a node may be started that leaves by itself."""
        self.world.add(Machine(name, None, make_node, permanent=False))
        self._operators[name] = ended

    def _died(self, process):
        self.history.died(process.label)
        if process.name in self._operators:
            self._operators[process.name](process)

    def _client(self, machine, rnd):
        return self.nodes['client'](rnd, CLUSTER, self.masters, rnd.choice([2000, 20 << 20]),
                                    amounts=self.amounts)

    def _started(self, process):
        if process.name[0] == 'C':
            application = self.applications[process.name] = Application(
                self.world, process, self.history, Random(self._rnd.random()))
            if self.on_application is not None:
                self.on_application(application)

    # -- the course of things ---------------------------------------------------------------
    def start(self):
        """Start all nodes, storages in turn, so that S1 becomes S1; wait for the cluster."""
        for name in self.world.permanent():
            self.world.start(name)
            self.world.run_for(.1)
        assert self.world.run_for(60, self.running), 'the cluster does not start'
        return self

    def running(self):
        return self.primary() is not None

    def primary(self):
        """The master that serves, of the highest term, or None."""
        nodes = [self.world.node(name) for name in self.master_names]
        return max((node for node in nodes if node is not None
                    and node.phase == ClusterState.RUNNING),
                   key=lambda node: node.term, default=None)

    def can_lose(self, machine):
        """Are there enough voters without this master, all of them with what they remember?"""
        primary = self.primary()
        if primary is None or primary.tables.pending:
            return False
        table = primary.tables.in_force
        stores = [self.world.machines[name].store for name in self.master_names]
        states = [store.load() for store in stores if store is not None]
        known = {member.id: member.identity for member in primary.members.known.values()}
        return len(table.voters()) > 2 and all(
            state is not None and state['in_force'] == table.pack() for state in states) and (
            {known[id] for id in table.masters} == {state['identity'] for state in states})

    def run_for(self, seconds, stop=None):
        return self.world.run_for(seconds, stop)

    def wait(self, *outcomes, seconds=120):
        """Let time pass until all are done."""
        ended = self.run_for(seconds, lambda: all(outcome.done for outcome in outcomes))
        assert ended, '%s are not done after %s s' % (outcomes, seconds)

    def freeze(self, name):
        self.world.freeze(name)

    def thaw(self, name):
        self.world.thaw(name)

    def kill(self, *names):
        """End processes as kill -9 does; all of them, without names."""
        for name in names or self.world.machines:
            self.world.kill(name)

    def restart(self, *names):
        """Start what does not run; without names, everything."""
        for name in names or self.world.permanent():
            self.world.start(name)

    # -- what applications do -----------------------------------------------------------------
    def do(self, client, generator):
        """Run a generator as a thread of a client."""
        outcome = Outcome()
        self.applications[client].spawn(outcome.follow(generator))
        return outcome

    def work(self, client, **options):
        return Work(self.applications[client], 'scenario', **options)

    def commit(self, client, **values):
        """Write new values (`o0=1` writes object 0), after a read of the present ones."""
        return self.do(client, self._commit(client, values))

    def _commit(self, client, values):
        yield self.applications[client].client.when_ready()
        work = self.work(client)
        for name, value in values.items():
            yield from work.change(int(name[1:]), value)
        return (yield from work.commit())

    def heard_by(self, client):
        """Tids that ZODB was told of by the present process of a client."""
        label = self.applications[client].label
        return [tid for tid, _ in self.history.heard.get(label, ())]

    def close(self):
        for name in self.storage_names:
            self.world.machines[name].disk.close()

    def past(self):
        """All that is committed, when nothing goes on."""
        return read_past(self.primary().tables.in_force, self.engines())

    def judge(self, workloads=()):
        """Everything that is not as it should be, when nothing goes on."""
        return self.world.violations + list(oracles.judge(self.history, self.past(), workloads))

    def engines(self):
        """The engines, by storage id."""
        return {self.world.node(name).id: machine.disk.engine
                for name, machine in self.world.machines.items() if name in self.storage_names}
