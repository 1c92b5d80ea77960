"""What became of a transaction: for clients who have lost the answer to *finish*."""
from ..cluster.ids import term_of
from ..cluster.node import Refused, handles
from ..protocol.packets import Error, WhatBecameOf
from ..protocol.types import ClusterState, ErrorCode, NodeKind
from .round import Poll

SERVING = ClusterState.RUNNING, ClusterState.STOPPING


class Outcomes:

    def __init__(self):
        self.waiting = {}               # ttid in finish -> [(peer, request id)]
        self.asked = 0                  # questions to storages that are not answered

    def __bool__(self):
        """Is anybody waiting?"""
        return bool(self.waiting or self.asked)

    def known(self, node, ttid, tid):
        """It is not in finish any more."""
        for peer, request_id in self.waiting.pop(ttid, ()):
            node.answer(peer, request_id, WhatBecameOf.Answer(ttid, tid))

    def ask_storages(self, node, ttid, peer, request_id):
        packet = WhatBecameOf(ttid)
        self.asked += 1

        def done(node, answers):
            self.asked -= 1
            errors = [answer for answer in answers.values() if type(answer) is Error]
            known = {peer.id: answer.tid for peer, answer in answers.items()
                     if type(answer) is not Error}
            # An import has several tids, and each storage knows those of its rows.
            if node.tables.in_force.operational(known):
                tids = [tid for tid in known.values() if tid is not None]
                node.answer(peer, request_id, WhatBecameOf.Answer(ttid, max(tids, default=None)))
            elif errors:
                node.refuse(peer, request_id, errors[0].error, errors[0].message)
            # Else nobody can tell: the connection to the client ends too.
        Poll(node, dict.fromkeys(node.tables.present(node), packet), done)


@handles(WhatBecameOf, sender=NodeKind.CLIENT, phase=SERVING)
def what_became_of(master, peer, packet, request_id):
    ttid = packet.ttid
    transactions, outcomes = master.transactions, master.outcomes
    if term_of(ttid) > master.term:
        raise Refused(ErrorCode.REFUSED, 'ttid %#x is of a term to come' % ttid)
    if ttid in transactions.by_ttid:
        outcomes.waiting.setdefault(ttid, []).append((peer, request_id))
        return
    # A *finish* that is still on its way, by a connection that its client has given up, must not
    # make a liar of this answer.
    for client in master.members.clients.values():
        client.data.ttids.pop(ttid, None)
    outcomes.ask_storages(master, ttid, peer, request_id)
