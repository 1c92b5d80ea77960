"""Commits to the database given until it is killed; says what has been committed.

Transaction n writes the number n to the objects n, n+1 … n+4, and is voted and locked, or added at
once, by turns; it is followed by the records of one that is never voted.
"""
import sys

from neo.storage.engine.sqlite import SqliteEngine
from neo.tests.engine.samples import metadata, record


def write(engine, n):
    oids = range(n, n + 5)
    records = [record(oid, b'%d' % n * 500) for oid in oids]
    if n % 2:
        engine.add(n, n, [metadata(*oids)], records)
        engine.commit()
    else:
        engine.pend(n, records)
        engine.vote(n, [metadata(*oids)])
        engine.commit()
        engine.lock_voted(n, n)
        engine.commit()
        engine.unlock(n)


def main(path):
    engine = SqliteEngine(path)
    n = engine.last_tid()
    while True:
        n += 1
        write(engine, n)
        print(n, flush=True)
        engine.pend(1 << 40 | n, [record(1 << 40)])


if __name__ == '__main__':
    main(sys.argv[1])
