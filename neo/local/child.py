"""Run a command as a child that does not outlive its parent, however that ends.

    python -m neo.local.child neo.scripts.neostorage --cluster=test …

Standard input is a pipe whose other end only the parent has: its end is the end of the parent.
"""
import os
import signal
import sys
import threading
import time
from importlib import import_module

PATIENCE = 10.0                 # seconds for a clean end


def _watch():
    # Signals are for the main thread, which waits in a system call that they have to end.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(PATIENCE)
    os.kill(os.getpid(), signal.SIGKILL)


def main():
    module, *arguments = sys.argv[1:]
    threading.Thread(target=_watch, daemon=True, name='parent').start()
    sys.argv = [module.rpartition('.')[2], *arguments]
    return import_module(module).main()


if __name__ == '__main__':
    sys.exit(main())
