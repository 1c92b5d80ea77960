"""The daemons as an operator meets them: command lines, exit statuses, one line when it fails."""
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from neo.client.Storage import Storage
from neo.local.cluster import LocalCluster
from neo.local.ports import Port

from neo.storage.engine import open_engine

from ..daemons import wait_for

ROOT = Path(__file__).parents[3]
TIMEOUT = 60
DAEMONS = 'neomaster', 'neostorage', 'neoadmin'


def command(name, *arguments):
    return [sys.executable, '-m', 'neo.scripts.' + name, *map(str, arguments)]


def environment():
    return {**os.environ, 'PYTHONPATH': str(ROOT)}


@pytest.fixture
def run(tmp_path):
    """Run a command to its end, in a folder of the test."""
    def run(name, *arguments):
        return subprocess.run(command(name, *arguments), cwd=tmp_path, capture_output=True,
                              text=True, timeout=TIMEOUT, env=environment(),
                              stdin=subprocess.DEVNULL)
    return run


@pytest.fixture
def free():
    """Addresses where nobody listens."""
    ports = []

    def free():
        ports.append(Port())
        return str(ports[-1])
    yield free
    for port in ports:
        port.close()


@contextmanager
def running(tmp_path, name, *arguments):
    """A daemon, once it has said something."""
    process = subprocess.Popen(command(name, *arguments), cwd=tmp_path, text=True,
                               stderr=subprocess.PIPE, env=environment())
    try:
        process.first_line = process.stderr.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def one_line(done, name):
    """It failed, and says why in one line."""
    assert done.returncode not in (0, None) and done.stdout == ''
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert name in lines[0]
    return lines[0]


# -- what is refused --------------------------------------------------------------------------
@pytest.mark.parametrize('name', DAEMONS)
def test_bad_options(run, name, tmp_path):
    assert one_line(run(name, '--nonsense'), name).startswith(name + ': unrecognized')
    assert 'cluster is missing' in one_line(run(name), name)
    (tmp_path / 'x.conf').write_text('[DEFAULT]\nclutser = test\n')
    assert one_line(run(name, '-f', 'x.conf'), name) == (
        "%s: x.conf: [DEFAULT] has the unknown key 'clutser'" % name)
    assert one_line(run(name, '-f', 'none.conf'), name) == (
        '%s: none.conf: No such file or directory' % name)
    assert os.listdir(tmp_path) == ['x.conf']


@pytest.mark.parametrize('name', DAEMONS)
def test_a_port_in_use_changes_nothing(run, name, tmp_path):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        address = '127.0.0.1:%d' % taken.getsockname()[1]
        assert one_line(run(name, '-c', 'test', '-b', address), name) == (
            '%s: cannot listen at %s: Address already in use' % (name, address))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('name', DAEMONS)
def test_a_log_that_can_not_be_written(run, name):
    assert one_line(run(name, '-c', 'test', '-l', 'no/where/x.log'), name) == (
        '%s: no/where/x.log: No such file or directory' % name)


@pytest.mark.parametrize('name', DAEMONS)
def test_check_config(run, name, tmp_path):
    done = run(name, '-f', ROOT / 'neo.conf', '--check-config')
    assert (done.returncode, done.stderr) == (0, '')
    # Somebody may use the ports of the example.
    assert done.stdout.startswith('%s: the configuration is valid' % name)
    assert '--masters: ' in one_line(
        run(name, '-f', ROOT / 'neo.conf', '-m', 'nobody.invalid:1', '--check-config'), name)
    assert os.listdir(tmp_path) == []


def test_databases_that_are_not_ours(run, tmp_path):
    foreign = tmp_path / 'foreign.sqlite'
    connection = sqlite3.connect(foreign)
    connection.execute('CREATE TABLE x (y)')
    connection.commit()
    connection.close()
    (tmp_path / 'text').write_text('hello ' * 100)
    for name in 'foreign.sqlite', 'text':
        before = (tmp_path / name).read_bytes()
        for more in (), ('--reset',):
            line = one_line(run('neostorage', '-c', 'test', '-d', name, *more), 'neostorage')
            assert str(tmp_path / name) in line
            assert (tmp_path / name).read_bytes() == before
    line = one_line(run('neostorage', '-c', 'test', '-d', 'no/where'), 'neostorage')
    assert 'no folder' in line


def test_a_database_in_use(run, tmp_path, free):
    storage = ['-m', free(), '-d', 'a.sqlite']
    with running(tmp_path, 'neostorage', '-c', 'one', *storage):
        line = one_line(run('neostorage', '-c', 'one', *storage), 'neostorage')
        assert 'is used by another process' in line
        assert 'is used by another process' in one_line(
            run('neostorage', '-c', 'one', *storage, '--reset'), 'neostorage')


def test_reset(run, tmp_path):
    with running(tmp_path, 'neostorage', '-c', 'one') as process:
        process.terminate()
        assert process.wait(TIMEOUT) == 0
    assert (tmp_path / 'one-storage.sqlite').exists()
    assert run('neostorage', '-c', 'one', '--reset', '--check-config').returncode == 0
    assert (tmp_path / 'one-storage.sqlite').exists()
    assert run('neostorage', '-c', 'one', '--reset').returncode == 0
    assert os.listdir(tmp_path) == []


# -- how they end -----------------------------------------------------------------------------
@pytest.mark.parametrize('name', DAEMONS)
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_cleanly(tmp_path, name, number, free):
    with running(tmp_path, name, '-c', 'test', '-b', free(), '-m', free()) as process:
        assert process.first_line
        process.send_signal(number)
        assert process.wait(TIMEOUT) == 0


def test_a_log_file_leaves_stderr_alone(tmp_path, free):
    with subprocess.Popen(
            command('neoadmin', '-c', 'test', '-b', free(), '-m', free(), '-l', 'a.log'),
            cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        log = tmp_path / 'a.log'
        wait_for(lambda: log.exists() and 'no primary master' in log.read_text(), 'a line')
        process.terminate()
        assert process.communicate(timeout=TIMEOUT) == (None, '')
        assert process.returncode == 0


# -- a whole cluster --------------------------------------------------------------------------
@pytest.fixture
def cluster(tmp_path):
    with LocalCluster(tmp_path / 'cluster', storages=2, replicas=1, partitions=4) as cluster:
        yield cluster


@pytest.fixture
def ctl(run, cluster):
    def ctl(*arguments):
        done = run('neoctl', '-a', cluster.admin_port, *arguments)
        return done.stdout if done.returncode == 0 else one_line(done, 'neoctl')
    return ctl


def test_neoctl(cluster, ctl):
    assert ctl('print', 'cluster') == 'RUNNING\n'
    assert json.loads(ctl('print', 'cluster', '--json')) == {'state': 'RUNNING', 'reason': ''}
    assert ctl('print', 'primary') == 'M1\n'
    assert re.fullmatch(r'# ptid: \d+, replicas: 1\nS1 R UUUU\nS2 R UUUU\n', ctl('print', 'pt'))
    nodes = [line.split(' | ') for line in ctl('print', 'node').splitlines()]
    assert [(node[0], node[1].strip(), node[3].strip()) for node in nodes] == [
        ('A1', 'admin', 'RUNNING'), ('M1', 'master', 'RUNNING'),
        ('S1', 'storage', 'RUNNING'), ('S2', 'storage', 'RUNNING')]
    assert {node[4] for node in nodes[2:]} == {'storage1', 'storage2'}
    assert re.search('cluster_id = [0-9a-f]{32}\n', ctl('print', 'ids'))
    assert 'state      RUNNING\n' in ctl('print', 'summary')
    assert 'running already' in ctl('start')
    assert ctl('set', 'cluster', 'VERIFYING').startswith('neoctl: the state of the cluster')
    assert ctl('stop') == 'the cluster has stopped\n'
    # The master and the admin leave when the others have.
    for daemon in cluster.daemons:
        assert daemon.wait(TIMEOUT) == 0, daemon.tail()


def test_a_stopped_cluster_can_be_started_at_once(cluster, ctl):
    """When `neoctl stop` returns, nobody listens or keeps a database any more."""
    for _ in range(3):
        assert ctl('stop') == 'the cluster has stopped\n'
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((cluster.port.host, cluster.port.number))
        for database in cluster.databases:
            open_engine('SQLite', str(database)).close()
        for daemon in cluster.daemons:
            assert daemon.wait() == 0, daemon.log()
        cluster.start()
        cluster.wait_running()


def test_a_lost_storage_is_left_behind_and_catches_up(cluster, ctl):
    cluster.kill(cluster.storages[1])
    # It is told by what it was called, and where it was.
    wait_for(lambda: re.search(r'S\d +\| storage +\| 127.0.0.1:\d+ +\| DOWN +\| storage2',
                               ctl('print', 'node')), 'it is missed')
    assert ctl('print', 'cluster') == 'RUNNING\n' and 'D OOOO\n' in ctl('print', 'pt')
    cluster.start()
    wait_for(lambda: ctl('print', 'pt').count('R UUUU\n') == 2, 'it is up to date')


def test_the_last_copy_is_named_and_awaited(cluster, ctl):
    cluster.kill(*cluster.storages)
    waiting = wait_for(lambda: re.fullmatch(
        r'RECOVERING, waiting for (S\d) \(storage\d, (127.0.0.1:\d+)\).*, since .* UTC',
        cluster.why_not_running() or ''), 'it waits')
    assert ctl('print', 'cluster') == 'RECOVERING\n'
    assert re.search(r'%s +\| storage +\| %s +\| DOWN +\| storage\d' % waiting.groups(),
                     ctl('print', 'node'))
    cluster.start()
    cluster.wait_running()


def test_who_clients_are(cluster, ctl):
    """Their process, and from where they have called."""
    storage = Storage(master_nodes=cluster.masters, name=cluster.name)
    try:
        assert re.fullmatch(r'C1 +\| client \| 127\.0\.0\.1:\d+ \| RUNNING \| pid %d at \S+\n'
                            % os.getpid(), ctl('print', 'node', 'client'))
    finally:
        storage.close()


def test_a_lost_master_is_named_and_awaited(cluster, ctl):
    cluster.kill(cluster.master)
    wait_for(lambda: cluster.describe().primary is None, 'the admin knows')
    for arguments in ('print', 'cluster'), ('print', 'node'), ('start',):
        assert ctl(*arguments).startswith(
            'neoctl: no primary master at %s: ' % cluster.masters)
    cluster.start()
    cluster.wait_running()


def test_all_killed_and_started_again(cluster):
    cluster.restart()
    cluster.wait_running()
    cluster.stop()
    assert not any(daemon.runs for daemon in cluster.daemons)
    cluster.start()
    cluster.wait_running()


def test_a_new_cluster_waits_for_the_operator(tmp_path, run):
    cluster = LocalCluster(tmp_path / 'cluster', storages=1, autostart=False)
    try:
        cluster.start()
        cluster.admin.wait_up()
        wait_for(lambda: '`neoctl start`' in (cluster.why_not_running() or ''), 'it waits')
        address = cluster.admin_port
        line = one_line(run('neoctl', '-a', address, 'print', 'pt'), 'neoctl')
        assert 'no partition table yet' in line and 'RECOVERING' in line
        done = run('neoctl', '-a', address, 'start')
        assert (done.returncode, done.stderr) == (0, '')
        assert cluster.why_not_running() is None
    finally:
        cluster.close()


def test_a_database_of_another_cluster(cluster, run):
    cluster.stop()
    database = cluster.databases[0]
    before = database.read_bytes()
    line = one_line(run('neostorage', '-c', 'two', '-d', database), 'neostorage')
    assert 'test' in line and 'two' in line
    assert database.read_bytes() == before


def test_a_storage_of_another_cluster_leaves(cluster, run):
    other = run('neostorage', '-c', 'other', '-m', cluster.masters, '-d', 'other.sqlite')
    assert other.returncode == 1
    assert 'cluster test, not of other' in other.stderr
    assert cluster.why_not_running() is None


@pytest.mark.parametrize('garbage', [b'GET / HTTP/1.0\r\n\r\n', bytes(100), b'NEO\x8a\0\1\0\1\xff'])
def test_garbage_closes_its_connection_only(cluster, garbage):
    for port in cluster.port, cluster.admin_port:
        with socket.create_connection((port.host, port.number), timeout=TIMEOUT) as connection:
            connection.sendall(garbage + bytes(8))
            while connection.recv(4096):
                pass
    assert cluster.why_not_running() is None
