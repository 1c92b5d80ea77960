"""Signal handlers that strike at a moment, or at a line, of the test's choice."""
import linecache
import signal
import sys
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


@contextmanager
def before_line(number, is_ours, function):
    """Call it as a signal handler does, before the n-th line, from now on, of code for which
    `is_ours(code)` is true; gives a list that stays empty if it does not come to so many."""
    struck, count = [], 0

    def trace(frame, event, argument):
        nonlocal count
        code, line = frame.f_code, frame.f_lineno
        if not is_ours(code):
            return None
        # No signal comes between a block of `with` and its end, where `line` is that of its head.
        if event == 'line' and not linecache.getline(code.co_filename, line).split()[0] == 'with':
            count += 1
            if count == number:
                struck.append('%s:%d' % (code.co_filename, line))
                function()
        return trace

    former = sys.gettrace()
    sys.settrace(trace)
    try:
        yield struck
    finally:
        sys.settrace(former)
