"""Reads: each is sent to one storage that has a readable cell, and to another one, or again a
little later, when that one can't serve it."""
from ...cluster.node import handles
from ...protocol.packets import (ListRecords, ListTransactions, Load, Measure, ObjectHistory, Sync)
from ...protocol.types import ClusterState, ErrorCode, NodeKind
from ..exception import BrokenData, NoObject, exception_for
from .operation import Operation

# After these the request is sent elsewhere, or again.
ELSEWHERE = frozenset([ErrorCode.NOT_READY, ErrorCode.NOT_HERE, ErrorCode.BROKEN_DATA])


class Read(Operation):
    """A request to any storage that can read the row of `id`, an oid or a tid."""

    __slots__ = 'packet', 'id', 'tried', 'broken'

    def __init__(self, packet, id):
        super().__init__()
        self.packet = packet
        self.id = id
        self.tried = None               # ids of storages that could not serve it; None: none yet
        self.broken = False             # one of them had data that do not match their checksum

    def candidates(self, client):
        readable = client.table.readable
        return readable[self.id % len(readable)]

    def resume(self, client):
        if client.phase != ClusterState.RUNNING:
            client.stall(self)
            return
        candidates = self.candidates(client)
        # By turns, so that all cells are read from.
        count, turn, links = len(candidates), self.id, client.storages
        for i in range(count):
            id = candidates[(turn + i) % count]
            link = links.get(id)
            if link is not None and link.peer is not None and not (self.tried and id in self.tried):
                self.sent(client)
                client.ask(link.peer, self.packet, self)
                return
        self.nowhere(client, candidates)

    def nowhere(self, client, candidates):
        if self.broken and self.tried.issuperset(candidates):
            client.fail(self, BrokenData('no storage has unbroken data for %r' % self.packet))
            return
        client.stall(self)
        if self.tried:
            self.tried = None
            client.retry_soon()

    def sent(self, client):
        pass

    # -- as the context of its request ----------------------------------------------------
    def answered(self, client, answer):
        client.succeed(self, answer.values())

    def refused(self, client, peer, error):
        if self.done:
            return
        if error.error not in ELSEWHERE:
            client.fail(self, exception_for(error, peer))
            return
        self.broken |= error.error == ErrorCode.BROKEN_DATA
        self.tried = (self.tried or set()) | {peer.id}
        self.resume(client)

    def lost(self, client):
        if not self.done:
            self.resume(client)


class LoadObject(Read):
    """Result: `(tid, next tid or None, compression, checksum, data, tid of the data or None)`."""

    __slots__ = 'latest', 'crossed', 'entry', 'internal'

    def __init__(self, oid, before):
        super().__init__(Load(oid, before), oid)
        self.internal = False
        self.latest = False             # nothing was heard of that is not below `before`
        self.crossed = None             # tids of transactions that wrote `oid` meanwhile
        self.entry = None               # in the cache: its checksum may be taken away once verified

    def sent(self, client):
        self.crossed = None
        self.latest = self.packet.before > client.heard
        client.loading.setdefault(self.id, []).append(self)

    def forget(self, client):
        loads = client.loading.get(self.id)
        if loads is not None and self in loads:
            loads.remove(self)
            if not loads:
                del client.loading[self.id]

    def answered(self, client, answer):
        self.forget(client)
        if self.done:
            return
        oid, tid, next_tid, compression, checksum, data, data_tid = answer.values()
        if next_tid is None and self.crossed:
            # It was current when the storage answered; what was heard since then ended it.
            next_tid = min((t for t in self.crossed if t > tid), default=None)
        if next_tid is not None or self.latest:
            # Else it is current at an old snapshot, and no more is known.
            self.entry = client.cache.add(oid, tid, next_tid, compression, checksum, data,
                                          data_tid)
        client.succeed(self, (tid, next_tid, compression, checksum, data, data_tid))

    def refused(self, client, peer, error):
        self.forget(client)
        super().refused(client, peer, error)

    def lost(self, client):
        self.forget(client)
        super().lost(client)


class History(Read):
    """Result: `[(tid, size)]`, newest first."""

    __slots__ = ()

    def answered(self, client, answer):
        if answer.revisions:
            client.succeed(self, list(answer.revisions))
        else:
            client.fail(self, NoObject('%#x' % answer.oid))


class TransactionInfo(Read):
    """Result: a `StoredTransaction`, or None."""

    __slots__ = ()

    def __init__(self, tid):
        super().__init__(None, tid)

    def sent(self, client):
        tid = self.id
        self.packet = ListTransactions(tid, tid + 1, (tid % len(client.table.rows),))

    def answered(self, client, answer):
        client.succeed(self, answer.transactions[0] if answer.transactions else None)


class Chunk(Read):
    """Result: `(transactions or records, where to go on or None)`; None if these rows can't be read
    from one storage any more."""

    __slots__ = ()

    def candidates(self, client):
        readable, rows = client.table.readable, self.packet.rows
        return [s for s in readable[rows[0]] if all(s in readable[row] for row in rows)]

    def nowhere(self, client, candidates):
        if candidates or len(self.packet.rows) == 1:
            super().nowhere(client, candidates)
        else:
            client.succeed(self, None)


class MeasureStorage(Read):
    """One part of a Measurement."""

    __slots__ = 'whole', 'storage'
    internal = True

    def __init__(self, whole, storage):
        super().__init__(Measure(), 0)
        self.whole = whole
        self.storage = storage

    def candidates(self, client):
        return (self.storage,)

    def finished(self, client):
        self.whole.measured(client, self)


class Measurement(Operation):
    """Result: `(objects, bytes)` of the cluster; copies are counted once."""

    __slots__ = 'parts', 'objects', 'bytes'

    def __init__(self):
        super().__init__()
        self.parts = None
        self.objects = self.bytes = 0

    def resume(self, client):
        if client.phase != ClusterState.RUNNING:
            client.stall(self)
        elif self.parts is None:
            self.parts = [MeasureStorage(self, storage) for storage in client.table.storages()]
            for part in list(self.parts):
                client.attempt(part)

    def measured(self, client, part):
        self.parts.remove(part)
        if part.error is not None:
            client.fail(self, part.error)
            return
        objects, size = part.result
        self.objects += objects
        self.bytes += size
        if not self.parts:
            copies = 1 + client.table.replicas
            client.succeed(self, (self.objects // copies, self.bytes // copies))


class WhenReady(Operation):
    """Ends when the cluster can be used."""

    __slots__ = ()

    def resume(self, client):
        if client.phase == ClusterState.RUNNING:
            client.succeed(self, None)
        else:
            client.stall(self)


class Synchronization(Operation):
    """Result: the last tid anybody has heard of; all up to it has been heard here."""

    __slots__ = ()

    def resume(self, client):
        if client.phase == ClusterState.RUNNING:
            client.ask(client.primary, Sync(), self)
        else:
            client.stall(self)

    def refused(self, client, peer, error):
        self.lost(client)
        client.retry_soon()

    def lost(self, client):
        if not self.done:
            client.stall(self)


@handles(Load.Answer, ObjectHistory.Answer, ListTransactions.Answer, ListRecords.Answer,
         Measure.Answer, sender=NodeKind.STORAGE)
def read_answered(client, peer, answer, read):
    read.answered(client, answer)


@handles(Sync.Answer, sender=NodeKind.MASTER)
def synchronized(client, peer, answer, operation):
    client.succeed(operation, answer.last_tid)
