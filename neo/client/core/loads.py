"""Reads: each is sent to one storage that has a readable cell, and to another one, or again a
little later, when that one can't serve it."""
from itertools import islice
from operator import attrgetter, gt, lt
from typing import NamedTuple

from ...cluster.context import Context
from ...protocol import limits
from ...protocol.codec import ProtocolError
from ...protocol.packets import FoundBroken, ListTransactions, Load, Measure, Sync
from ...protocol.types import MAX_ID, ClusterState, ErrorCode
from ..exception import BrokenData, NoObject, RequestRefused, exception_for
from .operation import Operation

# After these the request is sent elsewhere, or again.
ELSEWHERE = frozenset([ErrorCode.NOT_READY, ErrorCode.NOT_HERE, ErrorCode.BROKEN_DATA])
PLACE = attrgetter('tid', 'oid')     # of a record in the history


class Nobody(Context):
    """Gets the answer to what is not waited for any more."""

    __slots__ = ()

    def answered(self, client, peer, answer):
        pass

    def refused(self, client, peer, error):
        pass


NOBODY = Nobody()


class Read(Operation):
    """A request to any storage that can read the row of `id`, an oid or a tid."""

    __slots__ = 'packet', 'id', 'tried', 'broken', 'peer', 'asked', 'patient'

    phase = ClusterState.RUNNING        # of the client, in which it is sent

    def __init__(self, packet, id):
        super().__init__()
        self.packet = packet
        self.id = id
        self.tried = None               # ids of storages that could not serve it; None: none yet
        self.broken = None              # {of these: what is broken there}
        self.peer = None                # that was asked last …
        self.asked = 0.0                # … and when
        self.patient = limits.READ_PATIENCE     # seconds with it, if there is another one

    def candidates(self, client):
        readable = client.table.readable
        return readable[self.id % len(readable)]

    def ids(self):
        """All ids that it names: what can be none is not sent."""
        return self.id,

    def resume(self, client):
        if client.phase != self.phase:
            client.operations.stall(self)
            return
        for id in self.ids():
            if not 0 <= id <= MAX_ID:
                self.fail(client, RequestRefused('%#x is no oid, nor a tid' % id))
                return
        candidates = self.candidates(client)
        peer = self.choose(client.links, candidates)
        if peer is None:
            self.nowhere(client, candidates)
        else:
            self.sent(client)
            self.peer, self.asked = peer, client.now
            client.ask(peer, self.packet, self)

    def choose(self, links, candidates):
        """The peer to ask, or None if none is there that has not been tried: by turns, so that all
        cells are read from, and who says nothing last."""
        count, turn, tried, mute = len(candidates), self.id, self.tried, None
        for i in range(count):
            id = candidates[(turn + i) % count]
            peer = links.reach(id)
            if peer is not None and not (tried and id in tried):
                if not (links.mute and links.is_mute(id)):
                    return peer
                mute = mute or peer
        return mute

    def nowhere(self, client, candidates):
        """Nobody who has not been tried is there."""
        if self.broken and candidates and self.broken.keys() >= set(candidates):
            self.fail(client, BrokenData('no storage has unbroken data: '
                                         + '; '.join(self.broken.values())))
            return
        self.peer = None
        client.operations.stall(self)
        if self.tried:
            # Who has answered with broken data would do so again.
            self.tried = self.broken and set(self.broken)
            client.operations.retry_soon(client)

    def look(self, client):
        """Who keeps it waiting may be stopped or cut off, or wait for somebody who is."""
        peer = self.peer
        if peer is None or client.now - self.asked < self.patient or client.phase != self.phase:
            return
        if self.has_choice(client):
            client.links.keeps_waiting(client, peer)
            self.withdraw(client)
            self.patient *= 2           # all may have much to do
            self.elsewhere(client, peer)

    def has_choice(self, client):
        """Need it not wait for the peer that was asked?"""
        candidates = self.candidates(client)
        return self.peer.id not in candidates or self.is_elsewhere(client, candidates)

    def is_elsewhere(self, client, candidates):
        """Can one of these be asked instead?"""
        reach, peer, tried = client.links.reach, self.peer, self.tried or ()
        return any(id != peer.id and id not in tried and reach(id) is not None
                   for id in candidates)

    def withdraw(self, client):
        """What the storage answers does not count any more."""
        requests = self.peer.requests
        for request_id, (code, context) in requests.items():
            if context is self:
                requests[request_id] = code, NOBODY
                return

    def sent(self, client):
        """It is about to be sent; `packet` can still be changed."""

    def lacks(self, client):
        if client.phase != self.phase:
            return client.missing()
        return client.links.missing(self.candidates(client))

    # -- as the context of its request ----------------------------------------------------
    def answered(self, client, peer, answer):
        if self.done:
            return
        if not self.makes_sense(answer):
            self.elsewhere(client, peer)
            raise ProtocolError('%s does not answer %s' % (type(answer).__name__, self.packet))
        self.take(client, answer)

    def makes_sense(self, answer):
        return True

    def take(self, client, answer):
        """End with what was answered."""
        self.succeed(client, answer.values())

    def refused(self, client, peer, error):
        if self.done:
            return
        if error.error not in ELSEWHERE:
            self.fail(client, exception_for(error, peer))
            return
        if error.error == ErrorCode.BROKEN_DATA:
            self.broken = {**(self.broken or {}), peer.id: '%s: %s' % (peer, error.message)}
        self.elsewhere(client, peer)

    def elsewhere(self, client, peer):
        self.tried = (self.tried or set()) | {peer.id}
        self.resume(client)

    def lost(self, client, peer):
        if not self.done:
            self.resume(client)


class LoadObject(Read):
    """Result: `(tid, next tid or None, compression, checksum, data, tid of the data or None)`."""

    __slots__ = 'latest', 'crossed', 'entry', 'internal', 'reported'

    def __init__(self, oid, before):
        super().__init__(Load(oid, before), oid)
        self.internal = False
        self.latest = False             # nothing was heard of that is not below `before`
        self.crossed = None             # tids of transactions that wrote `oid` meanwhile
        self.entry = None               # in the cache: its checksum may be taken away once verified
        self.reported = ()              # ids of storages in `broken` that the primary knows of

    def distrust(self, client, load):
        """Ask others than those of `load`, another one, which has ended with broken data."""
        self.waited, self.reported = load.waited, load.reported
        storage, (tid, *_) = load.peer.id, load.result
        self.broken = {**(load.broken or {}), storage: '%s: the data of object %#x at %#x do not '
                       'match their checksum' % (storage, self.id, tid)}
        self.tried = set(self.broken)
        self._report(client, tid)

    def _report(self, client, tid):
        for storage in self.broken:
            if storage not in self.reported:
                client.report(FoundBroken(self.id, tid, storage))
        self.reported = tuple(self.broken)

    def ids(self):
        return self.id, self.packet.before

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

    def withdraw(self, client):
        self.forget(client)
        super().withdraw(client)

    def answered(self, client, peer, answer):
        self.forget(client)
        super().answered(client, peer, answer)

    def makes_sense(self, answer):
        next_tid = answer.next_tid
        return answer.oid == self.id and answer.tid < self.packet.before and (
            next_tid is None or next_tid >= self.packet.before)

    def take(self, client, answer):
        oid, tid, next_tid, compression, checksum, data, data_tid = answer.values()
        if next_tid is None and self.crossed and self.latest:
            # It was current when the storage answered; what was heard since then ended it.  Below
            # what had been heard already, the storage may not have known yet what ends it.
            next_tid = min((t for t in self.crossed if t > tid), default=None)
        if next_tid is not None or self.latest:
            # Else it is current at an old snapshot, and no more is known.
            self.entry = client.cache.add(oid, tid, next_tid, compression, checksum, data,
                                          data_tid)
        if self.broken:
            self._report(client, tid)   # now it is known which revision that is
        self.succeed(client, (tid, next_tid, compression, checksum, data, data_tid))

    def refused(self, client, peer, error):
        self.forget(client)
        super().refused(client, peer, error)

    def lost(self, client, peer):
        self.forget(client)
        super().lost(client, peer)


class History(Read):
    """Result: `[Revision]`, newest first."""

    __slots__ = ()

    def ids(self):
        return self.id, self.packet.before

    def makes_sense(self, answer):
        packet = self.packet
        tids = [packet.before, *(revision.tid for revision in answer.revisions)]
        return answer.oid == packet.oid and len(tids) <= packet.limit + 1 and _descending(tids)

    def take(self, client, answer):
        if answer.revisions:
            self.succeed(client, list(answer.revisions))
        else:
            self.fail(client, NoObject('%#x' % answer.oid))


class TransactionInfo(Read):
    """Result: a StoredMetadata, or None."""

    __slots__ = ()

    def __init__(self, tid):
        super().__init__(None, tid)

    def ids(self):
        return self.id, self.id + 1

    def sent(self, client):
        tid = self.id
        self.packet = ListTransactions(tid, tid + 1, (tid % client.table.partitions,))

    def makes_sense(self, answer):
        return [described.tid for described in answer.transactions] in ([], [self.id])

    def take(self, client, answer):
        self.succeed(client, answer.transactions[0] if answer.transactions else None)


class Regroup(NamedTuple):
    """Instead of a chunk: these rows can't be read together from one storage (any more)."""
    groups: list                    # how they may be read


class Chunk(Read):
    """Result: `(what was found, where to go on or None)`, or Regroup."""

    __slots__ = ()

    def ids(self):
        return self.packet.start, self.packet.stop

    def candidates(self, client):
        readable, rows = client.table.readable, self.packet.rows
        return [s for s in readable[rows[0]] if all(s in readable[row] for row in rows)]

    def has_choice(self, client):
        readable = client.table.readable
        return super().has_choice(client) or all(
            self.is_elsewhere(client, readable[row]) for row in self.packet.rows)

    def nowhere(self, client, candidates):
        rows = self.packet.rows
        if len(rows) == 1:
            super().nowhere(client, candidates)
        elif candidates and self.broken and self.broken.keys() >= set(candidates):
            # One of these rows, which may be whole on a storage that does not have the others.
            half = len(rows) // 2
            self.succeed(client, Regroup([rows[:half], rows[half:]]))
        else:
            # Others may have them, if none of them has all.
            groups = client.groups(rows)
            if len(groups) > 1:
                self.succeed(client, Regroup(groups))
            else:
                super().nowhere(client, candidates)


class TransactionsChunk(Chunk):

    __slots__ = ()

    def makes_sense(self, answer):
        packet = self.packet
        tids = [described.tid for described in answer.transactions]
        return _within(tids, packet.start, packet.stop) and _ascending(tids) and (
            answer.next is None or packet.start < answer.next <= packet.stop)


class RecordsChunk(Chunk):

    __slots__ = ()

    def makes_sense(self, answer):
        packet = self.packet
        places = list(map(PLACE, answer.records))
        return _within(places, (packet.start,), (packet.stop,)) and (
            _ascending(places)) and (answer.next is None or _place(*answer.next) > _place(
                packet.start, packet.after_oid))


def _place(tid, after_oid):
    return tid, -1 if after_oid is None else after_oid


def _within(places, start, stop):
    return not places or start <= places[0] and places[-1] < stop


def _ascending(values):
    return all(map(lt, values, islice(values, 1, None)))


def _descending(values):
    return all(map(gt, values, islice(values, 1, None)))


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

    def resume(self, client):
        if self._is_read(client):
            super().resume(client)

    def look(self, client):
        if self._is_read(client):
            super().look(client)

    def _is_read(self, client):
        if client.phase != self.phase or self.storage in client.table.readers():
            return True
        self.whole.begin_anew(client)
        return False

    def finished(self, client):
        self.whole.measured(client, self)


class Measurement(Operation):
    """Result: `(objects, bytes)` of the cluster, about; copies are counted once."""

    __slots__ = 'parts', 'copies', 'objects', 'bytes'

    def __init__(self):
        super().__init__()
        self.parts = self.copies = None
        self.objects = self.bytes = 0

    def resume(self, client):
        if client.phase != ClusterState.RUNNING:
            client.operations.stall(self)
        elif self.parts is None:
            # Who is being filled has more or less of it.
            readable = client.table.readable
            self.copies = sum(map(len, readable)) / len(readable)
            self.parts = [MeasureStorage(self, storage) for storage in client.table.readers()]
            for part in list(self.parts):
                client.attempt(part)

    def begin_anew(self, client):
        """One of the storages is not read any more: the others have all that it had."""
        if self.done:
            return
        former, self.parts = self.parts, None
        self.objects = self.bytes = 0
        for part in former:
            part.fail(client, RequestRefused('it is not needed any more'))
        self.resume(client)

    def measured(self, client, part):
        if self.parts is None or part not in self.parts:
            return                      # it is not needed any more
        self.parts.remove(part)
        if part.error is not None:
            self.fail(client, part.error)
            return
        objects, size = part.result
        self.objects += objects
        self.bytes += size
        if not self.parts:
            self.succeed(client, (round(self.objects / self.copies),
                                  round(self.bytes / self.copies)))


class WhenReady(Operation):
    """Ends when the cluster can be used."""

    __slots__ = ()

    def resume(self, client):
        if client.phase == ClusterState.RUNNING:
            self.succeed(client)
        else:
            client.operations.stall(self)


class Synchronization(Operation):
    """Result: the last tid anybody has heard of; all up to it has been heard here."""

    __slots__ = ()

    def resume(self, client):
        if client.phase == ClusterState.RUNNING:
            client.ask(client.primary, Sync(), self)
        else:
            client.operations.stall(self)

    def answered(self, client, peer, answer):
        if answer.last_tid > client.heard:
            client.operations.stall(self)
            raise ProtocolError('a sync up to %#x, and what was heard ends at %#x'
                                % (answer.last_tid, client.heard))
        if client.told.are_held:
            client.operations.stall(self)       # else they would not be told by then
        else:
            self.succeed(client, answer.last_tid)

    def refused(self, client, peer, error):
        client.operations.stall(self)
        client.operations.retry_soon(client)

    def lost(self, client, peer):
        client.operations.stall(self)
