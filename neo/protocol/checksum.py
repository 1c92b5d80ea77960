"""The checksum of a record: of the bytes as stored, from the client to the disk and back."""
from hashlib import blake2b


def checksum(data):
    """16 bytes; a deletion has that of no bytes."""
    return blake2b(data or b'', digest_size=16).digest()
