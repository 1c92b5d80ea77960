"""Clusters of real daemons for tests, cheap enough for each test to have its own.

    with Cluster(storages=2, replicas=1) as cluster:
        storage = cluster.client()

Everything listens on 127.0.0.1, lives in one temporary folder, and ends with the cluster.
"""
import shutil
import signal
import tempfile

from ..local.cluster import LocalCluster
from ..local.process import POLL, Process, poll
from .forkserver import Fork

DEADLINE = 30.0


def wait_for(condition, what, deadline=DEADLINE, interval=POLL):
    """Poll until `condition()` is true, and give what it gave."""
    result = poll(condition, deadline, interval)
    if not result:
        raise AssertionError('not within %.0f s: %s' % (deadline, what))
    return result


class Cluster(LocalCluster):
    """A LocalCluster of processes that are forked, which need not be waited for; if there is a
    `network`, the masters and the storages are on its hosts, and the rest is at its operator."""

    def __init__(self, storages=1, replicas=0, partitions=12, name='test', admin=False,
                 start=True, databases=None, directory=None, masters=1, network=None):
        self._own_directory = None if directory else tempfile.mkdtemp(prefix='neo-')
        # Does each storage hold everything?
        self.replicated = storages == replicas + 1
        self._clients = []
        self.options = {}               # of clients, unless they are given others
        self.others = []                # processes to be ended with the cluster
        super().__init__(directory or self._own_directory, storages, replicas, partitions, name,
                         admin=admin, databases=databases, masters=masters,
                         **self._where(network))
        try:
            if start:
                self.start()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _where(network):
        if network is None:
            return {'spawn': Fork}
        return {'host': network.operator.host, 'spawn': network.operator.spawn,
                'machines': network.hosts}

    def close(self):
        """End everything, however it goes."""
        for client in self._clients:
            client.close()
        for process in self.others:
            process.signal(signal.SIGKILL)
        super().close()
        for process in self.others:
            process.wait()
        if self._own_directory:
            shutil.rmtree(self._own_directory, ignore_errors=True)

    def __enter__(self):
        return self

    # -- who uses it --------------------------------------------------------------------------
    def client(self, **options):
        """A new Storage, which is closed with the cluster."""
        from ..client.Storage import Storage
        storage = Storage(**{'master_nodes': self.masters, 'name': self.name, **self.options,
                             **options})
        self._clients.append(storage)
        return storage

    def process(self, name, module, *arguments, machine=None):
        """Start `module.main()`, to be ended with the cluster."""
        process = Process(name, module, arguments, self.directory, (machine or self.here).spawn)
        self.others.append(process)
        return process.start()

    def ctl(self, *arguments):
        """What neoctl prints, and its exit status."""
        name = 'ctl%d' % len(self.others)
        process = self.process(name, 'neo.scripts.neoctl', '-a', self.admin_port, *arguments)
        status = process.wait()
        return process.log().strip(), status

    def wait_log(self, daemon, text, times=1):
        wait_for(lambda: daemon.log().count(text) >= times,
                 '%r in the log of %s' % (text, daemon.name))

    def wait_state(self, state, deadline=DEADLINE):
        wait_for(lambda: self.ctl('print', 'cluster')[0] == state, 'cluster is ' + state,
                 deadline, 0.02)
