"""Hosts that are cut off from each other, as networks do it: what is sent is lost, and nobody is
told; tools/stress --hosts does more of it, for longer."""
import pytest

from neo.protocol.types import ClusterState

from ..daemons import Cluster, wait_for
from ..network import Network, NoNetwork
from .copies import wait_complete
from .faults import Isolate, primary_host
from .stress import Stress


@pytest.fixture(autouse=True)
def possible():
    try:
        Network(0).close()
    except NoNetwork as error:
        pytest.skip(str(error))


def test_one_of_three_is_cut_off():
    with Stress(1, print, hosts=True) as stress:

        def faults():
            hosts = stress.network.hosts
            for how, distance in ('cut off', 0), ('silence', 1):
                wait_complete(stress.cluster)
                victim = (hosts.index(primary_host(stress.cluster)) + distance) % 3
                client = stress.bank.clients[victim]
                said = len(client.log())
                yield (fault := Isolate(stress, how, [hosts[victim]], 1))
                assert fault.others_went_on
                assert 'waiting for ' in client.log()[said:]
                stress.everybody_goes_on()

        stress.run(faults())


class Halve(Isolate):
    """The half that goes on is seen by nobody else; the other one says for whom it waits."""

    def strike(self):
        super().strike()
        there, = self.others
        number = self.stress.network.hosts.index(there)
        cluster = self.stress.cluster
        names = cluster.master_daemons[number].name, cluster.storages[number].name

        def waits():
            found = cluster.describe()
            return (found.state == ClusterState.RECOVERING
                    and found.reason.startswith('waiting for ')
                    and all(name in found.reason for name in names))
        wait_for(waits, 'the other half waits for %s and %s' % names, interval=.1)


def test_two_halves():
    with Stress(2, print, masters=2, storages=2, hosts=True) as stress:

        def faults():
            wait_complete(stress.cluster)
            here = primary_host(stress.cluster)
            yield (fault := Halve(stress, 'cut off', stress.network.others(here), 1))
            assert fault.others_went_on
            stress.everybody_goes_on()
            wait_complete(stress.cluster)
            assert primary_host(stress.cluster) is here

        stress.run(faults())


def test_other_tests_are_not_concerned():
    """Whatever was started while there was a network."""
    network = Network(1)
    try:
        with Cluster(network=network, admin=True) as cluster:
            cluster.wait_state('RUNNING')
    finally:
        network.close()
    with Cluster(admin=True) as cluster:
        cluster.wait_running()
