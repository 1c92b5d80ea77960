"""docs/operations.md: each command is run, and prints what is written there."""
import re
import shlex
import signal
from pathlib import Path

import ZODB

from ..daemons import Cluster, wait_for

PAGE = Path(__file__).parents[3] / 'docs' / 'operations.md'


def commands(page, kind='console'):
    """`(command, the lines it prints)` of the blocks of a console."""
    for block in re.findall(r'^```%s\n(.*?)^```' % kind, page, re.S | re.M):
        for command in re.split(r'^\$ ', block, flags=re.M)[1:]:
            line, *printed = command.rstrip('\n').split('\n')
            yield line, '\n'.join(printed)


def pattern(printed):
    return re.compile('.*'.join(map(re.escape, printed.split('…'))), re.S)


class Operator:
    def __init__(self, cluster):
        self.cluster = cluster
        self.storages = dict(zip(('storage1', 'storage2', 'storage3'), cluster.storages))

    def run(self, line, printed):
        command, *arguments = shlex.split(line)
        getattr(self, command)(*arguments, printed=printed)

    def neoctl(self, *arguments, printed):
        """What is only looked at comes sooner or later; what is ordered is done once."""
        said = self.cluster.ctl(*arguments)
        expected = pattern(printed)
        if arguments[0] == 'print' and not expected.fullmatch(said[0]):
            wait_for(lambda: expected.fullmatch(self.cluster.ctl(*arguments)[0]),
                     'neoctl %s prints\n%s\nat first it was\n%s' % (
                         ' '.join(arguments), printed, said[0]), interval=.1)
        else:
            assert expected.fullmatch(said[0]), said[0]
            assert said[1] == int(printed.startswith('neoctl:'))
        if arguments == ('tweak',):
            wait_for(lambda: not re.search('[OF]', self.rows()), 'rows are copied', interval=.1)

    def rows(self):
        """The letters of all storages that are not down."""
        lines = self.cluster.ctl('print', 'pt')[0].split('\n')[1:]
        return ' '.join(line.split()[2] for line in lines if line.split()[1] != 'D')

    def neostorage(self, option, name, *options, printed):
        assert option == '--name'
        self.storages[name] = started(self.cluster, name, *options)
        self.storages[name].start()
        wait_for(lambda: name in self.cluster.ctl('print', 'node')[0], name + ' is there')

    def kill(self, option, name, printed):
        self.storages[name].signal(signal.SIGKILL)
        self.storages[name].wait()
        wait_for(lambda: 'DOWN' in self.cluster.ctl('print', 'node')[0], name + ' is down')


def started(cluster, name, *options):
    return cluster.daemon('neostorage', name, '--bind', '127.0.0.1', '--database',
                          cluster.directory / (name + '.sqlite'), *options)


def start_in_turn(cluster):
    """So that S1 is storage1."""
    cluster.master.start()
    for number, storage in enumerate(cluster.storages, 1):
        storage.start()
        cluster.wait_log(cluster.master, 'S%d (storage%d' % (number, number))
    cluster.admin.start()
    cluster.wait_state('RUNNING')


def test_what_the_page_shows():
    with Cluster(storages=3, replicas=1, partitions=12, admin=True, start=False) as cluster:
        cluster.storages = [started(cluster, 'storage%d' % number, '--topology',
                                    'machine-%d' % number) for number in (1, 2, 3)]
        start_in_turn(cluster)
        ZODB.DB(cluster.client()).close()       # its root object is the only one
        operator = Operator(cluster)
        try:
            for line, printed in commands(PAGE.read_text()):
                operator.run(line, printed)
        finally:
            for storage in operator.storages.values():
                storage.signal(signal.SIGKILL)


def test_a_start_that_is_forced():
    with Cluster(storages=2, replicas=1, partitions=12, admin=True, start=False) as cluster:
        start_in_turn(cluster)
        client = cluster.client()
        db = ZODB.DB(client)
        with db.transaction() as connection:
            connection.root()['kept'] = True
        db.close()
        first, second = cluster.storages
        for daemon in first, second, cluster.master:
            daemon.signal(signal.SIGKILL)
            daemon.wait()
        cluster.master.start(), first.start()
        wait_for(lambda: 'waiting for S2' in cluster.ctl('print', 'summary')[0], 'it waits for S2')
        for line, printed in commands(PAGE.read_text(), 'console forced'):
            Operator(cluster).run(line, printed)
        with ZODB.DB(cluster.client()).transaction() as connection:
            assert connection.root()['kept']
            connection.root()['more'] = True
        second.start()
        assert second.wait() != 0
        cluster.wait_log(second, 'was forced without it')
