"""Signals, exit status and logs need a process of its own."""
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from neo.cluster.node import Node
from neo.protocol.packets import Load, Ping
from neo.protocol.types import NodeKind

from .peer import Peer, until
from .toys import BOMB, running


@contextmanager
def process(*arguments):
    command = [sys.executable, '-m', 'neo.tests.runtime.toys', *arguments]
    child = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        port = int(child.stdout.readline())
        yield child, ('127.0.0.1', port)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
        child.stderr.close()


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_stopped_by_a_signal(number):
    with process() as (child, address), Peer(address) as peer:
        assert peer.ask(Ping()) == Ping.Answer()
        child.send_signal(number)
        out, err = child.communicate(timeout=20)
        assert child.returncode == 0
        assert out == 'committed 1\n'
        first, last = err.splitlines()
        assert re.fullmatch(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} toy INFO saying goodbye', first)
        assert last.endswith('toy INFO stopped')


def test_a_failure_is_one_line_on_stderr(tmp_path):
    log = tmp_path / 'log'
    with process(str(log)) as (child, address), Peer(address) as peer:
        peer.send(Load(BOMB, 1), 1)
        out, err = child.communicate(timeout=20)
        assert child.returncode == 1
        assert err == 'toy: stopped by an error: RuntimeError: a bomb\n'
        assert 'Traceback' in log.read_text()


@pytest.mark.parametrize('number', [signal.SIGHUP, signal.SIGUSR1])
def test_the_log_is_reopened(tmp_path, number):
    log = tmp_path / 'log'
    with process(str(log)) as (child, address), Peer(address) as peer:
        assert peer.ask(Ping()) == Ping.Answer()
        log.rename(tmp_path / 'old')
        child.send_signal(number)
        until(log.exists)
        child.terminate()
        child.communicate(timeout=20)
        assert 'saying goodbye' in log.read_text()
        assert not (tmp_path / 'old').read_text()


def test_no_file_descriptors_left():
    with process() as (child, address):
        used = len(os.listdir('/proc/%d/fd' % child.pid))
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (used + 4, used + 4))
        peers = [Peer(address) for _ in range(8)]       # the kernel takes them all
        try:
            assert peers[0].ask(Ping()) == Ping.Answer()
            before = cpu(child.pid)
            started = time.monotonic()
            while time.monotonic() - started < 1:
                assert peers[0].ask(Ping()) == Ping.Answer()
                time.sleep(0.1)
            assert cpu(child.pid) - before < 0.5
            for peer in peers[:4]:
                peer.socket.close()
            for peer in peers[4:]:
                assert peer.ask(Ping()) == Ping.Answer()
        finally:
            for peer in peers:
                peer.socket.close()
        child.terminate()
        _out, err = child.communicate(timeout=20)
        assert 1 <= err.count('no connection can be accepted: Too many open files') <= 10


def cpu(pid):
    """Seconds that a process has been running on a CPU."""
    fields = open('/proc/%d/stat' % pid).read().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


class Watcher(Node):
    """Connects, and notes what becomes of the other side."""

    kind = NodeKind.CLIENT

    def __init__(self, address):
        super().__init__(random.Random(1))
        self.address = address
        self.notes = []

    def starting(self):
        self.connect(self.address)

    def connected(self, peer):
        peer.kind = NodeKind.STORAGE
        self.ask(peer, Ping())
        self.accept(peer, NodeKind.STORAGE, 'S2')

    def silent(self, peer):
        self.notes.append('silent')

    def heard_again(self, peer):
        self.notes.append('heard again')

    def lost(self, peer, reason):
        self.notes.append(reason)


def test_a_frozen_process_is_named_within_seconds_and_kept():
    with process() as (child, address), running(node := Watcher(address)) as (_, loop, status):
        until(lambda: any(peer.heard > peer.since for peer in list(node.peers.values())))
        child.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        until(lambda: node.notes)
        assert time.monotonic() - started < 10
        assert loop._logs[-1][1].startswith('S2 has said nothing for ')
        child.send_signal(signal.SIGCONT)
        until(lambda: len(node.notes) > 1)
        assert node.notes == ['silent', 'heard again']
        assert loop._logs[-1][1] == 'S2 is heard again'


def test_system_calls_that_are_interrupted():
    """Signals at any moment neither lose bytes nor end anything."""
    with process() as (child, address), Peer(address) as peer:
        assert peer.ask(Ping()) == Ping.Answer()        # signals are handled from now on
        stop = threading.Event()

        def disturb():
            while not stop.is_set():
                child.send_signal(signal.SIGUSR1)
        thread = threading.Thread(target=disturb, daemon=True)
        thread.start()
        try:
            for number in range(1, 200):
                peer.send(Load(100_000, 1), number)
                packet, request_id = peer.receive()
                assert request_id == number and len(packet.data) == 100_000
        finally:
            stop.set()
            thread.join()
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=20)
        assert child.returncode == 0
