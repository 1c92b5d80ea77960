"""Who is who: ids, claims, and what stays known of those who are away."""
import pytest

from neo.cluster.ids import MAX_NUMBER
from neo.protocol.packets import (ConditionChanged, Error, Identify, NodesChanged, Settle,
                                  TableChanged, WriteTable)
from neo.protocol.types import MAX_TERM, ClusterState, ErrorCode, NodeState

from .conversation import Conversation, grant, running, table, write


def test_the_id_of_a_newcomer_is_kept_by_others_before_it_is_itself():
    talk, (first, second) = running(2, replicas=1)
    newcomer = talk.storage(name='third')
    grant(newcomer)
    assert write(first).members[2] == (
        'S3', newcomer.identity, 'third', ('127.0.0.1', 20000), False)
    assert not newcomer.hears(WriteTable)
    write(second)
    assert newcomer.hears(WriteTable)


def test_a_newcomer_does_not_wait_for_who_is_lost_meanwhile():
    talk, (first, second) = running(2, replicas=1)
    newcomer = talk.storage()
    grant(newcomer)
    write(first)
    second.leave()
    write(first)
    assert newcomer.hears(WriteTable) and talk.node.phase == ClusterState.RUNNING


def test_a_newcomer_hears_first_of_all_clients():
    """It takes who is not announced in order for one that has gone."""
    talk, (storage,) = running()
    client, other = talk.client(), talk.client()
    newcomer = talk.storage()
    grant(newcomer)
    other.leave()
    write(storage), write(newcomer)
    newcomer.reply(Settle, 0)
    first = newcomer.take(NodesChanged)[0]
    assert [node.id for node in first.nodes] == [client.id, 'S1', 'S2'] and not first.removed
    assert talk.client().id == newcomer.take(NodesChanged)[0].nodes[0].id


def test_ids_go_on_after_the_highest_that_may_be_claimed():
    talk = Conversation()
    highest = 'S%d' % MAX_NUMBER
    talk.storage(id=highest, cluster_id=b'c' * 16, history=b'h' * 16)
    assert [int(talk.storage().id[1:]) - MAX_NUMBER for _ in range(2)] == [1, 2]


def test_no_id_is_given_twice_across_restarts():
    talk = Conversation()
    members = [('S1', b'\1' * 16, '', None, True), ('S7', b'\7' * 16, '', None, True)]
    storage = talk.storage(identity=b'\1' * 16, id='S1', cluster_id=b'c' * 16, history=b'h' * 16)
    grant(storage, table('S1'), members=members)
    assert talk.storage().id == 'S8'
    assert talk.storage(identity=b'\7' * 16).id == 'S7'


def test_no_id_is_given_twice_in_one_life():
    talk, (storage,) = running()
    ids = set()
    for _ in range(3):
        newcomer = talk.storage()
        grant(newcomer)
        write(storage)
        ids.add(newcomer.id)
        newcomer.leave()
    assert ids == {'S2', 'S3', 'S4'}
    assert [talk.client().id, talk.client().id] == ['C1', 'C2']
    talk.parties[max(talk.parties)].leave()
    assert talk.client().id == 'C3'


@pytest.mark.parametrize('claim, message', [
    ({'id': 'S2', 'identity': b'\1' * 16}, 'this storage is S1, not S2'),
    ({'id': 'S1', 'identity': b'?' * 16}, 'S1 is the id of another storage'),
    ({'id': 'C1', 'identity': b'?' * 16}, 'C1 is no id of a storage'),
    ({'id': 'S01', 'identity': b'?' * 16}, 'S01 is no id of a storage'),
    ({'id': 'S99999999999', 'identity': b'?' * 16}, 'is no id of a storage'),
    ({'term': MAX_TERM}, 'above all that can be'),
    ({'address': None}, 'where clients find it'),
])
def test_claims_that_are_refused(claim, message):
    talk = Conversation()
    storage = talk.known(1, ['S1'])
    if claim.get('identity') == storage.identity:
        storage.leave()
    wrong = talk.storage(cluster_id=b'c' * 16, history=b'h' * 16, **claim)
    error, _ = wrong.take(Error)
    assert error.error == ErrorCode.REFUSED and message in error.message
    assert talk.node.term < 10


def test_who_is_connected_already_waits_until_that_is_known_to_be_over():
    talk, (storage,) = running()
    again = talk.storage(identity=storage.identity)
    assert again.take(Error)[0].error == ErrorCode.NOT_READY and storage.open


def test_an_admin_keeps_its_id_and_takes_no_other():
    talk, (storage,) = running()
    admin = talk.admin()
    admin.leave()
    assert talk.arrive(admin.kind, identity=admin.identity).id == 'A1'
    assert talk.arrive(admin.kind, identity=storage.identity).id == 'A2'


def test_a_client_of_another_cluster_of_this_name_is_refused():
    talk, (storage,) = running()
    wrong = talk.client(cluster_id=b'?' * 16)
    assert wrong.take(Error)[0].error == ErrorCode.ANOTHER_CLUSTER
    # One that has waited is told as well, and nobody else is disturbed by it.
    storage.leave()
    wrong, right = talk.client(cluster_id=b'?' * 16), talk.client()
    storage = talk.storage(identity=storage.identity, id='S1', term=talk.node.term,
                           cluster_id=talk.node.cluster.id, history=talk.node.cluster.history)
    grant(storage, talk.node.tables.newest.pack())
    write(storage)
    storage.reply(Settle, 0)
    assert wrong.take(Error)[0].error == ErrorCode.ANOTHER_CLUSTER
    assert right.hears(Identify.Answer)


def test_a_node_that_is_down_keeps_name_and_address():
    talk = Conversation()
    storage, admin = talk.known(1), talk.admin()
    storage.leave()
    down = nodes(admin)['S1']
    assert (down.state, down.name, down.address) == (
        NodeState.DOWN, 'storage_01', ('10.0.0.1', 1234))
    # One that has not been here since the start of the master is known from the table.
    assert nodes(talk.admin())['S2'].name == 'storage_02'


def nodes(admin):
    found = {}
    for packet, _ in admin.heard:
        if type(packet) is NodesChanged:
            found.update((info.id, info) for info in packet.nodes)
    return found


def test_the_condition_of_a_storage_is_told_to_admins():
    talk, (storage,) = running()
    admin, client = talk.admin(), talk.client()
    client.heard.clear()
    storage.say(ConditionChanged('disk full'))
    assert nodes(admin)['S1'].condition == 'disk full' and not client.heard
    assert nodes(talk.admin())['S1'].condition == 'disk full'


def test_clients_are_told_with_name_and_address():
    talk, (storage,) = running()
    admin = talk.admin()
    talk.client(name='zope 4711', address=('10.0.0.9', 999))
    assert nodes(admin)['C1'].name == 'zope 4711'
    assert nodes(admin)['C1'].address == ('10.0.0.9', 999)


def test_joining_does_not_walk_over_the_table():
    """One packet with the table is made for all."""
    talk, (storage,) = running(partitions=1000)
    packed = talk.node.tables.in_force.pack()
    client = talk.client()
    assert client.hears(TableChanged)
    assert talk.node.tables.in_force.pack() is packed
    assert talk.node.tables.changed() is talk.node.tables.changed()
    assert len([p for p, _ in storage.heard if type(p) is NodesChanged
                and any(node.id == client.id for node in p.nodes)]) == 1
