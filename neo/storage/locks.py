"""Locks on objects: exclusive for writes, shared for serial checks (docs/architecture.md, "Life of
a transaction").

An owner is any hashable object with a `ttid`, which orders those who wait (the lowest, thus
oldest, first), and a method `group_of(oid)`: owners of one group that is not None do not exclude
each other.

Each lock has one *mode* at a time, which all its holders have in common: SHARED, a group, or the
one exclusive holder itself.  So those who wait are granted in their order up to the first one of
another mode, and nobody behind that one has to be looked at: what a call costs depends on whom it
grants, not on how many hold or wait.

Waiting for older owners is harmless, for as long as it takes.  Where an older one waits for a
younger holder, a deadlock is possible: `in_the_way` names who has to give way.
"""
from bisect import bisect_left, bisect_right, insort
from operator import attrgetter

SHARED = 'shared'
TTID = attrgetter('ttid')


def _mode(oid, owner, shared):
    # An owner of a group is in the mode of the group whatever it does: what it shares with others
    # would exclude the others of its group.
    group = owner.group_of(oid)
    return (SHARED if shared else owner) if group is None else (group,)


class Locks:

    def __init__(self):
        # oid -> its owner if that one is alone, exclusive and nobody waits, else a _Lock.  Most
        # locks never meet another: they cost one entry in a dict.
        self.held = {}
        self.contended = {}         # oid -> _Lock, where somebody waits

    def take(self, oid, owner, shared=False):
        """Is it granted at once?  If not, `owner` waits, and gets it by a `release`."""
        held = self.held.get(oid)
        if held is None:
            self.held[oid] = (
                _Lock(owner, SHARED) if shared and owner.group_of(oid) is None else owner)
            return True
        if held is owner:
            return True
        if type(held) is not _Lock:
            held = self.held[oid] = _Lock(held, _mode(oid, held, False))
        granted = held.take(owner, _mode(oid, owner, shared))
        self._tidy(oid, held)
        return granted

    def release(self, oid, owner):
        """`owner` neither holds it nor waits for it any more; returns the owners who got it."""
        held = self.held.get(oid)
        if held is owner:
            del self.held[oid]
            return ()
        if type(held) is not _Lock:
            return ()
        granted = held.release(owner)
        self._tidy(oid, held)
        return granted

    def release_all(self, oids, owner):
        """The same for many; returns `[(oid, owner who got it)]`."""
        held, granted = self.held, []
        for oid in oids:
            if held.get(oid) is owner:
                del held[oid]
            else:
                granted += [(oid, other) for other in self.release(oid, owner)]
        return granted

    def writers(self, oid):
        """Who holds it other than shared."""
        held = self.held.get(oid)
        if held is None:
            return ()
        if type(held) is not _Lock:
            return (held,)
        return held.holders if held.mode is not SHARED else ()

    def in_the_way(self, oid, owner):
        """The younger holders for whom `owner`, which waits for `oid`, has to wait.  Each is named
        once after it was granted: that is when it is asked to give way."""
        return self.contended[oid].in_the_way(owner)

    def wanted(self):
        """The owners of what others wait for, each once."""
        return list(dict.fromkeys(
            holder for held in self.contended.values() for holder in held.holders
            if len(held.waiting) > 1 or held.waiting[0] is not holder))

    def _tidy(self, oid, held):
        if held.waiting:
            self.contended[oid] = held
            return
        self.contended.pop(oid, None)
        if not held.holders:
            del self.held[oid]
        elif len(held.holders) == 1 and held.mode is not SHARED:
            self.held[oid], = held.holders


class _Lock:
    """The lock of one oid that has several owners, or one that shares, or somebody who waits."""

    __slots__ = 'mode', 'holders', 'unasked', 'waiting', 'wishes'

    def __init__(self, owner, mode):
        self.mode = mode
        self.holders = {owner: None}    # a set, in the order of the grants
        self.unasked = [owner]          # holders that `in_the_way` has not named, by ttid
        self.waiting = []               # owners, by ttid
        self.wishes = {}                # owner that waits -> the mode it wants

    def take(self, owner, mode):
        if owner in self.holders and (mode is SHARED or self.mode is not SHARED):
            return True
        wish = self.wishes.get(owner)
        if wish is None:
            insort(self.waiting, owner, key=TTID)
        if wish is None or wish is SHARED:
            self.wishes[owner] = mode
        return owner in self._grant()

    def release(self, owner):
        if owner in self.holders:
            del self.holders[owner]
            _remove(self.unasked, owner)
        if self.wishes.pop(owner, None) is not None:
            _remove(self.waiting, owner)
        return self._grant()

    def _grant(self):
        """Give it to all who may have it now, the oldest first; nobody overtakes an older one."""
        granted = []
        for owner in self.waiting:
            mode = self.wishes[owner]
            if mode != self.mode and not self.holders.keys() <= {owner}:
                break
            self.mode = mode
            del self.wishes[owner]
            if owner not in self.holders:
                self.holders[owner] = None
                insort(self.unasked, owner, key=TTID)
            granted.append(owner)
        del self.waiting[:len(granted)]
        return granted

    def in_the_way(self, owner):
        if self.wishes[owner] == self.mode:
            return []
        i = bisect_right(self.unasked, owner.ttid, key=TTID)
        named = self.unasked[i:]
        del self.unasked[i:]
        return named


def _remove(owners, owner):
    """From a list by ttid, if it is there."""
    i = bisect_left(owners, owner.ttid, key=TTID)
    if i < len(owners) and owners[i] is owner:
        del owners[i]
