import random

from neo.storage.locks import Locks


class Owner:

    def __init__(self, ttid, group=None):
        self.ttid, self.group = ttid, group

    def __repr__(self):
        return 'T%d' % self.ttid


A, B, C, D = map(Owner, range(4))


def test_the_oldest_gets_it_first():
    locks = Locks()
    assert locks.take(1, B)
    assert locks.take(1, B)
    for owner in D, A, C:
        assert not locks.take(1, owner)
    assert locks.in_the_way(1, A) == [B]
    assert locks.in_the_way(1, C) == []         # it waits for an older one: no deadlock by that
    assert locks.release(1, B) == [A]
    assert locks.release(1, A) == [C]
    assert locks.release(1, C) == [D]
    assert locks.release(1, D) == ()
    assert not locks.held and not locks.contended


def test_shared():
    locks = Locks()
    assert locks.take(1, B, True) and locks.take(1, C, True)
    assert not locks.take(1, D)
    assert locks.take(1, A, True)               # older than who waits
    assert locks.release(1, B) == []
    assert locks.release(1, C) == []
    assert not locks.take(1, Owner(9), True)    # younger than who waits
    assert locks.release(1, A) == [D]
    assert [owner.ttid for owner in locks.release(1, D)] == [9]


def test_several_who_share_are_granted_together():
    locks = Locks()
    assert locks.take(1, A)
    assert not locks.take(1, B, True)
    assert not locks.take(1, D)
    assert not locks.take(1, C, True)
    assert locks.release(1, A) == [B, C]
    assert locks.wanted() == [B, C]


def test_check_then_write():
    locks = Locks()
    assert locks.take(1, A, True) and locks.take(1, A) and locks.take(1, A, True)
    assert locks.held == {1: A}                 # as cheap again as any other
    assert not locks.take(1, B, True)
    assert not locks.take(1, B)                 # wants more now, and waits once
    assert locks.release(1, A) == [B]
    assert locks.held[1] is B


def test_two_who_check_and_then_write():
    locks = Locks()
    assert locks.take(1, A, True) and locks.take(1, B, True)
    assert not locks.take(1, A)
    assert locks.in_the_way(1, A) == [B]
    assert not locks.take(1, B)
    assert locks.in_the_way(1, B) == []
    assert locks.release(1, B) == [A]
    assert locks.held == {1: A}


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
    assert locks.held == {1: A} and not locks.contended
    assert locks.release(2, A) == ()


def test_random_against_the_rules():
    for seed in range(300):
        rnd = random.Random(seed)
        locks = Locks()
        owners = [Owner(i, rnd.choice([None, None, 'g'])) for i in range(6)]
        for _ in range(60):
            oid, owner = rnd.randrange(2), rnd.choice(owners)
            if rnd.random() < .4:
                locks.release(oid, owner)
            else:
                locks.take(oid, owner, rnd.random() < .5)
            check(locks)
        for owner in owners:
            for oid in range(2):
                locks.release(oid, owner)
        assert not locks.held and not locks.contended


def check(locks):
    for oid, held in locks.contended.items():
        assert locks.held[oid] is held
        assert held.holders                     # nobody waits for nothing
        for owner, shared in held.holders.items():
            for other, other_shared in held.holders.items():
                assert owner is other or shared and other_shared or (
                    owner.group is not None and owner.group == other.group)
        ttids = [owner.ttid for owner, shared in held.waiting]
        assert ttids == sorted(set(ttids))
        oldest, shared = held.waiting[0]
        assert any(other is not oldest and not (shared and other_shared) and (
            oldest.group is None or oldest.group != other.group)
            for other, other_shared in held.holders.items())
