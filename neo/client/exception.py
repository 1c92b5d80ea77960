"""What can go wrong, as applications see it.

Errors after which the same work may simply be tried again are `TransientError`s as well: the
transaction package and the publishers of Zope retry on these.
"""
from transaction.interfaces import TransientError
from ZODB.POSException import ReadOnlyError, StorageError, StorageTransactionError

from ..protocol.types import ErrorCode


class NEOStorageError(StorageError):
    """Base of all errors of NEO."""


class ClusterUnavailable(NEOStorageError, TransientError):
    """No running cluster could be reached in time."""


class TransactionFailed(NEOStorageError, TransientError):
    """The transaction was certainly not committed, and may be begun again: a node that took
    part in it was lost."""


class ClientReplaced(TransactionFailed):
    """The connections of this process were made anew: a thread was interrupted in the middle of
    something that can't be completed by another one."""


class Reentered(NEOStorageError, TransientError):
    """A finalizer or a signal handler has called, where another call of the same thread was in the
    middle of something."""


class ClusterRefused(NEOStorageError):
    """The cluster does not accept this client: another name, another version…"""


class OutcomeUnknown(NEOStorageError):
    """The primary was lost while it committed, and no other could be asked in time: the
    transaction may have been committed or not."""


class TidRefused(NEOStorageError, StorageTransactionError):
    """A transaction can't have the tid that was imposed: it is not above the last one, or too far
    above."""


class IdRefused(NEOStorageError, ValueError):
    """Nothing can have this oid, or have been written with this tid."""


class NoObject(NEOStorageError):
    """There is no such object, or it has been deleted."""


class NoRevision(NEOStorageError):
    """The object exists, and has no revision that was asked for."""


class BrokenData(NEOStorageError):
    """Data do not match their checksum."""


class ClusterFull(NEOStorageError):
    """A storage has too little free space."""


class RequestRefused(NEOStorageError):
    """A node will not do what it was asked; the message says why."""


class StorageClosed(NEOStorageError):
    """The storage has been closed in this process."""


_BY_CODE = {
    ErrorCode.NO_OBJECT: NoObject,
    ErrorCode.NO_REVISION: NoRevision,
    ErrorCode.BROKEN_DATA: BrokenData,
    ErrorCode.FULL: ClusterFull,
    ErrorCode.READ_ONLY: ReadOnlyError,
    ErrorCode.NOT_READY: TransactionFailed,
    ErrorCode.NOT_HERE: TransactionFailed,
    ErrorCode.UNKNOWN_TTID: TransactionFailed,
    ErrorCode.RETRY: TransactionFailed,
}


def exception_for(error, peer):
    """The exception for an `Error` packet that `peer` has answered."""
    return _BY_CODE.get(error.error, RequestRefused)('%s: %s' % (peer, error.message))
