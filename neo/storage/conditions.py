"""What is wrong with a storage, in words for the operator: its log, and `neoctl`."""
import logging

from ..cluster.node import Refused
from ..protocol.limits import MAX_TEXT
from ..protocol.packets import ConditionChanged
from ..protocol.types import ErrorCode
from .engine.interface import BrokenData

PLACES = 1000                   # so many broken places are told apart


def look(node, method, *args):
    """Ask the engine; what is broken is an answer."""
    try:
        return method(*args)
    except BrokenData as error:
        raise node.conditions.broken(error) from error


class Conditions:

    def __init__(self, node):
        self._node = node
        self._texts = {}            # what is wrong -> in words
        self._broken = {}           # message -> position, or None

    @property
    def text(self):
        return '; '.join(self._texts.values())[:MAX_TEXT // 4]

    def change(self, name, text):
        """`text` says what is wrong with `name`; an empty one: nothing is any more."""
        if text:
            self._texts[name] = text
            self._node.log('%s', text, level=logging.WARNING)
        elif self._texts.pop(name, None):
            self._node.log('no more: %s', name)
        self.tell()

    def tell(self):
        """To each master what it does not know yet."""
        text = self.text
        for link in self._node.masters.joined():
            if text != link.told:
                link.told = text
                self._node.send(link.peer, ConditionChanged(text))

    def broken(self, error):
        """Something in the database is broken (a BrokenData): returns what to answer."""
        message = str(error)
        if message not in self._broken and len(self._broken) < PLACES:
            self._broken[message] = error.position
            self._tell_broken()
        return Refused(ErrorCode.BROKEN_DATA, message)

    def _tell_broken(self):
        count = len(self._broken)
        self.change('broken data', count and 'broken data%s: %s' % (
            ' in %d places, the last one' % count if count > 1 else '',
            next(reversed(self._broken))))

    def filled(self, partitions, rows):
        """These have been copied from elsewhere."""
        left = {message: position for message, position in self._broken.items()
                if position is None or row_of(position, partitions) not in rows}
        if len(left) < len(self._broken):
            self._broken = left
            self._tell_broken()


def row_of(position, partitions):
    """Of a record, or of metadata."""
    tid, oid = position
    return (tid if oid is None else oid) % partitions
