"""neosimple: what it starts it stops, however it ends."""
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from .test_daemons import ROOT, TIMEOUT, command, environment

CHILD = re.compile(r'neo\.local\.child')


def children_in(directory):
    """Pids of daemons whose working files are in `directory`."""
    found = []
    for pid in filter(str.isdecimal, os.listdir('/proc')):
        try:
            with open('/proc/%s/cmdline' % pid, 'rb') as file:
                line = file.read().replace(b'\0', b' ').decode(errors='replace')
        except OSError:
            continue
        if CHILD.search(line) and str(directory) in line:
            found.append(int(pid))
    return found


def wait_for(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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
        wait_for(lambda: not children_in(tmp_path))


def test_it_says_how_to_connect(simple):
    assert '1 master, 1 storage with 0 replicas, 1 admin' in simple.said
    assert re.search(r"Storage\(master_nodes='127\.0\.0\.1:\d+', name='test'\)", simple.said)
    assert re.search(r'neoctl -a 127\.0\.0\.1:\d+ print summary', simple.said)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_cleanly(simple, number, tmp_path):
    assert len(children_in(tmp_path)) >= 1
    simple.send_signal(number)
    out, err = simple.communicate(timeout=TIMEOUT)
    assert (simple.returncode, err) == (0, '')
    assert not children_in(tmp_path)
    assert (tmp_path / 'd' / 'storage1.sqlite').exists()


def test_nothing_is_left_when_it_is_killed(simple, tmp_path):
    simple.kill()
    simple.wait()
    wait_for(lambda: not children_in(tmp_path))


def test_a_daemon_that_dies_is_reported(simple, tmp_path):
    pid, = [pid for pid in children_in(tmp_path)
            if 'neostorage' in open('/proc/%d/cmdline' % pid).read()]
    os.kill(pid, signal.SIGKILL)
    out, err = simple.communicate(timeout=TIMEOUT)
    assert simple.returncode == 1
    assert 'storage1 ended with status -9' in err
    assert not children_in(tmp_path)


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
    (['--masters', '2'], 'more than one master is not available in this version'),
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
