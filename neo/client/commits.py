"""Transactions of this process, from begin to finish or abort, as ZODB goes through them."""
import threading
from pickle import dumps

from ZODB.POSException import ConflictError, ReadConflictError, StorageTransactionError
from ZODB.utils import p64, z64

from ..protocol import limits
from . import compression
from .core.client import Client
from .exception import ClientReplaced, NEOStorageError, OutcomeUnknown, StorageClosed
from .delivery import Own
from .ids import oid_to_write, serial_to_write, tid_to_impose
from .records import pack

EXTENSION_PROTOCOL = 3          # of pickles, as ZODB uses for extensions


class Pending:
    """A transaction that was begun and has not ended."""

    __slots__ = 'transaction', 'session', 'core', 'metadata', 'resolved', 'voted', 'failure'

    def __init__(self, transaction, session, core, metadata):
        self.transaction = transaction  # ZODB's
        self.session = session          # that it was begun with
        self.core = core                # ours
        self.metadata = metadata
        self.resolved = []              # oids
        self.voted = False
        self.failure = None             # of its vote, after which it can only be aborted


class Commits:
    """`compress` is that of `neo.client.compression`, `resolve` is `tryToResolveConflict` of the
    storage, and `storage` stands in errors of ZODB."""

    def __init__(self, storage, access, compress, resolve):
        self._storage = storage
        self._access = access
        self._compress = compress
        self._resolve = resolve
        self._pending = {}              # id of ZODB's transaction -> Pending

    def __getitem__(self, transaction):
        """The Pending of a transaction of ZODB, which may go on."""
        pending = self._pending.get(id(transaction))
        if pending is None or pending.transaction is not transaction:
            raise StorageTransactionError(self._storage, transaction)
        if pending.session is not self._access.current():
            if pending.session.inherited:
                raise StorageTransactionError('it was begun before this process was forked')
            raise ClientReplaced('the connections of the client were made anew since it began')
        return pending

    def latest(self):
        """ZODB's transaction that was begun last, of those that have not ended."""
        for pending in reversed(list(self._pending.values())):
            return pending.transaction

    def begin(self, transaction, tid, status):
        if id(transaction) in self._pending:
            raise StorageTransactionError('Duplicate tpc_begin calls for same transaction')
        imposed = None if tid is None else tid_to_impose(tid)
        metadata = status, *described(transaction)
        session = self._access.current()
        begun = session.run(Client.begin, imposed)
        self._pending[id(transaction)] = Pending(transaction, session, begun, metadata)

    def store(self, transaction, oid, serial, data):
        pending = self[transaction]
        self._store(pending, oid_to_write(oid), serial_to_write(serial or z64), data)

    def restore(self, transaction, oid, serial, data):
        pending = self[transaction]
        if pending.core.imposed is None or serial_to_write(serial) != pending.core.imposed:
            raise StorageTransactionError('restore needs a transaction begun with that tid')
        self._store(pending, oid_to_write(oid), None, data)

    def _store(self, pending, oid, base, data):
        record = pack(self._compress, oid, base, pending.core.imposed, data)
        pending.voted = False
        pending.session.run(Client.store, pending.core, record)

    def check(self, transaction, oid, serial):
        pending = self[transaction]
        pending.session.run(Client.check, pending.core, oid_to_write(oid), serial_to_write(serial))

    # -- the vote ---------------------------------------------------------------------------
    def vote(self, transaction):
        pending = self[transaction]
        if pending.failure is not None:
            raise StorageTransactionError('its vote has failed: %s' % pending.failure)
        pending.failure = 'it was interrupted'
        try:
            self._vote(pending)
        except Exception as error:
            pending.failure = '%s: %s' % (type(error).__name__, error)
            raise
        pending.voted, pending.failure = True, None
        return pending.resolved

    def _vote(self, pending):
        while True:
            conflicts = pending.session.run(Client.vote, pending.core, pending.metadata)
            if not conflicts:
                return
            for oid, base, serial, is_check in conflicts:
                if is_check:
                    raise ReadConflictError(oid=p64(oid), serials=(p64(serial), p64(base)))
                self._merge(pending, oid, base, serial)

    def _merge(self, pending, oid, base, serial):
        record = pending.core.records[oid]
        data = record.data and compression.decompress(record.compression, record.data)
        if not base or not serial or data is None:
            raise ConflictError(oid=p64(oid), serials=(p64(serial), p64(base)), data=data)
        self._store(pending, oid, serial, self._resolve(p64(oid), p64(serial), p64(base), data))
        if p64(oid) not in pending.resolved:
            pending.resolved.append(p64(oid))

    # -- the end ----------------------------------------------------------------------------
    def finish(self, transaction, function):
        pending = self[transaction]
        if not pending.voted:
            raise StorageTransactionError('the transaction has not been voted')
        if self._access.delivery.tells():
            raise StorageTransactionError(
                'a transaction can not be committed while ZODB is told of another one')
        present = threading.Lock()
        with present:
            try:
                return p64(_Finish(self._access, pending, Own(function, present)).run())
            finally:
                self._pending.pop(id(transaction), None)

    def abort(self, transaction):
        pending = self._pending.get(id(transaction))
        if pending is not None and pending.transaction is transaction:
            del self._pending[id(transaction)]
            abort(self._access, pending)


def abort(access, pending):
    try:
        if pending.session is access.session:
            pending.session.call(Client.abort, pending.core)
    except NEOStorageError:
        pass                            # closed or lost: storages forget it by themselves


class _Finish:
    """One *finish*, whatever becomes of the session meanwhile."""

    def __init__(self, access, pending, own):
        self._access = access
        self._pending = pending
        self._own = own
        self._operation = None          # of the core
        self._begun = False             # it may be under way

    def run(self):
        """The tid, once ZODB has been told."""
        delivery, pending = self._access.delivery, self._pending
        try:
            tid = self._outcome()
            delivery.deliver_own(self._operation)
            return tid
        finally:
            delivery.own.pop(self._operation, None)
            if self._operation is not None and self._operation.error is not None:
                abort(self._access, pending)
            delivery.deliver()

    def _outcome(self):
        pending = self._pending
        try:
            try:
                return pending.session.run(self._start, Client.finish)
            except ClientReplaced:
                if not self._begun:
                    raise               # it was not even sent
            return self._access.repeat(self._find_out)
        except StorageClosed as error:
            if not self._begun:
                raise
            raise OutcomeUnknown('the storage was closed while it committed a transaction, which '
                                 'may have been committed or not') from error

    def _find_out(self, session):
        return session.run(self._start, Client.find_out)

    def _start(self, core, method):
        self._begun = True
        own = self._access.delivery.own
        own.pop(self._operation, None)
        self._operation = method(core, self._pending.core)
        own[self._operation] = self._own
        return self._operation


def described(transaction):
    """(user, description, extension), as bytes."""
    try:
        extension = transaction.extension_bytes
    except AttributeError:
        extension = getattr(transaction, 'extension', None)
        extension = dumps(extension, EXTENSION_PROTOCOL) if extension else b''
    metadata = _bytes(transaction.user), _bytes(transaction.description), extension
    for what, value in zip(('user', 'description', 'extension'), metadata):
        if len(value) > limits.MAX_METADATA:
            raise NEOStorageError('the %s of the transaction has %d bytes: above the limit of %d'
                                  % (what, len(value), limits.MAX_METADATA))
    return metadata


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode('utf-8')
