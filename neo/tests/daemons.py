"""Clusters of real daemons for tests, cheap enough for each test to have its own.

    with Cluster(storages=2, replicas=1) as cluster:
        storage = cluster.client()

Everything listens on 127.0.0.1, lives in one temporary folder, and ends with the cluster.
"""
import os
import re
import select
import shutil
import signal
import socket
import tempfile
import time
from pathlib import Path

from .forkserver import server

DEADLINE = 30.0
ADDRESS = re.compile(r' on (127\.0\.0\.1:\d+)$', re.M)


def wait_for(condition, what, deadline=DEADLINE, interval=0.005):
    """Poll until `condition()` is true, and give what it gave."""
    end = time.monotonic() + deadline
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError('not within %.0f s: %s' % (deadline, what))
        time.sleep(interval)


class Port:
    """A port that nobody else gets, except who binds it by its number."""

    def __init__(self):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(('127.0.0.1', 0))
        self.number = self._socket.getsockname()[1]

    @property
    def address(self):
        return '127.0.0.1:%d' % self.number

    def listens(self):
        """Does somebody listen there?  (Without a connection, which would be logged there.)"""
        entry = ' 0100007F:%04X 00000000:0000 0A ' % self.number
        return entry in Path('/proc/net/tcp').read_text()

    def close(self):
        self._socket.close()


class Process:
    """One process, which may be started again once it has ended."""

    def __init__(self, name, module, arguments, directory):
        self.name = name
        self.module = module
        self.arguments = list(arguments)
        self.directory = Path(directory)
        self.output = self.directory / (name + '.log')
        self.pid = self._fd = None
        self.status = None
        self._before = 0                # length of the log when it was started

    def __repr__(self):
        return '<%s>' % self.name

    def start(self, *more):
        assert self._fd is None, '%s runs' % self.name
        self.status = None
        self._before = len(self.log())
        self.pid = server().start(self.module, [*self.arguments, *more], self.directory,
                                  self.output)
        self._fd = os.pidfd_open(self.pid)
        return self

    @property
    def runs(self):
        return self._fd is not None and not self._ended(0)

    def _ended(self, timeout):
        return bool(select.select([self._fd], [], [], timeout)[0])

    def signal(self, signum):
        if self._fd is not None:
            try:
                signal.pidfd_send_signal(self._fd, signum)
            except ProcessLookupError:
                pass

    def wait(self, timeout=DEADLINE):
        """Its exit status; negative: the signal that ended it."""
        if self._fd is not None:
            if not self._ended(timeout):
                raise AssertionError('%s does not end:\n%s' % (self.name, self.log()[-2000:]))
            os.close(self._fd)
            self._fd = None
            self.status = server().reap(self.pid)
        return self.status

    def terminate(self):
        """SIGTERM, once this daemon is there to handle it."""
        if self._fd is not None:
            wait_for(lambda: ADDRESS.search(self.log(), self._before) or self._ended(0),
                     '%s has started' % self.name)
            self.signal(signal.SIGTERM)

    def stop(self, timeout=DEADLINE):
        """A clean stop; the exit status."""
        self.terminate()
        return self.wait(timeout)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.wait()

    def log(self):
        return self.output.read_text() if self.output.exists() else ''

    @property
    def address(self):
        """Where it listens, as its log says."""
        wait_for(lambda: ADDRESS.search(self.log()), 'the address of %s' % self.name)
        return ADDRESS.findall(self.log())[-1]

    def wait_log(self, text, times=1, deadline=DEADLINE):
        wait_for(lambda: self.log().count(text) >= times,
                 '%r in the log of %s' % (text, self.name), deadline)


class Cluster:

    def __init__(self, storages=1, replicas=0, partitions=12, name='test', admin=False,
                 start=True, databases=None, directory=None):
        self.name = name
        self.replicas = replicas
        # Does each storage hold everything?
        self.replicated = storages == replicas + 1
        self.directory = Path(directory or tempfile.mkdtemp(prefix='neo-'))
        self._own_directory = directory is None
        self._ports = []
        self._clients = []
        self.options = {}               # of clients, unless they are given others
        self.others = []                # processes to be ended with the cluster
        self.master_port = self._port()
        self.masters = self.master_port.address
        self.master = self.daemon(
            'neomaster', 'master', '-b', self.masters, '-r', replicas, '-p', partitions,
            '-A', storages)
        self.databases = databases or [
            self.directory / ('storage%d.sqlite' % i) for i in range(1, storages + 1)]
        self.storages = [
            self.daemon('neostorage', 'storage%d' % i, '-d', database)
            for i, database in enumerate(self.databases, 1)]
        self.admin = None
        if admin:
            self.admin_port = self._port()
            self.admin = self.daemon('neoadmin', 'admin', '-b', self.admin_port.address)
        try:
            if start:
                self.start()
        except BaseException:
            self.close()
            raise

    def _port(self):
        self._ports.append(Port())
        return self._ports[-1]

    def daemon(self, command, name, *options):
        return Process(name, 'neo.scripts.' + command,
                       ['-c', self.name, '-m', self.masters, '-n', name, *options], self.directory)

    @property
    def daemons(self):
        return [daemon for daemon in (self.master, *self.storages, self.admin) if daemon]

    # -- life -------------------------------------------------------------------------------
    def start(self, daemons=None):
        """Start these, in this order, or what does not run."""
        for daemon in daemons or self.daemons:
            if not daemon.runs:
                daemon.wait()
                daemon.start()
                if daemon is self.master:
                    # Else the others would find nobody, and pause.
                    wait_for(lambda: self.master_port.listens() or not self.master.runs,
                             'the master listens', interval=0.001)

    def stop(self):
        """A clean stop; the exit statuses by name."""
        for daemon in self.daemons:
            daemon.terminate()
        return {daemon.name: daemon.wait() for daemon in self.daemons}

    def kill(self):
        for daemon in self.daemons:
            daemon.signal(signal.SIGKILL)
        for daemon in self.daemons:
            daemon.wait()

    def close(self):
        """End everything, however it goes."""
        for client in self._clients:
            client.close()
        for process in (*self.others, *self.daemons):
            process.signal(signal.SIGKILL)
        for process in (*self.others, *self.daemons):
            process.wait()
        for port in self._ports:
            port.close()
        if self._own_directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    # -- who uses it --------------------------------------------------------------------------
    def client(self, **options):
        """A new Storage, which is closed with the cluster."""
        from ..client.Storage import Storage
        storage = Storage(**{'master_nodes': self.masters, 'name': self.name, **self.options,
                             **options})
        self._clients.append(storage)
        return storage

    def process(self, name, module, *arguments):
        """Start `module.main()`, to be ended with the cluster."""
        process = Process(name, module, arguments, self.directory)
        self.others.append(process)
        return process.start()

    def ctl(self, *arguments):
        """What neoctl prints, and its exit status."""
        name = 'ctl%d' % len(self.others)
        process = self.process(name, 'neo.scripts.neoctl', '-a', self.admin_port.address,
                               *arguments)
        status = process.wait()
        return process.log().strip(), status

    def wait_state(self, state, deadline=DEADLINE):
        wait_for(lambda: self.ctl('print', 'cluster')[0] == state, 'cluster is ' + state,
                 deadline, 0.02)
