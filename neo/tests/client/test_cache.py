from hypothesis import given, settings
from hypothesis import strategies as st

from ...client.core.cache import MAX_REVISIONS, OVERHEAD, Cache

OIDS = st.integers(0, 5)
OPERATIONS = st.lists(st.one_of(
    st.tuples(st.just('write'), OIDS, st.integers(0, 60)),
    st.tuples(st.just('load'), OIDS, st.integers(0, 20)),
), max_size=200)


class History:
    """What is true: all revisions that were ever written."""

    def __init__(self):
        self.last = 1
        self.revisions = {oid: [(1, b'')] for oid in range(6)}

    def write(self, oid, data):
        self.last += 1
        self.revisions[oid].append((self.last, data))

    def before(self, oid, tid):
        """(tid, next tid, data)"""
        below = [i for i, (t, _) in enumerate(self.revisions[oid]) if t < tid]
        if below:
            revisions = self.revisions[oid]
            next_tid = revisions[below[-1] + 1][0] if below[-1] + 1 < len(revisions) else None
            return revisions[below[-1]][0], next_tid, revisions[below[-1]][1]


@settings(max_examples=300, deadline=None)
@given(OPERATIONS, st.sampled_from([1000, 3000, 10**6]))
def test_what_is_found_is_true(operations, size):
    cache, history = Cache(size), History()
    for what, oid, number in operations:
        if what == 'write':
            history.write(oid, bytes(number))
            cache.invalidate(oid, history.last)
            if number % 2:              # an own commit
                cache.add(oid, history.last, None, 0, None, bytes(number))
            continue
        before = max(2, history.last + 1 - number)
        true = history.before(oid, before)
        entry = cache.load(oid, before, history.last)
        if entry is not None:
            assert (entry.tid, entry.next_tid, entry.data) == true
        else:
            cache.add(oid, true[0], true[1], 0, None, true[2])
        check(cache)


def check(cache):
    """Queues and chains hold the same entries, within the limit."""
    chained = []
    for oid, entry in cache._newest.items():
        tids, entries = [], 0
        while entry is not None:
            assert entry.oid == oid and entry.queue is not None
            assert entry.next_tid is not None or not tids
            tids.append(entry.tid)
            chained.append(entry)
            entries += 1
            entry = entry.older
        assert tids == sorted(tids, reverse=True) and entries <= MAX_REVISIONS
    queued = [e for q in (cache._small, cache._main) for e in q.entries if e.queue is q]
    assert {id(e) for e in chained} == {id(e) for e in queued}
    assert len(queued) == len(chained) == len(cache)
    assert cache.size == sum(len(e.data) + OVERHEAD for e in chained) <= cache.max_size


def add(cache, oid, size=700):
    cache.add(oid, 1, None, 0, None, bytes(size))


def hit(cache, oid):
    return cache.load(oid, 2, 5) is not None


def test_a_scan_does_not_drive_out_what_is_used():
    cache = Cache(100 * 1000)
    for _ in range(3):
        for oid in range(50):
            hit(cache, oid) or add(cache, oid)
    for oid in range(1000, 3000):
        hit(cache, oid) or add(cache, oid)
    assert sum(hit(cache, oid) for oid in range(50)) == 50
    check(cache)


def test_what_comes_back_soon_stays():
    cache = Cache(20 * 1000)
    add(cache, 1)
    for oid in range(100, 120):         # it has to go …
        add(cache, oid)
    assert not hit(cache, 1)
    add(cache, 1)                       # … and was known
    for oid in range(200, 300):
        add(cache, oid)
    assert hit(cache, 1)


def test_an_object_that_is_written_all_the_time_has_a_bounded_past():
    cache = Cache(10**6)
    for tid in range(1, 1000):
        cache.invalidate(7, tid)
        cache.add(7, tid, None, 0, None, b'x')
    assert len(cache) == MAX_REVISIONS
    check(cache)
    for tid in range(999, 0, -1):       # older and older snapshots
        cache.add(8, tid, tid + 1, 0, None, b'x')
    assert len(cache) == 2 * MAX_REVISIONS
    check(cache)


def test_too_large_is_not_kept():
    cache = Cache(1000)
    cache.add(1, 1, None, 0, None, bytes(1000))
    assert not len(cache) and not cache.size


def test_clear_and_statistics():
    cache = Cache(10**6)
    add(cache, 1)
    assert hit(cache, 1) and not hit(cache, 2)
    cache.invalidate(1, 9)
    statistics = cache.statistics()
    assert statistics['hits'] == statistics['misses'] == statistics['invalidated'] == 1
    assert statistics['entries'] == 1 and statistics['bytes'] == 700 + OVERHEAD
    cache.clear()
    assert not len(cache) and not cache.size and not hit(cache, 1)
    add(cache, 1)
    check(cache)


def test_what_is_discarded_is_gone():
    cache = Cache(10**6)
    entry = cache.add(1, 1, 5, 0, None, b'1')
    cache.add(1, 5, None, 0, None, b'2')
    cache.discard(entry)
    cache.discard(entry)
    assert cache.load(1, 5, 9) is None and cache.load(1, 6, 9).data == b'2'
    check(cache)
