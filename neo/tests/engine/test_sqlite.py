"""What is SQLite's own: files, settings, other processes, errors at any place."""
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from functools import partial

import pytest

from neo.protocol.types import MAX_ID
from neo.storage.engine import check, open_engine, reset
from neo.storage.engine.interface import EngineError
from neo.storage.engine.schema import VERSION
from neo.storage.engine.sqlite import APPLICATION_ID, SqliteEngine, parse

from .samples import add, all_records, clean, everything, lock, metadata, record


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'data.sqlite')


def pragma(engine, name):
    value, = engine._execute('PRAGMA ' + name).fetchone()
    return value.decode() if isinstance(value, bytes) else value


def fill(path, count=50):
    """A closed database with some content."""
    engine = SqliteEngine(path)
    for n in range(1, count):
        add(engine, n, n, [metadata(n)], [record(n, b'%d' % n * 1000), record(0, b'%d' % n)])
        engine.commit()
    engine.close()


def files(folder):
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), 'rb') as file:
            found[name] = file.read()
    return found


# -- opening --------------------------------------------------------------------------------
def test_a_new_file_is_private_and_says_what_it_is(path, tmp_path):
    engine = SqliteEngine(path)
    assert pragma(engine, 'application_id') == APPLICATION_ID
    assert pragma(engine, 'user_version') == VERSION
    add(engine, 1, 1, [], [record(1)])
    engine.commit()
    for name in os.listdir(tmp_path):
        assert name in ('data.sqlite', 'data.sqlite-wal', 'data.sqlite-reserve')
        assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600
    engine.close()
    assert os.listdir(tmp_path) == ['data.sqlite']


def test_an_empty_file_is_a_new_one(path):
    open(path, 'w').close()
    engine = SqliteEngine(path)
    assert engine.last_oid() == -1
    engine.close()


@pytest.mark.parametrize('name', [':memory:', 'a?b=c#d%20e.sqlite', 'é ü', "quo'te"])
def test_file_names(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        engine = SqliteEngine(name)
        engine.put('x', (engine.get('x') or 0) + 1)
        engine.commit()
        found = engine.get('x')
        engine.close()
    assert found == 2 and os.listdir(tmp_path) == [name]


def foreign(path):
    connection = sqlite3.connect(path)
    connection.execute('PRAGMA journal_mode = WAL')
    connection.execute('CREATE TABLE obj (oid INTEGER)')
    connection.commit()
    connection.close()


def newer(path):
    fill(path)
    connection = sqlite3.connect(path)
    connection.execute('PRAGMA user_version = %d' % (VERSION + 1))
    connection.close()


def older(path):
    fill(path)
    connection = sqlite3.connect(path)
    connection.execute('PRAGMA user_version = %d' % (VERSION - 1))
    connection.close()


def overwrite(path, at, data):
    with open(path, 'r+b') as file:
        file.seek(at)
        file.write(data)


def text(path):
    with open(path, 'w') as file:
        file.write('all my thoughts, in words\n' * 1000)


def short(path):
    fill(path)
    os.truncate(path, 50)


def no_magic(path):
    fill(path)
    overwrite(path, 0, b'SQLite format 4\0')


def bad_page_size(path):
    fill(path)
    overwrite(path, 16, b'\0\7')


def bad_schema_page(path):
    fill(path)
    overwrite(path, 100, b'\xff' * 5000)


@pytest.mark.parametrize('make, message', [
    (foreign, 'another application'), (newer, 'newer version'), (older, 'never released'),
    (text, 'not a database of NEO'),
    (short, 'not a database of NEO'), (no_magic, 'not a database of NEO'),
    (bad_page_size, 'not a database of NEO'), (bad_schema_page, 'corrupted')])
def test_what_is_not_ours_or_not_whole_is_left_alone(path, tmp_path, make, message):
    make(path)
    before = files(tmp_path)
    with pytest.raises(EngineError, match=message) as caught:
        SqliteEngine(path)
    assert path in str(caught.value) and '\n' not in str(caught.value)
    assert {name: data for name, data in files(tmp_path).items() if data} == before


def test_a_folder_is_not_made(tmp_path):
    with pytest.raises(EngineError, match='there is no folder'):
        SqliteEngine(str(tmp_path / 'folder' / 'data.sqlite'))
    with pytest.raises(EngineError, match='not the path of a file'):
        SqliteEngine(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_log_without_its_database_is_not_applied_to_a_new_one(path):
    with open(path + '-wal', 'wb') as file:
        file.write(b'x')
    with pytest.raises(EngineError, match='without its database'):
        SqliteEngine(path)
    reset(None, path)
    SqliteEngine(path).close()


@pytest.mark.parametrize('mode', ['WAL', 'DELETE'])
def test_a_second_one_on_the_same_database_is_refused(path, mode):
    engine = SqliteEngine('file:%s?journal_mode=%s' % (path, mode))
    engine.put('x', 1)
    engine.commit()
    with pytest.raises(EngineError, match='is used by another process'):
        SqliteEngine(path)
    script = ('import sys\n'
              'from neo.storage.engine.sqlite import SqliteEngine, EngineError, reset\n'
              'for function in SqliteEngine, reset:\n'
              '    try: function(sys.argv[1])\n'
              '    except EngineError as e: print(e)\n')
    done = subprocess.run([sys.executable, '-c', script, path], capture_output=True, text=True,
                          timeout=60)
    assert done.stdout == ('%s is used by another process\n' % path) * 2, done.stderr
    engine.put('x', 2)
    engine.commit()
    engine.close()
    engine = SqliteEngine(path)
    assert engine.get('x') == 2
    engine.close()


# -- settings -------------------------------------------------------------------------------
def test_defaults_are_durable(path):
    engine = SqliteEngine(path)
    assert pragma(engine, 'journal_mode') == 'wal' and pragma(engine, 'synchronous') == 2
    assert pragma(engine, 'locking_mode') == 'exclusive'
    engine.close()


def test_settings_of_a_uri(path):
    engine = SqliteEngine('file://%s?synchronous=normal&journal_mode=delete&cache_size=-9' % path)
    assert pragma(engine, 'journal_mode') == 'delete' and pragma(engine, 'synchronous') == 1
    assert pragma(engine, 'cache_size') == -9
    engine.close()


@pytest.mark.parametrize('query, message', [
    ('synchronous=maybe', 'must be one of OFF'), ('journal_mode=OFF', 'must be one of WAL'),
    ('cache_size=1;2', 'must be an integer'), ('cache_size=', 'must be an integer'),
    ('synchronous', 'must be one of'), ('mode=memory', "unknown key 'mode'"),
    ('Synchronous=FULL', 'unknown key')])
def test_bad_settings(path, query, message):
    with pytest.raises(EngineError, match=message):
        SqliteEngine('file:%s?%s' % (path, query))
    assert not os.path.exists(path)


def test_parse():
    for same in ('file:///a%20b/c', 'file:/a%20b/c', 'file://localhost/a%20b/c', '/a b/c'):
        assert parse(same)[0] == '/a b/c'
    assert parse('file:x')[0] == parse('x')[0] == os.path.abspath('x')
    for bad in ('', 'file:', 'file://host/path', 'a\0b', 'file:/a#b'):
        with pytest.raises(EngineError):
            parse(bad)


def test_open_engine(path):
    for adapter, database in ((None, path), ('SQLite', path), (None, 'file:' + path),
                              (None, path.replace('data', 'a@b'))):
        open_engine(adapter, database).close()
    for adapter, database in (('MySQL', 'db'), (None, 'user:password@db'), ('MySQL', path)):
        with pytest.raises(EngineError, match='the MySQL adapter is not available in this version'):
            open_engine(adapter, database)
    with pytest.raises(EngineError, match='unknown adapter'):
        open_engine('Oracle', path)
    with pytest.raises(EngineError, match='SQLite has no choice'):
        open_engine('SQLite', path, 'InnoDB')


def test_check_changes_nothing(path, tmp_path):
    assert check(None, path) is None
    engine = open_engine(None, path)
    assert check(None, path) is None        # in use
    engine.put('cluster', 'somebody')
    engine.commit()
    assert check(None, path) in (None, 'somebody')
    engine.close()
    before = files(tmp_path)
    assert check('SQLite', 'file:%s?cache_size=5' % path) == 'somebody'
    assert files(tmp_path) == before


@pytest.mark.parametrize('make', [foreign, newer, older, text, no_magic])
def test_check_refuses_what_can_not_be_opened(path, make):
    make(path)
    with pytest.raises(EngineError) as refused:
        check(None, path)
    with pytest.raises(EngineError) as caught:
        open_engine(None, path)
    assert str(refused.value) == str(caught.value)


# -- reset ----------------------------------------------------------------------------------
def test_reset(path, tmp_path):
    reset(None, path)
    for make in (fill, newer, bad_schema_page, lambda path: open(path, 'w').close()):
        make(path)
        reset('SQLite', path)
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('make', [foreign, text, no_magic, bad_page_size])
def test_reset_spares_what_is_not_ours(path, tmp_path, make):
    make(path)
    before = files(tmp_path)
    with pytest.raises(EngineError, match='is not a database of NEO'):
        reset(None, path)
    assert files(tmp_path) == before


# -- errors ---------------------------------------------------------------------------------
def test_a_corrupted_page_is_told_when_it_is_met(path):
    fill(path, 200)
    size = os.path.getsize(path)
    overwrite(path, size // 2, os.urandom(size // 2))
    engine = SqliteEngine(path)
    with pytest.raises(EngineError):
        all_records(engine)
        for n in range(200):
            engine.load(n, MAX_ID)
            engine.history(n, MAX_ID, 1000)
    engine.close()


def change(engine):
    """One turn with all kinds of changes."""
    engine.put('y', b'x' * 9000)
    add(engine, 100, 100, [metadata(1, 100)], [record(oid, b'x' * 9000) for oid in (1, 100)])
    engine.pend(101, [record(oid, b'x' * 9000) for oid in (101, 102)])
    engine.prepare_lock(101, 101, 101, 1)
    lock(engine, 101, 101, [metadata(101)], [record(102, b'y' * 9000)], (1, 2))
    engine.unlock(101)
    lock(engine, 102, 102, [metadata(1)], [record(oid, b'x' * 9000) for oid in range(5)])
    engine.drop(102)
    engine.clean(2)
    engine.pend(103, [record(102)])
    engine.forget(103)
    engine.clean(1)


def check_failure(path, prepare, expected):
    """A turn that fails where `prepare` says leaves nothing half; returns the message, or None.

    `expected` are the contents before and after the turn: only an error in the last moment of the
    commit may leave the latter.
    """
    copy = path + '.copy'
    shutil.copy(path, copy)
    engine = SqliteEngine(copy)
    try:
        prepare(engine)
        where = 'before'
        try:
            change(engine)
            where = 'commit'
            engine.commit()
        except EngineError as error:
            failed = str(error)
        else:
            return None
        with pytest.raises(EngineError):
            engine.commit()
    finally:
        engine.close()
    found = content(copy)
    assert found == expected[0] or (where == 'commit' and found == expected[1])
    return failed


def content(path, prepare=lambda engine: None):
    engine = SqliteEngine(path)
    prepare(engine)
    found = everything(engine), engine.get('y')
    engine.close()
    return found


def leave_room(pages, engine):
    engine._execute('PRAGMA max_page_count = %d' % (pragma(engine, 'page_count') + pages))


def interrupt_after(count, engine):
    steps = iter(range(count))
    engine._connection.set_progress_handler(lambda: next(steps, None) is None, 1)


def test_a_full_disk_wherever_it_is_met(path):
    fill(path, 5)
    expected = content(path), content(path, change)
    messages = []
    for pages in range(100):
        failed = check_failure(path, partial(leave_room, pages), expected)
        if failed is None:
            break
        messages.append(failed)
    assert len(messages) > 3
    assert all('the disk is full' in message for message in messages)


def test_a_failure_wherever_it_comes(path):
    """Interrupt SQLite after its n-th step, for many n, until nothing is left to interrupt."""
    fill(path, 5)
    expected = content(path), content(path, change)
    failures, n = 0, 1
    while True:
        if check_failure(path, partial(interrupt_after, n), expected) is None:
            break
        failures += 1
        n += 1 + n // 10
    assert failures > 10


def test_a_checkpoint_that_did_not_end(path, tmp_path):
    """The log has all; of the file, only some pages were written, the first one among them."""
    engine = SqliteEngine(path)
    engine._execute('PRAGMA wal_autocheckpoint = 0')
    for n in range(1, 50):
        add(engine, n, n, [metadata(n)], [record(n, b'x' * 5000)])
        engine.commit()
    expected = everything(engine)
    half = str(tmp_path / 'half.sqlite')
    shutil.copy(path, half)
    shutil.copy(path + '-wal', half + '-wal')
    engine.close()
    with open(path, 'rb') as file:
        overwrite(half, 0, file.read(2 * 8192))
    assert os.path.getsize(half) < os.path.getsize(path)
    engine = SqliteEngine(half)
    assert everything(engine) == expected
    engine.close()
    reset(None, half)


# -- kill -9 --------------------------------------------------------------------------------
def check_written(path, told):
    """All that the writer told is there, and nothing half."""
    engine = SqliteEngine(path)
    last = engine.last_tid()
    assert all(locked == (last, last, last, (0, last % 7)) for locked in engine.locked())
    assert dict(engine.told()).get(0, 0) in (last, last - 1) and last >= told
    clean(engine)
    expected = [(oid, n, b'%d' % n * 500) for n in range(1, last + 1) for oid in range(n, n + 5)]
    records = all_records(engine, max_rows=1000)[0]
    assert [(oid, tid, data) for oid, tid, _, _, data, _ in records] == expected
    assert all(engine.tid_of(n) == n for n in range(1, last + 1))
    assert engine.measure()[0] == last + 4
    for locked in engine.locked():
        engine.unlock(locked.ttid)
    engine.commit()
    engine.close()


def test_a_killed_process_leaves_all_it_has_committed(path):
    for lines in (1, 2, 7, 60, 300):
        with subprocess.Popen([sys.executable, '-m', 'neo.tests.engine.writer', path],
                              stdout=subprocess.PIPE, text=True) as writer:
            try:
                for _ in range(lines):
                    told = int(writer.stdout.readline())
            finally:
                writer.send_signal(signal.SIGKILL)
        check_written(path, told)


# -- costs ----------------------------------------------------------------------------------
def pages_written(engine, call):
    """Frames of the log that this call and a commit have made."""
    engine._execute('PRAGMA wal_checkpoint(TRUNCATE)')
    call()
    engine.commit()
    return engine._execute('PRAGMA wal_checkpoint(PASSIVE)').fetchone()[1]


def test_locks_and_drops_cost_their_rows_and_not_their_bytes(path):
    engine = SqliteEngine(path)
    data = b'x' * (1 << 20)
    for ttid in (1, 2):
        records = [record(oid, data) for oid in range(40)]
        assert pages_written(engine, partial(engine.pend, ttid, records)) > 40 * 128
    assert pages_written(engine, lambda: lock(engine, 1, 10, [metadata(1)])) < 20
    assert pages_written(engine, lambda: engine.unlock(1)) < 3
    assert pages_written(engine, lambda: engine.prepare_lock(2, 20, 20, 30)) < 20
    assert pages_written(engine, lambda: lock(engine, 2, 20, [metadata(1)])) < 20
    assert pages_written(engine, lambda: engine.drop(2)) < 5
    slices = 0
    while engine.needs_cleaning:        # one of 1 MiB counts as 16 rows
        assert pages_written(engine, lambda: engine.clean(60)) < 30
        slices += 1
    assert slices > 8
    size = os.path.getsize(path)
    engine.pend(3, [record(oid, data) for oid in range(39)])
    engine.commit()
    engine._execute('PRAGMA wal_checkpoint(TRUNCATE)')
    assert os.path.getsize(path) == size        # of the same pages
    engine.close()


def test_a_commit_of_one_object_writes_few_pages(path):
    engine = SqliteEngine(path)
    add(engine, 1, 1, [], [record(oid) for oid in range(3000)])
    engine.commit()
    written = [pages_written(engine, partial(one_commit, engine, tid)) for tid in range(100, 250)]
    # obj and its two indexes, trans and its one, lock_journal; now and then a page is split.
    assert min(written) == 6 and max(written) < 12 and sum(written) < 7 * len(written)
    engine.close()


def test_the_journal_of_locks_stays_short(path):
    engine = SqliteEngine(path)
    lengths = []
    for tid in range(1, 400):
        one_commit(engine, tid)
        engine.commit()
        lengths.append(engine._execute('SELECT COUNT(*) FROM lock_journal').fetchone()[0])
    assert 50 < max(lengths) < 80 and lengths.count(1) > 4
    engine.close()


def one_commit(engine, tid):
    engine.unlock(tid - 1)
    lock(engine, tid, tid, [metadata(5)], [record(5, b'x' * 500)], (5,))
