"""What must be true at the end: compares what clients were told, a
`History`, with what the engines hold, a `Past`.  Each oracle yields complaints."""
from bisect import bisect_right

from ..cluster.cuts import is_removed
from .application import attempt_of, unpack
from .history import ABORTED, COMMITTED, OPEN


MISSING = object()


def durable(history, past):
    """What was told to be committed is there, with that tid and data."""
    for attempt in history.attempts:
        if attempt.state == COMMITTED:
            for tid, writes in writes_of(attempt):
                if tid not in past.transactions:
                    yield '%s was told committed, and %d is not there' % (attempt, tid)
                for oid, data in writes.items():
                    if past.data.get((oid, tid), MISSING) != data:
                        yield '%s was told committed, and object %d at %d is not what it wrote' % (
                            attempt, oid, tid)


def writes_of(attempt):
    if attempt.imposed:
        return attempt.imposed
    return [(attempt.tid, {oid: data for oid, (_, data) in attempt.writes.items()})]


def atomic(history, past):
    """Each transaction is there whole, everywhere: its metadata, each object, and no other."""
    found = {}
    for oid, tid in past.data:
        found.setdefault(tid, set()).add(oid)
    by_ttid = {}
    for tid, (ttid, oids) in past.transactions.items():
        by_ttid.setdefault(ttid, []).append(tid)
        if set(oids) != found.get(tid, set()):
            yield 'transaction %d should have objects %s and has %s' % (
                tid, sorted(oids), sorted(found.get(tid, ())))
    for tid in sorted(found.keys() - past.transactions.keys()):
        yield 'objects %s at %d have no transaction' % (sorted(found[tid]), tid)
    for attempt in history.attempts:
        if attempt.imposed:
            tids = sorted(past.transactions.keys() & {tid for tid, _ in attempt.imposed})
            written = [(tid, set(writes)) for tid, writes in attempt.imposed]
        else:
            tids = sorted(by_ttid.get(attempt.ttid, ())) if attempt.ttid is not None else ()
            written = [(tid, set(attempt.writes)) for tid in tids[:1]]
        if tids and [(tid, found.get(tid, set())) for tid in tids] != written:
            yield '%s wrote %s, and it is there as %s' % (attempt, written, tids)


def no_zombies(history, past):
    """Nothing is there of what was aborted, or never was in finish."""
    states = {attempt.ttid: attempt for attempt in history.attempts if attempt.ttid is not None}
    for tid, (ttid, _) in sorted(past.transactions.items()):
        attempt = history.imported.get(tid) or states.get(ttid)
        if attempt is None:
            yield 'transaction %d has ttid %d, which nobody used' % (tid, ttid)
        elif attempt.state in (ABORTED, OPEN):
            yield '%s is there as %d' % (attempt, tid)
    for (oid, tid), data in sorted(past.data.items(), key=lambda item: item[0]):
        attempt = None if data is None else history.attempts[attempt_of(data)]
        if attempt is not None and attempt.state in (ABORTED, OPEN):
            yield 'object %d at %d was written by %s' % (oid, tid, attempt)


def snapshot(history, past):
    """Each load has answered what it would answer now."""
    for client, oid, before, tid, next_tid, data in history.loads:
        now = past.before(oid, before)
        if now is None or past.data[oid, now[0]] is None:
            if tid is not None:
                yield '%s has read object %d before %d as of %d: now it is not there' % (
                    client, oid, before, tid)
        elif tid is None:
            yield '%s has read no object %d before %d: now there is that of %d' % (
                client, oid, before, now[0])
        elif tid != now[0] or data != past.data[oid, tid]:
            yield '%s has read object %d before %d as of %d: now as of %d' % (
                client, oid, before, tid, now[0])
        elif next_tid is not None and next_tid != now[1]:
            yield '%s has read that object %d of %d ended at %d: now at %s' % (
                client, oid, tid, next_tid, now[1])


def current(history, past):
    """Who asked for the current revision got one that is not older than what he had heard of."""
    for client, oid, heard, tid, data in history.latest:
        at_least = past.before(oid, heard + 1)
        if tid is None:
            if at_least is not None and past.data[oid, at_least[0]] is not None and (
                    at_least[1] is None or not _was_deleted(past, oid)):
                yield '%s had heard of %d, and found no object %d: there is that of %d' % (
                    client, heard, oid, at_least[0])
        elif past.data.get((oid, tid), MISSING) != data:
            yield '%s was given object %d of %d, which is not there so' % (client, oid, tid)
        elif at_least is not None and tid < at_least[0]:
            yield '%s had heard of %d, and was given object %d of %d as current, not of %d' % (
                client, heard, oid, tid, at_least[0])


def _was_deleted(past, oid):
    return any(past.data[oid, tid] is None for tid in past.revisions[oid])


def listed(history, past):
    """An iteration has given all that there is, and the history of an object too."""
    for client, start, stop, transactions, records in history.chunks:
        expected = {tid: it for tid, it in past.transactions.items() if start <= tid < stop}
        if transactions != expected:
            yield 'from %d to %d %s has listed %s, where there are %s' % (
                start, stop, client, *_differences(transactions, expected))
        expected = {(tid, oid): data for (oid, tid), data in past.data.items()
                    if start <= tid < stop}
        if records != expected:
            yield 'from %d to %d %s has listed records %s, where there are %s' % (
                start, stop, client, *_differences(records, expected))
    for client, oid, before, limit, tids in history.revisions:
        expected = [tid for tid in past.revisions.get(oid, ()) if tid < before][::-1]
        # Storages may give fewer at once.
        if tids != expected[:len(tids)] or len(tids) < min(1, limit, len(expected)):
            yield '%s was told that the history of object %d before %d is %s, not %s' % (
                client, oid, before, tids, expected[:limit])


def _differences(one, other):
    return ({key: one[key] for key in one.keys() if one[key] != other.get(key, MISSING)},
            {key: other[key] for key in other.keys() if other[key] != one.get(key, MISSING)})


def ordered(history, past):
    """Tids grow, and each client hears of each transaction, with all objects of others."""
    tids = sorted(past.transactions)
    for client, tid, _, before in history.backwards:
        yield '%s heard of %d after %d' % (client, tid, before)
    for client, heard in history.heard.items():
        for tid, oids in heard:
            if oids is not None and tid not in past.transactions:
                yield '%s has heard of %d, which is not there' % (client, tid)
        for known in _pieces(heard):
            first, last = next(iter(known)), max(known)
            for tid in tids[bisect_right(tids, first):bisect_right(tids, last)]:
                own = history.imported.get(tid)
                if own is not None and own.client == client:
                    continue            # an import is told by its last tid
                if tid not in known:
                    yield '%s has never heard of %d, and has heard of %d' % (client, tid, last)
                elif not known[tid] >= set(past.transactions[tid][1]):
                    yield '%s has heard of %d without all its objects' % (client, tid)
    ttids = {}
    for attempt in history.attempts:
        if attempt.ttid is not None and ttids.setdefault(attempt.ttid, attempt) is not attempt:
            yield '%s and %s have the same ttid' % (attempt, ttids[attempt.ttid])


def _pieces(heard):
    """A client that is told that everything may have changed forgets all it had: it needs to hear
    of each transaction from there on.  Yields {tid: oids} of each such time."""
    known = {}
    for tid, oids in heard:
        if oids is None and known:
            yield known
            known = {}
        known[tid] = oids
    if known:
        yield known


def in_real_time(history, past):
    """What began after somebody was told of a tid comes after it, and a sync has shown it."""
    told = sorted((a.told, a.tid) for a in history.attempts if a.told is not None)
    asked = [(a.began, a.tid, a) for a in history.attempts if a.told is not None]
    asked += [(when, tid + 1, 'sync of %s' % client) for client, when, tid in history.syncs]
    highest = position = 0
    for when, tid, what in sorted(asked, key=lambda ask: ask[:2]):
        while position < len(told) and told[position][0] < when:
            highest = max(highest, told[position][1])
            position += 1
        if tid <= highest:
            yield '%s came to %d, when %d had been told already' % (what, tid, highest)


def no_lost_update(history, past):
    """Each revision was made from the one before it, and each checked one was still current."""
    states = {attempt.ttid: attempt for attempt in history.attempts if attempt.ttid is not None}
    for tid, (ttid, oids) in sorted(past.transactions.items()):
        attempt = states.get(ttid)
        if attempt is None:
            continue                    # an import, which replaces whatever is there
        bases = {oid: base for oid, (base, _) in attempt.writes.items()} | attempt.checks
        for oid, base in bases.items():
            before = past.before(oid, tid)
            if (before[0] if before else 0) != base:
                yield '%s wrote or checked object %d of %s at %d, when %s was current' % (
                    attempt, oid, base, tid, before)


def conflicts_are_true(history, past):
    """Who was told of a conflict was told which revision had been committed since the one that it
    was made from."""
    for attempt, oid, base, serial in history.conflicts:
        if serial <= base or serial not in past.revisions.get(oid, ()):
            yield '%s was told that object %d is of %d now, not of %d: there is %s' % (
                attempt, oid, serial, base, past.revisions.get(oid))


def syncs_are_true(history, past):
    """A sync names something that has been committed."""
    for client, when, tid in history.syncs:
        if tid and tid not in past.transactions:
            yield '%s was told, when it asked at %.6f, that %d is the last one' % (
                client, when, tid)


def truncated(history, past):
    """What was removed is nowhere, and what an operator has heard to be removed was."""
    for tid in past.transactions.keys() | {tid for _, tid in past.data}:
        if is_removed(past.cuts, tid):
            yield '%d was removed, and is there' % tid
    for tid in history.truncated:
        if all(cut.tid != tid for cut in past.cuts):
            yield 'all above %d was said to be removed, and is not' % tid


def equal_replicas(history, past):
    return past.different


def nothing_left_over(history, past):
    return past.left_over


def sound(history, past, workloads):
    """What the workloads say about each state there has ever been."""
    values = {}
    changes = {}
    for (oid, tid), data in past.data.items():
        changes.setdefault(tid, {})[oid] = data
    ready = {workload: False for workload in workloads}
    for tid in sorted(changes):
        before = {oid: values.pop(oid) for oid in changes[tid] if oid in values}
        there = {oid: data for oid, data in changes[tid].items() if data is not None}
        values.update((oid, unpack(data)) for oid, data in there.items())
        attempts = {oid: attempt_of(data) for oid, data in there.items()}
        for workload in workloads:
            if not ready[workload] and workload.oids and all(o in values for o in workload.oids):
                ready[workload] = True
            if ready[workload]:
                for complaint in workload.check(values, before, attempts):
                    yield 'at %d %s' % (tid, complaint)


ORACLES = (durable, atomic, no_zombies, snapshot, current, listed, ordered, in_real_time,
           no_lost_update, conflicts_are_true, syncs_are_true, truncated, equal_replicas,
           nothing_left_over)


def judge(history, past, workloads):
    """All complaints of all oracles, each with the name of its oracle."""
    if past.cuts:
        history = history.without(past.cuts)
    for problem in history.problems + [problem for _, problem in history.suspects]:
        yield 'at once: %s' % problem
    for oracle in ORACLES:
        for complaint in oracle(history, past):
            yield '%s: %s' % (oracle.__name__, complaint)
    for complaint in sound(history, past, workloads):
        yield 'sound: %s' % complaint
