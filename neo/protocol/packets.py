"""The whole protocol, as one table.

A frame is `[code, request id, field…]`.  A packet that expects no answer has request id 0.
On one connection, packets arrive in the order in which they were sent; several rules below
rest on that.
"""
from .declare import packet, request
from .limits import MAX_MASTERS, MAX_PARTITIONS
from .types import (Address, Ballot, Bool, CheckedRow, Checksum, ClusterStateType, CompressionType,
                    Copies, Count, Data, ErrorCodeType, Filling, Imported, Label, List, Machine,
                    Member, Metadata, Name, NodeId, NodeInfo, NodeKindType, ObjectSerial, Oid,
                    Optional, Record, RecordPosition, Revision, RowTid, Rows, Session, Span,
                    StoredMetadata, StoredRecord, Table, TableKey, Term, Text, Tid, Time, Ttid,
                    Unfinished, Uuid)


# -- any node -------------------------------------------------------------------------------
@packet(code=0, route='any -> any')
class Error:
    """The answer to a request that was refused; unasked (request id 0), why the connection is
    about to be closed."""
    error: ErrorCodeType
    message: Text


@request(code=1, route='any -> any')
class Identify:
    """The first packet of who connects.  It is answered when the receiver can serve the sender,
    which may be later."""
    kind: NodeKindType
    id: Optional(NodeId)            # what the primary has called the sender before
    identity: Uuid                  # of a storage: for life; of others: of this process
    cluster: Name
    cluster_id: Optional(Uuid)      # None: of no cluster yet
    history: Optional(Uuid)
    term: Term                      # the highest the sender has promised or heard of
    name: Label                     # what the operator calls the sender, may be empty
    address: Optional(Address)      # where the sender listens
    clock: Time                     # seconds since 1970, as the sender sees it
    topology: Machine                 # of a storage: the machine that it is lost with; else empty

    class Answer:
        id: NodeId                  # of the receiver
        your_id: NodeId
        cluster_id: Optional(Uuid)
        history: Optional(Uuid)
        term: Term
        session: Session            # a storage that joined gets it, and tells it to its clients:
                                    # it grows with each joining
        last_tid: Tid               # for clients: the last transaction they may hear of
        partitions: Count           # 0: the cluster has not been created


@request(code=2, route='any -> any')
class Ping:
    """Are you there?"""
    class Answer:
        pass


# -- the primary tells everybody ------------------------------------------------------------
@packet(code=3, route='master -> storage, master -> admin, master -> client')
class NodesChanged:
    """Nodes that are new or have changed; `removed` are gone for good.  A storage serves only
    the clients announced so, and frees all that belongs to one which is gone."""
    nodes: List(NodeInfo)
    removed: List(NodeId)


@packet(code=4, route='master -> admin, master -> client, master -> storage')
class TableChanged:
    """The partition table in force, whole."""
    table: Table


@packet(code=5,
        route='master -> storage, master -> master, master -> admin, master -> client')
class ClusterStateChanged:
    """`reason` says in words what a cluster that does not run is waiting for.  Clients are told
    while they wait to be accepted, and not any more then."""
    state: ClusterStateType
    reason: Text


@packet(code=6, route='storage -> master')
class ConditionChanged:
    """What is wrong with the sender, in words for the operator; empty: nothing is."""
    condition: Text


# -- election, recovery, verification (docs/architecture.md, "Who may serve") ------------------
@request(code=10, route='master -> storage, master -> master')
class RequestTerm:
    """Obey the sender, and nobody of a lower term, from now on; durable before the answer.  All
    that is neither voted nor locked is dropped, and clients are closed."""
    term: Term
    candidate: Uuid                 # identity of the master: a term is given to one only

    class Answer:
        granted: Bool
        promised: Term              # the highest term promised, to whomever
        table: Optional(Table)      # the newest the sender was sent
        in_force: Optional(Table)   # the newest it was told is in force
        members: List(Member)           # as written with the newest table
        # of a storage:
        last_tid: Tid               # the highest it has seen
        oid_mark: Oid               # no oid below may be given again, those of votes included
        unfinished: List(Unfinished)
        told: List(RowTid, MAX_PARTITIONS)      # of each row written by what it took part in
        clock: Time
        history: Optional(Uuid)     # None: of no cluster yet
        copies: Copies


@request(code=11, route='master -> storage, master -> master')
class WriteTable:
    """Keep this as the newest table; durable before the answer."""
    cluster_id: Uuid
    history: Uuid                   # before all cuts of the table
    partitions: Count
    table: Table
    members: List(Member)           # whose the ids in the table are

    class Answer:
        key: TableKey


@packet(code=12, route='master -> storage, master -> master')
class TableInForce:
    """The table written last with this key is in force.  Kept durably; nobody waits for it."""
    key: TableKey


@request(code=13, route='master -> storage')
class Settle:
    """End what a former primary left: lock those of these that are only voted here, drop all other
    voted and locked ones.  Durable before the answer.  They are unlocked with `Unlock` once
    everybody has answered: until then each storage must be able to tell their tids to another
    primary."""
    keep: List(Unfinished)

    class Answer:
        last_tid: Tid


@request(code=14, route='master -> storage')
class ReserveOids:
    """No oid below `mark` may be given again; durable before the answer."""
    mark: Oid

    class Answer:
        mark: Oid


@request(code=15, route='master -> storage')
class FindTransactions:
    """Which of these have written anything here, and are not locked any more?"""
    transactions: List(Span)

    class Answer:
        found: List(Ttid)


@request(code=16, route='master -> storage')
class Drain:
    """The cluster is about to stop: begin no transaction any more.  Answered when all that was
    voted here has been locked or forgotten."""
    class Answer:
        pass


@packet(code=17, route='master -> storage, master -> admin')
class Leave:
    """The operator wants the process of the receiver to end."""
    reason: Text


@packet(code=18, route='master -> storage')
class Fill:
    """Copy these out-of-date rows from who can read them, up to and including `upto`.  Whatever is
    committed later is written here as well.  Replaces former orders for these rows.  No oid below
    `oid_mark` may be given again."""
    key: TableKey                   # of the table in force
    rows: Rows
    upto: Tid
    oid_mark: Oid


@packet(code=19, route='storage -> master')
class Filled:
    """These rows are copied up to what `Fill` told with that `upto`, and nothing that was stored
    before can be missing in them any more."""
    rows: Rows
    upto: Tid


# -- transactions (docs/architecture.md, "Life of a transaction") ------------------------------
@request(code=20, route='client -> master')
class TakeTtids:
    """Ttids for transactions to come: `count` consecutive ones."""
    count: Count

    class Answer:
        first: Ttid
        count: Count


@request(code=21, route='client -> master')
class TakeOids:
    """Oids nobody else has or will have: `count` consecutive ones."""
    count: Count

    class Answer:
        first: Oid
        count: Count


@request(code=22, route='client -> storage')
class Store:
    """Records of a transaction, and serials to be checked.  Answered at once: the answer is
    for flow control.  What conflicts is told with `Conflict`; what meets a lock waits."""
    ttid: Ttid
    records: List(Record)
    checks: List(ObjectSerial)

    class Answer:
        ttid: Ttid


@request(code=23, route='client -> storage')
class Vote:
    """The last records, and the promise to be able to commit.  Answered when every record and
    check sent here has been granted; a conflict leaves it waiting for another `Store`.

    `oids` are all that this storage must hold of the transaction, checked ones not included; one
    that lacks any refuses.  Nothing is durable yet: *lock* makes it so.  `transactions` is the
    metadata if its row is here: one, or many for an import, each with its tid then."""
    ttid: Ttid
    records: List(Record)
    checks: List(ObjectSerial)
    oids: List(Oid)
    transactions: List(Metadata)

    class Answer:
        ttid: Ttid
        round: Count                # how often the sender has given way before


@packet(code=24, route='storage -> client')
class Conflict:
    """These were not made from the current revision.  `serial` is the current one.  Locks are kept,
    so that resolved data, stored again with that base, are granted."""
    ttid: Ttid
    round: Count
    conflicts: List(ObjectSerial)


@packet(code=25, route='storage -> client')
class GiveWay:
    """An older transaction waits for locks of this one."""
    ttid: Ttid


@packet(code=26, route='client -> storage')
class GaveWay:
    """All granted to this transaction here is to be granted anew, older ones first, and its
    vote undone.  The storage keeps the records, and answers again with the next round."""
    ttid: Ttid
    round: Count                    # of the answers that count from here: 1, then 2…


@packet(code=27, route='client -> storage')
class Abort:
    """Forget these transactions.  Not sent once *finish* has been."""
    ttids: List(Ttid)


@request(code=28, route='client -> master')
class Finish:
    """Commit.  `table` is the one that routed it, `voted` each storage that voted and the session
    of it in which it did.  For an import `imposed` gives the tids, increasing, and what each
    wrote."""
    ttid: Ttid
    table: TableKey
    oids: List(Oid)                 # written ones, without those of `imposed`
    checked: List(Oid)              # oids whose serial was checked
    voted: List(Ballot)
    imposed: List(Imported)

    class Answer:
        ttid: Ttid
        tid: Tid


@request(code=29, route='master -> storage')
class Lock:
    """Make a voted transaction durable, with its tid; reads above it wait until it is unlocked.
    For an import, `first` and `tid` are the first and the last one of those imposed, else the
    same.  `rows` are those of the partition table in which it writes, in any storage."""
    ttid: Ttid
    first: Tid
    tid: Tid
    rows: Rows

    class Answer:
        ttid: Ttid


@packet(code=30, route='master -> storage')
class Unlock:
    """Everybody involved has locked it, and it may have been told: let it be read.  Durable with
    whatever is committed next."""
    ttid: Ttid


@packet(code=31, route='master -> client')
class Invalidate:
    """A transaction of another client: in tid order, and in order with answers to *finish*."""
    tid: Tid
    oids: List(Oid)


@request(code=32, route='client -> master, master -> storage')
class WhatBecameOf:
    """The tid of a transaction if it was committed; None: it certainly was not, nor will be."""
    ttid: Ttid

    class Answer:
        ttid: Ttid
        tid: Optional(Tid)


@request(code=33, route='client -> master')
class Sync:
    """The last tid anybody has heard of.  What came before it has been sent before the answer."""
    class Answer:
        last_tid: Tid


@packet(code=34, route='storage -> master')
class ClientIsSilent:
    """This client holds locks that others wait for, and has said nothing for too long."""
    client: NodeId


@request(code=35, route='storage -> client')
class DoesWait:
    """This transaction has locks that others wait for, and nothing was said about it for a while.
    Does it wait for other nodes, or other transactions, and not for its application?"""
    ttid: Ttid

    class Answer:
        waits: Bool


@packet(code=37, route='client -> master')
class TableTaken:
    """No transaction of the sender is routed by a table older than this any more, those in *finish*
    included.  A client that joins begins with the one in force."""
    key: TableKey


# -- reads ----------------------------------------------------------------------------------
@request(code=40, route='client -> storage')
class Load:
    """The last revision below `before`.  Errors: NO_OBJECT, NO_REVISION, NOT_HERE, BROKEN_DATA.
    A deletion is NO_OBJECT, if no revision follows it, else NO_REVISION."""
    oid: Oid
    before: Tid

    class Answer:
        oid: Oid
        tid: Tid
        next_tid: Optional(Tid)     # of the following revision; None: this one is current
        compression: CompressionType
        checksum: Checksum
        data: Data
        data_tid: Optional(Tid)     # where the data come from, if not from `tid` itself


@request(code=41, route='client -> storage')
class ObjectHistory:
    """Revisions of an object below `before`, newest first, `limit` at most."""
    oid: Oid
    before: Tid
    limit: Count

    class Answer:
        oid: Oid
        revisions: List(Revision)


@request(code=42, route='client -> storage, storage -> storage')
class ListTransactions:
    """Metadata of transactions of these rows with start <= tid < stop, in tid order.  `next`
    is where to go on, or None at the end."""
    start: Tid
    stop: Tid
    rows: Rows

    class Answer:
        transactions: List(StoredMetadata)
        next: Optional(Tid)


@request(code=43, route='client -> storage, storage -> storage')
class ListRecords:
    """Revisions of objects of these rows with start <= tid < stop, by (tid, oid), from `after_oid`
    on within the first tid (None: from its first).  `next` says where to go on, or None."""
    start: Tid
    after_oid: Optional(Oid)
    stop: Tid
    rows: Rows

    class Answer:
        records: List(StoredRecord)
        next: Optional(RecordPosition)


@request(code=50, route='storage -> storage')
class RowsTold:
    """The highest tid that the receiver knows was told in each of these rows, which it can read,
    once nothing below `stop` is left of which it does not know that."""
    stop: Tid
    rows: Rows

    class Answer:
        told: List(RowTid, MAX_PARTITIONS)


@request(code=44, route='client -> storage')
class Measure:
    """How much this storage holds."""
    class Answer:
        objects: Count
        bytes: Count


@packet(code=45, route='client -> master')
class FoundBroken:
    """A storage has given a revision that does not match its checksum, or could not give it."""
    oid: Oid
    tid: Tid
    storage: NodeId


# -- the operator ---------------------------------------------------------------------------
@request(code=60, route='ctl -> admin')
class DescribeCluster:
    """All that neoctl prints."""
    class Answer:
        state: ClusterStateType
        reason: Text
        cluster: Name
        cluster_id: Optional(Uuid)
        primary: Optional(NodeId)
        nodes: List(NodeInfo)
        partitions: Count
        table: Optional(Table)
        last_tid: Tid
        last_oid: Oid
        filling: List(Filling)


@request(code=61, route='ctl -> admin, admin -> master')
class SetClusterState:
    """RUNNING: start.  STOPPING: end what is in progress, then all nodes leave."""
    state: ClusterStateType

    class Answer:
        message: Text


@request(code=69, route='ctl -> admin, admin -> master')
class ForceStart:
    """Start the cluster with the nodes that are there, in a history of its own."""

    class Answer:
        message: Text


@request(code=62, route='admin -> master')
class DescribeIds:
    """How far ids have got, which cluster they are of, and how long rows are still being filled."""
    class Answer:
        cluster_id: Optional(Uuid)
        last_tid: Tid
        last_oid: Oid
        filling: List(Filling)


@request(code=63, route='ctl -> admin, admin -> master')
class AddStorages:
    """These storages, which wait, belong to the cluster; without any, all that wait do."""
    nodes: List(NodeId)

    class Answer:
        message: Text


@request(code=64, route='ctl -> admin, admin -> master')
class Tweak:
    """Spread the rows evenly over the storages that run, but for those that are `leaving`.  With
    `dry_run` nothing is changed."""
    leaving: List(NodeId)
    dry_run: Bool

    class Answer:
        message: Text
        table: Table                # as it is or would be from now on


@request(code=65, route='ctl -> admin, admin -> master')
class DropStorage:
    """This storage does not belong to the cluster any more."""
    node: NodeId

    class Answer:
        message: Text


@request(code=66, route='ctl -> admin, admin -> master')
class SetReplicas:
    """So many copies of each row are wanted, beside the first one."""
    replicas: Count

    class Answer:
        message: Text


@request(code=67, route='ctl -> admin, admin -> master')
class KillNode:
    """End the process of a storage, or of another admin."""
    node: NodeId

    class Answer:
        message: Text


@request(code=68, route='ctl -> admin, admin -> master')
class Truncate:
    """Bring the whole cluster back to this tid: what is above is removed."""
    tid: Tid

    class Answer:
        message: Text


# -- several masters (docs/decisions/masters.md) ------------------------------------------------
@request(code=70, route='master -> storage, master -> master')
class Canvass:
    """Could the sender become primary?  Nothing changes by this question."""
    class Answer:
        promised: Term              # the highest term promised, to whomever
        led: Bool                   # by a primary, or a candidate, that the sender hears
        cluster_id: Optional(Uuid)  # of the cluster that the sender knows
        table: Optional(Table)      # these three as in `RequestTerm`
        in_force: Optional(Table)
        members: List(Member)


@request(code=71, route='master -> master')
class CompareMasters:
    """The masters that the sender was told of; who was told of others refuses."""
    masters: List(Address, MAX_MASTERS)
    durable: Bool                   # has it a state file?

    class Answer:
        identity: Uuid              # of the receiver, and the rest likewise
        durable: Bool
        name: Label


@request(code=72, route='master -> storage, master -> master')
class ConfirmTerm:
    """Is this the highest term that the receiver has promised?"""
    term: Term

    class Answer:
        confirmed: Bool


# -- copies of rows ---------------------------------------------------------------------------
@request(code=80, route='master -> storage')
class Digest:
    """What the receiver has in this row after `start` and up to `stop`, records or `metadata`, so
    that it can be compared with what others have.  It says how far that goes: a bounded part."""
    row: Count
    metadata: Bool
    start: RecordPosition
    stop: RecordPosition

    class Answer:
        digest: Checksum            # of all that is there, data included
        count: Count
        broken: Bool                # it is one that can't be read; with `count` 0, all that follows
        next: RecordPosition


@request(code=81, route='ctl -> admin, admin -> master')
class Check:
    """Compare the copies of these rows, with min_tid <= tid <= max_tid, and repair what is wrong.
    What comes of it is told by conditions and in the log."""
    rows: List(CheckedRow)
    min_tid: Tid
    max_tid: Tid

    class Answer:
        message: Text


@packet(code=82, route='storage -> master')
class FillProgress:
    """How far the sender has come with what `Fill` told, from time to time."""
    rows: Count                     # that are not copied yet
    bytes: Count                    # copied since that began
    done: Count                     # thousandths of all, as far as it can tell


@request(code=84, route='master -> storage')
class RemoveAbove:
    """What was committed above `tid` up to `last`, if that is higher, is not in the history any
    more: the receiver is of this one now.  Durable before the answer."""
    history: Uuid
    tid: Tid
    last: Tid

    class Answer:
        last_tid: Tid               # the highest there is now
