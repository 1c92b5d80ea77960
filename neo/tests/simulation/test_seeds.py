"""Random clusters under random faults; see neo/simulation/run.py."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neo.simulation.run import Run

SIMULATE = Path(__file__).parents[3] / 'tools' / 'simulate'


def simulate(*arguments, hash_seed='random'):
    return subprocess.run([sys.executable, SIMULATE, *map(str, arguments)], text=True,
                          capture_output=True, timeout=600,
                          env=os.environ | {'PYTHONHASHSEED': hash_seed})


@pytest.mark.parametrize('first', range(1, 201, 20))
def test_20_seeds(first):
    for seed in range(first, first + 20):
        assert not Run(seed)().violations, 'see tools/simulate --seed %d --trace' % seed


def test_the_command_counts_what_it_has_done():
    run = simulate('--seeds', 4, '--jobs', 2)
    assert run.returncode == 0, run.stdout + run.stderr
    assert '0 of 4 seeds failed' in run.stdout and 'commits' in run.stdout


def test_a_long_run_goes_on_where_it_was(tmp_path):
    kept = tmp_path / 'progress'
    simulate('--seeds', 2, '--resume', kept)
    run = simulate('--seeds', 3, '--resume', kept)
    assert run.returncode == 0 and '0 of 3 seeds failed' in run.stdout
    assert run.stdout.splitlines()[:-1] == simulate('--seeds', 3).stdout.splitlines()[:-1]


def test_a_seed_replays_exactly():
    for seed in (8, 28, 61, 81):         # the last one has databases in files
        outputs = {simulate('--seed', seed, hash_seed=hash_seed).stdout
                   for hash_seed in ('1', '2')}
        assert len(outputs) == 1 and 'trace ' in min(outputs)


def test_a_trace_tells_what_happened_and_is_of_the_same_run():
    run = simulate('--seed', 5, '--trace')
    assert ' -> ' in run.stdout and 'Lock.Answer(ttid=' in run.stdout
    assert run.stdout.splitlines()[-1] == simulate('--seed', 5).stdout.splitlines()[-1]
