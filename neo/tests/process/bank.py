"""A client process: it moves money between accounts until SIGTERM, whatever the cluster does.

    bank MASTERS NAME NUMBER SEED LOG

Each commit that was acknowledged is a line in LOG: how many transfers this client had done then,
and the tid.  The sum of all accounts never changes, and the count of all transfers, at which all
clients meet and whose conflicts are resolved, is the sum of theirs; each snapshot must show it.
Each transfer that has to be tried again is a line of its output.
"""
import random
import signal
import sys
import time

import transaction
import ZODB
from BTrees.Length import Length
from persistent.mapping import PersistentMapping
from transaction.interfaces import TransientError
from ZODB.POSException import ConflictError

from ...client.Storage import Storage
from ...protocol.limits import WAIT_TIMEOUT

ACCOUNTS = 10
MONEY = 1000
CLIENTS = 3
# A transfer fails within this at the latest: it waits for nodes, and the machine is busy.
PATIENCE = WAIT_TIMEOUT + 15


def create(storage):
    """What the clients work on."""
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        root = connection.root()
        for i in range(ACCOUNTS):
            root['account%d' % i] = PersistentMapping(money=MONEY)
        for i in range(CLIENTS):
            root['client%d' % i] = PersistentMapping(transfers=0)
        root['transfers'] = Length()
    db.close()


def check(root):
    """AssertionError if this snapshot is wrong."""
    total = sum([root['account%d' % i]['money'] for i in range(ACCOUNTS)])
    assert total == ACCOUNTS * MONEY, 'a snapshot shows %d' % total
    counts = [root['client%d' % i]['transfers'] for i in range(CLIENTS)]
    assert root['transfers']() == sum(counts), '%d transfers are %s' % (root['transfers'](), counts)


class Client:

    def __init__(self, storage, number, seed, log):
        self.random = random.Random(seed)
        self.number = number
        self.log = log
        self.tm = transaction.TransactionManager(explicit=True)
        self.root = ZODB.DB(storage).open(self.tm).root()
        self.stopping = False

    def stop(self, *args):
        self.stopping = True

    def work(self):
        while not self.stopping:
            began = time.monotonic()
            try:
                self.tm.begin()
                self.transfer()
            except TransientError as error:
                self.tm.abort()
                if not isinstance(error, ConflictError):
                    print('retry %.1f s: %r' % (time.monotonic() - began, error), flush=True)
            assert time.monotonic() - began < PATIENCE, 'a transfer was too long on its way'

    def transfer(self):
        root = self.root
        if self.random.random() < .2:
            check(root)
        giver, taker = self.random.sample(range(ACCOUNTS), 2)
        amount = self.random.randrange(100)
        root['account%d' % giver]['money'] -= amount
        root['account%d' % taker]['money'] += amount
        me = root['client%d' % self.number]
        me['transfers'] += 1
        root['transfers'].change(1)
        self.tm.commit()
        self.log.write('%d %d\n' % (me['transfers'], int.from_bytes(me._p_serial)))


def main():
    masters, name, number, seed, log = sys.argv[1:]
    with open(log, 'a', buffering=1) as log:
        storage = Storage(master_nodes=masters, name=name)
        client = Client(storage, int(number), seed, log)
        signal.signal(signal.SIGTERM, client.stop)
        client.work()
        storage.close()
