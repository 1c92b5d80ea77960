"""Which of several masters stands for primary (docs/decisions/masters.md).

As long as a master hears none that leads, it asks storages and masters from time to time whether it
could win: that changes nothing.  Only if more than half of the voters hear no other primary or
candidate does it stand, and ask for a term.  Who is alone need not ask.
"""
import logging

from ..cluster.context import Context
from ..protocol import limits
from ..protocol.packets import Canvass
from ..protocol.types import ClusterState
from .recovery import absent_text

RECOVERING = ClusterState.RECOVERING
CANVASS = 'canvass'             # timer
PATIENCE = 'patience'           # timer: of a candidate, with those who do not answer


class Question(Context):
    """The context of Canvass."""

    __slots__ = ()

    def answered(self, node, peer, answer):
        node.election.answered(node, peer, answer)

    def refused(self, node, peer, error):
        node.drop(peer, 'it answers no master: %s' % error.message)


QUESTION = Question()


class Election:

    def __init__(self):
        self._delay = limits.CANVASS_DELAY
        self.elsewhere = False          # others hear one that is not heard here

    def begin(self, node, delay=limits.CANVASS_DELAY):
        """There is no primary that this master hears."""
        self._delay, self.elsewhere = delay, False
        self._later(node)

    def _later(self, node):
        node.set_timer(CANVASS, node.now + node.rnd.uniform(.5, 1) * self._delay)
        self._delay = min(2 * self._delay, limits.CANVASS_DELAY_MAX)

    def timer(self, node):
        if self._is_open(node):
            for peer in [*node.members.storages.values(),
                         *[fellow.peer for fellow in node.fellows.reached()]]:
                node.ask(peer, Canvass(), QUESTION)
            self.consider(node)
        if node.phase == RECOVERING and not node.leads:
            self._later(node)

    def _is_open(self, node):
        return node.phase == RECOVERING and not node.leads and not node.voter.is_led(node)

    def joined(self, node, peer):
        if self._is_open(node):
            self.begin(node)            # not at once: all masters see it come

    def answered(self, node, peer, answer):
        data = peer.data
        data.canvassed, data.term = answer, max(data.term, answer.promised)
        data.cluster_id = answer.cluster_id
        self.consider(node)

    def consider(self, node):
        """Stand, if it could be won by what is known."""
        if not self._is_open(node):
            return
        answers = {id: peer.data.canvassed for id, peer in node.reached().items()
                   if peer.data.canvassed is not None}
        node.recovery.learn(node, [*answers.values(), node.state])
        if node.part_with_misnamed():
            return                      # they come back under their own names
        self.elsewhere = any(answer.led for answer in answers.values())
        free = {id for id, answer in answers.items() if not answer.led} | {node.id}
        tables = node.tables
        if tables.newest is None:
            if node.creation.is_possible(node, answers):
                node.recovery.stand(node)
        elif not tables.is_elected_by(free):
            self._wait(node, answers)
        elif node.recovery.may_stand(node):
            node.recovery.stand(node)

    def _wait(self, node, answers):
        led = [id for id, answer in answers.items() if answer.led]
        describe = node.describe
        there = {*answers, node.id}
        what = []
        if not node.tables.is_elected_by(there):
            what.append(absent_text(node, there))
        if led:
            what.append('%s hear%s of another primary' % (
                ', '.join(map(describe, led)), 's' * (len(led) == 1)))
        node.recovery.wait_for(node, '; '.join(what) or 'waiting for more', level=logging.DEBUG)
        if led:
            node.send_on()

    # -- of a candidate ------------------------------------------------------------------------
    def stood(self, node):
        """It has asked for a term, and does not wait for it for ever."""
        if node.fellows:
            node.set_timer(PATIENCE, node.now + limits.CANDIDATE_TIME)

    def patience(self, node):
        if node.phase == RECOVERING and node.leads and not node.tables.pending and not (
                node.recovery.is_elected(node)):
            node.recovery.begin(node)
