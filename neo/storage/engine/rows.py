"""How rows are packed, and their checksums."""
from struct import error, pack, unpack

import msgpack

from ...protocol.checksum import checksum


def pack_oids(oids):
    return pack('>%dQ' % len(oids), *oids)


def unpack_oids(packed):
    return unpack('>%dQ' % (len(packed) // 8), packed)


def metadata_row(tid, ttid, metadata):
    """The row of a `Metadata`."""
    row = (tid, ttid, metadata.status, metadata.user, metadata.description, metadata.extension,
           pack_oids(metadata.oids))
    return *row, checksum(msgpack.packb(row))


def metadata_sum(tid, ttid, status, *others):
    """The checksum of a row as it was read, with its texts as bytes."""
    return checksum(msgpack.packb((tid, ttid, status.decode(), *others)))


def value_sum(name, value):
    return checksum(name + value)


def journal_sum(number, changes):
    return checksum(pack('>Q', number) + changes)


def range_sum(first, last):
    return checksum(pack('>QQ', first, last))


def is_whole(sum_of, fields, sum):
    """Is this the checksum of these columns, whatever they have become?"""
    try:
        return sum_of(*fields) == sum
    except (AttributeError, TypeError, ValueError, error):      # of another type, or no text
        return False
