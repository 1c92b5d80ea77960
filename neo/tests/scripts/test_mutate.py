"""tools/mutate: its list is kept, and it tells what is noticed from what is not."""
import json
import subprocess
import sys
from pathlib import Path

MUTATE = Path(__file__).resolve().parents[3] / 'tools' / 'mutate'
BUG = 'balance-feeding-goes-early'


def mutate(*arguments):
    """`(exit code, all that was printed)`"""
    done = subprocess.run([sys.executable, MUTATE, *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=100)
    return done.returncode, done.stdout


def test_what_is_to_be_changed_is_there():
    """Once each.  If this fails, tools/mutants.toml has to say anew what that line would be like
    with a bug in it; where there is no such line any more, another bug takes its place."""
    code, printed = mutate('--list')
    assert code == 0, printed
    assert len(printed.splitlines()) >= 40


def test_one_is_noticed_by_some_tests_and_not_by_others(tmp_path):
    results = tmp_path / 'results'
    for units, noticed in (('protocol/test_doc.py', False), ('cluster/test_balance.py', True)):
        code, printed = mutate('--only', BUG, '--seeds', '0', '--units', 'neo/tests/' + units,
                               '--resume', results)
        assert code == (not noticed), printed
        kept = json.loads(results.read_text())[BUG]
        assert (kept['noticed'] or '').startswith('neo/tests/' + units) == noticed
        assert (BUG in printed) and ('NOT NOTICED' in printed) != noticed
