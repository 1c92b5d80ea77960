"""Bringing the cluster back to a tid (docs/decisions/truncate.md).

    order      a table that leads to a new history; in force, nobody can go on without it
    recover    in another term: what was being committed is settled as always
    remove     each storage of a former history removes what is above, durably, before it serves
"""
from collections import namedtuple

from ..cluster.cuts import history_of, is_removed, missed
from ..cluster.ids import tid_text
from ..cluster.node import handles
from ..protocol.packets import RemoveAbove, Truncate
from ..protocol.types import Cut, ErrorCode, NodeKind
from .orders import check_runs, refused
from .round import Round

Order = namedtuple('Order', 'peer request_id cut')


# -- the order --------------------------------------------------------------------------------
@handles(Truncate, sender=NodeKind.ADMIN)
def truncate(master, peer, packet, request_id):
    check_runs(master)
    tid, transactions, table = packet.tid, master.transactions, master.tables.newest
    if tid > transactions.last_told == 0:
        raise refused('there is no transaction')
    if tid > transactions.last_told:
        raise refused('%s is above the last transaction, %s', tid_text(tid),
                      tid_text(transactions.last_told))
    if tid == transactions.last_given:
        master.answer(peer, request_id, Truncate.Answer(
            'there is nothing to remove: nothing was committed after %s' % tid_text(tid)))
        return
    # No tid is given any more until that is in force, and then this term ends.
    cut = Cut(history_of(table.cuts, master.cluster.history), master.rnd.randbytes(16), tid,
              transactions.last_given, ())
    master.truncations.append(Order(peer, request_id, cut))
    master.tables.write(master, table.cut(cut), lambda master: None)


def is_due(master):
    """Is the table in force of another history than what is served?"""
    return master.history != history_of(master.tables.in_force.cuts, master.cluster.history)


def answer(master):
    """The cluster runs again: what was in force by then is done, all else is not."""
    orders, master.truncations = master.truncations, []
    for peer, request_id, cut in orders:
        if peer.connection not in master.peers:
            continue
        if cut in master.tables.in_force.cuts:
            master.answer(peer, request_id, Truncate.Answer(
                'all above %s is removed: the last transaction is %s' % (
                    tid_text(cut.tid), tid_text(master.transactions.last_told))))
        else:
            master.refuse(peer, request_id, ErrorCode.NOT_READY, 'nothing was removed: another'
                          ' master has led the cluster before that was in force')


# -- what storages do about it ------------------------------------------------------------------
def removal(node, peer):
    """What this storage has to do to be of the present history, or None."""
    cuts = node.tables.in_force.cuts
    span = missed(cuts, peer.data.grant.history)
    return span and RemoveAbove(cuts[-1].history, *span)


def remove(node, answers, then):
    """Of storages that have settled and given these `answers`; call `then(node, answers)` with
    those that are true afterwards."""
    questions = {peer: removal(node, peer) for peer in answers}
    Round(node, {peer: packet for peer, packet in questions.items() if packet},
          lambda node, removed: then(node, {**answers, **removed}))


def there(node, tids):
    """Those of them that were not removed."""
    cuts = node.tables.in_force.cuts
    return [tid for tid in tids if not is_removed(cuts, tid)]
