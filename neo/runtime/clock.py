"""The time that nodes are told."""
import time

# Wall time is looked at once: a clock that is set back later must not turn timers or tids back.
_OFFSET = time.time() - time.monotonic()


def now():
    """Seconds since 1970; never goes back within a process."""
    return time.monotonic() + _OFFSET
