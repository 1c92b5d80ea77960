"""Transactions of this process, from begin to finish or abort, as ZODB goes through them."""
import threading
import weakref
from functools import partial
from pickle import dumps

from ZODB.POSException import ConflictError, ReadConflictError, StorageTransactionError
from ZODB.utils import p64, z64

from ..protocol import limits
from . import compression
from .core.client import Client
from .exception import (ClientReplaced, NEOStorageError, OutcomeUnknown, Reentered,
                        StorageClosed)
from .delivery import Own
from .ids import oid_to_write, serial_to_write, tid_to_impose
from .records import pack

EXTENSION_PROTOCOL = 3          # of pickles, as ZODB uses for extensions


class Pending:
    """A transaction that was begun and has not ended."""

    __slots__ = ('reference', 'session', 'beginning', 'core', 'metadata', 'resolved', 'voted',
                 'failure')

    def __init__(self, reference, session, metadata):
        self.reference = reference      # a weak one, to ZODB's transaction
        self.session = session          # that it was begun with
        self.beginning = None           # the operation that gives, or has given, ours …
        self.core = None                # … which is this one
        self.metadata = metadata
        self.resolved = []              # oids
        self.voted = False
        self.failure = None             # of its vote, after which it can only be aborted


class Commits:
    """Transactions of ZODB are only referred to weakly: where one was cut off on its way to our
    `abort`, its end is seen by that.  Else what it has locked would be locked as long as this
    process lives.

    `compress` is that of `neo.client.compression`, `resolve` is `tryToResolveConflict` of the
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
        if pending is None or pending.reference() is not transaction:
            raise StorageTransactionError(self._storage, transaction)
        if pending.session is not self._access.session:
            if pending.session.inherited:
                raise StorageTransactionError('it was begun before this process was forked')
            raise ClientReplaced('the connections of the client were made anew since it began')
        return pending

    def _find(self, transaction):
        pending = self._pending.get(id(transaction))
        return pending if pending is not None and pending.reference() is transaction else None

    def latest(self):
        """ZODB's transaction that was begun last, of those that have not ended."""
        for pending in reversed(list(self._pending.values())):
            transaction = pending.reference()
            if transaction is not None:
                return transaction

    def begin(self, transaction, tid, status):
        if self._find(transaction) is not None:
            raise StorageTransactionError('Duplicate tpc_begin calls for same transaction')
        imposed = None if tid is None else tid_to_impose(tid)
        metadata = checked_status(status), *described(transaction)
        pending = Pending(self._reference(transaction), self._access.current(), metadata)
        self._pending[id(transaction)] = pending
        try:
            pending.core = pending.session.run(_begin, pending, imposed)
        except BaseException:
            self.abort(transaction)
            raise

    def _reference(self, transaction):
        try:
            return weakref.ref(transaction, partial(self._gone, id(transaction)))
        except TypeError:
            return lambda: transaction      # it has slots

    def _gone(self, key, reference):
        """Called by the garbage collector, anywhere."""
        pending = self._pending.get(key)
        if pending is not None and pending.reference is reference:
            self._access.later(partial(self._abort, self._pending.pop(key)))

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
        oid, serial = oid_to_write(oid), serial_to_write(serial)
        other = pending.core.checks.get(oid, serial)
        if other != serial:             # they can't both be current
            raise ReadConflictError(oid=p64(oid), serials=(p64(max(other, serial)),
                                                           p64(min(other, serial))))
        pending.session.run(Client.check, pending.core, oid, serial)

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
                tid = _Finish(self._access, pending, Own(function, present)).run()
            except BaseException:
                self.abort(transaction)     # does nothing if it is under way
                raise
        self._pending.pop(id(transaction), None)
        return p64(tid)

    def abort(self, transaction):
        pending = self._find(transaction)
        if pending is not None:
            self._abort(pending)
            self._pending.pop(id(transaction), None)

    def _abort(self, pending):
        try:
            if pending.session is self._access.session and pending.beginning is not None:
                pending.session.call(Client.abort_begun, pending.beginning)
        except Reentered:
            self._access.later(partial(self._abort, pending))
        except NEOStorageError:
            pass                        # closed or lost: storages forget it by themselves


def _begin(core, pending, imposed):
    pending.beginning = operation = core.begin(imposed)
    return operation


class _Finish:
    """One *finish*, whatever becomes of the session meanwhile."""

    def __init__(self, access, pending, own):
        self._access = access
        self._pending = pending
        self._own = own
        self._begun = False             # it may be under way

    def run(self):
        """The tid, once ZODB has been told."""
        delivery, pending = self._access.delivery, self._pending
        try:
            tid = self._outcome()
            delivery.deliver_own(pending.core.ttid, tid)
            return tid
        finally:
            delivery.own.pop(pending.core.ttid, None)
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
        except (ClientReplaced, StorageClosed) as error:
            if not self._begun:
                raise
            raise OutcomeUnknown('a transaction that was in *finish* may have been committed or '
                                 'not: %s' % error) from error

    def _find_out(self, session):
        return session.run(self._start, Client.find_out)

    def _start(self, core, method):
        self._begun = True
        self._access.delivery.own[self._pending.core.ttid] = self._own
        return method(core, self._pending.core)


def checked_status(status):
    if not isinstance(status, str) or len(status) != 1 or not status.isascii():
        raise NEOStorageError('the status of a transaction is one character, not %r' % (status,))
    return status


def described(transaction):
    """(user, description, extension), as bytes."""
    try:
        extension = transaction.extension_bytes
    except AttributeError:
        extension = getattr(transaction, 'extension', None)
        extension = dumps(extension, EXTENSION_PROTOCOL) if extension else b''
    metadata = (_bytes(transaction.user), _bytes(transaction.description),
                bytes(memoryview(extension)))
    if max(map(len, metadata)) > limits.MAX_METADATA:
        raise NEOStorageError('the user, description and extension of the transaction have %d, %d '
                              'and %d bytes: above the limit of %d'
                              % (*map(len, metadata), limits.MAX_METADATA))
    return metadata


def _bytes(text):
    return text if isinstance(text, bytes) else text.encode('utf-8')
