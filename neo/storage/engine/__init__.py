"""The database of a storage: interface.py is the contract, the others keep it."""
from .interface import EngineError

ADAPTERS = 'SQLite', 'MySQL'


def adapter_of(adapter, database):
    """The adapter to use; it follows from the string where none is named."""
    if adapter is None:
        local = database.startswith(('file:', '/', './', '../'))
        return 'MySQL' if '@' in database and not local else 'SQLite'
    if adapter not in ADAPTERS:
        raise EngineError('unknown adapter %r; there are %s' % (adapter, ', '.join(ADAPTERS)))
    return adapter


def _module(adapter, database, engine=None):
    if adapter_of(adapter, database) == 'MySQL':
        raise EngineError('the MySQL adapter is not available in this version')
    if engine is not None:
        raise EngineError('engine %s: SQLite has no choice of engines' % engine)
    # Not before it is known that it is needed: each adapter has its own requirements.
    from . import sqlite
    return sqlite


def open_engine(adapter, database, engine=None):
    """The Engine of `--adapter`, `--database` and `--engine`; raises EngineError."""
    return _module(adapter, database, engine).SqliteEngine(database)


def check(adapter, database):
    """EngineError if it can be seen that it can't be opened; nothing is changed, and it may be in
    use.  Returns the name of the cluster whose database it is, None if that can't be seen."""
    return _module(adapter, database).check(database)


def reset(adapter, database):
    """Delete the database, if it is one of ours and nobody uses it; else raises EngineError."""
    _module(adapter, database).reset(database)
