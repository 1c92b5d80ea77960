"""Tables and statements that SQL databases share; a dialect says what differs.

There is no column for the partition: rows of the table are told apart with `oid % partitions` and
`tid % partitions`, so that nothing has to be rewritten when cells move.

Some tables wait for what uses them: chunks of blobs, orders to pack, cursors of cells.
"""
from collections import namedtuple
from types import SimpleNamespace

VERSION = 4     # of the schema; kept in the database

# Data above this many bytes stand in a table of their own: they are written once, not moved when a
# transaction is locked, and not read when rows are looked through.
INLINE = 4096

# Kinds of columns; a dialect names a type for each.
ID = 'id'               # oid, tid, ttid, term…: an integer below 2^63
SMALL = 'small'         # an integer below 256
NAME = 'name'           # a short text that can be a key
BYTES = 'bytes'         # as long as metadata can be
DATA = 'data'           # as long as an object can be
OPTIONAL_ID = 'optional id'
OPTIONAL_DATA = 'optional data'

Table = namedtuple('Table', 'columns key indexes', defaults=((),))

# `large` names the row of that table which has the data, where they are not here.
_REVISION = dict(compression=SMALL, checksum=BYTES, data=OPTIONAL_DATA, data_tid=OPTIONAL_ID,
                 large=OPTIONAL_ID)
_METADATA = dict(status=NAME, user=BYTES, description=BYTES, extension=BYTES, oids=DATA,
                 checksum=BYTES)

# In pending_*, `tid` is the imposed one, or NOT_IMPOSED: a null can't be part of a key.  `number`
# names a transaction within one process: what another one has left is of nobody.
NOT_IMPOSED = -1
TABLES = dict(
    config=Table(dict(name=NAME, value=DATA, checksum=BYTES), ['name']),
    trans=Table(dict(tid=ID, ttid=ID, **_METADATA), ['tid'], [['ttid']]),
    obj=Table(dict(oid=ID, tid=ID, **_REVISION), ['oid', 'tid'], [['tid', 'oid']]),
    large=Table(dict(id=ID, data=DATA), ['id']),
    pending_obj=Table(dict(number=ID, oid=ID, tid=ID, **_REVISION), ['number', 'oid', 'tid']),
    # What has become locked, told and dropped, and how many objects there are then, in one row
    # for each commit: see locked.py.
    lock_journal=Table(dict(number=ID, changes=DATA, checksum=BYTES), ['number']),
    # Ranges of tids that are not in the history, whatever the tables have of them.
    hidden=Table(dict(first=ID, last=ID, checksum=BYTES), ['first']),
    blob_chunk=Table(dict(oid=ID, tid=ID, number=ID, checksum=BYTES, data=DATA),
                     ['oid', 'tid', 'number'], [['tid', 'oid']]),
    pending_blob_chunk=Table(dict(ttid=ID, oid=ID, tid=ID, number=ID, checksum=BYTES, data=DATA),
                             ['ttid', 'oid', 'tid', 'number']),
    pack_order=Table(dict(id=ID, tid=ID, options=BYTES), ['id']),
    cell=Table(dict(partition_row=ID, fill_tid=OPTIONAL_ID, fill_oid=OPTIONAL_ID,
                    pack_id=OPTIONAL_ID, pack_oid=OPTIONAL_ID), ['partition_row']),
)

_revision = 'compression, checksum, data, data_tid, large'
_inline = 'compression, checksum, data'         # of nearly all of them: the rest is null
_metadata = 'status, user, description, extension, oids, checksum'
_moved = 'FROM pending_obj WHERE number = ? AND (oid, tid) <= (?, ?)'

# Parameters are `?`.  Bounds are inclusive above, so that each fits into 63 bits.
STATEMENTS = dict(
    config='SELECT name, value, checksum FROM config',
    value='SELECT value FROM config WHERE name = ?',
    put='REPLACE INTO config (name, value, checksum) VALUES (?, ?, ?)',

    first_pended='SELECT MIN(number) FROM pending_obj',
    last_pended='SELECT MAX(number) FROM pending_obj',
    pend=f'REPLACE INTO pending_obj (number, oid, tid, {_revision})'
         ' VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
    pend_inline=f'REPLACE INTO pending_obj (number, oid, tid, {_inline})'
                ' VALUES (?, ?, ?, ?, ?, ?)',
    pended_large='SELECT large FROM pending_obj WHERE number = ? AND oid = ? AND tid = ?',
    last_large='SELECT MAX(id) FROM large',
    add_large='INSERT INTO large (id, data) VALUES (?, ?)',
    large='SELECT data FROM large WHERE id = ?',
    large_size='SELECT LENGTH(data) FROM large WHERE id = ?',
    drop_large='DELETE FROM large WHERE id = ?',

    move_end='SELECT oid, tid FROM pending_obj WHERE number = ? ORDER BY number, oid, tid'
             ' LIMIT 1 OFFSET ?',
    move_new=f'SELECT COUNT(DISTINCT oid) {_moved}'
             ' AND NOT EXISTS (SELECT 1 FROM obj WHERE obj.oid = pending_obj.oid)',
    move=f'INSERT INTO obj (oid, tid, {_revision}) SELECT oid,'
         f' CASE WHEN tid < 0 THEN ? ELSE tid END, {_revision} {_moved} ORDER BY number, oid, tid',
    moved=f'DELETE {_moved}',

    lock_journal='SELECT number, changes, checksum FROM lock_journal ORDER BY number',
    add_to_journal='INSERT INTO lock_journal (number, changes, checksum) VALUES (?, ?, ?)',
    shorten_journal='DELETE FROM lock_journal WHERE number < ?',
    hidden='SELECT first, last, checksum FROM hidden',
    hide='INSERT INTO hidden (first, last, checksum) VALUES (?, ?, ?)',
    show='DELETE FROM hidden WHERE first = ?',

    some_pended='SELECT number, oid, tid, large FROM pending_obj WHERE number >= ?'
                ' AND number <= ? ORDER BY number, oid, tid LIMIT ?',
    drop_pended='DELETE FROM pending_obj WHERE number = ? AND oid = ? AND tid = ?',
    records_between='SELECT oid, tid, large FROM obj WHERE tid >= ? AND tid <= ?'
                    ' ORDER BY tid, oid LIMIT ?',
    drop_record='DELETE FROM obj WHERE oid = ? AND tid = ?',
    metadata_between='SELECT tid FROM trans WHERE tid >= ? AND tid <= ? ORDER BY tid LIMIT ?',
    drop_metadata='DELETE FROM trans WHERE tid = ?',

    add_record=f'INSERT INTO obj (oid, tid, {_revision}) VALUES (?, ?, ?, ?, ?, ?, ?)',
    add_inline=f'INSERT INTO obj (oid, tid, {_inline}) VALUES (?, ?, ?, ?, ?)',
    add_metadata=f'INSERT INTO trans (tid, ttid, {_metadata}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
    exists='SELECT 1 FROM obj WHERE oid = ? LIMIT 1',

    newest=f'SELECT tid, {_revision} FROM obj WHERE oid = ? ORDER BY tid DESC LIMIT 1',
    older=f'SELECT tid, {_revision}, (SELECT MIN(tid) FROM obj WHERE oid = ? AND tid > ?)'
          ' FROM obj WHERE oid = ? AND tid <= ? ORDER BY tid DESC LIMIT 1',
    revision=f'SELECT {_revision} FROM obj WHERE oid = ? AND tid = ?',
    current='SELECT MAX(tid) FROM obj WHERE oid = ?',
    below='SELECT MAX(tid) FROM obj WHERE oid = ? AND tid <= ?',
    above='SELECT MIN(tid) FROM obj WHERE oid = ? AND tid >= ?',
    history='SELECT tid, LENGTH(data), data_tid, large FROM obj WHERE oid = ? AND tid <= ?'
            ' ORDER BY tid DESC LIMIT ?',
    tid_of='SELECT MAX(tid) FROM trans WHERE ttid = ?',
    last_tid='SELECT MAX(tid) FROM obj WHERE tid <= ?',
    last_metadata_tid='SELECT MAX(tid) FROM trans WHERE tid <= ?',
    last_oid='SELECT MAX(oid) FROM obj',

    # The row number `scan` of a range, where a look for rows of some partitions ends.
    transactions_end='SELECT tid FROM trans WHERE tid >= ? AND tid <= ? ORDER BY tid'
                     ' LIMIT 1 OFFSET ?',
    transactions=f'SELECT tid, ttid, {_metadata} FROM trans WHERE tid >= ? AND tid <= ?'
                 ' ORDER BY tid LIMIT ?',
    # A map with one byte per partition is one parameter, however many are wanted.
    some_transactions=f'SELECT tid, ttid, {_metadata} FROM trans WHERE tid >= ? AND tid <= ?'
                      " AND SUBSTR(?, tid % ? + 1, 1) = x'01' ORDER BY tid LIMIT ?",
    records_end='SELECT tid, oid FROM obj WHERE (tid, oid) > (?, ?) AND (tid, oid) <= (?, ?)'
                ' ORDER BY tid, oid LIMIT 1 OFFSET ?',
    records=f'SELECT oid, tid, {_revision} FROM obj WHERE (tid, oid) > (?, ?)'
            ' AND (tid, oid) <= (?, ?) ORDER BY tid, oid LIMIT ?',
    some_records=f'SELECT oid, tid, {_revision} FROM obj WHERE (tid, oid) > (?, ?)'
                 " AND (tid, oid) <= (?, ?) AND SUBSTR(?, oid % ? + 1, 1) = x'01'"
                 ' ORDER BY tid, oid LIMIT ?',
    keys='SELECT oid, tid FROM obj WHERE (tid, oid) > (?, ?) AND (tid, oid) <= (?, ?)'
         " AND SUBSTR(?, oid % ? + 1, 1) = x'01' ORDER BY tid, oid",
    some_keys='SELECT oid, tid, large FROM obj WHERE (tid, oid) > (?, ?) AND (tid, oid) <= (?, ?)'
              " AND SUBSTR(?, oid % ? + 1, 1) = x'01' ORDER BY tid, oid LIMIT ?",
    some_tids='SELECT tid FROM trans WHERE tid >= ? AND tid <= ?'
              " AND SUBSTR(?, tid % ? + 1, 1) = x'01' ORDER BY tid LIMIT ?",
    transaction_sums='SELECT tid, checksum FROM trans WHERE tid >= ? AND tid < ?'
                     " AND SUBSTR(?, tid % ? + 1, 1) = x'01'",
    transaction='SELECT tid, ttid, status, user, description, extension, oids, checksum FROM trans'
                ' WHERE tid = ?',
    # Of the first one of these, what stands in an index, so that the row is not read.
    first_record='SELECT tid, oid FROM obj WHERE (tid, oid) > (?, ?) AND (tid, oid) <= (?, ?)'
                 " AND SUBSTR(?, oid % ? + 1, 1) = x'01' ORDER BY tid, oid LIMIT 1",
)


class Dialect:
    """How one database wants these.  `types` maps each kind of column to its name for it."""

    def __init__(self, types):
        self.types = types

    def adapt(self, statement):
        return statement

    def statements(self):
        return SimpleNamespace(**{name: self.adapt(text) for name, text in STATEMENTS.items()})

    def create(self):
        """The statements that make all tables."""
        for name, table in TABLES.items():
            columns = ', '.join('%s %s' % (column, self.types[kind])
                                for column, kind in table.columns.items())
            yield 'CREATE TABLE %s (%s, PRIMARY KEY (%s))' % (name, columns, ', '.join(table.key))
            for index in table.indexes:
                yield 'CREATE INDEX %s_%s ON %s (%s)' % (name, '_'.join(index), name,
                                                         ', '.join(index))
