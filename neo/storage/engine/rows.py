"""How rows are packed, and their checksums."""
from struct import error, pack, unpack

import msgpack

from ...protocol.checksum import checksum


def pack_oids(oids):
    return pack('>%dQ' % len(oids), *oids)


def unpack_oids(packed):
    return unpack('>%dQ' % (len(packed) // 8), packed)


def pack_rows(rows):
    return pack('>%dH' % len(rows), *rows)


def unpack_rows(packed):
    return unpack('>%dH' % (len(packed) // 2), packed)


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


def locked_sum(told, ttid, first, tid, packed):
    # Without `told`: it changes alone.
    return checksum(pack('>QQQ', ttid, first, tid) + packed)


def range_sum(first, last):
    return checksum(pack('>QQ', first, last))


def is_whole(sum_of, fields, sum):
    """Is this the checksum of these columns, whatever they have become?"""
    try:
        return sum_of(*fields) == sum
    except (AttributeError, TypeError, ValueError, error):      # of another type, or no text
        return False
