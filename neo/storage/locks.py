"""Locks on objects: exclusive for writes, shared for serial checks (docs/architecture.md, "Life of
a transaction").

An owner is any hashable object with a `ttid`, which orders those who wait (the lowest, thus
oldest, first), and a `group`: owners of one group that is not None do not exclude each other.

Waiting for older owners is harmless, for as long as it takes.  Where an older one waits for a
younger holder, a deadlock is possible: `in_the_way` names who has to give way.
"""
from bisect import insort


class Locks:

    def __init__(self):
        # oid -> its owner if that one is alone, exclusive and nobody waits, else a _Shared.  Most
        # locks never meet another: they cost one entry in a dict.
        self.held = {}
        self.contended = {}         # oid -> _Shared, where somebody waits

    def take(self, oid, owner, shared=False):
        """Is it granted at once?  If not, `owner` waits, and gets it by a `release`."""
        held = self.held.get(oid)
        if held is None:
            self.held[oid] = _Shared({owner: True}) if shared else owner
            return True
        if held is owner:
            return True
        if type(held) is not _Shared:
            held = self.held[oid] = _Shared({held: False})
        granted = held.take(owner, shared)
        self._tidy(oid, held)
        return granted

    def release(self, oid, owner):
        """`owner` neither holds it nor waits for it any more; returns the owners who got it."""
        held = self.held.get(oid)
        if held is owner:
            del self.held[oid]
            return ()
        if type(held) is not _Shared:
            return ()
        granted = held.release(owner)
        self._tidy(oid, held)
        return granted

    def holders(self, oid):
        held = self.held.get(oid)
        if held is None:
            return ()
        return held.holders if type(held) is _Shared else (held,)

    def in_the_way(self, oid, owner):
        """The younger holders for whom `owner`, which waits for `oid`, has to wait."""
        return self.contended[oid].in_the_way(owner)

    def wanted(self):
        """The owners of what others wait for, each once."""
        return list(dict.fromkeys(
            holder for held in self.contended.values() for holder in held.wanted()))

    def _tidy(self, oid, held):
        if held.waiting:
            self.contended[oid] = held
            return
        self.contended.pop(oid, None)
        if not held.holders:
            del self.held[oid]
        elif len(held.holders) == 1:
            (owner, shared), = held.holders.items()
            if not shared:
                self.held[oid] = owner


class _Shared:
    """The lock of one oid that has several owners, or one that shares, or somebody who waits."""

    __slots__ = 'holders', 'waiting'

    def __init__(self, holders):
        self.holders = holders      # owner -> does it share?
        self.waiting = []           # (owner, does it want to share?), by ttid

    def take(self, owner, shared):
        if owner in self.holders and (shared or not self.holders[owner]):
            return True
        for i, (waiting, wants_shared) in enumerate(self.waiting):
            if waiting is owner:
                self.waiting[i] = owner, wants_shared and shared
                break
        else:
            insort(self.waiting, (owner, shared), key=lambda waiting: waiting[0].ttid)
        return owner in self._grant()

    def release(self, owner):
        self.holders.pop(owner, None)
        self.waiting = [waiting for waiting in self.waiting if waiting[0] is not owner]
        return self._grant()

    def _grant(self):
        """Give it to all who may have it now, the oldest first; nobody overtakes an older one
        whom it would exclude."""
        granted, kept = [], []
        for owner, shared in self.waiting:
            if (all(_agree(owner, shared, *holder) for holder in self.holders.items())
                    and all(_agree(owner, shared, *waiting) for waiting in kept)):
                self.holders[owner] = shared
                granted.append(owner)
            else:
                kept.append((owner, shared))
        self.waiting = kept
        return granted

    def in_the_way(self, owner):
        shared = next(shared for waiting, shared in self.waiting if waiting is owner)
        return [holder for holder, holder_shares in self.holders.items()
                if holder.ttid > owner.ttid
                and not _agree(owner, shared, holder, holder_shares)]

    def wanted(self):
        return [holder for holder, shares in self.holders.items() if not all(
            _agree(*waiting, holder, shares) for waiting in self.waiting)]


def _agree(owner, shared, other, other_shared):
    return (owner is other or (shared and other_shared)
            or (owner.group is not None and owner.group == other.group))
