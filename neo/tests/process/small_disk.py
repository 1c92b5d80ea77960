"""The command neostorage on a disk of a few MiB.

    small_disk FREE PAGES [option of neostorage…]

It says that FREE bytes are left beside what the database takes at first, and the database really
can't have more than so many PAGES (0: no limit).
"""
import os
import random
import sys

from ...protocol.limits import FREE_SPACE_RESERVE
from ...scripts import neostorage
from ...scripts.daemon import run_daemon
from ...scripts.options import STORAGE
from ...storage.engine.sqlite import SqliteEngine
from ...storage.node import Storage


class SmallDisk(SqliteEngine):

    def __init__(self, database, free, pages):
        super().__init__(database)
        self._disk = self._used() + free
        if pages:
            self._execute('PRAGMA max_page_count = %d' % pages)

    def _used(self):
        return sum(os.path.getsize(path) for path in (self.path, self.path + '-wal')
                   if os.path.exists(path))

    def free_space(self):
        return max(0, self._disk - self._used() - FREE_SPACE_RESERVE)


def main():
    free, pages, *arguments = sys.argv[1:]

    def make(options, address):
        engine = SmallDisk(options.database, int(free), int(pages))
        return Storage(random.Random(), engine, options.cluster, options.masters, address,
                       options.name)

    return run_daemon(STORAGE, 'A storage on a small disk.', arguments, neostorage.check, make)
