"""neosimple: what it starts it stops, however it ends."""
import os
import re
import signal
import socket
import subprocess
import sys

import pytest

from ...local.cluster import LocalCluster
from ...local.ports import preferred
from ...scripts import neosimple
from ..daemons import wait_for
from .test_daemons import ROOT, TIMEOUT, command, environment

CHILD = re.compile(r'neo\.local\.child')


def children_in(directory):
    """Pids of daemons that work in `directory`."""
    found = []
    for pid in filter(str.isdecimal, os.listdir('/proc')):
        try:
            with open('/proc/%s/cmdline' % pid, 'rb') as file:
                line = file.read().replace(b'\0', b' ').decode(errors='replace')
            folder = os.readlink('/proc/%s/cwd' % pid)
        except OSError:
            continue
        if CHILD.search(line) and folder.startswith(str(directory)):
            found.append(int(pid))
    return found


def run(*arguments):
    return subprocess.run(command('neosimple', *arguments), capture_output=True, text=True,
                          timeout=TIMEOUT, env=environment(), stdin=subprocess.DEVNULL)


@pytest.fixture
def simple(tmp_path):
    process = subprocess.Popen(
        command('neosimple', '--dir', tmp_path / 'd', '--storages', 1), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environment())
    try:
        lines = []
        while not (lines and lines[-1].startswith('Ctrl-C')):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        process.said = ''.join(lines)
        yield process
    finally:
        process.kill()
        process.communicate()
        wait_for(lambda: not children_in(tmp_path), 'no child is left')


def test_it_says_how_to_connect(simple):
    assert '1 master, 1 storage with 0 replicas, 1 admin' in simple.said
    assert re.search(r'Storage\(master_nodes="127\.0\.0\.1:\d+", name="test"\)', simple.said)
    assert re.search(r'neoctl -a 127\.0\.0\.1:\d+ print summary', simple.said)


def pasted(line, given=''):
    """What a shell says to it, somewhere else and without what made it work here."""
    bare = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
    return subprocess.run(line, shell=True, cwd='/', env=bare, input=given, text=True,
                          capture_output=True, timeout=TIMEOUT)


def test_what_it_says_works_when_it_is_pasted(simple):
    lines = [line.strip() for line in simple.said.splitlines() if line.startswith('    ')]
    python, neoctl = lines
    done = pasted(python, 'root["x"] = 1; transaction.commit(); print(root["x"])\n')
    assert done.stdout == '1\n', done.stderr
    done = pasted(neoctl)
    assert (done.returncode, done.stderr) == (0, '') and 'RUNNING' in done.stdout


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_cleanly(simple, number, tmp_path):
    assert len(children_in(tmp_path)) == 3
    simple.send_signal(number)
    out, err = simple.communicate(timeout=TIMEOUT)
    assert (simple.returncode, err) == (0, '')
    assert not children_in(tmp_path)
    assert (tmp_path / 'd' / 'storage1.sqlite').exists()


def test_nothing_is_left_when_it_is_killed(simple, tmp_path):
    simple.kill()
    simple.wait()
    wait_for(lambda: not children_in(tmp_path), 'no child is left')


def pids(directory, command):
    return [pid for pid in children_in(directory)
            if command in open('/proc/%d/cmdline' % pid).read()]


@pytest.mark.parametrize('command', ['neomaster', 'neostorage', 'neoadmin'])
def test_a_daemon_that_is_killed_is_started_again(simple, tmp_path, command):
    pid, = pids(tmp_path, command)
    os.kill(pid, signal.SIGKILL)
    line = simple.stderr.readline()
    assert re.fullmatch(r'neosimple: \w+ has ended by SIGKILL, and is started again\n', line)
    neoctl = [line.strip() for line in simple.said.splitlines() if line.startswith('    ')][1]
    wait_for(lambda: 'RUNNING\n' in pasted(neoctl).stdout, 'it runs again')
    assert pids(tmp_path, command) != [pid]
    simple.send_signal(signal.SIGINT)
    assert simple.communicate(timeout=TIMEOUT)[1] == ''
    assert simple.returncode == 0


def test_it_ends_with_the_cluster(simple, tmp_path):
    """An operator stops it."""
    neoctl = [line.strip() for line in simple.said.splitlines() if line.startswith('    ')][1]
    assert pasted(neoctl.replace('print summary', 'stop')).returncode == 0
    out, err = simple.communicate(timeout=TIMEOUT)
    assert (simple.returncode, out, err) == (0, 'The cluster has been stopped.\n', '')


def test_a_daemon_that_dies_again_and_again_is_reported(simple, tmp_path):
    database = tmp_path / 'd' / 'storage1.sqlite'
    pid, = pids(tmp_path, 'neostorage')
    os.kill(pid, signal.SIGSTOP)
    for suffix in '', '-wal':
        with open(str(database) + suffix, 'r+b') as file:
            file.write(bytes(1000))
    os.kill(pid, signal.SIGKILL)
    out, err = simple.communicate(timeout=TIMEOUT)
    assert simple.returncode == 1
    assert 'storage1 has ended 5 times within a minute, the last time with status 1:' in err
    assert not children_in(tmp_path)


# -- ports --------------------------------------------------------------------------------------
@pytest.fixture
def foreign(tmp_path):
    """Somebody else's cluster of the same name."""
    with LocalCluster(tmp_path / 'foreign', storages=1) as cluster:
        yield cluster


@pytest.mark.parametrize('option', ['--port', '--admin-port'])
def test_it_joins_no_other_cluster(foreign, tmp_path, option):
    port = foreign.port if option == '--port' else foreign.admin_port
    done = run('--storages', 1, '--dir', tmp_path / 'd', option, port.number)
    assert done.returncode == 1
    assert '%s: Address already in use' % port in done.stderr
    found = foreign.describe()
    assert [info.id for info in found.nodes] == ['A1', 'M1', 'S1']      # nobody else has come


def test_ports_by_default(tmp_path):
    """Those that all look for, if they are free: nobody here needs them otherwise."""
    options = neosimple.parse([])
    cluster = neosimple.make(options, tmp_path / 'a')
    other = neosimple.make(options, tmp_path / 'b')
    with_command = neosimple.make(neosimple.parse(['--', 'true']), tmp_path / 'c')
    try:
        if cluster.port.number == 10000:
            assert neosimple.at(cluster.port, None, 10000) == '127.0.0.1:10000'
        taken = socket.socket()
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = preferred('127.0.0.1', taken.getsockname()[1])
        assert port.number != taken.getsockname()[1]
        assert neosimple.at(port, None, 10000) == '%s (10000 is in use)' % port
        assert neosimple.at(port, port.number, 10000) == str(port)
        assert with_command.port.number not in (10000, other.port.number)
        taken.close()
        port.close()
    finally:
        for made in cluster, other, with_command:
            made.close()


def test_a_command_gets_the_cluster_and_gives_the_status():
    done = run('--storages', '1', '--', sys.executable, '-c', 'import os, sys;'
               ' print(os.environ["NEO_MASTERS"], os.environ["NEO_CLUSTER"]); sys.exit(7)')
    assert done.returncode == 7, done.stderr
    assert re.fullmatch(r'127\.0\.0\.1:\d+ test\n', done.stdout)


def test_a_command_that_is_killed_and_one_that_is_not_there():
    assert run('--storages', '1', '--', 'sh', '-c', 'kill -9 $$').returncode == 128 + 9
    done = run('--storages', '1', '--', '/no/such/command')
    assert done.returncode == 1 and 'No such file' in done.stderr


@pytest.mark.parametrize('arguments, said', [
    (['--masters', '16'], 'masters'),
    (['--storages', '2', '--replicas', '2'], '2 replicas need at least 3 storages'),
    (['--storages', '0'], 'storages'), (['--nonsense'], 'unrecognized')])
def test_what_is_refused(arguments, said):
    done = run(*arguments)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count('\n') == 1


def test_the_executables_run_from_a_checkout(tmp_path):
    for name in 'neomaster', 'neostorage', 'neoadmin', 'neoctl', 'neosimple', 'neomigrate':
        path = ROOT / name
        assert os.access(path, os.X_OK), name
        done = subprocess.run([sys.executable, path, '--version'], cwd=tmp_path, text=True,
                              capture_output=True, timeout=TIMEOUT)
        assert done.returncode == 0 and done.stdout.startswith(name), done.stderr
