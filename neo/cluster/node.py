"""The contract of a node, and what all kinds of nodes do alike (docs/architecture.md, "A node").

A node has no I/O.  What drives it (neo.runtime for real, neo.simulation in a virtual world) calls

    node.start(now)             once
    node.step(now, event)       for each event, as many as are there
    batch = node.ready()        then: commit if the batch says so, and do its effects in order

as neo.cluster.turn does it.  While something is in `node.background`, it gives Slice events too.

`now` is in seconds since 1970 and never goes back.  If `step` or the commit raises, the node is
broken: it must be stopped with the effects of that turn undone.
"""
import logging
from collections import deque

from ..protocol import limits
from ..protocol.codec import ProtocolError
from ..protocol.packets import ClusterStateChanged, Error, Identify, Ping
from ..protocol.types import ErrorCode, NodeKind
from . import events
from .context import Context


class Refused(Exception):
    """Raised by a handler before it has changed anything: the request is answered with this."""

    def __init__(self, error, message):
        super().__init__(message)
        self.error = error


class Peer:
    """The other end of one connection, as far as this node knows it."""

    __slots__ = ('connection', 'address', 'outgoing', 'kind', 'id', 'identified', 'introduced',
                 'since', 'heard', 'pinged', 'silent', 'requests', 'last_request', 'data')

    def __init__(self, connection, address, outgoing, now):
        self.connection = connection
        self.address = address      # where it was connected to, or has called from; may be None
        self.outgoing = outgoing
        self.kind = None            # NodeKind, once identified
        self.id = None              # node id, once identified
        self.identified = False     # accepted as who it is
        self.introduced = False     # has said who it is
        self.since = self.heard = now
        self.pinged = False         # since it was heard
        self.silent = False         # for so long that it was told
        self.requests = {}          # request id -> (code of the answer, context), not answered yet
        self.last_request = 0
        self.data = None            # what the kind of node keeps with it

    def __repr__(self):
        if self.id is None and self.address is not None:
            return '%s:%d' % self.address
        return self.id or 'connection %d' % self.connection


def handles(*packets, sender, phase=None):
    """Mark a function `(node, peer, packet, request id or context)` as what is done with these
    packets when they come from this kind of node (a NodeKind or several), in these phases (None:
    any).

    For an answer, the last argument is the context given to `Node.ask`, if that leaves it to the
    handlers.
    """
    senders = (sender,) if isinstance(sender, NodeKind) else tuple(sender)
    phases = (phase,) if phase is None or isinstance(phase, int) else tuple(phase)

    def mark(function):
        function.handled = [(packet.code, kind, phase)
                            for packet in packets for kind in senders for phase in phases]
        return function
    return mark


def handler_table(*modules):
    """Collect the marked functions of modules: {(code, kind, phase): function}."""
    table = {}
    for module in modules:
        for function in vars(module).values():
            for key in getattr(function, 'handled', ()):
                if table.setdefault(key, function) is not function:
                    raise ValueError('%s and %s both handle %s' % (table[key], function, key))
    return table


class Node:
    """Base of master, storage, admin and client cores.

    A subclass has `kind`, a `handlers` table, and the methods `identify` (somebody said who it
    is), and, as it needs them, `starting`, `connected`, `connect_failed`, `lost`, `timer` and
    `slice`.
    Its `connected` sets the kind of the peer it meant to reach, so that answers find their
    handlers.
    """

    kind = None
    handlers = {}

    def __init__(self, rnd):
        self.rnd = rnd              # random.Random: the only source of chance
        self.now = 0.0
        self.phase = None           # data, not a class: the key of `handlers`
        self.peers = {}             # connection -> Peer
        self.strangers = {}         # connection -> Peer, of who called and is not accepted yet
        self.watched = 0.0          # when silent peers were looked for
        self.batch = events.Batch()
        self._orphans = deque()     # (context, peer): their requests have no answer any more
        self.background = deque()   # names of works that want slices, the next one first
        self.identity = rnd.randbytes(16)

    # -- driven ---------------------------------------------------------------------------
    def start(self, now):
        self.now = now
        self.watched = now
        self.set_timer('peers', now + limits.WATCH_INTERVAL)
        self.starting()

    def step(self, now, event):
        self.now = now
        kind = type(event)
        if kind is events.Received:
            peer = self.peers.get(event.connection)
            if peer is not None:        # else it was closed meanwhile by this node
                self._received(peer, event.packet, event.request_id)
        elif kind is events.Progress:
            peer = self.peers.get(event.connection)
            if peer is not None:
                self._heard(peer)
        elif kind is events.TimerFired:
            if event.name == 'peers':
                self._watch_peers()
            else:
                self.timer(event.name)
        elif kind is events.Accepted:
            self._accepted(Peer(event.connection, event.address, False, now))
        elif kind is events.Connected:
            peer = self.peers[event.connection] = Peer(event.connection, event.address, True, now)
            self.connected(peer)
        elif kind is events.ConnectFailed:
            self.connect_failed(event.address, event.reason)
        elif kind is events.Closed:
            peer = self.peers.pop(event.connection, None)
            if peer is not None:
                self.strangers.pop(event.connection, None)
                self.lost(peer, event.reason)
                self._orphan(peer)
        elif kind is events.Slice:
            if self.background:
                name = self.background[0]
                self.background.rotate(-1)
                self.slice(name, event.amount)
        else:
            raise TypeError(event)
        if self._orphans:
            self._tell_orphans()

    def has_effects(self):
        """Would the batch of `ready` ask for anything?"""
        return bool(self.batch.effects or self.batch.commit or self._orphans)

    def ready(self):
        """What has to be done since the last call; a new Batch is begun."""
        if self._orphans:
            self._tell_orphans()
        batch, self.batch = self.batch, events.Batch()
        return batch

    def commit(self):
        """Make durable what the engine was told; called by the driver when a batch says so."""
        raise NotImplementedError

    # -- for subclasses -------------------------------------------------------------------
    def starting(self):
        pass

    def identify(self, peer, packet, request_id):
        """`peer` says who it is: accept it with `accept`, raise Refused, or keep it waiting."""
        raise Refused(ErrorCode.REFUSED, 'this node expects no connections')

    def connected(self, peer):
        pass

    def connect_failed(self, address, reason):
        pass

    def lost(self, peer, reason):
        pass

    def silent(self, peer):
        """`peer` says nothing for SILENCE_TOLD: it is stopped, cut off, or has much to do."""

    def patience(self, peer):
        """How long it may say nothing before it is given up, in seconds."""
        return limits.PEER_TIMEOUT

    def heard_again(self, peer):
        """`peer`, which was silent, is not any more."""

    def timer(self, name):
        pass

    def slice(self, name, amount):
        """Do about `amount` units (rows, mostly) of the background work `name`."""
        raise NotImplementedError

    def unhandled(self, peer, packet, request_id):
        """A valid packet that this node does not expect now."""
        raise Refused(ErrorCode.NOT_READY, '%s is not served now' % type(packet).__name__)

    # -- effects --------------------------------------------------------------------------
    def send(self, peer, packet, request_id=0):
        self.batch.effects.append(events.Send(peer.connection, packet, request_id))

    def ask(self, peer, packet, context=None):
        """Send a request; `context` learns how it ends (see Context)."""
        if peer.connection not in self.peers:
            if isinstance(context, Context):
                self._orphans.append((context, peer))
            return
        peer.last_request += 1
        request_id = peer.last_request
        peer.requests[request_id] = packet.Answer.code, context
        self.batch.effects.append(events.Send(peer.connection, packet, request_id))

    def answer(self, peer, request_id, packet):
        self.batch.effects.append(events.Send(peer.connection, packet, request_id))

    def refuse(self, peer, request_id, error, message):
        self.send(peer, Error(error, message[:limits.MAX_TEXT // 4]), request_id)

    def accept(self, peer, kind, id):
        """From now on `peer` is this node."""
        peer.kind, peer.id, peer.identified = kind, id, True
        self.strangers.pop(peer.connection, None)
        self.batch.effects.append(events.Raise(peer.connection, limits.MAX_FRAME))

    def close(self, peer):
        """Close after what was sent; `lost` is not called, that of its requests is."""
        if self.peers.pop(peer.connection, None) is not None:
            self.strangers.pop(peer.connection, None)
            self._orphan(peer)
            self.batch.effects.append(events.Close(peer.connection))

    def connect(self, address):
        self.batch.effects.append(events.Connect(address))

    def set_timer(self, name, at):
        self.batch.effects.append(events.SetTimer(name, at))

    def want_slices(self, name):
        """Let `slice` be called again and again for this work, in turn with others, till
        `no_slices`.  Each call is to take about 10 ms: `amount` is adapted to that."""
        if name not in self.background:
            self.background.append(name)

    def no_slices(self, name):
        if name in self.background:
            self.background.remove(name)

    def durable(self):
        """Nothing of this turn may be sent before the engine has committed."""
        self.batch.commit = True

    def log(self, message, *args, level=logging.INFO):
        self.batch.effects.append(events.Log(level, message % args if args else message))

    def exit(self, status, message=''):
        self.batch.effects.append(events.Exit(status, message))

    # -- receiving ------------------------------------------------------------------------
    def _received(self, peer, packet, request_id):
        peer.heard = self.now
        if peer.pinged:
            self._heard(peer)
        try:
            if packet.is_answer or (type(packet) is Error and request_id):
                self._received_answer(peer, packet, request_id)
            else:
                self._received_request(peer, packet, request_id)
        except Refused as refusal:
            if request_id and not packet.is_answer and type(packet) is not Error:
                self.refuse(peer, request_id, refusal.error, str(refusal))
            else:
                self.drop(peer, str(refusal))
        except ProtocolError as error:
            self.drop(peer, str(error))

    def _received_request(self, peer, packet, request_id):
        kind = type(packet)
        if kind is Error:
            raise ProtocolError('the peer said: %s' % packet.message)
        if bool(request_id) != hasattr(packet, 'Answer'):
            raise ProtocolError('%s with request id %d' % (kind.__name__, request_id))
        if kind is Ping:
            self.answer(peer, request_id, Ping.Answer())
        elif kind is Identify:
            if peer.introduced or peer.outgoing:
                raise ProtocolError('Identify was not expected')
            peer.introduced = True
            self.identify(peer, packet, request_id)
        elif not peer.identified and (kind is not ClusterStateChanged or not peer.outgoing):
            # Why it does not accept this node yet, the other one may say.
            raise ProtocolError('%s before Identify' % kind.__name__)
        elif (peer.kind, self.kind) not in kind.routes:
            raise ProtocolError('%s is not for a %s to send to a %s' % (
                kind.__name__, peer.kind.name.lower(), self.kind.name.lower()))
        else:
            handler = self._handler(packet.code, peer.kind)
            if handler is None:
                self.unhandled(peer, packet, request_id)
            else:
                handler(self, peer, packet, request_id)

    def _received_answer(self, peer, packet, request_id):
        expected, context = peer.requests.pop(request_id, (None, None))
        if packet.code != expected and (expected is None or type(packet) is not Error):
            raise ProtocolError('%s to what was not asked' % packet)
        if isinstance(context, Context):
            (context.refused if type(packet) is Error else context.answered)(self, peer, packet)
        elif type(packet) is not Ping.Answer:
            self.handle_answer(peer, packet, context)

    def handle_answer(self, peer, packet, context):
        """Call the handler of such an answer."""
        handler = self._handler(packet.code, peer.kind)
        if handler is None:
            raise ProtocolError('%s was not expected' % packet)
        handler(self, peer, packet, context)

    def _handler(self, code, kind):
        handlers = self.handlers
        return handlers.get((code, kind, self.phase)) or handlers.get((code, kind, None))

    def _orphan(self, peer):
        self._orphans.extend((context, peer) for _code, context in peer.requests.values()
                             if isinstance(context, Context))

    def _tell_orphans(self):
        # Only now, when what has lost the peer is done: it may ask and close others.
        while self._orphans:
            context, peer = self._orphans.popleft()
            context.lost(self, peer)

    def drop(self, peer, reason):
        """Close a peer that does not keep to the protocol."""
        if peer.connection in self.peers:
            self.log('%s is closed: %s', peer, reason, level=logging.WARNING)
            self.send(peer, Error(ErrorCode.PROTOCOL, reason[:limits.MAX_TEXT // 4]))
            self.close(peer)
            self.lost(peer, reason)

    # -- who is there -----------------------------------------------------------------------
    def _accepted(self, peer):
        self.peers[peer.connection] = self.strangers[peer.connection] = peer
        if len(self.strangers) > limits.MAX_UNIDENTIFIED:
            # Who keeps to the protocol has said who it is soon after it came.
            mute = [other for other in self.strangers.values() if not self.waits(other)]
            self.drop(mute[0], 'too many connections of who does not say who it is')

    def _watch_peers(self):
        now = self.now
        # What this process did not hear while it stood still itself, nobody is blamed for.
        late = now - self.watched - limits.WATCH_INTERVAL
        self.watched = now
        self.set_timer('peers', now + limits.WATCH_INTERVAL)
        for peer in list(self.peers.values()):
            if late > 0:
                peer.heard = min(now, peer.heard + late)
            if not peer.identified and self._is_mute(peer):
                self.drop(peer, 'it did not say who it is')
            elif peer.identified or peer.introduced or peer.outgoing:
                self._watch_peer(peer)

    def _is_mute(self, peer):
        """It is time that it said something, and it has not.  To let us wait for an acceptance
        is right, and so is to wait for ours."""
        if self.now - peer.since <= min(limits.IDENTIFY_TIMEOUT, self.patience(peer)):
            return False
        return peer.heard <= peer.since if peer.outgoing else not self.waits(peer)

    def _watch_peer(self, peer):
        silence = self.now - peer.heard
        if silence < limits.PING_INTERVAL:
            return
        if not peer.pinged:
            peer.pinged = True
            self.ask(peer, Ping())
        if silence > self.patience(peer):
            self.drop(peer, 'it gave no sign of life for %.0f s' % silence)
        elif silence >= limits.SILENCE_TOLD and not peer.silent:
            peer.silent = True
            self.log('%s has said nothing for %.0f s: it is stopped, cut off, or waits for its '
                     'disk', peer, silence, level=logging.WARNING)
            self.silent(peer)

    def _heard(self, peer):
        """There is a sign of life."""
        peer.heard, peer.pinged = self.now, False
        if peer.silent:
            peer.silent = False
            self.log('%s is heard again', peer)
            self.heard_again(peer)

    def waits(self, peer):
        """Is `peer`, which has said who it is, kept waiting by this node?"""
        return False
