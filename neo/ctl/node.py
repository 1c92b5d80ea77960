"""The node that neoctl is: it connects to an admin node, asks once, and leaves."""
from ..cluster.addresses import readable
from ..cluster.node import Node, handler_table
from ..protocol.packets import DescribeCluster, Identify, SetClusterState
from ..protocol.types import ClusterState, NodeKind
from . import answers

ADMIN = NodeKind.ADMIN


class Ctl(Node):
    """Ask `request` of the admin at `address`.  Once it has left, `result` is the packet that
    came, or `failure` says in one line why there is none.

    An order to stop is done when the admin, which leaves after the storages, has gone.
    """

    kind = NodeKind.CTL

    def __init__(self, rnd, address, request, timeout=30.0):
        super().__init__(rnd)
        self.address, self.request, self.timeout = address, request, timeout
        self.was_asked = False          # the admin
        self.result = None
        self.failure = None
        self.stops = type(request) is SetClusterState and request.state == ClusterState.STOPPING

    def starting(self):
        self.set_timer('timeout', self.now + self.timeout)
        self.connect(self.address)

    def connected(self, peer):
        peer.kind = ADMIN
        self.ask(peer, Identify(NodeKind.CTL, None, self.identity, 'any', None, None, 0, '', None,
                                self.now, ''))

    def connect_failed(self, address, reason):
        self.fail('no admin node at %s: %s' % (readable(address), reason))

    def lost(self, peer, reason):
        if self.stops and self.result is not None:
            self.exit(0)
        else:
            self.fail('the admin node at %s was lost%s: %s' % (
                readable(self.address), self._doubt(), reason))

    def timer(self, name):
        if self.result is not None:
            self.fail('%s, and this has not ended within %g s' % (
                self.result.message, self.timeout))
        else:
            self.fail('no answer from %s within %g s%s' % (
                readable(self.address), self.timeout, self._doubt()))

    def _doubt(self):
        """Who has given an order that was not answered is to know that."""
        ordered = self.was_asked and type(self.request) is not DescribeCluster
        return ', and this was done or not: look, and say it again' * ordered

    def stop(self):
        """A clean end of this process."""

    def fail(self, reason):
        self.failure = ' '.join(reason.split())
        self.exit(1)

    handlers = handler_table(answers)
