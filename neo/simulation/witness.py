"""What must be true at the moment when something is said: sees all machines at once, as nobody in
the world can."""
from ..cluster.cuts import is_removed
from ..protocol.limits import LOCK_PATIENCE
from ..protocol.packets import (ClientIsSilent, Error, Filled, Finish, Load, Lock, NodesChanged,
                                RemoveAbove, RequestTerm, ReserveOids, Settle, TableInForce,
                                WriteTable)
from ..protocol.types import CellState, ErrorCode, NodeKind

# Why nodes close others who keep to the protocol.
EXPECTED = 'no sign of life', 'did not say who it is', 'says nothing', 'obeys a later term'


def closes(process, error):
    """Who keeps to the protocol is never told that he does not."""
    world = process.world
    if error.error == ErrorCode.PROTOCOL:
        world.counts['protocol errors'] += 1
        world.trace.note('%s refuses: %s' % (process.label, error.message))
        if not any(reason in error.message for reason in EXPECTED):
            world.violation('%s was sent what it does not expect: %s' % (
                process.label, error.message))


def calls_silent(process, packet):
    """That client will be dropped: only one to which something was done may be."""
    world = process.world
    for machine in world.machines.values():
        other = machine.process
        if other is not None and other.node.kind == NodeKind.CLIENT and (
                other.node.id == packet.client) and (
                machine.disturbed is None or world.now - machine.disturbed > 2 * LOCK_PATIENCE):
            world.violation('%s says that %s is silent, and nothing was done to it' % (
                process.label, other.label))


def shows(process, answer):
    """Nobody reads what the primary has not told yet: it may still be dropped."""
    node, world = process.node, process.world
    for other in world.processes():
        if other.node.kind == NodeKind.MASTER and other.node.term == node.term:
            transactions = other.node.transactions
            if transactions is not None and transactions.last_told < max(
                    answer.tid, answer.next_tid or 0):
                world.violation('%s shows object %d of %d, next %s, when only %d was told' % (
                    process.label, answer.oid, answer.tid, answer.next_tid,
                    transactions.last_told))


def promises(process, answer):
    """A voter gives each term to one candidate; its word is known by its promise alone."""
    node, world = process.node, process.world
    if answer.granted:
        voter = node.state.identity
        candidate = world.promises.setdefault((voter, answer.promised), node.state.candidate)
        if candidate != node.state.candidate:
            world.violation('%s has given term %d twice' % (process.label, answer.promised))


def puts_in_force(process, packet):
    """No two primaries have the same term, and each starts from what is in force."""
    node, world = process.node, process.world
    if node.kind != NodeKind.MASTER:
        return
    reigning = world.reigns.setdefault(packet.key.term, process.label)
    if reigning != process.label:
        world.violation('%s and %s are primaries of term %d' % (
            reigning, process.label, packet.key.term))
    before, world.in_force = world.in_force, node.tables.in_force
    if before is not None and before.key > packet.key:
        world.in_force = before         # it is deposed, and does not know
    elif before is not None and before.key < packet.key and before.ptid >= packet.key.ptid:
        world.violation('%s puts %s in force, and did not know of %s' % (
            process.label, packet.key, before.key))


def commits(process, answer):
    """Who acknowledges has it on all storages that are read by the highest table in force, also if
    another primary has put that in force."""
    node, world = process.node, process.world
    table = world.in_force
    if node.kind != NodeKind.MASTER or table is None or table.term <= node.term:
        return
    for other in world.machines.values():
        if other.name[0] == 'S':
            with other.disk.unobserved() as engine:
                if engine.get('id') in table.readable[answer.ttid % table.partitions] and not (
                        _has(engine, answer.ttid) or is_removed(table.cuts, answer.tid)):
                    world.violation('%s of term %d acknowledges %d, which %s lacks, by %s' % (
                        process.label, node.term, answer.tid, other.name, table))


def _has(engine, ttid):
    return engine.tid_of(ttid) is not None or any(
        locked[0] == ttid for locked in engine.locked())


def throws_away(process, packet):
    """No cell is corrupted where nothing was done to a disk, and no copies are told to differ."""
    if process.world.intact and any(
            cell.state == CellState.CORRUPTED for row in packet.table.rows for cell in row):
        process.world.violation('%s finds copies that differ: %s' % (
            process.label, process.node.tables.newest))


def doubts(process, packet):
    for info in packet.nodes if process.world.intact else ():
        if 'copies differ' in info.condition:
            process.world.violation('%s says of %s: %s' % (process.label, info.id, info.condition))


def is_durable(process, packet):
    """Who says this has nothing on its mind that a crash would make it forget."""
    node, machine = process.node, process.machine
    if node.kind == NodeKind.STORAGE:
        forgets = node.engine.changed
    elif machine.store is not None:
        saved = machine.store.load()
        forgets = any(saved[name] != getattr(node.state, name) for name in node.state.NAMES)
    else:
        forgets = False
    if forgets:
        process.world.violation('%s says %s, and has not committed that' % (
            process.label, type(packet).__qualname__))


# What others rely on, whatever becomes of who says it.
DURABLE = (Filled, Lock.Answer, RemoveAbove.Answer, RequestTerm, RequestTerm.Answer,
           ReserveOids.Answer, Settle.Answer, TableInForce, WriteTable, WriteTable.Answer)
WITNESSES = {RequestTerm.Answer: promises, WriteTable: throws_away, NodesChanged: doubts,
             TableInForce: puts_in_force, Finish.Answer: commits, Error: closes,
             ClientIsSilent: calls_silent, Load.Answer: shows}


def watch(process, packet):
    """It is about to be sent."""
    kind = type(packet)
    if kind in DURABLE:
        is_durable(process, packet)
    if kind in WITNESSES:
        WITNESSES[kind](process, packet)
