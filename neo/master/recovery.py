"""From nothing to a table in force (docs/architecture.md, "Who may serve").

    stand      every storage promises to obey this master's new term, and says what it has
    consider   wait for more than half of the voters of the newest table, a little for the others,
               and for what is missing in its rows; without any table, for what a new cluster needs
               (creation.py)
    write      the newest table, under the new term; in force, it is verified (verification.py)

A storage that takes part is lost: all begins again, with another term.  Every step leaves what the
next recovery needs.
"""
import logging

from ..cluster.context import Context
from ..cluster.cuts import LEFT_OUT, is_left_out, knows
from ..cluster.ids import tid_text
from ..protocol import limits
from ..protocol.packets import ClusterStateChanged, RequestTerm
from ..protocol.types import MAX_TERM, ClusterState, NodeKind
from . import comparison, forcing, verification
from .creation import waits_text

RECOVERING = ClusterState.RECOVERING
STAND = 'stand'                 # timer
GRACE = 'grace'                 # timer
SHOWN = 3                       # of several things that are missing, so many are named


class Ballot(Context):
    """The request for one term; the context of its RequestTerm."""

    __slots__ = 'asked',

    def __init__(self):
        self.asked = False              # anybody

    def answered(self, node, peer, answer):
        if self is node.recovery.ballot:        # else another term has been asked for meanwhile
            node.recovery.answered(node, peer, answer)

    def refused(self, node, peer, error):
        node.drop(peer, 'it answers no master: %s' % error.message)


class Recovery:

    def __init__(self, creation):
        self.creation = creation        # Creation
        self.ballot = None              # None: before the next attempt
        self._delay = limits.STAND_DELAY
        self._earliest = 0.0            # when the next attempt may begin
        self._until = None              # how long who is absent is waited for; None: without end

    # -- standing -----------------------------------------------------------------------------
    def begin(self, node):
        """Start over.  Not at once again and again: a storage that fails each time must not use up
        all terms."""
        self.cancel(node)
        if node.fellows or node.now < self._earliest:
            for peer in node.reached().values():
                node.send(peer, ClusterStateChanged(RECOVERING, node.reason))
        if node.fellows:
            node.election.begin(node)
        elif node.now < self._earliest:
            node.set_timer(STAND, self._earliest)
        else:
            self._hold_back(node)
            self.stand(node)

    def _hold_back(self, node):
        self._earliest = node.now + self._delay
        self._delay = min(2 * self._delay, limits.STAND_DELAY_MAX)

    def may_stand(self, node):
        """Of several masters: is it time for another term?"""
        return node.now >= self._earliest

    def cancel(self, node):
        """The term is over: nothing that was asked for in it leads to anything any more."""
        self.ballot = self._until = None
        forcing.give_up(node, 'another term has begun: look, and say it again')
        self.creation.undo(node)
        node.tables.abandon()
        for peer in node.reached().values():
            peer.data.end_term()

    def ended(self, seconds):
        """The cluster has run for so long: when that was long, what ends it now is another matter
        than what did before."""
        if seconds >= limits.STAND_DELAY_MAX:
            self._delay = limits.STAND_DELAY

    def timer(self, node):
        if self.ballot is None and node.phase == RECOVERING:
            self.begin(node)

    def stand(self, node, ahead=1):
        """Ask every storage to obey a new term, that far ahead of all that are known here."""
        self.cancel(node)
        voters = node.reached().values()
        term = ahead + max([node.term, node.state.term] + [peer.data.term for peer in voters])
        if term >= MAX_TERM:
            node.wait_for('waiting for a number for its term: none is left')
            return
        node.term, self.ballot = term, Ballot()
        node.voter.stand(node, term)
        if node.fellows:
            self._hold_back(node)
            node.election.stood(node)
            node.log('stands for primary, in term %d', term)
        for peer in voters:
            self._ask(node, peer)
        self.consider(node)

    def _ask(self, node, peer):
        self.ballot.asked = True
        node.ask(peer, RequestTerm(node.term, node.state.identity), self.ballot)

    def joined(self, node, peer):
        """A storage has come, or another master."""
        if self.ballot is None:
            node.election.joined(node, peer)
            return
        # As long as nobody was asked, somebody else must have been promised this very term.
        taken = peer.data.term + (not self.ballot.asked)
        if taken > node.term and node.phase == RECOVERING:
            self.stand(node)
        else:
            self._ask(node, peer)
            self.consider(node)

    def answered(self, node, peer, answer):
        if answer.granted:
            peer.data.grant = answer
            if peer.kind == NodeKind.STORAGE:
                peer.data.clock_offset = answer.clock - node.now
            if node.tables.pending or node.phase != RECOVERING:
                node.admit_newcomer(peer)
            else:
                self.consider(node)
            return
        if answer.promised >= MAX_TERM - 1:
            node.drop(peer, 'term %d is above all that can be' % answer.promised)
            return
        peer.data.term = answer.promised
        if node.phase == RECOVERING and not node.fellows:
            self.stand(node)
        elif node.phase == RECOVERING:
            node.log('%s has promised term %d to another one', node.describe(peer.id),
                     answer.promised)
            self.begin(node)            # the other one may be alive
        elif node.fellows:
            node.begin_again('%s has promised term %d' % (node.describe(peer.id), answer.promised))
        else:
            node.log('%s obeys term %d: it takes no part', peer, answer.promised)

    # -- what is there ------------------------------------------------------------------------
    def consider(self, node):
        """Go on if it can be done, else say what the cluster is waiting for."""
        if self.ballot is None or node.phase != RECOVERING or node.tables.pending:
            return
        states = node.granted()
        self.learn(node, [peer.data.grant for peer in node.obedient()] + [node.state])
        table = node.tables.newest
        if table is None:
            self.creation.consider(node)
            return
        if node.part_with_misnamed():
            return                      # they come back under their own names
        left_out = [peer for id, peer in node.members.storages.items() if id in states
                    and is_left_out(table.cuts, states[id].history, peer.data.identity)]
        if left_out:
            for peer in left_out:       # the loss of the last one leads here again
                node.drop(peer, LEFT_OUT)
            return
        if node.forced is not None:
            forcing.consider(node, states)
            return
        absent = [id for id in node.tables.readers() if id not in states]
        what = self._waits_for(node, table, states, absent)
        if what is not None:
            self.wait_for(node, what)
            self._say_elected(node)
            return
        for id in states:
            node.members.enlist(node.members.storages[id])
        behind, missing = comparison.compare(table, states)
        if missing:
            self.wait_for(node, missing_text(node, missing))
            self._say_elected(node)
            return
        node.tables.write(node, table.rewritten(node.term),
                          lambda node: verification.begin(node, absent, behind, states))

    def _say_elected(self, node):
        """It only waits for what others would wait for as well: they need not try."""
        if node.fellows and self.is_elected(node):
            for peer in node.obedient():
                node.send(peer, ClusterStateChanged(ClusterState.VERIFYING, node.reason))

    def is_elected(self, node):
        return node.tables.newest is not None and node.tables.is_elected_by(
            {peer.id for peer in node.obedient()} | {node.id})

    def _waits_for(self, node, table, states, absent):
        if not self.is_elected(node):
            self._until = None
            return absent_text(node, {peer.id for peer in node.obedient()} | {node.id})
        if absent:
            what = 'waiting for ' + ', '.join(map(node.members.describe, absent))
            if self._until is None:
                # Who has been silent before has had some of that already.
                self._until = limits.ABSENT_GRACE + max(
                    node.members.last_heard.get(id, node.now) for id in absent)
                node.set_timer(GRACE, self._until)
            if node.now < self._until:
                return '%s, for %g s: then the cluster goes on without' % (
                    what, limits.ABSENT_GRACE)
        return waiting_for(node, table, states)

    def wait_for(self, node, what, level=logging.INFO):
        """There is a cluster, and it can't go on."""
        node.wait_for(what, level)
        forcing.give_up(node, what)
        self.creation.refuse(node, waits_text(node))

    def learn(self, node, states):
        """What these know of tables: of RequestTerm.Answers, Canvass.Answers, or a State."""
        node.tables.learn(states)
        if node.tables.base is not None:
            known = [state for state in states if state.table is not None]
            for state in sorted(known, key=lambda state: state.table[:2]):
                node.members.adopt(state.members)
            node.fellows.rename(node)


def absent_text(node, ids):
    """Whom these nodes wait for, so that one of them can be elected."""
    needed, number, others = node.tables.lacking(ids)
    words = [node.describe(id) for id in needed]
    if others:
        some = ', '.join(map(node.describe, others))
        words.append(some if number == len(others) else '%d of %s' % (number, some))
    return 'waiting for ' + ', '.join(words)


def waiting_for(node, table, states):
    """What keeps the cluster from starting with what these have, or None."""
    for id, state in states.items():
        if not comparison.is_sound(state, table.partitions):
            return 'waiting for another database of %s: it speaks of rows that the table has not' \
                % node.members.describe(id)
        if state.history is not None and not knows(table.cuts, node.cluster.history, state.history):
            return 'waiting for another database of %s: it is of another history' \
                % node.members.describe(id)
    for ttid, said in comparison.contradictions(states):
        return 'waiting for somebody to mend that transaction %s has two tids: %s' % (
            tid_text(ttid), ', '.join('%s says %s' % (node.members.describe(id), tid_text(it.tid))
                                      for id, it in said.items()))
    return None


def missing_text(node, missing):
    """What is in no copy that is there, and who knew of it."""
    describe = node.members.describe
    texts = ['transaction %s in row %d, known by %s (%s)' % (
        tid_text(it.tid), it.row, ', '.join(map(describe, it.knows)),
        ', '.join('%s has the row up to %s' % (describe(id), tid_text(tid))
                  for id, tid in it.holders)) for it in missing[:SHOWN]]
    if len(missing) > SHOWN:
        texts.append('and likewise in %d more rows' % (len(missing) - SHOWN))
    return 'waiting for a copy that has what is in none: ' + '; '.join(texts)
