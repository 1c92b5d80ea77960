"""The helpers of these tests: nothing outlives them."""
import os
import select
import signal
import subprocess
import sys
import time

from ..daemons import Cluster
from ..forkserver import ROOT

SCRIPT = '''
import os, signal, sys
from neo.tests.daemons import Cluster
cluster = Cluster(admin=True, directory=sys.argv[1])
cluster.client()
print(*[daemon.pid for daemon in cluster.daemons], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
'''


def test_daemons_end_with_who_started_them(tmp_path):
    told = subprocess.run([sys.executable, '-c', SCRIPT, tmp_path], capture_output=True, text=True,
                          cwd=ROOT, timeout=60)
    assert told.returncode == -signal.SIGKILL, told.stderr
    for pid in map(int, told.stdout.split()):
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([fd], [], [], 10)[0], '%d is still there' % pid
        finally:
            os.close(fd)


def test_a_new_cluster_is_cheap():
    """What makes one for each test bearable; far below what would be felt, as machines differ."""
    with Cluster() as cluster:
        cluster.client()
    start = time.monotonic()
    with Cluster() as cluster:
        cluster.client()
    assert time.monotonic() - start < 2
