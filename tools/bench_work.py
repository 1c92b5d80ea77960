"""What the clients of tools/bench do, each in a process of its own.

    bench_work.py PEER ADDRESS WORK ARGUMENT…

prints its result as JSON.  Data are random bytes, so that nobody gains by compressing them.
"""
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, os.environ.get('NEO_BENCH_ROOT') or str(Path(__file__).resolve().parents[1]))

import ZODB
from persistent import Persistent
from transaction import TransactionManager
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, u64

SIZE = 1024             # of each object
WARM_UP = 5             # commits that are not counted


class Item(Persistent):
    """An object of about SIZE bytes."""

    def __init__(self):
        self.data = os.urandom(SIZE)


def open_storage(peer, address):
    if peer.startswith('NEO'):
        from neo.client.Storage import Storage
        return Storage(master_nodes=address, name='bench')
    if peer == 'ZEO':
        from ZEO.ClientStorage import ClientStorage
        host, port = address.split(':')
        return ClientStorage((host, int(port)))
    raise SystemExit('unknown peer %s' % peer)


class Work:
    """One connection to the database of a peer."""

    def __init__(self, peer, address):
        self.storage = open_storage(peer, address)
        self.manager = TransactionManager()

    def open(self, cache=10_000):
        self.db = ZODB.DB(self.storage, cache_size=cache)
        self.connection = self.db.open(self.manager)

    def add(self, count):
        """New objects, which no other process changes."""
        items = [Item() for _ in range(count)]
        for item in items:
            self.connection.add(item)
        self.manager.commit()
        return items

    def commit(self, items):
        """Seconds that a commit of new data in all these takes."""
        for item in items:
            item.data = os.urandom(SIZE)
        start = time.perf_counter()
        self.manager.commit()
        return time.perf_counter() - start

    # -- what can be asked for ----------------------------------------------------------------
    def commits(self, count, objects):
        """The time of each of `count` commits of so many objects."""
        self.open()
        items = self.add(int(objects))
        for _ in range(WARM_UP):
            self.commit(items)
        return [self.commit(items) for _ in range(int(count))]

    def together(self, count, objects):
        """The same, beginning when a line is read: others begin at the same time."""
        self.open()
        items = self.add(int(objects))
        for _ in range(WARM_UP):
            self.commit(items)
        print('ready', flush=True)
        sys.stdin.readline()
        for _ in range(int(count)):
            self.commit(items)

    def fill(self, count):
        """Make objects; gives their oids."""
        self.open()
        oids = []
        while len(oids) < int(count):
            oids += [u64(item._p_oid) for item in self.add(500)]
        return oids[:int(count)]

    def read(self, path):
        """Objects per second, one by one, none of which this process has seen."""
        with open(path) as file:
            oids = json.load(file)
        self.open(cache=len(oids) + 1000)
        get = self.connection.get
        start = time.perf_counter()
        for oid in oids:
            assert len(get(p64(oid)).data) == SIZE
        return len(oids) / (time.perf_counter() - start)

    def copy(self, path):
        """Copy a FileStorage there."""
        source = FileStorage(path, read_only=True)
        self.storage.copyTransactionsFrom(source)
        source.close()

    def close(self):
        self.storage.close()


def make_file(path, size):
    """A FileStorage of about this size, as applications make them: transactions of ten objects."""
    manager = TransactionManager()
    storage = FileStorage(path)
    db = ZODB.DB(storage)
    connection = db.open(manager)
    while storage.getSize() < size:
        for _ in range(100):
            for _ in range(10):
                connection.add(Item())
            manager.commit()
        connection.cacheMinimize()
    connection.close()
    db.close()


def main():
    peer, address, work, *args = sys.argv[1:]
    worker = Work(peer, address)
    try:
        result = getattr(worker, work)(*args)
    finally:
        worker.close()
    print(json.dumps(result), flush=True)


if __name__ == '__main__':
    main()
