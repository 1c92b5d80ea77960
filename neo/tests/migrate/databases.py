"""FileStorages as people have them, made with ZODB itself."""
import os

import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from transaction import TransactionManager
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf
from ZODB.utils import load_current, newTid, p64, u64, z64


def commit(manager, user='', note='', **extension):
    txn = manager.get()
    txn.user = user
    txn.description = note
    for name, value in extension.items():
        txn.setExtendedInfo(name, value)
    manager.commit()


def many_objects(path, objects, per_transaction=500):
    """BTrees and persistent objects, with users and notes beyond ASCII."""
    manager = TransactionManager()
    db = ZODB.DB(FileStorage(path))
    connection = db.open(manager)
    tree = connection.root()['tree'] = OOBTree()
    for i in range(objects):
        tree['key %07d' % i] = PersistentMapping(number=i, text='text %d ' % i * (i % 10))
        if i % per_transaction == per_transaction - 1:
            commit(manager, '/ zoé', 'ajouté jusqu’à %d' % i, extra={'number': i, 'text': 'é'})
            connection.cacheGC()
    commit(manager)
    connection.close()
    db.close()


def undo(db, manager, position):
    """Undo the transaction that is `position` back from the last one."""
    db.undo(db.undoLog(0, 100)[position]['id'], manager.get())
    commit(manager, 'undoer', 'undo')


def odd_history(path, large=20_000_000):
    """All kinds of records and transactions that there can be, in few."""
    manager = TransactionManager()
    db = ZODB.DB(FileStorage(path))
    connection = db.open(manager)
    root = connection.root()
    root['a'] = PersistentMapping(value=0)
    commit(manager, 'user', 'first')
    for i in range(1, 5):
        root['a']['value'] = i
        commit(manager, note='set to %d' % i)
    undo(db, manager, 0)                    # back to 3
    undo(db, manager, 0)                    # … and forth to 4
    undo(db, manager, 0)                    # data that are two pointers away
    root['gone'] = PersistentMapping()
    commit(manager, note='created')
    undo(db, manager, 0)                    # an object that is not there any more
    connection.sync()
    root['deleted'] = PersistentMapping()
    root['large'] = PersistentMapping(data=os.urandom(large))
    commit(manager, extension_only=True)
    for i in range(max(1, large // 50_000)):        # one transaction of twice that size
        root['item %d' % i] = PersistentMapping(data=os.urandom(100_000))
    commit(manager)
    deleted = root['deleted']._p_oid
    del root['deleted']
    commit(manager)
    connection.close()
    db.close()
    storage = FileStorage(path)
    with_storage(storage, lambda txn: storage.deleteObject(
        deleted, load_current(storage, deleted)[1], txn))
    with_storage(storage, lambda txn: None, 'empty', 'nothing was changed', {'é': [1]})
    data, serial = load_current(storage, z64)

    def twice(txn):
        storage.store(z64, serial, data, '', txn)
        storage.store(z64, serial, data, '', txn)
    with_storage(storage, twice, 'same object twice')
    storage.close()


def with_storage(storage, change, *metadata):
    """A transaction made with the calls of a storage."""
    txn = TransactionMetaData(*metadata)
    storage.tpc_begin(txn)
    change(txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)


def stored_twice(path):
    """The root twice in one transaction, with other data each time; the first ones come back
    later, with a pointer to where they were."""
    storage = FileStorage(path)
    tids = []

    def store(*datas):
        txn = TransactionMetaData()
        storage.tpc_begin(txn)
        serial = tids[-1] if tids else z64
        for data in datas:
            storage.store(z64, serial, data, '', txn)
        storage.tpc_vote(txn)
        tids.append(storage.tpc_finish(txn))
    store(b'zero')
    store(b'first', b'second')
    store(b'third')
    txn = TransactionMetaData()
    tid = p64(u64(tids[-1]) + 1)
    storage.tpc_begin(txn, tid)
    storage.restore(z64, tid, b'first', '', tids[1], txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    storage.close()


def with_ids(path, tid=None, oid=0):
    """One transaction with these ids, or one of now."""
    storage = FileStorage(path)
    txn = TransactionMetaData()
    tid = newTid(z64) if tid is None else p64(tid)
    storage.tpc_begin(txn, tid)
    storage.restore(p64(oid), tid, b'data', '', None, txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    storage.close()


def packed(path):
    """Packed, with garbage and with undo records from before and after."""
    odd_history(path, large=1000)
    storage = FileStorage(path)
    tids = [record.tid for record in storage.iterator()]
    from ZODB.TimeStamp import TimeStamp
    storage.pack(TimeStamp(tids[6]).timeTime(), referencesf)
    storage.close()
    manager = TransactionManager()
    db = ZODB.DB(FileStorage(path))
    connection = db.open(manager)
    connection.root()['a']['value'] = 'after'
    commit(manager)
    undo(db, manager, 0)
    connection.close()
    db.close()


def append(path, transactions=1):
    """More of them, in a file that has been copied maybe."""
    manager = TransactionManager()
    db = ZODB.DB(FileStorage(path))
    connection = db.open(manager)
    for i in range(transactions):
        connection.root()['more'] = i
        commit(manager, 'more', str(i))
    connection.close()
    db.close()
    transaction.abort()
