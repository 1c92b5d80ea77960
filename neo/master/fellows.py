"""The other masters of the cluster: each is connected to each, both ways.

A master asks by the connection that it has made: a candidate for a vote, a primary for a table to
be kept.  Who has called asks likewise, and is served by voter.py.
"""
import logging

from ..cluster.addresses import readable
from ..cluster.context import Context
from ..cluster.node import Refused
from ..cluster.seek import FINAL, BackOff
from ..protocol.packets import CompareMasters, Identify
from ..protocol.types import Address, ErrorCode, NodeKind
from . import announcements

MASTER = NodeKind.MASTER
TIMER = 'master '               # … and the address of one that is to be called again


class Fellow:
    """Another listed master; the `data` of the Peers at both its connections."""

    def __init__(self, address):
        self.address = address
        self.peer = None                # by which it is asked, once it has accepted this one
        self.caller = None              # by which it asks
        self.identity = None            # as it has said last
        self.durable = False            # has it a state file?
        self.name = ''
        self.cluster_id = None          # the cluster that it knows
        self.term = 0                   # the highest it has promised, as far as known
        self.grant = self.held = None   # as those of a storage that has joined
        self.canvassed = None           # its Canvass.Answer
        self.back_off = BackOff()
        self.trouble = None             # why it can't be asked; in the log already

    def end_term(self):
        self.grant = self.held = None

    def holds(self, table):
        return self.held is not None and self.held >= table.key


class Greeting(Context):
    """The context of Identify, and then of CompareMasters."""

    __slots__ = 'fellow',

    def __init__(self, fellow):
        self.fellow = fellow

    def answered(self, node, peer, answer):
        if type(answer) is Identify.Answer:
            self.fellow.term = max(self.fellow.term, answer.term)
            node.accept(peer, MASTER, node.fellows.id_of(node, self.fellow))
            node.ask(peer, CompareMasters(node.fellows.listed, node.state.is_durable), self)
        else:
            node.fellows.accepted(node, self.fellow, peer, answer)

    def refused(self, node, peer, error):
        node.close(peer)
        node.fellows.refused(node, self.fellow, error)


class Fellows:
    """`addresses` are those of all masters, this one at `own` included."""

    def __init__(self, own, addresses):
        self.listed = tuple(Address(*address) for address in addresses or [own])
        self.own = Address(*own)
        self._all = {address: Fellow(address) for address in self.listed
                     if len(self.listed) > 1 and address != self.own}
        self.number = self.listed.index(self.own) if self else 0
        self.announced = []             # ids of all, as admins know them
        self._were_met = False          # anybody

    def __bool__(self):
        return bool(self._all)

    def __iter__(self):
        return iter(self._all.values())

    def at(self, address):
        return self._all[Address(*address)]

    def reached(self):
        """Those that can be asked."""
        return [fellow for fellow in self if fellow.peer is not None]

    def missing(self):
        """Those that can't, in words."""
        return ', '.join('the master at %s (%s)' % (
            readable(fellow.address), fellow.trouble or 'not asked yet')
            for fellow in self if fellow.peer is None)

    def id_of(self, node, fellow):
        return node.members.master_id(fellow.identity, self.listed.index(fellow.address))

    def by_id(self, node):
        """{id: Fellow}"""
        return {self.id_of(node, fellow): fellow for fellow in self}

    def rename(self, node):
        """Their ids and that of this one, as they are known now."""
        node.id = node.members.id = node.members.master_id(
            node.state.identity, self.number)
        for fellow in self:
            for peer in (fellow.peer, fellow.caller):
                if peer is not None:
                    peer.id = self.id_of(node, fellow)
        if self.announced != [node.id, *self.by_id(node)]:
            announcements.masters_changed(node)

    # -- calling ------------------------------------------------------------------------------
    def call(self, node):
        for fellow in self:
            node.connect(fellow.address)

    def timer(self, node, name):
        for fellow in self:
            if name == TIMER + readable(fellow.address):
                node.connect(fellow.address)

    def connected(self, node, peer):
        fellow = self.at(peer.address)
        peer.kind, peer.data = MASTER, fellow
        state = node.state
        node.ask(peer, Identify(
            MASTER, node.id, state.identity, node.cluster.name,
            state.cluster_id if state.is_member else None,
            state.history if state.is_member else None,
            state.term, node.name, self.own, float(node.now), ''), Greeting(fellow))

    def accepted(self, node, fellow, peer, answer):
        if answer.identity == node.state.identity:
            node.close(peer)
            self._exit(node, 'the master at %s is this one, or one with a copy of its state file'
                       % readable(fellow.address))
            return
        self._were_met = True
        fellow.peer, fellow.identity, fellow.trouble = peer, answer.identity, None
        fellow.durable, fellow.name, fellow.back_off = answer.durable, answer.name, BackOff()
        self.rename(node)
        node.log('%s is connected', node.describe(peer.id))
        node.fellow_joined(peer)

    def refused(self, node, fellow, error):
        where = readable(fellow.address)
        if error.error in FINAL and not self._were_met and not node.serves:
            self._exit(node, 'the master at %s refuses this one: %s' % (where, error.message))
        else:
            self.failed(node, fellow, error.message)

    def _exit(self, node, reason):
        node.exit(1, reason)

    def failed(self, node, fellow, reason):
        """It can't be asked (any more)."""
        fellow.peer = fellow.canvassed = None
        fellow.end_term()
        if reason != fellow.trouble:
            fellow.trouble = reason
            node.log('no connection to the master at %s: %s; trying again',
                     readable(fellow.address), reason, level=logging.WARNING)
        node.set_timer(TIMER + readable(fellow.address), node.now + fellow.back_off.next())

    # -- being called -------------------------------------------------------------------------
    def identify(self, node, peer, packet, request_id):
        fellow = packet.address and self._all.get(packet.address)
        state = node.state
        if packet.identity == state.identity:
            raise Refused(ErrorCode.REFUSED, 'it is this master itself, or has a copy of its state'
                          ' file')
        if fellow is None:
            raise Refused(ErrorCode.REFUSED, 'it knows of no master at %s, but of %s' % (
                packet.address and readable(packet.address), words(self.listed)))
        if state.is_member and packet.cluster_id not in (None, state.cluster_id):
            raise Refused(ErrorCode.ANOTHER_CLUSTER, 'this is a master of another cluster of the'
                          ' same name')
        for other in self:
            if other is not fellow and other.identity == packet.identity and (
                    other.peer is not None or other.caller is not None):
                raise Refused(ErrorCode.REFUSED, 'the master at %s has the same state file, or a'
                              ' copy of it' % readable(other.address))
        former, fellow.caller = fellow.caller, peer
        if former is not None:
            node.close(former)
            node.voter.lost(node, former)
        fellow.identity, fellow.name = packet.identity, packet.name
        fellow.term = max(fellow.term, packet.term)
        fellow.cluster_id = packet.cluster_id or fellow.cluster_id
        peer.data = fellow
        node.accept(peer, MASTER, self.id_of(node, fellow))
        self.rename(node)
        node.answer(peer, request_id, Identify.Answer(
            node.id, peer.id, state.cluster_id if state.is_member else None,
            state.history if state.is_member else None, max(node.term, state.term), 0, 0, 0))

    def compare(self, node, peer, packet):
        """Raises Refused if who has called was told of other masters."""
        if set(packet.masters) != set(self.listed):
            raise Refused(ErrorCode.REFUSED, 'its masters are %s, and those of the other one are'
                          ' %s' % (words(packet.masters), words(self.listed)))
        peer.data.durable = packet.durable

    # -- losing -------------------------------------------------------------------------------
    def lost(self, node, peer, reason):
        fellow = peer.data
        if fellow.caller is peer:
            fellow.caller = None
        elif peer.outgoing:
            self.failed(node, fellow, 'the connection was lost: %s' % reason)


def words(addresses):
    return ' '.join(map(readable, addresses))
