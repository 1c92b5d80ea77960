"""Is this still the primary?  Of several masters, another one may have been elected without a word
to this one: then it does not know what was committed last.

Half of the voters who say, after the question has come, that they have promised no higher term were
no majority for anybody before.
"""
from ..cluster.context import Context
from ..protocol.packets import ConfirmTerm


class Round(Context):
    """The context of the ConfirmTerms of one round."""

    __slots__ = 'voters', 'confirmed', 'then'

    def __init__(self, voters, then):
        self.voters, self.then = voters, then
        self.confirmed = set()

    def answered(self, node, peer, answer):
        if answer.confirmed:
            self.confirm(node, peer.id)
        elif node.leads:
            node.begin_again('%s has promised a higher term' % node.describe(peer.id))

    def refused(self, node, peer, error):
        pass

    def confirm(self, node, id):
        self.confirmed.add(id)
        if 2 * len(self.confirmed.intersection(self.voters)) >= len(self.voters):
            then, self.then = self.then, []
            if node.confirmation is not None:
                node.confirmation.ended(node, self)
            for function in then:
                function(node)


class Confirmation:
    """Of one term.  One round at a time: who comes meanwhile waits for the next one."""

    def __init__(self):
        self._round = None
        self._waiting = []              # functions

    def ask(self, node, function):
        """Call `function(node)` once that is sure; never, if it is not so."""
        if not node.fellows:
            function(node)              # there is nobody else
            return
        self._waiting.append(function)
        if self._round is None:
            self._begin(node)

    def _begin(self, node):
        waiting, self._waiting = self._waiting, []
        voters = node.tables.in_force.voters()
        this = self._round = Round(voters, waiting)
        for id, peer in node.reached().items():
            if id in voters:
                node.ask(peer, ConfirmTerm(node.term), this)
        this.confirm(node, node.id)

    def renew(self, node):
        """Somebody has come, or others vote now: who was asked may have gone without an answer."""
        if self._round is not None:
            self._waiting = self._round.then + self._waiting
            self._round.then = []
            self._begin(node)

    def ended(self, node, round):
        if round is self._round:
            self._round = None
            if self._waiting:
                self._begin(node)
