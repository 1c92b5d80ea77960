"""Data as the application knows them, and as they are stored: compressed, with a checksum."""
from ..protocol import limits
from ..protocol.checksum import NO_DATA, checksum
from ..protocol.types import Compression, Record
from .compression import decompress
from .exception import BrokenData, NEOStorageError

NONE = Compression.NONE
_new = tuple.__new__        # of a named tuple, in half of the time


def pack(compress, oid, base, tid, data, data_tid=None):
    """The Record of a revision; `compress(data)` gives `(Compression, data)`."""
    if data is None or data_tid is not None:
        return Record(oid, base, tid, NONE, NO_DATA, None, data_tid)
    if type(data) is not bytes:
        data = bytes(memoryview(data))          # its owner may change it later
    if len(data) > limits.MAX_OBJECT:
        raise NEOStorageError('object %#x has %d bytes: above the limit of %d'
                              % (oid, len(data), limits.MAX_OBJECT))
    kind, data = compress(data)
    return _new(Record, (oid, base, tid, kind, checksum(data), data, None))


def verify(oid, tid, expected, data):
    """BrokenData if the stored bytes are not those that were sent to be stored."""
    if checksum(data) != expected:
        raise BrokenData('the data of object %#x at %#x do not match their checksum' % (oid, tid))


def unpack(kind, expected, data, oid, tid):
    """The data of a stored revision; BrokenData."""
    verify(oid, tid, expected, data)
    return data if kind == NONE else decompress(kind, data)
