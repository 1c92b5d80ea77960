"""Small nodes to try the drivers with, over real sockets."""
import logging
import random
import sys
import threading
from collections import deque
from contextlib import contextmanager

from neo.client.core.operation import Operation
from neo.cluster import events
from neo.cluster.node import Node
from neo.protocol import limits
from neo.protocol.packets import Invalidate, Load, Ping, Sync, TakeOids
from neo.protocol.types import NodeKind
from neo.runtime.logs import Log
from neo.runtime.loop import Loop


BOMB = 1 << 60


class Toy(Node):
    """Takes every packet from anybody."""

    kind = NodeKind.STORAGE

    def __init__(self):
        super().__init__(random.Random(1))
        self.trace = []

    def step(self, now, event):
        self.now = now
        self.trace.append(event)
        kind = type(event)
        if kind is events.Received:
            self.received(event.connection, event.packet, event.request_id)
        elif kind is events.TimerFired:
            self.timer(event.name)
        elif kind is events.Accepted:
            self.batch.effects.append(events.Raise(event.connection, limits.MAX_FRAME))

    def start(self, now):
        self.now = now
        self.starting()

    def received(self, connection, packet, request_id):
        pass

    def reply(self, connection, packet, request_id=0):
        self.batch.effects.append(events.Send(connection, packet, request_id))

    def hang_up(self, connection):
        self.batch.effects.append(events.Close(connection))


class Echo(Toy):
    """Answers: Ping; Load with `oid` bytes; TakeOids to all by `count` Invalidates; Sync late,
    after 0.05 s.  Error hangs up; Load of BOMB raises."""

    def __init__(self):
        super().__init__()
        self.late = {}
        self.committed = 0

    def commit(self):
        self.committed += 1

    def received(self, connection, packet, request_id):
        kind = type(packet)
        if kind is Ping:
            self.reply(connection, Ping.Answer(), request_id)
        elif kind is Load:
            self.load(connection, packet, request_id)
        elif kind is TakeOids:
            self.batch.commit = True
            for tid in range(packet.count):
                told = Invalidate(tid, ())
                for other in self.connections():
                    self.reply(other, told)
            self.reply(connection, TakeOids.Answer(0, packet.count), request_id)
        elif kind is Sync:
            self.late[request_id] = connection
            self.set_timer(request_id, self.now + 0.05)
        else:
            self.hang_up(connection)

    def load(self, connection, packet, request_id):
        if packet.oid == BOMB:
            raise RuntimeError('a bomb')
        answer = Load.Answer(packet.oid, 1, None, 0, b'c' * 16, b'x' * packet.oid, None)
        self.reply(connection, answer, request_id)

    def connections(self):
        gone = {e.connection for e in self.trace if type(e) is events.Closed}
        return [e.connection for e in self.trace
                if type(e) is events.Accepted and e.connection not in gone]

    def timer(self, name):
        self.reply(self.late.pop(name), Sync.Answer(7), name)


class Core(Toy):
    """As little as a client core can be."""

    kind = NodeKind.CLIENT

    def __init__(self, address):
        super().__init__()
        self.address = address
        self.connection = None
        self.completed = []
        self.invalidations = deque()
        self.asked = {}
        self.waiting = []
        self.last = 0
        self.fired = []

    def starting(self):
        self.connect(self.address)

    def step(self, now, event):
        super().step(now, event)
        kind = type(event)
        if kind is events.Connected:
            self.connection = event.connection
            for packet, operation in self.waiting:
                self._ask(packet, operation)
            self.waiting.clear()
        elif kind is events.Closed:
            self.connection = None
            error = ConnectionError('lost')
            for operation in self.asked.values():
                self._end(operation, error=error)
            self.asked.clear()
            self.connect(self.address)
        elif kind is events.ConnectFailed:
            self.set_timer('connect', now + 0.05)

    def timer(self, name):
        if name == 'connect':
            self.connect(self.address)
        elif name == 'boom':
            raise RuntimeError('boom')
        else:
            self.fired.append((name, self.now))

    def received(self, connection, packet, request_id):
        if type(packet) is Invalidate:
            self.invalidations.append((packet.tid, packet.oids, None))
        else:
            self._end(self.asked.pop(request_id), packet)

    def request(self, packet):
        operation = Operation()
        if self.connection is None:
            self.waiting.append((packet, operation))
        else:
            self._ask(packet, operation)
        return operation

    def tell(self, packet):
        self.reply(self.connection, packet)

    def fail(self, error):
        operation = Operation()
        operation.done, operation.error = True, error
        return operation

    def _ask(self, packet, operation):
        self.last += 1
        self.asked[self.last] = operation
        self.reply(self.connection, packet, self.last)

    def _end(self, operation, result=None, error=None):
        operation.done, operation.result, operation.error = True, result, error
        self.completed.append(operation)


class Records(list):
    """A log that is looked at by tests."""

    name = 'test'

    def __call__(self, level, message):
        self.append((level, message))

    def fail(self, message, exc_info=False):
        self.append((logging.CRITICAL, message))

    def reopen(self):
        self.append((logging.INFO, 'reopened'))


@contextmanager
def running(node, host='127.0.0.1'):
    """Drive `node` in a thread of its own; gives (address, loop, what `run` will have returned)."""
    loop = Loop(Records())
    status = []
    address = loop.listen(host, 0)
    thread = threading.Thread(target=lambda: status.append(loop.run(node)), daemon=True)
    thread.start()
    try:
        yield address, loop, status
    finally:
        loop.stop()
        thread.join(10)
        assert not thread.is_alive()


def main():
    """A daemon, to be run as a process: says its port, and echoes."""
    log = Log('toy', *sys.argv[1:])
    loop = Loop(log)
    address = loop.listen('127.0.0.1', 0)
    node = Echo()
    node.stop = lambda: (node.log('saying goodbye'), node.durable())
    print(address[1], flush=True)
    status = loop.run(node)
    print('committed', node.committed, flush=True)
    sys.exit(status)


if __name__ == '__main__':
    main()
