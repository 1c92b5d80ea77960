"""ZODB's suites, while a storage is killed and started again in a loop, and while the primary is.

A transaction that is on its way then may fail, and may be tried again: a test that meets such an
error begins again, on a new cluster.  Any other failure counts.
"""
import functools
import threading
from collections import Counter

from transaction.interfaces import TransientError
from ZODB.POSException import ConflictError
from ZODB.tests import (BasicStorage, ConflictResolution, HistoryStorage, IteratorStorage,
                        PersistentStorage, RevisionStorage, Synchronization)
from ZODB.tests.StorageTestBase import StorageTestBase

from ...local.process import ClusterError
from ..daemons import Cluster, poll
from ..process.copies import incomplete
from .base import ClusterTest

ATTEMPTS = 20


def may_be_tried_again(error):
    """Some tests go on to *finish* what has failed."""
    if error is None or isinstance(error, ConflictError):
        return False
    return isinstance(error, TransientError) or may_be_tried_again(error.__context__)


def again(test):
    """As often as a node is lost in the middle."""
    @functools.wraps(test)
    def tried_again(self):
        for _ in range(ATTEMPTS - 1):
            try:
                return test(self)
            except Exception as error:
                if not may_be_tried_again(error):
                    raise
            self.begin_again()
        return test(self)
    return tried_again


def names_of_tests(cls):
    return [name for name in dir(cls) if name.startswith('test') and callable(getattr(cls, name))]


class Disturbed(ClusterTest):
    """A subclass says who is the `victim`."""

    storages, replicas, masters = 2, 1, 1
    pause = 0.0                 # seconds for which all are there, after the first time
    kills = Counter()           # by class
    count = 0                   # tests of this class

    def __init_subclass__(cls):
        super().__init_subclass__()
        for name in names_of_tests(cls):
            setattr(cls, name, again(getattr(cls, name)))

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        assert cls.kills[cls] >= cls.count / 3, '%d tests were disturbed %d times' % (
            cls.count, cls.kills[cls])

    def setUp(self):
        super().setUp()
        type(self).count += 1

    def new_cluster(self):
        cluster = Cluster(self.storages, self.replicas, masters=self.masters, admin=True)
        self.clusters.append(cluster)
        cluster.wait_running()
        self.disturb(cluster)
        return cluster

    def disturb(self, cluster):
        ending = threading.Event()
        trouble = []

        def kill():
            number = 0
            try:
                while not ending.is_set():
                    if not poll(lambda: ending.is_set() or not incomplete(cluster), 60, .01):
                        raise ClusterError(incomplete(cluster))
                    if not ending.wait(self.pause if number else 0):
                        cluster.restart(self.victim(cluster, number))
                        number += 1
            except BaseException as error:
                trouble.append(error)
            self.kills[type(self)] += number

        thread = threading.Thread(target=kill)

        def end():
            ending.set()
            thread.join()
            if trouble:
                raise trouble[0]
        thread.start()
        self.addCleanup(end)
        self.end_disturbance = end

    def tearDown(self):
        # Before the folder is removed in which all this is.
        self.end_disturbance()
        self._close_clusters()
        super().tearDown()

    def begin_again(self):
        self._storage.close()
        self.end_disturbance()
        self.cluster.close()
        self.cluster = self.new_cluster()
        self.open()


class StorageIsKilled(Disturbed):

    def victim(self, cluster, number):
        return cluster.storages[number % 2]


class PrimaryIsKilled(Disturbed):

    masters = 3
    pause = 0.3                 # else what takes many commits would never end without one of them

    def victim(self, cluster, number):
        found = cluster.describe()
        name, = [info.name for info in found.nodes if info.id == found.primary]
        return next(daemon for daemon in cluster.master_daemons if daemon.name == name)


class Suites(StorageTestBase, BasicStorage.BasicStorage, HistoryStorage.HistoryStorage,
             RevisionStorage.RevisionStorage, PersistentStorage.PersistentStorage,
             IteratorStorage.IteratorStorage, Synchronization.SynchronizedStorage,
             ConflictResolution.ConflictResolvingStorage):

    use_extension_bytes = True
    __test__ = False
    # Their threads take an error that may be tried again for a failure, or wait for one that has
    # ended with it.
    test_tid_ordering_w_commit = None
    test_race_external_invalidate_vs_disconnect = None
    test_race_load_vs_external_invalidate = None
    test_race_loadopen_vs_local_invalidate = None
    test_checkCurrentSerialInTransaction = None


class TestStorageIsKilled(StorageIsKilled, Suites):
    __test__ = True


class TestPrimaryIsKilled(PrimaryIsKilled, Suites):
    __test__ = True
