"""A whole cluster on this machine: for neosimple, tests and measurements."""
import signal
import time
from pathlib import Path

from ..protocol.packets import DescribeCluster, SetClusterState
from ..protocol.types import ClusterState
from ..runtime.ask import NoAnswer, ask
from .ports import Port
from .process import TIMEOUT, Child, ClusterError, Process

POLL = 0.05


class Machine:
    """Where nodes run: at this address of this machine."""

    def __init__(self, host, spawn=Child):
        self.host, self.spawn = host, spawn

    def port(self):
        """Any that is free."""
        return Port(self.host)


class LocalCluster:
    """`directory` keeps databases and logs: started there again, it is the same cluster.

    `masters` is what clients need as master_nodes, with `name`; `admin_port` is for neoctl.
    `daemons` are those of `master_daemons`, of which `master` is the first, those of `storages`,
    and `admin`.  Several masters have state files, unless `states` says otherwise.  `port`, of the
    first master, and `admin_port` are given as a `Port`, or any free one is taken.  `machines` are
    for the masters and for the storages, in turns, if that is not where the rest is.  As a context
    manager it is started, waited for, and killed at the end.
    """

    def __init__(self, directory, storages=2, replicas=0, partitions=12, name='test',
                 host='127.0.0.1', port=None, admin_port=None, autostart=True, admin=True,
                 databases=None, spawn=Child, masters=1, states=True, machines=None):
        self.directory = Path(directory).resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name, self.replicas = name, replicas
        self.here = Machine(host, spawn)
        self.machines = machines or [self.here]
        self.ports = [port or self.machine(1).port(),
                      *[self.machine(number).port() for number in range(2, masters + 1)]]
        self.port = self.ports[0]
        self.masters = ' '.join(map(str, self.ports))
        self.databases = databases or [
            self.directory / ('storage%d.sqlite' % number) for number in range(1, storages + 1)]
        options = ['--replicas', replicas, '--partitions', partitions,
                   *(['--autostart', storages] if autostart else [])]
        self.master_daemons = [
            self._master(number, port, options, states and masters > 1)
            for number, port in enumerate(self.ports, 1)]
        self.master = self.master_daemons[0]
        self.storages = [
            self._storage(number, database) for number, database in enumerate(self.databases, 1)]
        self.admin_port = self.admin = None
        if admin:
            self.admin_port = admin_port or self.here.port()
            self.admin = self.daemon('neoadmin', 'admin', '--bind', self.admin_port)

    def machine(self, number):
        """That of the n-th master, and of the n-th storage."""
        return self.machines[(number - 1) % len(self.machines)]

    def _master(self, number, port, options, has_state):
        name = 'master%d' % number if len(self.ports) > 1 else 'master'
        state = ['--state', self.directory / (name + '.state')] if has_state else []
        return self.daemon('neomaster', name, '--bind', port, *options, *state,
                           machine=self.machine(number))

    def _storage(self, number, database):
        machine = self.machine(number)
        return self.daemon('neostorage', 'storage%d' % number, '--bind',
                           '[%s]' % machine.host if ':' in machine.host else machine.host,
                           '--database', database, machine=machine)

    def daemon(self, command, name, *options, machine=None):
        """A node of this cluster, which is not started, nor kept in `daemons`."""
        return Process(name, 'neo.scripts.' + command,
                       ['--cluster', self.name, '--masters', self.masters, '--name', name,
                        *options], self.directory, (machine or self.here).spawn)

    @property
    def daemons(self):
        return [daemon for daemon in (*self.master_daemons, *self.storages, self.admin) if daemon]

    # -- start ------------------------------------------------------------------------------
    def start(self, daemons=None):
        """Start these, in this order, or what does not run."""
        for daemon in daemons or self.daemons:
            if not daemon.runs:
                daemon.wait()
                daemon.start()
                if daemon in self.master_daemons:
                    # It has the port, so that nobody can find another master there; and nobody
                    # looks for it in vain, and pauses.
                    daemon.wait_up()

    def wait_running(self, timeout=60.0):
        """Wait till it serves; ClusterError if that takes too long, or if a daemon has died."""
        deadline = time.monotonic() + timeout
        self.admin.wait_up()            # else somebody else might answer at its port
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

    def ask(self, request, timeout=10.0):
        """The answer of the admin; NoAnswer if there is none."""
        return ask((self.admin_port.host, self.admin_port.number), request, timeout)

    def describe(self, timeout=10.0):
        """DescribeCluster.Answer of the admin; NoAnswer if there is none."""
        return self.ask(DescribeCluster(), timeout)

    def check(self):
        """ClusterError if a daemon that was started has ended by itself."""
        for daemon in self.daemons:
            if daemon.started and not daemon.runs:
                raise ClusterError('%s ended with status %s:\n%s' % (
                    daemon.name, daemon.wait(), daemon.tail()))

    # -- stop -------------------------------------------------------------------------------
    def kill(self, *daemons):
        """kill -9 these, or all, at once."""
        for daemon in daemons or self.daemons:
            daemon.signal(signal.SIGKILL)
        for daemon in daemons or self.daemons:
            daemon.wait()

    def restart(self, *daemons):
        """Kill these, or all, and start them again."""
        self.kill(*daemons)
        self.start(daemons)

    def stop(self, timeout=TIMEOUT):
        """Let commits end, then all stop, as `neoctl stop` does if all of them are there; nothing
        runs afterwards.  Gives the exit statuses by name."""
        if self.admin is not None and all(daemon.runs and daemon.up for daemon in self.daemons):
            try:
                self.ask(SetClusterState(ClusterState.STOPPING), timeout)
                return self._wait(timeout)
            except NoAnswer:
                pass                    # they may stop without being told how, too
        return self.terminate(timeout)

    def terminate(self, timeout=TIMEOUT):
        """SIGTERM to all; the exit statuses by name."""
        for daemon in self.daemons:
            daemon.terminate()
        return self._wait(timeout)

    def _wait(self, timeout):
        deadline = time.monotonic() + timeout
        try:
            return {daemon.name: daemon.wait(max(0.1, deadline - time.monotonic()))
                    for daemon in self.daemons}
        finally:
            self.kill()

    def close(self):
        """End everything, however it goes, and give the ports back."""
        self.kill()
        for port in self.ports:
            port.close()
        if self.admin_port is not None:
            self.admin_port.close()

    def __enter__(self):
        try:
            self.start()
            return self.wait_running()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *exc_info):
        self.close()
