"""A whole cluster on this machine, as child processes: for neosimple, tests and measurements."""
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from ..cluster.addresses import readable
from ..protocol.packets import DescribeCluster, SetClusterState
from ..protocol.types import ClusterState
from ..runtime.ask import NoAnswer, ask

ROOT = Path(__file__).resolve().parents[2]
# Below the ports that the system gives to those who connect, which could take ours.
PORTS = 20000, 32000
POLL = 0.05
STOP_TIMEOUT = 30.0


class ClusterError(Exception):
    """The cluster does not do what it should; the message says why, for people."""


def free_port(host='127.0.0.1'):
    for _ in range(1000):
        port = random.randrange(*PORTS)
        with socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return port
            except OSError:
                pass
    raise ClusterError('no free port was found at %s' % host)


class Daemon:
    """One child process, which can be started again."""

    def __init__(self, name, command, arguments, log):
        self.name, self.command, self.arguments, self.log = name, command, arguments, log
        self.process = None

    def start(self):
        assert not self.alive, '%s is running' % self.name
        path = os.environ.get('PYTHONPATH')
        environment = {**os.environ, 'PYTHONPATH': str(ROOT) + (os.pathsep + path if path else '')}
        with open(self.log, 'ab') as log:
            # A session of its own: Ctrl-C is for who has started the cluster.
            self.process = subprocess.Popen(
                [sys.executable, '-m', 'neo.local.child', self.command, *self.arguments],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                env=environment)

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    @property
    def status(self):
        """Exit status; None while it is running."""
        return self.process and self.process.poll()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=STOP_TIMEOUT):
        """The exit status; killed if it does not end in time, which is an error then."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ClusterError('%s did not end within %g s:\n%s' % (
                self.name, timeout, self.tail()))
        self.process.stdin.close()
        return status

    def stop(self, timeout=STOP_TIMEOUT):
        """SIGTERM; gives the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self):
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()

    def tail(self, lines=5):
        """The end of its log."""
        try:
            return '\n'.join(self.log.read_text(errors='replace').splitlines()[-lines:])
        except OSError:
            return ''


class LocalCluster:
    """`directory` keeps databases and logs: started there again, it is the same cluster.

    `masters` is what clients need as master_nodes, with `name`; `admin` is the (host, port) for
    neoctl.  `daemons` are `master`, `admin`, `storage1`, `storage2`…  As a context manager it is
    started, waited for, and killed at the end.
    """

    def __init__(self, directory, storages=2, replicas=0, partitions=12, name='test',
                 host='127.0.0.1', port=None, admin_port=None, autostart=True):
        self.directory = Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name, self.storages = name, storages
        self.master = host, port or free_port(host)
        self.admin = host, admin_port or free_port(host)
        self.masters = readable(self.master)
        self.daemons = {}
        common = ['--cluster', name, '--masters', self.masters]
        self._add('master', 'neomaster', [
            *common, '--bind', self.masters, '--replicas', str(replicas), '--partitions',
            str(partitions), *(['--autostart', str(storages)] if autostart else [])])
        for number in range(1, storages + 1):
            storage = 'storage%d' % number
            self._add(storage, 'neostorage', [
                *common, '--bind', '[%s]' % host if ':' in host else host, '--name', storage,
                '--database', str(self.database(storage))])
        self._add('admin', 'neoadmin', [*common, '--bind', readable(self.admin)])

    def _add(self, name, command, arguments):
        self.daemons[name] = Daemon(name, command, arguments, self.directory / (name + '.log'))

    def database(self, storage):
        """The path of the database of `storage1`…"""
        return self.directory / (storage + '.sqlite')

    # -- start ------------------------------------------------------------------------------
    def start(self, *names):
        """Start these daemons, or all that are not running."""
        for name in names or [name for name, daemon in self.daemons.items() if not daemon.alive]:
            self.daemons[name].start()

    def wait_running(self, timeout=60.0):
        """Wait till it serves; ClusterError if that takes too long, or if a daemon has died."""
        deadline = time.monotonic() + timeout
        while True:
            reason = self.why_not_running()
            if reason is None:
                return self
            self.check()
            if time.monotonic() > deadline:
                raise ClusterError('the cluster does not run after %g s: %s' % (timeout, reason))
            time.sleep(POLL)

    def why_not_running(self):
        """None if it runs."""
        try:
            found = self.describe(timeout=5)
        except NoAnswer as e:
            return str(e)
        if found.state == ClusterState.RUNNING:
            return None
        return '%s, %s' % (ClusterState(found.state).name, found.reason)

    def describe(self, timeout=10.0):
        """DescribeCluster.Answer of the admin; NoAnswer if there is none."""
        return ask(self.admin, DescribeCluster(), timeout)

    def check(self):
        """ClusterError if a daemon that was started has died by itself."""
        for daemon in self.daemons.values():
            if daemon.process is not None and not daemon.alive:
                raise ClusterError('%s ended with status %s:\n%s' % (
                    daemon.name, daemon.status, daemon.tail()))

    # -- stop -------------------------------------------------------------------------------
    def kill(self, *names):
        """kill -9 these daemons, or all, at once."""
        daemons = [self.daemons[name] for name in names or self.daemons]
        for daemon in daemons:
            if daemon.alive:
                daemon.process.kill()
        for daemon in daemons:
            daemon.kill()
            daemon.process = None

    def restart(self, *names):
        """Kill these daemons, or all, and start them again."""
        self.kill(*names)
        self.start(*(names or self.daemons))

    def stop(self, timeout=STOP_TIMEOUT):
        """Let commits end, then stop all, cleanly if possible; nothing runs afterwards."""
        if all(daemon.alive for daemon in self.daemons.values()):
            try:
                ask(self.admin, SetClusterState(ClusterState.STOPPING), timeout)
            except NoAnswer:
                self._terminate()       # they may stop without being told how, too
        else:
            self._terminate()
        deadline = time.monotonic() + timeout
        try:
            for daemon in self.daemons.values():
                if daemon.process is not None:
                    daemon.wait(max(0.1, deadline - time.monotonic()))
                    daemon.process = None
        finally:
            self.kill()

    def _terminate(self):
        for daemon in self.daemons.values():
            if daemon.alive:
                daemon.signal(signal.SIGTERM)

    def __enter__(self):
        try:
            self.start()
            return self.wait_running()
        except BaseException:
            self.kill()
            raise

    def __exit__(self, *exc_info):
        self.kill()
