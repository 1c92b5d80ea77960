"""The command neomigrate, with real clusters."""
import os
import shutil
import signal
import subprocess
import sys

import pytest
import ZODB
from ZODB.FileStorage import FileStorage
from ZODB.utils import u64

from ...client.Storage import Storage
from ...local.cluster import LocalCluster
from ..daemons import wait_for
from . import databases

LIMIT = 120         # seconds that nothing here should take
POLL = 0.01


def command(*arguments):
    return subprocess.Popen(
        [sys.executable, '-m', 'neo.scripts.neomigrate', *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)


def ended(process):
    """(status, output, errors)"""
    try:
        output, errors = process.communicate(timeout=LIMIT)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    return process.returncode, output, errors


def neomigrate(*arguments):
    return ended(command(*arguments))


def into(cluster, source, *more):
    return '-s', source, '-d', cluster.masters, '-c', cluster.name, *more


def open_storage(cluster):
    return Storage(master_nodes=cluster.masters, name=cluster.name)


def past(storage):
    """Everything, by transaction."""
    found = [(t.tid, t.status, t.user, t.description, t.extension_bytes, t.extension,
              {r.oid: (r.tid, r.data, r.data_txn) for r in t}) for t in storage.iterator()]
    storage.close()
    return found


def past_of_file(path):
    return past(FileStorage(str(path), read_only=True))


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Made once; nobody changes them."""
    folder = tmp_path_factory.mktemp('sources')
    databases.many_objects(str(folder / 'many.fs'), 20_000, 50)
    databases.odd_history(str(folder / 'odd.fs'))
    databases.packed(str(folder / 'packed.fs'))
    return folder


@pytest.fixture
def cluster(tmp_path):
    with LocalCluster(tmp_path / 'cluster', storages=1) as cluster:
        yield cluster


@pytest.mark.parametrize('name', ['many', 'odd', 'packed'])
def test_everything(files, tmp_path, name):
    source = files / (name + '.fs')
    with LocalCluster(tmp_path / 'cluster', storages=2, replicas=1) as cluster:
        status, output, errors = neomigrate(*into(cluster, source, '--verify'))
        assert status == 0, errors
        expected = past_of_file(source)
        assert past(open_storage(cluster)) == expected
        assert 'has all %d transactions' % len(expected) in output
        assert 'copying  100.0%' in errors and 'verifying  100.0%' in errors
        assert 'checking' not in errors
        use(cluster, max(u64(oid) for *_, records in expected for oid in records))
        # It has been used since: it is not a part of the source any more.
        status, output, errors = neomigrate(*into(cluster, source))
        assert status == 1
        assert 'another history' in errors


def use(cluster, last_oid):
    """An application opens it, reads all of it, and changes it."""
    storage = open_storage(cluster)
    assert u64(storage.new_oid()) > last_oid
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        root = connection.root()
        for value in list(root.values()):
            dict(value)
        root['new'] = 'value'
    db.close()
    db = ZODB.DB(open_storage(cluster))
    with db.transaction() as connection:
        assert connection.root()['new'] == 'value'
    db.close()


def test_into_two_storages_without_replicas(files, tmp_path):
    with LocalCluster(tmp_path / 'cluster', storages=2) as cluster:
        status, output, errors = neomigrate(*into(cluster, files / 'many.fs', '--verify'))
        assert status == 0, errors
        status, output, errors = neomigrate(*into(cluster, files / 'many.fs'))
        assert status == 0, errors
        assert 'comparing  100.0%' in errors and 'Not compared' not in output
        status, output, errors = neomigrate(*into(cluster, files / 'many.fs', '--quick'))
        assert status == 0 and 'Not compared' not in output, errors     # not even 1000 are there


def wait_for_progress(cluster, process):
    """Until a part of it is there."""
    storage = open_storage(cluster)
    try:
        wait_for(lambda: u64(storage.lastTransaction()), 'something was copied', LIMIT, POLL)
        assert process.poll() is None, process.stderr.read()
    finally:
        storage.close()


def test_interrupted_and_resumed(files, cluster):
    source = files / 'many.fs'
    process = command(*into(cluster, source))
    wait_for_progress(cluster, process)
    process.send_signal(signal.SIGINT)
    status, output, errors = ended(process)
    assert status == 130
    assert 'interrupted' in errors and 'goes on from there' in errors
    expected = past_of_file(source)
    there = past(open_storage(cluster))
    assert 0 < len(there) < len(expected) and there == expected[:len(there)]
    assert '%#018x' % u64(there[-1][0]) in errors
    status, output, errors = neomigrate(*into(cluster, source, '--quick'))
    assert status == 0, errors
    assert past(open_storage(cluster)) == expected


def test_killed_and_resumed(files, cluster):
    source = files / 'many.fs'
    process = command(*into(cluster, source))
    wait_for_progress(cluster, process)
    process.kill()
    ended(process)
    status, output, errors = neomigrate(*into(cluster, source))
    assert status == 0, errors
    assert past(open_storage(cluster)) == past_of_file(source)


@pytest.mark.parametrize('name', ['storage1', 'master'])
def test_cluster_killed_meanwhile(files, cluster, name):
    """It waits for the cluster, and goes on."""
    source = files / 'many.fs'
    process = command(*into(cluster, source))
    wait_for_progress(cluster, process)
    cluster.restart(*[daemon for daemon in cluster.daemons if daemon.name == name])
    status, output, errors = ended(process)
    assert status == 0, errors
    assert past(open_storage(cluster)) == past_of_file(source)


def test_what_is_read_back(files, cluster):
    status, output, errors = neomigrate(*into(cluster, files / 'packed.fs'))
    assert status == 0 and 'checking  100.0%' in errors and 'Not compared' not in output, errors


def test_what_is_not_read_back(files, cluster):
    status, output, errors = neomigrate(*into(cluster, files / 'packed.fs', '--no-check'))
    count = len(past_of_file(files / 'packed.fs'))
    assert status == 0 and 'checking' not in errors, errors
    assert output.endswith('. Not compared: the last %d\n' % count)


def test_an_object_that_is_twice_in_a_transaction(cluster, tmp_path):
    """What can't be kept is said, again when everything is compared."""
    source = str(tmp_path / 'twice.fs')
    databases.stored_twice(source)
    for more in (), ('--verify',):
        status, output, errors = neomigrate(*into(cluster, source, *more))
        assert status == 0, errors
        assert 'has 1 objects more than once in one transaction' in errors
    kept = [records for *_, records in past(open_storage(cluster))]
    assert [[data for _, data, _ in records.values()] for records in kept] == [
        [b'zero'], [b'second'], [b'third'], [b'first']]


def test_another_history(files, cluster):
    assert neomigrate(*into(cluster, files / 'packed.fs'))[0] == 0
    before = past(open_storage(cluster))
    status, output, errors = neomigrate(*into(cluster, files / 'odd.fs'))
    assert status == 1
    assert 'holds another history: %#018x' % u64(past_of_file(files / 'odd.fs')[0][0]) in errors
    assert len(errors.splitlines()) == 1
    assert past(open_storage(cluster)) == before


def test_more_later(files, cluster, tmp_path):
    """A source that has grown since."""
    source = str(tmp_path / 'growing.fs')
    shutil.copy(files / 'packed.fs', source)
    assert neomigrate(*into(cluster, source))[0] == 0
    databases.append(source, 5)
    status, output, errors = neomigrate(*into(cluster, source, '--verify'))
    assert status == 0, errors
    assert past(open_storage(cluster)) == past_of_file(source)


def test_out_of_the_cluster(files, cluster, tmp_path):
    """And into a file, where the history is the same."""
    assert neomigrate(*into(cluster, files / 'odd.fs'))[0] == 0
    copy = tmp_path / 'copy.fs'
    status, output, errors = neomigrate('-s', cluster.masters, '-d', copy, '-c', cluster.name,
                                        '--verify')
    assert status == 0, errors
    expected = past_of_file(files / 'odd.fs')
    assert past_of_file(copy) == expected
    assert 'copying  100.0%%  %d of %d transactions' % (len(expected), len(expected)) in errors
    status, output, errors = neomigrate('-s', cluster.masters, '-d', copy, '-c', cluster.name)
    assert status == 0, errors


def test_zconfig(files, cluster, tmp_path):
    """Any storage that ZODB can open, by the URI of its configuration."""
    config = tmp_path / 'storage.conf'
    config.write_text('<filestorage>\n path %s\n read-only true\n</filestorage>\n'
                      % (files / 'packed.fs'))
    status, output, errors = neomigrate(*into(cluster, 'zconfig:%s' % config, '--verify'))
    assert status == 0, errors
    assert past(open_storage(cluster)) == past_of_file(files / 'packed.fs')


def test_ids_that_no_cluster_could_go_on_from(tmp_path):
    """They are refused before the cluster is looked for, which is not there."""
    source = tmp_path / 'future.fs'
    databases.with_ids(str(source), (1 << 63) - 5)
    status, output, errors = neomigrate('-s', source, '-d', 'b:2', '-c', 'test')
    assert (status, output) == (1, '')
    assert errors.startswith('neomigrate: %s has transaction 0x7ffffffffffffffb, of ' % source)
    assert errors.endswith('Nothing was changed\n') and errors.count('\n') == 1


@pytest.mark.parametrize('arguments, line', [
    (['-s', 'a.fs', '-d', 'b.fs', '-c', 'test'], 'neither a.fs nor b.fs is a list of masters'),
    (['-s', 'a:1', '-d', 'b:2', '-c', 'test'], 'two clusters are given'),
    (['-s', 'a.fs', '-d', 'b:2', '-c', 'test'], 'a.fs: No such file or directory'),
    (['-s', os.path.dirname(__file__), '-d', 'b:2', '-c', 'test'], 'Is a directory'),
    (['-s', __file__, '-d', 'b:2', '-c', 'test'], 'is not the file of a FileStorage'),
    (['-s', 'else://where', '-d', 'b:2', '-c', 'test'], 'else'),
    (['-s', 'zconfig:no/such/file', '-d', 'b:2', '-c', 'test'],
     "neomigrate: zconfig:no/such/file can't be opened: "),
    (['-s', 'zconfig:' + __file__, '-d', 'b:2', '-c', 'test'], "can't be opened: "),
    (['-s', 'a.fs', '-d', 'b:2'], 'required: -c/--cluster'),
])
def test_refused(arguments, line):
    status, output, errors = neomigrate(*arguments)
    assert status in (1, 2)
    assert line in errors
    assert len(errors.splitlines()) == 1
