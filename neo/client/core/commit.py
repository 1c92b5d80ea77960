"""A transaction, until *finish* is sent (docs/architecture.md, "Life of a transaction").

What is stored is batched per storage; what is left rides with the vote, so that a small
transaction takes one message per storage before *finish*.  The application resolves conflicts:
`vote` gives them, and is called again after the resolved data have been stored.
"""
from enum import IntEnum

from ...cluster.node import handles
from ...protocol.packets import Conflict, DoesWait, GiveWay
from ...protocol.types import Metadata, NodeKind, ObjectSerial
from ..exception import ClusterUnavailable, NEOStorageError, TransactionFailed
from .operation import DONE, Operation, succeeded
from .part import RECORD_OVERHEAD, Part, size_of


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

    def __init__(self, ttid, table, imposed=None):
        self.ttid = ttid
        self.table = table              # routes all of it
        self.imposed = imposed          # its tid, if that is not for the primary to choose
        self.state = OPEN
        self.error = None               # why it can't be committed
        self.parts = {}                 # storage -> Part
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
        part = self.parts[storage] = Part(self, storage)
        return part

    def route(self, client, oid, record, check, size):
        readable = self.table.readable
        for storage in readable[oid % len(readable)]:
            part = self.parts.get(storage) or self.new_part(storage)
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
            return self.wait(client, internal)
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
        row = (self.ttid if tid is None else tid) % len(self.table.rows)
        for storage in self.table.readable[row]:
            (self.parts.get(storage) or self.new_part(storage)).metadata.append(described)

    def vote(self, client, internal=False):
        conflicts = self.unresolved()
        if conflicts:
            return succeeded(conflicts)
        if self.state != VOTING:        # else its thread was interrupted, and votes again
            self.become(VOTING)
        operation = self.wait(client, internal)
        missing = False
        for part in self.parts.values():
            part.vote(client)
            missing = missing or not part.voted
        if not missing:
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

    def part_has_voted(self, client, part, round):
        part.asked = False
        if self.state != VOTING and self.state != OPEN or self.error is not None:
            return
        if round < part.round:
            # It was answered before the storage knew that this transaction gave way.
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
        for part in self.parts.values():
            if not part.voted:
                return
        self.become(VOTED)
        self.operation.succeed(client, [])

    def met_conflicts(self, client, part, conflicts):
        part.conflicts.update(conflicts)
        if self.state == VOTING and self.error is None:
            unresolved = self.unresolved()
            if unresolved:
                self.become(OPEN)
                self.operation.succeed(client, unresolved)

    def give_way(self, client, part):
        part.give_way(client)
        if self.state == VOTING:
            part.vote(client)

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

    def storage_found(self, client, storage):
        part = self.parts.get(storage)
        if part is not None and part.peer is None and self.error is None:
            if self.state == VOTING:
                part.vote(client)
            elif part.size >= client.amounts.store_batch:
                part.flush(client)

    def storage_lost(self, client, storage, reason):
        part = self.parts.get(storage)
        if part is not None and part.peer is not None:
            self.fail(client, TransactionFailed('the connection to %s was lost: %s'
                                                % (storage, reason)))

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
