"""How far a long job is: on a terminal one line that changes, else a line every ten seconds."""
import time

ON_TERMINAL = 0.2       # seconds between two looks of the line
IN_LOG = 10.0           # … and between two lines where they are kept
MB = 1e6


def duration(seconds):
    """`1:02:03`, or `2:03` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return '%d:%02d:%02d' % (hours, minutes, seconds) if hours else '%d:%02d' % (minutes, seconds)


class Progress:
    """Shows a position that goes from `start` to `size`, in bytes or in transactions."""

    def __init__(self, stream, clock=time.monotonic, terminal=None):
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty() if terminal is None else terminal
        self._shown = ''

    def start(self, doing, position, size, in_bytes):
        """What is done from now on; a `size` of None is not known."""
        self._doing = doing
        self._from = position
        self._size = size
        self._in_bytes = in_bytes
        self._since = self._clock()
        self._next = self._since + (0 if self._terminal else IN_LOG)

    def update(self, position, transactions):
        now = self._clock()
        if now >= self._next:
            self._next = now + (ON_TERMINAL if self._terminal else IN_LOG)
            self._show(self._line(position, transactions, now - self._since))

    def end(self, position, transactions):
        """Show where it ended, and leave that line alone."""
        self._show(self._line(position, transactions, self._clock() - self._since), last=True)

    def clear(self):
        """Make room for a message: the line that changes is shown again below it."""
        if self._shown:
            self._stream.write('\r%*s\r' % (len(self._shown), ''))
            self._stream.flush()
            self._shown = ''

    def _show(self, line, last=False):
        if self._terminal:
            # The rest of a longer line is wiped.
            self._stream.write('\r' + line.ljust(len(self._shown)) + ('\n' if last else ''))
            self._shown = '' if last else line
        else:
            self._stream.write(line + '\n')
        self._stream.flush()

    def _line(self, position, transactions, elapsed):
        speed = (position - self._from) / elapsed if elapsed else 0
        parts = [self._doing]
        if self._size:
            parts.append('%5.1f%%' % min(100, 100 * position / self._size))
        if self._in_bytes:
            parts.append('%.1f of %.1f MB' % (position / MB, self._size / MB))
            parts.append('%.1f MB/s' % (speed / MB))
            parts.append('%d transactions' % transactions)
        else:
            parts.append('%d of %d transactions' % (position, self._size) if self._size
                         else '%d transactions' % position)
            parts.append('%.0f/s' % speed)
        left = self._size and self._size - position
        if left and left > 0 and speed:
            # At the very beginning that would be a guess.
            parts += [duration(left / speed) + ' left'] if elapsed >= 1 else []
        else:
            parts.append('in ' + duration(elapsed))
        return '  '.join(parts)
