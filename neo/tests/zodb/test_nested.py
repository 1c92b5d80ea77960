"""The storage in ZConfig files, alone and within others."""
import pytest
import transaction
import ZODB.config
from BTrees.Length import Length
from ZODB.utils import z64

from ..daemons import Cluster

NEO = '''
    <NEOStorage>
        master_nodes %(masters)s
        name %(name)s
        server-sync true
    </NEOStorage>'''
ZLIB = '''
    <zlibstorage>%s
    </zlibstorage>'''
DEMO = '''
    <demostorage>%s
    </demostorage>'''
IMPORT = '''
%%import neo.client
%%import zc.zlibstorage
'''
NESTED = {
    'alone': NEO,
    'zlib': ZLIB % NEO,
    'demo': DEMO % NEO,
    'demo over zlib': DEMO % (ZLIB % NEO),
    'zlib over demo': ZLIB % (DEMO % NEO),
}


@pytest.fixture
def cluster():
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def open_db(cluster):
    dbs = []

    def open_db(text):
        text = (IMPORT + '<zodb main>' + text + '\n</zodb>\n') % vars(cluster)
        dbs.append(ZODB.config.databaseFromString(text))
        return dbs[-1]

    yield open_db
    for db in dbs:
        db.close()


@pytest.mark.parametrize('kind', NESTED)
def test_commits_and_conflicts(open_db, kind):
    db = open_db(NESTED[kind])
    with db.transaction() as connection:
        connection.root()['length'] = Length()
        connection.root()['text'] = 'x' * 10000
    managers = [transaction.TransactionManager() for _ in range(2)]
    lengths = [db.open(tm).root()['length'] for tm in managers]
    for tm, length in zip(managers, lengths):
        length.change(1)
    for tm in managers:
        tm.commit()                     # the second one is resolved
    assert lengths[1]() == 2
    with db.transaction() as connection:
        assert connection.root()['length']() == 2
        assert connection.root()['text'] == 'x' * 10000


@pytest.mark.parametrize('kind', ['alone', 'zlib'])
def test_a_demo_leaves_what_is_below(open_db, kind):
    below = open_db(NESTED[kind])
    with below.transaction() as connection:
        connection.root()['length'] = Length(5)
    demo = open_db(DEMO % NESTED[kind])
    with demo.transaction() as connection:
        connection.root()['length'].change(1)
        connection.root()['more'] = Length(1)
    with demo.transaction() as connection:
        assert connection.root()['length']() == 6
    with below.transaction() as connection:
        assert connection.root()['length']() == 5
        assert 'more' not in connection.root()


def test_zlib_below_is_compressed(open_db):
    db = open_db(NESTED['zlib'])
    with db.transaction() as connection:
        connection.root()['text'] = 'x' * 10000
    below = db.storage.base
    below.sync()
    data = below.loadBefore(z64, b'\x7f' + b'\xff' * 7)[0]
    assert data.startswith(b'.z') and len(data) < 1000


def test_conflicts_of_two_processes_through_zlib(open_db):
    """Each DB has a client of its own: the resolved data go through zlib too."""
    dbs = [open_db(NESTED['zlib']) for _ in range(2)]
    with dbs[0].transaction() as connection:
        connection.root()['length'] = Length()
    dbs[1].storage.sync()
    managers = [transaction.TransactionManager() for _ in dbs]
    lengths = [db.open(tm).root()['length'] for db, tm in zip(dbs, managers)]
    for length in lengths:
        length.change(1)
    for tm in managers:
        tm.commit()
    dbs[0].storage.sync()
    with dbs[0].transaction() as connection:
        assert connection.root()['length']() == 2


OPTIONS = '''
    <NEOStorage>
        master_nodes %(masters)s
        name %(name)s
        compress zlib=9
        cache-size 1MB
        read-only true
    </NEOStorage>'''


def test_options(open_db):
    with open_db(NEO).transaction() as connection:
        connection.root()['length'] = Length(1)
    db = open_db(OPTIONS)
    assert db.storage.isReadOnly()
    connection = db.open()
    assert connection.root()['length']() == 1
    connection.close()


@pytest.mark.parametrize('line', ['compress often', 'cache-size many', 'unknown 1'])
def test_wrong_options(open_db, line):
    with pytest.raises(Exception) as caught:
        open_db(OPTIONS.replace('read-only true', line))
    assert line.split()[0] in str(caught.value) or line.split()[1] in str(caught.value)
