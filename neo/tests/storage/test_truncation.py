"""A storage is brought to another history."""
import pytest

from neo.protocol.packets import (RemoveAbove, RequestTerm, Settle, TableInForce, WriteTable)
from neo.protocol.types import MAX_ID, MAX_TID, Cut, ErrorCode

from .script import (CANDIDATE, CLUSTER_ID, HISTORY, PARTITIONS, TTID, Script, record, table)

NEW = b'n' * 16
CUT = Cut(HISTORY, NEW, 150, 300, ())


def written(oids=(0, 1)):
    """A storage with transactions of tid 100, 200 and 300, the last one locked and not told."""
    script = Script()
    master = script.serve()
    client = script.client()
    for number, tid in enumerate((100, 200, 300)):
        base = 100 * number
        for oid in oids:
            client.store(TTID + number, record(oid, base=base, data=b'%d' % tid))
        client.voted(TTID + number, oids=oids)
        master.lock(TTID + number, tid, rows=(0, 1))
        if tid < 300:
            master.unlock(TTID + number)
    return script, master


def settled(script, term=2, cuts=(CUT,), history=NEW):
    """Another term begins with a table that leads to another history."""
    master = script.join(session=term)
    state = master.ask(RequestTerm(term, CANDIDATE))
    write(script, master, term, cuts, history)
    master.say(TableInForce((term, 9)))
    keep = [it for it in state.unfinished if it.tid is not None]
    assert type(master.ask(Settle(keep))) is Settle.Answer
    for kept in keep:
        master.unlock(kept.ttid)
    return state, master


def write(script, master, term, cuts, history):
    answer = master.ask(WriteTable(
        CLUSTER_ID, history, PARTITIONS, table(term, 9)._replace(cuts=cuts),
        [('S1', script.node.identity, '', None, True)]))
    assert answer.key == (term, 9), answer


def test_what_is_above_is_removed():
    script, master = written()
    master.leave()
    state, master = settled(script)
    assert state.history == HISTORY
    assert script.engine.current(0) == 300      # not before it is told to
    answer = master.ask(RemoveAbove(NEW, 150, 300))
    assert answer.last_tid == 100
    assert script.engine.load(0, MAX_ID)[:2] == (100, None)
    assert not script.engine.changed            # it is durable
    # What was told stays told.
    assert max(told.tid for told in script.engine.told()) == 300


@pytest.mark.parametrize('durable', [False, True])
def test_it_is_of_the_new_history_once_that_is_durable(durable):
    script, master = written()
    master.leave()
    state, master = settled(script)
    if durable:
        master.ask(RemoveAbove(NEW, 150, 300))
    script.crash()
    master = script.master()
    assert script.identify.history == (NEW if durable else HISTORY)
    assert script.engine.last_tid() == (100 if durable else 300)


def test_oids_are_not_given_again():
    script, master = written(oids=(0, 10 * PARTITIONS + 1))
    master.leave()
    state, master = settled(script)
    master.ask(RemoveAbove(NEW, 50, 300))
    while script.engine.needs_cleaning:
        script.engine.clean(10)
    script.engine.commit()
    script.crash()
    assert script.join(session=3).ask(RequestTerm(3, CANDIDATE)).oid_mark > 10 * PARTITIONS


def test_what_it_has_cached_of_current_tids_is_forgotten():
    script, master = written()
    master.leave()
    state, master = settled(script)
    master.ask(RemoveAbove(NEW, 150, 300))
    assert script.node.transactions.current[0] == 100


def test_rows_that_are_filled_go_back_as_well():
    script, master = written()
    script.node.filling.cells.complete = {0: 200, 1: 50}
    script.node.filling.cells.lower_to(150)
    assert script.node.filling.cells.complete == {0: 150, 1: 50}
    assert dict((rows, tid) for tid, rows in script.node.state.cells) == {(0,): 150, (1,): 50}


def test_another_history_that_lacks_nothing():
    """A start was forced: it is of that history, durably, and has all it had."""
    script, master = written()
    master.leave()
    state, master = settled(script)
    assert master.ask(RemoveAbove(NEW, MAX_TID, 0)) == RemoveAbove.Answer(300)
    script.crash()
    assert script.engine.last_tid() == 300 and script.node.state.history == NEW


def test_only_a_table_with_which_it_was_kept_is_taken():
    script, master = written()
    master.leave()
    master = script.join(session=2)
    master.ask(RequestTerm(2, CANDIDATE))
    forced = CUT._replace(kept=(b'k' * 16,))
    refused = master.ask(WriteTable(
        CLUSTER_ID, HISTORY, PARTITIONS, table(2, 9)._replace(cuts=(forced,)), []))
    assert refused.error == ErrorCode.ANOTHER_CLUSTER and 'forced without it' in refused.message


def test_only_a_table_that_knows_its_history_is_taken():
    script, master = written()
    master.leave()
    master = script.join(session=2)
    master.ask(RequestTerm(2, CANDIDATE))
    refused = master.ask(WriteTable(
        CLUSTER_ID, NEW, PARTITIONS, table(2, 9)._replace(cuts=(CUT._replace(former=b'o' * 16),)),
        ()))
    assert refused.error == ErrorCode.ANOTHER_CLUSTER
    write(script, master, 2, (CUT,), NEW)


def test_a_new_storage_is_of_the_history_of_its_first_table():
    script = Script()
    master = script.join()
    state = master.ask(RequestTerm(1, CANDIDATE))
    assert state.history is None
    write(script, master, 1, (CUT,), NEW)
    master.say(TableInForce((1, 9)))
    script.engine.commit()
    script.crash()
    assert script.join(session=2).ask(RequestTerm(2, CANDIDATE)).history == NEW


def test_after_a_forced_start_it_has_heard_of_all_that_is_left():
    """Of a row that is seldom written it knows the last transaction only: so it is not behind those
    who know of what was removed."""
    script, master = written(oids=(0,))
    master.leave()
    cut = CUT._replace(kept=(script.node.identity,))
    settled(script, cuts=(cut,))
    told = dict(script.engine.told())
    assert told[0] == 300 and told[2] == told[3] == 150
