"""The house of docs/architecture.md: imports point down only."""
import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]                    # of the package

# Each floor may import itself and what is listed.  The longest matching name decides.
BASE = {'neo.protocol', 'neo.cluster'}
ENGINE_BASE = BASE | {'neo.storage.engine'}
ROLES = {'neo.master', 'neo.storage', 'neo.client', 'neo.admin', 'neo.ctl'}
ALL = BASE | ROLES | {'neo', 'neo.runtime', 'neo.simulation', 'neo.scripts', 'neo.tests',
                      'neo.migrate', 'neo.local'}
MAY_IMPORT = {
    'neo.protocol': {'neo.protocol'},
    'neo.cluster': BASE,
    'neo.master': BASE | {'neo.master'},
    'neo.storage': BASE | {'neo.storage'},
    'neo.storage.engine': ENGINE_BASE,
    'neo.client': BASE | {'neo.client', 'neo.runtime'},
    'neo.client.core': BASE | {'neo.client.core', 'neo.client.exception'},
    'neo.admin': BASE | {'neo.admin'},
    'neo.ctl': BASE | {'neo.ctl'},
    'neo.runtime': BASE | ROLES | {'neo.runtime'},
    'neo.simulation': BASE | ROLES | {'neo.simulation'},
    'neo.migrate': BASE | {'neo.client', 'neo.migrate'},
    'neo.local': BASE | {'neo.runtime', 'neo.local'},
    'neo.scripts': ALL - {'neo.simulation', 'neo.tests'},
    'neo.tests': ALL,
    'neo': set(),
}
# Nothing below the line of runtime and simulation does I/O, or knows time or chance.
PURE = ['neo.protocol', 'neo.cluster', 'neo.master', 'neo.storage', 'neo.client.core', 'neo.admin',
        'neo.ctl']
FORBIDDEN = {'time', 'random', 'socket', 'select', 'selectors', 'threading', 'os', 'subprocess',
             'signal', 'asyncio', 'multiprocessing', 'queue', 'secrets', 'uuid', 'tempfile',
             'sqlite3', 'pathlib', 'shutil', 'logging.handlers', 'concurrent'}
ENGINES = 'neo.storage.engine'


def modules():
    for path in sorted(ROOT.rglob('*.py')):
        parts = ('neo', *path.relative_to(ROOT).with_suffix('').parts)
        yield path, '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports(path, module):
    """Names of modules imported anywhere in a file, functions included, as `a.b` or `a.b.name`."""
    package = module if path.name == '__init__.py' else module.rpartition('.')[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                above = package.split('.')[:len(package.split('.')) - node.level + 1]
                base = '.'.join(above + ([base] if base else []))
            yield from ((node.lineno, base + '.' + alias.name) for alias in node.names)


def within(name, packages):
    return any(name == package or name.startswith(package + '.') for package in packages)


def floor(name):
    return max((package for package in MAY_IMPORT if within(name, [package])), key=len)


def faults(path, module):
    may = MAY_IMPORT[floor(module)]
    pure = within(module, PURE) and not within(module, [ENGINES])
    for line, name in imports(path, module):
        if within(name, ['neo']):
            # The version, `from neo import __version__`, is everybody's.
            if name == 'neo.__version__':
                continue
            if floor(name) not in may and not within(name, may - {'neo'}):
                yield '%s:%d imports %s' % (module, line, name)
        elif pure and within(name, FORBIDDEN):
            yield '%s:%d is pure, and imports %s' % (module, line, name)
        elif within(module, ['neo.protocol']) and not within(
                name, sys.stdlib_module_names | {'msgpack'}):
            yield '%s:%d: the protocol needs nothing but msgpack, and imports %s' % (
                module, line, name)


@pytest.mark.parametrize('package', sorted(MAY_IMPORT))
def test_imports_point_down_only(package):
    found = [fault for path, module in modules() if floor(module) == package
             for fault in faults(path, module)]
    assert not found, '\n'.join(found)


def test_it_would_be_noticed(tmp_path):
    path = tmp_path / 'bad.py'
    path.write_text('import time\nfrom ..storage import node\nfrom ..cluster import ids\n')
    assert list(faults(path, 'neo.master.bad')) == [
        'neo.master.bad:1 is pure, and imports time',
        'neo.master.bad:2 imports neo.storage.node']
    path.write_text('from ..Storage import Storage\nfrom ...runtime import clock\n')
    assert list(faults(path, 'neo.client.core.bad')) == [
        'neo.client.core.bad:1 imports neo.client.Storage.Storage',
        'neo.client.core.bad:2 imports neo.runtime.clock']
    path.write_text('from ..runtime import clock\n')
    assert not list(faults(path, 'neo.client.Storage'))
    path.write_text('import time\nfrom ..storage import node\n')
    assert not list(faults(path, 'neo.simulation.good'))


def test_every_package_has_its_floor():
    assert {module.split('.')[1] for path, module in modules() if module.count('.')} == {
        package.split('.')[1] for package in MAY_IMPORT if package != 'neo'}
