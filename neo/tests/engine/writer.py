"""Commits to the database given until it is killed; says what has been committed.

Transaction n writes the number n to the objects n, n+1 … n+4, and goes through the tables of what
is pended, or not, by turns; it is followed by the records of one that is never locked, and one that
is locked and dropped.
"""
import sys

from neo.storage.engine.sqlite import SqliteEngine
from neo.tests.engine.samples import lock, metadata, record


def write(engine, n):
    oids = range(n, n + 5)
    records = [record(oid, b'%d' % n * 500) for oid in oids]
    if n % 2 == 0:
        engine.pend(n, records[:4])
        engine.commit()
        engine.prepare_lock(n, n, n, 2)
        engine.commit()
        records = records[4:]
    lock(engine, n, n, [metadata(*oids)], records, (0, n % 7))
    engine.commit()
    engine.unlock(n)


def main(path):
    engine = SqliteEngine(path)
    n = engine.last_tid()
    while True:
        n += 1
        write(engine, n)
        print(n, flush=True)
        engine.pend(1 << 40 | n, [record(1 << 40, bytes(5000))])
        lock(engine, 1 << 41 | n, 1 << 41 | n, [metadata()], [record(5, b'dropped' * 1000)])
        engine.drop(1 << 41 | n)
        engine.clean(3)


if __name__ == '__main__':
    main(sys.argv[1])
