import ctypes
import gc
import os
import random
import sys
import threading
import time
import traceback

import pytest

from neo.client.core.operation import Operation
from neo.cluster import events
from neo.protocol.packets import Error, Load, Ping, Sync, TakeOids
from neo.protocol.types import ErrorCode
from neo.runtime.threaded import IDLE, ThreadedNode

from ..alarms import alarms, before_line
from .peer import Peer, until
from .toys import Core, Echo, running


class Closed(Exception):
    pass


class Lost(Exception):
    pass


class Reentered(Exception):
    pass


ERRORS = dict(closed=Closed, lost=Lost, reentered=Reentered)


@pytest.fixture(scope='module')
def server():
    with running(Echo()) as (address, loop, status):
        yield address


@pytest.fixture
def client(server):
    """A ThreadedNode that is closed afterwards."""
    core = Core(server)
    threaded = ThreadedNode(core, **ERRORS)
    yield threaded
    threaded.close()
    assert not threaded._open.locked() and not threaded._waiters and threaded._reader is None
    assert threaded._background is None and not threaded._busy


@pytest.fixture
def tiny_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def load(client, size):
    return len(client.run(client.node.request, Load(size, 1)).result.data)


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
    assert client.run(client.node.request, Sync()).result.last_tid == 7
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
                assert client.run(client.node.request, Sync()).result.last_tid == 7

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
def hears(server, tell=None, **options):
    core = Core(server)
    if tell is not None:
        options.update(news=lambda: core.invalidations, tell=lambda: tell(core, threaded))
    threaded = ThreadedNode(core, **ERRORS, **options)
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

    def deliver(core, client):
        while core.invalidations:
            heard.append(client.call(core.invalidations.popleft)[0])

    core, client = hears(server, deliver)
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


def test_who_is_told_may_call_again(server):
    results = []

    def tell(core, client):
        core.invalidations.clear()
        results.append((load(client, 9), threading.get_ident() == client._background.thread))
    core, client = hears(server, tell)
    try:
        invalidate(server, 1)
        until(lambda: len(results) == 1)
        # And when the news come while a thread of the application reads: not in that thread.
        client.run(core.request, TakeOids(4))
        until(lambda: len(results) > 1)
        assert set(results) == {(9, True)}
    finally:
        client.close()


def test_who_is_told_may_fail(server):
    def tell(core, client):
        core.invalidations.clear()
        raise ZeroDivisionError
    core, client = hears(server, tell)
    try:
        invalidate(server, 1)
        client.run(core.request, TakeOids(1))
        until(lambda: not core.invalidations)
        assert load(client, 1) == 1
    finally:
        client.close()


def test_a_log_that_waits_for_a_caller(server):
    """A handler formats an object, which loads: with the lock of logging, that the one who logs
    for us needs."""
    of_logging, logged = threading.Lock(), []

    def log(level, message):
        with of_logging:
            logged.append(message)
    core, client = hears(server, log=log)
    try:
        with of_logging:
            client.call(lambda: core.batch.effects.append(events.Log(20, 'one')))
            invalidate(server, 1)
            for _ in range(20):
                assert load(client, 1) == 1
            client.call(lambda: core.batch.effects.append(events.Log(20, 'two')))
            assert not logged
        assert until(lambda: logged[1:]) and logged == ['one', 'two']
    finally:
        client.close()


# -- things go wrong --------------------------------------------------------------------------
def test_a_lost_connection():
    with running(Echo()) as (address, loop, status):
        client = ThreadedNode(Core(address), **ERRORS)
        assert load(client, 1) == 1
        with pytest.raises(ConnectionError):
            client.run(client.node.request, Error(ErrorCode.PROTOCOL, ''))
        assert load(client, 1) == 1     # it has connected again
    client.close()


def test_a_core_that_fails_is_lost(client):
    load(client, 1)
    threads, errors = in_threads(3, lambda number: client.run(client.node.request, Sync()))
    client.call(client.node.set_timer, 'boom', client.node.now)
    join(threads)
    assert {type(error) for error in errors} <= {Lost, RuntimeError}
    until(lambda: client.lost)
    with pytest.raises(Lost, match='RuntimeError: boom'):
        load(client, 1)


def test_what_a_method_raises(client):
    """It may have been cut off anywhere, so the core is not used any more."""
    load(client, 1)
    with pytest.raises(ZeroDivisionError):
        client.run(lambda: 1 / 0)
    assert client.lost
    with pytest.raises(Lost, match='ZeroDivisionError'):
        load(client, 1)


class Interrupted(Exception):
    pass


@pytest.fixture
def alarm():
    with alarms() as alarm:
        yield alarm


def running_threads():
    return len(os.listdir('/proc/self/task'))


def interrupt():
    raise Interrupted


def test_an_interrupted_wait(client, alarm):
    load(client, 1)
    for _ in range(5):
        with pytest.raises(Interrupted):
            alarm(interrupt, 0.01)
            client.run(client.node.request, Sync())
    assert load(client, 1) == 1


def test_what_has_ended_before_the_node_was_lost(client):
    """Who waits for it is told how, though it finds the node lost."""
    core, results = client.node, []
    load(client, 1)
    threads, errors = in_threads(
        1, lambda number: results.append(client.run(core.request, Sync()).result))
    until(lambda: core.asked)

    def fail():
        # The thread has heard the answer come, and waits for its turn.
        until(lambda: sys._current_frames()[threads[0].ident].f_code.co_name == '_do')
        core._end(core.asked.popitem()[1], 'the result')
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        client.call(fail)
    join(threads)
    assert client.lost and results == ['the result'] and not errors


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize('calls', [0, 1])
def test_an_exception_that_is_sent_while_the_background_begins(server, calls):
    """Python may give it to the thread that is being made."""
    client, before = ThreadedNode(Core(server), **ERRORS), sys.getswitchinterval()
    send, me = ctypes.pythonapi.PyThreadState_SetAsyncExc, threading.get_ident()
    sys.setswitchinterval(10)           # that one has not run yet
    try:
        client.call(lambda: send(ctypes.c_ulong(me), ctypes.py_object(Interrupted)))
    except Interrupted:
        pass                            # or it has come here, and the node is lost
    finally:
        sys.setswitchinterval(before)
    if not client.lost:
        for _ in range(calls):
            assert load(client, 2) == 2
            until(lambda: client._reader is client._background)
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < 3 and not client._open.locked()


class Held(Core):
    """Its timer holds up who sees to it."""

    def __init__(self, address):
        super().__init__(address)
        self.entered, self.go_on = threading.Event(), threading.Event()

    def timer(self, name):
        self.entered.set()
        assert self.go_on.wait(10)


def test_an_interrupt_before_anything_is_done(server):
    """The next call of this thread waits for its turn, as no other call of it is under way."""
    core = Held(server)
    client = ThreadedNode(core, **ERRORS)
    load(client, 1)
    client.call(lambda: core.set_timer('held', core.now + 0.3))
    until(lambda: client._reader is not None and client._reader is client._background)
    with before_line(1, ThreadedNode._with_lock.__code__.__eq__, interrupt):
        with pytest.raises(Interrupted):
            load(client, 1)
    try:
        assert core.entered.wait(10)
        threading.Timer(0.1, core.go_on.set).start()
        assert load(client, 2) == 2 and not client.lost
    finally:
        core.go_on.set()
        client.close()


@pytest.mark.parametrize('kind', [KeyboardInterrupt, TimeoutError])
def test_interrupts_at_any_moment(server, alarm, kind):
    """The node works on, or is lost at once and for all; nobody hangs, and nothing is left.  An
    error of the system, as a handler may raise one, may also be taken for that of a connection."""
    def strike():
        raise kind

    def replace_lost():
        nonlocal client, made
        client.close()
        until(lambda closed=client: not closed._open.locked())
        client, made = ThreadedNode(Core(server), **ERRORS), made + 1

    def work(number):
        while not stopping.is_set():
            used = client
            try:
                load(used, 3)
            except ConnectionError:
                pass
            except Lost:
                until(lambda used=used: client is not used or stopping.is_set())

    before, rnd = running_threads(), random.Random(1)
    client, made = ThreadedNode(Core(server), **ERRORS), 1
    stopping = threading.Event()
    threads, errors = in_threads(2, work)
    for _ in range(300):
        try:
            alarm(strike, 1e-5 + rnd.random() * 1e-3)
            for _ in range(20):
                load(client, 5)
                client.call(lambda: None)
                client.take_in()
        except (kind, Lost, ConnectionError):
            alarm(lambda: None, 0)
        if client.lost:
            replace_lost()
    stopping.set()
    join(threads)
    assert load(client, 2) == 2
    client.close()
    assert made > 1 and not errors
    until(lambda: running_threads() <= before)


@pytest.mark.parametrize('moment', [1e-5, 2e-4, 5e-3])
def test_a_signal_handler_that_closes(server, alarm, moment):
    for _ in range(20):
        client = ThreadedNode(Core(server), **ERRORS)
        load(client, 1)
        alarm(client.close, moment)
        with pytest.raises(Closed):
            while True:
                load(client, 5)
                client.call(lambda: None)
                client.run(client.node.request, Sync())
        until(lambda client=client: not client._open.locked())


def test_a_signal_handler_that_calls(client, alarm):
    """In the middle of another call it is refused; else it gets what it asks for."""
    results = []

    def call():
        try:
            results.append(load(client, 7))
        except Reentered:
            results.append('refused')
    rnd = random.Random(1)
    # How many strike where, depends on the machine and on what else it does.
    while min(results.count(7), results.count('refused')) <= 5:
        count = len(results)
        assert count < 5000
        alarm(call, 1e-5 + rnd.random() * 2e-3)
        while len(results) == count:
            assert load(client, 5) == 5
            client.call(lambda: None)
    assert set(results) == {7, 'refused'}
    client.call(call)
    assert results[-1] == 'refused'


def test_a_finalizer_in_a_call(client):
    class Garbage:
        def __init__(self):
            self.itself = self

        def __del__(self):
            try:
                results.append(load(client, 7))
            except Reentered:
                results.append('refused')

    results = []
    Garbage()
    client.call(gc.collect)
    assert results == ['refused']
    Garbage()
    gc.collect()
    assert results == ['refused', 7]
    assert load(client, 1) == 1


def test_a_reader_that_is_held_up(client, alarm):
    """By a signal handler, which waits for one whose answer this very thread has to read."""
    load(client, 1)
    done = []

    def handler():
        threads, errors = in_threads(1, lambda number: done.append(load(client, 3)))
        join(threads)
    alarm(handler, 0.01)
    client.run(client.node.request, Sync())
    assert done == [3]


def test_a_thread_that_is_held_up_in_a_call(server):
    """By a signal handler or a finalizer that waits for one who waits for the lock."""
    client = ThreadedNode(Core(server), **ERRORS, lock_timeout=0.2)
    load(client, 1)
    entered, done = threading.Event(), threading.Event()

    def work(number):
        try:
            assert entered.wait(10)
            with pytest.raises(Lost, match='held up'):
                load(client, 1)
        finally:
            done.set()
    threads, errors = in_threads(1, work)
    with pytest.raises(Lost, match='held up'):
        client.call(lambda: (entered.set(), done.wait(10)))
    join(threads)
    assert not errors and client.lost
    client.close()
    assert not client._open.locked()


# -- the end ----------------------------------------------------------------------------------
def open_files():
    return len(os.listdir('/proc/self/fd'))


def test_close_with_threads_blocked(server, tiny_switches):
    files, threads_before = open_files(), running_threads()
    for _ in range(20):
        client = ThreadedNode(Core(server), **ERRORS)
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
    until(lambda: running_threads() <= threads_before)
    until(lambda: open_files() <= files)


def test_close_before_the_first_call():
    client = ThreadedNode(Core(('127.0.0.1', 1)), **ERRORS)
    client.close()
    with pytest.raises(Closed):
        load(client, 1)


def test_close_while_nobody_answers():
    """It has never connected, and tries."""
    client = ThreadedNode(Core(('127.0.0.1', 1)), **ERRORS)
    threads, errors = in_threads(3, lambda number: load(client, 1))
    until(lambda: len(client._waiters) == 3)
    client.close()
    join(threads)
    assert [type(error) for error in errors] == [Closed] * 3


def test_close_by_who_is_told(server):
    core, client = hears(server, lambda core, client: client.close())
    invalidate(server, 1)
    until(lambda: not client._open.locked())


def test_many_clients_at_once(server, tiny_switches):
    clients = [ThreadedNode(Core(server), **ERRORS) for _ in range(5)]

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
    client = ThreadedNode(Core(server), **ERRORS)
    load(client, 1)
    threads, errors = in_threads(2, lambda number: [load(client, 1) for _ in range(300)])
    child = os.fork()
    if not child:
        status = 1
        try:
            assert client.lost and client._driver._epoll.closed
            load(client, 1)
        except Lost:
            status = 0
        finally:
            os._exit(status)
    try:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        join(threads)
        assert not errors
        assert load(client, 3) == 3 and not client.lost
    finally:
        client.close()


@pytest.mark.filterwarnings('ignore:.*fork:DeprecationWarning')
def test_fork_before_the_first_call(server):
    client = ThreadedNode(Core(server), **ERRORS)
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
