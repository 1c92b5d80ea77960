"""Records and transactions for tests, and questions that tests ask often."""
import sqlite3

from neo.protocol.checksum import checksum
from neo.protocol.types import MAX_ID, Metadata, Record
from neo.storage.engine.sqlite import PAGE_SIZE


def record(oid, data=b'data', tid=None, base=None, data_tid=None, compression=0):
    return Record(oid, base, tid, compression, checksum(data), data, data_tid)


def metadata(*oids, tid=None, status=' ', user=b'user', description=b'why', extension=b'{}'):
    return Metadata(tid, status, user, description, extension, oids)


def lock(engine, ttid, tid, metadata=(), records=(), rows=()):
    """Locked with `tid` as its highest one."""
    first = min([one.tid for one in (*metadata, *records) if one.tid is not None], default=tid)
    engine.lock(ttid, first, tid, rows, metadata, records)


def add(engine, ttid, tid, metadata=(), records=()):
    """Locked and told."""
    lock(engine, ttid, tid, metadata, records)
    engine.unlock(ttid)


def clean(engine, amount=1000):
    """To the end; how many slices were needed."""
    slices = 0
    while engine.needs_cleaning:
        assert engine.clean(amount) == engine.needs_cleaning
        slices += 1
    return slices


def all_records(engine, start=0, stop=MAX_ID + 1, partitions=1, rows=(0,), max_rows=100,
                max_bytes=1 << 20):
    """What an iteration to the end gives, and in how many calls."""
    found, after, calls = [], (start, None), 0
    while after is not None:
        chunk, after = engine.records(*after, stop, partitions, rows, max_rows, max_bytes)
        assert len(chunk) <= max_rows
        found += chunk
        calls += 1
    return found, calls


def all_transactions(engine, start=0, stop=MAX_ID + 1, partitions=1, rows=(0,), max_rows=100,
                     max_bytes=1 << 20):
    found, calls = [], 0
    while start is not None:
        chunk, after = engine.transactions(start, stop, partitions, rows, max_rows, max_bytes)
        assert len(chunk) <= max_rows and (after is None or after > start)
        found += chunk
        start = after
        calls += 1
    return found, calls


def everything(engine):
    """All that can be asked of the history and of what is on its way, for comparisons."""
    records, _ = all_records(engine)
    oids = sorted({oid for oid, *_ in records})
    tids = sorted({tid for _, tid, *_ in records})
    transactions, _ = all_transactions(engine)
    return dict(
        records=records, transactions=transactions, locked=engine.locked(), told=engine.told(),
        loads=[(oid, before, engine.load(oid, before))
               for oid in oids for tid in tids for before in (tid, tid + 1)],
        current=[engine.current(oid) for oid in oids],
        history=[engine.history(oid, MAX_ID, 1000) for oid in oids],
        tids=[engine.tid_of(ttid) for _, ttid, *_ in transactions],
        last_tid=engine.last_tid())


def break_page(path, table, which):
    """Zeros over one leaf of a table, in a database of SQLite that is closed."""
    connection = sqlite3.connect(path)
    page, = connection.execute(
        "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path"
        ' LIMIT 1 OFFSET ?', (table, which)).fetchone()
    connection.close()
    with open(path, 'r+b') as file:
        file.seek((page - 1) * PAGE_SIZE)
        file.write(bytes(PAGE_SIZE))
