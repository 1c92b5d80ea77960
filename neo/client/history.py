"""The past, as ZODB asks for it: of one object, and of all."""
from operator import index

from persistent.TimeStamp import TimeStamp
from ZODB._compat import loads
from ZODB.POSException import POSKeyError
from ZODB.utils import p64

from ..protocol import limits
from .core.client import Client
from .exception import BrokenData, NoObject
from .ids import bound, oid_to_read
from .iteration import Iterator
from .records import unpack


class History:

    def __init__(self, access, reads):
        self._access = access
        self._reads = reads

    def of_object(self, oid, size):
        number, size, before = oid_to_read(oid), index(size), self._last_tid() + 1
        found = []
        while True:
            # That there is such an object is looked up even if nothing of it is wanted.
            limit = max(1, min(size - len(found), limits.LOAD_WINDOW))
            try:
                page = self._access.repeat(_page, number, before, limit)
            except NoObject:
                if found:
                    return found
                raise POSKeyError(oid)
            found += [_described(*revision) for revision in page][:max(size, 0)]
            if len(found) >= size or len(page) < limit:
                return found
            before = page[-1][0]

    def _last_tid(self):
        self._access.ready()
        self._access.delivery.settled()
        return self._access.core.last_tid

    def iterator(self, start=None, stop=None):
        end = self._last_tid() if stop is None else min(self._last_tid(), bound(stop))
        return Iterator(self._access.run, self._groups, self._unpack,
                        bound(start) if start else 0, end + 1)

    def _unpack(self, kind, expected, data, oid, tid):
        try:
            return unpack(kind, expected, data, oid, tid)
        except BrokenData:
            return self._reads.revision(oid, tid)

    def _groups(self):
        return self._access.repeat(lambda _session: self._access.ready().call(Client.groups))


def _page(session, oid, before, limit):
    """`[(tid, size, metadata)]`; that of all transactions is asked for at once."""
    revisions = session.run(Client.object_history, oid, before, limit)
    asked = session.call(Client.transactions_info, [tid for tid, _ in revisions])
    return [(tid, size, session.run(_wait_for, info))
            for (tid, size), info in zip(revisions, asked)]


def _wait_for(core, operation):
    return operation


def _described(tid, size, info):
    found = {} if info is None else _extension(info.extension)
    found.update(time=TimeStamp(p64(tid)).timeTime(), tid=p64(tid), size=size,
                 user_name=b'' if info is None else info.user,
                 description=b'' if info is None else info.description)
    return found


def _extension(data):
    if data:
        try:
            found = loads(data)
            if isinstance(found, dict):
                return found
        except Exception:
            pass                        # it means nothing here
    return {}
