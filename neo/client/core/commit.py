"""A transaction, until *finish* is sent (docs/architecture.md, "Life of a transaction").

What is stored is batched per storage; what is left rides with the vote, so that a small
transaction takes one message per storage before *finish*.  The application resolves conflicts:
`vote` gives them, and is called again after the resolved data have been stored.
"""
from enum import IntEnum

from ...cluster.node import handles
from ...protocol import limits
from ...protocol.packets import Conflict, DoesWait, GiveWay
from ...protocol.types import Ballot, ErrorCode, Metadata, NodeKind, ObjectSerial
from ..exception import (ClusterUnavailable, NEOStorageError, TransactionFailed, exception_for)
from .operation import DONE, Operation, succeeded
from .part import RECORD_OVERHEAD, Part, size_of


PATIENCE = 'patience '          # a timer: … and a ttid


class State(IntEnum):
    """Of a transaction.  It gives way to older ones while it is OPEN or VOTING, and afterwards to
    nobody, as it waits for nothing any more: neither for locks nor for other transactions."""
    OPEN, VOTING, VOTED, FINISHING, ENDED = range(5)


OPEN, VOTING, VOTED, FINISHING, ENDED = State
MAY_BECOME = {
    OPEN: (VOTING, ENDED),
    VOTING: (OPEN, VOTED, ENDED),           # conflicts are told in OPEN
    VOTED: (VOTING, FINISHING, ENDED),
    FINISHING: (VOTED, ENDED),              # refused: nothing has been locked
    ENDED: (),
}


class Begin(Operation):
    """Result: a Transaction."""

    __slots__ = 'imposed',

    def __init__(self, imposed):
        super().__init__()
        self.imposed = imposed

    def resume(self, client):
        if client.can_begin():
            transaction = client.new_transaction(self.imposed)
            transaction.waited = self.waited
            self.succeed(client, transaction)
        else:
            client.operations.stall(self)
            client.ttids.refill(client)


class Waiting(Operation):
    """The application waits for a transaction.  Locks of others may take as long as they do; of
    patience with storages that are not there, a transaction has as much as any other operation,
    in all."""

    __slots__ = 'transaction', 'internal'

    def __init__(self, transaction, internal=False):
        super().__init__()
        self.transaction = transaction
        self.internal = internal

    def _missing(self):
        return [part.storage for part in self.transaction.parts.values() if part.peer is None]

    def look(self, client):
        self.transaction.look(client)

    def counts(self, client):
        return bool(self._missing())

    def account(self, seconds):
        self.transaction.waited += seconds
        return self.transaction.waited

    def lacks(self, client):
        missing = self._missing()
        return missing and (
            client.links.missing(missing) or client.missing() or ', '.join(missing))

    def waits_for(self, client):
        transaction = self.transaction
        return self.lacks(client) or '%s, with transaction %#x' % (client.links.describe(
            [part.storage for part in transaction.parts.values() if part.asked or part.unacked])
            or 'an earlier import', transaction.ttid)

    def expired(self, client):
        self.transaction.fail(client, ClusterUnavailable(client.unavailable(self)))

    def finished(self, client):
        if self.transaction.importing is not None:
            self.transaction.importing.vote_ended(client, self)


class Transaction:

    def __init__(self, ttid, routing, imposed=None):
        self.ttid = ttid
        self.routing = routing
        self.table = routing.table      # routes all of it
        self.imposed = imposed          # its tid, if that is not for the primary to choose
        self.state = OPEN
        self.error = None               # why it can't be committed
        self.parts = {}                 # storage -> Part
        self.without = ()               # storages that have failed, and are not needed
        self.records = {}               # oid -> record, as it was stored last
        self.checks = {}                # oid -> serial
        self.size = 0                   # of all records
        self.operation = None           # what the application waits for
        self.waited = 0.0               # seconds, for nodes that are not there
        self.importing = None           # the Import it belongs to
        self.imports = ()               # of an import: (tid, oids) for each transaction
        self.described = False          # its metadata are known

    def __repr__(self):
        return 'Transaction(%#x, %s)' % (self.ttid, self.state.name.lower())

    def does_wait(self):
        """Is it for the cluster to go on, and not for the application?"""
        return self.error is None and (self.state in (VOTING, FINISHING) or (
            self.operation is not None and not self.operation.done))

    def written(self):
        """Oids, ascending."""
        if not self.imports:
            return tuple(sorted(self.records))
        return tuple(sorted({oid for imported in self.imports for oid in imported.oids}))

    def become(self, state):
        assert state in MAY_BECOME[self.state], '%r becomes %s' % (self, state.name)
        self.state = state

    def new_part(self, storage):
        """The Part of a storage that has none, or None: it is done without."""
        if storage not in self.without:
            part = self.parts[storage] = Part(self, storage)
            return part

    def route(self, client, oid, record, check, size):
        cells = self.routing.cells
        for storage in cells[oid % len(cells)]:
            part = self.parts.get(storage) or self.new_part(storage)
            if part is None:
                continue
            if part.conflicts:
                # Whether this is from the current revision, the storage tells anew.
                part.conflicts.pop(oid, None)
            part.add(client, record, check, size)

    def store(self, client, record):
        self.records[record.oid] = record
        return self.add(client, record)

    def add(self, client, record, internal=False):
        size = size_of(record)
        self.size += size
        self.route(client, record.oid, record, None, size)
        return self.waiting_for_window(client, internal)

    def check(self, client, oid, serial):
        self.checks[oid] = serial
        self.route(client, oid, None, ObjectSerial(oid, serial), RECORD_OVERHEAD)
        return self.waiting_for_window(client)

    def window_is_full(self, client):
        window = client.amounts.store_window
        for part in self.parts.values():
            if part.unacked + part.size > window:
                return True
        return False

    def waiting_for_window(self, client, internal=False):
        if self.size > client.amounts.store_window and self.window_is_full(client):
            operation = self.wait(client, internal)
            reach = client.links.reach
            self.be_patient(client, [part for part in self.parts.values()
                                     if (part.unacked or reach(part.storage) is None)
                                     and not self.must_wait_for(client, part)], limits.BLIND_GRACE)
            return operation
        return DONE

    def wait(self, client, internal):
        former, operation = self.operation, Waiting(self, internal)
        self.operation = operation
        if former is not None:          # its thread may have been interrupted
            former.fail(client, NEOStorageError('%r is waited for anew' % self))
        client.operations.wait_for(client, operation)
        return operation

    def acknowledged(self, client):
        """A storage has taken a batch."""
        if self.operation is not None and self.state == OPEN and not self.window_is_full(client):
            self.operation.succeed(client)

    # -- the vote -------------------------------------------------------------------------
    def describe(self, metadata):
        self.described = True
        self.set_metadata(metadata, self.imposed, self.records)

    def set_metadata(self, metadata, tid, oids):
        """`metadata` is (status, user, description, extension) as it is stored."""
        described = Metadata(tid, *metadata, tuple(oids))
        cells = self.routing.cells
        for storage in cells[(self.ttid if tid is None else tid) % len(cells)]:
            part = self.parts.get(storage) or self.new_part(storage)
            if part is not None:
                part.metadata.append(described)

    def vote(self, client, internal=False):
        conflicts = self.unresolved()
        if conflicts:
            return succeeded(conflicts)
        if self.state != VOTING:        # else its thread was interrupted, and votes again
            self.become(VOTING)
        operation = self.wait(client, internal)
        for part in self.parts.values():
            part.vote(client)
        self.be_patient(client, [part for part in self.parts.values() if part.trouble is not None
                                 and not part.voted and self.must_wait_for(client, part)],
                        limits.SUSPENSION)
        # A vote that has waited for what was resolved has been answered already.
        self.end_vote(client)
        return operation

    def unresolved(self):
        """`[(oid, base, current serial, is a check)]` of all conflicts."""
        found = {}
        for part in self.parts.values():
            for oid, serial in part.conflicts.items():
                found[oid] = max(serial, found.get(oid, 0))
        if not found:
            return []
        return [conflict for oid, serial in sorted(found.items())
                for conflict in self._unresolved(oid, serial)]

    def _unresolved(self, oid, serial):
        if self.checks.get(oid, serial) != serial:
            yield oid, self.checks[oid], serial, True
        elif oid in self.records and self.records[oid].base != serial:
            yield oid, self.records[oid].base, serial, False

    def part_has_voted(self, client, part, round, for_all):
        part.asked = False
        if self.state != VOTING and self.state != OPEN or self.error is not None:
            return
        if round < part.round or not for_all:
            # It was answered before the storage knew that this transaction gave way, or had all.
            if self.state == VOTING:
                part.vote(client)
            return
        part.voted = True
        self.end_vote(client)

    def end_vote(self, client):
        """Once nothing is waited for any more.  An import waits for its turn too: it must not hold
        on to what it was granted until then, as the one before it may wait for just that."""
        if self.state != VOTING or self.error is not None or (
                self.importing is not None and not client.imports.is_next(self.importing)):
            return
        late = []
        for part in self.parts.values():
            if not part.voted:
                if self.must_wait_for(client, part):
                    return
                late.append(part)
        if late:
            self.be_patient(client, late, limits.BLIND_GRACE)
        else:
            self.become(VOTED)
            self.operation.succeed(client, [])

    def met_conflicts(self, client, part, conflicts):
        readable = client.table.readable
        # What lacks a part of the history can't tell what is current.
        part.conflicts.update([conflict for conflict in conflicts
                               if part.storage in readable[conflict.oid % len(readable)]])
        if self.state == VOTING and self.error is None:
            unresolved = self.unresolved()
            if unresolved:
                self.become(OPEN)
                self.operation.succeed(client, unresolved)

    def give_way(self, client, part):
        part.give_way(client)
        if self.state == VOTING:
            part.vote(client)

    def ballots(self, client):
        """Of those that have voted, and have not been taken out of the table meanwhile: these
        forget it."""
        parts = self.parts.values()
        if self.table is not client.table:
            there = client.table.storages()
            for part in parts:
                if part.storage not in there:
                    client.links.abort(client, part.storage, self.ttid)
            parts = [part for part in parts if part.storage in there]
        return tuple([Ballot(part.storage, part.session) for part in parts])

    # -- storages that fail -----------------------------------------------------------------
    def touched(self):
        """The rows of all that is written or checked, with repetitions."""
        partitions = len(self.routing.cells)
        if not self.imports:
            yield (self.ttid if self.imposed is None else self.imposed) % partitions
        for imported in self.imports:
            yield imported.tid % partitions
            for oid in imported.oids:
                yield oid % partitions
        for oid in self.records:
            yield oid % partitions
        for oid in self.checks:
            yield oid % partitions

    def needs(self, storage, table):
        """Has it, by this table, a readable cell of any of that?"""
        readable = table.readable
        return any(storage in readable[row] for row in self.touched())

    def must_wait_for(self, client, part):
        routing = self.routing
        if routing is client.routing and part.storage not in routing.blind:
            return True
        return self.needs(part.storage, client.table)

    def waits_for_storages(self):
        return self.error is None and self.state in (OPEN, VOTING)

    def be_patient(self, client, parts, seconds):
        """… with these for so long from now on, unless that has begun already."""
        for part in parts:
            if part.until is None:
                part.until = client.now + seconds
        self._set_timer(client)

    def _set_timer(self, client):
        ends = [part.until for part in self.parts.values() if part.until is not None]
        if ends:
            client.set_timer(PATIENCE + str(self.ttid), min(ends))

    def patience_ends(self, client):
        """The timer has come."""
        for part in list(self.parts.values()):
            if part.until is not None and part.until <= client.now:
                part.until = None
                if self.waits_for_storages():
                    self._give_up(client, part)
        self._set_timer(client)

    def _give_up(self, client, part):
        if self.must_wait_for(client, part):
            if part.trouble is not None:
                self.fail(client, TransactionFailed(part.trouble))
            elif part.peer is not None and part.peer.silent:
                self.fail(client, TransactionFailed('%s says nothing' % part.peer))
        elif self.operation is not None and not self.operation.done:
            self.drop(client, part)
            client.links.is_late(client, part.storage)

    def drop(self, client, part):
        """Go on without this storage: by the table it is not needed."""
        part.dropped = True
        del self.parts[part.storage]
        self.without += part.storage,
        if part.peer is not None:
            client.links.abort(client, part.storage, self.ttid)
        if self.state == VOTING:
            self.end_vote(client)
        else:
            self.acknowledged(client)

    def table_changed(self, client, former):
        """`former` was in force before."""
        if self.waits_for_storages():
            for part in list(self.parts.values()):
                if (part.trouble is not None or not part.voted) and (
                        self.needs(part.storage, former)
                        and not self.needs(part.storage, client.table)):
                    self.drop(client, part)

    def part_refused(self, client, part, peer, error):
        if part.dropped or not self.waits_for_storages():
            return
        if not self.needs(part.storage, client.table):
            self.drop(client, part)
        elif error.error == ErrorCode.NOT_HERE:
            # Its table is newer than the one here, which is on its way.
            self.suspend(client, part, '%s: %s' % (peer, error.message))
        else:
            self.fail(client, exception_for(error, peer))

    def suspend(self, client, part, trouble):
        part.suspend(trouble, client.now + limits.SUSPENSION)
        self._set_timer(client)

    def look(self, client):
        """Now and then, while it waits: for those who are silent it does not as long as they may
        be so, where the cluster can leave them behind."""
        silent = [part for part in self.parts.values() if not part.voted
                  and part.peer is not None and part.peer.silent
                  and self._may_be_left(part.storage, client.table)]
        if silent:
            self.be_patient(client, silent, limits.SUSPENSION)

    def _may_be_left(self, storage, table):
        readable = table.readable
        return all(storage not in readable[row] or len(readable[row]) > 1
                   for row in self.touched())

    # -- how it may end without finish ----------------------------------------------------
    def fail(self, client, error):
        if self.error is None and self.state not in (FINISHING, ENDED):
            self.error = error
            operation, self.operation = self.operation, None
            if operation is not None:
                operation.fail(client, error)

    def primary_lost(self, client, error):
        self.fail(client, error)
        if self.state < FINISHING:
            # The primary sees to it that storages forget all of a client that is gone.
            self.parts.clear()

    def storage_found(self, client, link):
        part = self.parts.get(link.id)
        if part is None or not self.waits_for_storages():
            return
        if part.peer is None:
            if self.state == VOTING:
                part.vote(client)
            elif part.size >= client.amounts.store_batch:
                part.flush(client)
        elif part.trouble is not None and part.session == link.session:
            if not part.voted:
                # It has forgotten what was not voted, and knows of nothing that it should.
                self.fail(client, TransactionFailed(part.trouble))
                return
            part.resume(client, link)
            if self.state == VOTING:
                part.vote(client)

    def storage_lost(self, client, storage, reason):
        part = self.parts.get(storage)
        if part is None or part.peer is None or self.error is not None or self.state > VOTED:
            return
        trouble = 'the connection to %s was lost: %s' % (storage, reason)
        if self.state == VOTED:
            part.suspend(trouble, None)         # its vote counts; what is stored now does not
        elif self.needs(storage, client.table):
            self.suspend(client, part, trouble)
        elif not part.voted:
            self.drop(client, part)
        else:
            part.suspend(trouble, None)

    def abort(self, client):
        self.fail(client, TransactionFailed('aborted'))
        self.become(ENDED)
        for part in self.parts.values():
            if part.peer is not None:
                # After a lost connection too: what was voted is kept until this is told.
                client.links.abort(client, part.storage, self.ttid)


@handles(Conflict, sender=NodeKind.STORAGE)
def conflicted(client, peer, packet, request_id):
    transaction, part = client.part_of(packet.ttid, peer)
    if part is not None and packet.round >= part.round:
        transaction.met_conflicts(client, part, packet.conflicts)


@handles(GiveWay, sender=NodeKind.STORAGE)
def asked_to_give_way(client, peer, packet, request_id):
    transaction, part = client.part_of(packet.ttid, peer)
    if part is not None and transaction.state in (OPEN, VOTING):
        transaction.give_way(client, part)


@handles(DoesWait, sender=NodeKind.STORAGE)
def asked_what_it_waits_for(client, peer, packet, request_id):
    transaction = client.transactions.get(packet.ttid)
    client.answer(peer, request_id, DoesWait.Answer(
        transaction is not None and transaction.does_wait()))
