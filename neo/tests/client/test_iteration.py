"""The iterator over storages that answer as they please; without any cluster."""
import pytest
from ZODB.utils import p64

from ...client.core.loads import Regroup
from ...client.exception import NEOStorageError
from ...client.iteration import Iterator
from ...protocol.types import StoredMetadata, StoredRecord

ROWS = 4


class Client:
    """Storages with rows; a chunk has two items.  `moves` counts down to a change of the table."""

    def __init__(self, transactions, storages=2, moves=None):
        self.transactions = transactions    # tid -> {oid: data}
        self.storages = storages
        self.moves = moves
        self.asked = []
        self.runs, self.fails = 0, None

    def run(self, function, *args):
        """Every third time it fails, as long as `fails`."""
        self.runs += 1
        if self.fails and not self.runs % 3:
            raise self.fails
        return function(self, *args)

    def groups(self, rows=None):
        rows = range(ROWS) if rows is None else rows
        groups = {}
        for row in rows:
            groups.setdefault(row % self.storages, []).append(row)
        return [tuple(rows) for rows in groups.values()]

    def _moved(self, rows):
        if self.moves is not None:
            self.moves -= 1
            if self.moves == 0:
                self.storages = ROWS
        return len({row % self.storages for row in rows}) > 1

    def list_transactions(self, rows, start, stop):
        self.asked.append(('transactions', rows, start, stop))
        if self._moved(rows):
            return Regroup(self.groups(rows))
        found = [StoredMetadata(tid, tid, ' ', b'user', b'%d' % tid, b'', tuple(oids))
                 for tid, oids in sorted(self.transactions.items())
                 if tid % ROWS in rows and start <= tid < stop]
        return tuple(found[:2]), found[2][0] if len(found) > 2 else None

    def list_records(self, rows, start, after_oid, stop):
        self.asked.append(('records', rows, start, after_oid, stop))
        if self._moved(rows):
            return Regroup(self.groups(rows))
        found = [StoredRecord(oid, tid, 0, b'', data, None)
                 for tid, oids in sorted(self.transactions.items())
                 for oid, data in sorted(oids.items())
                 if oid % ROWS in rows and tid < stop
                 and (tid, oid) > (start, -1 if after_oid is None else after_oid)]
        if after_oid is None:
            found = [r for r in found if r[1] >= start]
        return tuple(found[:2]), (found[1][1], found[1][0]) if len(found) > 2 else None


def decode(compression, checksum, data, oid, tid):
    return data


def iterator(client, start=0, stop=1000, decode=decode, **options):
    return Iterator(client.run, client.groups, decode, start, stop, **options)


@pytest.fixture
def past():
    return {tid: {oid: b'%d %d' % (tid, oid) for oid in range(tid % 7)} for tid in range(10, 40)}


def read(transactions):
    return {int.from_bytes(t.tid, 'big'): {
        int.from_bytes(r.oid, 'big'): r.data for r in t} for t in transactions}


@pytest.mark.parametrize('storages, moves', [(1, None), (2, None), (4, None), (1, 7), (2, 20)])
def test_all_of_it_in_order(past, storages, moves):
    found = read(iterator(Client(past, storages, moves)))
    assert found == past and list(found) == sorted(found)
    assert all(list(oids) == sorted(oids) for oids in found.values())


def test_bounds(past):
    assert list(read(iterator(Client(past), 15, 18))) == [15, 16, 17]
    assert read(iterator(Client(past), 18, 15)) == {}
    assert read(iterator(Client({}))) == {}


def test_it_is_consumed_once_and_a_transaction_again_and_again(past):
    transactions = iterator(Client(past))
    first, *others = transactions
    assert list(transactions) == []
    assert [r.data for r in first] == [r.data for r in first] == list(past[10].values())
    assert len(others) == len(past) - 1


def test_records_of_transactions_in_any_order(past):
    transactions = list(iterator(Client(past)))
    for transaction in [transactions[i] for i in (20, 21, 22, 3, 4, 29, 0, 1)]:
        tid = int.from_bytes(transaction.tid, 'big')
        assert {int.from_bytes(r.oid, 'big'): r.data for r in transaction} == past[tid]


def test_records_are_not_asked_for_if_nobody_wants_them(past):
    client = Client(past)
    assert len(list(iterator(client))) == len(past)
    assert not any(asked[0] == 'records' for asked in client.asked)


def test_large_transactions_are_not_kept():
    client = Client({10: {1: b'x'}, 11: {oid: bytes(100) for oid in range(50)}, 12: {2: b'y'}})
    transactions = iterator(client, keep=400)
    next(transactions)
    large = next(transactions)
    assert len(list(large)) == len(list(large)) == 50
    assert large._records is None
    last = next(transactions)
    assert [(r.oid, r.data) for r in last] == [(p64(2), b'y')]


def test_what_a_transaction_says():
    transaction, = iterator(Client({10: {1: b'x'}}))
    assert transaction.tid == p64(10) and transaction.status == ' '
    assert transaction.user == b'user' and transaction.description == b'10'
    assert transaction.extension == {} and transaction.extension_bytes == b''


def test_closed(past):
    transactions = iterator(Client(past))
    next(transactions)
    transactions.close()
    assert list(transactions) == []


@pytest.mark.parametrize('error', [KeyError('one'), KeyboardInterrupt()])
def test_it_does_not_end_after_it_has_failed(past, error):
    client = Client(past)
    transactions = iterator(client)
    client.fails = error
    found = []
    with pytest.raises(type(error)):
        for transaction in transactions:
            found.append(transaction)
    assert len(found) < len(past)
    client.fails = None
    for _ in range(3):
        with pytest.raises(NEOStorageError, match='has failed before: Key'):
            next(transactions)


def test_records_are_complete_or_it_fails(past):
    client = Client(past)
    transactions = list(iterator(client))
    client.fails = KeyError('one')
    failed = 0
    for transaction in transactions:
        tid = int.from_bytes(transaction.tid, 'big')
        for _ in range(10):
            try:
                assert [record.data for record in transaction] == list(past[tid].values())
                break
            except KeyError:
                failed += 1
    assert failed > 3


def test_a_record_that_can_not_be_read_is_not_passed_over():
    def decode(compression, checksum, data, oid, tid):
        if oid == 2:
            raise KeyError('broken')
        return data
    transaction, = iterator(Client({10: {1: b'x', 2: b'y', 3: b'z'}}), decode=decode)
    records = iter(transaction)
    assert next(records).data == b'x'
    with pytest.raises(KeyError):
        next(records)
    with pytest.raises(NEOStorageError, match='broken'):
        next(records)
