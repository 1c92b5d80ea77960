"""Checksums of transactions, to compare what was read at two places without keeping it."""
import struct
from hashlib import blake2b
from operator import itemgetter

_REVISION = struct.Struct('>QqQ')
NO_DATA, NO_TID = -1, (1 << 64) - 1     # no length, and no tid


def digest(transactions):
    """16 bytes, of several `Past`, of their number and order, and of all that is in them."""
    whole = blake2b(digest_size=16)
    for past in transactions:
        whole.update(repr(past[:-1] + (len(past.revisions),)).encode())
        # Of a large transaction, a cluster gives the records by oid, not as they were stored.
        for oid, data, data_tid in sorted(past.revisions, key=itemgetter(0)):
            whole.update(_REVISION.pack(oid, NO_DATA if data is None else len(data),
                                        NO_TID if data_tid is None else data_tid))
            whole.update(data or b'')
    return whole.digest()
