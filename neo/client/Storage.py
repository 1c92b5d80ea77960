"""The ZODB face of the client: the interfaces of ZODB, and who serves them.

What is decided is decided in core/; data are compressed, checked and merged, and ZODB is called,
without the lock of the core, by the objects that a Storage is made of.
"""
import os
import random
import socket
import weakref

from persistent.TimeStamp import TimeStamp
from ZODB import interfaces
from ZODB.ConflictResolution import ConflictResolvingStorage
from ZODB.POSException import ReadOnlyError
from ZODB.utils import p64
from zope.interface import implementer

from ..cluster.addresses import parse_list
from ..protocol import limits
from . import compression, imports
from .access import Access
from .commits import Commits
from .core.client import Client
from .exception import NEOStorageError
from .history import History
from .log import Log
from .reads import Reads

UNAVAILABLE = ('ca', 'cert', 'key', 'blob_dir', 'shared_blob_dir', 'blob_cache_size', 'client',
               'var')

_storages = weakref.WeakValueDictionary()       # id -> Storage


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
    Where a thread is interrupted in the middle of something, the connections are made anew: open
    transactions fail, and may be begun again.
    """

    def __init__(self, master_nodes, name, compress=False, cache_size=limits.CACHE_SIZE,
                 read_only=False, logfile=None, wait=True, wait_timeout=limits.WAIT_TIMEOUT,
                 server_sync=False, **options):
        _refuse(options)
        masters = parse_list(master_nodes)
        compress = compression.compressor(compress)
        cache_size, wait_timeout = int(cache_size), float(wait_timeout)
        if not isinstance(name, str) or not 0 < len(name) <= limits.MAX_NAME:
            raise ValueError('name is that of a cluster, of 1 to %d characters, not %r' % (
                limits.MAX_NAME, name))
        if not (cache_size >= 0 and wait_timeout >= 0):
            raise ValueError('neither cache_size nor wait_timeout can be below 0')
        self._name = name
        self._sort_key = None
        self._read_only = bool(read_only)
        self._server_sync = server_sync
        self._log = Log(logfile)
        self._access = Access(lambda: Client(
            random.Random(), name, masters, cache_size, wait_timeout,
            name='pid %d at %s' % (os.getpid(), socket.gethostname())), self._log)
        self._reads = Reads(self._access)
        self._history = History(self._access, self._reads)
        self._commits = Commits(self, self._access, compress, self.tryToResolveConflict)
        self._imports = imports.Imports(self._access, compress)
        _storages[id(self)] = self
        if wait:
            try:
                self._access.ready()
            except BaseException:
                self.close()
                raise

    # -- about the storage --------------------------------------------------------------------
    def close(self):
        """Drop the connections; threads that wait for something get StorageClosed."""
        self._access.close()
        self._log.close()

    def getName(self):
        """The name of the cluster, and its id once that is known."""
        return self._sort_key or self._known_sort_key() or self._name

    def sortKey(self):
        """The same in every process, and for no other cluster: waits till the cluster is known."""
        if self._sort_key is None:
            self._access.ready()
            self._sort_key = self._known_sort_key()
        return self._sort_key

    def _known_sort_key(self):
        cluster_id = self._access.core.cluster_id
        return cluster_id and '%s:%s' % (self._name, cluster_id.hex())

    def isReadOnly(self):
        return self._read_only

    def supportsUndo(self):
        return False

    def __bool__(self):
        return True                     # without asking for the length

    def __len__(self):
        """The number of objects."""
        return self._access.run(Client.measure)[0]

    def getSize(self):
        """Bytes, without copies."""
        return self._access.run(Client.measure)[1]

    def cache_statistics(self):
        """A dict of counters of the cache of this storage."""
        return self._access.call(lambda core: core.cache.statistics())

    def registerDB(self, wrapper):
        super().registerDB(wrapper)
        self._access.delivery.db = wrapper

    def sync(self, force=True):
        """Hear of what others have committed: with `server_sync` all there is, else what has
        come already, without a round trip."""
        access = self._access
        access.ready()
        server = self._server_sync and force
        access.delivery.deliver_until(access.run(Client.sync) if server else access.take_in())

    def lastTransaction(self):
        self._access.ready()
        self._access.delivery.settled()
        return p64(self._access.core.last_tid)

    def undo(self, transaction_id, transaction):
        self._check_writable()
        raise NEOStorageError('undo is not available in this version')

    def pack(self, pack_time, referencesf, gc=None):
        self._check_writable()
        raise NEOStorageError('pack is not available in this version')

    # -- reads ----------------------------------------------------------------------------
    def load(self, oid, version=''):
        """`(data, tid)` of the current revision; POSKeyError."""
        assert not version
        return self._reads.load(oid)

    def loadBefore(self, oid, tid):
        """`(data, tid, next tid or None)` of the last revision before `tid`, or None if all are
        later; POSKeyError."""
        return self._reads.load_before(oid, tid)

    def loadSerial(self, oid, serial):
        """The data of this very revision; POSKeyError."""
        return self._reads.load_serial(oid, serial)

    def getTid(self, oid):
        """The tid of the current revision; POSKeyError."""
        return self._reads.load(oid)[1]

    def prefetch(self, oids, tid):
        """Begin to load these into the cache, as `loadBefore` would see them."""
        self._reads.prefetch(oids, tid)

    def history(self, oid, size=1):
        """Dictionaries of the last `size` revisions, newest first; POSKeyError."""
        return self._history.of_object(oid, size)

    def iterator(self, start=None, stop=None):
        """Transactions from `start` to `stop`, both included, as they are now."""
        return self._history.iterator(start, stop)

    # -- transactions -----------------------------------------------------------------------
    def new_oid(self):
        self._check_writable()
        return p64(self._access.run(Client.new_oid))

    def _check_writable(self):
        if self._read_only:
            raise ReadOnlyError()

    def tpc_begin(self, transaction, tid=None, status=' '):
        """With `tid`, which must be above the last one, that will be its tid."""
        self._check_writable()
        self._commits.begin(transaction, tid, status)

    def tpc_transaction(self):
        """The transaction begun last, of those that have not ended."""
        return self._commits.latest()

    def store(self, oid, serial, data, version, transaction):
        assert not version
        self._check_writable()
        self._commits.store(transaction, oid, serial, data)

    def restore(self, oid, serial, data, version, prev_txn, transaction):
        """Store without looking what is there; `serial` is the tid given to `tpc_begin`."""
        assert not version
        self._check_writable()
        self._commits.restore(transaction, oid, serial, data)

    def checkCurrentSerialInTransaction(self, oid, serial, transaction):
        self._commits.check(transaction, oid, serial)

    def tpc_vote(self, transaction):
        """The oids of resolved conflicts; ConflictError, ReadConflictError.  After an error, the
        transaction can only be aborted."""
        return self._commits.vote(transaction)

    def tpc_finish(self, transaction, f=None):
        """Commit, call f(tid) in the order of tids, and return the tid."""
        return self._commits.finish(transaction, f or _nothing)

    def tpc_abort(self, transaction):
        """Never fails; does nothing if the transaction is not known or has been finished."""
        self._commits.abort(transaction)

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
        return self._imports.run(batches)

    def copyTransactionsFrom(self, other, verbose=0):
        """Copy all transactions of another storage, which must have an iterator and no blobs.  Many
        are committed as one; `verbose`: the last of them is printed then."""
        transactions = map(imports.past, other.iterator())
        for tid in self.import_transactions(imports.batches(transactions)):
            if verbose:
                print(TimeStamp(p64(tid)))


def _nothing(tid):
    pass


def _refuse(options):
    for option, value in options.items():
        if option not in UNAVAILABLE:
            raise TypeError('Storage() got an unexpected keyword argument %r' % option)
        if value not in (None, False, ''):
            raise NEOStorageError('the option %s is not available in this version' % option)


# -- forks ----------------------------------------------------------------------------------------
def _all_access():
    storages = [reference() for reference in _storages.valuerefs()]
    return [storage._access for storage in storages if storage is not None]


def _before_fork():
    for access in _all_access():
        access.before_fork()


def _after_fork_in_parent():
    for access in _all_access():
        access.after_fork_in_parent()


def _after_fork_in_child():
    for access in _all_access():
        access.after_fork_in_child()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent,
                    after_in_child=_after_fork_in_child)
