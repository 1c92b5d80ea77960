"""The oracles find bugs that are planted: an oracle that finds nothing may be blind."""
import pytest

from neo.simulation.run import Run

from .plants import PLANTS


@pytest.mark.parametrize('bug', PLANTS)
def test_a_planted_bug_is_found(bug):
    for seed in range(1, 201):
        if Run(seed, nodes=PLANTS[bug])().violations:
            return
    pytest.fail('200 seeds have not shown that %s' % bug)
