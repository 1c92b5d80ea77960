"""What simulations rely on, beyond the interface: crashes, planted failures, full disks."""
import pytest

from neo.protocol.limits import FREE_SPACE_RESERVE
from neo.storage.engine.interface import EngineError
from neo.storage.engine.memory import MemoryEngine

from .samples import everything, metadata, record


def change_everything(engine):
    engine.put('a', 2)
    engine.put('b', 2)
    engine.pend(1, [record(1, b'again'), record(2)])
    engine.forget(2)
    engine.vote(1, [metadata(1)])
    engine.lock_voted(1, 100)
    engine.lock_voted(3, 30)
    engine.unlock(3)
    engine.add(9, 90, [metadata(1, 9)], [record(1), record(9)])
    engine.pend(4, [record(4)])
    engine.drop_unvoted()


def prepared():
    engine = MemoryEngine()
    engine.put('a', 1)
    engine.add(8, 80, [metadata(8)], [record(8), record(1)])
    for ttid in (1, 2, 3):
        engine.pend(ttid, [record(ttid)])
    engine.vote(2, [metadata(2)])
    engine.vote(3, [metadata(3)])
    engine.commit()
    return engine


def state(engine):
    return everything(engine), engine.get('a'), engine.get('b'), engine._pended, engine._voted


def test_a_crash_goes_back_to_the_commit():
    engine = prepared()
    change_everything(engine)
    assert state(engine) != state(prepared())
    engine.crash()
    assert state(engine) == state(prepared()) and not engine.changed
    change_everything(engine)
    engine.commit()
    changed = state(engine)
    engine.crash()
    assert state(engine) == changed


def test_reopened():
    engine = prepared()
    change_everything(engine)
    other = engine.reopened()
    assert state(other) == state(prepared())
    with pytest.raises(EngineError):
        engine.get('a')
    other.put('a', 3)
    other.commit()
    assert other.reopened().get('a') == 3


def test_the_nth_call_fails():
    """Whichever call fails, nothing of the turn is there afterwards."""
    engine = prepared()
    calls = engine.calls
    change_everything(engine)
    count = engine.calls - calls
    for number in range(1, count + 2):
        engine = prepared()
        engine.fail_at(number)
        with pytest.raises(EngineError, match='planted'):
            change_everything(engine)
            engine.commit()
        with pytest.raises(EngineError):
            engine.commit()
        assert state(engine.reopened()) == state(prepared())
    engine = prepared()
    engine.fail_at(count + 2)
    change_everything(engine)
    engine.commit()


def test_a_full_disk():
    engine = MemoryEngine(capacity=FREE_SPACE_RESERVE + 1000)
    assert engine.free_space() == 1000
    engine.add(1, 10, [], [record(1, b'x' * 500)])
    engine.commit()
    assert 0 < engine.free_space() < 500
    engine.pend(2, [record(2, b'x' * 500)])
    assert engine.free_space() == 0
    engine.capacity = 1000
    with pytest.raises(EngineError, match='full'):
        engine.commit()
    engine = engine.reopened()
    engine.capacity += FREE_SPACE_RESERVE
    assert 0 < engine.free_space() < 500 and engine.current(1) == 10
    engine.pend(2, [record(2, b'x' * 300)])
    engine.commit()
    engine.forget(2)
    engine.capacity = 1         # the disk has shrunk: what makes room is not refused
    engine.commit()
    assert engine.unfinished() == []
