"""Three machines under kill -9, SIGSTOP and restarts, with clients that move money; tools/stress
does it for longer."""
import pytest

from .stress import Stress

# The time for all; each is a cluster of its own, as a database without any past finds other bugs.
SECONDS = 40


@pytest.mark.parametrize('seed', [1, 2])
def test_machines_are_lost(seed):
    with Stress(seed, print) as stress:
        stress.run(stress.during(SECONDS / 2))
        assert stress.faults
