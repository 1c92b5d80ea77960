"""The state file of a master: whole or not there, and of one process and cluster."""
import os

import pytest

from neo.master.state import FORMAT, State, StateError
from neo.protocol.types import Member, Table
from neo.runtime.statefile import StateFile

IDENTITY = b'i' * 16
TABLE = Table.of((3, 7, 0, ((('S1', 0),),), ('M1',), ()))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'master.state')


def opened(path, cluster='test', identity=IDENTITY):
    file = StateFile(path)
    try:
        return file, State(file, cluster, identity)
    except BaseException:
        file.close()
        raise


def written(path, **values):
    file, state = opened(path)
    state.put(**values)
    state.commit()
    file.close()


def test_what_is_kept_is_there_again(path):
    members = (Member('M1', IDENTITY, 'master1', None, False),
               Member('S1', b's' * 16, '', ('h', 1), True))
    written(path, term=9, candidate=b'c' * 16, table=TABLE, in_force=TABLE, members=members)
    file, state = opened(path, identity=b'x' * 16)
    assert (state.identity, state.term, state.candidate) == (IDENTITY, 9, b'c' * 16)
    assert state.table == state.in_force == TABLE and state.table.masters == ('M1',)
    assert state.members == members and state.members[1].address.port == 1
    assert state.is_member and state.is_durable
    file.close()


def test_nothing_is_written_before_a_commit(path):
    file, state = opened(path)
    state.put(term=9)
    assert not os.path.exists(path)
    state.commit()
    assert os.path.exists(path)
    file.close()


def test_one_process_has_it(path):
    file, _ = opened(path)
    with pytest.raises(StateError, match='used by another process'):
        StateFile(path)
    file.close()
    StateFile(path).close()


def test_a_broken_one_is_refused(path):
    written(path, term=9)
    content = open(path, 'rb').read()
    for broken in (b'', content[:-1], content[:-1] + b'?', b'something else'):
        with open(path, 'wb') as file:
            file.write(broken)
        with pytest.raises(StateError, match='broken, or no state of a master'):
            opened(path)


def test_one_of_another_cluster_is_refused(path):
    written(path, term=9)
    with pytest.raises(StateError, match='belongs to cluster test, not to other'):
        opened(path, cluster='other')


def test_one_of_a_later_version_is_refused(path):
    written(path, format=FORMAT + 1)
    with pytest.raises(StateError, match='later version'):
        opened(path)


def test_where_nothing_can_be_written(path):
    file, state = opened(path)
    state.put(term=9)
    os.rename(os.path.dirname(path), os.path.dirname(path) + '.gone')
    with pytest.raises(StateError, match="state can't be written: No such file"):
        state.commit()
    file.close()


def test_what_a_crash_left_half_written_harms_nothing(path):
    written(path, term=9)
    with open(path + '.new', 'wb') as file:
        file.write(b'NEO mas')
    file, state = opened(path)
    assert state.term == 9
    state.put(term=10)
    state.commit()
    file.close()
    assert opened(path)[1].term == 10


def test_what_is_not_synced_does_not_take_the_place_of_what_was(path):
    """A pipe can be written to, and not be synced."""
    written(path, term=9)
    os.mkfifo(path + '.new')
    reader = os.open(path + '.new', os.O_RDONLY | os.O_NONBLOCK)
    file, state = opened(path)
    state.put(term=10)
    with pytest.raises(StateError):
        state.commit()
    assert os.read(reader, 10) == b'NEO master'
    os.close(reader)
    os.remove(path + '.new')
    file.close()
    file, state = opened(path)
    assert state.term == 9
    file.close()
