"""FileStorages as sides of a migration."""
import os
import struct

from ZODB.FileStorage import FileIterator, FileStorage, packed_version
from ZODB.FileStorage.format import DATA_HDR_LEN, CorruptedError
from ZODB.utils import u64

from .sides import Highest, MigrationError, Side, StorageSide

_OID = struct.Struct('>Q26xQ')          # of the header of a record: its oid, the length of its data
_POINTER = 8                            # what stands there if it has no data
_PLACES = 10_000                        # transactions whose places are remembered


class FileSide(Side):
    """The file of a FileStorage, read without index and lock: it may be in use.  What was committed
    when reading started is there."""

    in_bytes = True

    def __init__(self, path):
        super().__init__(path)
        with open(path, 'rb') as file:
            if file.read(4) != packed_version:
                raise MigrationError('%s is not the file of a FileStorage' % path)
            self.size = os.fstat(file.fileno()).st_size
        self._places = {}       # tid: where it starts, for those that `tids` gave last

    def survey(self, update):
        """Refuse what can't be copied, and give the highest ids: before anything is changed.  Only
        headers of records are read, unless it may have blobs."""
        highest, count = Highest(), 0
        with open(self.name, 'rb') as file:
            for _, transaction in self._read(4):
                highest.see(u64(transaction.tid), self._highest_oid(file, transaction))
                count += 1
                update(self.position, count)
        if self._mentions(b'ZODB.blob'):
            for _ in self.transactions():
                pass
        return highest

    def _highest_oid(self, file, transaction):
        place, end, highest = transaction._pos, transaction._tend, 0
        seek, read, unpack = file.seek, file.read, _OID.unpack
        while place < end:
            seek(place)
            header = read(DATA_HDR_LEN)
            if len(header) < DATA_HDR_LEN:
                raise self._damaged(place)
            oid, length = unpack(header)
            place += DATA_HDR_LEN + (length or _POINTER)
            if oid > highest:
                highest = oid
        if place != end:
            raise self._damaged(place)
        return highest

    def _mentions(self, text):
        """Much faster than reading the transactions."""
        with open(self.name, 'rb') as file:
            end = b''
            while chunk := file.read(1 << 20):
                if text in end + chunk:
                    return True
                end = chunk[-len(text):]
        return False

    def tids(self):
        self._places.clear()
        for place, transaction in self._read(4):
            tid = u64(transaction.tid)
            self._places[tid] = place
            if len(self._places) > _PLACES:
                del self._places[next(iter(self._places))]
            yield tid

    def transactions(self, start=0):
        """All from this tid on, which must be one of the last that `tids` gave, or 0."""
        last = 0
        for place, transaction in self._read(self._places[start] if start else 4):
            if u64(transaction.tid) <= last:
                raise MigrationError('%s is damaged: transaction %#018x comes after %#x' % (
                    self.name, u64(transaction.tid), last))
            records = iter(transaction)
            try:
                past = self.read(transaction, records)
            except CorruptedError:
                raise self._damaged(records._pos)
            if records._pos != records._tend:       # it only logs that, and ends
                raise self._damaged(records._pos)
            last = past.tid
            if self.superseded:
                past = past._replace(revisions=[self._kept(*r) for r in past.revisions])
            yield past

    def _kept(self, oid, data, data_tid):
        """The data that an undo goes back to may be those that only the file has."""
        return oid, data, None if (data_tid, oid) in self.superseded else data_tid

    def _read(self, place):
        """`(where it starts, transaction)`; `position` is where it ends."""
        transactions = FileIterator(self.name, pos=place)
        self.size = transactions._file_size
        try:
            for transaction in transactions:
                self.position = transactions._pos
                yield place, transaction
                place = self.position
        except CorruptedError:
            pass                # a header that is not whole: maybe one on its way
        finally:
            transactions.close()
        if place < self.size and not self._unfinished(place):
            raise self._damaged(place)
        self.position = self.size

    def _unfinished(self, place):
        """Is there only a transaction that was on its way when the file was opened?"""
        with open(self.name, 'rb') as file:
            file.seek(place + 16)
            # A header that is not whole, or one with the mark of a transaction before its end.
            return file.read(1) in (b'', b'c')

    def _damaged(self, place):
        return MigrationError('%s is damaged at byte %d' % (self.name, place))


class NewFileSide(StorageSide):
    """A FileStorage that is written."""

    def __init__(self, path):
        super().__init__(path, FileStorage(path))
