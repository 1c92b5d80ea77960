"""What a node keeps with a request until that has an end, and one request to several peers."""


class Context:
    """Given to `Node.ask`.  Exactly one of these is called, once: the node sees to it, also when it
    closes the peer itself, or asks one that is gone already.

    `lost` comes after the node has heard of the loss itself, at the end of that step.
    """

    __slots__ = ()

    def answered(self, node, peer, answer):
        """By default, what the table of handlers says, with this context."""
        node.handle_answer(peer, answer, self)

    def refused(self, node, peer, error):
        """`error` is a packet.  By default as above."""
        node.handle_answer(peer, error, self)

    def lost(self, node, peer):
        pass


class Gathering(Context):
    """Asks each peer of `questions`, {peer: packet}, and calls `done(node, answers)` once, when
    each has answered, refused or been lost: {peer: its answer, an Error or None}, in the order
    of the questions.  Without any question that is at once.

    `waiting` holds the peers that nothing is known of yet, in order.
    """

    __slots__ = 'waiting', 'answers', '_done'

    def __init__(self, node, questions, done):
        self.waiting = dict.fromkeys(questions)
        self.answers = dict.fromkeys(questions)
        self._done = done
        for peer, packet in questions.items():
            node.ask(peer, packet, self)
        if not questions:
            self._end(node)

    def cancel(self):
        """`done` is not called any more."""
        self._done = None

    def answered(self, node, peer, answer):
        del self.waiting[peer]
        self.answers[peer] = answer
        if not self.waiting:
            self._end(node)

    def refused(self, node, peer, error):
        self.answered(node, peer, error)

    def lost(self, node, peer):
        self.answered(node, peer, None)

    def _end(self, node):
        done, self._done = self._done, None
        if done is not None:
            done(node, self.answers)
