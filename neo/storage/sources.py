"""From whom a storage copies a row: one that can read it, and was not of no use just before."""
from ..cluster.seek import BackOff
from .links import Links

BROKEN = 30.0                   # seconds until one that has something broken is asked again


class Trouble:
    """Why one was of no use."""

    def __init__(self):
        self.reason = None
        self.until = 0.0                # it is not asked before
        self.back_off = BackOff()


class Sources:

    def __init__(self):
        self.links = Links()
        self._troubles = {}             # id -> Trouble

    def pick(self, node, row):
        """A Peer, or None; connections to those that could be one are made."""
        found = None
        for id in node.table.readable[row]:
            if id != node.id and not self._rests(node, id):
                peer = self.links.reach(node, id)
                found = found or peer
        return found

    def _rests(self, node, id):
        trouble = self._troubles.get(id)
        return trouble is not None and node.now < trouble.until

    def failed(self, node, id, reason, broken):
        trouble = self._troubles.setdefault(id, Trouble())
        if reason != trouble.reason:
            trouble.reason = reason
            node.log('rows can\'t be copied from %s: %s', id, reason)
        trouble.until = node.now + (BROKEN if broken else trouble.back_off.next())

    def succeeded(self, id):
        self._troubles.pop(id, None)

    def stop(self, node):
        self._troubles.clear()
        self.links.stop(node)

    def describe(self, node, rows):
        """Why nobody can be asked for these rows, in words."""
        ids = {id: None for row in rows for id in node.table.readable[row] if id != node.id}
        return ', '.join('%s: %s' % (id, self._describe(id)) for id in ids)

    def _describe(self, id):
        trouble = self._troubles.get(id)
        return self.links.describe(id) or trouble and trouble.reason or 'not asked yet'
