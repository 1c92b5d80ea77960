"""Who starts daemons again, with processes that end when they are told to."""
import signal

import pytest

from ...local.keeper import ALL_STOP, ENOUGH, WITHIN, Keeper
from ...local.process import ClusterError


class Daemon:
    """As neo.local.process.Process."""

    def __init__(self, name):
        self.name, self.status, self.started = name, None, 1

    @property
    def runs(self):
        return self.status is None

    def wait(self):
        return self.status

    def tail(self):
        return 'the disk is full'


class Cluster:

    def __init__(self):
        self.daemons = [Daemon('master'), Daemon('storage1')]

    def start(self, daemons):
        for daemon in daemons:
            daemon.status = None
            daemon.started += 1


class World:

    def __init__(self):
        self.now, self.said = 0.0, []
        self.cluster = Cluster()
        self.master, self.storage = self.cluster.daemons
        self.keeper = Keeper(self.cluster, self.said.append, lambda: self.now)

    def look(self, seconds=1.0):
        self.now += seconds
        return self.keeper.look()


@pytest.fixture
def world():
    return World()


def test_who_is_killed_is_started_again(world):
    assert world.look() and not world.said
    world.storage.status = -signal.SIGKILL
    assert world.look()
    assert (world.storage.started, world.master.started) == (2, 1)
    assert world.said == ['storage1 has ended by SIGKILL, and is started again']


def test_a_cluster_that_is_stopped_is_left_alone(world):
    world.storage.status = 0
    assert world.look() and world.look() and not world.said
    world.master.status = 0
    assert not world.look()
    assert (world.storage.started, world.master.started) == (1, 1)


def test_one_that_is_stopped_alone_comes_back(world):
    world.storage.status = 0
    assert world.look() and world.look(ALL_STOP / 2) and world.storage.started == 1
    assert world.look(ALL_STOP) and world.storage.started == 2
    assert world.said == ['storage1 has ended with status 0, and is started again']
    world.storage.status = 0                    # patience begins anew
    assert world.look() and world.storage.started == 2


def test_one_that_fails_again_and_again(world):
    for _ in range(ENOUGH - 1):
        world.storage.status = 1
        assert world.look()
    world.storage.status = 1
    with pytest.raises(ClusterError, match='storage1 has ended 5 times within a minute, the last'
                       ' time with status 1:\nthe disk is full'):
        world.look()


def test_one_that_fails_now_and_then(world):
    for _ in range(3 * ENOUGH):
        world.storage.status = 1
        assert world.look(WITHIN / ENOUGH * 1.5)
    assert world.storage.started == 3 * ENOUGH + 1
