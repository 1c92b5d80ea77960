"""Clients who block others and say nothing: no lock is kept for good by somebody who is frozen, cut
off, or has no end in sight.

Who waits, here or elsewhere, is not silent: its client is asked what keeps the transaction, and if
that is the cluster, its patience begins anew.
"""
from ..cluster.context import Context
from ..protocol.limits import LOCK_PATIENCE
from ..protocol.packets import ClientIsSilent, DoesWait

SILENCE = 'silence'             # timer
LOOKS = 4                       # in the time of LOCK_PATIENCE


class Question(Context):
    """The context of DoesWait."""

    __slots__ = 'txn',

    def __init__(self, txn):
        self.txn = txn

    def answered(self, node, peer, answer):
        self.txn.questioned = False
        if answer.waits:
            self.txn.heard = node.now

    def refused(self, node, peer, error):
        self.lost(node, peer)

    def lost(self, node, peer):
        self.txn.questioned = False


class Silence:

    def __init__(self, node):
        self._node = node
        self._set = False           # the timer

    def watch(self):
        """Somebody waits: look again and again, as long as anybody does."""
        if not self._set:
            self._set = True
            self._node.set_timer(SILENCE, self._node.now + LOCK_PATIENCE / LOOKS)

    def look(self):
        self._set = False
        locks = self._node.transactions.locks
        if locks.contended:
            for txn in locks.wanted():
                self._look_at(txn)
            self.watch()

    def _look_at(self, txn):
        now = self._node.now
        if txn.tid is not None or (txn.waiting and txn.asked != txn.round):
            txn.blocks_since = None             # in finish, or it waits itself, rightly
        elif txn.blocks_since is None:
            txn.blocks_since = now
        else:
            silent = now - max(txn.heard, txn.blocks_since)
            if silent >= LOCK_PATIENCE:
                self._report(txn.client)
            elif silent >= LOCK_PATIENCE / 2:
                self._question(txn)

    def _question(self, txn):
        peer = txn.client.peer
        if peer is not None and not txn.questioned:
            txn.questioned = True
            self._node.ask(peer, DoesWait(txn.ttid), Question(txn))

    def _report(self, client):
        node = self._node
        if not client.reported and node.master is not None:
            client.reported = True
            node.log('%s blocks others and says nothing', client.id)
            node.send(node.master, ClientIsSilent(client.id))
