"""The command neostorage on a disk that ends without a warning.

    small_disk PAGES [option of neostorage…]

The database can't have more than so many pages, whatever the file system says.
"""
import random
import sys

from ...scripts import neostorage
from ...scripts.daemon import run_daemon
from ...scripts.options import STORAGE
from ...storage.engine.sqlite import SqliteEngine
from ...storage.node import Storage


class SmallDisk(SqliteEngine):

    def __init__(self, database, pages):
        super().__init__(database)
        self._execute('PRAGMA max_page_count = %d' % pages)


def main():
    pages, *arguments = sys.argv[1:]

    def make(options, address):
        engine = SmallDisk(options.database, int(pages))
        return Storage(random.Random(), engine, options.cluster, options.masters, address,
                       options.name)

    return run_daemon(STORAGE, 'A storage on a small disk.', arguments, neostorage.check, make)
