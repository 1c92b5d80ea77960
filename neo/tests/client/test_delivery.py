"""Who tells ZODB what, in which order; without any cluster."""
import itertools
import random
import signal
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import pytest
from ZODB.utils import p64, u64

from ...client.core.invalidations import Told
from ...client.delivery import Delivery, Own, is_left
from ..alarms import alarms


class Core:
    """What a Delivery needs of a client core."""

    def __init__(self):
        self.last_tid = 0
        self.invalidations = deque()

    def delivered(self, tid):
        self.last_tid = tid


class Operation:

    numbers = itertools.count(1)

    def __init__(self):
        self.ttid = next(self.numbers)


class DB:

    def __init__(self, core):
        self.core = core
        self.told = []
        self.hook = None
        self.caches = [0] * 5           # the last tid of each cache; they are told one by one

    def invalidate(self, tid, oids):
        self.own(tid)
        if self.hook is not None:
            self.hook(tid)
        self.told.append((u64(tid), [u64(oid) for oid in oids]))

    def own(self, tid):
        for i in range(len(self.caches)):
            self.caches[i] = max(self.caches[i], u64(tid))

    def tell_own(self, tid):
        self.told.append((u64(tid), []))

    def invalidateCache(self):
        if self.hook is not None:
            self.hook('all')
        self.told.append('all')

    def behind(self):
        """How many caches lack something, of what they should know."""
        return sum(tid != self.core.last_tid for tid in self.caches)


@pytest.fixture
def core():
    return Core()


@pytest.fixture
def delivery(core):
    delivery = Delivery(core, lambda *args, **options: delivery.logged.append(args))
    delivery.logged = []
    delivery.db = DB(core)
    return delivery


@contextmanager
def committing(delivery, operation, function):
    """This thread is in `tpc_finish`."""
    present = threading.Lock()
    with present:
        delivery.own[operation.ttid] = Own(function, present)
        yield


def test_in_order_and_then_the_last_tid_moves(core, delivery):
    core.invalidations.extend([Told(1, (5,), None), Told(2, (6, 7), None)])
    delivery.deliver()
    assert delivery.db.told == [(1, [5]), (2, [6, 7])] and core.last_tid == 2


def test_without_a_database(core, delivery):
    delivery.db = None
    core.invalidations.extend([Told(1, (5,), None), Told(2, None, None)])
    delivery.deliver()
    assert core.last_tid == 2


def test_everything_has_changed(core, delivery):
    core.invalidations.append(Told(9, None, None))
    delivery.deliver()
    assert delivery.db.told == ['all', (9, []), 'all'] and core.last_tid == 9


def test_an_own_transaction_is_told_by_its_thread_and_others_wait(core, delivery):
    told = []
    operation = Operation()
    core.invalidations.extend([Told(1, (5,), None), Told(2, (6,), operation), Told(3, (7,), None)])
    with ThreadPoolExecutor(1) as pool, committing(delivery, operation, told.append):
        pool.submit(delivery.deliver).result(10)
        assert core.last_tid == 1 and not pool.submit(delivery.news).result(10)
        delivery.deliver_own(operation.ttid, 2)
    assert told == [p64(2)] and delivery.db.told == [(1, [5]), (3, [7])] and core.last_tid == 3


def test_the_callback_may_ask_for_anything(core, delivery):
    operation, seen = Operation(), []

    def callback(tid):
        delivery.deliver()
        delivery.deliver_until(5)
        delivery.settled()
        assert delivery.tells()
        seen.append(core.last_tid)
    core.invalidations.append(Told(2, (6,), operation))
    with committing(delivery, operation, callback):
        delivery.deliver_own(operation.ttid, 2)
    assert seen == [0] and core.last_tid == 2 and not delivery.tells()


@pytest.mark.parametrize('look', range(1, 9))
def test_a_core_that_is_replaced_between_two_looks(delivery, look):
    class Replaced(Core):
        looks = 0

        def __getattribute__(self, name):
            if name == 'invalidations':
                Replaced.looks += 1
                if Replaced.looks == look:
                    delivery.core = Core()
            return super().__getattribute__(name)
    delivery.core = core = Replaced()
    core.invalidations.append(Told(1, (5,), None))
    assert delivery.deliver() and not delivery.tells()


RESET = ['all', (2, []), 'all']


@pytest.mark.parametrize('error', [ZeroDivisionError, KeyboardInterrupt])
def test_a_callback_that_fails(core, delivery, error):
    """Others may have heard of it by then or not, so all caches are reset, once."""
    def callback(tid):
        raise error
    operation = Operation()
    core.invalidations.extend([Told(2, (6,), operation), Told(3, (7,), None)])
    with pytest.raises(error), committing(delivery, operation, callback):
        delivery.deliver_own(operation.ttid, 2)
    delivery.settled()
    delivery.deliver()
    assert delivery.db.told == [*RESET, (3, [7])]
    assert core.last_tid == 3 and not delivery.own


@pytest.mark.parametrize('error', [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize('times', [1, 2, 3])
def test_what_cuts_off_the_telling(core, delivery, error, times):
    """In the middle of ZODB, and again in each attempt to make up for it: lastTransaction does
    not move before all has been reset."""
    def fail(*_):
        nonlocal times
        if times:
            times -= 1
            raise error
    hook = delivery.db.hook = fail
    core.invalidations.extend([Told(2, (6,), None), Told(3, (7,), None)])
    while times:
        before = times
        try:
            delivery.deliver_until(2)
        except KeyboardInterrupt:
            pass
        assert times < before and (core.last_tid == 0 or not times)
    hook(None)
    delivery.settled()
    assert core.last_tid >= 2
    delivery.deliver()
    assert delivery.db.told[-4:] == [*RESET, (3, [7])] and core.last_tid == 3


def test_a_database_that_always_fails(core, delivery):
    """It stays where it was, and nobody waits for what can't be."""
    def fail(*_):
        raise ZeroDivisionError
    delivery.db.hook = fail
    core.invalidations.append(Told(1, (5,), None))
    delivery.deliver()
    delivery.deliver_until(1)
    delivery.settled()
    assert core.last_tid == 0 and delivery.logged and not delivery.news()
    delivery.db.hook = None
    delivery.settled()
    assert core.last_tid == 1


def test_interrupts_at_any_moment(core, delivery):
    """Whatever is cut off, ZODB hears of everything in the end, by its tid or by a reset."""
    rnd = random.Random(1)
    last, interrupted = 0, 0

    def strike(signum, frame):
        raise KeyboardInterrupt

    def happens(operation=None):
        nonlocal last
        last += 1
        core.invalidations.append(Told(last, (1,), operation))

    def work():
        for _ in range(200):
            happens()
            operation = Operation()
            with committing(delivery, operation, delivery.db.own):
                happens(operation)
                delivery.deliver_own(operation.ttid, last)
            delivery.deliver_until(last)

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + rnd.random() * 1e-3)
                work()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            delivery.settled()
            delivery.deliver()
            assert not core.invalidations and not delivery.tells()
            assert core.last_tid >= last - 1 and delivery.db.behind() == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 200


def test_a_wait_that_is_interrupted_leaves_no_lock():
    rnd, lock, interrupted = random.Random(1), threading.Lock(), 0

    def strike():
        raise KeyboardInterrupt
    with alarms() as alarm:
        while interrupted < 500:
            try:
                alarm(strike, 1e-5 + rnd.random() * 1e-4)
                while True:
                    assert is_left(lock, 1.0)
            except KeyboardInterrupt:
                interrupted += 1
            assert not lock.locked()
        with lock:
            assert not is_left(lock, 0.01) and lock.locked()


def test_nobody_tells_while_the_process_is_forked(core, delivery):
    entered, go_on, forked = threading.Event(), threading.Event(), threading.Event()
    paused = threading.Event()

    def slow(*_):
        entered.set()
        assert go_on.wait(30)

    def fork():
        delivery.pause(600)
        paused.set()
        assert forked.wait(30)
        delivery.go_on()
    delivery.db.hook = slow
    core.invalidations.append(Told(1, (5,), None))
    with ThreadPoolExecutor(3) as pool:
        telling = pool.submit(delivery.deliver)
        assert entered.wait(30)
        delivery.pause(0.01)            # it does not wait for ever
        delivery.go_on()
        forking = pool.submit(fork)
        go_on.set()
        assert paused.wait(30)
        telling.result(30)
        core.invalidations.append(Told(2, (5,), None))
        delivery.deliver()
        waiting = pool.submit(delivery.deliver_until, 2)
        assert core.last_tid == 1 and not waiting.done()
        forked.set()
        waiting.result(30)
        forking.result(30)
    assert core.last_tid == 2


@pytest.mark.parametrize('own', [False, True])
def test_a_thread_that_is_held_up(core, own):
    """By a signal handler, which waits for one who has to hear of what that thread commits, or
    commits what comes after it."""
    delivery = Delivery(core, pytest.fail, held_up=0.1)
    delivery.db = DB(core)
    mine, other = Operation(), Operation()

    def hear():
        delivery.deliver_until(2)

    def commit():
        with committing(delivery, other, delivery.db.tell_own):
            delivery.deliver_own(other.ttid, 2)
    with committing(delivery, mine, delivery.db.tell_own), ThreadPoolExecutor(1) as pool:
        core.invalidations += [Told(1, (5,), mine), Told(2, (6,), other if own else None)]
        pool.submit(commit if own else hear).result(10)
        assert core.last_tid == 2 and delivery.db.told == [(1, [5]), (2, [] if own else [6])]
        delivery.deliver_own(mine.ttid, 1)
    # Late, so that everything may have changed; and the last tid does not go back.
    assert (1, []) in delivery.db.told[2:] and 'all' in delivery.db.told[2:]
    assert core.last_tid == 2 and not delivery.own and not core.invalidations


def test_two_threads_fork_at_once(core, delivery):
    """What one of them lets go on, the other one still holds up."""
    core.invalidations.append(Told(1, (5,), None))
    delivery.pause(10)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(delivery.pause, 10).result(10)
        pool.submit(delivery.go_on).result(10)
    delivery.deliver()
    assert not delivery.db.told
    delivery.go_on()
    delivery.deliver()
    assert core.last_tid == 1


def test_who_forks_tells_nothing_itself(core, delivery):
    """It may have locks of ZODB, where a signal handler forks."""
    delivery.pause(10)
    core.invalidations.append(Told(1, (5,), None))
    delivery.go_on()
    assert not delivery.db.told and delivery.news()
    delivery.deliver()
    assert core.last_tid == 1


def test_a_thread_that_is_gone(core, delivery):
    """The callback belongs to what it came back to, which is no more."""
    operation = Operation()
    with committing(delivery, operation, pytest.fail):
        core.invalidations.append(Told(2, (6,), operation))
    delivery.deliver()
    assert delivery.db.told == [(2, [6])]


@pytest.mark.parametrize('oids', [(5,), None])
def test_no_snapshot_begins_while_something_is_told(core, delivery, oids):
    entered, go_on = threading.Event(), threading.Event()

    def slow(*_):
        entered.set()
        assert go_on.wait(10)
    delivery.db.hook = slow

    def snapshot():
        delivery.settled()
        return core.last_tid
    core.invalidations.append(Told(9, oids, None))
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
                operation = Operation() if tid % 3 else None
                present = threading.Lock()
                if operation is not None:
                    delivery.own[operation.ttid] = Own(delivery.db.tell_own, present)
                    present.acquire()
                core.invalidations.append(Told(tid, (), operation))
            if operation is None:
                delivery.deliver()
            else:
                delivery.deliver_own(operation.ttid, tid)
                present.release()
                assert core.last_tid >= tid
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6), timeout=60))
    delivery.deliver_until(count)
    assert [tid for tid, _ in told] == list(range(1, count + 1))


@pytest.mark.parametrize('error', [None, ZeroDivisionError])
def test_an_own_transaction_that_is_not_in_the_queue(core, delivery, error):
    """A core was replaced after the outcome was known: others that were to be told before it may
    have been lost with the queue."""
    told = []

    def callback(tid):
        told.append(tid)
        if error:
            raise error
    operation = Operation()
    with pytest.raises(error) if error else nullcontext():
        with committing(delivery, operation, callback):
            delivery.deliver_own(operation.ttid, 2)
    assert told == [p64(2)] and delivery.db.told == RESET and core.last_tid == 2
    core.invalidations.append(Told(2, (1,), operation))
    delivery.deliver()
    assert delivery.db.told == [*RESET, (2, [1])] and not delivery.own
