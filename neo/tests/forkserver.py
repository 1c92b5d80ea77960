"""Starts processes quickly: a helper that has imported everything, and forks.

It has no threads, so that forking is safe whatever the tests do.  What it starts ends with it, and
it ends with who started it, however that was.
"""
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWNET = 0x40000000
ROOT = Path(__file__).parents[2]        # the checkout; it may not be installed
WARM = ('neo.scripts.neomaster', 'neo.scripts.neostorage', 'neo.scripts.neoadmin',
        'neo.scripts.neoctl', 'neo.client.Storage', 'ZODB')


def enter(namespace):
    """This thread uses the network of that namespace, a file descriptor; OSError if it may not."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), 'setns')


# -- in the helper --------------------------------------------------------------------------
def become(module, arguments, directory, output, network):
    """Run `module.main()` as if it were a command; never returns."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if network is not None:
        enter(os.open(network, os.O_RDONLY | os.O_CLOEXEC))
    for signum in signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE:
        signal.signal(signum, signal.SIG_DFL)
    os.chdir(directory)
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = [module.rpartition('.')[2], *arguments]
    status = 70
    try:
        status = importlib.import_module(module).main() or 0
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def serve(connection):
    children = set()
    requests = connection.makefile('r')
    for line in requests:
        request = json.loads(line)
        if 'reap' in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request['reap'], 0)[1])
            children.discard(request['reap'])
        else:
            answer = os.fork()
            if not answer:
                connection.close()
                requests.close()
                become(**request)
            children.add(answer)
        connection.sendall(b'%d\n' % answer)
    for child in children:
        os.kill(child, signal.SIGKILL)


def main():
    for module in WARM:
        importlib.import_module(module)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Children don't look at what is here, and share the memory of it.
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))


# -- in the tests -----------------------------------------------------------------------------
class ForkServer:

    def __init__(self):
        self._lock = threading.Lock()
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, '-m', __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()], start_new_session=True, cwd=ROOT)
        self._answers = self._connection.makefile('r')

    def _ask(self, **request):
        with self._lock:
            self._connection.sendall(json.dumps(request).encode() + b'\n')
            return int(self._answers.readline())

    def start(self, module, arguments, directory, output, network):
        """The id of a process that runs `module.main()`."""
        return self._ask(module=module, arguments=arguments, directory=directory, output=output,
                         network=network)

    def reap(self, pid):
        """The exit status of a process that has ended; negative: the signal that ended it."""
        return self._ask(reap=pid)

    def close(self):
        self._answers.close()
        self._connection.close()
        self._process.wait(10)


class Fork:
    """As neo.local.process.Child, in a small part of the time; `network` is the path of a network
    namespace, unless it is the usual one."""

    def __init__(self, module, arguments, directory, output, network=None):
        self.pid = server().start(module, arguments, directory, output, network)

    def reap(self):
        return server().reap(self.pid)


_server = None
_making = threading.Lock()


def server():
    """The one of this process, which ends with it."""
    global _server
    with _making:
        if _server is None:
            _server = ForkServer()
    return _server


if __name__ == '__main__':
    main()
