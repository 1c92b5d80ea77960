"""Loading revisions of objects, as ZODB asks for them."""
from ZODB.POSException import POSKeyError
from ZODB.utils import maxtid, p64

from ..protocol.checksum import checksum
from .compression import decompress
from .core.client import Client
from .core.loads import LoadObject
from .exception import NoObject, NoRevision
from .ids import bound, oid_to_read, serial_to_read


class Reads:

    def __init__(self, access):
        self._access = access

    def load(self, oid):
        found = self.load_before(oid, maxtid)
        if found is None:
            raise POSKeyError(oid)
        return found[:2]

    def load_before(self, oid, tid):
        try:
            data, found, next_tid = self._access.repeat(self._load, oid_to_read(oid), bound(tid))
        except NoRevision:
            return None
        except NoObject:
            raise POSKeyError(oid)
        if found > self._access.core.last_tid:
            self._hear_of(found)
        return data, p64(found), None if next_tid is None else p64(next_tid)

    def load_serial(self, oid, serial):
        expected = serial_to_read(oid, serial)
        try:
            data, tid, _ = self._access.repeat(self._load, oid_to_read(oid), expected + 1)
        except (NoObject, NoRevision):
            raise POSKeyError(oid)
        if tid != expected:
            raise POSKeyError(oid)
        return data

    def revision(self, oid, tid):
        """The data of this revision, of which one storage has given broken ones; BrokenData."""
        return self._access.repeat(self._load, oid, tid + 1)[0]

    def prefetch(self, oids, tid):
        numbers = [int.from_bytes(oid, 'big') for oid in oids]
        self._access.call(Client.prefetch, numbers, bound(tid))

    def _load(self, session, oid, before):
        """`(data, tid, next tid or None)`."""
        load = session.threads.run(Client.load_before, session.core, oid, before)
        tid, next_tid, kind, expected, data, _ = load.result
        if expected is not None:
            while checksum(data) != expected:
                load = session.threads.run(Client.load_elsewhere, session.core, load, oid, before)
                tid, next_tid, kind, expected, data, _ = load.result
            if type(load) is LoadObject and load.entry is not None and load.entry.data is data:
                load.entry.checksum = None      # else that one has come with another answer
        return data if kind == 0 else decompress(kind, data), tid, next_tid

    def _hear_of(self, tid):
        """Nobody sees a transaction that lastTransaction does not know yet."""
        if tid > self._access.core.heard:
            self._access.run(Client.sync)
        self._access.delivery.deliver_until(tid)
