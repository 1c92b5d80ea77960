"""Nodes with a bug each, to see whether the oracles find it."""
from neo.client.core.client import Client
from neo.cluster.events import Send
from neo.cluster.ids import first_ttid
from neo.cluster.node import handles
from neo.master import commits
from neo.master.comparison import Locked
from neo.master.node import Master
from neo.master.tables import Tables
from neo.master.transactions import Finishing, Transactions
from neo.protocol.packets import (Digest, Finish, GiveWay, Lock, NodesChanged, RequestTerm,
                                  ReserveOids, Settle, TableChanged, Vote, WhatBecameOf)
from neo.protocol.types import ClusterState, NodeKind, Unfinished
from neo.storage import serve_master
from neo.storage.cells import Cells
from neo.storage.node import Storage

MASTER, CLIENT = NodeKind.MASTER, NodeKind.CLIENT


def with_handler(base, function):
    """The class `base` with another handler for a packet."""
    handlers = dict(base.handlers)
    for code, kind, phase in function.handled:
        handlers = {key: value for key, value in handlers.items() if key[:2] != (code, kind)}
    handlers.update({key: function for key in function.handled})
    return type('Wrong' + base.__name__, (base,), {'handlers': handlers})


# -- the client is told before the last storage has locked --------------------------------------
class HastyTransactions(Transactions):

    def finish(self, *args):
        transaction = super().finish(*args)
        while len(transaction.waiting) > 1:
            transaction.waiting.discard(max(transaction.waiting, key=lambda peer: peer.id))
        return transaction


class HastyMaster(Master):

    def serve(self, *args):
        super().serve(*args)
        self.transactions.__class__ = HastyTransactions


# -- a lock is answered before it is durable ----------------------------------------------------
class VolatileLocks(Storage):

    def ready(self):
        batch = super().ready()
        if any(type(effect) is Send and type(effect.packet) is Lock.Answer
               for effect in batch.effects):
            batch.commit = False
        return batch


# -- nobody compares the base of a record -------------------------------------------------------
class CarelessStorage(Storage):

    def __init__(self, *args):
        super().__init__(*args)
        self.transactions._compare = lambda txn, oid: txn.conflicts.discard(oid)


# -- serial checks are done, and not kept until the end -----------------------------------------
class ForgetfulOfChecks(Storage):

    def __init__(self, *args):
        super().__init__(*args)
        take = self.transactions._take

        def take_no_shared(txn, oid, shared):
            if not shared or oid in txn.writes:
                take(txn, oid, shared)
            else:
                self.transactions._compare(txn, oid)
        self.transactions._take = take_no_shared


# -- locks of clients that are gone stay ----------------------------------------------------------
@handles(NodesChanged, sender=MASTER)
def keep_gone_clients(node, peer, packet, request_id):
    serve_master.nodes_changed(node, peer, NodesChanged(packet.nodes, ()), request_id)


# -- the mark of the oids is not kept -------------------------------------------------------------
@handles(ReserveOids, sender=MASTER)
def reserve_nothing(node, peer, packet, request_id):
    node.answer(peer, request_id, ReserveOids.Answer(packet.mark))


# -- "certainly not" is said too early ------------------------------------------------------------
@handles(WhatBecameOf, sender=CLIENT)
def deny(master, peer, packet, request_id):
    master.answer(peer, request_id, WhatBecameOf.Answer(packet.ttid, None))


# -- recovery drops what is locked ----------------------------------------------------------------
@handles(Settle, sender=MASTER)
def drop_all(node, peer, packet, request_id):
    node.transactions.settle(())
    node.durable()
    node.answer(peer, request_id, Settle.Answer(node.engine.last_tid()))


# -- a client does not look at all invalidations --------------------------------------------------
class DeafClient(Client):

    def hear(self, tid, oids):
        super().hear(tid, oids[:1])


# -- recovery ---------------------------------------------------------------------------------
def with_locked(**methods):
    """A master that judges by these methods what becomes of transactions that are only locked."""
    wrong = type('WrongLocked', (Locked,), methods)

    class WrongMaster(Master):

        @property
        def verification(self):
            return self._verification

        @verification.setter
        def verification(self, verification):
            self._verification = verification
            for locked in verification.locked if verification is not None else ():
                locked.__class__ = wrong
    return WrongMaster


def keep_all(locked, found, table):
    return True


def keep_if_cells_of_any_state_have_it(locked, found, table):
    return bool(found) or locked.having >= {id for row in locked.it.rows for id in table.rows[row]}


class OneThatDropsNothing(Storage):
    """The storage that is called S1 keeps what it has locked."""

    def __init__(self, *args):
        super().__init__(*args)
        settle = self.transactions.settle

        def keep(kept):
            locked = [Unfinished(*it) for it in self.engine.locked()] if self.id == 'S1' else []
            return settle(list({it.ttid: it for it in [*kept, *locked]}.values()))
        self.transactions.settle = keep


class SilentAboutTold(Storage):
    """Nobody learns what it knows to have been told, so that no disk can be behind."""

    def answer(self, peer, request_id, packet):
        if type(packet) is RequestTerm.Answer:
            packet.told = ()
        super().answer(peer, request_id, packet)


class ForgetfulOfTold(Storage):

    def __init__(self, *args):
        super().__init__(*args)
        unlock = self.transactions.unlock

        def forget_rows(txn):
            first, tid, _ = self.engine._locked[txn.ttid][-3:]
            self.engine._locked[txn.ttid] = Unfinished(txn.ttid, first, tid, ())
            unlock(txn)
        self.transactions.unlock = forget_rows


class WithGhosts(Storage):
    """Claims to have the votes that it had before it crashed."""

    def __init__(self, *args):
        super().__init__(*args)
        self.ghosts = vars(self.engine).setdefault('ghosts', {})
        unfinished = self.transactions.unfinished

        def and_ghosts():
            real = unfinished()
            return real + [Unfinished(ttid, None, None, ()) for ttid in self.ghosts
                           if ttid not in {it.ttid for it in real}]
        self.transactions.unfinished = and_ghosts

    def answer(self, peer, request_id, packet):
        if type(packet) is Vote.Answer:
            self.ghosts[packet.ttid] = None
        super().answer(peer, request_id, packet)


# -- locks, conflicts and reads -----------------------------------------------------------------
class Liar(Storage):
    """Who conflicts is told of a revision that is not the current one."""

    def __init__(self, *args):
        super().__init__(*args)
        compare = self.transactions._compare

        def lie(txn, oid):
            compare(txn, oid)
            told = self.transactions.conflicts.get(txn)
            if told and told[-1][0] == oid:
                told[-1] = oid, told[-1][1] - 1
        self.transactions._compare = lie


@handles(GiveWay, sender=NodeKind.STORAGE)
def give_way_to_nobody(client, peer, packet, request_id):
    pass


class Impatient(Storage):
    """A read does not wait for what is locked."""

    def __init__(self, *args):
        super().__init__(*args)
        self.transactions.locked_object = lambda oid, before: None


class WithoutPromises(Storage):
    """Space is not kept for what is stored."""

    def __init__(self, *args):
        super().__init__(*args)
        self.space.promise = lambda ttid, size, count: None


class Absentminded(Storage):
    """What was too large for its memory is not locked."""

    def __init__(self, *args):
        super().__init__(*args)
        store = self.transactions.store

        def spill_nothing(txn, records, checks):
            if store(txn, records, checks):
                self.engine.forget(txn.ttid)
        self.transactions.store = spill_nothing


# -- the order of commits, imports, pools ---------------------------------------------------------
class Unordered(Transactions):

    def ended(self, transaction):
        if self.by_ttid.pop(transaction.ttid, None) is None:
            return []
        self.finishing.remove(transaction)
        self.last_told = max(self.last_told, transaction.tid)
        return [transaction]


class MasterWithoutOrder(Master):

    def serve(self, *args):
        super().serve(*args)
        self.transactions.__class__ = Unordered


class MasterThatTellsTheLast(Master):
    """Of an import, others hear of its last transaction only."""

    def tell(self, ended):
        for transaction in ended:
            transaction.changes = transaction.changes[-1:]
        super().tell(ended)


class Greedy(Client):
    """Takes one oid more than it was given."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        put = self.oids.put
        self.oids.put = lambda first, count: put(first, count + 1)


class Crossed(Client):
    """An answer that has crossed an invalidation is taken for current."""

    def hear(self, tid, oids):
        loading, self.loading = self.loading, {}
        super().hear(tid, oids)
        self.loading = loading


class Complacent(Client):
    """What was committed while the primary was lost is told to ZODB, and what is cached stays
    current."""

    def caught_up(self, missed, catching_up):
        invalidate, self.cache.invalidate = self.cache.invalidate, lambda oid, tid: None
        super().caught_up(missed, catching_up)
        self.cache.invalidate = invalidate


class OutOfTouch(Client):
    """Nobody is told of what was committed meanwhile."""

    def caught_up(self, missed, catching_up):
        super().caught_up([], catching_up)


class Forgetful(Client):
    """What the primary tells while the past is learnt is lost."""

    def caught_up(self, missed, catching_up):
        catching_up.later.clear()
        super().caught_up(missed, catching_up)


# -- terms and tables ---------------------------------------------------------------------------
def with_tables(**methods):
    """A master that keeps tables by these methods."""
    wrong = type('WrongTables', (Tables,), methods)

    class WrongMaster(Master):

        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.tables.__class__ = wrong
    return WrongMaster


def start_as_it_is(tables, node, table, then):
    """The first table of a term is taken for in force, though nobody has it."""
    if tables.in_force is not None or tables.base is None:
        Tables.write(tables, node, table, then)
        return
    tables.base = tables.in_force = table
    tables.later = []
    for peer in node.members.storages.values():
        peer.data.held = table.key
    for peer in tables.holders(node):
        node.send(peer, TableChanged(table.pack()))
    then(node)


def be_content_with_half(tables, ids):
    return tables.newest.operational(ids) and all(
        2 * len(ids & set(table.voters())) >= len(table.voters())
        for table in (tables.base, *tables.later))


@handles(RequestTerm, sender=MASTER)
def promise_again(storage, peer, packet, request_id):
    if packet.term == storage.state.term:
        storage.state.candidate = packet.candidate
    serve_master.request_term(storage, peer, packet, request_id)


class Heedless(Finishing):
    """Who is lost is not waited for: the others may have another primary by then."""

    __slots__ = ()

    def lost(self, node, peer):
        self.answered(node, peer, None)


class HeedlessTransactions(Transactions):

    def finish(self, *args):
        transaction = super().finish(*args)
        transaction.__class__ = Heedless
        return transaction


class MasterThatDoesNotHeed(Master):

    def serve(self, *args):
        super().serve(*args)
        self.transactions.__class__ = HeedlessTransactions

    def _is_cut_off(self):
        return False


class MasterThatForgetsTheLost(MasterThatDoesNotHeed):
    """What a lost storage had stays readable there, without what it misses."""

    def _leave_behind(self, peer):
        pass


class MasterWithOldTtids(Master):
    """Each primary begins to count anew."""

    def serve(self, *args):
        super().serve(*args)
        self.transactions.first_ttid = self.transactions.next_ttid = first_ttid(1)


@handles(Finish, sender=CLIENT)
def finish_at_once(master, peer, packet, request_id):
    """Though a table is on its way."""
    pending, master.tables.pending = master.tables.pending, []
    try:
        commits.finish(master, peer, packet, request_id)
    finally:
        master.tables.pending = pending


# -- what is filled ------------------------------------------------------------------------------
class FilledFromTheHighest(Storage):
    """What is below the last tid it has is taken to be there."""

    def __init__(self, *args):
        super().__init__(*args)
        self.filling.cells.__class__ = HighestCells


class HighestCells(Cells):

    def table_in_force(self, node, before, table):
        former = set(self.complete)
        super().table_in_force(node, before, table)
        for row in self.complete.keys() - former:
            if before is not None and node.id in before.readable[row]:
                self.complete[row] = node.engine.last_tid()
        self._keep()


class SourceThatDoesNotWait(Storage):
    """What is locked there, and perhaps told already, is not copied."""

    def __init__(self, *args):
        super().__init__(*args)
        self.transactions.locked_below = lambda stop: None


# -- copies that are equal are taken for different -----------------------------------------------
@handles(Digest, sender=MASTER, phase=ClusterState.RUNNING)
def digest_of_nobody_else(node, peer, packet, request_id):
    node.answer(peer, request_id, Digest.Answer(node.identity, 1, False, packet.stop))


PLANTS = {
    'a digest is of more than the content': {'storage': with_handler(
        Storage, digest_of_nobody_else)},
    'a lock is not durable': {'storage': VolatileLocks},
    'told before the last lock': {'master': HastyMaster},
    'no base is compared': {'storage': CarelessStorage},
    'a serial check is not locked': {'storage': ForgetfulOfChecks},
    'locks of gone clients stay': {'storage': with_handler(Storage, keep_gone_clients)},
    'oids are not reserved': {'storage': with_handler(Storage, reserve_nothing)},
    'a committed transaction is denied': {'master': with_handler(Master, deny)},
    'recovery drops what is locked': {'storage': with_handler(Storage, drop_all)},
    'a client ignores invalidations': {'client': DeafClient},
    'kept although a readable participant lacks it': {'master': with_locked(is_kept=keep_all)},
    'dropped because an outdated cell lacks it': {
        'master': with_locked(is_kept=keep_if_cells_of_any_state_have_it)},
    'dropped on one storage only': {'storage': OneThatDropsNothing},
    'a restored disk is taken as it is': {'storage': SilentAboutTold},
    'unlock forgets told rows': {'storage': ForgetfulOfTold},
    'votes of before a crash count': {'storage': WithGhosts},
    'a conflict names a wrong serial': {'storage': Liar},
    'a client gives way to nobody': {'client': with_handler(Client, give_way_to_nobody)},
    'a read does not wait for a lock': {'storage': Impatient},
    'space is not kept': {'storage': WithoutPromises},
    'what was spilled is lost': {'storage': Absentminded},
    'tids are told in any order': {'master': MasterWithoutOrder},
    'an import is told by its last tid': {'master': MasterThatTellsTheLast},
    'an oid is given twice': {'client': Greedy},
    'an answer that was overtaken is current': {'client': Crossed},
    'a term is given twice': {'storage': with_handler(Storage, promise_again)},
    'a lost storage stays readable': {'master': MasterThatForgetsTheLost},
    'ttids are used again': {'master': MasterWithOldTtids},
    'a table on its way is ignored': {'master': with_handler(Master, finish_at_once)},
    'filled from the highest tid': {'storage': FilledFromTheHighest},
    'copied past what is locked': {'storage': SourceThatDoesNotWait},
    'a table is not written under the new term': {'master': with_tables(write=start_as_it_is)},
    'a cache is kept as current over a reconnection': {'client': Complacent},
    'what was committed without a connection is not told': {'client': OutOfTouch},
    'what is told during a reconnection is lost': {'client': Forgetful},
}
