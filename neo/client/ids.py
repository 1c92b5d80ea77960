"""Ids as ZODB has them, 8 bytes, to ids as NEO has them, integers below a limit.

Who reads what can't be there is told that it is not there; who writes it, that it can't be.
"""
from ZODB.POSException import POSKeyError

from ..protocol.types import MAX_ID, MAX_OID, MAX_TID
from .exception import IdRefused, TidRefused

SIZE = 8


def oid_to_read(oid):
    """POSKeyError if there is no such oid."""
    number = int.from_bytes(oid, 'big')
    if number > MAX_OID or len(oid) != SIZE:
        raise POSKeyError(oid)
    return number


def serial_to_read(oid, serial):
    """A tid of that object; POSKeyError if there is no such tid."""
    number = int.from_bytes(serial, 'big')
    if number > MAX_TID or len(serial) != SIZE:
        raise POSKeyError(oid)
    return number


def bound(tid):
    """A tid as the end of a range: of what is above all tids it is the highest one."""
    if len(tid) != SIZE:
        raise ValueError('a tid has %d bytes: %r' % (SIZE, tid))
    return min(int.from_bytes(tid, 'big'), MAX_ID)


def oid_to_write(oid):
    """IdRefused if there can be no such oid."""
    number = int.from_bytes(oid, 'big')
    if number > MAX_OID or len(oid) != SIZE:
        raise IdRefused('%r is no oid: it has 8 bytes and is not above %#x' % (oid, MAX_OID))
    return number


def serial_to_write(serial):
    """The tid of a revision that something is based on."""
    number = int.from_bytes(serial, 'big')
    if number > MAX_TID or len(serial) != SIZE:
        raise IdRefused('%r is no tid: it has 8 bytes and is not above %#x' % (serial, MAX_TID))
    return number


def tid_to_impose(tid):
    """TidRefused if no transaction can have this tid."""
    number = int.from_bytes(tid, 'big')
    if not 0 < number <= MAX_TID or len(tid) != SIZE:
        raise TidRefused('no transaction can have the tid %r: it has 8 bytes and is not above %#x'
                         % (tid, MAX_TID))
    return number
