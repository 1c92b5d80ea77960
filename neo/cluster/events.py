"""What happens to a node, and what a node wants done (docs/architecture.md, "A node").

A connection is a number, given by what drives the node.
"""


def _slots(name, *fields, doc, optional=()):
    """A tiny class: these are made by the thousand, and are only ever taken apart.  The last ones
    of its fields, those that are `optional`, are None unless they are given."""
    arguments = ', '.join(f + '=None' * (f in optional) for f in fields)
    body = '\n    '.join('self.%s = %s' % (f, f) for f in fields) or 'pass'
    scope = {}
    exec('def __init__(self, %s):\n    %s' % (arguments, body), scope)
    return type(name, (), {
        '__slots__': fields, '__doc__': doc, '__init__': scope['__init__'], '__module__': __name__,
        '__repr__': lambda self: '%s(%s)' % (
            name, ', '.join(repr(getattr(self, f)) for f in fields))})


# -- events ---------------------------------------------------------------------------------
Accepted = _slots('Accepted', 'connection', 'address', optional=['address'],
                  doc='Somebody has connected, from this (host, port).')
Connected = _slots('Connected', 'connection', 'address', doc='What `Connect` asked for.')
ConnectFailed = _slots('ConnectFailed', 'address', 'reason', doc='What `Connect` asked for.')
Received = _slots('Received', 'connection', 'packet', 'request_id', doc='A whole packet.')
Closed = _slots('Closed', 'connection', 'reason', doc="""The connection is gone, by the other side,
by the network or by bytes that are no packet; not after an own `Close`.""")
Progress = _slots('Progress', 'connection', doc="""Bytes have come, or gone where some had to wait,
and no whole packet: a sign of life while something long is on its way.""")
TimerFired = _slots('TimerFired', 'name', doc='A timer that was set has come; it is unset now.')
Slice = _slots('Slice', 'amount', doc="""Time for about so many units of background work: nothing
else is there to be done, or it has waited for its share.""")

# -- effects --------------------------------------------------------------------------------
Send = _slots('Send', 'connection', 'packet', 'request_id', doc='Nothing happens if it is gone.')
Connect = _slots('Connect', 'address', doc='`(host, port)`; gives Connected or ConnectFailed.')
Close = _slots('Close', 'connection', doc='After all that was sent on it before.')
Raise = _slots('Raise', 'connection', 'limit', doc='Accept frames up to `limit` bytes from now on.')
SetTimer = _slots('SetTimer', 'name', 'at', doc='One per name; at=None unsets it.')
Log = _slots('Log', 'level', 'message', doc='For people; `level` as in logging.')
Exit = _slots('Exit', 'status', 'message', doc='Leave, after all effects before; 0 is success.')


class Batch:
    """What a turn has led to.  With `commit`, the engine must be committed before the effects."""

    __slots__ = 'commit', 'effects'

    def __init__(self):
        self.commit = False
        self.effects = []
