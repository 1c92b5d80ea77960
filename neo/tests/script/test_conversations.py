"""Each file of neo/tests/conversations gives the traces that are written in it."""
from pathlib import Path

import pytest

from .language import rewritten

FOLDER = Path(__file__).parents[1] / 'conversations'
FILES = sorted(FOLDER.glob('*.txt'))


@pytest.mark.parametrize('path', FILES, ids=[path.stem for path in FILES])
def test_conversation(path, request):
    text = path.read_text()
    now = rewritten(text)
    if request.config.getoption('rewrite'):
        path.write_text(now)
    else:
        assert now.splitlines() == text.splitlines(), 'see pytest --rewrite'
