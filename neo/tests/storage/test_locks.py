"""Locks: who gets one, who waits, and who has to give way."""
import random

import pytest

from neo.storage.locks import Locks


class Owner:

    def __init__(self, ttid, group=None):
        self.ttid, self.group = ttid, group

    def group_of(self, oid):
        return self.group

    def __repr__(self):
        return 'T%d' % self.ttid


A, B, C, D = map(Owner, range(4))


def test_the_oldest_gets_it_first():
    locks = Locks()
    assert locks.take(1, B)
    assert locks.take(1, B)
    for owner in D, A, C:
        assert not locks.take(1, owner)
    assert locks.in_the_way(1, C) == []         # it waits for an older one: no deadlock by that
    assert locks.in_the_way(1, A) == [B]
    assert locks.release(1, B) == [A]
    assert locks.release(1, A) == [C]
    assert locks.release(1, C) == [D]
    assert locks.release(1, D) == ()
    assert not locks.held and not locks.contended


def test_shared():
    locks = Locks()
    assert locks.take(1, B, True) and locks.take(1, C, True)
    assert locks.writers(1) == ()
    assert not locks.take(1, D)
    assert locks.take(1, A, True)               # older than who waits
    assert locks.release(1, B) == []
    assert locks.release(1, C) == []
    assert not locks.take(1, Owner(9), True)    # younger than who waits
    assert locks.release(1, A) == [D]
    assert locks.writers(1) == {D: None}
    assert [owner.ttid for owner in locks.release(1, D)] == [9]


def test_several_who_share_are_granted_together():
    locks = Locks()
    assert locks.take(1, A)
    assert not locks.take(1, B, True)
    assert not locks.take(1, D)
    assert not locks.take(1, C, True)
    assert locks.release(1, A) == [B, C]
    assert locks.wanted() == [B, C]


def test_all_who_share_are_asked_to_give_way_each_once():
    locks = Locks()
    for owner in B, C, D:
        locks.take(1, owner, True)
    other = Owner(2.5)
    locks.take(1, other)
    assert locks.in_the_way(1, other) == [D]
    locks.take(1, A)
    assert locks.in_the_way(1, A) == [B, C]
    assert locks.release(1, D) == [] and not locks.take(1, D, True)
    assert locks.release(1, B) == [] and locks.release(1, C) == [A]
    assert locks.release(1, A) == [other]
    assert locks.release(1, other) == [D]
    assert not locks.take(1, other)
    assert locks.in_the_way(1, other) == [D]    # it was granted anew


def test_check_then_write():
    locks = Locks()
    assert locks.take(1, A, True) and locks.take(1, A) and locks.take(1, A, True)
    assert locks.writers(1) == (A,)             # as cheap again as any other
    assert not locks.take(1, B, True)
    assert not locks.take(1, B)                 # wants more now, and waits once
    assert locks.release(1, A) == [B]
    assert locks.writers(1) == (B,)


def test_two_who_check_and_then_write():
    locks = Locks()
    assert locks.take(1, A, True) and locks.take(1, B, True)
    assert not locks.take(1, A)
    assert locks.in_the_way(1, A) == [B]
    assert locks.wanted() == [B]                # A is in nobody's way
    assert not locks.take(1, B)
    assert locks.in_the_way(1, B) == []
    assert locks.release(1, B) == [A]
    assert locks.writers(1) == (A,)


def test_one_group():
    locks = Locks()
    first, second = Owner(1, 'C1'), Owner(2, 'C1')
    assert locks.take(1, first) and locks.take(1, second)
    assert not locks.take(1, D) and not locks.take(1, A)
    assert locks.release(1, first) == []
    assert locks.release(1, second) == [A]
    assert locks.release(1, A) == [D]
    assert not locks.held.keys() - {1}


def test_who_stops_waiting():
    locks = Locks()
    assert locks.take(1, A)
    assert not locks.take(1, B)
    assert locks.release(1, B) == []
    assert locks.writers(1) == (A,) and not locks.contended
    assert locks.release(2, A) == ()


# -- the same rules, in the plainest way --------------------------------------------------------
class Model:
    """One lock: everybody is compared with everybody."""

    def __init__(self):
        self.holders = []           # [owner, does it share?, was it named?]
        self.waiting = []           # [owner, does it want to share?]

    def take(self, owner, shared):
        shared = shared and owner.group is None
        for holder, held_shared, _ in self.holders:
            if holder is owner and (shared or not held_shared):
                return True
        for waiting in self.waiting:
            if waiting[0] is owner:
                waiting[1] = waiting[1] and shared
                break
        else:
            self.waiting.append([owner, shared])
            self.waiting.sort(key=lambda waiting: waiting[0].ttid)
        return owner in self.grant()

    def release(self, owner):
        self.holders = [holder for holder in self.holders if holder[0] is not owner]
        self.waiting = [waiting for waiting in self.waiting if waiting[0] is not owner]
        return self.grant()

    def grant(self):
        granted = []
        for waiting in list(self.waiting):
            older = self.waiting[:self.waiting.index(waiting)]
            if all(agree(waiting, other) for other in self.holders + older):
                self.waiting.remove(waiting)
                for holder in self.holders:
                    if holder[0] is waiting[0]:
                        holder[1] = waiting[1]
                        break
                else:
                    self.holders.append([*waiting, False])
                granted.append(waiting[0])
        return granted

    def in_the_way(self, owner):
        wish = next(waiting for waiting in self.waiting if waiting[0] is owner)
        found = [holder for holder in self.holders
                 if holder[0].ttid > owner.ttid and not agree(wish, holder) and not holder[2]]
        for holder in found:
            holder[2] = True
        return sorted([holder[0] for holder in found], key=lambda owner: owner.ttid)


def agree(one, other):
    group = one[0].group
    return one[0] is other[0] or (one[1] and other[1]) or (
        group is not None and group == other[0].group)


@pytest.mark.parametrize('seed', range(200))
def test_random_against_the_model(seed):
    rnd = random.Random(seed)
    locks, models = Locks(), [Model(), Model()]
    owners = [Owner(i, rnd.choice([None, None, None, 'g', 'h'])) for i in range(rnd.randint(2, 9))]
    for _ in range(150):
        oid, owner = rnd.randrange(2), rnd.choice(owners)
        model = models[oid]
        if rnd.random() < .35:
            assert list(locks.release(oid, owner)) == model.release(owner)
        else:
            shared = rnd.random() < .5
            granted = locks.take(oid, owner, shared)
            assert granted == model.take(owner, shared)
            if not granted:
                assert locks.in_the_way(oid, owner) == model.in_the_way(owner)
        compare(locks, oid, model)
    for owner in owners:
        for oid in range(2):
            locks.release(oid, owner)
    assert not locks.held and not locks.contended


def compare(locks, oid, model):
    held = locks.held.get(oid)
    holders = {holder for holder, *_ in model.holders}
    if type(held) in (type(None), Owner):
        assert holders == ({held} if held else set()) and not model.waiting
        assert oid not in locks.contended
        for holder in model.holders:
            holder[2] = False                   # who is alone is not remembered as named
    else:
        assert set(held.holders) == holders
        assert held.waiting == [owner for owner, _ in model.waiting]
    assert set(locks.writers(oid)) == {
        holder for holder, shared, _ in model.holders if not shared}


# -- what it costs ----------------------------------------------------------------------------
class Counted(Owner):
    """Counts how often anybody is looked at."""

    looks = 0

    def __init__(self, ttid):
        self._ttid = ttid

    @property
    def ttid(self):
        Counted.looks += 1
        return self._ttid

    def group_of(self, oid):
        Counted.looks += 1

    def __hash__(self):
        Counted.looks += 1
        return id(self)

    def __eq__(self, other):
        Counted.looks += 1
        return self is other


def crowd(count, seed):
    """Many write and check one object, and give way whenever they are asked to."""
    rnd = random.Random(seed)
    Counted.looks = 0
    locks = Locks()
    coming = [Counted(i) for i in range(count)]
    rnd.shuffle(coming)
    shares = {id(owner): rnd.random() < .9 for owner in coming}
    holding, asked = set(), []

    def take(owner):
        if locks.take(1, owner, shares[id(owner)]):
            holding.add(id(owner))
        else:
            asked.extend(locks.in_the_way(1, owner))

    def release(owner):
        holding.discard(id(owner))
        holding.update(map(id, locks.release(1, owner)))

    for owner in coming:
        take(owner)
    gave_way = 0
    while asked:
        gave_way += 1
        owner = asked.pop()
        release(owner)
        take(owner)
    assert gave_way <= count
    order = sorted(coming, key=lambda owner: owner._ttid)
    for owner in order:
        assert id(owner) in holding             # the oldest one left always has it
        release(owner)
    assert not locks.held
    return Counted.looks


def test_the_cost_of_a_crowd_is_near_linear():
    few, many = crowd(300, 1), crowd(3000, 1)
    assert few < 300 * 60                       # a look is some 0.1 µs
    assert many < 10 * few * 1.5                # the logarithm grows as well
