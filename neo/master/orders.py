"""What a master does for the operator (docs/operations.md).

An order that changes the cluster is looked at whole, against the newest table, and refused in words
before anything has changed.  It is answered when the table that it makes is in force.
"""
from ..cluster import balance
from ..cluster.ids import node_order
from ..cluster.node import Refused, handles
from ..protocol.limits import MAX_REPLICAS
from ..protocol.packets import (AddStorages, Check, DescribeIds, DropStorage, KillNode, Leave,
                                SetClusterState, SetReplicas, Tweak)
from ..protocol.types import CellState, ClusterState, ErrorCode, NodeKind
from . import announcements
from .checking import Task

ADMIN = NodeKind.ADMIN


class Ordered:
    """Orders that are not answered yet: their tables are on their way, or a storage is."""

    def __init__(self):
        self._waiting = {}              # (peer, request id) -> None
        self._parked = []               # (peer, AddStorages, request id)

    def park(self, peer, packet, request_id):
        """A storage is only just coming."""
        self._parked.append((peer, packet, request_id))

    def take_parked(self, master):
        """A storage is ready, or gone."""
        parked, self._parked = self._parked, []
        for peer, packet, request_id in parked:
            if peer.connection in master.peers:
                try:
                    add(master, peer, packet, request_id)
                except Refused as refusal:
                    master.refuse(peer, request_id, refusal.error, str(refusal))

    def write(self, master, peer, request_id, table, answer, then=None):
        """Write `table`; when it is in force, call `then(master)` and answer."""
        key = peer, request_id
        self._waiting[key] = None

        def done(master):
            if key in self._waiting:    # else the term has ended meanwhile
                del self._waiting[key]
                if then is not None:
                    then(master)
                if peer.connection in master.peers:
                    master.answer(peer, request_id, answer)
        master.tables.write(master, table, done)

    def give_up(self, master):
        """Another term begins, or the cluster stops."""
        self.take_parked(master)
        waiting, self._waiting = self._waiting, {}
        for peer, request_id in waiting:
            if peer.connection in master.peers:
                master.refuse(peer, request_id, ErrorCode.NOT_READY, 'the cluster does not run any'
                              ' more, and this was done or not: look, and say it again')


def refused(message, *args):
    return Refused(ErrorCode.REFUSED, message % args)


# -- the cluster as a whole -------------------------------------------------------------------
@handles(SetClusterState, sender=ADMIN)
def set_cluster_state(master, peer, packet, request_id):
    state = ClusterState(packet.state)
    if state == ClusterState.RUNNING:
        start(master, peer, request_id)
    elif state == ClusterState.STOPPING:
        master.stopping.order(master, peer, request_id)
    else:
        raise refused('the state of the cluster can be set to RUNNING or to STOPPING, not to %s',
                      state.name)


def start(master, peer, request_id):
    if master.phase == ClusterState.STOPPING:
        raise refused('the cluster is stopping')
    if master.phase == ClusterState.RUNNING:
        master.answer(peer, request_id, SetClusterState.Answer('the cluster is running already'))
    else:
        master.creation.order(master, peer, request_id)


@handles(DescribeIds, sender=ADMIN)
def describe_ids(master, peer, packet, request_id):
    master.answer(peer, request_id, DescribeIds.Answer(
        master.cluster.id,
        master.transactions.last_told if master.transactions else 0,
        master.oids.next - 1 if master.oids else 0,
        master.filling.progress(master) if master.filling else ()))


@handles(Check, sender=ADMIN)
def check(master, peer, packet, request_id):
    check_runs(master)
    if packet.min_tid > packet.max_tid:
        raise refused('the first TID is above the last one')
    if master.checking.progress:
        raise refused('there is a check already: %s', master.checking.progress)
    rows = {}
    for asked in packet.rows:
        rows.update(dict.fromkeys(*checked(master.tables.in_force, asked)))
    master.checking.order(master, [Task(row, reference, packet.min_tid, packet.max_tid)
                                   for row, reference in sorted(rows.items())])
    master.answer(peer, request_id, Check.Answer(
        '%s: copies are compared, and what is wrong is repaired. What can\'t be repaired:'
        ' neoctl print summary' % balance.rows_text(sorted(rows))))


def checked(table, asked):
    """`(rows, reference)` of one that the operator has named; a reference is one where it can be
    read."""
    row, reference = asked
    if row is not None and row >= table.partitions:
        raise refused('there is no row %d: the table has rows 0 to %d', row, table.partitions - 1)
    rows = range(table.partitions) if row is None else [row]
    if reference is not None:
        rows = [row for row in rows if reference in table.readable[row]]
        if not rows:
            raise refused('%s has no copy of %s that can be read', reference,
                          'any row' if row is None else 'row %d' % row)
    return rows, reference


# -- which storages, and what they have ---------------------------------------------------------
def check_runs(master):
    if master.phase != ClusterState.RUNNING:
        raise Refused(ErrorCode.NOT_READY, 'that can be done while the cluster runs only, and it is'
                      ' %s%s' % (master.phase.name, master.reason and ', ' + master.reason))


def check_storage(master, id):
    """It belongs to the cluster."""
    if not announcements.belongs(master, id):
        raise refused('%s waits to be added: it does not belong to the cluster yet' if (
            id in master.members.storages) else 'there is no storage %s in the cluster', id)


def is_ready(master, id):
    """Does this storage run, and know what the others do?"""
    peer = master.members.storages.get(id)
    return peer is not None and peer.data.settled and peer.data.holds(master.tables.in_force)


@handles(AddStorages, sender=ADMIN)
def add(master, peer, packet, request_id):
    check_runs(master)
    waiting = [id for id in announcements.storages(master)
               if not announcements.belongs(master, id)]
    if not waiting and not packet.nodes:
        raise refused('no storage waits to be added')
    ids = sorted(set(packet.nodes or waiting), key=node_order)
    for id in ids:
        if id not in waiting:
            raise refused('%s belongs to the cluster already' if announcements.belongs(master, id)
                          else 'there is no storage %s: only one that runs can be added', id)
    if not all(is_ready(master, id) for id in ids):
        master.ordered.park(peer, packet, request_id)
        return
    master.members.set_added(ids, True)

    def tell(master):
        for id in ids:
            announcements.changed(master, id)
    master.ordered.write(master, peer, request_id, master.tables.newest.next(), AddStorages.Answer(
        '%s belong%s to the cluster now. To move rows there: neoctl tweak' % (
            ', '.join(ids), 's' * (len(ids) == 1))), tell)


@handles(Tweak, sender=ADMIN)
def tweak(master, peer, packet, request_id):
    check_runs(master)
    for id in packet.leaving:
        check_storage(master, id)
    ids = [id for id in announcements.storages(master)
           if announcements.belongs(master, id) and id not in packet.leaving]
    homes = {id: home(master, id) for id in ids if is_ready(master, id)}
    before = master.tables.newest
    try:
        table = balance.tweak(before, homes, packet.leaving)
    except balance.Impossible as impossible:
        raise refused('%s', impossible) from None
    away = [id for id in ids if id not in homes]
    words = [changes_text(before, table, packet.dry_run)]
    if away:
        words.append('%s: not there, left as %s and not counted' % (
            ', '.join(away), 'it is' if len(away) == 1 else 'they are'))
    if table.rows == before.rows:
        table = before
    answer = Tweak.Answer('. '.join(words), table.pack())
    if packet.dry_run or table is before:
        master.answer(peer, request_id, answer)
    else:
        master.ordered.write(master, peer, request_id, table, answer)


def home(master, id):
    """The machine of a storage."""
    return master.members.storages[id].data.topology


def changes_text(before, after, dry_run):
    to_fill = {id: len([row for row in rows if before.rows[row].get(id) != CellState.OUT_OF_DATE])
               for id, rows in after.out_of_date.items()}
    new = ['%s: %d' % (id, count) for id, count in to_fill.items() if count]
    feeding = sum(state == CellState.FEEDING for row in after.rows for state in row.values())
    gone = sum(len(old.keys() - row.keys()) for old, row in zip(before.rows, after.rows))
    if after.rows == before.rows:
        return 'there is nothing to change'
    would = 'would be' if dry_run else 'are'
    words = ['cells that %s filled: %s' % (would, ', '.join(new) or 'none')]
    if gone:
        words.append('cells that %s removed: %d' % (would, gone))
    if feeding:
        words.append('cells that go when others are filled: %d' % feeding)
    return '; '.join(words)


@handles(DropStorage, sender=ADMIN)
def drop(master, peer, packet, request_id):
    check_runs(master)
    id = packet.node
    check_storage(master, id)
    before = master.tables.newest
    check_others(master, id, 'dropped')
    try:
        table = balance.dropped(before, [id])
    except balance.Impossible as impossible:
        raise refused('%s can\'t be dropped: %s', id, impossible) from None
    master.members.set_added([id], False)

    def leave(master):
        there = master.members.storages.get(id)
        if there is None:
            announcements.changed(master, id)
        else:
            dismiss(master, there, 'it was dropped from the cluster')
    lacking = balance.lacking(table)
    master.ordered.write(master, peer, request_id, table, DropStorage.Answer(
        '%s does not belong to the cluster any more%s' % (id, lacking and (
            '. Fewer copies than wanted have %s: neoctl tweak' % balance.rows_text(lacking))
            or '')), leave)


def check_others(master, id, what):
    """Is there nothing that only this storage can give?"""
    others = [other for other in master.members.storages if other != id]
    table = master.tables.newest
    lost = balance.only_on(table, set(table.storages()).difference(others))
    if lost:
        raise refused('%s can\'t be %s: of %s there is no other copy that can be read. To make'
                      ' copies elsewhere: neoctl tweak %s', id, what, balance.rows_text(lost), id)


@handles(SetReplicas, sender=ADMIN)
def set_replicas(master, peer, packet, request_id):
    check_runs(master)
    replicas, before = packet.replicas, master.tables.newest
    count = sum(announcements.belongs(master, id) for id in announcements.storages(master))
    if replicas > MAX_REPLICAS:
        raise refused('%d replicas are too many: the highest number is %d', replicas, MAX_REPLICAS)
    if replicas >= count:
        raise refused('%d replicas need %d storages in the cluster, and there %s', replicas,
                      replicas + 1, 'is 1' if count == 1 else 'are %d' % count)
    if replicas == before.replicas:
        master.answer(peer, request_id, SetReplicas.Answer(
            'there is nothing to change: replicas are %d already' % replicas))
        return
    master.ordered.write(master, peer, request_id, before.next(replicas=replicas),
                         SetReplicas.Answer('replicas are %d now, they were %d. To %s copies:'
                                            ' neoctl tweak' % (
                                                replicas, before.replicas,
                                                'make' if replicas > before.replicas
                                                else 'remove')))


@handles(KillNode, sender=ADMIN)
def kill(master, peer, packet, request_id):
    id = packet.node
    node = master.members.joined.get(id)
    if id == master.id:
        raise refused('%s is the primary: end its process on its machine, or stop the cluster with'
                      ' neoctl stop', id)
    if id in master.fellows.by_id(master):
        raise refused('%s is a master: it is ended where it runs', id)
    if node is None:
        raise refused('%s does not run', id)
    if node.kind not in (NodeKind.STORAGE, ADMIN):
        raise refused('%s is a %s: it is ended where it runs', id, node.kind.name.lower())
    if node.kind == NodeKind.STORAGE:
        check_runs(master)
        check_others(master, id, 'killed')
    name = master.members.describe(id)
    if node is not peer:
        dismiss(master, node, 'it was killed by the operator')
    master.answer(peer, request_id, KillNode.Answer('%s was told to end' % name))
    if node is peer:
        master.send(peer, Leave('it was killed by the operator'))


def dismiss(master, peer, reason):
    """Let the process of a node end."""
    master.send(peer, Leave(reason))
    master.part(peer, reason)
