"""What neomigrate does, between two FileStorages: no cluster is needed for it."""
import io
import os
import shutil
from collections import deque

import pytest
import transaction
import ZODB
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage

from ...migrate.migration import Differ, Interrupted, Migration, batches
from ...migrate.progress import Progress, duration
from ...migrate.sides import FileSide, MigrationError, NewFileSide, Past, StorageSide
from . import databases


@pytest.fixture
def source(tmp_path):
    path = str(tmp_path / 'source.fs')
    databases.odd_history(path, large=3_000_000)
    return path


@pytest.fixture
def destination(tmp_path):
    return str(tmp_path / 'destination.fs')


def migrate(source, destination, stop=lambda: False, quick=False, **limits):
    from_, to = FileSide(source), NewFileSide(destination)
    try:
        from_.check()
        job = Migration(from_, to, Progress(io.StringIO()), stop, **limits)
        job.run(quick)
        job.verify()
        return job
    finally:
        to.close()


def records(path):
    return [(t.tid, t.status, t.user, t.description, t.extension_bytes,
             {r.oid: (r.tid, r.data, r.data_txn) for r in t})
            for t in FileStorage(path, read_only=True).iterator()]


def stop_after(number):
    """Says yes when it has been asked so often."""
    answers = deque([False] * number)
    return lambda: not answers or answers.popleft()


def test_everything_is_copied(source, destination):
    job = migrate(source, destination)
    assert records(source) == records(destination)
    assert job.total == len(records(source))


def test_the_odd_history_is_odd(source):
    """The other tests rest on it."""
    found = records(source)
    assert any(not revisions for *_, revisions in found)
    assert any(data_txn and data for *_, all in found for _, data, data_txn in all.values())
    assert any(data is None for *_, all in found for _, data, _ in all.values())
    tids = {tid: all for tid, *_, all in found}
    assert any(tids[data_txn][oid][2] for *_, all in found for oid, (_, _, data_txn) in all.items()
               if data_txn), 'no pointer to a pointer'


def test_packed(tmp_path, destination):
    source = str(tmp_path / 'packed.fs')
    databases.packed(source)
    assert 'p' in {status for _, status, *_ in records(source)}
    migrate(source, destination)
    assert records(source) == records(destination)


def test_in_use(source, destination):
    """Its lock is not needed; what is committed later is not copied."""
    storage = FileStorage(source)
    try:
        migrate(source, destination)
    finally:
        storage.close()


def test_on_its_way(source, destination):
    """A transaction that is not finished is at the end of the file."""
    storage = FileStorage(source)
    txn = databases.TransactionMetaData()
    storage.tpc_begin(txn)
    storage.store(storage.new_oid(), bytes(8), b'x' * 100_000, '', txn)
    storage.tpc_vote(txn)
    try:
        assert migrate(source, destination).total == len(records(source))
        with open(source, 'rb') as file:
            content = file.read()
    finally:
        storage.tpc_abort(txn)
        storage.close()
    cut = content[:-80_000]
    with open(source, 'wb') as file:
        file.write(cut)
    os.remove(destination)
    migrate(source, destination)


@pytest.mark.parametrize('quick', [False, True])
def test_again_and_more(source, destination, quick):
    migrate(source, destination)
    first = len(records(source))
    databases.append(source, 3)
    job = migrate(source, destination, quick=quick)
    assert job.total == first + 3
    assert records(source) == records(destination)


def test_quick_compares_the_end_only(source, destination):
    migrate(source, destination)
    total = len(records(source))
    from_, to = FileSide(source), NewFileSide(destination)
    job = Migration(from_, to, Progress(io.StringIO()), tail=2)
    job.run(quick=True)
    to.close()
    assert (job.skipped, job.compared, job.copied, job.total) == (total - 2, 2, 0, total)


def test_interrupted(source, destination):
    with pytest.raises(Interrupted):
        migrate(source, destination, stop_after(3), batch=2)
    there = records(destination)
    assert 0 < len(there) < len(records(source))
    with pytest.raises(Interrupted):        # while it compares
        migrate(source, destination, stop_after(1))
    migrate(source, destination)
    assert records(source) == records(destination)


@pytest.mark.parametrize('quick', [False, True])
def test_another_history(source, destination, quick, tmp_path):
    databases.odd_history(destination, large=100)
    before = records(destination)
    with pytest.raises(Differ):
        migrate(source, destination, quick=quick)
    assert records(destination) == before
    with pytest.raises(Differ) as error:
        migrate(source, destination)
    assert '%#018x' % int.from_bytes(records(source)[0][0], 'big') in str(error.value)


def test_more_than_the_source(source, destination):
    shutil.copy(source, destination)
    databases.append(destination)
    last = records(destination)[-1][0].hex().lstrip('0')
    with pytest.raises(Differ, match=last):
        migrate(source, destination)


def test_one_byte(source, destination):
    shutil.copy(source, destination)
    with open(destination, 'r+b') as file:
        place = file.read().index(b'set to 3')
        file.seek(place + 7)
        file.write(b'8')
    with pytest.raises(Differ, match="description b'set to 8' instead of b'set to 3'"):
        migrate(source, destination)


@pytest.mark.parametrize('place', [0.1, 0.5, 0.9])
def test_damaged(source, destination, place):
    """Whatever its iterator thinks of it: all or an error."""
    tids = [tid for tid, *_ in records(source)]
    with open(source, 'r+b') as file:
        content = file.read()
        file.seek(content.index(tids[int(len(tids) * place)]) + 9)
        file.write(b'\xff')                 # the length of a transaction
    with pytest.raises(MigrationError, match='damaged at byte'):
        migrate(source, destination)


def test_not_a_file_storage(tmp_path):
    path = tmp_path / 'text'
    path.write_text('something else')
    with pytest.raises(MigrationError, match='not the file of a FileStorage'):
        FileSide(str(path))


def test_blobs(tmp_path, destination):
    source = str(tmp_path / 'blobs.fs')
    db = ZODB.DB(FileStorage(source, blob_dir=str(tmp_path / 'blobs')))
    with db.transaction() as connection:
        connection.root()['not a blob'] = 'ZODB.blob'
    with db.transaction() as connection:
        connection.root()['blob'] = Blob(b'data')
    db.close()
    with pytest.raises(MigrationError, match='blobs are not available'):
        migrate(source, destination)
    assert not os.path.exists(destination) or not records(destination)


def test_text_that_looks_like_a_blob(tmp_path, destination):
    source = str(tmp_path / 'source.fs')
    db = ZODB.DB(FileStorage(source))
    with db.transaction() as connection:
        connection.root()['not a blob'] = 'ZODB.blob'
    db.close()
    migrate(source, destination)


def test_empty(tmp_path, destination):
    source = str(tmp_path / 'source.fs')
    FileStorage(source).close()
    assert migrate(source, destination).total == 0


def test_hints_that_lead_nowhere(source, tmp_path):
    """Other storages may say that data come from a transaction that they do not have."""
    storage = FileStorage(source, read_only=True)
    side = StorageSide('source', storage)
    past = list(side.transactions())
    assert past == list(FileSide(source).transactions())
    oid, data, data_tid = next(r for p in past for r in p.revisions if r[1] and r[2])
    assert side._known(oid, data, data_tid) == (oid, data, data_tid)
    assert side._known(oid, data + b'x', data_tid) == (oid, data + b'x', None)
    assert side._known(oid, data, data_tid + 1) == (oid, data, None)
    assert list(side.transactions(past[3].tid)) == past[3:]
    side.close()
    transaction.abort()


def pasts(*sizes):
    return [Past(i, ' ', b'', b'', b'', [(i, bytes(size), None)]) for i, size in enumerate(sizes)]


def test_batches():
    assert list(batches([])) == []
    small = pasts(*[10] * 2500)
    assert [len(batch) for batch in batches(small)] == [1000, 1000, 500]
    mixed = pasts(10, 600_000, 600_000, 5_000_000, 10, 10)
    assert [[p.tid for p in batch] for batch in batches(mixed)] == [[0, 1], [2], [3], [4, 5]]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_progress_in_a_log():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, clock)
    progress.start('copying', 20_000_000, 120_000_000, True)
    for clock.now in range(1, 25):
        progress.update(20_000_000 + 2_000_000 * clock.now, 10 * clock.now)
    progress.end(120_000_000, 500)
    first, second, last = stream.getvalue().splitlines()
    assert first == 'copying   33.3%  40.0 of 120.0 MB  2.0 MB/s  100 transactions  0:40 left'
    assert '50.0%' in second
    assert last.endswith('500 transactions  in 0:24')


def test_progress_on_a_terminal():
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, clock, terminal=True)
    progress.start('copying', 0, None, False)
    for clock.now in (0.1, 0.15, 0.4):
        progress.update(5, 5)
    progress.clear()
    progress.end(7, 7)
    shown = stream.getvalue().split('\r')
    assert [line.strip() for line in shown if line.strip()] == [
        'copying  5 transactions  50/s  in 0:00', 'copying  5 transactions  12/s  in 0:00',
        'copying  7 transactions  18/s  in 0:00']
    assert shown[-1].endswith('\n')


def test_duration():
    assert [duration(s) for s in (0, 61, 3661)] == ['0:00', '1:01', '1:01:01']
