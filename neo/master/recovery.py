"""From nothing to a running cluster, and back (docs/architecture.md, "Who may serve").

    RECOVERING   stand      every storage promises to obey this master's new term, and says what
                            it has
                 wait       for the storages of the newest table, or for the operator if there
                            is none
                 write      the newest table, under the new term, on all of them
    VERIFYING    in force   all have it; lock everywhere what is locked anywhere, drop the rest
    RUNNING      unlock     and serve

A storage of the table that is lost brings the cluster back to the beginning, with another term:
every step leaves what the next recovery needs.
"""
from ..cluster.ids import time_of
from ..cluster.node import handles
from ..cluster.partition_table import PartitionTable, new_table
from ..protocol.limits import SHUTDOWN_GRACE, STOP_GRACE
from ..protocol.packets import (ClusterStateChanged, RequestTerm, Settle, TableInForce, Unlock,
                                WriteTable)
from ..protocol.types import ClusterState, NodeKind

RECOVERING, VERIFYING = ClusterState.RECOVERING, ClusterState.VERIFYING
RUNNING, STOPPING = ClusterState.RUNNING, ClusterState.STOPPING


# -- recovering -----------------------------------------------------------------------------
def begin(master, reason):
    """Stop serving and start over."""
    master.change_phase(RECOVERING, reason)
    master.stop_serving()
    stand(master)


def stand(master):
    """Ask every storage to obey a new term."""
    storages = master.storages()
    master.writing = False
    master.term = 1 + max([master.term] + [peer.data.term for peer in storages])
    for peer in storages:
        peer.data.state = None
        request_term(master, peer)
    wait(master)


def request_term(master, peer):
    peer.data.waiting_for = None
    master.ask(peer, RequestTerm(master.term, master.identity), master.term)


def storage_joined(master, peer):
    if peer.data.term > master.term and master.phase == RECOVERING:
        stand(master)
    else:
        request_term(master, peer)


def storage_lost(master, peer):
    needed = master.table is not None and peer.id in master.table.storages()
    if needed and (master.writing or master.phase != RECOVERING):
        begin(master, '%s is gone' % peer.id)
    elif master.phase == RECOVERING and not master.writing:
        wait(master)


@handles(RequestTerm.Answer, sender=NodeKind.STORAGE)
def term_answered(master, peer, answer, term):
    if term != master.term:
        return                          # another one has been asked for meanwhile
    if not answer.granted:
        # A storage of the table is not missing while the cluster runs: one that has promised this
        # term, or a later one, to somebody else waits without cells for the next recovery.
        peer.data.term = answer.promised
        if master.phase == RECOVERING:
            stand(master)
        else:
            master.log('%s obeys term %d: it takes no part', peer, answer.promised)
        return
    peer.data.state = answer
    peer.data.clock_offset = answer.clock - master.now
    if master.phase == RECOVERING and not master.writing:
        wait(master)
    elif master.phase != STOPPING:
        write_table(master, peer)       # a newcomer without cells


def wait(master):
    """Start if it can be done, else say what the cluster is waiting for."""
    granted = [peer for peer in master.storages() if peer.data.state is not None]
    known = [peer.data.state for peer in granted if peer.data.state.table is not None]
    if known:
        newest = max(known, key=lambda state: tuple(state.table[:2]))
        master.table = PartitionTable.unpack(newest.table)
        master.members = dict(newest.members)
    elif master.table is None:
        wait_for_operator(master, granted)
        return
    if send_away_misnamed(master):
        return                          # they come back, under their own names
    here = {peer.id for peer in granted}
    missing = [id for id in master.table.storages() if id not in here]
    if missing:
        master.change_phase(RECOVERING, 'waiting for %s' % ', '.join(missing))
    else:
        write_everywhere(master, master.table.rewritten(master.term))


def send_away_misnamed(master):
    """Storages that were given an id before the table, which knows better, was known."""
    owners = {identity: id for id, identity in master.members.items()}
    misnamed = [peer for peer in master.storages()
                if owners.get(peer.data.identity, None if peer.id in master.members else peer.id)
                != peer.id]
    for peer in misnamed:
        master.close(peer)
        del master.joined[peer.id]
    if misnamed:
        master.announce([peer.id for peer in misnamed])
        wait(master)
    return misnamed


def wait_for_operator(master, granted):
    """There is no table at all: nothing says that this is not a new cluster."""
    count = len(granted)
    missing = missing_for_start(master, granted)
    if master.autostart and count >= master.autostart and not missing:
        create(master)
    elif missing:
        master.change_phase(RECOVERING, missing)
    else:
        master.change_phase(RECOVERING, 'a new cluster, with %d storage%s: waiting for %s' % (
            count, 's' * (count != 1), '%d of them' % master.autostart if master.autostart
            else '`neoctl start`'))


def missing_for_start(master, granted):
    """Why a new cluster can't be created now, or an empty string."""
    if not master.storages():
        return 'no storage is there'
    if len(granted) <= master.replicas:
        return 'a new cluster with %d replica%s needs at least %d storages, and %d %s there' % (
            master.replicas, 's' * (master.replicas != 1), master.replicas + 1, len(granted),
            'is' if len(granted) == 1 else 'are')
    return ''


def create(master):
    """A new cluster, of all the storages that are there."""
    granted = [peer for peer in master.storages() if peer.data.state is not None]
    master.certain = True
    master.cluster_id = master.rnd.randbytes(16)
    master.history = master.rnd.randbytes(16)
    master.members = {peer.id: peer.data.identity for peer in granted}
    master.log('a new cluster is created, with %s', ', '.join(master.members))
    write_everywhere(master, new_table(
        master.term, master.partitions, master.replicas, list(master.members)))


# -- one table, under this term, on everybody -------------------------------------------------
def write_everywhere(master, table):
    master.table = table
    master.partitions = table.partitions
    master.writing = True
    for peer in master.storages():
        if peer.data.state is not None:
            write_table(master, peer)


def write_table(master, peer):
    peer.data.waiting_for = WriteTable
    master.ask(peer, WriteTable(
        master.cluster_id, master.history, master.partitions, master.table.pack(),
        sorted(master.members.items())), master.table.key)


def all_answered(master):
    return all(peer.data.waiting_for is None for peer in master.needed())


@handles(WriteTable.Answer, sender=NodeKind.STORAGE)
def table_written(master, peer, answer, key):
    if key != master.table.key or peer.data.waiting_for is not WriteTable:
        return                          # of an earlier attempt
    peer.data.waiting_for = None
    if master.phase != RECOVERING:
        master.send(peer, TableInForce(key))
        if master.phase == RUNNING:
            master.describe_to(peer)
    elif all_answered(master):
        verify(master)


# -- verifying --------------------------------------------------------------------------------
def verify(master):
    """The table is in force: nobody can settle anything against this master any more."""
    master.writing = False
    master.change_phase(VERIFYING)
    for peer in master.storages():
        if peer.data.state is not None and peer.data.waiting_for is None:
            master.send(peer, TableInForce(master.table.key))
    master.settling = to_be_kept(master.table, {
        peer.id: peer.data.state for peer in master.needed()})
    for peer in master.needed():
        peer.data.waiting_for = Settle
        master.ask(peer, Settle(master.settling), master.term)


def to_be_kept(table, states):
    """Of what is locked anywhere: what was told, or what every storage that writes it has locked or
    still has its vote for.  Nobody was ever told of the rest."""
    locked, told = {}, {}
    for state in states.values():
        for unfinished in state.unfinished:
            if unfinished.tid is not None and (
                    locked.setdefault(unfinished.ttid, unfinished).tid != unfinished.tid):
                raise AssertionError('transaction %#x has two tids' % unfinished.ttid)
        for row, tid in state.told:
            told[row] = max(tid, told.get(row, 0))
    have = {id: {unfinished.ttid for unfinished in state.unfinished}
            for id, state in states.items()}
    return [transaction for ttid, transaction in sorted(locked.items())
            if any(told.get(row, 0) >= transaction.tid for row in transaction.rows)
            or all(ttid in have[id] for row in transaction.rows for id in table.rows[row])]


@handles(Settle.Answer, sender=NodeKind.STORAGE)
def settled(master, peer, answer, term):
    if term != master.term:
        return                          # recovery has begun again meanwhile
    peer.data.waiting_for = None
    peer.data.last_tid = answer.last_tid
    if all_answered(master):
        serve(master)


def serve(master):
    needed = master.needed()
    for kept in master.settling:
        for peer in needed:
            master.send(peer, Unlock(kept.ttid))
    if master.settling:
        master.log('%d transactions of before were finished', len(master.settling))
    last_tid = max(peer.data.last_tid for peer in needed)
    master.check_clock(time_of(last_tid) if last_tid else 0.0)
    master.run(last_tid, max(peer.data.state.oid_mark for peer in needed))


# -- stopping ---------------------------------------------------------------------------------
def stop(master):
    """The operator wants everybody to leave: first let commits end."""
    master.change_phase(STOPPING, 'commits in progress end')
    master.set_timer('stop', master.now + STOP_GRACE)
    stopping(master)


def stopping(master, patient=True):
    """Called whenever something has ended."""
    if master.stop_requests is not None:
        transactions = master.transactions
        if patient and transactions is not None and transactions.finishing:
            return
        master.answer_operators(master.stop_requests, 'the cluster is stopping')
        master.stop_requests = None     # everybody is being told
        master.stop_serving()
        for peer in master.peers_of(NodeKind.STORAGE, NodeKind.ADMIN):
            master.send(peer, ClusterStateChanged(STOPPING, ''))
        master.set_timer('stop', master.now + SHUTDOWN_GRACE)
        patient = True
    if not patient or not master.peers_of(NodeKind.STORAGE, NodeKind.ADMIN):
        master.exit(0, 'the cluster has stopped')
