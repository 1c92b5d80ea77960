from neo.runtime import clock
from neo.runtime.timers import Timers


def test_the_clock_never_goes_back():
    times = [clock.now() for _ in range(1000)]
    assert times == sorted(times)


def test_due_in_order_once_and_only_when_set_last():
    timers = Timers()
    timers.set('b', 2)
    timers.set('a', 1)
    timers.set('c', 1)
    timers.set('b', 5)
    timers.set('d', 1)
    timers.set('d', None)
    assert timers.next() == 1
    assert list(timers.due(4)) == ['a', 'c']
    assert timers.next() == 5
    assert list(timers.due(5)) == ['b']
    assert timers.next() is None


def test_names_need_not_compare():
    timers = Timers()
    timers.set(('x', None), 1)
    timers.set(3, 1)
    assert list(timers.due(1)) == [('x', None), 3]


def test_one_may_be_set_again_while_they_are_taken():
    timers = Timers()
    timers.set('a', 1)
    for name in timers.due(1):
        timers.set('a', 2)
    assert timers.next() == 2


def test_a_timer_that_is_moved_often_takes_no_memory():
    timers = Timers()
    for i in range(10_000):
        timers.set('a', 10_000 + i)
    assert len(timers._heap) < 100
    assert list(timers.due(20_000)) == ['a']
