"""Damage in the file of a storage is found by `neoctl check`, and repaired."""
import sqlite3
from contextlib import closing

import pytest
import ZODB

from neo.cluster.partition_table import PartitionTable
from neo.protocol.types import MAX_ID
from neo.storage.engine.sqlite import SqliteEngine

from ..daemons import Cluster, wait_for

DAMAGE = {
    'lost': 'DELETE FROM obj WHERE oid > 10 AND oid % 3 = 0',
    'data': 'UPDATE obj SET data = zeroblob(10) WHERE oid > 10 AND oid % 7 = 0 AND data NOTNULL',
    'checksum': 'UPDATE obj SET checksum = zeroblob(16) WHERE oid > 10 AND oid % 7 = 0',
    'large': 'UPDATE large SET data = zeroblob(5000)',
    'metadata': 'UPDATE trans SET description = zeroblob(5)'}


def fill(cluster):
    """A few transactions; large objects too."""
    db = ZODB.DB(cluster.client())
    with db.transaction() as connection:
        for number in range(60):
            connection.root()[number] = type(connection.root())({'data': 'x' * number * 300})
    for number in range(5):
        with db.transaction() as connection:
            connection.root()[number]['again'] = number
    db.close()


def content(database):
    with closing(SqliteEngine(str(database))) as engine:
        limits = 1, (0,), MAX_ID, 1 << 30
        records, transactions = [], []
        after, start = (0, None), 0
        while after is not None:
            found, after = engine.records(*after, MAX_ID, *limits)
            records += found
        while start is not None:
            found, start = engine.transactions(start, MAX_ID, *limits)
            transactions += found
        return records, transactions


def equal(cluster):
    """Are all cells up to date?"""
    table = PartitionTable.unpack(cluster.describe().table)
    return all(set(table.letters(id)) == {'U'} for id in table.storages())


@pytest.mark.parametrize('kind', ['all', 'data'])
def test_check(kind):
    with Cluster(storages=3, replicas=2, admin=True) as cluster:
        fill(cluster)
        cluster.stop()
        expected = content(cluster.databases[0])
        with closing(sqlite3.connect(cluster.databases[1])) as connection:
            for statement in DAMAGE.values() if kind == 'all' else [DAMAGE[kind]]:
                assert connection.execute(statement).rowcount > 0
            connection.commit()
        cluster.start()
        cluster.wait_running()
        said, status = cluster.ctl('check', ':')
        assert status == 0 and said.startswith('rows 0-11: copies are compared')
        cluster.wait_log(cluster.master, 'the check of 12 rows has ended')
        assert 'cells are wrong or in doubt' in cluster.master.log()
        wait_for(lambda: equal(cluster), 'all is repaired')
        assert 'trouble' not in cluster.ctl('print', 'summary')[0]
        cluster.ctl('check', ':')
        cluster.wait_log(cluster.master, 'all copies are equal')
        cluster.stop()
        assert [content(database) for database in cluster.databases] == [expected] * 3


def test_what_is_refused():
    with Cluster(storages=1, admin=True) as cluster:
        cluster.wait_running()
        assert cluster.ctl('check', '12:') == (
            'neoctl: there is no row 12: the table has rows 0 to 11', 1)
        assert cluster.ctl('check', ':S2')[1] == 1
        cluster.kill(cluster.storages[0])
        wait_for(lambda: 'while the cluster runs only' in cluster.ctl('check', ':')[0], 'it does')
