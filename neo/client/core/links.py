"""The connections of a client to storages: one to each that the primary has announced."""
import logging
from collections import deque

from ...cluster.addresses import readable
from ...cluster.context import Context
from ...cluster.seek import BackOff
from ...protocol import limits
from ...protocol.packets import Abort, Ping
from ...protocol.types import NodeKind, NodeState

TIMER = 'link '                 # … and the id of a storage


class Link(Context):
    """A storage as it was announced, and the connection to it.  The context of Identify."""

    __slots__ = ('id', 'name', 'address', 'running', 'connecting', 'peer', 'session', 'back_off',
                 'trouble', 'aborted', 'late')

    def __init__(self, info):
        self.id, self.name, self.address = info.id, info.name, info.address
        self.running = False
        self.connecting = False         # or connected and not accepted yet
        self.peer = None                # once it has accepted this client
        self.session = 0                # in which what it votes counts
        self.back_off = BackOff()
        self.trouble = None             # why there is no connection; in the log already
        self.aborted = deque()          # (when, ttid): lately, on this connection
        self.late = False               # it keeps others waiting who do not need it

    def describe(self):
        """As people know it, and what is wrong with it."""
        known = [self.name] if self.name else []
        if self.address is not None:
            known.append(readable(self.address))
        trouble = self.trouble
        if self.peer is None:
            trouble = trouble or ('not connected yet' if self.running else 'it is down')
        elif self.peer.silent:
            trouble = 'it says nothing'
        return '%s (%s%s)' % (self.id, ', '.join(known), trouble and ': ' + trouble or '')

    def abort(self, client, ttids):
        """Have it forget transactions.  A connection may be lost with this message in it: then it
        is told again on the next one.  Nothing is in flight for longer than a dead peer is kept."""
        aborted = self.aborted
        while aborted and aborted[0][0] < client.now - 2 * limits.PEER_TIMEOUT:
            aborted.popleft()
        aborted.extend((client.now, ttid) for ttid in ttids)
        client.send(self.peer, Abort(tuple(ttids)))

    # -- as the context of Identify -------------------------------------------------------
    def answered(self, client, peer, answer):
        client.links.accepted(client, self, peer, answer)

    def refused(self, client, peer, error):
        client.close(peer)
        client.links.failed(client, self, error.message)


class CatchesUp(Context):
    """The context of a Ping to who is late."""

    __slots__ = 'link',

    def __init__(self, link):
        self.link = link

    def answered(self, client, peer, answer):
        self.link.late = False
        client.route()


class Links:

    def __init__(self):
        self._links = {}                # id -> Link
        self._orphans = {}              # id -> ttids aborted while it was not connected
        self.mute = {}                  # id -> since when: nothing was heard, and a read has waited

    def reach(self, id):
        """The peer to send to, or None."""
        link = self._links.get(id)
        return None if link is None else link.peer

    def connected_to(self, id):
        """Its Link, or None while it is not connected."""
        link = self._links.get(id)
        return None if link is None or link.peer is None else link

    # -- who is written to though nobody reads there ------------------------------------------
    def takes(self, id):
        """May a transaction write to it that could do without?"""
        link = self.connected_to(id)
        return link is not None and not link.late

    def is_late(self, client, id):
        """Nobody waits for it again until it has shown that it has done all it was told so far."""
        link = self.connected_to(id)
        if link is not None and not link.late:
            link.late = True
            client.ask(link.peer, Ping(), CatchesUp(link))
            client.route()

    # -- who does not answer -----------------------------------------------------------------
    def keeps_waiting(self, client, peer):
        self.mute[peer.id] = client.now

    def is_mute(self, id):
        """It has kept a read waiting, and has not been heard since."""
        since = self.mute.get(id)
        if since is None:
            return False
        peer = self.reach(id)
        if peer is None or peer.heard > since:
            del self.mute[id]
            return False
        return True

    def describe(self, ids):
        return ', '.join(self._links[id].describe() if id in self._links else id for id in ids)

    def missing(self, ids):
        """Those of these storages that can't be asked, in words; empty if there are none."""
        return self.describe([id for id in ids if self.reach(id) is None])

    def abort(self, client, id, ttid):
        """Have a storage forget a transaction, sooner or later."""
        link = self.connected_to(id)
        if link is not None:
            link.abort(client, (ttid,))
        else:
            self._orphans.setdefault(id, []).append(ttid)

    # -- what the primary says ------------------------------------------------------------
    def announced(self, client, info):
        link = self._links.get(info.id)
        if link is not None and link.address not in (None, info.address):
            self.removed(client, info.id, 'it has moved')
            link = None
        if link is None:
            link = self._links[info.id] = Link(info)
        link.name, link.address = info.name, info.address
        link.running = info.address is not None and (
            info.state in (NodeState.RUNNING, NodeState.PENDING))
        self.connect(client, info.id)

    def removed(self, client, id, reason):
        link = self._links.pop(id, None)
        if link is not None:
            link.running = False
            self._lost(client, link, reason)
            for peer in [peer for peer in client.peers.values() if peer.data is link]:
                client.close(peer)

    def primary_lost(self, client):
        """Storages serve only whom the primary has announced: what was aborted they know."""
        for id in list(self._links):
            self.removed(client, id, 'the primary is lost')
        self._orphans.clear()

    # -- connecting -------------------------------------------------------------------------
    def connect(self, client, id):
        """Unless that is done or under way."""
        link = self._links.get(id)
        if link is not None and link.running and not link.connecting and link.peer is None:
            link.connecting = True
            client.connect(link.address)

    def _connecting_to(self, address):
        return [link for link in self._links.values()
                if link.address == address and link.connecting]

    def connected(self, client, peer):
        for link in self._connecting_to(peer.address):
            if not any(other.data is link for other in client.peers.values()):
                peer.kind, peer.data = NodeKind.STORAGE, link
                client.greet(peer, link)
                return
        client.close(peer)              # gone meanwhile

    def connect_failed(self, client, address, reason):
        for link in self._connecting_to(address):
            self.failed(client, link, reason)

    def accepted(self, client, link, peer, answer):
        if self._links.get(link.id) is not link or answer.id != link.id or (
                answer.cluster_id not in (None, client.cluster_id)):
            client.close(peer)
            self.failed(client, link, 'another node answers at its address')
            return
        client.accept(peer, NodeKind.STORAGE, link.id)
        link.connecting, link.trouble, link.back_off = False, None, BackOff()
        link.peer, link.session, link.late = peer, answer.session, False
        orphans = self._orphans.pop(link.id, None)
        if orphans:
            link.abort(client, orphans)
        client.storage_found(link)

    def lost(self, client, peer, reason):
        if peer.data is not None:
            self.failed(client, peer.data, 'the connection was lost: %s' % reason)

    def failed(self, client, link, reason):
        """There is no connection (any more), and that is not the will of the primary."""
        if link.running and reason != link.trouble:
            link.trouble = reason
            client.log('no connection to %s; trying again', link.describe(),
                       level=logging.WARNING)
        self._lost(client, link, reason)

    def _lost(self, client, link, reason):
        link.connecting = False
        if link.peer is not None:
            link.peer = None
            if link.aborted:
                self._orphans.setdefault(link.id, []).extend(ttid for _, ttid in link.aborted)
                link.aborted.clear()
            client.storage_lost(link.id, reason)
        if link.running:
            client.set_timer(TIMER + link.id, client.now + link.back_off.next())
