"""The command neostorage."""
import random
import sys

from ..storage import engine
from ..storage.node import Storage
from .daemon import run_daemon
from .options import STORAGE, UsageError

NOWHERE = '0.0.0.0', '::'


def check(options):
    if options.bind[0] in NOWHERE:
        raise UsageError('--bind: %s is no address that clients could connect to: name one of this'
                         ' machine' % options.bind[0])
    if options.database is None:
        if '/' in options.cluster + options.name:
            raise UsageError('with a / in the name of the cluster or of the node, give --database')
        options.database = './%s-%s.sqlite' % (options.cluster, options.name)
        options.adapter = options.adapter or 'SQLite'
    if not options.reset or options.check_config:
        cluster = engine.check(options.adapter, options.database)
        if cluster not in (None, options.cluster):
            raise UsageError('--database: %s belongs to cluster %s, not to %s'
                             % (options.database, cluster, options.cluster))
    else:
        engine.reset(options.adapter, options.database)
        print('neostorage: there is no database at %s now' % options.database)
        return 0


def make(options, address):
    database = engine.open_engine(options.adapter, options.database)
    try:
        return Storage(random.Random(), database, options.cluster, options.masters, address,
                       options.name, topology=options.topology,
                       fill_rate=options.fill_rate or 0)
    except BaseException:
        database.close()
        raise


def main(arguments=None):
    return run_daemon(STORAGE, 'A storage of a NEO cluster: it keeps the objects.', arguments,
                      check, make)


if __name__ == '__main__':
    sys.exit(main())
