"""What clients tell the master."""
from neo.protocol.packets import FoundBroken, NodesChanged, TableTaken
from neo.protocol.types import TableKey

from .conversation import running


def conditions(admin):
    return [info.condition for packet, _ in admin.heard if type(packet) is NodesChanged
            for info in packet.nodes if info.id == 'S1']


def test_what_clients_find_broken_is_told_to_the_operator_once():
    talk, (storage,) = running()
    admin, client, other = talk.admin(), talk.client(), talk.client()
    admin.heard.clear()
    client.say(FoundBroken(5, 17, 'S1'))
    other.say(FoundBroken(5, 17, 'S1'))
    found, = conditions(admin)
    assert 'found: 1' in found and '0x5 at 0x11' in found
    client.say(FoundBroken(6, 18, 'S1'))
    assert 'found: 2' in conditions(admin)[-1]
    client.say(FoundBroken(6, 18, 'S9'))            # of which nothing is known
    assert client.open and len(conditions(admin)) == 2
    assert len([line for line in talk.logged if 'broken' in line]) == 2


def test_which_table_a_client_has_taken():
    talk, _ = running()
    client = talk.client()
    data = talk.node.members.clients[client.id].data
    assert data.taken == (1, 1)
    client.say(TableTaken(TableKey(1, 9)))          # there is none, yet
    assert data.taken == (1, 1) and client.open
