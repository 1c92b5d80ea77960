"""Signal handlers that strike at a moment of the test's choice."""
import signal
from contextlib import contextmanager

PUT_OFF = 2e-5          # seconds until it is tried again


@contextmanager
def alarms(may_strike=lambda frame: True):
    """Gives a function: call another one in a signal handler of the main thread, after so many
    seconds; None: not any more.  It is put off where `may_strike(frame)` is false."""
    wanted = None

    def strike(signum, frame):
        nonlocal wanted
        if wanted is None:
            return
        if not may_strike(frame):
            signal.setitimer(signal.ITIMER_REAL, PUT_OFF)
            return
        function, wanted = wanted, None
        function()

    def set_alarm(function, seconds=0.0):
        nonlocal wanted
        wanted = function
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.signal(signal.SIGALRM, strike)
    try:
        yield set_alarm
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_our_code(frame):
    """The libraries around us have locks of their own, which they leave locked when they are
    interrupted (logging does)."""
    while frame is not None:
        name = frame.f_globals.get('__name__', '')
        if name.startswith(('neo.client', 'neo.runtime')):
            return True
        if name.startswith(('logging', 'threading', 'transaction', 'neo.tests', 'weakref')):
            return False
        frame = frame.f_back
    return False
