"""How an engine on an SQL database makes a part of the history what it is elsewhere, and removes
rows that are not needed here any more."""
from ...protocol.checksum import NO_DATA
from ...protocol.limits import KiB
from ...protocol.types import MAX_ID
from . import rows as packing
from .interface import COPIED, BrokenData, Engine
from .schema import INLINE
from .sql_reads import map_of
from .sql_writes import EVERYTHING


class SqlCopies(Engine):

    def replace_records(self, *args):
        self._carefully(self._replace_records, *args)

    def _replace_records(self, after, last, partitions, rows, records):
        self._space.locked(COPIED)
        self._make_room(after[0], last[0])
        wanted = {(record.oid, record.tid): record for record in records}
        span = *after, *last, map_of(partitions, rows)[0], partitions
        for key in self._execute(self._sql.keys, span).fetchall():
            if key in wanted and self._is(wanted[key]):
                del wanted[key]
            else:
                self._drop_record(*key)
        self._count({oid for oid, tid in wanted})
        self._write_many(self._sql.add_record, [
            self._row(it) for it in wanted.values() if it.data_tid is None])
        for record in wanted.values():
            if record.data_tid is not None:
                self._write(self._sql.add_record, self._row(self._pointer(record)))

    def _is(self, record):
        """Is this in the history, and whole?"""
        oid, tid, *wanted = record
        revision = self._execute(self._sql.revision, (oid, tid)).fetchone()
        try:
            return self._whole(oid, tid, *revision) == tuple(wanted)
        except BrokenData:
            return False

    def _pointer(self, record):
        """Without its data, if they are there where it points to."""
        oid, tid, *wanted = record
        pointer = record._replace(compression=0, checksum=NO_DATA, data=None)
        try:
            same = self._whole(*pointer, None) == tuple(wanted)
        except BrokenData:
            same = False
        return pointer if same else record

    def _row(self, record):
        oid, tid, compression, sum, data, data_tid = record
        large = None
        if data is not None and len(data) > INLINE:
            self._last_large = large = self._last_large + 1
            self._write(self._sql.add_large, (large, data))
            data = None
        return oid, tid, compression, sum, data, data_tid, large

    def replace_transactions(self, *args):
        self._carefully(self._replace_transactions, *args)

    def _replace_transactions(self, start, stop, partitions, rows, transactions):
        self._space.locked(COPIED)
        self._make_room(start, stop - 1)
        wanted = {it.tid: packing.metadata_row(it.tid, it.ttid, it) for it in transactions}
        span = start, stop, map_of(partitions, rows)[0], partitions
        for tid, sum in self._execute(self._sql.transaction_sums, span).fetchall():
            if tid in wanted and sum == wanted[tid][-1] and self._is_whole(tid):
                del wanted[tid]
            else:
                self._write(self._sql.drop_metadata, (tid,))
        self._write_many(self._sql.add_metadata, list(wanted.values()))

    def _is_whole(self, tid):
        *fields, sum = self._execute(self._sql.transaction, (tid,)).fetchone()
        return packing.is_whole(packing.metadata_sum, fields, sum)

    # -- removing -------------------------------------------------------------------------
    def remove_records(self, after, partitions, rows, amount):
        return self._carefully(self._remove_records, after, partitions, rows, amount)

    def _remove_records(self, after, partitions, rows, amount):
        sql = self._sql
        end = self._execute(sql.records_end, (*after, *EVERYTHING, amount)).fetchone()
        keys = self._some(sql.some_keys, (
            *after, *(end or EVERYTHING), map_of(partitions, rows)[0], partitions), amount)
        if not keys:
            return end and tuple(end)
        self._write_many(sql.drop_record, keys)
        self._uncount({oid for oid, tid in keys})
        oid, tid = keys[-1]
        return tid, oid

    def remove_transactions(self, start, partitions, rows, amount):
        return self._carefully(self._remove_transactions, start, partitions, rows, amount)

    def _remove_transactions(self, start, partitions, rows, amount):
        sql = self._sql
        end, = self._execute(sql.transactions_end, (start, MAX_ID, amount)).fetchone() or (None,)
        tids = self._execute(sql.some_tids, (
            start, MAX_ID if end is None else end, map_of(partitions, rows)[0], partitions,
            amount)).fetchall()
        self._write_many(sql.drop_metadata, tids)
        self._space.wrote(len(tids) * KiB)
        return end
