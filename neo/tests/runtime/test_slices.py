"""Background work: when it has its turn, and how much of it."""
import random
import socket
import time
from functools import partial

import pytest

from neo.cluster import events
from neo.cluster.node import Node
from neo.protocol import limits
from neo.protocol.codec import encode, preamble
from neo.protocol.packets import Ping
from neo.runtime.connection import Connection
from neo.runtime.driver import Driver
from neo.runtime.slices import Slices

from .peer import until
from .toys import Echo, Records, running


class Worker(Echo):
    """Has works, {name: units left}; a unit takes `cost` seconds."""

    def __init__(self, works, cost=2e-5):
        super().__init__()
        self.works = works
        self.cost = cost
        self.given = []             # (name, amount)
        self.spent = 0.0

    def starting(self):
        for name in self.works:
            self.want_slices(name)

    def step(self, now, event):
        if type(event) is events.Slice:
            Node.step(self, now, event)
        else:
            super().step(now, event)

    def slice(self, name, amount):
        self.given.append((name, amount))
        began = time.perf_counter()
        while time.perf_counter() < began + amount * self.cost:
            pass
        self.spent += time.perf_counter() - began
        self.works[name] -= amount
        if self.works[name] <= 0:
            self.no_slices(name)
        self.durable()


# -- the node ---------------------------------------------------------------------------------
class Plain(Node):
    def __init__(self):
        super().__init__(random.Random(1))
        self.given = []

    def slice(self, name, amount):
        self.given.append((name, amount))
        if name == 'short':
            self.no_slices(name)


def test_works_have_their_turns_one_after_the_other():
    node = Plain()
    for name in 'one', 'short', 'two', 'one':
        node.want_slices(name)
    for amount in 1, 2, 3, 4, 5:
        node.step(0, events.Slice(amount))
    assert node.given == [('one', 1), ('short', 2), ('two', 3), ('one', 4), ('two', 5)]
    node.no_slices('one')
    node.no_slices('two')
    node.no_slices('two')
    node.step(0, events.Slice(6))           # it was on its way
    assert len(node.given) == 5 and not node.background


# -- how much ---------------------------------------------------------------------------------
@pytest.mark.parametrize('cost', [1e-6, 1e-4, 5e-3])
def test_the_amount_becomes_what_takes_the_time_of_a_slice(cost):
    slices = Slices()
    for _ in range(20):
        amount = slices.amount('work')
        slices.took('work', 0, amount * cost, True)
    assert amount * cost == pytest.approx(limits.SLICE_TIME, rel=.1)


def test_one_slow_slice_does_not_decide_alone_and_the_last_one_not_at_all():
    slices = Slices()
    slices.took('work', 0, limits.SLICE_TIME, True)
    slices.took('work', 0, 5.0, True)
    assert slices.amount('work') == limits.SLICE_FIRST // 4
    for _ in range(100):
        slices.took('small', 0, 1e-5, False)
        slices.took('nothing', 0, 0, True)
    assert slices.amount('small') == limits.SLICE_FIRST
    assert slices.amount('nothing') == limits.SLICE_MOST


def test_when_a_slice_is_due():
    slices = Slices()
    slices.busy(100.0)
    slices.took('work', 100.0, 100.02, True)
    slices.busy(100.02)
    assert slices.next() == pytest.approx(100.02 + limits.SLICE_QUIET)
    for now in 100.03, 100.06, 100.09:
        slices.busy(now)                    # there is always something
    assert slices.next() == pytest.approx(100.02 + .02 * (1 / limits.SLICE_SHARE - 1))


# -- given by the driver ----------------------------------------------------------------------
def test_an_idle_loop_works_till_nothing_is_left():
    node = Worker({'one': 3000, 'two': 2000})
    started = time.monotonic()
    with running(node) as (address, loop, status):
        until(lambda: all(left <= 0 for left in node.works.values()))
        assert time.monotonic() - started < 5
    assert {name for name, _amount in node.given[:2]} == {'one', 'two'}
    assert not node.background and node.committed == len(node.given)


def test_its_share_under_load_and_no_more():
    node = Worker({'work': 10 ** 9})
    driver = Driver(Records())
    driver.node = node
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        driver.add(partial(Connection, socket=ours, accepted=lambda: None))
        theirs.sendall(preamble())
        driver.turn(driver.poll(0))
        node.starting()
        began, asked = time.perf_counter(), 0
        while time.perf_counter() - began < 1:
            theirs.sendall(encode(Ping(), 1))
            theirs.recv(1000)               # what was answered before
            asked += 1
            driver.turn(driver.poll(0))
        share = node.spent / (time.perf_counter() - began)
        driver.close()
    assert len(node.given) > 5 and asked > 100
    assert limits.SLICE_SHARE / 2 < share < limits.SLICE_SHARE * 2


def test_what_came_before_a_slice_is_answered_before_it():
    class Late(Worker):
        def slice(self, name, amount):
            answers.append(theirs.recv(1000))
            super().slice(name, amount)

        def received(self, connection, packet, request_id):
            super().received(connection, packet, request_id)
            self.want_slices('work')
            slow = time.monotonic() + 2 * limits.SLICE_QUIET
            until(lambda: time.monotonic() > slow)      # a slice is overdue when this turn ends

    driver, answers = Driver(Records()), []
    node = driver.node = Late({'work': 1})
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        driver.add(partial(Connection, socket=ours, accepted=lambda: None))
        theirs.sendall(preamble() + encode(Ping(), 1))
        until(lambda: driver.turn(driver.poll(0)) or node.given)
        driver.close()
    assert answers[0].endswith(encode(Ping.Answer(), 1))
