"""The checksum of a record: of the bytes as stored, from the client to the disk and back."""
from hashlib import blake2b

_of_nothing = blake2b(digest_size=16)       # a copy of it costs less than a new one


def checksum(data):
    """16 bytes; a deletion has that of no bytes."""
    sum = _of_nothing.copy()
    if data:
        sum.update(data)
    return sum.digest()


NO_DATA = checksum(None)
