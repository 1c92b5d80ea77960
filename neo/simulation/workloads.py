"""What clients do.  Each workload makes its objects, changes them in transactions, and knows what
must hold in every state they ever had.

`setup` and `transact` are generators run by `Application`.
"""
from ..client.exception import NEOStorageError, NoObject, NoRevision
from .application import history_of, iterate, load, load_latest


class Workload:
    """`rnd` is of the workload, common to its threads."""

    kind = None
    resolve = None                  # for conflicts, see `Work`

    def __init__(self, rnd):
        self.rnd = rnd
        self.oids = []

    def setup(self, work):
        """Write the first values; called again, with another transaction, if that fails."""
        self.oids = []
        for value in self.initial():
            oid = yield from work.new(value)
            self.oids.append(oid)

    def check(self, values, before, attempts):
        """Yield complaints about the state after one transaction: `values` of all objects by oid,
        what the changed ones were `before`, and the number of the attempt that wrote each."""
        return ()


class Bank(Workload):
    """Transfers between accounts.  The total never changes, and is right in every snapshot."""

    kind = 'bank'

    def initial(self):
        return [100] * self.rnd.randint(2, 10)

    def transact(self, work, rnd):
        if rnd.random() < .3:
            total = 0
            for oid in self.oids:
                total += yield from work.read(oid)
            if total != 100 * len(self.oids):
                work.suspect('%s reads %d in all accounts before %d, not %d' % (
                    work.attempt.client, total, work.before, 100 * len(self.oids)))
        source, target = rnd.sample(self.oids, 2)
        old = yield from work.read(source)
        new = yield from work.read(target)
        amount = rnd.randint(1, 20)
        work.write(source, old - amount)
        work.write(target, new + amount)
        yield from work.commit()

    def check(self, values, before, attempts):
        total = sum(values[oid] for oid in self.oids)
        if total != 100 * len(self.oids):
            yield 'all accounts hold %d, not %d' % (total, 100 * len(self.oids))


class Counters(Workload):
    """Increments; conflicts are resolved by adding both."""

    kind = 'counter'

    def __init__(self, rnd):
        super().__init__(rnd)
        self.increments = {}        # (attempt number, oid) -> increment

    @staticmethod
    def resolve(old, committed, new):
        return committed + new - old

    def initial(self):
        return [0] * self.rnd.randint(1, 3)

    def transact(self, work, rnd):
        for oid in rnd.sample(self.oids, rnd.randint(1, len(self.oids))):
            value = yield from work.read(oid)
            increment = rnd.randint(1, 9)
            self.increments[work.attempt.number, oid] = increment
            work.write(oid, value + increment)
        yield from work.commit()

    def check(self, values, before, attempts):
        for oid in self.oids:
            if oid in before and oid in attempts:
                expected = before[oid] + self.increments[attempts[oid], oid]
                if values[oid] != expected:
                    yield 'counter %d went from %d to %d, not %d' % (
                        oid, before[oid], values[oid], expected)


class Chains(Workload):
    """Lists that only grow: each revision is the former one with one number more."""

    kind = 'chain'
    LENGTH = 20                     # only the last ones are kept, behind a count

    def initial(self):
        return [[0]] * self.rnd.randint(1, 4)

    def transact(self, work, rnd):
        for oid in rnd.sample(self.oids, rnd.randint(1, min(2, len(self.oids)))):
            value = yield from work.read(oid)
            work.write(oid, self._longer(value, work.attempt.number))
        yield from work.commit()

    def _longer(self, value, number):
        return [value[0] + 1, *value[1:][-self.LENGTH:], number]

    def check(self, values, before, attempts):
        for oid in self.oids:
            if oid in before and values[oid] != self._longer(before[oid], attempts[oid]):
                yield 'chain %d went from %s to %s' % (oid, before[oid], values[oid])


class Pairs(Workload):
    """One of each two must stay set.  Who unsets one writes only that, and checks the other."""

    kind = 'pair'

    def initial(self):
        return [1, 1] * self.rnd.randint(1, 3)

    def transact(self, work, rnd):
        first = 2 * rnd.randrange(len(self.oids) // 2)
        mine, other = rnd.sample(self.oids[first:first + 2], 2)
        value = yield from work.read(mine)
        others = yield from work.read(other)
        if not (value or others):
            work.suspect('%s reads a pair of which none is set' % work.attempt.client)
        if value and others:
            work.check(other)
            work.write(mine, 0)
        else:
            work.write(mine, 1)
        yield from work.commit()

    def check(self, values, before, attempts):
        for first in range(0, len(self.oids), 2):
            pair = self.oids[first:first + 2]
            if not any(values[oid] for oid in pair):
                yield 'none of the pair %s is set' % pair


class Creations(Workload):
    """New objects, sometimes many or large, so that they go out in several batches."""

    kind = 'creation'

    def initial(self):
        return [[]]

    def transact(self, work, rnd):
        directory = self.oids[0]
        yield from work.read(directory)
        created = []
        count, size = rnd.choice([(1, 0), (3, 100), (10, 1000), (10, 1000), (4, 100_000)])
        for i in range(rnd.randint(1, count)):
            oid = yield from work.new(i, bytes([rnd.randrange(256)]) * size)
            created.append(oid)
        if rnd.random() < .7:
            work.write(directory, created)
        yield from work.commit()

    def check(self, values, before, attempts):
        for oid in values[self.oids[0]]:
            if oid not in values:
                yield 'object %d is named and not there' % oid


class Imports(Workload):
    """Batches of transactions with tids of their own: of new objects, of common ones, and of some
    whose oids the cluster has never given.  Several are under way at once."""

    kind = 'import'
    FOREIGN = 1 << 32               # there the oids of others begin
    APART = 1 << 20                 # more than anybody takes ahead

    def initial(self):
        self.foreign = self.FOREIGN
        return [0] * 3

    def transact(self, work, rnd):
        works, waiting, tids = [work], [], ()
        for _ in range(rnd.choice([0, 0, 1, 3])):
            works.append(work.another())
        after = None
        for work in works:
            yield from self._prepare(work, rnd)
            tids = [tid for tid in work.soon(rnd.randint(1, 4)) if tid > max(tids, default=0)]
            if not tids:
                break
            # Each may be waited for in any order: they end in that in which they have begun.
            waiting.append(work.import_batch(tids, after))
            after = work if rnd.random() < .5 else None
        errors = []
        for wait in waiting:
            try:
                yield from wait
            except NEOStorageError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _prepare(self, work, rnd):
        for oid in rnd.sample(self.oids, rnd.randint(0, 3)):
            work.write(oid, 0)
        for i in range(rnd.choice([1, 5, 30])):
            yield from work.new(i, bytes(rnd.choice([0, 1000])))
        if rnd.random() < .3:
            self.foreign += self.APART
            work.history.given(self.foreign, work.attempt.client)
            work.write(self.foreign, 0)
            self.oids.append(self.foreign)


class Chosen(Workload):
    """Transactions that want a certain tid; the objects are few, so that they meet."""

    kind = 'chosen tid'

    def initial(self):
        return [[0]] * 2

    def transact(self, work, rnd):
        for oid in rnd.sample(self.oids, rnd.randint(1, 2)):
            value = yield from work.read(oid)
            work.write(oid, [value[0] + 1, work.attempt.number])
        wanted = work.soon() if rnd.random() < .7 else ()
        yield from work.commit(*wanted)

    def check(self, values, before, attempts):
        for oid in self.oids:
            if oid in before and values[oid] != [before[oid][0] + 1, attempts[oid]]:
                yield 'object %d went from %s to %s' % (oid, before[oid], values[oid])


class Watched(Workload):
    """One object that many check while they write their own, and that few write, who have begun
    long before."""

    kind = 'watched'

    def initial(self):
        return [0] * 5

    def transact(self, work, rnd):
        if rnd.random() < .3:
            yield from work.begin()
            yield rnd.choice([.01, .1, .5])
            yield from work.change(self.oids[0], work.attempt.number)
        else:
            yield from work.read(self.oids[0])
            work.check(self.oids[0])
            yield from work.change(rnd.choice(self.oids[1:]), work.attempt.number)
        yield from work.commit()


class Deletions(Workload):
    """Objects that come and go."""

    kind = 'deletion'

    def initial(self):
        return [0] * 3

    def transact(self, work, rnd):
        application, before = work.application, work.before
        for oid in rnd.sample(self.oids, rnd.randint(1, 2)):
            revision, *_ = yield from history_of(application, oid, before, rnd.choice([1, 3, 100]))
            work.knows(oid, revision.tid)
            if revision.size:
                yield from work.read(oid)
                work.remove(oid)
            else:
                try:
                    yield from load(application, oid, before)
                    work.suspect('object %d was read, and is deleted' % oid)
                except (NoObject, NoRevision):
                    pass
                work.write(oid, work.attempt.number)
        yield from work.commit()


class Readings(Workload):
    """Reads of all kinds, also of what is current, whatever ZODB has been told."""

    kind = 'reading'

    def initial(self):
        return [0] * 3

    def transact(self, work, rnd):
        application, last_tid = work.application, work.client.last_tid
        kind = rnd.random()
        if kind < .3:
            # Where chunks are tiny, all of the past would take too long.
            recent = [a.tid for a in work.history.attempts[-50:] if a.tid is not None]
            yield from iterate(application, min([*recent, last_tid]), last_tid + 1)
        elif kind < .6:
            for oid in rnd.sample(self.oids, 2):
                yield from load_latest(application, oid)
        elif kind < .8:
            yield from history_of(application, rnd.choice(self.oids), last_tid + 1, 100)
        for oid in rnd.sample(self.oids, rnd.randint(0, 2)):
            yield from work.change(oid, work.attempt.number)
        if work.attempt.writes:
            yield from work.commit()


WORKLOADS = (Bank, Counters, Chains, Pairs, Creations, Imports, Chosen, Watched, Deletions,
             Readings)
