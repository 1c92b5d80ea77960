import pytest

from .script import Script


@pytest.fixture
def script():
    """A storage that serves two clients, `script.a` and `script.b`; `script.m` is its master."""
    script = Script()
    script.m = script.serve()
    script.a, script.b = script.client('C1'), script.client('C2')
    return script
