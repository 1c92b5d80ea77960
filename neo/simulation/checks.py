"""All copies are compared from time to time.  In random runs all disks are whole: nothing is found.
"""
from ..ctl.node import Ctl
from ..protocol.packets import Check
from ..protocol.types import MAX_TID, CheckedRow

NAME = 'O2'
PAUSE = 3.0                     # seconds between two orders, on average


class Checks:
    """Its machine is added to a Simulation."""

    def __init__(self, sim, rnd):
        self.sim, self.rnd = sim, rnd
        sim.world.intact = True
        sim.add_operator(NAME, self._node, lambda process: None)

    def _node(self, machine, rnd):
        return Ctl(rnd, self.sim.admin, Check((CheckedRow(None, None),), 0, MAX_TID))

    def begin(self):
        self._next()

    def _next(self):
        self.sim.world.scheduler.after(self.rnd.expovariate(1 / PAUSE), self._order)

    def _order(self):
        self.sim.world.start(NAME)
        self._next()
