"""What a commit costs, in messages: docs/architecture.md, "What each operation costs"."""
import subprocess
import sys
from pathlib import Path

MESSAGES = Path(__file__).parents[3] / 'tools' / 'messages'


def test_a_commit_has_as_many_messages_as_is_written():
    run = subprocess.run([sys.executable, MESSAGES, '--objects', '20'], text=True,
                         capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr
    found = {tuple(line.split()[:2]): float(line.split()[3])
             for line in run.stdout.splitlines()[1:]}
    # 2 of the client and the master, 5 of each storage: one copy more is no message more where all
    # of them take part anyway.
    assert found['1', '0'] == 7
    assert abs(found['16', '0'] - (2 + 5 * 16)) < .5
    assert abs(found['16', '1'] - found['16', '0']) < .5
