"""The command neosimple: a whole cluster on this machine, in the foreground."""
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

from .. import __version__
from ..local import commands
from ..local.cluster import LocalCluster
from ..local.keeper import Keeper
from ..local.ports import Port, preferred
from ..local.process import ClusterError
from ..protocol import limits
from .options import ADMIN_PORT, MASTER_PORT, Parser, cluster_name, integer

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
PR_SET_PDEATHSIG = 1
POLL = 0.1


class Interrupted(BaseException):
    """A signal asks to stop."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


def parser():
    def number(minimum, maximum):
        convert = integer(minimum, maximum)
        convert.__name__ = 'number'         # for the message of argparse
        return convert
    result = Parser(prog='neosimple', allow_abbrev=False, usage='%(prog)s [options] [-- COMMAND …]',
                    description='Run a whole NEO cluster on this machine, in the foreground. With '
                    'COMMAND: run it with NEO_MASTERS and NEO_CLUSTER set, stop the cluster, and '
                    'exit with its status.')
    result.add_argument('--storages', type=number(1, 100), default=2, metavar='N',
                        help='how many storages (default: 2)')
    result.add_argument('--replicas', type=number(0, limits.MAX_REPLICAS), metavar='N',
                        help='extra copies (default: 1, or 0 with one storage)')
    result.add_argument('--masters', type=number(1, limits.MAX_MASTERS), default=1, metavar='N',
                        help='how many masters (default: 1)')
    result.add_argument('--partitions', type=number(1, limits.MAX_PARTITIONS), default=12,
                        metavar='N', help='rows of the table (default: 12)')
    result.add_argument('--cluster', type=cluster_name, default='test', metavar='NAME',
                        help='name of the cluster (default: test)')
    result.add_argument('--dir', metavar='DIR', help='where databases and logs are kept (default:'
                        ' a folder that is removed at the end)')
    result.add_argument('--port', type=number(1, 65535), metavar='N',
                        help='of the master (default: %d if it is free, or any; with COMMAND any)'
                        % MASTER_PORT)
    result.add_argument('--admin-port', type=number(1, 65535), metavar='N',
                        help='of the admin (default: %d if it is free, or any; with COMMAND any)'
                        % ADMIN_PORT)
    result.add_argument('--self-test', action='store_true',
                        help='commit an object and read it back before saying that it runs')
    result.add_argument('--version', action='version', version='%(prog)s ' + __version__)
    result.add_argument('command', nargs='*', metavar='COMMAND', help='what to run')
    return result


def parse(arguments):
    grammar = parser()
    options = grammar.parse_args(arguments)
    if options.replicas is None:
        options.replicas = min(1, options.storages - 1)
    if options.replicas >= options.storages:
        grammar.error('%d replicas need at least %d storages' % (
            options.replicas, options.replicas + 1))
    return options


# -- what is done while it runs -----------------------------------------------------------------
def self_test(cluster):
    """Commit an object with one storage, and read it back with another."""
    import transaction
    import ZODB

    from ..client.Storage import Storage

    def connected(function):
        db = ZODB.DB(Storage(master_nodes=cluster.masters, name=cluster.name))
        connection = db.open(transaction.TransactionManager())
        try:
            return function(connection.root(), connection.transaction_manager)
        finally:
            connection.close()
            db.close()

    def write(root, manager):
        root['neosimple'] = count = root.get('neosimple', 0) + 1
        manager.commit()
        return count

    count = connected(write)
    found = connected(lambda root, manager: root.get('neosimple'))
    if found != count:
        raise ClusterError('the number %r was committed, and %r read back' % (count, found))
    print('An object was committed and read back: root()[%r] is %d.' % ('neosimple', count))


def describe(cluster, options):
    print('The cluster %s is running: 1 master, %d storage%s with %d replica%s, 1 admin.' % (
        cluster.name, options.storages, 's' * (options.storages != 1), options.replicas,
        's' * (options.replicas != 1)))
    print('It serves at %s, and its admin at %s.' % (
        at(cluster.port, options.port, MASTER_PORT),
        at(cluster.admin_port, options.admin_port, ADMIN_PORT)))
    print('Databases and logs are in %s%s.' % (
        cluster.directory, '' if options.dir else ', until it is stopped'))
    print('To use it:')
    print('    ' + commands.python(cluster.masters, cluster.name))
    print('To look at it:')
    print('    ' + commands.neoctl(cluster.admin_port, 'print', 'summary'))
    print('Ctrl-C stops it.', flush=True)


def at(port, wanted, usual):
    used = wanted is None and port.number != usual
    return '%s%s' % (port, ' (%d is in use)' % usual if used else '')


def watch(cluster):
    keeper = Keeper(cluster, say)
    while keeper.look():
        time.sleep(POLL)
    print('The cluster has been stopped.', flush=True)


def say(line):
    print('neosimple: %s' % line, file=sys.stderr, flush=True)


def run_command(cluster, command):
    """The exit status of `command`, as a shell would say it."""
    libc = ctypes.CDLL(None)
    process = subprocess.Popen(
        command, env={**os.environ, 'NEO_MASTERS': cluster.masters, 'NEO_CLUSTER': cluster.name},
        # It must not go on if this process is killed.
        preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM))
    try:
        keeper = Keeper(cluster, say)
        while process.poll() is None and keeper.look():
            time.sleep(POLL)
    finally:
        if process.poll() is None:
            end(process)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def end(process):
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# -- all together -------------------------------------------------------------------------------
def run(options, cluster):
    cluster.start()
    cluster.wait_running()
    if options.self_test:
        self_test(cluster)
    if options.command:
        return run_command(cluster, options.command)
    describe(cluster, options)
    watch(cluster)


def interrupt(number, frame):
    raise Interrupted(number)


def make(options, directory):
    """The cluster, at the ports that were asked for.  Otherwise those that all look for, if they
    are free, or any ones; a COMMAND is told."""
    host = '127.0.0.1'

    def port(given, usual):
        if given is not None:
            return Port(host, given)
        return Port(host) if options.command else preferred(host, usual)
    return LocalCluster(
        directory, options.storages, options.replicas, options.partitions, options.cluster, host,
        port(options.port, MASTER_PORT), port(options.admin_port, ADMIN_PORT),
        masters=options.masters)


def main(arguments=None):
    options = parse(arguments)
    for number in SIGNALS:
        signal.signal(number, interrupt)
    with ExitStack() as stack:
        try:
            directory = options.dir or stack.enter_context(
                tempfile.TemporaryDirectory(prefix='neo-'))
            cluster = make(options, directory)
            stack.callback(stop, cluster)
            return run(options, cluster)
        except Interrupted as e:
            # With a command, its end was not the one that was wanted.
            return 128 + e.number if options.command else 0
        except ClusterError as e:
            say(e)
            return 1
        except OSError as e:
            say('%s: %s' % (e.filename, e.strerror) if e.filename else e)
            return 1
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)


def stop(cluster):
    try:
        cluster.stop()
    except ClusterError as e:
        say(e)
    finally:
        cluster.close()


if __name__ == '__main__':
    sys.exit(main())
