"""tools/bench works: one short round."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('ZEO')

BENCH = Path(__file__).resolve().parents[2] / 'tools' / 'bench'


def test_a_short_round():
    done = subprocess.run(
        [sys.executable, BENCH, '--quick', '--json', '--peers', 'zeo', '--', 'commit', 'import'],
        stdout=subprocess.PIPE, timeout=120)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert set(found) == {'commit', 'import'}
    for peers in found.values():
        assert set(peers) == {'NEO', 'ZEO'}
        assert all(value > 0 for figures in peers.values() for value in figures.values())


def test_against_another_checkout():
    """This one again, by another way."""
    done = subprocess.run(
        [sys.executable, BENCH, '--quick', '--against', BENCH.parents[1], '--json', '--peers', '--',
         'replicas'], stdout=subprocess.PIPE, timeout=120)
    assert done.returncode == 0
    name = BENCH.parents[1].name
    assert set(json.loads(done.stdout)['replicas']) == {
        'NEO', 'NEO, 2 copies', 'NEO of ' + name, 'NEO, 2 copies of ' + name}


def test_redundancy():
    done = subprocess.run(
        [sys.executable, BENCH, '--redundancy', '--quick', '--json', '--database', '100'],
        stdout=subprocess.PIPE, timeout=200)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert set(found) == {'redundancy', 'replicas', 'concurrent-replicas'}
    assert len(found['redundancy']) == 6 and all(
        value > 0 for value in found['redundancy'].values())


def test_no_checkout(tmp_path):
    done = subprocess.run([sys.executable, BENCH, '--against', tmp_path], stderr=subprocess.PIPE,
                          timeout=60)
    assert done.returncode == 2
    assert b'there is no NEO in' in done.stderr


def test_unknown_workload():
    done = subprocess.run([sys.executable, BENCH, 'nothing'], stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 2
    assert b'unknown workload' in done.stderr
