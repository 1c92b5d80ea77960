"""From whom rows are copied, when some of those who have them are of no use."""
import pytest

from neo.cluster import events
from neo.protocol.checksum import checksum
from neo.protocol.packets import (ConditionChanged, Error, Filled, ListRecords, ListTransactions,
                                  RowsTold)
from neo.protocol.types import (Cell, CellState, ErrorCode, RecordPosition, RowTid, StoredMetadata,
                                StoredRecord, Table)

from ..engine import samples
from .script import PARTITIONS, Script, record
from .test_filling import Source, complete, fill

OTHER = '127.0.0.1', 30001


@pytest.fixture
def script():
    """Of row 0, S2 and S3 have all and S1 has nothing."""
    script = Script()
    script.m = script.join()
    script.recover(script.m, cells=Table(1, 1, 2, tuple(
        (Cell('S1', int(CellState.OUT_OF_DATE if row == 0 else CellState.UP_TO_DATE)),
         Cell('S2', int(CellState.UP_TO_DATE)), Cell('S3', int(CellState.UP_TO_DATE)))
        for row in range(PARTITIONS)), (), ()))
    script.s2, script.s3 = Source(script), Source(script, 'S3', OTHER)
    for source in script.s2, script.s3:
        for tid in range(10, 14):
            source.add(900 + tid, tid, record(0, data=b'%d' % tid))
        source.announced()
    fill(script, 13, 0)
    return script


def both(script):
    script.s2.connected()
    script.s3.connected()


def filled(script):
    """Is all there, after a while?"""
    for _ in range(100):
        script.wait(.1)
        for source in script.s2, script.s3:
            if source.party is not None and source.party.open:
                source.serve()
        if script.m.hears(Filled):
            assert script.engine.load(0, 14)[0] == 13 and complete(script) == {0: 13}
            return True
    return False


def test_one_of_them_is_asked(script):
    both(script)
    assert filled(script)
    assert script.s2.asked and not script.s3.asked


def test_what_was_asked_of_one_that_is_lost_is_asked_of_another(script):
    both(script)
    script.s2.serve(2)
    assert complete(script)[0] in range(10, 13)
    script.s2.party.leave()
    assert filled(script)
    assert script.s3.asked[0].start > 10            # not from the beginning


def stored(oid, tid, data=b'x', sum=None):
    return StoredRecord(oid, tid, 0, sum or checksum(data), data, None)


def described(tid):
    return StoredMetadata(tid, 800 + tid, ' ', b'', b'', b'', (0,))


@pytest.mark.parametrize('answer', [
    Error(ErrorCode.NOT_HERE, 'no more'),
    Error(ErrorCode.BROKEN_DATA, 'broken page'),
    ListTransactions.Answer([described(1)], None),                      # of row 1
    ListTransactions.Answer([described(16)], None),                     # too late
    ListTransactions.Answer([described(12), described(8)], None),       # not in order
    ListTransactions.Answer([described(12)], 12),                       # again and again
    ListTransactions.Answer([], 1),
    ListTransactions.Answer([], 14),
    ListRecords.Answer([stored(1, 12)], None),
    ListRecords.Answer([stored(0, 14)], None),
    ListRecords.Answer([stored(0, 12), stored(0, 11)], None),
    ListRecords.Answer([stored(4, 12), stored(0, 12)], None),
    ListRecords.Answer([stored(0, 12), stored(0, 12)], None),
    ListRecords.Answer([stored(0, 12)], RecordPosition(11, 0)),
    ListRecords.Answer([stored(0, 12)], RecordPosition(14, 0)),
    ListRecords.Answer([], RecordPosition(1, None)),
    ListRecords.Answer([stored(0, 12, sum=checksum(b'y'))], None),
    RowsTold.Answer([RowTid(1, 99)]),
])
def test_one_that_refuses_or_sends_what_it_should_not_is_left_for_another(script, answer):
    both(script)
    party = script.s2.party
    while type(answer) not in (Error, type(party.heard[0][0]).Answer):
        script.s2.serve(1, rows=1000)
    _, request_id = party.heard.pop(0)
    told = script.engine.told()
    party.say(answer, request_id)
    assert script.engine.told() == told
    assert filled(script)
    assert samples.all_records(script.engine) == samples.all_records(script.s3.engine)
    assert samples.all_transactions(script.engine) == samples.all_transactions(
        script.s3.engine, partitions=PARTITIONS, rows=(0,))
    assert script.s3.asked and party.open


# -- nobody is of use -----------------------------------------------------------------------
def conditions(script):
    heard = [packet.condition for packet, _ in script.m.heard if type(packet) is ConditionChanged]
    script.m.heard[:] = [it for it in script.m.heard if type(it[0]) is not ConditionChanged]
    return heard


def refuse_all(script, error, message, seconds):
    """Both refuse the records, for so long."""
    count = 0
    end = script.now + seconds
    while script.now < end:
        script.wait(.1)
        for source in script.s2, script.s3:
            while source.party.heard:
                if type(source.party.heard[0][0]) is ListRecords:
                    _, request_id = source.party.heard.pop(0)
                    source.party.say(Error(error, message), request_id)
                    count += 1
                else:
                    source.serve(1)
    return count


def test_the_operator_hears_that_nobody_is_of_use_and_why(script):
    both(script)
    assert refuse_all(script, ErrorCode.BROKEN_DATA, 'broken page', 60) <= 6
    assert conditions(script) == [
        'row 0 can\'t be copied here: S2: broken page, S3: broken page']
    assert len([line for line in script.logged if 'broken page' in line]) == 3
    script.wait(30)
    assert filled(script)
    assert conditions(script) == ['']


def test_a_short_trouble_is_no_condition(script):
    both(script)
    assert refuse_all(script, ErrorCode.NOT_HERE, 'another table', 3) > 4
    assert filled(script)
    assert conditions(script) == []


def test_the_operator_hears_that_nobody_can_be_reached(script):
    for _ in range(80):
        while script.connecting:
            script.step(events.ConnectFailed(script.connecting.pop(), 'refused'))
        script.wait(.1)
    assert conditions(script) == ['row 0 can\'t be copied here: S2: refused, S3: refused']
    script.wait(2)
    both(script)
    assert filled(script)
    assert conditions(script) == ['']


def test_it_waits_for_space(script):
    both(script)
    script.engine.full = True
    script.s2.serve()
    text, = conditions(script)
    assert text.startswith('no space for ')
    script.engine.full = False
    assert filled(script)
    assert conditions(script) == ['']
