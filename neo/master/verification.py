"""From a table in force to a cluster that serves (docs/decisions/settling.md).

    outdate    cells that are not there, or lack what was told, are out of date, in force, before
               anything else
    find       was a transaction that is only locked there unlocked elsewhere?
    settle     keep what was told, or is everywhere; drop the rest, everywhere
    remove     what was truncated, where it is still there (truncation.py)
    serve      unlock what was kept

Nothing outlives a loss of who is needed: recovery begins again, and cancels these steps.
"""
import logging

from ..cluster import cuts
from ..cluster.context import Context
from ..cluster.ids import node_order, tid_text
from ..protocol.packets import Error, FindTransactions, Settle, Unlock
from ..protocol.types import ClusterState, Span
from . import comparison, truncation
from .round import Poll, Round

# Who is left out by a forced start may have given more oids, of which clients still have objects.
FORCED_OIDS = 1 << 32


class Verification:
    """One per term; `states` are what the storages said when they granted it, `before` is the table
    as it was then."""

    def __init__(self, before, states):
        self.before, self.states = before, states
        self.locked = comparison.all_locked(before, states)
        self.keep = None                # Unfinished that are kept, once that is known


def begin(node, absent, behind, states):
    """The table is in force: nobody can settle anything against this master any more."""
    table = node.tables.in_force
    node.verification = Verification(table, states)
    node.known_before = comparison.last_known(table, states)
    node.change_phase(ClusterState.VERIFYING)
    if absent:
        node.log('without %s: what is there is out of date from now on', ', '.join(
            map(node.members.describe, absent)), level=logging.WARNING)
    say_behind(node, behind)
    outdate(node, [*table.cells_of(absent), *behind], find)


def outdate(node, cells, then):
    """`cells` are (row, storage)."""
    if cells:
        node.tables.write(node, node.tables.newest.outdated(cells), then)
    else:
        then(node)


def say_behind(node, cells):
    by_storage = {}
    for row, id in cells:
        by_storage.setdefault(id, []).append(row)
    for id, rows in by_storage.items():
        node.log('%s lacks transactions of %d rows (%s) that clients have seen: its cells there are'
                 ' out of date', node.members.describe(id), len(rows), ranges(rows),
                 level=logging.WARNING)


def ranges(rows):
    """[0, 1, 2, 5] to '0-2, 5'."""
    texts, rows = [], sorted(rows)
    while rows:
        end = 1
        while end < len(rows) and rows[end] == rows[0] + end:
            end += 1
        texts.append('%d' % rows[0] if end == 1 else '%d-%d' % (rows[0], rows[end - 1]))
        rows = rows[end:]
    return ', '.join(texts[:10]) + ', …' * (len(texts) > 10)


def find(node):
    """Ask those who may have unlocked what others have only locked."""
    spans = {}
    for locked in node.verification.locked:
        for id in sorted(locked.uncertain, key=node_order):
            spans.setdefault(id, []).append(Span(*locked.it[:3]))
    Poll(node, {node.members.storages[id]: FindTransactions(tuple(asked))
                for id, asked in spans.items()}, found)


def found(node, answers):
    """Decide what is kept."""
    verification, table = node.verification, node.tables.in_force
    unable = ['%s (%s)' % (node.members.describe(peer.id), answer.message)
              for peer, answer in answers.items() if type(answer) is Error]
    if unable:
        node.recovery.wait_for(node, 'waiting for a copy that is whole, of %s' % ', '.join(unable))
        return
    having = {}
    for peer, answer in answers.items():
        for ttid in answer.found:
            having.setdefault(ttid, set()).add(peer.id)
    keep, lacking = [], set()
    for locked in verification.locked:
        there = having.get(locked.it.ttid, set())
        if locked.is_kept(there, table):
            keep.append(locked.it)
            lacking.update(locked.lacking(there, table))
    if lacking and not table.outdated(lacking).operational(verification.states):
        node.recovery.wait_for(node, 'waiting for a copy that has what is in none: %s' % ', '.join(
            'row %d' % row for row in sorted({row for row, _ in lacking})))
        return
    verification.keep = tuple(keep)
    lacking = sorted(lacking)
    say_behind(node, lacking)
    outdate(node, lacking, settle)


def settle(node):
    """End what a former primary left."""
    packet = Settle(node.verification.keep)
    needed = dict.fromkeys(node.tables.present(node), packet)
    for peer in needed:
        peer.data.settled = True
    for peer in node.tables.holders(node):
        settle_late(node, peer)
    Round(node, needed, settled)


class Obedience(Context):
    """Nobody waits for its answer; who refuses is no use."""

    __slots__ = ()

    def answered(self, node, peer, answer):
        pass

    def refused(self, node, peer, error):
        node.drop(peer, 'it failed: %s' % error.message)


def settled(node, answers):
    verification = node.verification
    for kept in verification.keep:
        for peer in answers:
            node.send(peer, Unlock(kept.ttid))
    dropped = len(verification.locked) - len(verification.keep)
    if verification.locked:
        node.log('of the transactions that were being committed, %d were finished and %d dropped',
                 len(verification.keep), dropped)
    truncation.remove(node, answers, serve)


def serve(node, answers):
    verification, node.verification = node.verification, None
    # Tids of what was dropped or removed are not given again, and nobody hears of them.
    states = verification.states.values()
    last_told = max([answer.last_tid for answer in answers.values()] + truncation.there(
        node, [kept.tid for kept in verification.keep]
        + [told.tid for state in states for told in state.told]))
    last_given = max([last_told] + [state.last_tid for state in states]
                     + [cut.last for cut in node.tables.in_force.cuts])
    next_oid = max(state.oid_mark for state in states)
    if any(cuts.forced(cuts.since(node.tables.in_force.cuts, state.history)) for state in states):
        next_oid += FORCED_OIDS
    node.serve(last_told, last_given, next_oid)


def settle_late(node, peer):
    """`peer` has the table in force, and none of its cells is readable: whatever it has unfinished
    is dropped.  False: that has been done, or it is too early."""
    verification = node.verification
    if peer.data.settled or node.phase == ClusterState.RECOVERING or (
            peer.id in node.tables.readers()) or (
            verification is not None and verification.keep is None):
        return False
    peer.data.settled = True
    lost = comparison.knows_more(peer.data.grant, node.term, node.known_before)
    if lost:
        node.drop(peer, 'it knows of transaction %s, and nobody of whom the cluster has started has'
                  ' heard of it: the disk of another one was put back to an older copy, and what'
                  ' was committed since is lost but there. To use this storage again, start it with'
                  ' an empty database' % tid_text(lost))
        return False
    node.ask(peer, Settle(()), Obedience())
    packet = truncation.removal(node, peer)
    if packet:
        node.ask(peer, packet, Obedience())
    return True
