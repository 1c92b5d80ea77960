"""Interrupts, with real daemons and more than one thread; and what is told to ZODB meanwhile."""
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import transaction
import ZODB
from BTrees.Length import Length
from persistent.mapping import PersistentMapping
from transaction.interfaces import TransientError
from ZODB.POSException import ConflictError
from ZODB.utils import load_current, p64, u64, z64

from ...client.exception import ClientReplaced, OutcomeUnknown
from ..alarms import alarms, before_line, in_our_code
from ..daemons import Cluster, wait_for
from .test_client import begin, commit, soon, switching_often


@pytest.fixture
def cluster():
    with Cluster(storages=2) as cluster:
        cluster.options['server_sync'] = True
        yield cluster


class Interrupted(KeyboardInterrupt):
    pass


@pytest.fixture
def alarm():
    with alarms(in_our_code) as alarm:
        yield alarm


def interrupt():
    raise Interrupted


# -- interrupts -----------------------------------------------------------------------------------
def test_a_thousand_interrupts(cluster, alarm):
    """At random moments of reads and commits; another thread goes on all the time.  No hang, the
    next transaction works, and what was acknowledged is there."""
    db = ZODB.DB(cluster.client())
    with db.transaction() as connection:
        connection.root()['mine'] = PersistentMapping(count=0)
        connection.root()['other'] = PersistentMapping(count=0)
        connection.root()['many'] = [PersistentMapping(number=i) for i in range(10)]
    rnd = random.Random(1)
    stopping, counted = threading.Event(), [0]

    def work():
        tm = transaction.TransactionManager(explicit=True)
        connection = db.open(tm)
        while not stopping.is_set():
            for attempt in tm.attempts(10):
                with attempt:
                    connection.root()['other']['count'] += 1
            counted[0] += 1
        connection.close()

    tm = transaction.TransactionManager()
    connection = db.open(tm)

    def count():
        connection.cacheMinimize()
        with tm:
            root = connection.root()
            assert sum(item['number'] for item in root['many']) == 45
            root['mine']['count'] += 1
            return root['mine']['count']

    interrupted = acknowledged = tried = 0
    session, replaced = db.storage._access.session, 0
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(work)
        try:
            while interrupted < 1000:
                try:
                    try:
                        alarm(interrupt, 1e-5 + rnd.random() * 4e-3)
                        for _ in range(10):
                            tried += 1
                            seen = count()
                            acknowledged += 1
                    except TransientError:
                        pass            # the interrupt has come as an error of the system
                    alarm(None)
                except Interrupted:
                    interrupted += 1
                tm.abort()
                if not interrupted % 4:
                    tried += 1
                    try:
                        seen = count()
                    except ConflictError:
                        # What was interrupted in its finish has been committed after all.
                        seen = count()
                    acknowledged += 1
                    assert acknowledged <= seen <= tried
                if db.storage._access.session is not session:
                    session, replaced = db.storage._access.session, replaced + 1
        finally:
            alarm(None)
            stopping.set()
        other.result(30)
    assert replaced > 10
    tm.abort()
    with db.transaction() as connection:
        assert acknowledged <= connection.root()['mine']['count'] <= tried
        assert counted[0] <= connection.root()['other']['count']
    db.close()


OURS = '/neo/client/', '/neo/runtime/'


def is_ours(code):
    return any(folder in code.co_filename for folder in OURS)


def test_a_commit_interrupted_at_any_line(cluster):
    """At every fifth one, so that it does not take long.  Nothing is left of it, and the next one
    does not meet it."""
    storage = cluster.client()
    db = ZODB.DB(storage)
    number, struck, slowest = 1, True, 0
    while struck:
        tm = transaction.TransactionManager()
        connection = db.open(tm)
        connection.cacheMinimize()
        with before_line(number, is_ours, interrupt) as struck:
            try:
                tm.begin()
                connection.root()['number'] = number
                tm.commit()
                assert not struck, struck
            except Interrupted:
                pass
        tm.abort()
        began = time.monotonic()
        for attempt in tm.attempts(2):      # it may have been committed after all
            with attempt:
                connection.root()['number'] = number
        slowest = max(slowest, time.monotonic() - began)
        connection.close()
        core, delivery = storage._access.core, storage._access.delivery
        assert not core.transactions and not core.outcomes.finishing, struck
        assert not storage._commits._pending and not delivery.own, struck
        number += 5
    assert number > 500 and slowest < 2
    db.close()


def test_an_interrupted_finish(cluster, alarm):
    """What became of it is seen by the next transaction; a thread that was in *finish* of the
    same storage learns the truth, though its connections are gone."""
    storage = cluster.client()
    oids = [storage.new_oid() for _ in range(2)]
    heard = []

    def finish(oid):
        txn = begin(storage, (oid, z64, b'data'))
        storage.tpc_vote(txn)
        frozen.signal(signal.SIGSTOP)
        return storage.tpc_finish(txn, heard.append)

    frozen = cluster.storages[0]
    with ThreadPoolExecutor(1) as pool:
        finishing = pool.submit(finish, oids[0])
        core = storage._access.core
        wait_for(lambda: core.outcomes.finishing, 'it is in finish')
        with pytest.raises(ZeroDivisionError):
            storage._access.current().call(lambda core: 1 / 0)      # as if it was interrupted there
        frozen.signal(signal.SIGCONT)
        tid = finishing.result(30)
    assert storage._access.core is not core and heard == [tid]
    assert load_current(storage, oids[0]) == (b'data', tid)
    assert storage.lastTransaction() >= tid
    commit(storage, (oids[0], tid, b'more'))


def lose(storage):
    """As if a thread was interrupted in the middle of the core."""
    with pytest.raises(ZeroDivisionError):
        storage._access.current().call(lambda core: 1 / 0)


def test_what_is_interrupted_again_and_again_may_have_been_committed(cluster):
    """Who is told that it has failed would do it once more."""
    storage, frozen = cluster.client(), cluster.storages[0]
    oid = storage.new_oid()
    txn = begin(storage, (oid, z64, b'data'), (p64(u64(oid) + 1), z64, b'data'))
    storage.tpc_vote(txn)
    with ThreadPoolExecutor(1) as pool:
        frozen.signal(signal.SIGSTOP)
        finishing = pool.submit(storage.tpc_finish, txn)
        wait_for(lambda: storage._access.core.outcomes.finishing, 'it is in finish')
        while not finishing.done():
            wait_for(lambda: storage._access.current().threads._waiters or finishing.done(),
                     'it waits for its outcome')
            lose(storage)
        frozen.signal(signal.SIGCONT)
        with pytest.raises(OutcomeUnknown):
            finishing.result(30)
    wait_for(lambda: (storage.sync(), u64(storage.lastTransaction()))[1], 'it is committed')
    assert load_current(storage, oid)[0] == b'data'


def test_an_import_that_has_ended_before_all_is_made_anew(cluster):
    """Who goes on after it has to know that."""
    storage, known = cluster.client(), []

    def batches():
        for tid in 10, 11:
            yield [(tid, ' ', b'', b'', b'', [(7, b'data', None)])]
            wait_for(lambda: not storage._access.core.imports.queue, 'it has ended')
            lose(storage)
    with pytest.raises(ClientReplaced):
        for tid in storage.import_transactions(batches()):
            known.append(tid)
    assert known == [10]


def test_a_transaction_that_nobody_aborts(cluster):
    """It was interrupted on its way to that; what it has locked is free once it is gone."""
    storage, other = cluster.client(), cluster.client()
    tid = commit(storage, (z64, z64, b'0'))
    txn = begin(storage, (z64, tid, b'1'))
    storage.tpc_vote(txn)
    assert storage.tpc_transaction() is txn
    del txn
    with soon():
        commit(other, (z64, tid, b'2'))
    assert storage.tpc_transaction() is None


# -- what ZODB is told ----------------------------------------------------------------------------
def test_new_connections_see_one_snapshot(cluster):
    """Those that are opened while the others are told of a commit."""
    cluster.options['server_sync'] = False
    db = ZODB.DB(cluster.client(), pool_size=1000)
    with db.transaction() as connection:
        connection.root()['one'], connection.root()['two'] = Length(), Length()
    other = ZODB.DB(cluster.client())
    stopping = threading.Event()

    def commits():
        while not stopping.is_set():
            for database in other, db:
                with database.transaction() as connection:
                    for name in 'one', 'two':
                        connection.root()[name].change(1)

    def look():
        opened = []
        for _ in range(100):
            tm = transaction.TransactionManager()
            connection = db.open(tm)
            opened.append(connection)
            seen = []
            for _ in range(3):
                tm.begin()
                root = connection.root()
                assert root['one']() == root['two']()
                seen.append(root['one']())
            assert seen == sorted(seen)
        return opened

    with switching_often(), ThreadPoolExecutor(3) as pool:
        working = pool.submit(commits)
        try:
            opened = [connection for future in [pool.submit(look) for _ in range(2)]
                      for connection in future.result(60)]
        finally:
            stopping.set()
        working.result(30)
    for connection in opened:
        connection.transaction_manager.begin()
    assert len({connection.root()['one']() for connection in opened}) == 1
    db.close()
    other.close()


def test_a_connection_that_is_made_while_others_are_told(cluster):
    """It was not there when ZODB went through all of them, so it must not begin before."""
    storage = cluster.client()
    db = ZODB.DB(storage)
    entered, go_on = threading.Event(), threading.Event()
    with db.transaction() as connection:
        connection.root()['count'] = Length()
    adapter = storage._access.delivery.db

    class Listener:
        """What ZODB registered, and a pause when all that are there have been told."""

        def invalidate(self, tid, oids):
            adapter.invalidate(tid, oids)
            entered.set()
            assert go_on.wait(20)

        invalidateCache = adapter.invalidateCache
        references = adapter.references
        transform_record_data = adapter.transform_record_data
        untransform_record_data = adapter.untransform_record_data

    def look(connection=None):
        connection = connection or db.open(transaction.TransactionManager())
        connection.transaction_manager.begin()
        return connection, connection.root()['count']()

    first, seen = look()
    storage.registerDB(Listener())
    other = ZODB.DB(cluster.client())
    with ThreadPoolExecutor(1) as pool:
        try:
            with other.transaction() as connection:
                connection.root()['count'].change(1)
            assert entered.wait(20)
            looking = pool.submit(look)
            wait_for(lambda: len(adapter._instances) > 1, 'it is made')
        finally:
            go_on.set()
        connection, seen = looking.result(30)
    storage.sync()
    assert look(connection)[1] == look(first)[1] == 1 >= seen
    db.close()
    other.close()
