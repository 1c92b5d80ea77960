"""What the operator orders: what is done, what is written for it, and what is refused."""
import pytest

from neo.cluster.partition_table import PartitionTable
from neo.protocol.packets import (AddStorages, DropStorage, Error, Fill, Filled, KillNode, Leave,
                                  NodesChanged, Settle, SetReplicas, Tweak, WriteTable)
from neo.protocol.types import CellState, ClusterState, ErrorCode, NodeState

from .conversation import Conversation, grant, running, write, write_all
from .test_filling import back
from .test_transactions import begin, finish, lock


class Desk:
    """An operator of a cluster that runs, with some storages."""

    def __init__(self, storages=2, **options):
        options.setdefault('partitions', 4)
        self.talk, self.storages = running(storages, **options)
        self.admin = self.talk.admin()

    @property
    def table(self):
        return self.talk.node.tables.in_force

    def letters(self):
        return ['%s %s' % (id, self.table.letters(id)) for id in self.table.storages()]

    def newcomer(self):
        """One that joins and waits to be added."""
        storage = self.talk.storage()
        grant(storage)
        # All others have to know its id before it does.
        while any(other.hears(WriteTable) for other in [*self.storages, storage]):
            write_all(*self.storages, storage)
        storage.reply(Settle, 0)
        self.storages.append(storage)
        return storage

    def order(self, packet):
        """What is said to it, once all storages have written what comes of it."""
        self.admin.heard.clear()
        self.admin.say(packet)
        write_all(*[storage for storage in self.storages if storage.open])
        return self.admin.take(type(packet).Answer)[0]

    def refusal(self, packet):
        """Why it is not done; nothing has changed then."""
        before = self.table, dict(self.talk.node.members.known)
        self.admin.heard.clear()
        self.admin.say(packet)
        assert not any(storage.hears(WriteTable) for storage in self.storages)
        assert (self.table, self.talk.node.members.known) == before
        return self.admin.take(Error)[0].message

    def states(self):
        """{id: its last state} of the nodes that the admin has heard of since the last order."""
        return {info.id: info.state for packet, _ in self.admin.heard
                if type(packet) is NodesChanged for info in packet.nodes}


# -- add ---------------------------------------------------------------------------------
def test_add_makes_a_storage_a_member_without_rows():
    desk = Desk(1)
    desk.admin.heard.clear()
    desk.newcomer(), desk.newcomer()
    assert desk.states() == {'S2': NodeState.PENDING, 'S3': NodeState.PENDING}
    assert desk.order(AddStorages(('S3',))).message == (
        'S3 belongs to the cluster now. To move rows there: neoctl tweak')
    assert desk.states() == {'S3': NodeState.RUNNING}
    assert desk.letters() == ['S1 UUUU']
    assert desk.order(AddStorages(())).message.startswith('S2 belongs')
    assert desk.talk.node.members.added() == ['S1', 'S2', 'S3']


@pytest.mark.parametrize('end', ['ready', 'gone', 'no cluster'])
def test_who_is_only_just_coming_is_waited_for(end):
    desk = Desk(1)
    storage = desk.talk.storage()
    grant(storage)
    desk.admin.heard.clear()
    desk.admin.say(AddStorages(()))
    assert not desk.admin.hears(AddStorages.Answer) and not desk.admin.hears(Error)
    if end == 'ready':
        while any(other.hears(WriteTable) for other in [*desk.storages, storage]):
            write_all(*desk.storages, storage)
        assert desk.admin.take(AddStorages.Answer)[0].message.startswith('S2 belongs')
    else:
        (storage if end == 'gone' else desk.storages[0]).leave()
        assert desk.admin.take(Error)[0].message.startswith(
            'no storage waits' if end == 'gone' else 'that can be done while the cluster runs only')


def test_who_was_added_is_so_after_a_restart():
    desk = Desk(1)
    desk.newcomer()
    desk.admin.say(AddStorages(()))
    written = write(desk.storages[0])
    table, members = written.table, written.members
    other = Conversation()
    old = other.storage(identity=members[0].identity, id='S1', cluster_id=b'c' * 16,
                        history=b'h' * 16, term=1)
    grant(old, table, members)
    assert other.node.members.added() == ['S1', 'S2']


@pytest.mark.parametrize('packet, why', [
    (AddStorages(()), 'no storage waits to be added'),
    (AddStorages(('S1',)), 'S1 belongs to the cluster already'),
    (AddStorages(('S9',)), 'there is no storage S9: only one that runs can be added'),
    (AddStorages(('M1',)), 'there is no storage M1: only one that runs can be added')])
def test_who_can_not_be_added(packet, why):
    assert Desk(2).refusal(packet) == why


def test_one_of_several_that_can_not_be_added_is_the_end_of_all():
    desk = Desk(1)
    desk.newcomer()
    assert 'no storage S3' in desk.refusal(AddStorages(('S2', 'S3')))


# -- tweak ---------------------------------------------------------------------------------
def test_tweak_moves_rows_to_who_was_added():
    desk = Desk(1)
    desk.newcomer()
    assert desk.order(Tweak((), False)).message == 'there is nothing to change'
    desk.order(AddStorages(()))
    planned = desk.order(Tweak((), True))
    assert planned.message == ('cells that would be filled: S2: 2; cells that go when others are'
                               ' filled: 2')
    assert desk.letters() == ['S1 UUUU']
    done = desk.order(Tweak((), False))
    assert done.message == 'cells that are filled: S2: 2; cells that go when others are filled: 2'
    assert PartitionTable.unpack(done.table).rows == desk.table.rows
    assert PartitionTable.unpack(planned.table).rows == desk.table.rows
    assert desk.letters() == ['S1 FFUU', 'S2 OO..']


def test_feeding_cells_go_when_others_are_filled():
    desk = Desk(1)
    newcomer = desk.newcomer()
    desk.order(AddStorages(()))
    desk.order(Tweak((), False))
    order = newcomer.take(Fill)[0]
    newcomer.say(Filled(order.rows, order.upto))
    write_all(*desk.storages)
    assert desk.letters() == ['S1 ..UU', 'S2 UU..']


def test_who_is_away_does_not_count():
    desk = Desk(2, replicas=1)
    desk.newcomer()
    desk.order(AddStorages(()))
    desk.storages[1].leave()
    write_all(desk.storages[0], desk.storages[2])
    answer = desk.order(Tweak((), False))
    assert answer.message.endswith('. S2: not there, left as it is and not counted')
    assert desk.letters() == ['S1 UUUU', 'S2 OOOO', 'S3 OOOO']


def test_tweak_that_can_not_keep_the_copies():
    desk = Desk(2, replicas=1)
    assert desk.refusal(Tweak(('S2',), False)) == (
        '2 copies of each row need 2 storages that run and do not leave, and there is 1')
    assert desk.refusal(Tweak(('S3',), False)) == 'there is no storage S3 in the cluster'
    desk.newcomer()
    assert desk.refusal(Tweak(('S3',), True)) == (
        'S3 waits to be added: it does not belong to the cluster yet')


def test_a_transaction_that_was_routed_to_a_cell_that_went():
    """It has its vote there, and finishes after the table has changed: what it holds there ends."""
    desk = Desk(2, replicas=1, partitions=1)
    client = desk.talk.client()
    ttid = begin(client)
    desk.order(SetReplicas(0))
    desk.order(Tweak((), False))
    assert desk.letters() == ['S1 U']
    finish(client, ttid, desk.storages, oids=(1,))
    for storage in desk.storages:
        lock(storage)
    assert client.take(type(client.heard[-1][0]))


# -- drop ------------------------------------------------------------------------------------
def test_drop():
    desk = Desk(2, replicas=1)
    assert desk.order(DropStorage('S2')).message == (
        'S2 does not belong to the cluster any more. Fewer copies than wanted have rows 0-3: neoctl'
        ' tweak')
    assert desk.letters() == ['S1 UUUU']
    assert desk.storages[1].take(Leave)[0].reason == 'it was dropped from the cluster'
    assert not desk.storages[1].open
    gone = [packet.removed for packet, _ in desk.admin.heard if type(packet) is NodesChanged]
    assert gone[-1] == ('S2',)
    assert desk.talk.node.phase == ClusterState.RUNNING


def test_drop_of_who_is_away():
    desk = Desk(2, replicas=1)
    desk.storages[1].leave()
    write_all(desk.storages[0])
    desk.order(DropStorage('S2'))
    assert desk.letters() == ['S1 UUUU']
    again = back(desk.talk, desk.storages[1])
    assert desk.states()[again.id] == NodeState.PENDING


def test_a_vote_of_who_was_dropped_is_not_needed():
    desk = Desk(2, replicas=1)
    client = desk.talk.client()
    ttid = begin(client)
    desk.order(DropStorage('S2'))
    finish(client, ttid, desk.storages, oids=(1,))
    lock(desk.storages[0])
    assert not client.hears(Error)


@pytest.mark.parametrize('order', [DropStorage, KillNode])
def test_the_last_copy_is_not_given_up(order):
    why = Desk(2).refusal(order('S2'))
    assert why.startswith('S2 can\'t be %s: of rows 1, 3 there is no other copy that can be read'
                          % {DropStorage: 'dropped', KillNode: 'killed'}[order])


def test_a_copy_of_who_is_not_there_is_none():
    desk = Desk(2, replicas=1)
    desk.storages[1].leave()
    desk.admin.heard.clear()
    desk.admin.say(DropStorage('S1'))           # before anything is in force
    assert 'no other copy' in desk.admin.take(Error)[0].message


# -- replicas ----------------------------------------------------------------------------------
def test_replicas():
    desk = Desk(2)
    assert desk.order(SetReplicas(1)).message == (
        'replicas are 1 now, they were 0. To make copies: neoctl tweak')
    assert desk.table.replicas == 1 and desk.letters() == ['S1 U.U.', 'S2 .U.U']
    assert desk.order(SetReplicas(1)).message == (
        'there is nothing to change: replicas are 1 already')
    desk.order(Tweak((), False))
    assert desk.letters() == ['S1 UOUO', 'S2 OUOU']
    assert desk.order(SetReplicas(0)).message.endswith('To remove copies: neoctl tweak')


@pytest.mark.parametrize('number, why', [
    (2, '2 replicas need 3 storages in the cluster, and there are 2'),
    (16, '16 replicas are too many: the highest number is 15')])
def test_too_many_replicas(number, why):
    assert Desk(2).refusal(SetReplicas(number)) == why


# -- kill --------------------------------------------------------------------------------------
def test_kill():
    desk = Desk(2, replicas=1)
    assert 'was told to end' in desk.order(KillNode('S2')).message
    assert desk.storages[1].hears(Leave) and not desk.storages[1].open
    assert desk.letters() == ['S1 UUUU', 'S2 OOOO']
    other = desk.talk.admin()
    desk.order(KillNode(other.id))
    assert other.hears(Leave)
    assert 'A1' in desk.order(KillNode(desk.admin.id)).message and desk.admin.hears(Leave)


@pytest.mark.parametrize('id, why', [
    ('M1', 'M1 is the primary'), ('S9', 'S9 does not run'), ('C1', 'C1 is a client: it is ended')])
def test_who_is_not_killed(id, why):
    desk = Desk(2)
    desk.talk.client()
    assert desk.refusal(KillNode(id)).startswith(why)


# -- when the cluster does not run -----------------------------------------------------------
@pytest.mark.parametrize('packet', [
    AddStorages(()), Tweak((), False), DropStorage('S1'), SetReplicas(0)])
def test_not_while_the_cluster_does_not_run(packet):
    talk = Conversation()
    admin = talk.admin()
    admin.say(packet)
    error = admin.take(Error)[0]
    assert error.error == ErrorCode.NOT_READY
    assert error.message.startswith('that can be done while the cluster runs only, and it is'
                                    ' RECOVERING, no storage is there')


def test_who_has_ordered_hears_that_the_cluster_recovers():
    desk = Desk(2)
    desk.admin.say(SetReplicas(1))
    desk.storages[1].leave()
    assert desk.talk.node.phase == ClusterState.RECOVERING
    assert 'this was done or not' in desk.admin.take(Error)[0].message
    assert not desk.admin.hears(SetReplicas.Answer)


def test_feeding_cells_are_as_good_as_others():
    desk = Desk(1)
    desk.newcomer()
    desk.order(AddStorages(()))
    desk.order(Tweak((), False))
    assert desk.table.rows[0]['S1'] == CellState.FEEDING
    assert 'rows 0-3' in desk.refusal(DropStorage('S1'))
    assert desk.order(Tweak(('S2',), False)).message == (
        'cells that are filled: none; cells that are removed: 2')
    assert desk.letters() == ['S1 UUUU']


# -- machines -------------------------------------------------------------------------------------
def test_copies_are_on_different_machines():
    talk = Conversation(partitions=2, replicas=1, autostart=3)
    there = [talk.storage(topology=machine) for machine in ('a', 'a', 'b')]
    for storage in there:
        grant(storage)
    written, *_ = write_all(*there)
    assert all(row[-1].storage == 'S3' and len(row) == 2 for row in written.table.rows)
    admin = talk.admin()
    nodes = admin.take(NodesChanged)[0].nodes
    assert [info.topology for info in nodes if info.id[0] == 'S'] == ['a', 'a', 'b']
