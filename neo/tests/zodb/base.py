"""What ZODB's suites need of us: a new cluster for each test, and a client of it."""
from ..daemons import Cluster


class ClusterTest:
    """Put before a TestCase of ZODB.  `storages` and `replicas` say what kind of cluster."""

    storages = 1
    replicas = 0

    def setUp(self):
        self.clusters = []
        self.addCleanup(self._close_clusters)
        super().setUp()
        self.cluster = self.new_cluster()
        self.open()

    def _close_clusters(self):
        for cluster in self.clusters:
            cluster.close()

    def new_cluster(self):
        cluster = Cluster(self.storages, self.replicas)
        self.clusters.append(cluster)
        return cluster

    def open(self, **options):
        self._storage = self.cluster.client(**options)

    def _new_storage_client(self):
        return self.cluster.client()

    # What comes with undo, pack and blobs.  None: not a test.  TESTS.txt lists these.
    testLoadBeforeUndo = None
    testUndoZombie = None


class Replicated:
    """Put before what is tested with one storage, to do the same with two that hold the same."""

    storages = 2
    replicas = 1
