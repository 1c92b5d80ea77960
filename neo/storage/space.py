"""Space for transactions: what is promised when they are stored is there when they are locked."""
import logging

from ..cluster.node import Refused
from ..protocol import limits
from ..protocol.types import ErrorCode

SPACE = 'space'                 # timer


def in_words(size):
    """Bytes for people: 12.3 MiB."""
    for unit in 'bytes', 'KiB', 'MiB', 'GiB':
        if size < 1024:
            break
        size /= 1024
    else:
        unit = 'TiB'
    return '%d bytes' % size if unit == 'bytes' else '%.1f %s' % (size, unit)


def in_full(space):
    return '%s has %s free, beside %s kept in reserve and %s promised to open transactions' % (
        space.path, *map(in_words, space[1:]))


class Space:

    def __init__(self, node):
        self._node = node
        self._said = None           # what was free when it was last said that the disk is full
        self._refused_at = None

    def promise(self, ttid, size, count):
        """Keep space for `count` more records or metadata with `size` bytes; or raise Refused."""
        if not self._node.engine.promise(ttid, size, count):
            raise self._refused(size)

    def _refused(self, size):
        node = self._node
        text = 'no space for %s more: %s' % (in_words(size), in_full(node.engine.space()))
        if self._refused_at is None or node.now - self._refused_at >= limits.SPACE_INTERVAL:
            self._refused_at = node.now         # who tries again at once is not worth a line
            node.log('%s', text, level=logging.WARNING)
        self.look()
        return Refused(ErrorCode.FULL, text)

    def look(self):
        """Now and then, and when something was refused: say whether the disk is nearly full."""
        node = self._node
        space = node.engine.space()
        if space is not None and space.free < limits.SPACE_LOW:
            # Not each time that a little has changed.
            if self._said is None or not self._said / 2 <= space.free <= self._said * 2:
                self._said = space.free
                node.conditions.change('disk', 'disk nearly full: %s' % in_full(space))
        elif self._said is not None:
            self._said = None
            node.conditions.change('disk', '')
        if space is not None or self._said is not None:
            node.set_timer(SPACE, node.now + limits.SPACE_INTERVAL)
