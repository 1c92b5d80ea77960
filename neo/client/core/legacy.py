"""What a client takes over from one that it replaces, which may have been interrupted anywhere."""
from typing import NamedTuple


class Unsettled(NamedTuple):
    """A transaction for which *finish* has been, or may have been, sent."""
    ttid: int
    oids: tuple                     # written ones, ascending


class Legacy(NamedTuple):
    cluster_id: bytes
    history: bytes
    term: int
    last_tid: int                   # the highest one that ZODB has been told of
    unsettled: tuple                # of Unsettled, in the order of their *finish*
    settled: dict                   # ttid -> operation that was inherited, and has ended


def legacy_of(client, unsettled=True):
    """Only what is replaced as a whole is read, and nothing is derived from how parts of that
    client fit together: in the one that was interrupted, they may not.  Without `unsettled`, as in
    a child of its process, its own transactions are left to it."""
    finishing = list(client.outcomes.finishing.values()) if unsettled else ()
    inherited = dict(client.outcomes.inherited) if unsettled else {}
    return Legacy(
        client.cluster_id, client.history, client.term, client.last_tid,
        tuple(Unsettled(operation.ttid, operation.oids) for operation in finishing
              if not operation.done),
        {ttid: operation for ttid, operation in inherited.items() if operation.done})
