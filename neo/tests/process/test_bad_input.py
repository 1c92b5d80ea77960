"""What is wrong harms only who sends it: one clear line, and the cluster goes on."""
import random
import socket
import sqlite3
import struct
from contextlib import closing

import pytest
import ZODB

from ...protocol import limits
from ...protocol.codec import VERSIONS, encode, preamble
from ...protocol.packets import Identify, Load, Ping, Store, TakeTtids
from ...protocol.types import NodeKind
from ..daemons import Cluster, wait_for


@pytest.fixture(scope='module')
def cluster():
    with Cluster(storages=2, admin=True) as cluster:
        check_it_goes_on(cluster)
        yield cluster


def check_it_goes_on(cluster):
    db = ZODB.DB(cluster.client())
    with db.transaction() as connection:
        root = connection.root()
        root['count'] = root.get('count', 0) + 1
    db.close()
    for daemon in cluster.daemons:
        assert daemon.runs, daemon.log()
        assert 'Traceback' not in daemon.log()


def identify(**changes):
    fields = dict(kind=NodeKind.CLIENT, id=None, identity=bytes(16), cluster='test',
                  cluster_id=None, history=None, term=0, name='', address=None, clock=0.0,
                  topology='')
    fields.update(changes)
    return encode(Identify(**fields), 1)


BAD = {
    'text': b'GET / HTTP/1.0\r\n\r\n',
    'zeros': bytes(1000),
    'noise': random.Random(1).randbytes(100_000),
    'another version': preamble((VERSIONS[1] + 1, VERSIONS[1] + 2)),
    'a frame above the limit': preamble() + struct.pack('>I', limits.MAX_FRAME_UNIDENTIFIED + 1),
    'the longest frame': preamble() + b'\xff' * 4 + bytes(1000),
    'no packet': preamble() + struct.pack('>I', 10) + b'\xc1' * 10,
    'an unknown packet': preamble() + struct.pack('>I', 4) + b'\x92\xcd\x7f\x01',
    'noise after the preamble': preamble() + random.Random(2).randbytes(100_000),
    'somebody unidentified': preamble() + encode(Load(1, 2), 1),
    'an answer nobody asked for': preamble() + encode(Ping.Answer(), 7),
    'an unknown kind': preamble() + identify(kind=99),
    'another cluster': preamble() + identify(cluster='another'),
    'another cluster id': preamble() + identify(cluster_id=b'x' * 16),
    'a storage without an address': preamble() + identify(kind=NodeKind.STORAGE),
    'a client that stores at once':
        preamble() + identify() + encode(Store(1, (), ()), 2) + encode(TakeTtids(1 << 40), 3),
}


@pytest.mark.parametrize('target', ['master', 'storage1', 'admin'])
@pytest.mark.parametrize('bad', BAD)
def test_bytes(cluster, target, bad):
    daemon, = [daemon for daemon in cluster.daemons if daemon.name == target]
    host, _, port = daemon.address.partition(':')
    lines = daemon.log().count('\n')
    with socket.create_connection((host, int(port)), 10) as peer:
        peer.settimeout(10)
        try:
            peer.sendall(BAD[bad])
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(65536):
                pass
        except ConnectionError:
            pass
    # One line about it, beside that it has come and gone.
    assert daemon.log().count('\n') - lines <= 3, daemon.log()


def test_that_the_cluster_goes_on(cluster):
    check_it_goes_on(cluster)
    assert 'S3 has joined' not in cluster.master.log()


def test_many_connections_that_say_nothing(cluster):
    silent = [socket.create_connection(('127.0.0.1', int(daemon.address.partition(':')[2])))
              for daemon in cluster.daemons for _ in range(50)]
    check_it_goes_on(cluster)
    for peer in silent:
        peer.close()


# -- databases ------------------------------------------------------------------------------------
def start_storage(cluster, database):
    """What it says when it does not start."""
    number = len(cluster.others)
    process = cluster.daemon('neostorage', 'wrong%d' % number, '-d', database)
    cluster.others.append(process)
    process.start()
    status = process.wait(20)
    assert status not in (0, None) and status > 0, process.log()
    said = process.log().strip().splitlines()
    assert 'Traceback' not in process.log(), process.log()
    return said


def test_a_second_storage_on_the_same_database(cluster):
    said, = start_storage(cluster, cluster.databases[0])
    assert 'another process' in said
    check_it_goes_on(cluster)


def test_foreign_databases(cluster):
    other = cluster.directory / 'other.sqlite'
    with closing(sqlite3.connect(other)) as connection:
        connection.execute('CREATE TABLE mine (x)')
        connection.commit()
    before = other.read_bytes()
    said, = start_storage(cluster, other)
    assert 'not a database of NEO' in said
    text = cluster.directory / 'text'
    text.write_text('This is no database. ' * 100)
    said, = start_storage(cluster, text)
    assert 'not a database of NEO' in said
    assert other.read_bytes() == before
    assert text.read_text().startswith('This is')
    said, = start_storage(cluster, '/nowhere/at/all.sqlite')
    check_it_goes_on(cluster)


def test_the_database_of_another_cluster(cluster):
    with Cluster(name='another') as another:
        check_it_goes_on(another)
        assert set(another.stop().values()) == {0}
        before = another.databases[0].read_bytes()
        said = start_storage(cluster, another.databases[0])
        assert 'cluster' in said[-1] and len(said) <= 2
        assert another.databases[0].read_bytes() == before
    # The same name, but not the same cluster.
    with Cluster() as another:
        check_it_goes_on(another)
        assert set(another.stop().values()) == {0}
        said = start_storage(cluster, another.databases[0])
        assert 'cluster' in said[-1] and len(said) <= 3
        another.start()
        check_it_goes_on(another)
    check_it_goes_on(cluster)


@pytest.mark.parametrize('damage', ['header', 'middle', 'cut', 'empty'])
def test_a_corrupted_database(damage):
    """It is said which file it is; nothing is served from it, and nothing of it is lost."""
    with Cluster() as cluster:
        for _ in range(20):
            check_it_goes_on(cluster)
        assert set(cluster.terminate().values()) == {0}
        database = cluster.databases[0]
        whole = database.read_bytes()
        spoilt = {
            'header': b'x' * 100 + whole[100:],
            'middle': whole[:8192] + random.Random(3).randbytes(len(whole) - 8192),
            'cut': whole[:len(whole) // 2],
            'empty': b'',
        }[damage]
        database.write_bytes(spoilt)
        cluster.master.start()
        storage = cluster.storages[0].start()
        if damage == 'empty':
            # A storage that has forgotten everything is a new one; the cluster is not to be new.
            wait_for(lambda: 'no storage' not in cluster.master.log().splitlines()[-1],
                     'it has joined')
            storage.stop()
        else:
            assert storage.wait(20) == 1, storage.log()
            assert str(database) in storage.log().splitlines()[-1]
            assert database.read_bytes() == spoilt
        cluster.master.stop()
        database.unlink()
        database.write_bytes(whole)
        cluster.start()
        check_it_goes_on(cluster)
