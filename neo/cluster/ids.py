"""Transaction ids and node ids (docs/architecture.md, "Ids").

Below the ZODB face, oids and tids are integers below 2^63; `p64` and `u64` of ZODB.utils convert.
"""
from datetime import datetime, timezone

from ..protocol.limits import TTID_BITS
from ..protocol.types import MAX_TID, NodeKind

LETTERS = {NodeKind.MASTER: 'M', NodeKind.STORAGE: 'S', NodeKind.ADMIN: 'A', NodeKind.CLIENT: 'C'}

# Of a node: what may be claimed leaves room for those that are given after it.
MAX_NUMBER = 10 ** 9


def node_id(kind, number):
    return '%s%d' % (LETTERS[kind], number)


def number_of(id, kind):
    """The number of a node id of this kind; None: it is not one of this kind, or not as `node_id`
    writes it, or its number is beyond all reason."""
    number = int(id[1:])
    return number if 0 < number <= MAX_NUMBER and id == node_id(kind, number) else None


def node_order(id):
    """Sort key: S2 before S10."""
    return id[0], int(id[1:])


def tid_at(seconds):
    """The ZODB TimeStamp of a moment, in seconds since 1970, as an integer."""
    at = datetime.fromtimestamp(seconds, timezone.utc)
    minutes = ((((at.year - 1900) * 12 + at.month - 1) * 31 + at.day - 1) * 24
               + at.hour) * 60 + at.minute
    fraction = at.second + at.microsecond / 1e6
    return (minutes << 32) + int(fraction * (1 << 32) / 60)


def time_of(tid):
    """Seconds since 1970 of a tid, with the resolution of a microsecond."""
    minutes, fraction = divmod(tid, 1 << 32)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    months, day = divmod(days, 31)
    year, month = divmod(months, 12)
    # Made up tids may name the 31st of February: the days are added instead.
    first = datetime(year + 1900, month + 1, 1, tzinfo=timezone.utc).timestamp()
    return first + ((day * 24 + hour) * 60 + minute) * 60 + fraction * 60 / (1 << 32)


def moment(tid):
    """When a transaction was, in words; None if there was none."""
    if not tid:
        return None
    at = datetime.fromtimestamp(time_of(tid), timezone.utc)
    return at.strftime('%Y-%m-%d %H:%M:%S.%f UTC')


def utc(seconds):
    """A moment, in seconds since 1970, for people."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime('%Y-%m-%d %H:%M:%S UTC')


def tid_text(tid):
    """A tid, for people: with its time."""
    return '%#018x (%s)' % (tid, utc(time_of(tid))) if tid else 'no transaction'


def tid_after(last, seconds, like=0, modulo=1):
    """The first tid above `last` and not before `seconds`, congruent to `like` by `modulo`."""
    tid = max(last + 1, tid_at(seconds))
    tid += (like - tid) % modulo
    if tid > MAX_TID:
        raise OverflowError('no tids are left after %#x' % last)
    return tid


def first_ttid(term):
    """The first transaction of a primary: no other primary ever gives the same ones."""
    return term << TTID_BITS


def term_of(ttid):
    return ttid >> TTID_BITS
