import os
import signal
import sys
import threading
import time
import traceback

import pytest

from neo.client.core.operation import Operation
from neo.protocol.packets import Error, Load, Ping, Sync, TakeOids
from neo.protocol.types import ErrorCode
from neo.runtime.threaded import IDLE, ThreadedNode

from .peer import Peer, until
from .toys import Core, Echo, running


class Closed(Exception):
    pass


@pytest.fixture(scope='module')
def server():
    with running(Echo()) as (address, loop, status):
        yield address


@pytest.fixture
def client(server):
    """A ThreadedNode that is closed afterwards."""
    core = Core(server)
    threaded = ThreadedNode(core, closed=Closed)
    yield threaded
    threaded.close()
    assert threaded._released.is_set() and not threaded._waiters and threaded._reader is None
    assert threaded._background is None


@pytest.fixture
def tiny_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def load(client, size):
    return len(client.run(client.node.request, Load(size, 1)).data)


def in_threads(count, function, *args):
    """Run it in so many threads at once; gives what was raised."""
    errors = []

    def run(number):
        try:
            function(number, *args)
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    return threads, errors


def join(threads):
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


# -- calls ----------------------------------------------------------------------------------
def test_results(client):
    assert load(client, 0) == 0
    assert load(client, 5 << 20) == 5 << 20
    assert client.run(client.node.request, Sync()).last_tid == 7
    assert client.call(lambda: 42) == 42


class Odd(Exception):
    def __init__(self, *, oid):
        super().__init__('odd', oid)
        self.oid = oid


@pytest.mark.parametrize('error', [KeyError('k'), Odd(oid=3), OSError(2, 'no such file')])
def test_an_error_is_raised_afresh(client, error):
    lengths = set()
    for _ in range(3):
        with pytest.raises(type(error)) as raised:
            client.run(client.node.fail, error)
        assert raised.value.args == error.args and vars(raised.value) == vars(error)
        lengths.add(len(traceback.extract_tb(raised.value.__traceback__)))
        del raised
    assert len(lengths) == 1
    assert error.__traceback__ is None


def test_what_a_method_raises_harms_nobody(client):
    with pytest.raises(ZeroDivisionError):
        client.run(lambda: 1 / 0)
    assert load(client, 1) == 1


# -- who reads ------------------------------------------------------------------------------
def test_a_thread_alone_reads_for_itself(client):
    readers = []
    received = client.node.received

    def record(*args):
        readers.append(threading.get_ident())
        received(*args)
    client.node.received = record
    for _ in range(500):
        load(client, 1)
    # The background thread takes over when this one has been held up, which happens.
    assert readers.count(threading.get_ident()) > 450


def test_threads_share_what_is_read(client, tiny_switches):
    def work(number):
        for i in range(150):
            size = number * 1000 + i
            assert load(client, size) == size
            if not i % 50:
                assert client.run(client.node.request, Sync()).last_tid == 7

    threads, errors = in_threads(12, work)
    join(threads)
    assert not errors


def test_calls_with_pauses(client, tiny_switches):
    """Reading goes to and fro between the threads and the background."""
    def work(number):
        for i in range(40):
            assert load(client, i) == i
            time.sleep(IDLE * (i * (number + 1) % 5) / 2)

    threads, errors = in_threads(4, work)
    join(threads)
    assert not errors


def test_an_operation_ended_by_another_thread(client):
    """A reader must not stay in its poll when its answer has come some other way."""
    load(client, 1)
    operations = []

    def begin():
        operations.append(Operation())
        return operations[-1]

    threads, errors = in_threads(3, lambda number: client.run(begin))
    until(lambda: len(operations) == 3)
    for operation in reversed(operations):
        client.call(client.node._end, operation, 'done')
    join(threads)
    assert not errors


# -- while nobody calls -----------------------------------------------------------------------
def hears(server, **options):
    core = Core(server)
    threaded = ThreadedNode(core, closed=Closed, **options)
    threaded.run(core.request, Ping())
    return core, threaded


def invalidate(server, count):
    with Peer(server) as peer:
        peer.send(TakeOids(count), 1)
        for _packet, request_id in peer.packets():
            if request_id:
                return


def test_invalidations_come_to_an_idle_client(server):
    heard = []

    def deliver():
        while core.invalidations:
            heard.append(client.call(core.invalidations.popleft)[0])

    core, client = hears(server, on_activity=lambda: deliver())
    try:
        invalidate(server, 3)
        until(lambda: len(heard) == 3)
        invalidate(server, 2)
        until(lambda: len(heard) == 5)
        assert heard == [0, 1, 2, 0, 1]
    finally:
        client.close()


def test_timers_while_the_application_computes(client):
    load(client, 1)
    for _ in range(5):
        client.call(client.node.set_timer, 'late', client.node.now + 0.03)
        set_at, fired = time.monotonic(), len(client.node.fired)
        while len(client.node.fired) == fired:
            assert time.monotonic() < set_at + 5
        name, now = client.node.fired[-1]
        assert name == 'late'
        load(client, 1)


def test_an_earlier_timer_shortens_the_poll_of_a_reader(client):
    load(client, 1)
    threads, errors = in_threads(1, lambda number: client.run(Operation))
    until(lambda: client._waiters)
    client.call(client.node.set_timer, 'soon', client.node.now + 0.02)
    until(lambda: client.node.fired)
    client.close()
    join(threads)
    assert [type(error) for error in errors] == [Closed]


def test_activity_may_call_again(server):
    results = []
    core, client = hears(server, on_activity=lambda: results.append(load(client, 9)))
    try:
        invalidate(server, 1)
        assert until(lambda: results) == [9]
        # And in the thread of a call that meets the news while it reads.
        client.run(core.request, TakeOids(4))
        until(lambda: len(results) == 2)
    finally:
        client.close()


def test_activity_that_fails_ends_nothing(server):
    core, client = hears(server, on_activity=lambda: 1 / 0)
    try:
        invalidate(server, 1)
        client.run(core.request, TakeOids(1))
        assert load(client, 1) == 1
    finally:
        client.close()


# -- things go wrong --------------------------------------------------------------------------
def test_a_lost_connection():
    with running(Echo()) as (address, loop, status):
        client = ThreadedNode(Core(address), closed=Closed)
        assert load(client, 1) == 1
        with pytest.raises(ConnectionError):
            client.run(client.node.request, Error(ErrorCode.PROTOCOL, ''))
        assert load(client, 1) == 1     # it has connected again
    client.close()


def test_a_core_that_fails(client):
    load(client, 1)
    threads, errors = in_threads(3, lambda number: client.run(client.node.request, Sync()))
    client.call(client.node.set_timer, 'boom', client.node.now)
    join(threads)
    assert {type(error) for error in errors} <= {Closed}
    until(lambda: client._closed)
    with pytest.raises(Closed, match='it has failed: RuntimeError: boom'):
        load(client, 1)


def test_an_interrupted_call(client):
    class Interrupted(Exception):
        pass

    def interrupt(number, frame):
        raise Interrupted

    load(client, 1)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(5):
            with pytest.raises(Interrupted):
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                client.run(client.node.request, Sync())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert load(client, 1) == 1


# -- the end ----------------------------------------------------------------------------------
def open_files():
    return len(os.listdir('/proc/self/fd'))


def test_close_with_threads_blocked(server, tiny_switches):
    files, threads_before = open_files(), threading.active_count()
    for _ in range(20):
        client = ThreadedNode(Core(server), closed=Closed)
        started = threading.Barrier(6)

        def work(number, client, started):
            load(client, number)
            started.wait(20)
            client.run(Operation)

        threads, errors = in_threads(5, work, client, started)
        started.wait(20)
        began = time.monotonic()
        client.close()
        client.close()
        join(threads)
        assert time.monotonic() - began < 5
        assert [type(error) for error in errors] == [Closed] * 5
        with pytest.raises(Closed):
            load(client, 1)
    assert threading.active_count() == threads_before
    until(lambda: open_files() <= files)


def test_close_before_the_first_call():
    client = ThreadedNode(Core(('127.0.0.1', 1)), closed=Closed)
    client.close()
    with pytest.raises(Closed):
        load(client, 1)


def test_close_while_nobody_answers():
    """It has never connected, and tries."""
    client = ThreadedNode(Core(('127.0.0.1', 1)), closed=Closed)
    threads, errors = in_threads(3, lambda number: load(client, 1))
    until(lambda: len(client._waiters) == 3)
    client.close()
    join(threads)
    assert [type(error) for error in errors] == [Closed] * 3


@pytest.mark.parametrize('where', ['background', 'application'])
def test_close_from_the_activity(server, where):
    core, client = hears(server, on_activity=lambda: client.close())
    if where == 'background':
        invalidate(server, 1)
    else:
        try:
            client.run(core.request, TakeOids(1))
        except Closed:
            pass        # or its answer has come in time
    until(client._released.is_set)
    assert threading.current_thread() is threading.main_thread()


def test_many_clients_at_once(server, tiny_switches):
    clients = [ThreadedNode(Core(server), closed=Closed) for _ in range(5)]

    def work(number):
        for i in range(50):
            assert load(clients[(number + i) % 5], i) == i

    threads, errors = in_threads(5, work)
    join(threads)
    assert not errors
    for client in clients:
        client.close()


@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
def test_fork(server):
    client = ThreadedNode(Core(server), closed=Closed)
    load(client, 1)
    threads, errors = in_threads(2, lambda number: [load(client, 1) for _ in range(300)])
    child = os.fork()
    if not child:
        status = 1
        try:
            assert client.forked and client._driver._epoll.closed
            load(client, 1)
        except Closed:
            status = 0
        finally:
            os._exit(status)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        join(threads)
        assert not errors
        assert load(client, 3) == 3 and not client.forked
    finally:
        client.close()


@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
def test_fork_before_the_first_call(server):
    client = ThreadedNode(Core(server), closed=Closed)
    child = os.fork()
    if not child:
        status = 1
        try:
            status = 0 if load(client, 4) == 4 else 2
            client.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert load(client, 4) == 4
    client.close()
