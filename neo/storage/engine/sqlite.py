"""The engine on SQLite: one file, one process, write-ahead log, an fsync per commit.

The choices made here are explained in docs/decisions/sqlite-schema.md.
"""
import os
import sqlite3
import tempfile
from functools import wraps
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgpack

from ...protocol.limits import FREE_SPACE_RESERVE, KiB, MiB
from . import schema
from .interface import Engine, EngineError
from .space import Reserve
from .sql import SqlEngine

APPLICATION_ID = 0x4E454F53         # "NEOS": tells our files from those of other applications
PAGE_SIZE = 8 * KiB
# SQLite's unit: pages, or KiB if negative.
CACHE_SIZE = -64 * KiB
# A checkpoint runs inside a commit, which is late by so much copying; a page that changes often is
# copied once for all of its changes since the last one.
CHECKPOINT_AFTER = 8 * MiB
# What a large transaction made of the log is given back.
LOG_KEPT = 64 * MiB

# OFF is not among the journal modes: close and errors need to roll back.
SETTINGS = dict(
    synchronous=('OFF', 'NORMAL', 'FULL', 'EXTRA'),
    journal_mode=('WAL', 'DELETE', 'TRUNCATE', 'PERSIST', 'MEMORY'),
    cache_size=None,                # an integer
)
DEFAULTS = dict(synchronous='FULL', journal_mode='WAL', cache_size=str(CACHE_SIZE))

DIALECT = schema.Dialect({
    schema.ID: 'INTEGER NOT NULL', schema.SMALL: 'INTEGER NOT NULL', schema.NAME: 'TEXT NOT NULL',
    schema.BYTES: 'BLOB NOT NULL', schema.DATA: 'BLOB NOT NULL', schema.OPTIONAL_ID: 'INTEGER',
    schema.OPTIONAL_DATA: 'BLOB'})

# Errors of a page or of the disk below it, at which SQLite ends one statement.
HARMLESS = sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR

# All bytes that are written are looked up among the adapters: that there is none takes longer to
# find out than one that does nothing.
sqlite3.register_adapter(bytes, bytes)


def parse(database):
    """A path, or a `file:` URI -> `(absolute path, settings)`; raises EngineError."""
    settings = dict(DEFAULTS)
    path = database
    if database.startswith('file:'):
        uri = urlsplit(database)
        if uri.netloc not in ('', 'localhost') or uri.fragment:
            raise EngineError('%r: expected file:PATH?KEY=VALUE&…' % database)
        path = unquote(uri.path)
        for key, value in parse_qsl(uri.query, keep_blank_values=True):
            settings[key] = _setting(database, key, value)
    if not path or '\0' in path or path.endswith('/') or os.path.isdir(path):
        raise EngineError('%r is not the path of a file' % database)
    return os.path.realpath(path), settings


def _setting(database, key, value):
    if key not in SETTINGS:
        raise EngineError('%r: unknown key %r; there are %s'
                          % (database, key, ', '.join(sorted(SETTINGS))))
    allowed = SETTINGS[key]
    if allowed is None:
        digits = value.removeprefix('-')
        if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
            raise EngineError('%r: %s must be an integer, not %r' % (database, key, value))
        return value
    if value.upper() not in allowed:
        raise EngineError('%r: %s must be one of %s, not %r'
                          % (database, key, ', '.join(allowed), value))
    return value.upper()


def _explain(path, error):
    """The EngineError for what sqlite3 or the system has raised."""
    if isinstance(error, OSError):
        return EngineError('%s: %s' % (path, error.strerror))
    code = (getattr(error, 'sqlite_errorcode', None) or 0) & 0xff
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return EngineError('%s is used by another process' % path)
    if code == sqlite3.SQLITE_FULL:
        return EngineError('%s: the disk is full' % path)
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return EngineError('%s is corrupted: %s' % (path, error))
    return EngineError('%s: %s' % (path, error))


def _guarded(method):
    @wraps(method)
    def guarded(self, *args):
        try:
            return method(self, *args)
        except (sqlite3.Error, OSError) as error:
            raise self._failure(error) from error
    return guarded


def _guarded_read(method):
    """The same for a call that changes nothing: it may be the only one that is harmed."""
    @wraps(method)
    def guarded(self, *args):
        try:
            return method(self, *args)
        except (sqlite3.Error, OSError) as error:
            raise (self._broken(error, None) if self._survives(error)
                   else self._failure(error)) from error
    return guarded


class SqliteEngine(SqlEngine):
    """`database` is a path or a `file:` URI; a file is made if there is none, its folder is not."""

    Error = sqlite3.Error

    def __init__(self, database, reserve=FREE_SPACE_RESERVE):
        super().__init__()
        self.path, settings = parse(database)
        self._connection = self._space = None
        try:
            if not (os.path.exists(self.path) and os.path.getsize(self.path)):
                _create(self.path)
            _check(self.path)
            self._connection = _connect(self.path, settings)
            self._execute = self._connection.execute
            self._executemany = self._connection.executemany
            self._sql = DIALECT.statements()
            self._space = Reserve(self.path, self._unused, reserve)
            self._read_state()
        except BaseException as error:
            self.close()
            if isinstance(error, (sqlite3.Error, OSError)):
                raise _explain(self.path, error) from error
            raise

    def close(self):
        if self._space is not None:
            # First, so that it is not that of another process, and there is room for the log.
            self._space.close()
            self._space = None
        if self._connection is not None:
            self._connection.close()    # what was not committed is rolled back

    def _failure(self, error):
        """What to raise for an error after which nothing is certain."""
        explained = _explain(self.path, error)
        if getattr(error, 'sqlite_errorcode', None) == sqlite3.SQLITE_FULL:
            space = self._space.space()
            explained = EngineError(
                '%s: %.1f MiB are free, %.1f MiB are kept in reserve, %.1f MiB were promised'
                % (explained, *[size / MiB for size in space[1:]]))
        self._failed = str(explained)
        return explained

    def _harmless(self, error):
        code = (getattr(error, 'sqlite_errorcode', None) or 0) & 0xff
        return code in HARMLESS

    def _undo(self):
        if self._connection.in_transaction:
            self._execute('ROLLBACK')

    def _unused(self):
        return (self._execute('PRAGMA freelist_count').fetchone()[0]
                * self._execute('PRAGMA page_size').fetchone()[0])

    def _begin(self):
        self._execute('BEGIN IMMEDIATE')

    def _end(self):
        self._execute('COMMIT')

    def _size(self):
        return (self._execute('PRAGMA page_count').fetchone()[0]
                * self._execute('PRAGMA page_size').fetchone()[0])


READS = {'current', 'find', 'free_space', 'get', 'history', 'last_oid', 'last_tid', 'load',
         'locked', 'measure', 'records', 'space', 'tid_of', 'told', 'transactions'}
for _name in Engine.__abstractmethods__ - {'changed', 'needs_cleaning', 'should_commit'}:
    setattr(SqliteEngine, _name, (_guarded_read if _name in READS else _guarded)(
        getattr(SqliteEngine, _name)))


def _connect(path, settings):
    """Open a database of ours and keep everybody else out, for as long as it is open."""
    connection = sqlite3.connect(_uri(path), uri=True, timeout=0, isolation_level=None,
                                 check_same_thread=False)
    connection.text_factory = bytes
    try:
        execute = connection.execute
        # Before the first access: so the index of the log is in private memory, and no read needs
        # a lock, which is a dozen of system calls less for each.
        execute('PRAGMA locking_mode = EXCLUSIVE')
        mode, = execute('PRAGMA journal_mode = %s' % settings['journal_mode']).fetchone()
        if mode.decode().upper() != settings['journal_mode']:
            raise EngineError('%s: journal_mode can not be %s here'
                              % (path, settings['journal_mode']))
        # With a rollback journal, readers would get in otherwise.
        execute('BEGIN EXCLUSIVE')
        execute('COMMIT')
        _check_ids(path, execute('PRAGMA application_id').fetchone()[0],
                   execute('PRAGMA user_version').fetchone()[0])
        execute('PRAGMA synchronous = %s' % settings['synchronous'])
        execute('PRAGMA cache_size = %d' % int(settings['cache_size']))
        execute('PRAGMA temp_store = MEMORY')
        # Else what is removed would be written over first, at the cost of its bytes.
        execute('PRAGMA secure_delete = OFF')
        execute('PRAGMA journal_size_limit = %d' % LOG_KEPT)
        page_size, = execute('PRAGMA page_size').fetchone()
        execute('PRAGMA wal_autocheckpoint = %d' % (CHECKPOINT_AFTER // page_size))
    except BaseException:
        connection.close()
        raise
    return connection


def _uri(path, mode='rw'):
    # Whatever the path looks like (":memory:" is a file here); and nothing is made anew.
    return 'file:%s?mode=%s' % (quote(path), mode)


def _check(path):
    """Is it ours?  Opened as others are, SQLite would begin to repair what is not."""
    _check_ids(path, *_ids(path))


def _ids(path):
    """`(application id, schema version)` of the file."""
    # SQLite reads them itself: if this process had the database open already, opening and closing
    # the file aside would release its locks (POSIX, for all descriptors of a file).
    connection = sqlite3.connect(_uri(path, 'ro&immutable=1'), uri=True)
    try:
        # The log is not looked at.  After a checkpoint that did not end, the file alone may be
        # shorter than its first page says; only so, that is no reason to refuse it.
        connection.execute('PRAGMA writable_schema = ON')
        return (connection.execute('PRAGMA application_id').fetchone()[0],
                connection.execute('PRAGMA user_version').fetchone()[0])
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xff == sqlite3.SQLITE_NOTADB:
            raise EngineError('%s is not a database of NEO' % path)
        raise
    finally:
        connection.close()


def _check_ids(path, application_id, version):
    if application_id != APPLICATION_ID:
        raise EngineError('%s is not a database of NEO, but of another application' % path)
    if version > schema.VERSION:
        raise EngineError('%s was made by a newer version of NEO (schema %d, here %d)'
                          % (path, version, schema.VERSION))
    if version < schema.VERSION:
        raise EngineError('%s was made by a version of NEO that was never released (schema %d,'
                          ' here %d)' % (path, version, schema.VERSION))


def _create(path):
    """Make an empty database, whole or not at all."""
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        raise EngineError('%s: there is no folder %s' % (path, folder))
    for log in (path + '-wal', path + '-journal'):
        # SQLite would apply it to the new database.
        if os.path.exists(log) and os.path.getsize(log):
            raise EngineError('%s is there without its database' % log)
    descriptor, new = tempfile.mkstemp('.new', name + '.', folder)     # its mode is 0600
    os.close(descriptor)
    try:
        connection = sqlite3.connect(_uri(new), uri=True, isolation_level=None)
        try:
            connection.execute('PRAGMA page_size = %d' % PAGE_SIZE)
            connection.execute('PRAGMA synchronous = FULL')
            connection.execute('BEGIN')
            connection.execute('PRAGMA application_id = %d' % APPLICATION_ID)
            connection.execute('PRAGMA user_version = %d' % schema.VERSION)
            for statement in DIALECT.create():
                connection.execute(statement)
            connection.execute('COMMIT')
        finally:
            connection.close()
        if os.path.exists(path) and not os.path.getsize(path):
            os.unlink(path)
        try:
            os.link(new, path)
        except FileExistsError:
            pass                    # another process was faster: it will be found in use
    finally:
        os.unlink(new)
    _sync_folder(folder)


def _sync_folder(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check(database):
    """EngineError if it can be seen that it can't be opened; nothing is changed, and it may be in
    use.  Returns the name of its cluster, None if that can't be seen."""
    path, _ = parse(database)
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise EngineError('%s: there is no folder %s' % (path, folder))
    try:
        there = os.path.exists(path) and os.path.getsize(path)
        if there:
            _check(path)
    except (sqlite3.Error, OSError) as error:
        raise _explain(path, error) from error
    for needed in [path, folder] if there else [folder]:
        if not os.access(needed, os.W_OK):
            raise EngineError('%s may not be written' % needed)
    return _cluster_of(path) if there else None


def _cluster_of(path):
    connection = sqlite3.connect(_uri(path, 'ro&immutable=1'), uri=True)
    try:
        packed = connection.execute(schema.STATEMENTS['value'], ('cluster',)).fetchone()
        return packed and msgpack.unpackb(packed[0])
    except (sqlite3.DatabaseError, ValueError):
        return None                     # the log may have it
    finally:
        connection.close()


def reset(database):
    """Delete a database of ours, whatever its state, unless it is in use.  A file that is not there
    or is empty is no error."""
    path, _ = parse(database)
    try:
        if os.path.exists(path) and os.path.getsize(path):
            _delete(path)
        for suffix in ('', '-wal', '-journal', '-shm', '-reserve'):
            if os.path.exists(path + suffix):
                os.unlink(path + suffix)
    except (sqlite3.Error, OSError) as error:
        raise _explain(path, error) from error


def _delete(path):
    if _ids(path)[0] != APPLICATION_ID:
        raise EngineError('%s is not a database of NEO, it is not deleted' % path)
    connection = sqlite3.connect(_uri(path), uri=True, timeout=0, isolation_level=None)
    try:
        try:
            connection.execute('PRAGMA locking_mode = EXCLUSIVE')
            connection.execute('BEGIN EXCLUSIVE')
            connection.execute('COMMIT')
            # A log that outlives its database stands in the way of the next one.
            connection.execute('PRAGMA wal_checkpoint(TRUNCATE)')
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xff in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            # Corrupted: a reason to delete it.  It was locked before that showed.
        os.unlink(path)
    finally:
        connection.close()
