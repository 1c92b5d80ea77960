"""The process that hosts a client is not ours: interrupts, signals, finalizers, forks, odd ids;
with real daemons."""
import gc
import logging
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from persistent.TimeStamp import TimeStamp
from transaction.interfaces import TransientError
from ZODB.BaseStorage import DataRecord
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import POSKeyError, StorageTransactionError
from ZODB.utils import p64, u64, z64

from ...client.exception import NEOStorageError, OutcomeUnknown
from ...cluster.ids import tid_at
from ..alarms import alarms, in_our_code
from ..daemons import Cluster, wait_for
from .test_client import begin, commit, soon



@pytest.fixture
def cluster():
    with Cluster() as cluster:
        cluster.options['server_sync'] = True
        yield cluster


class Interrupt(BaseException):
    """What a signal handler of an application raises."""


def count(database):
    """One more, in a transaction; gives what it is then."""
    with database.transaction() as connection:
        root = connection.root()
        root['n'] = n = root.get('n', 0) + 1
        root['text'] = str(n)
    return n


# -- interrupts and signals ---------------------------------------------------------------------
@pytest.mark.parametrize('moment', [0.0005, 0.002, 0.01])
def test_a_signal_handler_that_closes(cluster, moment):
    for _ in range(5):
        storage = cluster.client()
        database = ZODB.DB(storage)
        with soon(20), alarms(in_our_code) as alarm:
            alarm(storage.close, moment)
            with pytest.raises((NEOStorageError, StorageTransactionError)):
                while True:
                    count(database)
        transaction.abort()


@contextmanager
def held_up(storage):
    """Another thread is at work on the core, so that all others wait for it."""
    works, goes_on = threading.Event(), threading.Event()

    def work(core):
        works.set()
        goes_on.wait(4)
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(storage._access.session.call, work)
        assert works.wait(10)
        try:
            yield
        finally:
            goes_on.set()
            end.result(10)


def interrupt():
    raise Interrupt


@pytest.mark.parametrize('method', ['tpc_finish', 'tpc_abort'])
def test_an_interrupted_end_leaves_no_locks(cluster, method):
    storage, other = cluster.client(), cluster.client()
    txn = begin(storage, (p64(1), z64, b'one'))
    storage.tpc_vote(txn)
    with alarms(in_our_code) as alarm, held_up(storage):
        alarm(interrupt, 0.1)
        with pytest.raises(Interrupt):
            getattr(storage, method)(txn)
    storage.tpc_abort(txn)
    with soon():
        commit(other, (p64(1), z64, b'other'))
    assert not storage._access.core.transactions


def test_an_interrupted_begin_leaves_nothing(cluster):
    """It has waited for the cluster, which comes back."""
    storage = cluster.client()
    cluster.master.kill()
    wait_for(lambda: storage._access.core.primary is None, 'it is lost')
    with alarms(in_our_code) as alarm:
        alarm(interrupt, 0.1)
        with pytest.raises(Interrupt):
            begin(storage)
    assert storage.tpc_transaction() is None
    cluster.master.start()
    storage.sync()
    assert not storage._access.core.transactions


def test_an_abort_in_the_middle_of_a_call_is_not_forgotten(cluster):
    """As a finalizer may do."""
    storage, other = cluster.client(), cluster.client()
    txn = begin(storage, (p64(1), z64, b'one'))
    storage.tpc_vote(txn)
    storage._access.session.call(lambda core: storage.tpc_abort(txn))
    with soon():
        commit(other, (p64(1), z64, b'other'))


@pytest.mark.parametrize('method, arguments', [
    ('sync', (False,)), ('prefetch', ([z64], p64(1))), ('cache_statistics', ()),
    ('iterator', ())])
def test_who_only_reads_does_not_see_that_a_core_is_replaced(cluster, method, arguments):
    """Another thread is cut off in a call while this one waits for its turn."""
    storage = cluster.client()
    storage.sync()
    session, me = storage._access.session, threading.get_ident()
    works = threading.Event()

    def fail(core):
        works.set()
        wait_for(lambda: sys._current_frames()[me].f_code.co_name == '_do', 'it waits')
        raise ZeroDivisionError
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(session.call, fail)
        assert works.wait(10)
        getattr(storage, method)(*arguments)
        with pytest.raises(ZeroDivisionError):
            end.result(10)
    assert storage._access.current() is not session


# -- finalizers, locks of others, forks -----------------------------------------------------------
class Loads:
    """In a cycle, so that it is the garbage collector that ends it, anywhere."""

    def __init__(self, storage, ends):
        self.me, self.storage, self.ends = self, storage, ends

    def __del__(self):
        try:
            self.ends.append(self.storage.load(z64)[1])
        except NEOStorageError as error:
            self.ends.append(error)


def test_finalizers_that_load(cluster):
    storage, ends = cluster.client(), []
    database = ZODB.DB(storage)
    before = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    try:
        with soon(30):
            for _ in range(200):
                Loads(storage, ends)
                count(database)
    finally:
        gc.set_threshold(*before)
    Loads(storage, ends)
    gc.collect()                        # outside of any call
    assert len(ends) == 201 and type(ends[-1]) is bytes
    assert count(database) == 201
    database.close()


class Described(PersistentMapping):
    def __repr__(self):
        return 'described as %s' % self['name']     # loads itself, if it is a ghost


class Shout(logging.Handler):
    """Has a lock of its own, as handlers do, while it formats what it logs."""

    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


def test_logging_an_object_while_others_read_during_an_outage(cluster):
    cluster.options['wait_timeout'] = 15
    database = ZODB.DB(cluster.client())
    with database.transaction() as connection:
        connection.root()['d'] = Described(name='it')
    handler, logger = Shout(), logging.getLogger('neo')
    logger.addHandler(handler)

    def log():
        with database.transaction() as connection:
            connection.cacheMinimize()
            logger.error('%r', connection.root()['d'])

    def read():
        with database.transaction() as connection:
            connection.cacheMinimize()
            return connection.root()['d']['name']
    try:
        database.cacheMinimize()
        cluster.storages[0].kill()
        with ThreadPoolExecutor(6) as pool, soon(30):
            work = [pool.submit(function) for function in (log, read, log, read, log, read)]
            cluster.start()
            for future in work:
                try:
                    future.result(25)
                except TransientError:
                    pass
        assert 'it' == read()
        log()
        assert 'described as it' in handler.said
    finally:
        logger.removeHandler(handler)
        database.close()


def in_child(function):
    """Fork; the child writes what `function()` gives, and leaves."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, repr(function()).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def result(child, reading, limit=30):
    def read():
        with os.fdopen(reading, 'rb') as pipe:
            return pipe.read().decode()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(read)
        try:
            return future.result(limit)
        except TimeoutError:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            os.waitpid(child, 0)


def test_a_child_with_a_warm_cache_hears_of_commits(cluster):
    cluster.options['server_sync'] = False
    database = ZODB.DB(cluster.client())
    count(database)
    with database.transaction() as connection:
        assert connection.root()['n'] == 1
    go_on, told = os.pipe()

    def watch():
        os.read(go_on, 1)               # the parent has committed meanwhile
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with database.transaction() as connection:
                if connection.root()['n'] == 2:
                    return 'heard'
        return 'stale'
    child = in_child(watch)
    count(database)
    os.write(told, b'x')
    assert result(*child) == "'heard'"
    os.close(go_on), os.close(told)
    assert count(database) == 3
    database.close()


def test_forks_while_threads_are_busy(cluster):
    """Whatever locks they hold, of ZODB or ours, the child is not held up."""
    database = ZODB.DB(cluster.client())
    count(database)
    stopping = threading.Event()

    def invalidate(number):
        other = ZODB.DB(cluster.client())
        while not stopping.is_set():
            with other.transaction() as connection:
                connection.root()['t%d' % number] = random.random()
        other.close()

    def read():
        while not stopping.is_set():
            with database.transaction() as connection:
                connection.root().get('t0')

    def work():
        with database.transaction() as connection:
            connection.root()['child'] = connection.root().get('child', 0) + 1
        return 'done'
    with ThreadPoolExecutor(3) as pool:
        busy = [pool.submit(invalidate, 0), pool.submit(read), pool.submit(read)]
        try:
            for _ in range(10):
                said = result(*in_child(work))
                assert said == "'done'" or 'ConflictError' in said or 'Transient' in said, said
        finally:
            stopping.set()
        for future in busy:
            try:
                future.result(20)
            except TransientError:
                pass
    database.close()


# -- what the telling of ZODB may do ---------------------------------------------------------------
def test_a_callback_that_raises_or_commits_harms_nobody_else(cluster):
    storage, other = cluster.client(), ZODB.DB(cluster.client())
    oid = storage.new_oid()
    first = commit(storage, (oid, z64, b'1'))

    def fails(tid):
        raise ZeroDivisionError
    txn = begin(storage, (oid, first, b'2'))
    storage.tpc_vote(txn)
    with pytest.raises(ZeroDivisionError):
        storage.tpc_finish(txn, fails)

    data, second = storage.load(oid)
    assert data == b'2' and u64(storage.lastTransaction()) >= u64(second)

    def commits(tid):
        commit(storage, (storage.new_oid(), z64, b'3'))
    txn = begin(storage, (oid, second, b'3'))
    storage.tpc_vote(txn)
    with soon(20), pytest.raises(StorageTransactionError):
        storage.tpc_finish(txn, commits)
    data, third = storage.load(oid)
    assert data == b'3'
    commit(storage, (oid, third, b'4'))
    assert count(other) == 1
    other.close()


def test_an_invalidation_that_fails_becomes_a_reset(cluster):
    database, other = ZODB.DB(cluster.client()), ZODB.DB(cluster.client())
    count(database)
    connections = [database.open(transaction.TransactionManager()) for _ in range(50)]
    assert {connection.root()['n'] for connection in connections} == {1}
    calls, invalidate = [], database._mvcc_storage.invalidate

    def fails_once(tid, oids):
        calls.append(tid)
        if len(calls) == 1:
            raise MemoryError
        invalidate(tid, oids)
    database.storage.registerDB(Wrapper(database._mvcc_storage, fails_once))
    count(other)
    for connection in connections:
        connection.transaction_manager.begin()
        connection.sync()
        assert connection.root()['n'] == 2
    assert len(calls) > 1
    for connection in connections:
        connection.close()
    database.close(), other.close()


class Wrapper:
    """An IStorageWrapper whose `invalidate` is another one."""

    def __init__(self, wrapped, invalidate):
        self._wrapped, self.invalidate = wrapped, invalidate

    def __getattr__(self, name):
        return getattr(self._wrapped, name)


# -- names, current revisions, ends --------------------------------------------------------------
def test_clusters_of_one_name_are_told_apart(cluster):
    mine = cluster.client()
    key = mine.sortKey()
    assert key == mine.getName() == cluster.client().sortKey()
    assert result(*in_child(mine.sortKey)) == repr(key)
    with Cluster() as other:
        assert other.client().sortKey() != key


def test_logfiles_are_of_one_storage_each(cluster, tmp_path):
    files = [tmp_path / 'one.log', tmp_path / 'two.log']
    one, two = [cluster.client(logfile=str(file)) for file in files]
    count(ZODB.DB(one))
    two.close()
    size = files[1].stat().st_size if files[1].exists() else 0
    cluster.master.kill()
    wait_for(lambda: 'primary' in files[0].read_text(), 'a line about the primary')
    assert (files[1].stat().st_size if files[1].exists() else 0) == size
    one.close()


def test_load_finds_what_others_have_just_committed(cluster):
    cluster.options['server_sync'] = False
    writer, reader = cluster.client(), cluster.client()
    oid, serial = writer.new_oid(), z64
    for number in range(30):
        serial = commit(writer, (oid, serial, b'%d' % number))
        assert reader.load(oid) == (b'%d' % number, serial)


def test_a_vote_after_a_failed_one_is_bounded(cluster):
    one, other = cluster.client(), cluster.client()
    oid = one.new_oid()
    serial = commit(one, (oid, z64, b'1'))
    txn = begin(one, (oid, serial, b'2'))
    commit(other, (oid, serial, b'3'))
    with soon(20):
        for _ in range(3):
            with pytest.raises(Exception) as raised:
                one.tpc_vote(txn)
            assert raised.type.__name__ in ('ConflictError', 'StorageTransactionError')
    one.tpc_abort(txn)
    assert one.load(oid)[0] == b'3'


def test_closed_while_it_finishes(cluster):
    storage = cluster.client()
    oid = storage.new_oid()
    txn = begin(storage, (oid, z64, b'1'))
    storage.tpc_vote(txn)
    cluster.storages[0].signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as pool:
            finishing = pool.submit(storage.tpc_finish, txn)
            wait_for(lambda: storage._access.core.outcomes.finishing, 'finish')
            storage.close()
            with soon(20), pytest.raises(OutcomeUnknown):
                finishing.result(20)
    finally:
        cluster.storages[0].signal(signal.SIGCONT)


# -- odd ids -----------------------------------------------------------------------------------
ODD = b'\xff' * 8, p64((1 << 63) - 1), p64((1 << 63) - 5), b'', b'123', b'123456789'


def test_ids_that_can_not_be(cluster):
    """A plain error, which nobody tries again, and everything goes on."""
    storage = cluster.client()
    database = ZODB.DB(storage)
    count(database)
    for odd in ODD:
        for method, arguments in ((storage.load, (odd,)), (storage.getTid, (odd,)),
                                  (storage.loadSerial, (z64, odd)),
                                  (storage.loadSerial, (odd, z64)), (storage.history, (odd,))):
            with pytest.raises(POSKeyError):
                method(*arguments)
    for odd in ODD:
        with pytest.raises(Exception) as raised:
            commit(storage, (odd, z64, b'1'))
        assert not issubclass(raised.type, TransientError)
        with pytest.raises(Exception) as raised:
            commit(storage, (storage.new_oid(), z64, b'1'), tid=odd or b'\0')
        assert not issubclass(raised.type, TransientError)
    ahead = p64(tid_at(time.time() + 86400 * 365))
    with pytest.raises(Exception) as raised:
        commit(storage, (storage.new_oid(), z64, b'1'), tid=ahead)
    assert not issubclass(raised.type, TransientError)
    with database.transaction() as connection, pytest.raises(POSKeyError):
        connection.oldstate(connection.root(), b'\xff' * 8)
    with pytest.raises(POSKeyError):
        storage.history(p64(12345), 0)
    assert storage.history(z64, 0) == [] and count(database) == 2
    assert u64(storage.new_oid()) < 1 << 40
    database.close()


def test_small_transactions_of_another_storage_are_copied_as_one(cluster, capsys):
    class Past:
        def iterator(self):
            return (OneObject(p64(tid), b'data %d' % tid) for tid in range(100, 200))
    storage = cluster.client()
    storage.copyTransactionsFrom(Past(), verbose=1)
    assert capsys.readouterr().out == '%s\n' % TimeStamp(p64(199))
    found = [(u64(txn.tid), [record.data for record in txn]) for txn in storage.iterator()]
    assert found[-100:] == [(tid, [b'data %d' % tid]) for tid in range(100, 200)]


def test_blobs_are_refused_before_anything_is_stored(cluster):
    class Past:
        """Of a storage with a blob in its second transaction."""

        def iterator(self):
            blob = b'cZODB.blob\nBlob\n.' + b'N.'
            for tid, data in (100, b'data'), (101, blob):
                yield OneObject(p64(tid), data)
    storage = cluster.client()
    with pytest.raises(NEOStorageError, match='blob'):
        storage.copyTransactionsFrom(Past())
    assert 101 not in [u64(txn.tid) for txn in storage.iterator()]
    assert commit(storage, (storage.new_oid(), z64, b'1'))


class OneObject(TransactionMetaData):
    """A transaction record: one object of its own."""

    status = ' '

    def __init__(self, tid, data):
        super().__init__('user', 'text')
        self.tid, self._data = tid, data

    def __iter__(self):
        yield DataRecord(p64(u64(self.tid)), self.tid, self._data, None)


def test_a_transaction_that_can_not_be_served_ends_in_time(cluster):
    storage = cluster.client(wait_timeout=2)
    oid = storage.new_oid()
    serial = commit(storage, (oid, z64, b'1'))
    cluster.storages[0].kill()
    began = time.monotonic()
    with pytest.raises(TransientError):
        commit(storage, (oid, serial, b'2'))
    assert time.monotonic() - began < 5


def test_arguments_of_other_types_harm_nobody(cluster):
    """They are refused before anything is sent: other transactions go on."""
    storage = cluster.client()
    tid = commit(storage, (p64(1), z64, b'one'))
    txn = begin(storage, (p64(2), z64, b'two'))
    session, later = storage._access.session, u64(tid) + 10

    def metadata(**attributes):
        metadata = TransactionMetaData()
        metadata.__dict__.update(attributes)
        return metadata

    def importing(tid=later, status=' ', oid=7, data=b'x', data_tid=None):
        return list(storage.import_transactions(
            [[(tid, status, b'', b'', b'', [(oid, data, data_tid)])]]))
    for function, arguments in [
            (storage.tpc_begin, (TransactionMetaData(), None, None)),
            (storage.tpc_begin, (TransactionMetaData(), None, b'p')),
            (storage.tpc_begin, (metadata(extension_bytes='text'),)),
            (storage.store, (p64(3), z64, 'text', '', txn)),
            (storage.history, (p64(1), 1.5)),
            (importing, (p64(later),)), (importing, (later, None)), (importing, (later, ' ', '7')),
            (importing, (later, ' ', 7, None, 1 << 70))]:
        with pytest.raises((NEOStorageError, TypeError)):
            function(*arguments)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    assert storage._access.session is session


class Slots:
    """ZODB asks for no more of a transaction."""

    __slots__ = 'user', 'description', 'extension'

    def __init__(self):
        self.user, self.description, self.extension = '', '', {}


def test_a_transaction_that_can_not_be_referred_to_weakly(cluster):
    storage, txn = cluster.client(), Slots()
    storage.tpc_begin(txn)
    storage.store(p64(1), z64, b'one', '', txn)
    storage.tpc_vote(txn)
    tid = storage.tpc_finish(txn)
    assert storage.load(p64(1)) == (b'one', tid)


def test_data_belong_to_the_storage_once_they_are_stored(cluster):
    storage, other = cluster.client(), cluster.client()
    buffer = bytearray(b'one')
    txn = begin(storage, (p64(1), z64, buffer), (p64(2), z64, memoryview(buffer)))
    buffer[:] = b'two'
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    for reader in storage, other:
        reader.sync()
        for oid in p64(1), p64(2):
            data, tid = reader.load(oid)
            assert (type(data), data) == (bytes, b'one')
            assert type(reader.loadSerial(oid, tid)) is bytes
