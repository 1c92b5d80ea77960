"""The command neoadmin."""
import random
import sys

from ..admin.node import Admin
from .daemon import run_daemon
from .options import ADMIN


def check(options):
    pass


def make(options, address):
    return Admin(random.Random(), options.cluster, options.masters, address, options.name)


def main(arguments=None):
    return run_daemon(ADMIN, 'The admin node of a NEO cluster: it answers neoctl.', arguments,
                      check, make)


if __name__ == '__main__':
    sys.exit(main())
