"""The command neomaster."""
import random
import sys

from ..cluster.addresses import readable
from ..master.node import Master
from ..master.state import StateError
from ..runtime.statefile import StateFile
from .checks import check_writable
from .daemon import run_daemon
from .options import MASTER, UsageError


def check(options):
    if len(options.masters) > 1 and options.bind not in options.masters:
        raise UsageError('--bind: %s is none of the masters, %s' % (
            readable(options.bind), ' '.join(map(readable, options.masters))))
    if options.state is not None:
        check_writable('--state', options.state)


def make(options, address):
    given = {key: getattr(options, key) for key in ('partitions', 'replicas', 'autostart')}
    store = None if options.state is None else StateFile(options.state)
    try:
        return Master(random.Random(), options.cluster, address, name=options.name,
                      masters=options.masters if len(options.masters) > 1 else (), store=store,
                      **{key: value for key, value in given.items() if value is not None})
    except StateError as e:
        raise UsageError('--state: %s: %s' % (options.state, e))


def main(arguments=None):
    return run_daemon(MASTER, 'A master of a NEO cluster: it gives transaction ids and orders'
                      ' commits.', arguments, check, make)


if __name__ == '__main__':
    sys.exit(main())
