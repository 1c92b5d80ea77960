"""What must be true at the moment when something is said: sees all machines at once, as nobody in
the world can."""
from ..protocol.limits import LOCK_PATIENCE
from ..protocol.packets import ClientIsSilent, Error, Load
from ..protocol.types import ErrorCode, NodeKind

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


WITNESSES = {Error: closes, ClientIsSilent: calls_silent, Load.Answer: shows}
