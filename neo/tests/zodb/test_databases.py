"""ZODB's suites for databases and connections, on a DB of ours."""
import doctest
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import transaction
import ZODB
import ZODB.ConflictResolution
import ZODB.tests
import ZODB.tests.util
from ZODB.POSException import ConflictError
from ZODB.tests import (testCache, testConnection, testconflictresolution,
                        testcrossdatabasereferences, testDB, testmvcc, testThreadedShutdown,
                        testZODB)
from zope.testing import module, setupstack

from ..daemons import Cluster
from .base import ClusterTest, Replicated


# -- cases: their setUp makes a DB of their own, which is replaced by ours ------------------------
class DatabaseTest(ClusterTest):

    options = {}

    def setUp(self):
        super().setUp()
        if hasattr(self, 'db'):
            self.db.close()
        self._db = self.db = ZODB.DB(self._storage, **self.options)


class TestDB(DatabaseTest, testDB.DBTests):

    test_history_and_undo_meta_data_text_handlinf = None    # undo


class TestZODB(DatabaseTest, testZODB.ZODBTests):

    testMultipleUndoInOneTransaction = None                 # undo


class TestReplicatedZODB(Replicated, TestZODB):
    pass


class TestLRUCache(DatabaseTest, testCache.LRUCacheTests):

    options = {'cache_size': testCache.CacheTestBase.CACHE_SIZE}


class TestShutdown(DatabaseTest, testThreadedShutdown.ShutdownTest):
    pass


class TestCache(ClusterTest, testCache.DBMethods):

    def setUp(self):
        super().setUp()
        self.db.close()
        self.db = ZODB.DB(self._storage, cache_size=self.CACHE_SIZE)
        self.conns = []
        for _ in range(4):
            self.noodle_new_connection()


class TestEstimatedSize(ClusterTest, testConnection.EstimatedSizeTests):

    def setUp(self):
        super().setUp()
        self.db.close()
        self.db = ZODB.DB(self._storage)
        self.conn = self.db.open()
        self.obj = self.conn.root()['obj'] = testConnection._PlayPersistent()
        transaction.commit()


# -- texts: where they make a database, they get ours --------------------------------------------
REPLACED = [(re.compile(pattern, re.S), by) for pattern, by in (
    (r'databaseFromString\(\s*"<zodb>\\n<mappingstorage/>\\n</zodb>"\)', 'new_db()'),
    (r"ZODB\.DB\('\w+(\.fs)?'(, )?", 'new_db('),
    (r'ZODB\.tests\.util\.DB\(', 'new_db('),
    (r'ZODB\.MappingStorage\.DB\(', 'new_db('),
    (r'= (Storage|MinimalMemoryStorage|ZODB\.MappingStorage\.MappingStorage)\(\)',
     '= new_storage()'),
    (r'DB\(MinimalMemoryStorage\(\)', 'DB(new_storage()'),
    # The cluster has the real time.
    (r'(time\.(time|sleep)) = faux_', r'\1 = real_'),
    (r'_now % 1 ', 'time.time() % 1 '),
    (r'gmtime\(_now\)', 'gmtime(time.time())'),
    (r'(\w+)\.storage\.isCurrent\(', r'is_current(\1.storage, '),
)]
# From here on, they speak about a storage of their own.
CUT = 'Late invalidation\n---'
FILES = ('tests/dbopen.txt', 'tests/multidb.txt', 'tests/testConnectionSavepoint.txt',
         'cross-database-references.rst', 'historical_connections.rst')
OWN_STORAGE = {
    'doctest_readCurrent',          # overrides methods of the storage class
}


def texts():
    finder = doctest.DocTestFinder()
    for source in testmvcc, testConnection, testconflictresolution, testcrossdatabasereferences:
        for test in finder.find(source):
            name = test.name.rpartition('.')[2]
            if test.examples and name not in OWN_STORAGE:
                yield pytest.param(test.docstring, source, id=test.name.removeprefix('ZODB.tests.'))
    for name in FILES:
        path = Path(ZODB.__file__).parent / name
        source = testcrossdatabasereferences if path.stem.startswith('cross') else None
        yield pytest.param(path.read_text(), source, id=path.name)


@pytest.fixture
def globs(request):
    test = doctest.DocTest([], {}, '', None, None, '')
    clusters = []

    def new_storage():
        clusters.append(Cluster())
        return clusters[-1].client()

    def new_db(**options):
        return ZODB.DB(new_storage(), **options)

    def is_current(storage, oid, serial):
        return storage.getTid(oid) == serial

    ZODB.tests.util.setUp(test)
    module.setUp(test, 'text')
    ZODB.ConflictResolution._class_cache.clear()
    ZODB.ConflictResolution._unresolvable.clear()
    test.globs.update(new_storage=new_storage, new_db=new_db, is_current=is_current)
    yield test.globs
    module.tearDown(test)
    ZODB.tests.util.clear_transaction_syncs()
    setupstack.tearDown(test)
    for cluster in clusters:
        cluster.close()


@pytest.mark.parametrize('text, source', list(texts()))
def test_text(text, source, globs):
    text = text.partition(CUT)[0]
    for pattern, by in REPLACED:
        text = pattern.sub(by, text)
    if source is not None:
        globs.update({name: value for name, value in vars(source).items()
                      if not name.startswith('__')})
    test = doctest.DocTestParser().get_doctest(text, globs, 'text', 'text', 0)
    test.globs = globs                  # and no copy: classes are looked up there
    told = []
    runner = doctest.DocTestRunner(
        checker=ZODB.tests.util.checker,
        optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    runner.run(test, out=told.append, clear_globs=False)
    assert not runner.failures, ''.join(told)


# -- who opens it first ---------------------------------------------------------------------------
def test_many_open_an_empty_database_at_once():
    """One makes the root object; to the others ZODB says that they may try again."""
    with Cluster() as cluster, ThreadPoolExecutor(3) as pool:
        opening = [pool.submit(ZODB.DB, cluster.client(server_sync=True)) for _ in range(3)]
        errors = [future.exception(30) for future in opening]
        assert all(error is None or isinstance(error, ConflictError) for error in errors)
        assert None in errors
        again = ZODB.DB(cluster.client(server_sync=True))
        for db in [again, *(future.result() for future in opening if not future.exception())]:
            with db.transaction() as connection:
                connection.root()['count'] = connection.root().get('count', 0) + 1
        with again.transaction() as connection:
            assert connection.root()['count'] == 1 + errors.count(None)
