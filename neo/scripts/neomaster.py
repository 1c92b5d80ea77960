"""The command neomaster."""
import random
import sys

from ..master.node import Master
from .daemon import run_daemon
from .options import MASTER


def check(options):
    pass


def make(options, address):
    given = {key: getattr(options, key) for key in ('partitions', 'replicas', 'autostart')}
    return Master(random.Random(), options.cluster, address, name=options.name,
                  **{key: value for key, value in given.items() if value is not None})


def main(arguments=None):
    return run_daemon(MASTER, 'A master of a NEO cluster: it gives transaction ids and orders'
                      ' commits.', arguments, check, make)


if __name__ == '__main__':
    sys.exit(main())
