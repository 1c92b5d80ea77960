"""Clients who block others and say nothing: no lock is kept for good by somebody who is frozen, cut
off, or has no end in sight.

Who waits, here or elsewhere, is not silent: its client is asked what keeps the transaction, and if
that is the cluster, its patience begins anew.  Who gives no sign of life at all is reported
sooner: its transaction can't go on here.  Not as soon as a daemon is given up: the process of a
client has other work.
"""
from ..cluster.context import Context
from ..protocol.limits import (CLIENT_PATIENCE, LOCK_PATIENCE, SILENCE_TOLD,
                               WATCH_INTERVAL)
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
            silent = any(map(self._is_silent, self._node.clients.values()))
            self._node.set_timer(SILENCE, self._node.now + (
                WATCH_INTERVAL if silent else LOCK_PATIENCE / LOOKS))

    def look(self):
        """At whoever blocks others: it is time to, or a client has just become mute."""
        self._set = False
        locks = self._node.transactions.locks
        if locks.contended:
            for txn in locks.wanted():
                self._look_at(txn)
            self.watch()

    def _look_at(self, txn):
        now = self._node.now
        if txn.tid is None and self._is_mute(txn.client):
            self._report(txn.client)
        elif txn.tid is not None or (txn.waiting and txn.asked != txn.round):
            txn.blocks_since = None             # in finish, or it waits itself, rightly
        elif txn.blocks_since is None:
            txn.blocks_since = now
        else:
            silent = now - max(txn.heard, txn.blocks_since)
            if silent >= LOCK_PATIENCE:
                self._report(txn.client)
            elif silent >= LOCK_PATIENCE / 2:
                self._question(txn)

    def _is_silent(self, client):
        """Not if it may be this storage that is cut off, as its master is not heard either."""
        master = self._node.master
        return client.peer is not None and client.peer.silent and (
            master is not None and self._node.now - master.heard < SILENCE_TOLD - WATCH_INTERVAL)

    def _is_mute(self, client):
        return self._is_silent(client) and self._node.now - client.peer.heard >= CLIENT_PATIENCE

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
