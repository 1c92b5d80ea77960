"""Revisions of objects kept in memory (docs/architecture.md, "Reads and caches").

The cache is multi-version: an entry says that `oid` had these data from `tid` until `next_tid`,
or that this revision is current as far as has been heard.  It is bounded in bytes, and resists
scans in the way of S3-FIFO: what is new enters a small queue, and only what is asked for again
there, or was known not long ago, gets into the large one.  A hit changes one small integer and
moves nothing.
"""
from collections import deque

# What an entry costs beside its data: itself, its place in a queue and in the index.
OVERHEAD = 300
SMALL_SHARE = 0.1
MAX_USES = 3
# Old revisions of one object that are kept: an object written all the time has many.
MAX_REVISIONS = 8


class Entry:
    __slots__ = ('oid', 'tid', 'next_tid', 'compression', 'checksum', 'data', 'data_tid', 'older',
                 'uses', 'size', 'queue')

    def __init__(self, oid, tid, next_tid, compression, checksum, data, data_tid):
        self.oid = oid
        self.tid = tid
        self.next_tid = next_tid        # None: current
        self.compression = compression
        self.checksum = checksum        # None: it has been verified
        self.data = data
        self.data_tid = data_tid
        self.older = None               # the next older revision that is here
        self.uses = 0                   # since it was last looked at for eviction
        self.size = len(data) + OVERHEAD
        self.queue = None               # None: not in the cache

    def record(self):
        """As `Client.load_before` gives it."""
        return (self.tid, self.next_tid, self.compression, self.checksum, self.data,
                self.data_tid)


class Queue:
    """Entries in order of arrival.  Those that left otherwise stay as holes until they come
    to its end; they hold no data any more."""

    __slots__ = 'entries', 'size', 'alive'

    def __init__(self):
        self.entries = deque()
        self.size = 0
        self.alive = 0

    def push(self, entry):
        entry.queue = self
        self.entries.append(entry)
        self.size += entry.size
        self.alive += 1

    def leave(self, entry):
        entry.queue = None
        self.size -= entry.size
        self.alive -= 1
        if len(self.entries) > 2 * self.alive + 1000:
            self.entries = deque(e for e in self.entries if e.queue is self)

    def pop(self):
        while True:
            entry = self.entries.popleft()
            if entry.queue is self:
                self.leave(entry)
                return entry


class Cache:

    def __init__(self, max_size):
        self.max_size = max_size
        self.hits = self.misses = self.added = self.evicted = self.invalidated = 0
        self._newest = {}               # oid -> its newest entry
        self._small = Queue()
        self._main = Queue()
        self._ghosts = {}               # oids that left the small queue, oldest first

    @property
    def size(self):
        """Bytes, with what the bookkeeping takes."""
        return self._small.size + self._main.size

    def __len__(self):
        return self._small.alive + self._main.alive

    def statistics(self):
        return {'hits': self.hits, 'misses': self.misses, 'added': self.added,
                'evicted': self.evicted, 'invalidated': self.invalidated,
                'entries': len(self), 'bytes': self.size, 'max_bytes': self.max_size}

    def load(self, oid, before, heard):
        """The entry of the last revision below `before`, or None.  What is current is so up to
        `heard`, the last tid that this client knows of, and no further."""
        entry = self.holds(oid, before, heard)
        if entry is None:
            self.misses += 1
            return None
        self.hits += 1
        if entry.uses < MAX_USES:
            entry.uses += 1
        return entry

    def holds(self, oid, before, heard):
        """The same, and it does not count as a use."""
        entry = self._newest.get(oid)
        while entry is not None:
            if entry.tid < before:
                next_tid = entry.next_tid
                if before <= heard + 1 if next_tid is None else before <= next_tid:
                    return entry
                return None
            entry = entry.older
        return None

    def add(self, oid, tid, next_tid, compression, checksum, data, data_tid=None):
        """Keep a revision; returns its entry, which is in the cache or not."""
        above, entry = None, self._newest.get(oid)
        while entry is not None and entry.tid > tid:
            above, entry = entry, entry.older
        if entry is not None and entry.tid == tid:
            if entry.next_tid is None:
                entry.next_tid = next_tid
            return entry
        new = Entry(oid, tid, next_tid, compression, checksum, data, data_tid)
        if new.size > self.max_size * (1 - SMALL_SHARE) or (above and next_tid is None):
            return new
        if entry is not None and entry.next_tid is None:
            # It ended somewhere before `tid`: only the newest entry may have an open end.
            self.discard(entry)
            entry = self._newest.get(oid) if above is None else above.older
        new.older = entry
        if above is None:
            self._newest[oid] = new
        else:
            above.older = new
        self.added += 1
        known = self._ghosts.pop(oid, None) is not None or (
            entry is not None and entry.queue is self._main)
        (self._main if known else self._small).push(new)
        if entry is not None or above is not None:
            self._trim(oid)
        if self._small.size + self._main.size > self.max_size:
            self._shrink()
        return new

    def _trim(self, oid):
        entry = self._newest[oid]
        for _ in range(MAX_REVISIONS - 1):
            entry = entry.older
            if entry is None:
                return
        while entry.older is not None:
            self.discard(entry.older)

    def invalidate(self, oid, tid):
        """A transaction has written `oid`: what was current before is not any more."""
        entry = self._newest.get(oid)
        if entry is not None and entry.next_tid is None and entry.tid < tid:
            entry.next_tid = tid
            entry.uses = 0              # only old snapshots will want it
            self.invalidated += 1

    def discard(self, entry):
        """Forget an entry, for instance because its data are broken."""
        if entry.queue is not None:
            entry.queue.leave(entry)
            self._unlink(entry)

    def clear(self):
        for queue in self._small, self._main:
            for entry in queue.entries:
                entry.queue = None
        self._newest.clear()
        self._ghosts.clear()
        self._small, self._main = Queue(), Queue()

    def _shrink(self):
        while self.size > self.max_size:
            if self._small.size > self.max_size * SMALL_SHARE or not self._main.alive:
                self._evict_small()
            else:
                self._evict_main()

    def _evict_small(self):
        entry = self._small.pop()
        if entry.uses > 1:
            entry.uses = 0
            self._main.push(entry)
            return
        self._unlink(entry)
        self.evicted += 1
        self._ghosts.pop(entry.oid, None)
        self._ghosts[entry.oid] = True
        if len(self._ghosts) > self._main.alive + 100:
            del self._ghosts[next(iter(self._ghosts))]

    def _evict_main(self):
        entry = self._main.pop()
        if entry.uses:
            entry.uses -= 1
            self._main.push(entry)
            return
        self._unlink(entry)
        self.evicted += 1

    def _unlink(self, entry):
        newer, other = None, self._newest[entry.oid]
        while other is not entry:
            newer, other = other, other.older
        if newer is not None:
            newer.older = entry.older
        elif entry.older is not None:
            self._newest[entry.oid] = entry.older
        else:
            del self._newest[entry.oid]
        entry.older = None
        # A hole in a queue must not hold memory; who was given the entry has its record.
        entry.data = b''
