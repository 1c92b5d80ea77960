"""Processes on this machine that do not outlive who has started them."""
import os
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
POLL = 0.005
TIMEOUT = 30.0                  # seconds that a daemon may take to end
# What each daemon says once it listens.
LISTENS = re.compile(r' on (\S+:\d+)$', re.M)


class ClusterError(Exception):
    """The cluster does not do what it should; the message says why, for people."""


def poll(condition, timeout, interval=POLL):
    """What `condition()` gives once it is true, or after so many seconds."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result or time.monotonic() > deadline:
            return result
        time.sleep(interval)


class Child:
    """How processes are started unless somebody knows better: `pid`, and `reap()`, which gives the
    exit status of one that has ended."""

    def __init__(self, module, arguments, directory, output):
        path = os.environ.get('PYTHONPATH')
        environment = {**os.environ, 'PYTHONPATH': str(ROOT) + (os.pathsep + path if path else '')}
        with open(output, 'ab') as log:
            # A session of its own: Ctrl-C is for who has started it.
            self._process = subprocess.Popen(
                [sys.executable, '-m', 'neo.local.child', module, *arguments], cwd=directory,
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
                env=environment)
        self.pid = self._process.pid

    def reap(self):
        self._process.stdin.close()
        return self._process.wait()


class Process:
    """`module.main()` with these arguments, in a process of its own, which may be started again
    once it has ended.  What it says is appended to a file in `directory`.

    `spawn(module, arguments, directory, output)` starts one, and gives what a `Child` is.
    """

    def __init__(self, name, module, arguments, directory, spawn=Child):
        self.name = name
        self.module = module
        self.arguments = list(arguments)
        self.directory = Path(directory)
        self.output = self.directory / (name + '.log')
        self.status = None              # of the last one that has ended
        self._spawn = spawn
        self._child = self._fd = None
        self._before = 0                # length of the log when it was started

    def __repr__(self):
        return '<%s>' % self.name

    def start(self, *more):
        """With `more` arguments, this time."""
        assert self._fd is None, '%s runs' % self.name
        self.status = None
        self._before = len(self.log())
        self._child = self._spawn(self.module, [str(a) for a in (*self.arguments, *more)],
                                  str(self.directory), str(self.output))
        self._fd = os.pidfd_open(self.pid)
        return self

    @property
    def pid(self):
        return self._child.pid

    @property
    def started(self):
        """It was, and nobody has waited for its end."""
        return self._fd is not None

    @property
    def runs(self):
        return self._fd is not None and not self._ended(0)

    @property
    def up(self):
        """Where it listens; None if it does not yet."""
        found = LISTENS.search(self.log(), self._before)
        return found and found[1]

    @property
    def address(self):
        """Where it listens, once it does."""
        self.wait_up()
        return self.up

    def wait_up(self, timeout=TIMEOUT):
        """Until it listens; ClusterError if it does not, or ends."""
        if not poll(lambda: self.up or not self.runs, timeout, 0.001) or not self.up:
            raise ClusterError('%s does not start:\n%s' % (self.name, self.tail()))

    def _ended(self, timeout):
        return bool(select.select([self._fd], [], [], timeout)[0])

    # -- the end ------------------------------------------------------------------------------
    def signal(self, number):
        if self._fd is not None:
            try:
                signal.pidfd_send_signal(self._fd, number)
            except ProcessLookupError:
                pass

    def wait(self, timeout=TIMEOUT):
        """Its exit status; negative: the signal that ended it.  ClusterError if it goes on."""
        if self._fd is not None:
            if not self._ended(timeout):
                raise ClusterError('%s does not end within %g s:\n%s' % (
                    self.name, timeout, self.tail()))
            os.close(self._fd)
            self._fd = None
            self.status = self._child.reap()
        return self.status

    def terminate(self):
        """SIGTERM, once this daemon is there to handle it."""
        if self._fd is not None:
            poll(lambda: self.up or not self.runs, TIMEOUT)
            self.signal(signal.SIGTERM)

    def stop(self, timeout=TIMEOUT):
        """A clean stop; the exit status."""
        self.terminate()
        return self.wait(timeout)

    def kill(self):
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        return self.wait()

    # -- what it says -------------------------------------------------------------------------
    def log(self):
        return self.output.read_text(errors='replace') if self.output.exists() else ''

    def tail(self, lines=5):
        """The end of it."""
        return '\n'.join(self.log().splitlines()[-lines:])
