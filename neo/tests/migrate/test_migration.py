"""What neomigrate does, between two FileStorages: no cluster is needed for it."""
import io
import os
import shutil
import time
from collections import deque
from functools import partial

import pytest
import transaction
import ZODB
from transaction.interfaces import TransientError
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.utils import z64

from ...client.imports import batches
from ...cluster.ids import tid_at
from ...migrate.digest import digest
from ...migrate.filestorage import FileSide, NewFileSide
from ...migrate.migration import Differ, Interrupted, Migration, survey
from ...migrate.neoside import NEOSide
from ...migrate.progress import Progress, duration
from ...migrate.sides import Batch, MigrationError, Past, StorageSide
from ...protocol.types import MAX_OID
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
    from_ = FileSide(source)
    survey(from_, silence(), time.time())
    to = NewFileSide(destination)
    try:
        job = Migration(from_, to, silence(), stop, **limits)
        job.run(quick)
        job.check()
        job.verify()
        return job
    finally:
        to.close()


def silence():
    return Progress(io.StringIO())


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
    job = Migration(from_, to, silence(), tail=2)
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
    with pytest.raises(MigrationError, match='has blobs, which are not available'):
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


# -- what goes wrong in the source ------------------------------------------------------------
class Failing(MappingStorage):
    """A storage whose iterator meets an error which it would be worth to try again after: the
    first `times` times, at the transaction after the one that is named `last`."""

    def __init__(self, times, last):
        super().__init__()
        self.times, self.last = times, last

    def iterator(self, start=None, stop=None):
        for found in super().iterator(start, stop):
            yield found
            if found.description == self.last and self.times:
                self.times -= 1
                raise TransientError('the server is away')


def filled(storage, count=10):
    serial = z64
    for number in range(count):
        databases.with_storage(storage, partial(
            storage.store, z64, serial, b'%d' % number, ''), '', str(number))
        serial = storage.lastTransaction()
    return storage


class Cluster:
    """As the storage of a cluster takes imports: an error that it would be worth to try again
    after is taken for one of the cluster."""

    def __init__(self, path):
        self.file = FileStorage(path)
        self.side = StorageSide('file', self.file)

    def import_transactions(self, batches):
        for batch in self.side.write(Batch(batch, None) for batch in batches):
            yield batch.transactions[-1].tid

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize('last', [b'0', b'5', b'9'])
def test_a_source_that_fails_is_no_success(destination, last):
    """… whatever kind of error it is: after it, the iterator of the source is at its end."""
    failing = StorageSide('source', filled(Failing(1, last)))
    to = NEOSide('cluster', Cluster(destination), pytest.fail)
    job = Migration(failing, to, silence(), batch=2)
    with pytest.raises(MigrationError, match="source can't be read: the server is away"):
        job.run()
    to.close()


def test_a_source_that_fails_while_it_is_surveyed():
    with pytest.raises(MigrationError, match="source can't be read: the server is away"):
        survey(StorageSide('source', filled(Failing(1, b'5'))), silence(), time.time())


def test_a_cluster_as_a_source_is_waited_for():
    """Each transaction once, however often it is lost."""
    storage, said = filled(Failing(1, b'5')), []
    side = NEOSide('cluster', storage, lambda error: said.append(str(error)))
    found = list(side.transactions())
    assert [past.description for past in found] == [b'%d' % n for n in range(10)]
    assert said == ['the server is away']
    storage.times = 1
    assert list(side.tids()) == [past.tid for past in found]
    storage.times = 1
    survey(side, silence(), time.time())
    assert (side.size, side.position) == (10, 0)


# -- what is compared -------------------------------------------------------------------------
def test_what_was_copied_is_read_back(source, destination):
    from_, to = FileSide(source), NewFileSide(destination)
    job = Migration(from_, to, silence(), batch=3)
    job.run()
    assert not job.checked
    with open(destination, 'r+b') as file:
        place = file.read().index(b'set to 3')
        file.seek(place + 7)
        file.write(b'8')
    with pytest.raises(Differ, match='does not hold what was copied: something differs from'):
        job.check()
    to.close()


def test_what_was_copied_and_lost(source, destination):
    from_, to = FileSide(source), NewFileSide(destination)
    job = Migration(from_, to, silence())
    job.run()
    to.close()
    os.truncate(destination, os.path.getsize(destination) // 2)
    job.destination = NewFileSide(destination)
    with pytest.raises(Differ, match='does not hold what was copied'):
        job.check()
    job.destination.close()


def test_digests_see_everything():
    one = Past(5, ' ', b'u', b'd', b'e', [(1, b'x', None), (2, b'y', 3), (4, None, None)])
    others = [one._replace(tid=6), one._replace(status='p'), one._replace(user=b''),
              one._replace(description=b''), one._replace(extension=b''),
              one._replace(revisions=one.revisions[:2]),
              one._replace(revisions=[(1, b'x', 3), *one.revisions[1:]]),
              one._replace(revisions=[(1, b'', None), *one.revisions[1:]]),
              one._replace(revisions=[(1, None, None), *one.revisions[1:]]),
              one._replace(revisions=[(1, b'z', None), *one.revisions[1:]]),
              one._replace(revisions=[(9, b'x', None), *one.revisions[1:]])]
    found = {digest([past]) for past in [one, *others]} | {digest([]), digest([one, one])}
    assert len(found) == len(others) + 3
    assert digest([one]) == digest([one._replace(revisions=one.revisions[::-1])])


def test_an_object_that_is_twice_in_a_transaction(tmp_path, destination):
    """The last one is kept, which is what readers of the file get; and that is known."""
    source = str(tmp_path / 'twice.fs')
    databases.stored_twice(source)
    job = migrate(source, destination)
    tids = [tid for tid, *_ in records(source)]
    assert job.source.superseded == {(int.from_bytes(tids[1], 'big'), 0)}
    before, after = FileStorage(source, read_only=True), FileStorage(destination, read_only=True)
    for tid in tids:
        assert before.loadSerial(z64, tid) == after.loadSerial(z64, tid)
    before.close()
    after.close()
    assert [record.data for t in FileStorage(destination).iterator() for record in t] == [
        b'zero', b'second', b'third', b'first']


def test_the_same_data_twice_are_nothing_to_speak_of(source, destination):
    assert migrate(source, destination).source.superseded == set()


# -- ids that no cluster could go on from -------------------------------------------------------
NOW = 1.7e9


@pytest.mark.parametrize('kind', ['file', 'storage'])
@pytest.mark.parametrize('ids, said', [
    ({'tid': tid_at(NOW + 400)}, 'of 2023-11-14 22:20:00.000000 UTC, which is far ahead'),
    ({'tid': (1 << 63) - 5}, 'far ahead of the clock'), ({'tid': (1 << 64) - 5}, 'far ahead'),
    ({'tid': tid_at(NOW), 'oid': (1 << 63) - 5}, 'object 0x7ffffffffffffffb, and a cluster takes'),
    ({'tid': tid_at(NOW), 'oid': 1 << 63}, 'a cluster takes none above'),
    ({'tid': tid_at(NOW), 'oid': MAX_OID + 1}, 'a cluster takes none above'),
])
def test_ids_that_are_refused(tmp_path, kind, ids, said):
    source = str(tmp_path / 'source.fs')
    databases.with_ids(source, **ids)
    side = FileSide(source) if kind == 'file' else NewFileSide(source)
    with pytest.raises(MigrationError, match=said) as error:
        survey(side, silence(), NOW)
    assert '\n' not in str(error.value)
    side.close()


@pytest.mark.parametrize('ids', [
    {'tid': tid_at(NOW + 200)}, {'tid': tid_at(NOW), 'oid': MAX_OID}, {'tid': 1}])
def test_ids_that_are_not(tmp_path, destination, ids):
    source = str(tmp_path / 'source.fs')
    databases.with_ids(source, **ids)
    survey(FileSide(source), silence(), NOW)
    survey(NewFileSide(source), silence(), NOW)


# -- batches, progress ------------------------------------------------------------------------
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
