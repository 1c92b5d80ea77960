"""How the primary is found among several masters."""
import random
import re

import pytest

from neo.cluster import events
from neo.cluster.node import Node
from neo.cluster.seek import TIMER, Seek
from neo.protocol import limits

A, B, C = ('a', 1), ('b', 2), ('::1', 3)


class Seeker(Node):
    """A node that does nothing but seek, and what it does."""

    def __init__(self, *masters):
        super().__init__(random.Random(1))
        self.seek = Seek(masters)
        self.pauses, self.lines, self.tried = [], [], []
        self.now = 1000.0
        self.seek.connect(self)
        self.effects()

    def effects(self):
        for effect in self.ready().effects:
            if type(effect) is events.Connect:
                self.tried.append(effect.address)
            elif type(effect) is events.Log:
                self.lines.append(effect.message)
            else:
                assert type(effect) is events.SetTimer and effect.name == TIMER
                self.pauses.append(round(effect.at - self.now, 3))

    def fail(self, reason='refused', times=1):
        for _ in range(times):
            self.seek.failed(self, reason)
            self.effects()
            self.now += self.pauses[-1]
            self.seek.connect(self)
            self.effects()


def test_all_masters_are_tried_by_turns():
    seeker = Seeker(A, B, C)
    seeker.fail(times=6)
    assert seeker.tried == [A, B, C, A, B, C, A]


def test_there_is_a_pause_after_each_round_and_they_grow():
    seeker = Seeker(A, B)
    seeker.fail(times=16)
    assert seeker.pauses[0::2] == [0] * 8
    assert seeker.pauses[1:6:2] == [.1, .2, .4]
    assert seeker.pauses[-1] == limits.RECONNECT_DELAY_MAX


def test_one_that_was_found_and_is_lost_is_sought_without_delay():
    seeker = Seeker(A, B)
    seeker.fail(times=9)
    assert seeker.seek.address == B
    seeker.seek.found()
    assert seeker.seek.since is None and seeker.seek.address == B
    seeker.fail('lost', times=2)
    assert seeker.tried[-2:] == [A, B] and seeker.pauses[-2:] == [0, limits.RECONNECT_DELAY]


def test_one_line_until_the_trouble_is_another():
    seeker = Seeker(A, C)
    seeker.fail('refused', times=6)
    assert seeker.lines == ['no primary master at a:1: refused; [::1]:3: refused; trying again']
    seeker.fail('not ready', times=6)
    assert seeker.lines[1:] == [
        'no primary master at a:1: not ready; [::1]:3: not ready; trying again']
    seeker.seek.found()
    seeker.fail('not ready', times=2)
    assert len(seeker.lines) == 3


def test_daemons_say_it_again_more_and_more_rarely():
    seeker = Seeker(A)
    seeker.seek = Seek([A], remind=True)
    seeker.seek.connect(seeker)
    seeker.effects()
    said = []
    for _ in range(200):
        seeker.fail('refused')
        said += [seeker.now - 1000] * (len(seeker.lines) - len(said))
    pauses = [after - before for before, after in zip(said, said[1:])]
    # As far as the pauses between two attempts allow.
    for pause, wanted in zip(pauses, (5, 10, 20, 40, 60, 60, 60)):
        assert wanted - .1 < pause < wanted + limits.RECONNECT_DELAY_MAX + .1
    assert seeker.lines[0] == 'no primary master at a:1: refused; trying again'
    assert re.fullmatch(r'no primary master at a:1: refused \(for [5-7] s\); trying again',
                        seeker.lines[1])


@pytest.mark.parametrize('found', [False, True])
def test_since_when_it_is_missed(found):
    seeker = Seeker(A, B)
    if found:
        seeker.seek.found()
        seeker.now += 100
    seeker.fail('it is not the primary')
    seeker.now += 12
    assert seeker.seek.waiting(seeker.now) == (
        'no primary master at a:1: it is not the primary; b:2: not asked yet (for 12 s)')
