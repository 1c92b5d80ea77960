"""The ZODB face of the client: bytes and exceptions as ZODB wants them, threads, forks.

What is decided is decided in core.py; here data are compressed, checked and merged, and ZODB is
called, all of it without the lock of the core.
"""
import logging
import os
import random
import socket
import weakref
from pickle import dumps

from persistent.TimeStamp import TimeStamp
from ZODB import interfaces
from ZODB.ConflictResolution import ConflictResolvingStorage
from ZODB.POSException import (ConflictError, POSKeyError, ReadConflictError, ReadOnlyError,
                               StorageTransactionError)
from ZODB.utils import p64, u64, z64
from zope.interface import implementer

from ..cluster.addresses import parse_list
from ..protocol import limits
from ..protocol.checksum import checksum
from ..protocol.types import MAX_ID, Compression, Record
from ..runtime.threaded import ThreadedNode
from . import compression
from .core.client import Client
from .delivery import Delivery
from .exception import (BrokenData, NEOStorageError, NoObject, NoRevision, StorageClosed)
from .iteration import Iterator
from .core.loads import LoadObject

UNAVAILABLE = ('ca', 'cert', 'key', 'blob_dir', 'shared_blob_dir', 'blob_cache_size', 'client',
               'var')
EXTENSION_PROTOCOL = 3          # of pickles, as ZODB uses for extensions
NO_DATA = checksum(None)

_storages = weakref.WeakSet()


class Pending:
    """A transaction that was begun and has not ended."""

    __slots__ = 'transaction', 'core', 'node', 'metadata', 'resolved', 'voted'

    def __init__(self, transaction, core, node, metadata):
        self.transaction = transaction  # ZODB's
        self.core = core                # ours
        self.node = node                # the ThreadedNode it was begun with
        self.metadata = metadata
        self.resolved = []              # oids
        self.voted = False


@implementer(interfaces.IStorage, interfaces.IMultiCommitStorage, interfaces.IStorageIteration,
             interfaces.IPrefetchStorage, interfaces.ReadVerifyingStorage)
class Storage(ConflictResolvingStorage):
    """A ZODB storage in a NEO cluster.

    `master_nodes` is 'HOST:PORT', `name` the name of the cluster, `cache_size` in bytes,
    `wait_timeout` in seconds: how long operations wait for a cluster that can't be reached, the
    opening included if `wait`.  With `server_sync`, each transaction sees all that had been
    committed anywhere before it began.  `compress` is a boolean, 'zlib', 'zlib=LEVEL', 'zstd' or
    'zstd=LEVEL'.

    Safe to use from many threads; several transactions may be committed at once.  After a fork, the
    child gets connections of its own, and transactions that had begun before are refused in it.
    """

    def __init__(self, master_nodes, name, compress=False, cache_size=limits.CACHE_SIZE,
                 read_only=False, logfile=None, wait=True, wait_timeout=limits.WAIT_TIMEOUT,
                 server_sync=False, **options):
        _refuse(options)
        masters = parse_list(master_nodes)
        if len(masters) > 1:
            raise NEOStorageError('more than one master is not available in this version')
        self._name = name
        self._masters = masters
        self._compress = compression.compressor(compress)
        self._cache_size = int(cache_size)
        self._read_only = bool(read_only)
        self._wait_timeout = float(wait_timeout)
        self._server_sync = server_sync
        self._transactions = {}         # id of ZODB's transaction -> Pending
        self._db = None
        self._closed = False
        self._log_handler = _log_to(logfile) if logfile else None
        self._open()
        _storages.add(self)
        if wait:
            try:
                self._node.run(self._core.when_ready)
            except BaseException:
                self.close()
                raise

    def _open(self):
        self._core = Client(random.Random(), self._name, self._masters, self._cache_size,
                            self._wait_timeout,
                            name='pid %d at %s' % (os.getpid(), socket.gethostname()))
        self._delivery = Delivery(self._core)
        self._delivery.db = self._db
        self._node = ThreadedNode(self._core, StorageClosed, self._delivery.deliver)

    def _after_fork(self):
        """In the child.  What was not told to ZODB yet is found out anew."""
        if not self._closed:
            parent = self._core
            self._open()
            self._core.cluster_id, self._core.history = parent.cluster_id, parent.history
            self._core.heard = self._core.last_tid = parent.last_tid

    # -- about the storage --------------------------------------------------------------------
    def close(self):
        """Drop the connections; threads that wait for something get StorageClosed."""
        self._closed = True
        self._node.close()
        if self._log_handler is not None:
            logging.getLogger('neo').removeHandler(self._log_handler)
            self._log_handler.close()
            self._log_handler = None

    def getName(self):
        return self._name

    sortKey = getName               # the same in every process

    def isReadOnly(self):
        return self._read_only

    def supportsUndo(self):
        return False

    def __bool__(self):
        return True                     # without asking for the length

    def __len__(self):
        """The number of objects."""
        return self._node.run(self._core.measure)[0]

    def getSize(self):
        """Bytes, without copies."""
        return self._node.run(self._core.measure)[1]

    def cache_statistics(self):
        """A dict of counters of the cache of this storage."""
        return self._node.call(self._core.cache.statistics)

    def registerDB(self, wrapper):
        super().registerDB(wrapper)
        self._db = self._delivery.db = wrapper

    def sync(self, force=True):
        """Hear of what others have committed: with `server_sync` all there is, else what has
        come already, without a round trip."""
        if self._server_sync and force:
            self._delivery.deliver_until(self._node.run(self._core.sync))
        else:
            self._node.take_in()
            self._delivery.deliver_until(self._core.heard)

    def lastTransaction(self):
        if self._core.history is None:
            self._node.run(self._core.when_ready)
        self._delivery.settled()
        return p64(self._core.last_tid)

    def undo(self, transaction_id, transaction):
        self._check_writable()
        raise NEOStorageError('undo is not available in this version')

    def pack(self, pack_time, referencesf, gc=None):
        self._check_writable()
        raise NEOStorageError('pack is not available in this version')

    # -- reads ----------------------------------------------------------------------------
    def _load(self, oid, before):
        """`(data, tid, next tid or None)`."""
        node, core = self._node, self._core
        record = node.call(core.cached, oid, before)
        entry = None
        if record is None:
            load = LoadObject(oid, before)
            record = node.run(core.attempt, load)
            entry = load.entry
        tid, next_tid, kind, expected, data, _ = record
        if expected is not None:
            self._verify(oid, tid, expected, data)
            if entry is not None:
                entry.checksum = None
        return data if kind == 0 else compression.decompress(kind, data), tid, next_tid

    def _verify(self, oid, tid, expected, data):
        if checksum(data) != expected:
            self._node.call(self._core.forget, oid, tid)
            raise BrokenData('the data of object %#x at %#x do not match their checksum'
                             % (oid, tid))

    def load(self, oid, version=''):
        """`(data, tid)` of the current revision; POSKeyError."""
        assert not version
        self.lastTransaction()          # hear of the cluster first
        found = self.loadBefore(oid, p64(MAX_ID))
        if found is None:
            raise POSKeyError(oid)
        return found[:2]

    def loadBefore(self, oid, tid):
        """`(data, tid, next tid or None)` of the last revision before `tid`, or None if all are
        later; POSKeyError."""
        try:
            data, tid, next_tid = self._load(u64(oid), min(u64(tid), MAX_ID))
        except NoRevision:
            return None
        except NoObject:
            raise POSKeyError(oid)
        if tid > self._core.last_tid:
            # Nobody sees a transaction that lastTransaction does not know yet.
            self._delivery.deliver_until(tid)
        return data, p64(tid), None if next_tid is None else p64(next_tid)

    def loadSerial(self, oid, serial):
        """The data of this very revision; POSKeyError."""
        try:
            data, tid, _ = self._load(u64(oid), u64(serial) + 1)
        except (NoObject, NoRevision):
            raise POSKeyError(oid)
        if tid != u64(serial):
            raise POSKeyError(oid)
        return data

    def getTid(self, oid):
        """The tid of the current revision; POSKeyError."""
        return self.load(oid)[1]

    def prefetch(self, oids, tid):
        """Begin to load these into the cache, as `loadBefore` would see them."""
        self._node.call(self._core.prefetch, [u64(oid) for oid in oids],
                        min(u64(tid), MAX_ID))

    def history(self, oid, size=1):
        """Dictionaries of the last `size` revisions, newest first; POSKeyError."""
        node, core = self._node, self._core
        before = u64(self.lastTransaction()) + 1
        found = []
        while len(found) < size:
            limit = min(size - len(found), limits.LOAD_WINDOW)
            try:
                revisions = node.run(core.object_history, u64(oid), before, limit)
            except NoObject:
                if found:
                    break
                raise POSKeyError(oid)
            asked = node.call(core.transactions_info, [tid for tid, _ in revisions])
            found += [self._described(tid, length, self._wait(info))
                      for (tid, length), info in zip(revisions, asked)]
            if len(revisions) < limit:
                break
            before = revisions[-1][0]
        return found

    def _wait(self, operation):
        return self._node.run(lambda: operation)

    def _described(self, tid, length, info):
        _, _, _, user, description, extension, _ = info or (0, 0, '', b'', b'', b'', ())
        found = _extension(extension)
        found.update(time=TimeStamp(p64(tid)).timeTime(), tid=p64(tid), size=length,
                     user_name=user, description=description)
        return found

    def iterator(self, start=None, stop=None):
        """Transactions from `start` to `stop`, both included, as they are now."""
        last = u64(self.lastTransaction())
        self._node.run(self._core.when_ready)
        return Iterator(self._node.run, self._core, self._decode, u64(start) if start else 0,
                        (last if stop is None else min(last, u64(stop))) + 1)

    def _decode(self, kind, expected, data, oid, tid):
        self._verify(oid, tid, expected, data)
        return compression.decompress(kind, data)

    # -- transactions -----------------------------------------------------------------------
    def new_oid(self):
        self._check_writable()
        return p64(self._node.run(self._core.new_oid))

    def _check_writable(self):
        if self._read_only:
            raise ReadOnlyError()

    def _pending(self, transaction):
        pending = self._transactions.get(id(transaction))
        if pending is None or pending.transaction is not transaction:
            raise StorageTransactionError(self, transaction)
        if pending.node is not self._node:
            raise StorageTransactionError('it was begun before this process was forked')
        return pending

    def tpc_begin(self, transaction, tid=None, status=' '):
        """With `tid`, which must be above the last one, that will be its tid."""
        self._check_writable()
        if id(transaction) in self._transactions:
            raise StorageTransactionError('Duplicate tpc_begin calls for same transaction')
        metadata = status, *_metadata(transaction)
        begun = self._node.run(self._core.begin, None if tid is None else u64(tid))
        self._transactions[id(transaction)] = Pending(transaction, begun, self._node, metadata)

    def tpc_transaction(self):
        """The transaction begun last, of those that have not ended."""
        for pending in reversed(list(self._transactions.values())):
            return pending.transaction

    def store(self, oid, serial, data, version, transaction):
        assert not version
        self._check_writable()
        pending = self._pending(transaction)
        self._store(pending, u64(oid), u64(serial or z64), data)

    def restore(self, oid, serial, data, version, prev_txn, transaction):
        """Store without looking what is there; `serial` is the tid given to `tpc_begin`."""
        assert not version
        self._check_writable()
        pending = self._pending(transaction)
        if pending.core.imposed is None or u64(serial) != pending.core.imposed:
            raise StorageTransactionError('restore needs a transaction begun with that tid')
        self._store(pending, u64(oid), None, data)

    def _store(self, pending, oid, base, data):
        record = self._record(oid, base, pending.core.imposed, data)
        self._node.run(self._core.store, pending.core, record)
        pending.voted = False

    def _record(self, oid, base, tid, data, data_tid=None):
        if data is None or data_tid is not None:
            return Record(oid, base, tid, Compression.NONE, NO_DATA, None, data_tid)
        if len(data) > limits.MAX_OBJECT:
            raise NEOStorageError('object %#x has %d bytes: above the limit of %d'
                                  % (oid, len(data), limits.MAX_OBJECT))
        kind, data = self._compress(data)
        return Record(oid, base, tid, kind, checksum(data), data, None)

    def checkCurrentSerialInTransaction(self, oid, serial, transaction):
        pending = self._pending(transaction)
        self._node.run(self._core.check, pending.core, u64(oid), u64(serial))

    def tpc_vote(self, transaction):
        """The oids of resolved conflicts; ConflictError, ReadConflictError."""
        pending = self._pending(transaction)
        while True:
            conflicts = self._node.run(self._core.vote, pending.core, pending.metadata)
            if not conflicts:
                pending.voted = True
                return pending.resolved
            for oid, base, serial, is_check in conflicts:
                if is_check:
                    raise ReadConflictError(oid=p64(oid), serials=(p64(serial), p64(base)))
                self._resolve(pending, oid, base, serial)

    def _resolve(self, pending, oid, base, serial):
        _, _, _, kind, _, data, _ = pending.core.records[oid]
        data = data and compression.decompress(kind, data)
        if not base or not serial or data is None:
            raise ConflictError(oid=p64(oid), serials=(p64(serial), p64(base)), data=data)
        resolved = self.tryToResolveConflict(p64(oid), p64(serial), p64(base), data)
        self._store(pending, oid, serial, resolved)
        if p64(oid) not in pending.resolved:
            pending.resolved.append(p64(oid))

    def tpc_finish(self, transaction, f=None):
        """Commit, call f(tid) in the order of tids, and return the tid."""
        pending = self._pending(transaction)
        if not pending.voted:
            raise StorageTransactionError('the transaction has not been voted')
        core, delivery, operation = self._core, self._delivery, None

        def finish():
            nonlocal operation
            operation = core.finish(pending.core)
            delivery.own[operation] = f or _nothing
            return operation
        try:
            tid = self._node.run(finish)
            delivery.deliver_own(operation)
        finally:
            self._transactions.pop(id(transaction), None)
            if operation is not None:
                delivery.abandon(operation)
                if operation.error is not None:
                    self._abort(pending)
        return p64(tid)

    def tpc_abort(self, transaction):
        """Never fails; does nothing if the transaction is not known or has been finished."""
        pending = self._transactions.get(id(transaction))
        if pending is not None and pending.transaction is transaction:
            del self._transactions[id(transaction)]
            self._abort(pending)

    def _abort(self, pending):
        try:
            if pending.node is self._node:
                self._node.call(self._core.abort, pending.core)
        except NEOStorageError:
            pass                        # closed meanwhile: storages forget it by themselves

    # -- imports ------------------------------------------------------------------------------
    def import_transactions(self, batches):
        """Commit transactions that exist elsewhere, with their tids, which must grow.

        Each batch is a list of `(tid, status, user, description, extension, [(oid, data, tid of
        the data)])`: integers, bytes and a str as status.  Data None is a deletion; the tid of the
        data is None, or that of an earlier revision of the same object which has the same data.  A
        batch is committed as one.  Yields the last tid of each when it is durable; the next one is
        on its way by then.
        """
        self._check_writable()
        under_way, last = [], None
        for batch in batches:
            prepared = [
                (tid, status, bytes(user), bytes(description), bytes(extension),
                 [self._record(oid, None, tid, data, data_tid) for oid, data, data_tid in records])
                for tid, status, user, description, extension, records in batch]
            if prepared:
                last = self._node.call(self._core.import_batch, prepared, last)
                under_way.append(last)
            if len(under_way) == 2:
                yield self._imported(under_way.pop(0))
        for operation in under_way:
            yield self._imported(operation)

    def _imported(self, operation):
        tid = self._wait(operation)
        self._delivery.deliver()
        return tid

    def copyTransactionsFrom(self, other, verbose=0):
        """Copy all transactions of another storage, which must have an iterator."""
        batches = ([_past(transaction)] for transaction in other.iterator())
        for tid in self.import_transactions(batches):
            if verbose:
                print(TimeStamp(p64(tid)))


def _refuse(options):
    for option, value in options.items():
        if option not in UNAVAILABLE:
            raise TypeError('Storage() got an unexpected keyword argument %r' % option)
        if value not in (None, False, ''):
            raise NEOStorageError('the option %s is not available in this version' % option)


def _log_to(logfile):
    handler = logging.FileHandler(logfile)
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))
    logger = logging.getLogger('neo')
    logger.addHandler(handler)
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)
    return handler


def _nothing(tid):
    pass


def _metadata(transaction):
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


def _extension(data):
    if data:
        try:
            from ZODB._compat import loads
            found = loads(data)
            if isinstance(found, dict):
                return found
        except Exception:
            pass                        # it means nothing here
    return {}


def _past(transaction):
    return (u64(transaction.tid), transaction.status, *_metadata(transaction), [
        (u64(record.oid), record.data, None) for record in transaction])


def _after_fork():
    for storage in list(_storages):
        storage._after_fork()


os.register_at_fork(after_in_child=_after_fork)
