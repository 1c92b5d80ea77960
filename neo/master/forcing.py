"""A start that the operator forces, with what is there (docs/decisions/forced-start.md).

    order      all nodes that are there promise a term, far above, whether they are enough to elect
               or not
    plan       what each row is read from, what has to be removed for that, who is left out
    table      leads to a new history; in force once it is durable on all of its voters
    verify     as always: whoever is of the former history removes what is to be removed
"""
import logging

from ..cluster import balance
from ..cluster.cuts import history_of
from ..cluster.ids import tid_text
from ..cluster.node import Refused, handles
from ..protocol.limits import MAX_NODES
from ..protocol.packets import ForceStart
from ..protocol.types import MAX_TID, CellState, ClusterState, Cut, ErrorCode, NodeKind
from . import comparison, recovery, verification
from .tables import all_of

# Who is left out may have seen later terms, and so have clients: no term is ever that of two
# primaries, and no ttid that of two transactions.
TERMS_AHEAD = 256


class Order:
    def __init__(self, peer, request_id):
        self.peer, self.request_id = peer, request_id
        self.plan = None                # once it is carried out


@handles(ForceStart, sender=NodeKind.ADMIN)
def force(master, peer, packet, request_id):
    reason = _not_now(master)
    if reason:
        raise Refused(ErrorCode.NOT_READY, reason)
    master.recovery.stand(master, TERMS_AHEAD + master.rnd.randrange(TERMS_AHEAD))
    if not master.leads:
        raise Refused(ErrorCode.NOT_READY, master.reason)
    master.forced = Order(peer, request_id)
    master.consider()


def _not_now(master):
    if master.phase != ClusterState.RECOVERING or master.tables.pending:
        return 'there is nothing to be forced: the cluster is %s' % (
            master.phase.name if master.phase != ClusterState.RECOVERING else 'about to start')
    if master.tables.newest is None:
        return 'there is no cluster that is known here: neoctl start makes a new one'
    if master.voter.is_led(master):
        return 'another master is about to start the cluster: look, and say it again'
    if master.forced is not None:
        return 'a start is being forced'
    return ''


def give_up(master, reason):
    order, master.forced = master.forced, None
    if order is not None and order.peer.connection in master.peers:
        master.refuse(order.peer, order.request_id, ErrorCode.NOT_READY, reason)


def answer(master):
    """The cluster runs."""
    order, master.forced = master.forced, None
    if order is not None and order.peer.connection in master.peers:
        master.answer(order.peer, order.request_id, ForceStart.Answer(
            'the cluster runs%s' % (order.plan and '. ' + order.plan.text(master) or '')))


def consider(master, states):
    """Go on once everybody who is there has promised the term, if it can be done at all."""
    if any(peer.data.grant is None for peer in master.reached().values()):
        return
    table = master.tables.newest
    try:
        plan = Plan(master, table, states)
    except Refused as refusal:
        give_up(master, str(refusal))
        return
    master.forced.plan = plan
    for id in states:
        master.members.enlist(master.members.storages[id])
    last = max([cut.last for cut in table.cuts] + [_last(state) for state in states.values()])
    cut = Cut(history_of(table.cuts, master.cluster.history), master.rnd.randbytes(16),
              MAX_TID if plan.tid is None else plan.tid, 0 if plan.tid is None else last,
              tuple(sorted(peer.data.identity for peer in master.obedient()))
              + (master.state.identity,))
    forced = table.forced(master.term, plan.rows, master.enlist_masters(), cut)
    behind, _ = comparison.compare(table.cut(cut), states)
    master.log('a start is forced: %s', plan.text(master), level=logging.WARNING)
    master.tables.write(master, forced,
                        lambda master: verification.begin(master, [], behind, states),
                        [all_of(forced.voters())])


def _last(state):
    """The highest tid that a storage knows of."""
    return max([state.last_tid] + [it.tid for it in state.told]
               + [it.tid for it in state.unfinished if it.tid is not None])


class Plan:
    """`rows` of the table to be; all above `tid` is removed, or nothing (None).  Raises Refused if
    there is nothing that could be started."""

    def __init__(self, master, table, states):
        reason = recovery.waiting_for(master, table, states)
        if reason:
            raise _refused(reason)
        if len(states) + len(master.fellows.reached()) >= MAX_NODES:
            raise _refused('there are too many nodes')
        older = {row: _older_copies(table, row, states) for row, readable in enumerate(
            table.readable) if states.keys().isdisjoint(readable)}
        gone = [row for row, copies in older.items() if not copies]
        if gone:
            raise _gone(gone)
        # A row that is read from an older copy, or lacks what clients have seen, takes all others
        # back with it: else some transactions would be there in a part only.
        self.stale = sorted(older)
        missing = comparison.compare(table, states)[1]
        gone = [it.row for it in missing if not any(tid for _, tid in it.holders)]
        if gone:
            raise _gone(gone)
        self.tid = min([max(copies.values()) for copies in older.values()]
                       + [max(tid for _, tid in it.holders) for it in missing], default=None)
        self.away = [id for id in table.storages() if id not in states]
        self.rows = [self._row(cells, older.get(row, {}), states)
                     for row, cells in enumerate(table.rows)]

    def _row(self, cells, copies, states):
        row = dict(cells)
        for id, state in cells.items():
            if id not in states and state in (CellState.UP_TO_DATE, CellState.FEEDING):
                row[id] = CellState.OUT_OF_DATE
            elif copies.get(id, -1) >= (self.tid or 0):
                row[id] = CellState.UP_TO_DATE
        return row

    def text(self, master):
        """What is lost by it."""
        texts = []
        if self.away:
            texts.append('%s %s left out: what was committed there alone is lost' % (
                ', '.join(map(master.members.describe, self.away)),
                'is' if len(self.away) == 1 else 'are'))
        if self.tid is not None:
            texts.append('what was committed after %s is removed%s' % (
                tid_text(self.tid), self.stale and ': there is no later copy of %s'
                % balance.rows_text(self.stale) or ''))
        return '; '.join(texts) or 'nothing is known to be lost'


def _older_copies(table, row, states):
    """{storage: tid up to which it has everything of the row} of those that can't be read."""
    copies = {}
    for id, state in table.rows[row].items():
        if id in states and state == CellState.OUT_OF_DATE:
            filled = {it.row: it.tid for it in states[id].copies.filled}
            in_force = states[id].in_force
            if row in filled:
                copies[id] = filled[row]
            elif in_force is not None and _reads(in_force, row, id):
                copies[id] = states[id].copies.complete
    return {id: tid for id, tid in copies.items() if tid}


def _reads(table, row, id):
    """By this packed table."""
    return row < len(table.rows) and any(
        cell.storage == id and cell.state in (CellState.UP_TO_DATE, CellState.FEEDING)
        for cell in table.rows[row])


def _gone(rows):
    return _refused('nothing that is there has a copy of %s' % balance.rows_text(rows))


def _refused(reason):
    return Refused(ErrorCode.NOT_READY, 'it can\'t be forced: ' + reason)
