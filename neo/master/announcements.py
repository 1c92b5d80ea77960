"""What is told to whom: storages hear of clients, clients of storages, admins of all."""
from ..cluster.balance import rows_text
from ..cluster.ids import LETTERS, node_order, utc
from ..cluster.node import handles
from ..protocol.packets import ClusterStateChanged, ConditionChanged, NodesChanged
from ..protocol.types import ClusterState, NodeInfo, NodeKind, NodeState

SERVING = ClusterState.RUNNING, ClusterState.STOPPING
KINDS = {letter: kind for kind, letter in LETTERS.items()}


def node_info(master, id):
    kind = KINDS[id[0]]
    if kind == NodeKind.MASTER:
        return master_info(master, id)
    peer = master.members.joined.get(id)
    if peer is None:
        known = master.members.known.get(id)
        name, address = (known.name, known.address) if known is not None else ('', None)
        return NodeInfo(id, kind, address, NodeState.DOWN, name, '', '')
    data = peer.data
    pending = kind == NodeKind.STORAGE and not belongs(master, id)
    return NodeInfo(id, kind, data.address, NodeState.PENDING if pending else NodeState.RUNNING,
                    data.name, data.topology, condition_of(peer))


def master_info(master, id):
    if id == master.id:
        return NodeInfo(id, NodeKind.MASTER, master.address, NodeState.RUNNING, master.name, '',
                        '')
    fellow = master.fellows.by_id(master)[id]
    state = NodeState.DOWN if fellow.peer is None else NodeState.RUNNING
    return NodeInfo(id, NodeKind.MASTER, fellow.address, state, fellow.name, '', '')


def condition_of(peer):
    """What is wrong with a node, in words."""
    words = ['it says nothing, since %s' % utc(peer.heard)] if peer.silent else []
    broken = peer.data.broken
    if broken:
        words.append('broken data, as clients have found: %d, the last of object %#x at %#x' % (
            len(broken), *next(reversed(broken))))
    if peer.data.doubtful:
        words.append('%s: copies differ or are broken, and none is known to be right'
                     % rows_text(sorted(peer.data.doubtful)))
    return '; '.join(words + [peer.data.condition] * bool(peer.data.condition))


def changed(master, id):
    """This node has come, gone or changed.  Who is gone for good is removed; a storage of the table
    is down."""
    if id in master.members.joined or belongs(master, id):
        packet = NodesChanged((node_info(master, id),), ())
    else:
        packet = NodesChanged((), (id,))
    for peer in hearing(master, id):
        if peer.id != id:
            master.send(peer, packet)


def masters_changed(master):
    """Another master has come or gone, or some are called otherwise."""
    ids = [master.id, *master.fellows.by_id(master)]
    packet = NodesChanged(tuple([node_info(master, id) for id in ids]),
                          tuple([id for id in master.fellows.announced if id not in ids]))
    master.fellows.announced = ids
    for peer in master.members.admins.values():
        master.send(peer, packet)


def removed(master, ids):
    """These clients are gone, at once."""
    if ids:
        packet = NodesChanged((), tuple(ids))
        for peer in hearing(master, ids[0]):
            master.send(peer, packet)


def hearing(master, id):
    members = master.members
    yield from members.admins.values()
    if master.phase in SERVING:
        if id[0] == LETTERS[NodeKind.CLIENT]:
            # Clients are announced in the order of their numbers: who has not been told of those
            # that are there hears of none.
            yield from [peer for peer in members.storages.values() if peer.data.settled]
        elif id[0] == LETTERS[NodeKind.STORAGE]:
            yield from members.clients.values()
            yield from [peer for peer in members.storages.values() if peer.data.settled]


def describe_to(master, peer):
    """Everything that is told of changes later: to who joins, or when the cluster starts."""
    members, tables = master.members, master.tables
    if peer.kind == NodeKind.STORAGE:
        ids = [*members.clients, *storages(master)]
    elif peer.kind == NodeKind.CLIENT:
        ids = storages(master)
    else:
        ids = [*members.admins, *members.clients, master.id, *master.fellows.by_id(master),
               *storages(master)]
    master.send(peer, NodesChanged(tuple([node_info(master, id) for id in ids]), ()))
    if tables.in_force is not None and master.phase in SERVING:
        master.send(peer, tables.changed())
    if peer.kind != NodeKind.CLIENT:
        master.send(peer, ClusterStateChanged(master.phase, master.reason))


def table_changed(master):
    """Another table is in force; storages know it."""
    packet = master.tables.changed()
    for peer in (*master.members.admins.values(), *master.members.clients.values()):
        master.send(peer, packet)


def storages(master):
    """Those there are, and those that belong to the cluster, in order."""
    return sorted({*master.members.storages, *master.tables.storages(), *master.members.added()},
                  key=node_order)


def belongs(master, id):
    """Was this storage added to the cluster?"""
    return master.members.is_added(id) or id in master.tables.storages()


@handles(ConditionChanged, sender=NodeKind.STORAGE)
def condition_changed(master, peer, packet, request_id):
    peer.data.condition = packet.condition
    tell_condition(master, peer)


def tell_condition(master, peer):
    """What is wrong with this node is another thing now: that is for the operator."""
    packet = NodesChanged((node_info(master, peer.id),), ())
    for admin in master.members.admins.values():
        if admin is not peer:
            master.send(admin, packet)
