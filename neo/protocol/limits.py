"""Every limit of the project, with its reason beside it.

Sizes are bytes and times are seconds, unless the name says otherwise.
"""
from typing import NamedTuple

KiB = 1 << 10
MiB = 1 << 20

# -- frames ---------------------------------------------------------------------------------
# A frame holds at most one object beside small fields.  It is above the largest pickle that
# people store in practice, and below what would make a node swap.
MAX_FRAME = 256 * MiB
# What somebody who has not yet said who it is may send: the largest Identify is below it.
MAX_FRAME_UNIDENTIFIED = 4 * KiB
# What arrays that a frame only announces may take before it is seen that they are not there: 8
# bytes per item, once for each level.  It is looked at before where it could be more.
UNPACK_SPARE_UNIDENTIFIED = 256 * KiB
UNPACK_SPARE = 16 * MiB
# One object, with room for the rest of its frame.
MAX_OBJECT = MAX_FRAME - MiB
# Texts that people write: cluster and node names, addresses, messages of errors.
MAX_TEXT = 4 * KiB
# Bytes of a reason that is told to everybody, those among them who take frames of
# MAX_FRAME_UNIDENTIFIED: it may name each node of a large cluster.
MAX_REASON = 3 * KiB
# Names of clusters, nodes and hosts.
MAX_NAME = 255
# What an operator calls a machine; it is told in the first packet.
MAX_MACHINE = 128
# User, description and extension of one transaction.
MAX_METADATA = 16 * MiB
MAX_PARTITIONS = 10_000
MAX_REPLICAS = 15
# Cells of one row of the table: copies, and those that are being filled or left, meanwhile.
MAX_CELLS = 256
# Those of a cluster, and those that have a vote: all of them talk with each other.
MAX_MASTERS = 15
# Nodes with which a start is forced.
MAX_NODES = 1000
# Truncations and forced starts that are remembered: a storage that was away for more of them has to
# be filled anew.
MAX_CUTS = 64

# -- sockets --------------------------------------------------------------------------------
READ_SIZE = 256 * KiB           # taken from one connection before the next one has its turn
PACKETS_PER_TURN = 64           # handled for one connection before the next one has its turn
EVENTS_PER_TURN = 256           # connections that are looked at before answers are sent
# Somebody who does not read answers is not asked for more above this many bytes, and is closed
# above that: one turn of its requests fits between, and a few of them don't make a node swap.
OUTPUT_PAUSE = 16 * MiB
OUTPUT_PAUSE_UNIDENTIFIED = 64 * KiB
OUTPUT_LIMIT = 2 * MAX_FRAME
# Background work has its turn in slices of about so many seconds: who comes meanwhile waits for the
# rest of one.  They are given when nothing has come for SLICE_QUIET, so that a client who asks one
# thing after the other does not meet one each time, and else get this share of the time.
SLICE_TIME = 0.010
SLICE_QUIET = 0.010
SLICE_SHARE = 0.2
# Units of work, of which a row is the usual one: in the first slice, and never more than that.
SLICE_FIRST = 50
SLICE_MOST = 1_000_000
CLOSE_GRACE = 2.0               # a connection that is being closed has this time to read the rest
BACKLOG = 1024                  # connections that wait to be accepted
ACCEPTS_PER_TURN = 64
ACCEPT_PAUSE = 0.5              # when there are no file descriptors left

# -- client to storage ----------------------------------------------------------------------
# Records of a transaction are sent in batches: large enough that the cost of a message does
# not show, small enough that a storage does not hold its loop for one.
STORE_BATCH = 256 * KiB
STORE_BATCH_RECORDS = 1000
# Bytes sent to one storage and not acknowledged yet, before the sender waits.
STORE_WINDOW = 8 * MiB
# Bytes of one transaction that a storage keeps in memory before they go to its database.
PENDING_IN_MEMORY = 4 * MiB
# An answer to an iteration or to a bulk load holds about so much, or so many rows.
CHUNK = 256 * KiB
CHUNK_ROWS = 2000
# The same for a storage that copies rows from another one.
FILL_CHUNK = MiB
FILL_ROWS = 4000
# A storage that copies says how far it has come so often.
PROGRESS_INTERVAL = 5.0
# While clients are active, a storage copies for so much of the time.
FILL_SHARE = 0.5
# Records of one transaction that an iterator puts in the order in which they were stored; those of
# a larger one come by oid, as storages have them.
ITERATION_MEMORY = 32 * MiB
# Rows are compared for so much of the time.
CHECK_SHARE = 0.3
# Loads in flight from one client to one storage.
LOAD_WINDOW = 256
# Requests of one peer that are parked, before that peer is no longer read.
MAX_PARKED = 10_000

# -- ids ------------------------------------------------------------------------------------
# A ttid is a term and a number within it: 2^20 elections, 2^43 transactions in each.
TTID_BITS = 43
# What a client takes ahead, so that begin and new_oid need no round trip.
TTIDS_AHEAD = 64
OIDS_AHEAD = 256
MAX_OIDS_AHEAD = 100_000
# Ttids of one client that the primary remembers, at about 100 bytes each: all those it was given
# and has not finished.  So many others it has to abort during a transaction for that to fail.
MAX_TTIDS_OPEN = MAX_OIDS_AHEAD
# Oids made unusable, at worst, by a crash of the primary; one durable write for so many.
OIDS_RESERVED = 20_000
# A clock that differs by more than this from those of the storages is reported, and where it
# is ahead it is not used for tids.
CLOCK_TOLERANCE = 300.0

# -- times ----------------------------------------------------------------------------------
CONNECT_TIMEOUT = 5.0
IDENTIFY_TIMEOUT = 10.0         # between a connection and the first accepted packet
# Connections of who has not been accepted yet: room for the clients that wait for a large cluster
# to start, while somebody who only connects does not use up file descriptors and memory.
MAX_UNIDENTIFIED = 1000
RECONNECT_DELAY = 0.1           # first pause before a lost peer is tried again …
RECONNECT_DELAY_MAX = 2.0       # … doubled up to this
# A peer that said nothing for PING_INTERVAL is asked for a sign of life, which is looked at every
# WATCH_INTERVAL: one small message each way per connection and interval, when nothing else is
# said.  After SILENCE_TOLD it is named, in the log and to who asks; nothing is done about it yet,
# since an fsync may take that long on a disk in trouble, and so may a machine that swaps.  After
# PEER_TIMEOUT its connection is closed.
WATCH_INTERVAL = 1.0
PING_INTERVAL = 2.0
SILENCE_TOLD = 5.0
PEER_TIMEOUT = 20.0
# Where there are several masters: one that says nothing for so long is left for another one, and a
# storage may obey another one by then.
MASTER_TIMEOUT = 5.0
STORAGE_TIMEOUT = 8.0
# A master that was only connected to, and does not say who it is: another one is asked.
MUTE_TIMEOUT = 2.0
# Of several, one that keeps a client waiting for a primary may be cut off from all others: another
# one is asked after so long.
KEPT_WAITING = 5.0
# A master that has to recover again asks for another term after so long, doubled each time, until
# the cluster has run for the longest pause: there are 2^20 terms.
STAND_DELAY = 0.1
STAND_DELAY_MAX = 5.0
# One of several masters looks for a primary after this time, at random between half of it and all
# of it, doubled up to the longest, as long as there is none: so they seldom stand at once.
CANVASS_DELAY = 0.2
CANVASS_DELAY_MAX = 1.0
CANDIDATE_TIME = 5.0            # a candidate that is not elected after so long lets others stand
PENDING_TIME = 5.0              # a table is not in force: of several masters, the primary recovers
ABSENT_GRACE = 3.0              # a cluster that could start waits so long for who is away
REMIND_INTERVAL = 10.0          # who waits says so again after so long
LAZY_COMMIT = 1.0               # changes that nobody waits for reach the disk within this
CLIENT_PATIENCE = 8.0           # a client that blocks others and gives no sign of life may be busy
LOCK_PATIENCE = 30.0            # a client that blocks others and stays silent is dropped
REMIND = 5.0                    # a daemon says again what it waits for after so long …
REMIND_MAX = 60.0               # … twice as long each time, up to this
WAIT_TIMEOUT = 30.0             # how long a client waits for a cluster, unless told otherwise
WAITING_SAID = 5.0              # it says for what it waits, this often
OUTCOME_TIMEOUT = 600.0         # how long tpc_finish waits to learn what became of it
# Rows that are taken away from a storage are taken from clients who have not heard of it yet.
RETIREMENT = 5.0
# A transaction that has written to a storage which is lost waits so long to hear that the cluster
# has left it behind, which takes milliseconds; else it fails, and may be tried again.
SUSPENSION = 2.0
# It waits so long for a storage that is only being filled, once all others have voted.
BLIND_GRACE = 0.3
# A read that has waited so long is sent to another storage, if there is one; then twice as long.
READ_PATIENCE = 2.0
# A client that has lost its primary learns what has changed meanwhile, if that is not more than
# it could have cached, nor takes longer than to load a few objects again.
CATCH_UP_OIDS = 100_000
CATCH_UP_TIME = 20.0
STOP_GRACE = 5.0                # how long a stopping cluster lets commits in progress end
SHUTDOWN_GRACE = 5.0            # and its nodes to leave

# -- client ---------------------------------------------------------------------------------
CACHE_SIZE = 20 * MiB
COMPRESS_ABOVE = 512            # below, compression costs more time than it saves bytes

# -- storage --------------------------------------------------------------------------------
# Stores are refused below this, so that locks don't meet a full disk.
FREE_SPACE_RESERVE = 64 * MiB
# The operator is told when less than this is left, looked at this often.
SPACE_LOW = 256 * MiB
SPACE_INTERVAL = 5.0
# Current tids kept in memory, at about 200 bytes each: a store of one of them reads nothing.
CURRENT_TIDS = 100_000
# Rows of other partitions that one call of the engine steps over, at most (about 6 ms).
SCAN_ROWS = 10_000


class Amounts(NamedTuple):
    """How much is done, kept or taken at once, of what is above.  A node is given its own: where
    they are tiny, little work shows what else only much work would."""
    store_batch: int = STORE_BATCH
    store_batch_records: int = STORE_BATCH_RECORDS
    store_window: int = STORE_WINDOW
    pending_in_memory: int = PENDING_IN_MEMORY
    current_tids: int = CURRENT_TIDS
    chunk: int = CHUNK
    chunk_rows: int = CHUNK_ROWS
    fill_chunk: int = FILL_CHUNK
    fill_rows: int = FILL_ROWS
    ttids_ahead: int = TTIDS_AHEAD
    oids_ahead: int = OIDS_AHEAD
    oids_reserved: int = OIDS_RESERVED


AMOUNTS = Amounts()
