"""What tools/bench measures: each peer is servers in processes of their own, with all defaults, on
loopback, in a temporary folder."""
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from neo.local.cluster import LocalCluster  # noqa: E402
from neo.local.ports import Port  # noqa: E402

PR_SET_PDEATHSIG = 1
DEFAULT_PARTITIONS = 100    # of neomaster
WORK = Path(__file__).resolve().with_name('bench_work.py')
STARTED_WITHIN = 30.0       # seconds
STOPPED_WITHIN = 20.0


class BenchError(Exception):
    """Why nothing can be measured."""


class Peer:
    """A subclass starts its servers.  `address` is what its clients are told."""

    name = ''
    root = ROOT             # the checkout it is of

    def __init__(self, profiler=None):
        self.profiler = profiler
        self.servers = []
        self.clients = []
        self.dir = tempfile.mkdtemp(prefix='bench-')

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error):
        self.stop()

    def run(self, name, *command):
        """Start a server; what it says is kept in its folder until the end."""
        with open(os.path.join(self.dir, name + '.log'), 'wb') as log:
            server = subprocess.Popen(command, cwd=self.dir, stdin=subprocess.DEVNULL,
                                      stdout=log, stderr=log)
        server.name = name
        self.servers.append(server)
        if self.profiler:
            self.profiler.watch('%s-%s' % (self.name, name), server.pid)
        return server

    def wait_for_port(self, port):
        """Until a server listens there."""
        deadline = time.monotonic() + STARTED_WITHIN
        while True:
            try:
                socket.create_connection(('127.0.0.1', port), 1.0).close()
                return
            except OSError:
                self.check()
                if time.monotonic() > deadline:
                    raise BenchError('%s does not start' % self.name)
                time.sleep(0.02)

    def check(self):
        for server in self.servers:
            if server.poll() is not None:
                with open(os.path.join(self.dir, server.name + '.log')) as log:
                    raise BenchError('%s %s has ended:\n%s' % (
                        self.name, server.name, log.read()[-2000:]))

    def kill_clients(self):
        for client in self.clients:
            if client.poll() is None:       # something has gone wrong
                client.kill()
                client.wait()

    def stop(self):
        self.kill_clients()
        for server in reversed(self.servers):
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
        for server in self.servers:
            try:
                server.wait(STOPPED_WITHIN)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        if self.profiler:
            self.profiler.ended()
        shutil.rmtree(self.dir, ignore_errors=True)

    # -- its clients ------------------------------------------------------------------------
    def work(self, work, *args):
        """A process that does this work; see bench_work.py."""
        return self._client(sys.executable, str(WORK), self.name, self.address, work,
                            *map(str, args))

    def importing(self, path):
        """A process that brings a FileStorage there, as users of this peer would."""
        return self.work('copy', path)

    def _client(self, *command):
        errors = os.path.join(self.dir, 'client%d.log' % len(self.clients))
        with open(errors, 'wb') as log:
            client = subprocess.Popen(command, cwd=self.dir, text=True, stderr=log,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      env={**os.environ, 'NEO_BENCH_ROOT': str(self.root)})
        client.errors = lambda: Path(errors).read_text(errors='replace')[-2000:]
        self.clients.append(client)
        if self.profiler:
            self.profiler.watch('%s-client' % self.name, client.pid)
        return client


class Spawn:
    """Starts commands of a checkout, as a neo.local.process.Child."""

    libc = ctypes.CDLL(None)

    def __init__(self, root):
        self.root = root

    def __call__(self, module, arguments, directory, output):
        command = str(self.root / module.rpartition('.')[2])
        with open(output, 'ab') as log:
            child = subprocess.Popen(
                [sys.executable, command, *arguments], cwd=directory, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
                preexec_fn=lambda: self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        child.reap = child.wait
        return child


class Cluster(LocalCluster):
    """Of a checkout, whose packets may be others than those of this one."""

    def __init__(self, root, *args):
        super().__init__(*args, spawn=Spawn(root))
        self.neoctl = [sys.executable, str(root / 'neoctl'), '-a', str(self.admin_port)]

    def why_not_running(self):
        found = subprocess.run([*self.neoctl, 'print', 'cluster'], capture_output=True, text=True)
        state = (found.stdout or found.stderr).strip()
        return None if state == 'RUNNING' else state


class NEO(Peer):
    """One master and storages on SQLite."""

    name = 'NEO'
    storages, replicas = 1, 0

    def start(self):
        cluster = self.cluster = Cluster(self.root, self.dir, self.storages, self.replicas,
                                         DEFAULT_PARTITIONS, 'bench')
        self.address = cluster.masters
        cluster.start()
        cluster.wait_running()
        if self.profiler:
            for daemon in cluster.daemons:
                self.profiler.watch('%s-%s' % (self.name, daemon.name), daemon.pid)

    def stop(self):
        self.kill_clients()
        self.cluster.terminate()
        self.cluster.close()
        super().stop()

    def importing(self, path):
        command = [sys.executable, str(self.root / 'neomigrate')]
        # What others do not do is not measured; a checkout may be older than that.
        known = subprocess.run([*command, '--help'], capture_output=True, text=True).stdout
        return self._client(*command, '-s', path, '-d', self.address, '-c', 'bench',
                            *(['--no-check'] if '--no-check' in known else []))


class NEO2(NEO):
    """Two storages, each with everything."""

    name = 'NEO, 2 copies'
    storages, replicas = 2, 1


def of_checkout(root, kind):
    """The same kind of peer, of another checkout."""
    title = '%s of %s' % (kind.name, root.name)
    return type(kind.__name__, (kind,), {'name': title, 'root': root})


class ZEO(Peer):
    """A ZEO server with a FileStorage, which calls fsync for each transaction."""

    name = 'ZEO'

    def start(self):
        self.port = Port()
        self.address = str(self.port)
        self.run('server', sys.executable, '-m', 'ZEO.runzeo', '-a', self.address,
                 '-f', os.path.join(self.dir, 'Data.fs'),
                 '--pid-file', os.path.join(self.dir, 'zeo.pid'))
        self.wait_for_port(self.port.number)

    def stop(self):
        super().stop()
        self.port.close()


PEERS = {'zeo': ZEO}


class Profiler:
    """py-spy beside each process, into a folder: FILE.txt are collapsed stacks."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.command = shutil.which('py-spy', path=os.pathsep.join(
            [os.path.dirname(sys.executable), os.environ.get('PATH', '')]))
        if not self.command:
            raise BenchError('--profile needs py-spy: pip install py-spy')
        self.number = 0
        self.watching = []

    def watch(self, name, pid):
        self.number += 1
        output = self.folder / ('%03d-%s.txt' % (self.number, name.replace(', ', '-')))
        self.watching.append(subprocess.Popen(
            [self.command, 'record', '--nonblocking', '-r', '250', '-f', 'raw', '-o', str(output),
             '-p', str(pid)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def ended(self):
        """What was watched has ended, and so do they."""
        for watching in self.watching:
            try:
                watching.wait(STOPPED_WITHIN)
            except subprocess.TimeoutExpired:
                watching.kill()
                watching.wait()
        self.watching.clear()
