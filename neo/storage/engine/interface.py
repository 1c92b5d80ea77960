"""What a storage asks of its database (docs/architecture.md, "A node").

An engine is synchronous and used by one thread.  Everything changes inside one transaction of the
database, which `commit` ends; a crash before it undoes all since the last one.  Every call is
bounded in rows and bytes by what it is given.  Oids and tids are integers; records and transactions
are those of neo.protocol.types: `Record`, `StoredRecord`, `Metadata`, `StoredMetadata`.

A transaction on its way is *pending* (some of its records, until it is locked or the process ends),
*locked* (it is in the history, and the others may not know yet), then *unlocked*: it was told.
The tids of one transaction are those from its `first` to its `tid`, and no other has one between.
"""
from abc import ABC, abstractmethod
from collections import namedtuple

from ...protocol.limits import MiB

# Bytes: `free` for more data, on the disk and in unused pages of the file; `reserved` beside that,
# so that a commit never meets a full disk; `promised` to open transactions.
Space = namedtuple('Space', 'path free reserved promised')

COMMIT_ABOVE = 8 * MiB      # bytes that wait for a commit before it should not be put off
COPIED = -1     # in place of a ttid: what is copied from other storages


class EngineError(Exception):
    """The database can't be used; the message says why, in one line for the operator."""


class BrokenData(EngineError):
    """What was asked for is broken; the message says where.  The engine can be used further.

    `position` is the `(tid, oid)` of a record, `(tid, None)` of metadata, or None where that can't
    be known; an iteration has given all before it.
    """

    def __init__(self, message, position=None):
        super().__init__(message)
        self.position = position


class Engine(ABC):

    # -- life -----------------------------------------------------------------------------
    @abstractmethod
    def commit(self):
        """Make durable all that was changed.  After an exception, the engine is not used again."""

    @abstractmethod
    def close(self):
        """Release the database, without a commit."""

    @property
    @abstractmethod
    def changed(self):
        """Is there anything to commit?"""

    @property
    @abstractmethod
    def should_commit(self):
        """Do so many bytes wait for a commit that it should not be put off?"""

    # -- space ----------------------------------------------------------------------------
    @abstractmethod
    def free_space(self):
        """Bytes left for more data, beside what is reserved, pages inside the file that are not
        used among them; None where that can't be known."""

    @abstractmethod
    def space(self):
        """The Space, for the operator; None where that can't be known."""

    @abstractmethod
    def promise(self, ttid, size, count):
        """Keep space for `count` more records of a transaction, with `size` bytes of data, until it
        is locked or forgotten: its lock does not meet a full disk.  False: there is not enough."""

    # -- named values ---------------------------------------------------------------------
    @abstractmethod
    def get(self, name):
        """The value of this name (None, int, str, bytes or tuples of these), None if never put."""

    @abstractmethod
    def put(self, name, value):
        """Set the value of a name."""

    # -- transactions on their way --------------------------------------------------------
    @abstractmethod
    def pend(self, ttid, records):
        """Keep `Record`s of an unfinished transaction outside of memory; a later one of the same
        oid (and of the same imposed tid) replaces an earlier one.  The end of the process forgets
        them."""

    @abstractmethod
    def prepare_lock(self, ttid, first, tid, amount):
        """Do about `amount` rows of the work that `lock` would have to do for what was pended.
        Returns whether nothing is left of it.  Nobody sees it before the lock; `forget`, or the end
        of the process, undoes it."""

    @abstractmethod
    def lock(self, ttid, first, tid, rows, metadata, records):
        """Put into the history what was pended, these `Record`s, which replace what was pended, and
        the `Metadata` (maybe none).  What has no imposed tid gets `tid`.  `locked`
        tells of it, with the partition rows it wrote, until `unlock` or `drop`.  Nothing happens if
        it is locked so already; EngineError if it is locked with another tid."""

    @abstractmethod
    def unlock(self, ttid):
        """It was told: forget that it is locked, and raise what `told` says of its rows.  Nothing
        happens if it is not locked."""

    @abstractmethod
    def drop(self, ttid):
        """Take one that is locked, and was told to nobody, out of the history.  Nothing happens if
        it is not locked."""

    @abstractmethod
    def forget(self, ttid):
        """Drop what is pended of, and promised to, a transaction that has not been locked; nothing
        happens if there is none."""

    @abstractmethod
    def locked(self):
        """`[Unfinished]`, sorted, of those locked and not unlocked."""

    @abstractmethod
    def told(self):
        """`[RowTid]`, sorted: the highest tid that was told in each partition row, of the
        transactions that were locked here."""

    @abstractmethod
    def raise_told(self, told):
        """Others know of these RowTids: what is lower here is raised."""

    @abstractmethod
    def find(self, first, tid):
        """Is there any record or metadata with first <= its tid <= tid?"""

    # -- copying --------------------------------------------------------------------------
    @abstractmethod
    def replace_records(self, after, last, partitions, rows, records):
        """Make what these rows have with after < (tid, oid) <= last be these StoredRecords: what is
        missing is added, what differs or is broken replaced, what is too much removed.  One with a
        data_tid points to the data there.  Nothing in that range may be locked.  Space for it was
        promised to COPIED.  BrokenData: nothing was changed."""

    @abstractmethod
    def replace_transactions(self, start, stop, partitions, rows, transactions):
        """The same with StoredMetadata, start <= tid < stop."""

    @abstractmethod
    def remove_records(self, after, partitions, rows, amount):
        """Remove about `amount` of the records of these rows, the first ones after `after`, a
        (tid, oid), of locked transactions as well.  Returns after what to go on, or None if nothing
        is left.  BrokenData: nothing was removed."""

    @abstractmethod
    def remove_transactions(self, start, partitions, rows, amount):
        """The same with metadata, from tid `start` on."""

    @abstractmethod
    def truncate(self, first, last):
        """Take all with first <= tid <= last out of the history, in one step; `clean` does the
        work.  Nothing there may be locked or being prepared.  What was told stays told."""

    # -- cleaning -------------------------------------------------------------------------
    @property
    @abstractmethod
    def needs_cleaning(self):
        """Is there anything left of what was dropped or forgotten?"""

    @abstractmethod
    def clean(self, amount):
        """Remove about `amount` rows of it.  Returns whether there is more.  What is broken raises
        BrokenData once, and is left as it is."""

    # -- the history ----------------------------------------------------------------------
    @abstractmethod
    def load(self, oid, before):
        """The last revision below `before`, as `(tid, next tid or None, compression, checksum,
        data, data_tid)`, or None.  Data that are at another tid are found there, with their
        compression and checksum.  Data None is a deletion; with a data_tid, it is data that are
        missing here."""

    @abstractmethod
    def current(self, oid):
        """The tid of the last revision, a deletion included, or None."""

    @abstractmethod
    def history(self, oid, before, limit):
        """`[Revision]`, newest first; the sizes are those of the data as stored, 0 for
        deletions."""

    @abstractmethod
    def transactions(self, start, stop, partitions, rows, max_rows, max_bytes):
        """`(StoredMetadata by tid, next)`, start <= tid < stop, of these rows of a table of so
        many partitions.  `next` is the tid to go on from, or None; at least one is given if there
        is any, or `next` has moved on.  What is broken raises BrokenData once all before it was
        given."""

    @abstractmethod
    def records(self, start, after_oid, stop, partitions, rows, max_rows, max_bytes):
        """`(StoredRecords by (tid, oid), next)`, from the first with (tid, oid) > (start,
        after_oid), or tid >= start if after_oid is None; tid < stop.  Data that are at another tid
        are given too, as `load` does, with `data_tid`.  `next` is a RecordPosition or None.  What
        is broken raises BrokenData once all before it was given."""

    @abstractmethod
    def tid_of(self, ttid):
        """The tid of a committed transaction whose metadata are here, or None."""

    @abstractmethod
    def last_tid(self):
        """The highest tid in the history, of objects and of metadata; 0 if there is none."""

    @abstractmethod
    def last_oid(self):
        """The highest oid in the history, or -1; until it is cleaned, it may be that of a record
        that was dropped."""

    @abstractmethod
    def measure(self):
        """`(objects, bytes)`: how many oids have a revision, what is prepared or not cleaned yet
        included, and the size of the database."""
