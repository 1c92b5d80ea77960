"""Packets to bytes and back.

A connection starts, each way, with a preamble: magic and the range of versions its sender speaks.
Then frames follow: a length of 4 bytes, and so many bytes of msgpack.  Nothing is taken on trust:
a length is checked before any memory is taken, what arrays announce before they are made, types
before a node sees them.
"""
from struct import Struct

import msgpack

from . import limits, packets                   # noqa: F401 (declares the packets)
from .declare import BY_CODE, announced

MAGIC = b'NEO\x8a'                              # not text, and not the start of a TLS record
VERSIONS = 1, 1                                 # lowest and highest this code speaks

_preamble = Struct('>4sHH')
_length = Struct('>I')
PREAMBLE_SIZE = _preamble.size
HEADER_SIZE = _length.size


class ProtocolError(Exception):
    """The peer sent what it may not; its connection is closed and this is the reason."""


class VersionMismatch(ProtocolError):
    pass


class TooLarge(ProtocolError):
    """A packet above the limit of frames, which is therefore not sent."""


def preamble(versions=VERSIONS):
    return _preamble.pack(MAGIC, *versions)


def agree(data, versions=VERSIONS):
    """The version to speak with a peer whose preamble is `data` (8 bytes)."""
    magic, lowest, highest = _preamble.unpack(data)
    if magic != MAGIC:
        raise ProtocolError('this is not the protocol of NEO (it starts with %r)' % bytes(data[:4]))
    version = min(highest, versions[1])
    if version < max(lowest, versions[0]):
        raise VersionMismatch('the peer speaks protocol versions %d to %d, this node %d to %d'
                              % (lowest, highest, *versions))
    return version


def encode(packet, request_id=0):
    """One frame with its header; raises TooLarge."""
    try:
        body = msgpack.packb((packet.code, request_id, *packet.values()))
    except ValueError:          # above 4 GiB
        raise TooLarge('%s is above the limit of %d bytes'
                       % (type(packet).__name__, limits.MAX_FRAME))
    if len(body) > limits.MAX_FRAME:
        raise TooLarge('%s of %d bytes is above the limit of %d'
                       % (type(packet).__name__, len(body), limits.MAX_FRAME))
    return _length.pack(len(body)) + body


def decode(body, known=True):
    """`(packet, request id)` of one frame without its header; raises ProtocolError.

    A sender that is not `known` can't make it take more than some 100 KiB."""
    try:
        first, code = body[0], body[1]
        if code > 0x7f:
            code = body[2] if code == 0xcc else None
    except IndexError:
        raise ProtocolError('not a packet: %d bytes' % len(body))
    cls = BY_CODE.get(code)
    if cls is None or not 0x92 <= first <= 0x9f:
        raise ProtocolError('unknown packet %s' % code)
    if len(body) > cls.plain or not known:
        _check_sizes(cls, body, known)
    try:
        frame = msgpack.unpackb(body, use_list=False, max_array_len=cls.longest, max_map_len=0,
                                max_ext_len=0)
    except Exception as e:      # msgpack raises several kinds: all of them mean bad bytes
        raise ProtocolError('not a packet: %s' % _brief(e))
    request_id = frame[1]
    if type(request_id) is not int or not 0 <= request_id < 1 << 63 or not cls.check(frame):
        raise ProtocolError('%s with wrong fields' % cls.__name__)
    return cls.from_frame(frame), request_id


def _check_sizes(cls, body, known):
    """Is it no longer than such a packet can be, and do all arrays have the items that they
    announce?  Nothing is made of them.

    msgpack makes room for an array before it has seen its items, and arrays may be nested: some
    KiB could announce gigabytes."""
    size = len(body)
    if size > cls.largest:
        raise ProtocolError('%s of %d bytes' % (cls.__name__, size))
    if announced(size, cls.longest) <= (limits.UNPACK_SPARE if known else
                                        limits.UNPACK_SPARE_UNIDENTIFIED):
        return
    unpacker = msgpack.Unpacker(None, max_buffer_size=size, read_size=size)
    unpacker.feed(body)
    try:
        unpacker.skip()
    except Exception as e:
        raise ProtocolError('not a packet: %s' % _brief(e))


def _brief(error):
    return (str(error) or type(error).__name__)[:200]


class Decoder:
    """Cuts a stream of bytes into packets.

    `feed` takes what was received; iterate `packets()` after it.  `limit` is the longest frame
    accepted; `trust` raises it, once the peer has said who it is.
    """

    def __init__(self, versions=VERSIONS, limit=limits.MAX_FRAME_UNIDENTIFIED):
        self.version = None         # agreed, once the peer's preamble has come
        self.known = False
        self.limit = limit
        self._versions = versions
        self._buffer = bytearray()
        self._start = 0             # of what is not consumed yet

    def trust(self, limit):
        self.limit = max(self.limit, limit)
        self.known = True

    def feed(self, data):
        if self._start:
            del self._buffer[:self._start]
            self._start = 0
        self._buffer += data

    def packets(self, most=-1):
        """Yield `(packet, request id)`, so many at most; raises ProtocolError on the first bad one.
        """
        buffer = self._buffer
        if self.version is None:
            if len(buffer) < PREAMBLE_SIZE:
                if not MAGIC.startswith(bytes(buffer[:len(MAGIC)])):
                    raise ProtocolError('this is not the protocol of NEO')
                return
            self.version = agree(bytes(buffer[:PREAMBLE_SIZE]), self._versions)
            self._start = PREAMBLE_SIZE
        while most and len(buffer) - self._start >= HEADER_SIZE:
            most -= 1
            length, = _length.unpack_from(buffer, self._start)
            if length > self.limit:
                raise ProtocolError('a frame of %d bytes, above the limit of %d'
                                    % (length, self.limit))
            begin = self._start + HEADER_SIZE
            end = begin + length
            if len(buffer) < end:
                break
            with memoryview(buffer) as view, view[begin:end] as body:
                decoded = decode(body, self.known)
            self._start = end
            yield decoded
        if self._start == len(buffer):
            # An idle connection does not keep the memory of the largest frame it has seen.
            buffer.clear()
            self._start = 0
