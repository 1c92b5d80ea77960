"""The page about the protocol is generated, and somebody has done so."""
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.skipif(not (ROOT / 'tools').exists(), reason='not a checkout')
def test_the_protocol_page_is_up_to_date():
    done = subprocess.run([sys.executable, ROOT / 'tools' / 'protocol-doc', '--check'],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
