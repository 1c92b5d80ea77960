"""What simulations rely on, beyond the interface: crashes, planted failures, full disks."""
import pytest

from neo.storage.engine.interface import BrokenData, EngineError
from neo.storage.engine.memory import MemoryEngine

from .samples import add, clean, everything, lock, metadata, record


def change_everything(engine):
    engine.put('a', 2)
    engine.put('b', 2)
    engine.pend(1, [record(1, b'again'), record(2)])
    engine.forget(2)
    engine.prepare_lock(1, 100, 100, 1)
    lock(engine, 1, 100, [metadata(1)], [record(1), record(7)], (1,))
    engine.unlock(3)
    engine.drop(4)
    add(engine, 9, 110, [metadata(1, 9)], [record(1), record(9)])
    engine.pend(6, [record(4)])
    engine.prepare_lock(6, 120, 120, 1)
    for _ in range(4):
        engine.clean(1)


def prepared():
    engine = MemoryEngine()
    engine.put('a', 1)
    add(engine, 8, 80, [metadata(8)], [record(8), record(1)])
    for ttid in (1, 2):
        engine.pend(ttid, [record(ttid)])
    lock(engine, 3, 81, [metadata(3)], [record(3)], (1, 2))
    lock(engine, 4, 82, [metadata(3)], [record(3), record(4)], (1, 2))
    engine.commit()
    return engine


def state(engine):
    return everything(engine), engine.get('a'), engine.get('b'), engine._pended, engine._used


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
    assert other.needs_cleaning         # of what was pended
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
    engine = MemoryEngine(capacity=1000, reserve=0)
    assert engine.free_space() == 1000
    add(engine, 1, 10, [], [record(1, b'x' * 500)])
    engine.commit()
    assert 0 < engine.free_space() < 500
    engine.pend(2, [record(2, b'x' * 500)])
    assert engine.free_space() == 0
    with pytest.raises(EngineError, match='full'):
        engine.commit()
    engine = engine.reopened()
    assert 0 < engine.free_space() < 500 and engine.current(1) == 10
    engine.pend(2, [record(2, b'x' * 300)])
    engine.commit()
    engine.forget(2)
    engine.capacity = 1         # the disk has shrunk: what makes room is not refused
    clean(engine)
    engine.commit()
    assert not engine.needs_cleaning


@pytest.mark.parametrize('spilled', [True, False])
def test_what_was_promised_fits(spilled):
    engine = MemoryEngine(capacity=5000, reserve=0)
    assert engine.promise(1, 1000, 3) and engine.promise(2, 1000, 1)
    assert not engine.promise(3, 3000, 1)
    engine.full = True
    assert not engine.promise(3, 1, 1) and engine.space().free == 0
    records = [record(1, b'x' * 500), record(2, b'x' * 500)]
    if spilled:
        engine.pend(1, records)
        engine.commit()
        engine.prepare_lock(1, 10, 10, 1)
        records = []
    lock(engine, 1, 10, [metadata(1)], records)
    engine.commit()
    engine.put('x', 1)
    engine.commit()
    lock(engine, 3, 30, [], [record(3, b'nothing was promised')])
    with pytest.raises(EngineError, match='full'):
        engine.commit()


def test_broken_places():
    engine = MemoryEngine()
    for tid in (10, 20, 30):
        add(engine, tid, tid, [metadata(1)], [record(1), record(2)])
    engine.put('x', 1)
    engine.commit()
    engine.broken = {(20, 2), (20, None), 'x'}
    for call, position in (
            (lambda: engine.load(2, 30), (20, 2)), (lambda: engine.get('x'), None),
            (lambda: engine.records(20, 1, 40, 1, (0,), 9, 999), (20, 2)),
            (lambda: engine.transactions(20, 40, 1, (0,), 9, 999), (20, None))):
        with pytest.raises(BrokenData) as caught:
            call()
        assert caught.value.position == position
    assert engine.load(2, 40)[0] == 30 and engine.load(1, 30)[0] == 20
    assert [r[:2] for r in engine.records(0, None, 40, 1, (0,), 9, 999)[0]] == [
        (1, 10), (2, 10), (1, 20)]
    assert [t.tid for t in engine.transactions(0, 40, 1, (0,), 9, 999)[0]] == [10]
    engine.put('x', 2)
    engine.commit()
