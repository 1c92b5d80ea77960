"""The virtual world itself, with toy nodes."""
from neo.protocol.limits import PEER_TIMEOUT, PING_INTERVAL
from neo.simulation.world import Machine, World

from .toys import ADDRESS, Counter, toy_world


def heard(world):
    return world.node('C1').heard


def test_messages_arrive_in_order():
    world = toy_world()
    world.network.split = .5
    world.run_for(1)
    numbers = [number for _, number in heard(world)]
    assert len(numbers) > 100 and numbers == list(range(1, len(numbers) + 1))
    assert not world.violations


def test_a_reset_loses_what_is_in_flight_and_both_sides_learn_of_it():
    world = toy_world()
    for _ in range(30):
        world.run_for(.2)
        world.reset('C1')
    world.run_for(1)
    numbers = [number for _, number in heard(world)]
    assert numbers == sorted(set(numbers)) and numbers[-1] > len(numbers)
    assert len({connection for connection, _ in heard(world)}) > 25
    assert len(world.network.ends) == 2
    assert not world.violations


def test_a_cut_holds_back_and_a_long_one_is_noticed_by_silence():
    world = toy_world()
    world.run_for(.5)
    world.network.cut('M1', 'C1')
    before = len(heard(world))
    world.run_for(2)
    assert len(heard(world)) == before
    world.network.mend('M1', 'C1')
    world.run_for(1)
    assert len(heard(world)) > before and not world.node('C1').reasons
    world.network.cut('C1', 'M1')
    world.run_for(PEER_TIMEOUT + 2 * PING_INTERVAL)
    assert 'no sign of life' in world.node('C1').reasons[0]
    assert not world.node('M1').peers


def test_connections_are_refused_by_who_is_dead_and_time_out_to_who_has_no_power():
    world = toy_world()
    world.kill('M1')
    world.run_for(1)
    assert world.node('C1').reasons[-1] == 'refused'
    world.kill('M1', silently=True)
    world.run_for(10)
    assert world.node('C1').reasons[-1] == 'timed out'
    before = len(heard(world))
    world.start('M1')
    world.run_for(10)
    assert len(heard(world)) > before


def test_after_a_power_failure_the_next_process_resets_old_connections():
    world = toy_world()
    world.run_for(1)
    world.kill('M1', silently=True)
    world.start('M1')
    world.run_for(PEER_TIMEOUT / 2)
    assert {connection for connection, _ in heard(world)} == {1, 2}


def test_a_crash_between_two_sends():
    world = toy_world()
    world.run_for(1)
    world.machines['M1'].process.doom = 'send', 3
    sent = world.counts['Sync.Answer']
    world.run_for(1)
    assert world.node('M1') is None and world.counts['Sync.Answer'] == sent + 3


def test_a_frozen_process_does_nothing_and_then_all():
    world = toy_world()
    world.run_for(1)
    world.freeze('M1')
    world.run_for(.1)
    before = len(heard(world))
    world.run_for(5)
    assert len(heard(world)) == before
    world.thaw('M1')
    world.run_for(1)
    assert len(heard(world)) > before


def test_the_same_seed_is_the_same_trace():
    def digest(seed):
        world = toy_world(seed)
        world.run_for(1)
        world.reset('C1')
        world.run_for(1)
        return world.trace.digest()
    assert digest(5) == digest(5) != digest(6)


def test_background_work_has_its_turn_between_the_rest():
    class Worker(Counter):
        def starting(self):
            self.left = 1000
            self.amounts = []
            self.want_slices('work')

        def slice(self, name, amount):
            self.amounts.append(amount)
            self.left -= amount
            if self.left <= 0:
                self.no_slices(name)

    world = World(5)
    world.add(Machine('M1', ADDRESS, lambda machine, rnd: Worker(rnd)))
    world.start('M1')
    worker = world.node('M1')
    world.run_for(.001)                     # it starts
    world.freeze('M1')
    world.run_for(1)
    given = len(worker.amounts)
    world.thaw('M1')
    world.run_for(1)
    assert given <= 1 < len(worker.amounts) and worker.left <= 0
    assert len(set(worker.amounts)) > 1
    amounts = list(worker.amounts)
    world.run_for(1)
    assert worker.amounts == amounts
