"""What drives one node in a test, step by step: no network, no clock, and every packet through the
codec."""
from neo.cluster import events
from neo.cluster.turn import finish_turn, take_turn
from neo.protocol.codec import HEADER_SIZE, decode, encode


def through_codec(packet, request_id=0):
    """As it arrives at the other side."""
    return decode(encode(packet, request_id)[HEADER_SIZE:])


class Party:
    """The other end of one connection of a node; `heard` is what the node has sent to it."""

    def __init__(self, driven, connection):
        self.driven, self.connection = driven, connection
        self.heard = []             # (packet, request id), of those not taken yet
        self.open = True
        self._requests = 0

    def say(self, packet, request_id=None):
        """Send a packet; a request gets a new id, which is returned."""
        if request_id is None:
            request_id = 0
            if hasattr(packet, 'Answer'):
                self._requests += 1
                request_id = self._requests
        self.driven.step(events.Received(self.connection, *through_codec(packet, request_id)))
        return request_id

    def leave(self, reason='test'):
        self.open = False
        self.driven.step(events.Closed(self.connection, reason))

    def pop(self, kind):
        """The first packet of this kind that was not taken, with its request id."""
        for i, (packet, request_id) in enumerate(self.heard):
            if type(packet) is kind:
                del self.heard[i]
                return packet, request_id
        raise AssertionError('no %s in %s' % (kind.__name__, self.heard))

    def hears(self, kind):
        return any(type(packet) is kind for packet, _ in self.heard)


class Driven:
    """A node, and what it wanted done.  What it sends is kept with its `parties`, as long as they
    are open, unless a subclass does something else with it."""

    pace = .001                     # seconds that a turn takes

    def __init__(self, node, now):
        self.now = now              # seconds since 1970
        self.commits = 0
        self._do = {
            events.Send: self.sends, events.Connect: self.connects, events.Close: self.closes,
            events.Raise: lambda effect: None, events.SetTimer: self.sets_timer,
            events.Log: self.logs, events.Exit: self.exits}
        self.drive(node)

    def drive(self, node):
        """Of a process that is about to start."""
        self.node = node
        self.parties = {}           # connection -> Party
        self.connecting = []        # addresses that it wants to connect to
        self.timers = {}            # name -> when
        self.logged = []            # lines
        self.exit = None            # (status, message)

    def start(self):
        self.node.start(self.now)
        self.act()

    def step(self, *happened):
        """All of it in one turn."""
        self.now += self.pace
        self._turn(happened)

    def _turn(self, happened):
        take_turn(self.node, [(self.now, event) for event in happened], self.make_durable, self._do)

    def act(self):
        """End a turn of what was called on the node."""
        finish_turn(self.node, self.make_durable, self._do)

    # -- what the node wants ----------------------------------------------------------------
    def make_durable(self):
        self.commits += 1
        self.node.commit()

    def sends(self, effect):
        packet = through_codec(effect.packet, effect.request_id)
        party = self.parties[effect.connection]
        if party.open:
            party.heard.append(packet)

    def connects(self, effect):
        self.connecting.append(effect.address)

    def closes(self, effect):
        self.parties[effect.connection].open = False

    def sets_timer(self, effect):
        if effect.at is None:
            self.timers.pop(effect.name, None)
        else:
            self.timers[effect.name] = effect.at

    def logs(self, effect):
        self.logged.append(effect.message)

    def exits(self, effect):
        self.exit = effect.status, effect.message

    # -- time -------------------------------------------------------------------------------
    def next_timer(self):
        """(when, name) of the next one, or None."""
        return min(((at, name) for name, at in self.timers.items()), default=None)

    def fire(self, name):
        del self.timers[name]
        self._turn([events.TimerFired(name)])

    def wait(self, seconds):
        """Let time pass, and timers come."""
        end = self.now + seconds
        while self.timers and self.next_timer()[0] <= end:
            at, name = self.next_timer()
            self.now = max(self.now, at)
            self.fire(name)
        self.now = end
