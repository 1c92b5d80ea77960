"""One question to several storages, by which something of the present term goes on."""
from ..cluster.context import Gathering
from ..protocol.types import ErrorCode


class Round(Gathering):
    """Calls `then(node, answers)` once each of `questions`, {peer: packet}, has answered or was
    lost, and then is out of date in force, with the answers of those that did; not if another term
    has begun meanwhile.  A storage that can't do what it must is no use, and is dropped."""

    __slots__ = ()

    def __init__(self, node, questions, then):
        ballot = node.recovery.ballot

        def done(node, answers):
            if node.recovery.ballot is ballot:
                then(node, {peer: answer for peer, answer in answers.items()
                            if answer is not None})
        super().__init__(node, questions, done)

    def refused(self, node, peer, error):
        node.drop(peer, 'it failed: %s' % error.message)
        self.lost(node, peer)

    def lost(self, node, peer):
        # The node has heard of it before: what it does about that is on its way.
        node.tables.when_in_force(node, lambda node: super(Round, self).lost(node, peer))


class Poll(Round):
    """The same, of what a storage may be unable to tell, since that is broken in its database: an
    Error is among the answers then, and no storage is dropped that would be asked the same again
    when it has come back."""

    __slots__ = ()

    def refused(self, node, peer, error):
        if error.error == ErrorCode.BROKEN_DATA:
            self.answered(node, peer, error)
        else:
            super().refused(node, peer, error)
