"""Hosts of a network of their own, on this machine, whose packets get lost where a test wants it.

A host is a network namespace.  All it has is a device whose packets are read and written by another
process (wire.py), which loses those of links that are cut: silently, in one direction or in both,
as cables do.  Root can make that.  Nothing is left behind: namespaces and devices end with who uses
them.
"""
import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ..local.ports import Port
from .forkserver import CLONE_NEWNET, Fork, enter, server

ROOT = Path(__file__).parents[2]
# Nobody else sees it, whatever is used outside.
ADDRESS = '10.83.0.%d'
MASK = '255.255.255.0'
MTU = 9000
# Of linux/if_tun.h and linux/sockios.h.
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454ca, 0x0001, 0x1000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x0001
SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFMTU = 0x8916, 0x891c, 0x8922


def _device(address):
    """A device of this namespace with that address: what it sends can be read, what is written it
    receives."""
    tun = os.open('/dev/net/tun', os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    name = fcntl.ioctl(tun, TUNSETIFF, struct.pack('16sH14x', b'cable', IFF_TUN | IFF_NO_PI))[:16]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, value in (SIOCSIFADDR, address), (SIOCSIFNETMASK, MASK):
            fcntl.ioctl(control, request, struct.pack(
                '16sHH4s8x', name, socket.AF_INET, 0, socket.inet_aton(value)))
        fcntl.ioctl(control, SIOCSIFMTU, struct.pack('16si12x', name, MTU))
        for up in name, b'lo':
            flags, = struct.unpack('16xH14x', fcntl.ioctl(
                control, SIOCGIFFLAGS, struct.pack('16sH14x', up, 0)))
            fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack('16sH14x', up, flags | IFF_UP))
    return tun


class NoNetwork(Exception):
    """Who is not root, or has no /dev/net/tun; the message says why."""


class Host:
    """As neo.local.cluster.Machine; `spawn` starts processes there."""

    def __init__(self, number):
        self.number = number
        self.name = 'host%d' % number
        self.host = ADDRESS % number
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), 'unshare')
        self.device = _device(self.host)
        self._namespace = os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC)
        self.spawn = partial(Fork, network='/proc/%d/fd/%d' % (os.getpid(), self._namespace))

    def __repr__(self):
        return self.name

    def enter(self):
        """This thread uses the network as if it were there."""
        enter(self._namespace)

    def port(self):
        with self.entered():
            return Port(self.host)

    @contextmanager
    def entered(self):
        before = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
        try:
            self.enter()
            yield
        finally:
            enter(before)
            os.close(before)

    def close(self):
        os.close(self.device)
        os.close(self._namespace)


class Network:
    """`hosts`, of which no link is cut at first, and an `operator`, as whom the thread that makes
    it acts until it closes it.  NoNetwork where that can't be done."""

    def __init__(self, hosts):
        server()                        # it is of all tests, and not to be of this network
        self._home = os.open('/proc/thread-self/ns/net', os.O_RDONLY)
        self.hosts = []
        try:
            self._all = [Host(number) for number in range(1, hosts + 2)]
        except OSError as error:
            enter(self._home)
            os.close(self._home)
            raise NoNetwork('no network can be made here: %s' % error)
        *self.hosts, self.operator = self._all
        self.operator.name = 'operator'
        devices = [host.device for host in self._all]
        self._wire = subprocess.Popen(
            [sys.executable, '-m', 'neo.tests.wire', *map(str, devices)], pass_fds=devices,
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def cut(self, links):
        """What each `(sender, receiver)` of these hosts sends is lost from now on, and nothing
        else."""
        cuts = [(self._all.index(sender), self._all.index(receiver)) for sender, receiver in links]
        self._wire.stdin.write(json.dumps(cuts).encode() + b'\n')
        self._wire.stdin.flush()
        assert self._wire.stdout.readline(), 'the wire has ended'

    def others(self, *hosts):
        return [host for host in self._all if host not in hosts]

    def close(self):
        self._wire.stdin.close()
        self._wire.stdout.close()
        self._wire.wait()
        for host in self._all:
            host.close()
        enter(self._home)
        os.close(self._home)
