"""The operator: asks an admin node, as neoctl does, changes, truncates and stops the cluster."""
from ..ctl.node import Ctl
from ..protocol.packets import (AddStorages, DescribeCluster, DropStorage, KillNode,
                                SetClusterState, SetReplicas, Truncate, Tweak)
from ..protocol.types import ClusterState, NodeState

NAME = 'O1'
PAUSE = 1.0                     # seconds between two questions, on average
BACK = 5                        # seconds, for who was killed to be there again
CHANGE = .4                     # of the questions of one who changes things are orders


class Operator:
    """Its machine is added to a Simulation; there is one question at a time.  While it `changes`
    the cluster, it orders anything, whether that makes sense or not.  `lowest` gives the tid below
    which nothing is ever removed, or None as long as nothing may be."""

    def __init__(self, sim, calm, rnd, lowest=lambda: None):
        self.sim = sim
        self.lowest = lowest
        self.truncations = rnd.choice([0, 0, 1, 3])     # that are still to come
        self.calm = calm
        self.rnd = rnd
        self.idle = True
        self.active = False         # asks again and again
        self.changes = False
        self.stopped = None         # the Ctl that has ordered a stop, once it has left
        self._began = 0.0
        self._killed = {}           # id of a storage -> when it was ended last, by order
        self._request = None
        sim.add_operator(NAME, self._node, self._ended)

    def _node(self, machine, rnd):
        return Ctl(rnd, self.sim.admin, self._request)

    def begin(self):
        self.active = True
        self._next()

    def _next(self):
        self.sim.world.scheduler.after(self.rnd.expovariate(1 / PAUSE), self._look)

    def _look(self):
        if self.active:
            if self.idle:
                changes = self.changes and self.rnd.random() < CHANGE
                self._ask(self._truncation() or (self._order() if changes else DescribeCluster()))
            self._next()

    def _order(self):
        rnd = self.rnd
        ids = ['S%d' % number for number in range(1, len(self.sim.storage_names) + 1)]
        return rnd.choice([
            AddStorages(()), AddStorages((rnd.choice(ids),)), Tweak((), False),
            Tweak((rnd.choice(ids),), rnd.random() < .2), Tweak((), False),
            DropStorage(rnd.choice(ids)), KillNode(rnd.choice(ids)),
            SetReplicas(rnd.choice([0, 1, 1, 2]))])

    def _truncation(self):
        """A Truncate, or None."""
        lowest = self.lowest()
        if not self.truncations or lowest is None or self.rnd.random() < .7:
            return None
        self.truncations -= 1
        last = [attempt.tid for attempt in self.sim.history.attempts[-100:]
                if attempt.tid is not None and attempt.tid >= lowest]
        return Truncate(self.rnd.choice(last or [lowest]) + self.rnd.choice([0, 0, 1]))

    def _ask(self, request):
        self.idle = False
        self._request = request
        self._began = self.sim.world.now
        self.sim.world.start(NAME)

    def _ended(self, process):
        self.idle = True
        ctl = process.node
        if type(self._request) is KillNode:
            self._killed[self._request.node] = self.sim.world.now
            self.calm.killed_until = self.sim.world.now + BACK
        if type(self._request) is not DescribeCluster and not ctl.stops:
            done = 'done' if ctl.result is not None else 'refused'
            self.sim.world.counts['order: %s %s' % (type(self._request).__name__, done)] += 1
        elif ctl.stops and 'no primary' in (ctl.failure or ''):
            # The admin is just connecting: who reads that orders it again.
            self.sim.world.scheduler.after(.1, self.stop)
        elif ctl.stops:
            self.stopped = ctl
        elif type(ctl.request) is Truncate:
            self._truncated(ctl)
        elif self.calm.covers(self._began):
            for complaint in self._complaints(ctl):
                self.sim.world.violation('neoctl %s, while nothing is wrong' % complaint)

    def _truncated(self, ctl):
        if ctl.result is not None and 'removed' in ctl.result.message:
            self.sim.world.counts['truncations'] += 1
            self.sim.history.truncated.append(ctl.request.tid)
        elif ctl.failure:
            self.sim.world.trace.note('truncate says: %s' % ctl.failure)

    def _complaints(self, ctl):
        answer = ctl.result
        if answer is None:
            yield 'says: %s' % ctl.failure
        elif answer.state != ClusterState.RUNNING:
            yield 'was told that the cluster is %s (%s)' % (
                ClusterState(answer.state).name, answer.reason)
        else:
            down = [info.id for info in answer.nodes if info.state == NodeState.DOWN
                    and self._killed.get(info.id, -BACK) + BACK < self._began]
            if down or not answer.primary:
                yield 'was told that the primary is %s, and that %s are down' % (
                    answer.primary, down)

    def stop(self):
        """Order it, as soon as what was asked before is answered."""
        self.active = False
        if self.idle:
            self._ask(SetClusterState(ClusterState.STOPPING))
        else:
            self.sim.world.scheduler.after(.1, self.stop)
