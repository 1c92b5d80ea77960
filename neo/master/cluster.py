"""Which cluster this is: two of one name never mix."""
import logging

from ..cluster.cuts import LEFT_OUT, is_left_out, knows
from ..cluster.node import Refused
from ..protocol.types import ErrorCode, NodeKind


class Cluster:
    """`id` and `history`, before all cuts, come with the first storage that knows them, or are made
    for a new one."""

    def __init__(self, name):
        self.name = name
        self.id = self.history = None
        self.certain = False            # it has a table in force under us: no other one will do
        self.rivals = False             # storages of another one of this name are waiting

    def check_name(self, packet):
        if packet.cluster != self.name:
            raise Refused(ErrorCode.ANOTHER_CLUSTER, 'this is the master of cluster %s, not of %s'
                          % (self.name, packet.cluster))

    def is_another(self, packet, cuts=()):
        """Does who identifies itself know a cluster, and not this one?  A storage may be of a
        history from which `cuts` lead to this one; None: from any."""
        return packet.cluster_id is not None and self.id is not None and (
            packet.cluster_id != self.id or
            packet.kind == NodeKind.STORAGE and self.certain and cuts is not None
            and not knows(cuts, self.history, packet.history))

    def check_history(self, packet, cuts):
        """Raises Refused if this storage was left out when a start was forced."""
        if self.certain and packet.cluster_id == self.id is not None and is_left_out(
                cuts, packet.history, packet.identity):
            raise Refused(ErrorCode.ANOTHER_CLUSTER, LEFT_OUT)

    def refuse(self, node, packet):
        """`packet` is of a storage of another cluster.  Until this one has run, it may just as well
        be that the others, who came first, do not belong here: these may wait."""
        message = 'the database belongs to another cluster of the same name'
        if self.certain:
            raise Refused(ErrorCode.ANOTHER_CLUSTER, message)
        if not self.rivals:
            self.rivals = True
            node.log('storages of two clusters that are called %s are here: those of %s, which'
                     ' came first, and %s:%s of %s', self.name, self.id.hex(),
                     *packet.address, packet.cluster_id.hex(), level=logging.WARNING)
        raise Refused(ErrorCode.NOT_READY, message + ' than that of storages who came first')

    def adopt(self, packet):
        """It is the cluster of the storage that identifies itself so."""
        self.id, self.history = packet.cluster_id, packet.history
        self.rivals = False

    def follow(self, known):
        """It is the cluster of this State or WriteTable."""
        self.id, self.history = known.cluster_id, known.history
        self.rivals = False

    def create(self, rnd):
        self.id, self.history = rnd.randbytes(16), rnd.randbytes(16)

    def forget(self):
        self.id = self.history = None
        self.rivals = False
