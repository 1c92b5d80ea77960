"""ZODB's suites for storages, through the real client and real daemons."""
from ZODB.tests import (BasicStorage, ConflictResolution, HistoryStorage, IteratorStorage,
                        MTStorage, PersistentStorage, ReadOnlyStorage, RevisionStorage,
                        Synchronization)
from ZODB.tests.racetest import RaceTests
from ZODB.tests.StorageTestBase import StorageTestBase
from ZODB.tests.testMVCCMappingStorage import MVCCTests

from .base import ClusterTest, Replicated


class StorageTest(ClusterTest, StorageTestBase):
    pass


class TestBasic(StorageTest, BasicStorage.BasicStorage):

    test_race_external_invalidate_vs_disconnect = None      # below: it is long, and can run beside


class TestReconnections(StorageTest, RaceTests):

    test_race_loadopen_vs_local_invalidate = None           # above
    test_race_load_vs_external_invalidate = None


class TestReplicatedReconnections(Replicated, TestReconnections):
    pass


class TestReplicatedBasic(Replicated, TestBasic):
    pass


class TestConflictResolution(StorageTest, ConflictResolution.ConflictResolvingStorage):

    def testResolve(self):
        self.checkResolve()


class TestReplicatedConflictResolution(Replicated, TestConflictResolution):
    pass


class TestThreads(StorageTest, MTStorage.MTStorage):
    pass


class TestReplicatedThreads(Replicated, TestThreads):
    pass


class TestHistory(StorageTest, HistoryStorage.HistoryStorage, RevisionStorage.RevisionStorage,
                  PersistentStorage.PersistentStorage, IteratorStorage.IteratorStorage,
                  IteratorStorage.ExtendedIteratorStorage):

    use_extension_bytes = True


class TestReplicatedHistory(Replicated, TestHistory):
    pass


class TestStates(StorageTest, Synchronization.SynchronizedStorage,
                 ReadOnlyStorage.ReadOnlyStorage, MVCCTests):
    pass


class TestReplicatedStates(Replicated, TestStates):
    pass
