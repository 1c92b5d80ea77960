"""What drives one node in a test, step by step: no network, no clock, and every packet through the
codec."""
from neo.cluster import events
from neo.cluster.turn import finish_turn, take_turn
from neo.protocol.codec import HEADER_SIZE, decode, encode


def through_codec(packet, request_id=0):
    """As it arrives at the other side."""
    return decode(encode(packet, request_id)[HEADER_SIZE:])


class Driven:
    """A node, and what it wanted done.  Subclasses say what becomes of what it sends."""

    def __init__(self, node, now):
        self.node = node
        self.now = now              # seconds since 1970
        self.timers = {}            # name -> when
        self.logged = []            # lines
        self.exit = None            # (status, message)
        self.commits = 0
        self._do = {
            events.Send: self.sends, events.Connect: self.connects, events.Close: self.closes,
            events.Raise: lambda effect: None, events.SetTimer: self.sets_timer,
            events.Log: self.logs, events.Exit: self.exits}

    def start(self):
        self.node.start(self.now)
        self.act()

    def step(self, *happened):
        """All of it in one turn."""
        take_turn(self.node, [(self.now, event) for event in happened], self.commit, self._do)

    def act(self):
        """End a turn of what was called on the node."""
        finish_turn(self.node, self.commit, self._do)

    # -- what the node wants ----------------------------------------------------------------
    def commit(self):
        self.commits += 1
        self.node.commit()

    def sends(self, effect):
        raise NotImplementedError

    def connects(self, effect):
        raise NotImplementedError

    def closes(self, effect):
        raise NotImplementedError

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
        self.step(events.TimerFired(name))
