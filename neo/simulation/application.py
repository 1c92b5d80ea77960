"""What stands above a client core: threads, and ZODB's part of a transaction.

A thread is a generator that yields operations of the client and gets their results, or yields a
number of seconds to sleep.  All run in the turns of the client's process, so they never meet within
one call.
"""
from random import Random

from msgpack import packb, unpackb

from ..client.core.operation import failed
from ..client.core.loads import Regroup
from ..client.exception import NoObject, NoRevision, OutcomeUnknown, TransactionFailed
from ..cluster.ids import tid_at
from ..protocol.checksum import checksum
from ..protocol.types import MAX_TID, Compression, Record
from . import history as outcome

CHUNKS = 300                    # of one iteration


class GaveUp(Exception):
    """The application aborts this transaction by its own will."""


class Application:
    def __init__(self, world, process, history, rnd):
        self.world = world
        self.process = process
        self.client = process.node
        self.label = process.label
        self.history = history
        self.rnd = rnd
        self.threads = 0                # that have not ended
        self.busy = 0                   # transactions that have begun and not ended
        self.stopping = False           # threads begin nothing any more
        self._waiting = {}              # id of an operation -> (operation, generator)
        self._delivering = self._welcomed = False
        self.slow = rnd.choice([.0001, .001, .02])      # threads don't run at once
        self._attach()

    def _attach(self):
        self.process.after_step = self.after_step
        self.process.on_interrupt = self.replace

    def spawn(self, generator):
        """Run a generator as one more thread."""
        self.threads += 1
        self.process.call(lambda: self._go_on(generator, None))

    def _go_on(self, generator, operation):
        self.client.now = self.process.now()
        try:
            while True:
                if operation is None:
                    wanted = next(generator)
                elif operation.error is not None:
                    wanted = generator.throw(operation.error)
                else:
                    wanted = generator.send(operation.result)
                if isinstance(wanted, (int, float)):
                    self.world.scheduler.after(wanted, self._wake, generator, None)
                    return
                operation = self._asked_of_present(wanted)
                if not operation.done:
                    self._waiting[id(operation)] = operation, generator
                    return
        except StopIteration:
            self.threads -= 1

    def _wake(self, generator, operation):
        self.process.call(lambda: self._go_on(generator, operation))

    def _asked_of_present(self, operation):
        """A thread that has not heard of a replacement yet is told by what it does next."""
        if operation.done or operation in self.client.operations.unfinished:
            return operation
        if hasattr(operation, 'ttid'):          # an import: nobody was waiting for it yet
            return self.client.find_out(operation)
        return failed(TransactionFailed('the client was replaced'))

    def replace(self):
        """As neo.client does when a thread was interrupted in the middle of the core: a fresh one
        takes its place; who waits learns what became of a finish, anything else has failed."""
        former, machine = self.client, self.process.machine
        self.client = machine.make_node(machine, Random(self.rnd.random()))
        self.client.succeed_to(former)
        self.process = self.process.replaced(self.client)
        self._attach()
        self._delivering = False
        waiting, self._waiting = self._waiting, {}
        for operation, generator in waiting.values():
            if not operation.done:
                operation = self._asked_of_present(operation)
            if operation.done:
                self._wake(generator, operation)
            else:
                self._waiting[id(operation)] = operation, generator

    def waiting(self):
        """The operations that threads wait for."""
        return [operation for operation, _ in self._waiting.values()]

    def after_step(self):
        """In each turn of the process, after all events."""
        completed = self.client.completed
        while completed:
            operation = completed.pop(0)
            waiting = self._waiting.pop(id(operation), None)
            if waiting is not None:
                self.world.scheduler.after(self.rnd.random() * self.slow, self._wake,
                                           waiting[1], operation)
        if not self._welcomed and self.client.history is not None:
            # What it reads from now on it must be told of.
            self._welcomed = True
            self.history.hears(self.label, self.client.last_tid, None)
        if self.client.invalidations and not self._delivering:
            self._delivering = True
            self.world.scheduler.after(self.rnd.random() * self.slow,
                                       self.process.call, self._deliver)

    def _deliver(self):
        """ZODB is told of what has come; in reality outside the lock of the client."""
        self._delivering = False
        while self.client.invalidations:
            tid, oids, _ = self.client.invalidations.popleft()
            self.history.hears(self.label, tid, oids)
            self.client.now = self.process.now()
            self.client.delivered(tid)


class Work:
    """One transaction, done as a ZODB connection does it: reads at one snapshot, then all at once.

    Every method that waits is a generator, used with `yield from`.
    """

    def __init__(self, application, kind, resolve=None, patience=1.0):
        self.application = application
        self.client = application.client
        self.history = application.history
        self.attempt = self.history.attempt(application.label, kind)
        self.before = self.client.last_tid + 1
        self.resolve = resolve          # function(old, committed, new values) -> value
        self.patience = patience        # chance to go on at each step
        self.transaction = self.operation = None
        self._values = {}               # oid -> value read
        self._serials = {}

    def another(self):
        """One more of the same kind, by the same thread."""
        return Work(self.application, self.attempt.kind, self.resolve, self.patience)

    def _step(self):
        if self.application.rnd.random() >= self.patience:
            raise GaveUp

    def read(self, oid):
        """The value of an object at the snapshot of this transaction."""
        if oid not in self._values:
            record = yield from load(self.application, oid, self.before)
            self._serials[oid] = record[0]
            self._values[oid] = unpack(record[4])
        return self._values[oid]

    def write(self, oid, value, filler=b''):
        base = self._serials.get(oid, 0)
        self.attempt.writes[oid] = base, pack(self.attempt.number, value, filler)

    def change(self, oid, value):
        """Write an object, which may not be there yet."""
        try:
            yield from self.read(oid)
        except NoObject:
            pass
        self.write(oid, value)

    def remove(self, oid):
        """Delete an object."""
        self.attempt.writes[oid] = self._serials[oid], None

    def knows(self, oid, serial):
        """`serial` is that of the object at the snapshot, learnt without reading it."""
        self._serials[oid] = serial

    def new(self, value, filler=b''):
        """Write a new object; gives its oid."""
        oid = yield self.client.new_oid()
        self.history.given(oid, self.application.label)
        self.write(oid, value, filler)
        return oid

    def check(self, oid):
        """It must still be what was read when this transaction commits."""
        self.attempt.checks[oid] = self._serials[oid]

    def suspect(self, problem, before=None):
        """What can't be in this snapshot, or in another one."""
        self.history.suspects.append((before or self.before, problem))

    def begin(self):
        """Take a ttid before all else.  Whoever does so and then takes his time is older than most
        of those he meets."""
        self.transaction = yield self.client.begin()

    def commit(self, wanted=None):
        """Gives the tid, or raises whatever prevents it; then nothing of it may stay.
        `wanted`: the tid that it is to have, None for any."""
        attempt = self.attempt
        attempt.wanted = wanted
        try:
            yield from self.vote(self.transaction or (yield self.client.begin(wanted)))
        except BaseException:
            attempt.state = outcome.ABORTED
            if self.transaction is not None:
                self.client.abort(self.transaction)
            raise
        attempt.state = outcome.FINISHING
        attempt.began = self.application.world.now
        try:
            attempt.tid = yield self.client.finish(self.transaction)
        except Exception as error:
            attempt.state = outcome_of(error)
            self.client.abort(self.transaction)
            raise
        if wanted not in (None, attempt.tid):
            self.history.problems.append('%s was to have the tid %d' % (attempt, wanted))
        yield from self._committed()
        return attempt.tid

    def vote(self, transaction):
        """All up to the vote."""
        attempt = self.attempt
        self.transaction = transaction
        attempt.ttid = transaction.ttid
        self._step()
        for oid in attempt.writes:
            yield self._store(oid)
        for oid, serial in attempt.checks.items():
            yield self.client.check(transaction, oid, serial)
        self._step()
        yield from self._vote()
        self._step()

    def soon(self, count=1):
        """Tids of the near future, that nobody else wants.  Others commit meanwhile: what is not
        far enough ahead is refused."""
        # A tid that is ahead of every clock is refused: one that is wrong is not used for it.
        process = self.application.process
        now = max(self.client.heard, tid_at(process.now() - max(0.0, process.offset)))
        return sorted({now + self.application.rnd.randint(1, 1 << 26) for _ in range(count)}
                      - self.history.imported.keys())

    def import_batch(self, tids, after=None):
        """Commit what was written, dealt out to transactions with these tids, as one.  Begins at
        once; gives what waits for its end.  `after`: such a one of before."""
        attempt, history = self.attempt, self.history
        batch = [(tid, {}) for tid in tids]
        for i, (oid, (_, data)) in enumerate(attempt.writes.items()):
            batch[i % len(batch)][1][oid] = data
        attempt.imposed = batch
        history.imported.update((tid, attempt) for tid, _ in batch)
        attempt.state = outcome.FINISHING
        attempt.began = self.application.world.now
        self.operation = self.client.import_batch([
            (tid, 'p', b'', b'import', b'', [record_of(oid, None, data, tid)
                                             for oid, data in sorted(writes.items())])
            for tid, writes in batch], after and after.operation)
        return self._import(attempt)

    def _import(self, attempt):
        try:
            attempt.tid = yield self.operation
        except Exception as error:
            attempt.state = outcome_of(error)
            raise
        yield from self._committed()

    def _committed(self):
        attempt = self.attempt
        attempt.state = outcome.COMMITTED
        attempt.told = self.application.world.now
        self.history.commits[attempt.client] += 1
        while self.application.client.last_tid < attempt.tid:
            yield .001              # as tpc_finish, which tells ZODB before it returns

    def _store(self, oid):
        base, data = self.attempt.writes[oid]
        return self.client.store(self.transaction, record_of(oid, base, data, self.attempt.wanted))

    def _vote(self):
        metadata = ' ', b'user', b'%s %d' % (self.attempt.kind.encode(), self.attempt.number), b''
        for _ in range(20):
            conflicts = yield self.client.vote(self.transaction, metadata)
            if not conflicts:
                return
            for oid, base, serial, is_check in conflicts:
                self.history.conflicts.append((self.attempt, oid, base, serial))
                if is_check or self.resolve is None:
                    raise GaveUp
                yield from self._resolve(oid, base, serial)
                yield self._store(oid)
        raise GaveUp

    def _resolve(self, oid, base, serial):
        old = yield from load(self.application, oid, base + 1)
        if old[0] != base:              # what was read is gone
            self.suspect('%s read object %d of %d, which is not there' % (self.attempt, oid, base),
                         base + 1)
            raise GaveUp
        committed = yield from load(self.application, oid, serial + 1)
        if committed[0] != serial:
            self.suspect('%s was told that the serial of %d is %d and read %d' % (
                self.attempt, oid, serial, committed[0]), serial + 1)
        value = self.resolve(unpack(old[4]), unpack(committed[4]),
                             unpack(self.attempt.writes[oid][1]))
        self.attempt.writes[oid] = serial, pack(self.attempt.number, value)


def outcome_of(error):
    """The state of a transaction whose *finish* has failed so."""
    return outcome.UNKNOWN if isinstance(error, OutcomeUnknown) else outcome.ABORTED


def load(application, oid, before):
    """Load and take notes of what was answered."""
    note = application.history.loads.append
    try:
        record = yield application.client.load_before(oid, before)
    except (NoObject, NoRevision):
        note((application.label, oid, before, None, None, None))
        raise
    note((application.label, oid, before, record[0], record[1], record[4]))
    return record


def load_latest(application, oid):
    """The tid of the current revision as of the call, or a later one; None: there is none."""
    heard = application.client.heard
    try:
        record = yield application.client.load_before(oid, MAX_TID)
    except NoObject:
        record = None, None, None, None, None
    application.history.latest.append((application.label, oid, heard, record[0], record[4]))
    return record[0]


def history_of(application, oid, before, limit):
    """`[(tid, size)]`, newest first."""
    revisions = yield application.client.object_history(oid, before, limit)
    application.history.revisions.append(
        (application.label, oid, before, limit, [revision.tid for revision in revisions]))
    return revisions


def iterate(application, start, stop):
    """All transactions and records with start <= tid < stop, chunk by chunk.  Nothing is noted of
    one that takes too many: where chunks are small and the network is slow, its thread would do
    nothing else."""
    client = application.client
    left = CHUNKS
    yield client.when_ready()
    transactions, records = {}, {}
    for call, place in (client.list_transactions, (start,)), (client.list_records, (start, None)):
        waiting = client.groups()
        while waiting:
            rows, at = waiting.pop(), place
            while at is not None:
                left -= 1
                if not left:
                    return
                found = yield call(rows, *at, stop)
                if isinstance(found, Regroup):      # these rows can't be read together any more
                    waiting += found.groups
                    break
                found, at = found
                if call == client.list_transactions:
                    transactions.update((row.tid, (row.ttid, row.oids)) for row in found)
                    at = at and (at,)
                else:
                    records.update(((row.tid, row.oid), row.data) for row in found)
    application.history.chunks.append((application.label, start, stop, transactions, records))


# -- the data of objects ----------------------------------------------------------------------
def pack(attempt, value, filler=b''):
    """Every revision is another one: it names the attempt that wrote it."""
    return packb((attempt, value, filler))


def unpack(data):
    """The value, as lists and integers."""
    return unpackb(data)[1]


def attempt_of(data):
    return unpackb(data)[0]


def record_of(oid, base, data, tid=None):
    return Record(oid, base, tid, Compression.NONE, checksum(data or b''), data, None)
