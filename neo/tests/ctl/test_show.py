"""What neoctl prints."""
import json
from copy import copy

import pytest

from neo.cluster.ids import tid_at
from neo.ctl import show
from neo.protocol.packets import DescribeCluster, Tweak
from neo.protocol.types import (CellState, ClusterState, Filling, NodeInfo, NodeKind, NodeState,
                                Table)

U, B, F, C = (CellState.UP_TO_DATE, CellState.OUT_OF_DATE, CellState.FEEDING, CellState.CORRUPTED)
NODES = (
    NodeInfo('A1', NodeKind.ADMIN, ('127.0.0.1', 9999), NodeState.RUNNING, '', '', ''),
    NodeInfo('C3', NodeKind.CLIENT, None, NodeState.RUNNING, '', '', ''),
    NodeInfo('M1', NodeKind.MASTER, ('::1', 10000), NodeState.RUNNING, '', '', ''),
    NodeInfo('S1', NodeKind.STORAGE, ('127.0.0.1', 35859), NodeState.RUNNING, 'left', '', ''),
    NodeInfo('S2', NodeKind.STORAGE, None, NodeState.DOWN, '', '', ''),
)
ROWS = ((('S1', U), ('S2', B)), (('S1', U), ('S2', F)), (('S2', C),))


def description(**changes):
    found = DescribeCluster.Answer(
        ClusterState.RUNNING, '', 'test', b'\1' * 16, 'M1', NODES, 3,
        Table.of((2, 14, 1, ROWS, (), ())), tid_at(1e9), 0x1f, ())
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def test_cluster_and_primary_are_one_word():
    assert show.cluster_lines(description()) == ['RUNNING']
    assert show.primary_lines(description()) == ['M1']


def test_of_several_masters_none_is_the_primary_while_the_cluster_recovers():
    other = NODES[2]._replace(id='M2')
    found = description(state=ClusterState.RECOVERING, reason='waiting for M2',
                        nodes=(*NODES, other))
    assert 'primary    -' in show.summary_lines(found)
    with pytest.raises(show.Nothing, match='RECOVERING, waiting for M2'):
        show.primary_lines(found)
    found.state = ClusterState.VERIFYING
    assert show.primary_lines(found) == ['M1']
    assert show.primary_lines(description(state=ClusterState.RECOVERING)) == ['M1']


def test_nodes():
    assert show.node_lines(description()) == [
        'A1 | admin   | 127.0.0.1:9999  | RUNNING',
        'C3 | client  | -               | RUNNING',
        'M1 | master  | [::1]:10000     | RUNNING',
        'S1 | storage | 127.0.0.1:35859 | RUNNING | left',
        'S2 | storage | -               | DOWN']
    assert show.node_lines(description(), NodeKind.MASTER) == [
        'M1 | master | [::1]:10000 | RUNNING']
    assert show.node_lines(description(nodes=())) == []


def test_machines_that_are_not_the_hosts():
    nodes = (NODES[3]._replace(topology='127.0.0.1'),
             NODES[3]._replace(id='S2', name='', topology='rack 1'))
    assert show.node_lines(description(nodes=nodes)) == [
        'S1 | storage | 127.0.0.1:35859 | RUNNING | left',
        'S2 | storage | 127.0.0.1:35859 | RUNNING | -    | rack 1']


def test_the_table():
    assert show.pt_lines(description()) == [
        '# ptid: 14, replicas: 1',
        'S1 R UU.',
        'S2 D OFC']


def test_part_of_the_table():
    assert show.pt_lines(description(), 1)[1:] == ['S1 R U.', 'S2 D FC']
    assert show.pt_lines(description(), 0, 1)[1:] == ['S1 R UU', 'S2 D OF']
    assert show.pt_lines(description(), 1, 2, 'S2')[1:] == ['S2 D FC']


def test_ids_of_different_length_are_aligned():
    table = Table.of((1, 1, 0, ((('S2', U), ('S10', U)),), (), ()))
    assert show.pt_lines(description(table=table, nodes=()))[1:] == ['S2  U U', 'S10 U U']


@pytest.mark.parametrize('arguments, said', [
    ((3,), 'rows 3 to 2: the table has rows 0 to 2'), ((2, 1), 'no rows 2 to 1'),
    ((0, 3), 'no rows 0 to 3'), ((0, 2, 'S5'), 'there is no storage S5')])
def test_what_is_not_in_the_table(arguments, said):
    with pytest.raises(show.Nothing, match=said):
        show.pt_lines(description(), *arguments)


def test_storages_without_rows_are_shown():
    waiting = NodeInfo('S10', NodeKind.STORAGE, None, NodeState.PENDING, '', '', '')
    assert show.pt_lines(description(nodes=(*NODES, waiting)))[1:] == [
        'S1  R UU.', 'S2  D OFC', 'S10 P ...']


def test_what_is_or_would_be_moved():
    answer = Tweak.Answer('what it does', Table.of((2, 15, 1, ROWS, (), ())))
    assert show.tweak_lines(answer) == ['S1 UU.', 'S2 OFC', 'what it does']
    assert show.tweak(answer)['storages'][1] == {'id': 'S2', 'cells': 'OFC'}


def test_no_table_yet():
    with pytest.raises(show.Nothing, match='RECOVERING, waiting for `neoctl start`'):
        show.pt(description(table=None, state=ClusterState.RECOVERING,
                            reason='waiting for `neoctl start`'))


def test_ids():
    assert show.ids_lines(description()) == [
        'ptid = 14',
        'last_oid = 0x000000000000001f',
        'last_tid = 0x%016x (2001-09-09 01:46:40.000000 UTC)' % tid_at(1e9),
        'cluster_id = ' + '01' * 16]
    assert show.ids_lines(description(table=None, last_tid=0, cluster_id=None)) == [
        'ptid = -', 'last_oid = 0x000000000000001f', 'last_tid = 0x0000000000000000',
        'cluster_id = -']


@pytest.mark.parametrize('changes', [
    dict(state=ClusterState.RECOVERING, reason='waiting for S2'),
    dict(reason='M1 says nothing')])
def test_what_is_not_known_is_not_shown_as_nothing(changes):
    unknown = description(last_tid=0, last_oid=0, **changes)
    assert show.ids_lines(unknown)[1:3] == ['last_oid = -', 'last_tid = -']
    assert 'last_tid   -' in show.summary_lines(unknown)
    assert show.summary(unknown)['last_tid'] is None


def test_summary():
    lines = show.summary_lines(description(reason='why'))
    assert 'state      RUNNING: why' in lines
    assert 'storages   2, of which 1 running' in lines
    assert 'clients    1' in lines
    assert not any('trouble' in line for line in lines)


def test_a_master_that_does_not_vote_where_others_do():
    table = Table.of((2, 14, 1, ROWS, ('M1',), ()))
    other = NODES[2]._replace(id='M2')
    down = other._replace(id='M3', state=NodeState.DOWN)
    found = description(nodes=(NODES[2], other, down), table=table)
    assert show.node_lines(found)[1] == (
        'M2 | master | [::1]:10000 | RUNNING | - | - | it has no vote, without --state')
    assert list(show.summary(found)['trouble']) == ['M2']
    assert not show.summary(description(nodes=(NODES[2], other)))['trouble']    # nobody votes


def test_who_waits_to_be_added_is_counted():
    waiting = NODES[3]._replace(id='S3', state=NodeState.PENDING)
    found = description(nodes=(*NODES, waiting))
    assert 'storages   3, of which 1 running, 1 not added (neoctl add)' in show.summary_lines(found)
    assert show.summary(found)['storages_pending'] == 1
    # What a new cluster is made of need not be added.
    new = description(nodes=(waiting,), table=None, state=ClusterState.RECOVERING)
    assert 'storages   1, of which 0 running' in show.summary_lines(new)


STORAGES = tuple(NodeInfo('S%d' % n, NodeKind.STORAGE, ('host', n), NodeState.RUNNING, '',
                          'host', '') for n in (1, 2, 3))


def test_how_many_may_be_lost():
    table = Table.of((1, 1, 1, ((('S1', U), ('S2', U)), (('S1', U), ('S2', F), ('S3', B))), (), ()))
    found = description(table=table, nodes=STORAGES)
    assert 'may_lose   any 1 storage, no machine' in show.summary_lines(found)
    apart = [info._replace(topology=info.id) for info in STORAGES]
    assert show.summary(description(table=table, nodes=apart))['may_lose'] == {
        'storages': 1, 'machines': 1}
    without = description(table=table, nodes=apart[1:])
    assert show.summary(without)['may_lose'] == {'storages': 0, 'machines': 0}
    assert show.summary(description(table=table, nodes=()))['may_lose'] is None
    assert show.summary(description(table=None))['may_lose'] is None


@pytest.mark.parametrize('filling, seconds, said', [
    ((), None, 'filling    S3: 1 row out of date'),
    ((('S3', 3 << 20, None),), None, 'filling    S3: 1 row out of date, 3.0 MiB are copied'),
    ((('S3', 0, 59),), 59, 'filling    S3: 1 row out of date, 0.0 MiB are copied, about 59 s left'),
    ((('S3', 0, 3600),), 3600, 'filling    S3: 1 row out of date, 0.0 MiB are copied, about'
     ' 1 h 0 min left')])
def test_what_is_filled(filling, seconds, said):
    table = Table.of((1, 1, 1, ((('S1', U), ('S2', U)), (('S1', U), ('S2', F), ('S3', B))), (), ()))
    found = description(table=table, nodes=STORAGES, filling=tuple(map(Filling._make, filling)))
    assert said in show.summary_lines(found)
    one, = show.summary(found)['filling']
    assert (one['id'], one['rows'], one['seconds']) == ('S3', 1, seconds)


def test_who_can_not_fill_since_it_is_not_there():
    assert show.summary_lines(description())[-1] == (
        'filling    S2: 1 row out of date, and it is DOWN')


def test_what_is_wrong_with_a_node():
    nodes = (NODES[0], NODES[3]._replace(condition='/x: 5 MiB free'),
             NODES[4]._replace(name='right', condition='it says nothing (for 6 s)'))
    found = description(nodes=nodes)
    assert show.node_lines(found) == [
        'A1 | admin   | 127.0.0.1:9999  | RUNNING',
        'S1 | storage | 127.0.0.1:35859 | RUNNING | left  | - | /x: 5 MiB free',
        'S2 | storage | -               | DOWN    | right | - | it says nothing (for 6 s)']
    assert show.summary_lines(found)[-2:] == [
        'trouble    S1: /x: 5 MiB free', 'trouble    S2: it says nothing (for 6 s)']
    assert show.summary(found)['trouble'] == {
        'S1': '/x: 5 MiB free', 'S2': 'it says nothing (for 6 s)'}


@pytest.mark.parametrize('name', ['cluster', 'primary', 'nodes', 'pt', 'ids', 'summary'])
def test_data_are_json(name):
    data = getattr(show, name)(copy(description()))
    assert json.loads(json.dumps(data)) == data
