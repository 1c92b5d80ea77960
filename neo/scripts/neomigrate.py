"""neomigrate: copy a database into a NEO cluster, or out of it, with its whole history."""
import argparse
import logging
import os
import signal
import sys
import time
from contextlib import ExitStack

from transaction.interfaces import TransientError
from zc.lockfile import LockError
from ZODB.POSException import POSError

from .. import __version__
from ..cluster.addresses import parse_list
from ..migrate.filestorage import FileSide, NewFileSide
from ..migrate.migration import Interrupted, Migration, survey
from ..migrate.progress import Progress
from ..migrate.sides import MigrationError, StorageSide, reason
from .options import Parser

INTERRUPTED = 130       # exit status, as of a program that SIGINT has ended
EXAMPLE = """\
One side is the path of a FileStorage, or a URI (zconfig:…, or any other one if zodburi is
installed); the other one the masters of a NEO cluster:

  neomigrate -s Data.fs -d 127.0.0.1:10000 -c test
  neomigrate -s 127.0.0.1:10000 -d Copy.fs -c test

It may be interrupted: the same command goes on where it was, after comparing what is there.
It ends with success only if the destination has what the source has."""


def arguments(given=None):
    parser = Parser(prog='neomigrate', description='Copy a database into a NEO cluster, or out of'
                    ' it, with its whole history.',
                    epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter,
                    allow_abbrev=False)
    parser.add_argument('-s', '--source', required=True, help='read, never changed')
    parser.add_argument('-d', '--destination', required=True, help='empty, or copied to before')
    parser.add_argument('-c', '--cluster', required=True, metavar='NAME', help='of the masters')
    parser.add_argument('--quick', action='store_true', help='compare only the last transactions'
                        ' of a destination that is not empty')
    how = parser.add_mutually_exclusive_group()
    how.add_argument('--verify', action='store_true', help='compare everything at the end (default:'
                     ' read back what was copied, and compare checksums)')
    how.add_argument('--no-check', action='store_true', help='compare nothing at the end')
    parser.add_argument('--compress', metavar='HOW', default=False,
                        help='as for Storage: yes, zlib[=LEVEL], zstd[=LEVEL] (default: no)')
    parser.add_argument('-l', '--logfile', metavar='FILE', help='log to this file')
    parser.add_argument('-v', '--verbose', action='store_true', help='log more')
    parser.add_argument('--version', action='version', version='%(prog)s ' + __version__)
    return parser.parse_args(given)


def is_uri(side):
    return side.startswith('zconfig:') or '://' in side


def is_cluster(side):
    """A list of HOST:PORT that is not the name of a file."""
    if is_uri(side) or os.path.exists(side):
        return False
    try:
        return bool(parse_list(side))
    except ValueError:
        return False


# -- the sides ------------------------------------------------------------------------------
def open_cluster(masters, options, unavailable, read_only):
    from ..client.Storage import Storage
    from ..migrate.neoside import NEOSide
    storage = Storage(master_nodes=masters, name=options.cluster, read_only=read_only,
                      compress=options.compress)
    return NEOSide('cluster %s' % options.cluster, storage, unavailable)


def open_uri(uri):
    try:
        return StorageSide(uri, storage_of(uri))
    except MigrationError:
        raise
    except Exception as e:          # of whatever storage that is, or of who reads its configuration
        raise MigrationError("%s can't be opened: %s" % (uri, reason(e)))


def storage_of(uri):
    try:
        from zodburi import resolve_uri
    except ImportError:
        if not uri.startswith('zconfig:'):
            raise MigrationError('%s: zodburi is not installed (pip install zodburi)' % uri)
        from ZODB.config import storageFromURL
        return storageFromURL(uri.removeprefix('zconfig:').removeprefix('//'))
    factory, _ = resolve_uri(uri)
    return factory()


def open_source(options, unavailable):
    side = options.source
    if is_cluster(side):
        return open_cluster(side, options, unavailable, read_only=True)
    return open_uri(side) if is_uri(side) else FileSide(side)


def open_destination(options, unavailable):
    side = options.destination
    if is_cluster(side):
        return open_cluster(side, options, unavailable, read_only=False)
    return open_uri(side) if is_uri(side) else NewFileSide(side)


def check_sides(options):
    clusters = is_cluster(options.source) + is_cluster(options.destination)
    if clusters != 1:
        raise MigrationError(
            'two clusters are given: one side must be a FileStorage or a URI' if clusters
            else 'neither %s nor %s is a list of masters (HOST:PORT …)' % (
                options.source, options.destination))


# -- the work -------------------------------------------------------------------------------
class Stop:
    """The first SIGINT or SIGTERM asks for an end between two batches; the second one ends."""

    def __init__(self):
        self.asked = False

    def __call__(self):
        return self.asked

    def listen(self):
        for signum in signal.SIGINT, signal.SIGTERM:
            signal.signal(signum, self.handle)

    def handle(self, signum, frame):
        self.asked = True
        signal.signal(signum, signal.SIG_DFL)


def migrate(options, progress, stop):
    def unavailable(error):
        if stop():
            raise MigrationError('interrupted while the cluster was not available: %s' % error)
        progress.clear()
        print('neomigrate: trying again: %s' % reason(error), file=sys.stderr)

    check_sides(options)
    with ExitStack() as sides:
        source = open_source(options, unavailable)
        sides.callback(source.close)
        survey(source, progress, time.time())
        destination = open_destination(options, unavailable)
        sides.callback(destination.close)
        stop.listen()           # before this, there is nothing to be ended in good order
        migration = Migration(source, destination, progress, stop,
                              to_check=not (options.no_check or options.verify))
        run(migration, options)
        report(migration)


def run(migration, options):
    try:
        migration.run(options.quick)
        if options.verify:
            migration.verify()
        elif not options.no_check:
            migration.check()
    except Interrupted:
        raise MigrationError(
            'interrupted. Everything up to transaction %#018x is in %s: the same command goes on'
            ' from there' % (migration.last, migration.destination.name) if migration.last
            else 'interrupted before anything was copied')


def report(migration):
    """Say what is there, and what was not looked at."""
    source, destination = migration.source, migration.destination
    if not migration.last:
        print('%s is empty: there was nothing to copy' % source.name)
        return
    print('%s has all %d transactions of %s, up to %#018x%s' % (
        destination.name, migration.total, source.name, migration.last, unseen(migration)))
    if source.superseded:
        tid, oid = min(source.superseded)
        print('%s has %d objects more than once in one transaction, with other data each time'
              ' (%#x in %#018x, for example): only the last of them, which is what is read, has'
              ' been kept' % (source.name, len(source.superseded), oid, tid), file=sys.stderr)


def unseen(migration):
    """What was not compared."""
    parts = []
    if migration.skipped:
        parts.append('the first %d' % migration.skipped)
    if migration.copied and not migration.checked:
        parts.append('the last %d' % migration.copied)
    return parts and '. Not compared: %s' % ', '.join(parts) or ''


def main(given=None):
    options = arguments(given)
    logging.basicConfig(
        filename=options.logfile, level=logging.INFO if options.verbose else logging.WARNING,
        format='%(asctime)s %(levelname)s %(name)s: %(message)s')
    progress, stop = Progress(sys.stderr), Stop()
    try:
        migrate(options, progress, stop)
        return 0
    except (MigrationError, POSError, TransientError, LockError, OSError, ValueError) as e:
        progress.clear()
        used = 'the destination is in use: ' if isinstance(e, LockError) else ''
        print('neomigrate: %s%s' % (used, reason(e)), file=sys.stderr)
        return INTERRUPTED if stop.asked else 1
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == '__main__':
    sys.exit(main())
