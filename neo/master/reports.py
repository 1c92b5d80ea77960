"""What clients tell of themselves and of storages."""
import logging

from ..cluster.node import handles
from ..protocol.packets import FoundBroken, TableTaken
from ..protocol.types import ClusterState, NodeKind
from . import announcements

CLIENT = NodeKind.CLIENT
SERVING = ClusterState.RUNNING, ClusterState.STOPPING
PLACES = 1000                   # so many broken revisions of one storage are told apart


@handles(TableTaken, sender=CLIENT, phase=SERVING)
def table_taken(master, peer, packet, request_id):
    peer.data.taken = max(peer.data.taken, min(packet.key, master.tables.in_force.key))
    master.filling.taken(master)


@handles(FoundBroken, sender=CLIENT)
def found_broken(master, peer, packet, request_id):
    storage = master.members.storages.get(packet.storage)
    if storage is None:
        return                          # it has gone meanwhile
    found = storage.data.broken
    place = packet.oid, packet.tid
    if place not in found and len(found) < PLACES:
        found[place] = None
        master.log('%s has found object %#x of transaction %#x broken on %s', peer, *place,
                   master.members.describe(storage.id), level=logging.WARNING)
        announcements.tell_condition(master, storage)
        if master.checking is not None:
            master.checking.suspect(master, packet.oid % master.tables.in_force.partitions,
                                    packet.tid, storage.id)
