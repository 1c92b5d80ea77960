"""What an application has asked for, and what has become of it."""
from ..exception import ClusterUnavailable


class Operation:
    """Ends with either a `result` or an `error` (an exception instance)."""

    __slots__ = 'done', 'result', 'error', 'deadline'

    def __init__(self):
        self.done = False
        self.result = None
        self.error = None
        self.deadline = None        # set when the core first looks at what is late

    internal = False                    # part of another operation: the driver never sees it

    # -- called by the core: what a kind of operation does in these cases -------------------
    def resume(self, client):
        """Something has changed: try again what could not be done."""

    def finished(self, client):
        """It has just ended."""

    def patience(self, client):
        """Seconds until it has `expired`."""
        return client.wait_timeout

    def expired(self, client):
        client.fail(self, ClusterUnavailable(client.unavailable()))

    def __repr__(self):
        return '%s(%s)' % (type(self).__name__, (
            'error=%r' % self.error if self.error else 'result=%r' % (self.result,))
            if self.done else 'waiting')


def succeeded(result=None):
    operation = Operation()
    operation.done = True
    operation.result = result
    return operation


def failed(error):
    operation = Operation()
    operation.done = True
    operation.error = error
    return operation
