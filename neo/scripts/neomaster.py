"""The command neomaster."""
import random
import sys

from ..master.node import Master
from .daemon import run_daemon
from .options import MASTER, UsageError


def check(options):
    if len(options.masters) > 1:
        raise UsageError('more than one master is not available in this version')


def make(options, address):
    given = {key: getattr(options, key) for key in ('partitions', 'replicas', 'autostart')}
    return Master(random.Random(), options.cluster, address, name=options.name,
                  **{key: value for key, value in given.items() if value is not None})


def main(arguments=None):
    return run_daemon(MASTER, 'A master of a NEO cluster: it gives transaction ids and orders'
                      ' commits.', arguments, check, make)


if __name__ == '__main__':
    sys.exit(main())
