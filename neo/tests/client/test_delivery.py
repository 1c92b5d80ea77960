"""Who tells ZODB what, in which order; without any cluster."""
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import pytest
from ZODB.utils import p64, u64

from ...client.delivery import Delivery


class Core:
    """What a Delivery needs of a client core."""

    def __init__(self):
        self.last_tid = 0
        self.invalidations = deque()

    def delivered(self, tid):
        self.last_tid = tid


class DB:

    def __init__(self, core):
        self.core = core
        self.told = []

    def invalidate(self, tid, oids):
        assert self.core.last_tid < u64(tid)
        self.told.append((u64(tid), [u64(oid) for oid in oids]))

    def invalidateCache(self):
        self.told.append('all')


@pytest.fixture
def core():
    return Core()


@pytest.fixture
def delivery(core):
    delivery = Delivery(core)
    delivery.db = DB(core)
    return delivery


def test_in_order_and_then_the_last_tid_moves(core, delivery):
    core.invalidations.extend([(1, (5,), None), (2, (6, 7), None)])
    delivery.deliver()
    assert delivery.db.told == [(1, [5]), (2, [6, 7])] and core.last_tid == 2


def test_without_a_database(core, delivery):
    delivery.db = None
    core.invalidations.extend([(1, (5,), None), (2, None, None)])
    delivery.deliver()
    assert core.last_tid == 2


def test_everything_has_changed(core, delivery):
    core.invalidations.append((9, None, None))
    delivery.deliver()
    assert delivery.db.told == ['all', (9, []), 'all'] and core.last_tid == 9


def test_an_own_transaction_is_told_by_its_thread_and_others_wait(core, delivery):
    told = []
    operation = object()
    delivery.own[operation] = told.append
    core.invalidations.extend([(1, (5,), None), (2, (6,), operation), (3, (7,), None)])
    delivery.deliver()
    assert core.last_tid == 1
    delivery.deliver_own(operation)
    assert told == [p64(2)] and delivery.db.told == [(1, [5]), (3, [7])] and core.last_tid == 3


def test_the_callback_may_ask_for_anything(core, delivery):
    operation, seen = object(), []

    def callback(tid):
        delivery.deliver()
        delivery.deliver_until(5)
        delivery.settled()
        seen.append(core.last_tid)
    delivery.own[operation] = callback
    core.invalidations.append((2, (6,), operation))
    delivery.deliver_own(operation)
    assert seen == [0] and core.last_tid == 2


def test_a_callback_that_fails_has_been_called(core, delivery):
    operation = object()

    def callback(tid):
        raise ZeroDivisionError
    delivery.own[operation] = callback
    core.invalidations.extend([(2, (6,), operation), (3, (7,), None)])
    with pytest.raises(ZeroDivisionError):
        delivery.deliver_own(operation)
    delivery.deliver()
    assert core.last_tid == 3 and not delivery.own


def test_a_database_that_fails_does_not_stop_others(core, delivery):
    delivery.db.invalidate = None
    core.invalidations.append((1, (5,), None))
    delivery.deliver()
    assert core.last_tid == 1


def test_a_thread_that_is_gone(core, delivery):
    operation = object()
    delivery.own[operation] = pytest.fail
    core.invalidations.append((2, (6,), operation))
    delivery.abandon(operation)
    assert delivery.db.told == [(2, [6])]


def test_no_snapshot_begins_while_everything_is_declared_changed(core, delivery):
    entered, go_on = threading.Event(), threading.Event()
    reset = delivery.db.invalidateCache

    def slow():
        entered.set()
        assert go_on.wait(10)
        reset()
    delivery.db.invalidateCache = slow

    def snapshot():
        delivery.settled()
        return core.last_tid
    core.invalidations.append((9, None, None))
    with ThreadPoolExecutor(2) as pool:
        telling = pool.submit(delivery.deliver)
        assert entered.wait(10)
        taken = pool.submit(snapshot)
        assert not taken.done() and core.last_tid == 0
        go_on.set()
        assert taken.result(10) == 9
        telling.result(10)


def test_many_threads(core, delivery):
    """Own transactions and others, told by whoever comes: each once, in order."""
    count, lock = 2000, threading.Lock()
    tids = iter(range(1, count + 1))
    told = delivery.db.told

    def work(number):
        while True:
            with lock:
                tid = next(tids, None)
                if tid is None:
                    return
                operation = object() if tid % 3 else None
                if operation is not None:
                    delivery.own[operation] = lambda tid: told.append((u64(tid), []))
                core.invalidations.append((tid, (), operation))
            if operation is None:
                delivery.deliver()
            else:
                delivery.deliver_own(operation)
                assert core.last_tid >= tid
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6), timeout=60))
    delivery.deliver_until(count)
    assert [tid for tid, _ in told] == list(range(1, count + 1))
