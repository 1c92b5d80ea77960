"""What a storage asks of its database (docs/architecture.md, "A node").

An engine is synchronous and used by one thread.  Everything changes inside one transaction of the
database, which `commit` ends; a crash before it undoes all since the last one.  Every call is
bounded in rows and bytes by what it is given.  Oids and tids are integers; records and transactions
are the tuples of neo.protocol.types (`Record`, `StoredRecord`, `Transaction`, `StoredTransaction`).

A transaction on its way is *pending* (its records), *voted* (with its metadata), *locked* (it has
its tid and is in the history, and the others may not know yet), then *unlocked*.
"""
from abc import ABC, abstractmethod


class EngineError(Exception):
    """The database can't be used; the message says why, in one line for the operator."""


class Engine(ABC):

    # -- life -----------------------------------------------------------------------------
    @abstractmethod
    def commit(self):
        """Make durable all that was changed.  After an exception, the engine is not used again."""

    @abstractmethod
    def close(self):
        """Release the database, without a commit."""

    @abstractmethod
    def free_space(self):
        """Bytes left for the database, or None where that can't be known."""

    @property
    @abstractmethod
    def changed(self):
        """Is there anything to commit?"""

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
        """Keep `Record`s of an unfinished transaction; a later one of the same oid (and of the same
        imposed tid) replaces an earlier one."""

    @abstractmethod
    def vote(self, ttid, transactions):
        """Keep its metadata (`Transaction`s, maybe none), and that it was voted."""

    @abstractmethod
    def lock(self, ttid, tid):
        """Move what was pended and voted into the history.  Records and metadata without an imposed
        tid get `tid`.  `unfinished` tells (ttid, tid) from now on.  Nothing happens if it is locked
        so already; EngineError if it was not voted, or is locked with another tid."""

    @abstractmethod
    def unlock(self, ttid):
        """Nobody will ask whether it was locked."""

    @abstractmethod
    def add(self, ttid, tid, transactions, records):
        """pend + vote + lock + unlock in one, for what never was pended."""

    @abstractmethod
    def forget(self, ttid):
        """Drop what is pended and voted of a transaction that has not been locked; nothing happens
        if there is none."""

    @abstractmethod
    def unfinished(self):
        """`[(ttid, tid or None)]`, sorted: what was voted and not locked, or locked and not
        unlocked."""

    @abstractmethod
    def drop_unvoted(self):
        """Drop whatever was pended and not voted, at a start."""

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
        """`[(tid, size of the data as stored)]`, newest first, deletions with size 0."""

    @abstractmethod
    def transactions(self, start, stop, partitions, rows, max_rows, max_bytes):
        """`(StoredTransactions by tid, next)`, start <= tid < stop, of these rows of a table of so
        many partitions.  `next` is the tid to go on from, or None; at least one is given if there
        is any, or `next` has moved on."""

    @abstractmethod
    def records(self, start, after_oid, stop, partitions, rows, max_rows, max_bytes):
        """`(StoredRecords by (tid, oid), next)`, from the first with (tid, oid) > (start,
        after_oid), or tid >= start if after_oid is None; tid < stop.  Data that are at another tid
        are given too, as `load` does, with `data_tid`.  `next` is `(tid, after_oid)` or None."""

    @abstractmethod
    def tid_of(self, ttid):
        """The tid of a committed transaction whose metadata are here, or None."""

    @abstractmethod
    def last_tid(self):
        """The highest tid in the history, of objects and of metadata; 0 if there is none."""

    @abstractmethod
    def last_oid(self):
        """The highest oid in the history, or -1."""

    @abstractmethod
    def measure(self):
        """`(objects, bytes)`: how many oids have a revision, and the size of the database."""
