"""What the loss of nodes costs: figures of `tools/bench --redundancy`.

Clusters of three machines, each a master and a storage, with one copy beside the first: what was
killed is started again before the next figure.
"""
import logging
import os
import statistics
import threading
import time

from bench_peers import DEFAULT_PARTITIONS, BenchError
from bench_work import Work

from neo.cluster.partition_table import PartitionTable
from neo.local.cluster import LocalCluster
from neo.local.process import poll
from neo.protocol.types import NodeState
from neo.runtime.ask import NoAnswer

PATIENCE = 120              # seconds that nothing should take
POLL = 0.02
OBJECTS = 100               # of each commit that fills a database


class Machines(LocalCluster):
    """`machines` of a master and a storage."""

    def __init__(self, directory, machines, storages=None, replicas=1):
        super().__init__(directory, storages or machines, replicas, DEFAULT_PARTITIONS, 'bench',
                         masters=machines)

    def primary(self):
        found = self.describe()
        name, = [info.name for info in found.nodes if info.id == found.primary]
        return next(daemon for daemon in self.master_daemons if daemon.name == name)

    def is_complete(self):
        """All nodes are there, and all cells up to date."""
        try:
            found = self.describe()
        except NoAnswer:
            return False
        there = [info for info in found.nodes if info.state == NodeState.RUNNING]
        # The admin is no node that others count.
        return (sum(info.id[0] in 'MS' for info in there)
                == len(self.master_daemons) + len(self.storages)
                and found.table is not None
                and not PartitionTable.unpack(found.table).out_of_date)

    def wait_complete(self):
        if not poll(self.is_complete, PATIENCE, POLL):
            raise BenchError('the cluster does not get well:\n%s' % '\n'.join(
                '%s: %s' % (daemon.name, daemon.tail()) for daemon in self.daemons))


class Client(Work):
    """One that goes on whatever happens."""

    def __init__(self, cluster):
        super().__init__('NEO', cluster.masters)
        self.open()
        self.items = self.add(1)

    def again(self, items):
        """Commit these until it is done."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return self.commit(items)
            except Exception:
                self.manager.abort()
                if time.monotonic() > deadline:
                    raise

    def grow(self, size):
        """So many bytes more."""
        for _ in range(max(1, size // (1024 * OBJECTS))):
            self.add(OBJECTS)
            self.connection.cacheMinimize()


def lost(cluster, client, *victims):
    """Milliseconds from kill -9 of these to the end of the next commit."""
    cluster.wait_complete()
    for _ in range(20):
        client.again(client.items)
    began = time.perf_counter()
    for victim in victims:
        victim.kill()
    client.again(client.items)
    passed = time.perf_counter() - began
    cluster.start(victims)
    return 1e3 * passed


def losses(options, folder):
    """Medians for a storage, the primary, and the whole machine of the primary."""
    rounds = []
    with Machines(os.path.join(folder, 'losses'), 3) as cluster:
        client = Client(cluster)
        for number in range(options.rounds or (1 if options.quick else 5)):
            storage = lost(cluster, client, cluster.storages[number % 3])
            cluster.wait_complete()
            master = lost(cluster, client, cluster.primary())
            cluster.wait_complete()
            primary = cluster.primary()
            beside = cluster.storages[cluster.master_daemons.index(primary)]
            rounds.append((storage, master, lost(cluster, client, primary, beside)))
        client.close()
    storage, primary, machine = map(statistics.median, zip(*rounds))
    yield 'kill -9 of a storage, to the next commit', storage, 'ms'
    yield 'kill -9 of the primary master', primary, 'ms'
    yield 'kill -9 of a machine, the primary’s', machine, 'ms'


def until_complete(cluster, storage):
    """Seconds from the moment that it listens."""
    cluster.start([storage])
    storage.wait_up()
    began = time.perf_counter()
    cluster.wait_complete()
    return time.perf_counter() - began


def catching_up(options, folder):
    """Of two storages, each with everything, one misses something."""
    missed, whole = options.scale(50_000_000), options.scale(options.database)
    with Machines(os.path.join(folder, 'copies'), 1, storages=2) as cluster:
        storage = cluster.storages[1]
        client = Client(cluster)
        storage.kill()
        client.grow(missed)
        seconds = until_complete(cluster, storage)
        yield 'catch-up after missing %d MB' % (missed // 10 ** 6), missed / 1e6 / seconds, 'MB/s'
        client.grow(whole - missed)
        storage.kill()
        for _ in range(10):
            client.again(client.items)
        seconds = until_complete(cluster, storage)
        yield 'catch-up after missing 10 transactions of %d MB' % (whole // 10 ** 6), (
            1e3 * seconds), 'ms'
        yield from meanwhile(cluster, client, storage, missed)
        client.close()


def meanwhile(cluster, client, storage, missed):
    """How commits go on while a storage is filled, compared with those of before and after."""
    storage.kill()
    client.grow(missed)
    cluster.start([storage])
    ended = threading.Event()

    def watch():
        poll(cluster.is_complete, PATIENCE, POLL)
        ended.set()
    watching = threading.Thread(target=watch)
    watching.start()
    filling = rate(client, lambda passed: ended.is_set())
    watching.join()
    usual = rate(client, lambda passed: passed > 2)
    yield 'commits meanwhile, of the usual', 100 * filling / usual, '%'


def rate(client, enough):
    """Commits per second until `enough(seconds)`."""
    began, count = time.perf_counter(), 0
    while True:
        client.again(client.items)
        count += 1
        passed = time.perf_counter() - began
        if enough(passed):
            return count / passed


def redundancy(options, folder):
    """{figure: value}, each shown as it is found."""
    # It is known that nodes are lost.
    logging.getLogger('neo').setLevel(logging.ERROR)
    found = {}
    for figures in losses, catching_up:
        for title, value, unit in figures(options, folder):
            found['%s (%s)' % (title, unit)] = value
            if not options.json:
                print('%-50s %8s %s' % (title, '%.2f' % value if value < 100 else '%.0f' % value,
                                        unit), flush=True)
    return found
