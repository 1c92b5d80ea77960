"""Client processes that move money, what they were told, and whether it is there."""
import signal
from contextlib import closing

import ZODB
from ZODB.utils import p64, u64

from ..daemons import DEADLINE, wait_for
from . import bank


class Bank:
    """Clients of a cluster, each of which is `bank.main()`."""

    def __init__(self, cluster, seed):
        self.cluster = cluster
        bank.create(cluster.client())
        self.logs = [cluster.directory / ('transfers%d' % i) for i in range(bank.CLIENTS)]
        for log in self.logs:
            log.touch()
        self.clients = [
            cluster.process('client%d' % i, 'neo.tests.process.bank', cluster.masters, cluster.name,
                            i, seed, log, machine=cluster.machine(i + 1))
            for i, log in enumerate(self.logs)]

    def counts(self):
        return [log.read_bytes().count(b'\n') for log in self.logs]

    def retries(self):
        """Seconds after which each transfer that failed, and was tried again, had failed; all
        clients together."""
        return [float(line.split()[1]) for client in self.clients
                for line in client.log().splitlines() if line.startswith('retry ')]

    def wait_transfers(self, count):
        """Until so many more have been acknowledged, to whomever."""
        goal = sum(self.counts()) + count
        self._wait(lambda: sum(self.counts()) >= goal, '%d transfers' % goal)

    def wait_everybody(self, numbers=range(bank.CLIENTS), deadline=DEADLINE):
        """Until each of these clients has got on."""
        before = self.counts()

        def got_on():
            now = self.counts()
            return all(now[number] > before[number] for number in numbers)
        self._wait(got_on, 'each client of %s goes on' % list(numbers), deadline)

    def check(self):
        """No client has ended."""
        for client in self.clients:
            assert client.runs, client.log()

    def _wait(self, condition, what, deadline=DEADLINE):
        def check():
            self.check()
            return condition()
        try:
            wait_for(check, what, deadline)
        except AssertionError as e:
            raise AssertionError('%s\n%s' % (e, '\n'.join(
                '--- %s\n%s' % (process, process.log()[-3000:])
                for process in (*self.cluster.daemons, *self.clients))))

    def finish(self):
        """End the clients, and compare what they were told with what is there."""
        for client in self.clients:
            client.signal(signal.SIGTERM)
        for client in self.clients:
            assert client.wait() == 0, client.log()
        storage = self.cluster.client()
        db = ZODB.DB(storage)
        with db.transaction() as connection:
            root = connection.root()
            bank.check(root)
            # No lock is left: everything can be written, at once.
            for i in range(bank.ACCOUNTS):
                root['account%d' % i]['end'] = True
        tids = {u64(found.tid) for found in storage.iterator()}
        for i, log in enumerate(self.logs):
            transfers = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
            lost = [transfer for transfer in transfers if transfer[1] not in tids]
            assert not lost, 'of client %d: %s' % (i, lost)
            for number, tid in transfers[-20:]:
                with closing(db.open(at=p64(tid))) as past:
                    assert past.root()['client%d' % i]['transfers'] == number
        db.close()
