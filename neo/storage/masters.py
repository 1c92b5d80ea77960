"""The connections of a storage to all masters: it joins each, and obeys the one to which it has
promised its term last."""
from ..cluster.seek import TIMER, Seek
from ..protocol import limits

FOREVER = float('inf')


class Link:
    """To one master; the `data` of its Peer."""

    __slots__ = 'number', 'seek', 'peer', 'id', 'session', 'told'

    def __init__(self, number, address):
        self.number = number
        self.seek = Seek([address], remind=True, timer=TIMER + ' %d' % number * bool(number),
                         missed='no connection to the master')
        self.peer = None                # once it has accepted this storage
        self.id = None                  # as it calls this storage
        self.session = 0                # number of this joining
        self.told = ''                  # what is wrong here, as it was told

    def lost(self, node, reason):
        self.peer = None
        self.seek.failed(node, reason)


class Masters:

    def __init__(self, addresses):
        self.links = [Link(number, address) for number, address in enumerate(addresses)]
        self._until = 0.0               # how long the one obeyed is a candidate that others let try
        self._were_right = False        # one of them has led the cluster, since this process began

    def joined(self):
        return [link for link in self.links if link.peer is not None]

    def connect(self, node):
        for link in self.links:
            link.seek.connect(node)

    def timer(self, node, name):
        """Was it one of these?"""
        for link in self.links:
            if link.seek.timer == name:
                link.seek.connect(node)
                return True
        return False

    def link_to(self, address):
        for link in self.links:
            if link.seek.address == address:
                return link

    def patience(self, peer):
        """Where there are others to be obeyed, a short one."""
        if len(self.links) > 1:
            return limits.MASTER_TIMEOUT if peer.identified else limits.MUTE_TIMEOUT
        return limits.PEER_TIMEOUT

    def may_be_wrong(self):
        """Where one refuses this storage for good: does maybe that master not belong here?  One of
        several may have been replaced by a stranger."""
        return self._were_right and len(self.links) > 1

    # -- who leads ----------------------------------------------------------------------------
    def is_led(self, node, asker):
        """Is another one than `asker` a primary that is heard, or about to be one?"""
        return (node.master not in (None, asker) and not node.master.silent
                and node.now < self._until)

    def promised(self, node):
        self._until = node.now + limits.CANDIDATE_TIME

    def elected(self):
        self._until, self._were_right = FOREVER, True

    def doubt(self):
        """Who is obeyed does not lead any more, or not yet."""
        self._until = 0.0
