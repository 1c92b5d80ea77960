"""Packets to bytes and back, and what comes of bytes that nobody should send."""
import struct
import tracemalloc

import msgpack
import pytest
from hypothesis import given, settings, strategies as st

from neo.protocol import limits, packets
from neo.protocol.codec import (HEADER_SIZE, VERSIONS, Decoder, ProtocolError, TooLarge,
                                VersionMismatch, agree, decode, encode, preamble)
from neo.protocol.types import MAX_ID, Record

from .values import PACKETS, any_packet, packets_of

settings.register_profile('neo', deadline=None)
settings.load_profile('neo')

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats()
    | st.text(max_size=20) | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(max_size=3) | st.integers(0, 9), inner, max_size=3), max_leaves=12)


def everything(decoder, data):
    decoder.feed(data)
    return list(decoder.packets())


@pytest.mark.parametrize('cls', PACKETS, ids=lambda cls: cls.__qualname__)
def test_round_trip(cls):
    @settings(max_examples=15, database=None)
    @given(packets_of(cls), st.integers(0, (1 << 63) - 1))
    def check(packet, request_id):
        body = encode(packet, request_id)[HEADER_SIZE:]
        assert decode(body) == decode(body, known=False) == (packet, request_id)
        assert len(body) <= cls.largest
    check()


@pytest.mark.parametrize('cls', PACKETS, ids=lambda cls: cls.__qualname__)
def test_a_field_more_or_less_is_refused(cls):
    @settings(max_examples=5, database=None)
    @given(packets_of(cls))
    def check(packet):
        frame = [packet.code, 1, *packet.values()]
        for wrong in [frame + [None]] + ([frame[:-1]] if cls.fields else []):
            with pytest.raises(ProtocolError):
                decode(msgpack.packb(wrong))
    check()


@pytest.mark.parametrize('cls', [cls for cls in PACKETS if cls.fields],
                         ids=lambda cls: cls.__qualname__)
def test_wrong_fields_are_refused_or_of_the_right_type(cls):
    """Whatever stands in a field: the codec takes exactly what the declared type allows."""
    @settings(max_examples=20, database=None)
    @given(packets_of(cls), anything, st.data())
    def check(packet, wrong, data):
        place = data.draw(st.integers(0, len(cls.fields) - 1))
        fields = list(packet.values())
        fields[place] = wrong
        try:
            decoded, _ = decode(msgpack.packb([packet.code, 1, *fields]))
        except ProtocolError:
            return
        assert type(decoded) is cls and decoded.values()[place] in (
            wrong, tuple(wrong) if isinstance(wrong, list) else wrong)
    check()


@settings(max_examples=200, database=None)
@given(st.binary(max_size=200) | anything.map(msgpack.packb)
       | st.lists(anything, max_size=8).map(msgpack.packb)
       | st.tuples(st.sampled_from([cls.code for cls in PACKETS]), st.integers(), anything).map(
           lambda frame: msgpack.packb([frame[0], max(min(frame[1], MAX_ID), -MAX_ID), frame[2]])))
def test_garbage_gives_a_protocol_error_and_nothing_else(body):
    try:
        decode(body)
    except ProtocolError as e:
        assert '\n' not in str(e) and len(str(e)) < 500


@settings(max_examples=100, database=None)
@given(st.lists(any_packet, max_size=6), st.data())
def test_a_stream_may_be_cut_anywhere(sent, data):
    stream = preamble() + b''.join(encode(packet, i) for i, packet in enumerate(sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder, received = Decoder(limit=limits.MAX_FRAME), []
    for begin, end in zip([0, *cuts], [*cuts, len(stream)]):
        received += everything(decoder, stream[begin:end])
    assert received == [(packet, i) for i, packet in enumerate(sent)]


@settings(max_examples=100, database=None)
@given(any_packet, st.data())
def test_a_flipped_bit_is_no_crash(packet, data):
    stream = bytearray(preamble() + encode(packet, 7))
    place = data.draw(st.integers(0, len(stream) - 1))
    stream[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        everything(Decoder(), stream)
    except ProtocolError:
        pass


def test_data_of_a_packet_stay_when_the_buffer_goes_on():
    decoder = Decoder(limit=limits.MAX_FRAME)
    packet = packets.Load.Answer(1, 2, None, 0, b'c' * 16, b'x' * 1000, None)
    (first, _), = everything(decoder, preamble() + encode(packet, 1))
    everything(decoder, encode(packets.Ping(), 2) * 500)
    assert first.data == b'x' * 1000 and type(first.data) is bytes


# -- limits -------------------------------------------------------------------------------------
def test_a_frame_above_the_limit_is_refused_by_its_length_alone():
    decoder = Decoder()
    with pytest.raises(ProtocolError, match='above the limit'):
        everything(decoder, preamble() + struct.pack(
            '>I', limits.MAX_FRAME_UNIDENTIFIED + 1))


def test_the_limit_can_be_raised():
    packet = packets.Load.Answer(1, 2, None, 0, b'c' * 16, bytes(limits.MAX_FRAME_UNIDENTIFIED),
                                 None)
    with pytest.raises(ProtocolError):
        everything(Decoder(), preamble() + encode(packet, 1))
    decoder = Decoder()
    everything(decoder, preamble())
    decoder.trust(limits.MAX_FRAME)
    assert everything(decoder, encode(packet, 1)) == [(packet, 1)]


def test_too_large_a_packet_is_not_sent():
    half = bytes(limits.MAX_OBJECT // 2)
    record = 1, None, None, 0, b'c' * 16, half, None
    with pytest.raises(TooLarge, match='Store of .* is above the limit'):
        encode(packets.Store(1, (record,) * 3, ()), 1)


def test_a_frame_is_no_longer_than_such_a_packet_can_be():
    body = msgpack.packb([packets.Sync.code, 1, b'x' * 1000])
    with pytest.raises(ProtocolError, match='^Sync of 10.. bytes$'):
        decode(body)


def test_lists_have_their_limits():
    rows = tuple(range(limits.MAX_PARTITIONS))
    assert decode(encode(packets.Lock(1, 2, 2, rows), 1)[HEADER_SIZE:])[0].rows == rows
    with pytest.raises(ProtocolError):
        decode(encode(packets.Lock(1, 2, 2, rows + (0,)), 1)[HEADER_SIZE:])


# -- memory -------------------------------------------------------------------------------------
def test_what_strangers_have_to_say_fits_in_their_frames():
    assert packets.Identify.largest <= limits.MAX_FRAME_UNIDENTIFIED
    last_words = packets.Error(0, '\u20ac' * (limits.MAX_TEXT // 4))
    assert len(encode(last_words)) <= limits.MAX_FRAME_UNIDENTIFIED


def bombs(code, size):
    """Frames of `size` bytes from which a careless decoder makes far more."""
    start = bytes([0x93, *([code] if code < 0x80 else [0xcc, code]), 1])
    room = size - len(start)
    long = min(room, 0xffff)
    nested = b'\xdc' + struct.pack('>H', long)
    for item in nested, b'\xdd' + struct.pack('>I', room), b'\x9f', b'\x91', b'\x8f\x01':
        yield start + (item * room)[:room]                  # arrays and maps within each other
        yield start + (item * min(1000, room // len(item))).ljust(room, b'\0')[:room]
    for item in b'\x91\x00', b'\x80', b'\xc7\x00\x05', b'\x81\x00\x00', b'\xcb' + bytes(8):
        count = min((room - 3) // len(item), 0xffff)        # many small ones
        yield start + b'\xdc' + struct.pack('>H', count) + item * count


def peak(function):
    """Bytes that it takes at most."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        function()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize('known, size, limit', [
    (False, limits.MAX_FRAME_UNIDENTIFIED, 400 << 10),
    (True, limits.MAX_FRAME_UNIDENTIFIED, 20 << 20),
    (True, 64 << 10, 20 << 20),
    (True, 1 << 20, 64 << 20)])
@pytest.mark.parametrize('cls', [packets.Identify, packets.Ping, packets.Error, packets.Vote,
                                 packets.Store, packets.Lock, packets.WriteTable,
                                 packets.ListRecords.Answer], ids=lambda cls: cls.__qualname__)
def test_a_frame_takes_no_more_memory_than_its_bytes_justify(cls, known, size, limit):
    def refuse():
        for body in bombs(cls.code, size):
            with pytest.raises(ProtocolError):
                decode(body, known)
    assert peak(refuse) < limit


def test_a_packet_of_many_bytes_is_shown_in_few():
    record = Record(1, None, None, 0, b'c' * 16, bytes(50 << 20), None)
    packet = packets.Store(1, (record,) * 1000, ((1, 2),) * 100_000)
    texts = []
    assert peak(lambda: texts.append(repr(packet))) < 1 << 20
    assert len(texts[0]) < 400 and texts[0].startswith('Store(ttid=1, records=((1, None, ')


@pytest.mark.parametrize('body', [
    b'', b'\xc1', msgpack.packb(None), msgpack.packb([]), msgpack.packb([2]),
    msgpack.packb([2, -1]), msgpack.packb([2, 1 << 63]), msgpack.packb([2, None]),
    msgpack.packb([2, True]), msgpack.packb([True, 1]), msgpack.packb([200, 1]),
    msgpack.packb([None, 1]), msgpack.packb([[2], 1]), msgpack.packb({2: 1}),
    b'\x91' * 5000, b'\xdd\xff\xff\xff\xff', msgpack.packb([2, 1]) + b'x',
    msgpack.packb(msgpack.Timestamp(1)), msgpack.packb([2, 1, msgpack.ExtType(1, b'')])])
def test_what_is_no_packet(body):
    with pytest.raises(ProtocolError):
        decode(body)


# -- versions -----------------------------------------------------------------------------------
@pytest.mark.parametrize('theirs, ours, agreed', [
    ((1, 1), (1, 1), 1), ((1, 2), (2, 3), 2), ((2, 3), (1, 2), 2), ((1, 5), (2, 4), 4)])
def test_the_highest_version_in_common_is_spoken(theirs, ours, agreed):
    assert agree(preamble(theirs), ours) == agreed
    decoder = Decoder(versions=ours)
    everything(decoder, preamble(theirs))
    assert decoder.version == agreed


@pytest.mark.parametrize('theirs, ours', [((1, 1), (2, 3)), ((4, 4), (2, 3)), ((3, 2), (3, 3))])
def test_no_version_in_common(theirs, ours):
    with pytest.raises(VersionMismatch, match=r'versions \d to \d, this node \d to \d'):
        everything(Decoder(versions=ours), preamble(theirs))


@pytest.mark.parametrize('data', [
    b'G', b'GET / HTTP/1.0\r\n\r\n', b'\x16\x03\x01\x00\xa5\x01\x00\x00', bytes(8), b'NEOx1234'])
def test_another_protocol_is_told_from_its_first_bytes(data):
    with pytest.raises(ProtocolError, match='not the protocol of NEO'):
        everything(Decoder(), data)


def test_nothing_comes_of_half_a_preamble():
    decoder = Decoder()
    for byte in preamble()[:-1]:
        assert everything(decoder, bytes([byte])) == [] and decoder.version is None
    everything(decoder, preamble()[-1:])
    assert decoder.version == VERSIONS[1]
