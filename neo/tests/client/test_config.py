"""What users write, as far as it needs no cluster."""
import socket

import pytest
import ZODB.config
from ZConfig import ConfigurationError
from ZODB.interfaces import IMultiCommitStorage, IStorage
from zope.interface.verify import verifyClass

from ...client.exception import ClusterUnavailable, NEOStorageError
from ...client.Storage import Storage


@pytest.fixture
def nobody():
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        yield '127.0.0.1:%d' % taken.getsockname()[1]


def configured(text, around='%s'):
    section = '<NEOStorage>\n%s\n</NEOStorage>' % text
    return ZODB.config.storageFromString('%import neo.client\n' + around % section)


def test_all_keys(nobody, tmp_path):
    storage = configured('''
        master_nodes %s
        name test
        compress zlib=3
        cache-size 5MB
        read-only true
        logfile %s
        wait no
        wait-timeout 2s
        server-sync on
        ''' % (nobody, tmp_path / 'log'))
    assert storage.getName() == 'test'              # its id is not known
    assert storage.isReadOnly() and not storage.supportsUndo() and storage
    assert storage.cache_statistics()['max_bytes'] == 5 << 20
    assert storage._access.core.wait_timeout == 2 and storage._server_sync
    storage.close()
    storage.close()


def test_nested(nobody):
    with pytest.raises(ClusterUnavailable, match='test'):
        configured('master_nodes %s\nname test\nwait-timeout 1s' % nobody,
                   '<demostorage>\n%s\n</demostorage>')


@pytest.mark.parametrize('text', [
    'name test', 'master_nodes 127.0.0.1:1', 'master_nodes 127.0.0.1:1\nname test\ncompress gzip',
    'master_nodes 127.0.0.1:1\nname test\ncolour red', 'master_nodes nowhere\nname test'])
def test_bad_configuration(text):
    with pytest.raises(ConfigurationError):
        configured(text)


@pytest.mark.parametrize('options, error', [
    (dict(colour='red'), TypeError),
    (dict(ca='ca.pem'), NEOStorageError),
    (dict(blob_dir='blobs'), NEOStorageError),
    (dict(master_nodes='127.0.0.1:1 127.0.0.1:2'), NEOStorageError),
    (dict(master_nodes='nowhere'), ValueError), (dict(name=''), ValueError),
    (dict(name='n' * 256), ValueError), (dict(wait_timeout=-1), ValueError),
    (dict(wait_timeout=float('nan')), ValueError), (dict(cache_size=-1), ValueError),
    (dict(compress='gzip'), ValueError)])
def test_refused_options(options, error):
    with pytest.raises(error):
        Storage(**{'master_nodes': '127.0.0.1:1', 'name': 'test', **options})


def test_unset_options_of_later_versions(nobody):
    Storage(nobody, 'test', wait=False, ca=None, shared_blob_dir=False).close()


def test_interfaces():
    assert verifyClass(IStorage, Storage) and IMultiCommitStorage.implementedBy(Storage)


def test_use_after_close(nobody):
    storage = Storage(nobody, 'test', wait=False)
    storage.close()
    with pytest.raises(NEOStorageError):
        storage.loadBefore(bytes(8), b'\x7f' * 8)
