"""Tables and statements that SQL databases share; a dialect says what differs.

There is no column for the partition: rows of the table are told apart with `oid % partitions` and
`tid % partitions`, so that nothing has to be rewritten when cells move.

Some tables wait for what uses them: chunks of blobs, orders to pack, cursors of cells.
"""
from collections import namedtuple
from types import SimpleNamespace

VERSION = 2     # of the schema; kept in the database

# Kinds of columns; a dialect names a type for each.
ID = 'id'               # oid, tid, ttid, term…: an integer below 2^63
SMALL = 'small'         # an integer below 256
NAME = 'name'           # a short text that can be a key
BYTES = 'bytes'         # as long as metadata can be
DATA = 'data'           # as long as an object can be
OPTIONAL_ID = 'optional id'
OPTIONAL_DATA = 'optional data'

Table = namedtuple('Table', 'columns key indexes', defaults=((),))

_REVISION = dict(compression=SMALL, checksum=BYTES, data=OPTIONAL_DATA, data_tid=OPTIONAL_ID)
_METADATA = dict(status=NAME, user=BYTES, description=BYTES, extension=BYTES, oids=DATA)

# In pending_*, `tid` is the imposed one, or NOT_IMPOSED: a null can't be part of a key.
NOT_IMPOSED = -1
TABLES = dict(
    config=Table(dict(name=NAME, value=DATA), ['name']),
    trans=Table(dict(tid=ID, ttid=ID, **_METADATA), ['tid'], [['ttid']]),
    obj=Table(dict(oid=ID, tid=ID, **_REVISION), ['oid', 'tid'], [['tid', 'oid']]),
    pending_trans=Table(dict(ttid=ID, tid=ID, **_METADATA), ['ttid', 'tid']),
    pending_obj=Table(dict(ttid=ID, oid=ID, tid=ID, **_REVISION), ['ttid', 'oid', 'tid']),
    unfinished=Table(dict(ttid=ID, tid=OPTIONAL_ID), ['ttid']),
    # What is locked, and what was told until others have been in all of its rows.
    locked=Table(dict(ttid=ID, first=ID, tid=ID, rows=BYTES, told=SMALL), ['ttid']),
    blob_chunk=Table(dict(oid=ID, tid=ID, number=ID, checksum=BYTES, data=DATA),
                     ['oid', 'tid', 'number'], [['tid', 'oid']]),
    pending_blob_chunk=Table(dict(ttid=ID, oid=ID, tid=ID, number=ID, checksum=BYTES, data=DATA),
                             ['ttid', 'oid', 'tid', 'number']),
    pack_order=Table(dict(id=ID, tid=ID, options=BYTES), ['id']),
    cell=Table(dict(partition_row=ID, fill_tid=OPTIONAL_ID, fill_oid=OPTIONAL_ID,
                    pack_id=OPTIONAL_ID, pack_oid=OPTIONAL_ID), ['partition_row']),
)

_revision = 'compression, checksum, data, data_tid'
_metadata = 'status, user, description, extension, oids'

# Parameters are `?`.  Bounds are inclusive above, so that each fits into 63 bits.
STATEMENTS = dict(
    config='SELECT name, value FROM config',
    put='REPLACE INTO config (name, value) VALUES (?, ?)',

    pend=f'REPLACE INTO pending_obj (ttid, oid, tid, {_revision}) VALUES (?, ?, ?, ?, ?, ?, ?)',
    pended='SELECT DISTINCT ttid FROM pending_obj',
    drop_records='DELETE FROM pending_obj WHERE ttid = ?',
    vote=f'REPLACE INTO pending_trans (ttid, tid, {_metadata}) VALUES (?, ?, ?, ?, ?, ?, ?)',
    drop_metadata='DELETE FROM pending_trans WHERE ttid = ?',
    unfinished='SELECT ttid, tid FROM unfinished',
    set_unfinished='REPLACE INTO unfinished (ttid, tid) VALUES (?, ?)',
    drop_unfinished='DELETE FROM unfinished WHERE ttid = ?',
    count_new='SELECT COUNT(DISTINCT oid) FROM pending_obj WHERE ttid = ? AND NOT EXISTS'
              ' (SELECT 1 FROM obj WHERE obj.oid = pending_obj.oid)',
    last_pended_oid='SELECT MAX(oid) FROM pending_obj WHERE ttid = ?',
    lock_records=f'INSERT INTO obj (oid, tid, {_revision}) SELECT oid,'
                 f' CASE WHEN tid < 0 THEN ? ELSE tid END, {_revision}'
                 ' FROM pending_obj WHERE ttid = ? ORDER BY ttid, oid, tid',
    lock_metadata=f'INSERT INTO trans (tid, ttid, {_metadata}) SELECT'
                  f' CASE WHEN tid < 0 THEN ? ELSE tid END, ttid, {_metadata}'
                  ' FROM pending_trans WHERE ttid = ? ORDER BY ttid, tid',

    locked='SELECT ttid, first, tid, rows, told FROM locked',
    set_locked='INSERT INTO locked (ttid, first, tid, rows, told) VALUES (?, ?, ?, ?, 0)',
    set_told='UPDATE locked SET told = 1 WHERE ttid = ?',
    drop_locked='DELETE FROM locked WHERE ttid = ?',
    drop_history='DELETE FROM obj WHERE tid >= ? AND tid <= ?',
    drop_transactions='DELETE FROM trans WHERE tid >= ? AND tid <= ?',
    count_objects='SELECT COUNT(DISTINCT oid) FROM obj',
    any_record='SELECT 1 FROM obj WHERE tid >= ? AND tid <= ? LIMIT 1',
    any_transaction='SELECT 1 FROM trans WHERE tid >= ? AND tid <= ? LIMIT 1',

    add_record=f'INSERT INTO obj (oid, tid, {_revision}) VALUES (?, ?, ?, ?, ?, ?)',
    add_metadata=f'INSERT INTO trans (tid, ttid, {_metadata}) VALUES (?, ?, ?, ?, ?, ?, ?)',
    exists='SELECT 1 FROM obj WHERE oid = ? LIMIT 1',

    newest=f'SELECT tid, {_revision} FROM obj WHERE oid = ? ORDER BY tid DESC LIMIT 1',
    older=f'SELECT tid, {_revision}, (SELECT MIN(tid) FROM obj WHERE oid = ? AND tid > ?)'
          ' FROM obj WHERE oid = ? AND tid <= ? ORDER BY tid DESC LIMIT 1',
    revision=f'SELECT {_revision} FROM obj WHERE oid = ? AND tid = ?',
    current='SELECT MAX(tid) FROM obj WHERE oid = ?',
    history='SELECT tid, LENGTH(data), data_tid FROM obj WHERE oid = ? AND tid <= ?'
            ' ORDER BY tid DESC LIMIT ?',
    tid_of='SELECT MAX(tid) FROM trans WHERE ttid = ?',
    last_tid='SELECT MAX(tid) FROM obj',
    last_metadata_tid='SELECT MAX(tid) FROM trans',
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
