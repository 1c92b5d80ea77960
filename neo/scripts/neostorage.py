"""The command neostorage."""
import random
import sys

from ..storage.engine import sqlite
from ..storage.engine.interface import EngineError
from ..storage.node import Storage
from .daemon import run_daemon
from .options import STORAGE, UsageError

NOWHERE = '0.0.0.0', '::'


def is_mysql(database):
    """`[user[:password]@]database[…]`, and neither a path nor a URI."""
    return '@' in database and not database.startswith(('file:', '/', './', '../'))


def check(options):
    if options.bind[0] in NOWHERE:
        raise UsageError('--bind: %s is no address that clients could connect to: name one of this'
                         ' machine' % options.bind[0])
    if options.database is None:
        if '/' in options.cluster + options.name:
            raise UsageError('with a / in the name of the cluster or of the node, give --database')
        options.database = './%s-%s.sqlite' % (options.cluster, options.name)
        options.adapter = options.adapter or 'SQLite'
    if options.adapter == 'MySQL' or (options.adapter is None and is_mysql(options.database)):
        raise UsageError('MySQL is not available in this version')
    try:
        path, _ = sqlite.parse(options.database)
    except EngineError as e:
        raise UsageError('--database: %s' % e)
    if options.reset and not options.check_config:
        sqlite.reset(options.database)
        print('neostorage: there is no database at %s now' % path)
        return 0


def make(options, address):
    engine = sqlite.SqliteEngine(options.database)
    try:
        return Storage(random.Random(), engine, options.cluster, options.masters, address,
                       options.name)
    except BaseException:
        engine.close()
        raise


def main(arguments=None):
    return run_daemon(STORAGE, 'A storage of a NEO cluster: it keeps the objects.', arguments,
                      check, make)


if __name__ == '__main__':
    sys.exit(main())
