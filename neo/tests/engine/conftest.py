import pytest

from neo.storage.engine.memory import MemoryEngine
from neo.storage.engine.sqlite import SqliteEngine


class Database:
    """One database, whatever the engine is: `engine` is what is open now."""

    def __init__(self, open_it, reopen):
        self.engine = open_it()
        self._reopen = reopen

    def reopen(self):
        """As after a crash: what was not committed is lost."""
        self.engine = self._reopen(self.engine)
        return self.engine


def memory_database(folder):
    return Database(MemoryEngine, lambda engine: engine.reopened())


def sqlite_database(folder):
    path = str(folder / 'engine.sqlite')

    def reopen(engine):
        engine.close()
        return SqliteEngine(path)
    return Database(lambda: SqliteEngine(path), reopen)


MAKERS = dict(memory=memory_database, sqlite=sqlite_database)


@pytest.fixture(params=sorted(MAKERS))
def database(request, tmp_path):
    database = MAKERS[request.param](tmp_path)
    yield database
    database.engine.close()


@pytest.fixture
def engine(database):
    return database.engine


@pytest.fixture(params=sorted(MAKERS))
def databases(request, tmp_path):
    """A function that gives another engine of the same kind each time."""
    made = []

    def make():
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(MAKERS[request.param](folder))
        return made[-1].engine
    yield make
    for database in made:
        database.engine.close()
