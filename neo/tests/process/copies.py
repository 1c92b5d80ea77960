"""What the storages of a cluster have: is it all, and is it the same?"""
from contextlib import ExitStack, closing

from ...cluster.partition_table import PartitionTable
from ...protocol.limits import CHUNK, CHUNK_ROWS
from ...protocol.types import MAX_TID, NodeKind, NodeState, Table
from ...runtime.ask import NoAnswer
from ...storage.engine import open_engine
from ..daemons import wait_for


# -- while it runs ----------------------------------------------------------------------------
def incomplete(cluster):
    """What is not as it should be when all nodes have been there for a while; '' if nothing."""
    why = cluster.why_not_running()
    if why is not None:
        return why
    try:
        found = cluster.describe()
    except NoAnswer as error:
        return str(error)
    there = {info.name for info in found.nodes if info.state == NodeState.RUNNING
             and info.kind in (NodeKind.MASTER, NodeKind.STORAGE)}
    away = [daemon.name for daemon in (*cluster.master_daemons, *cluster.storages)
            if daemon.name not in there]
    if away:
        return 'away: ' + ' '.join(away)
    rows = PartitionTable.unpack(found.table).out_of_date
    return ', '.join('%s has %d rows out of date' % (storage, len(numbers))
                     for storage, numbers in rows.items())


def wait_complete(cluster, deadline=60.0):
    """Until all nodes are there, and all cells up to date."""
    def look():
        nonlocal why
        why = incomplete(cluster)
        return not why
    why = ''
    try:
        wait_for(look, 'all is there', deadline, 0.05)
    except AssertionError as error:
        raise AssertionError('%s (%s)' % (error, why))


def stop(cluster):
    said, status = cluster.ctl('stop')
    assert status == 0, said
    for daemon in cluster.daemons:
        assert daemon.wait() == 0, daemon.log()


# -- afterwards -------------------------------------------------------------------------------
def _transactions(engine, partitions, row):
    start = 0
    while start is not None:
        found, start = engine.transactions(start, MAX_TID, partitions, [row], CHUNK_ROWS, CHUNK)
        yield from found


def _records(engine, partitions, row):
    start, after = 0, None
    while True:
        found, position = engine.records(start, after, MAX_TID, partitions, [row], CHUNK_ROWS,
                                         CHUNK)
        yield from found
        if position is None:
            return
        start, after = position.tid, position.after_oid


def history(engine, partitions, row):
    """All that is kept of a row, data included."""
    return [*_transactions(engine, partitions, row), *_records(engine, partitions, row)]


def differences(one, other):
    """For people: what only one of two lists has."""
    return 'only here: %s\nonly there: %s' % tuple(
        sorted(set(here) - set(there), key=repr)[:3] for here, there in ((one, other),
                                                                        (other, one)))


def check_copies(cluster):
    """After a stop: nothing is left that was locked, and all that may be read of a row is the same
    wherever it is."""
    with ExitStack() as stack:
        engines = [stack.enter_context(closing(open_engine('SQLite', str(database))))
                   for database in cluster.databases]
        for engine in engines:
            assert not engine.locked()
        table = max((PartitionTable.unpack(Table.of(engine.get('in_force'))) for engine in engines),
                    key=lambda table: table.key)
        by_id = {engine.get('id'): engine for engine in engines}
        for row, readable in enumerate(table.readable):
            first, *others = [(name, history(by_id[name], table.partitions, row))
                              for name in readable]
            for name, found in others:
                assert found == first[1], 'row %d of %s and %s: %s' % (
                    row, first[0], name, differences(first[1], found))
