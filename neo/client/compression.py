"""Compression of records, in the client only: storages keep the bytes as they come."""
import zlib

from ..protocol.limits import COMPRESS_ABOVE, MAX_OBJECT
from ..protocol.types import Compression
from .exception import BrokenData

NO_ZSTD = 'zstd needs the package zstandard, or Python 3.14'


def _zstd():
    """(function(data, level), function(data)), or None where zstd can't be had."""
    try:
        from compression import zstd            # Python 3.14
    except ImportError:
        try:
            import zstandard
        except ImportError:
            return None
        return (lambda data, level: zstandard.ZstdCompressor(level=level).compress(data),
                lambda data: zstandard.ZstdDecompressor().decompress(
                    data, max_output_size=MAX_OBJECT))
    return zstd.compress, zstd.decompress


def parse(setting):
    """`(Compression, level)` of a setting as users write it: a boolean, 'zlib', 'zlib=6', 'zstd',
    'zstd=3'; ValueError if it is none of these."""
    if isinstance(setting, str):
        text = setting.strip().lower()
        if text in ('yes', 'true', 'on', '1'):
            setting = True
        elif text in ('', 'no', 'false', 'off', '0', 'none'):
            setting = False
        else:
            return _parse_name(text)
    return (Compression.ZLIB, 6) if setting else (Compression.NONE, 0)


def _parse_name(text):
    name, given, level = text.partition('=')
    if name == 'zlib':
        kind, usual, levels = Compression.ZLIB, '6', range(1, 10)
    elif name == 'zstd':
        kind, usual, levels = Compression.ZSTD, '3', range(1, 23)
    else:
        raise ValueError('compress is a boolean, zlib, zlib=LEVEL, zstd or zstd=LEVEL, not %r'
                         % text)
    level = level if given else usual
    if not level.isdecimal() or int(level) not in levels:
        raise ValueError('the level of %s is from %d to %d, not %r' % (
            name, levels[0], levels[-1], level))
    if kind == Compression.ZSTD and _zstd() is None:
        raise ValueError(NO_ZSTD)
    return kind, int(level)


def setting(text):
    """The datatype of ZConfig: the setting as it is, once it is known to be valid."""
    parse(text)
    return text


def compressor(setting):
    """A function from data to `(Compression, data)`; it leaves alone what does not get smaller."""
    kind, level = parse(setting)
    if kind == Compression.NONE:
        return lambda data: (Compression.NONE, data)
    function = zlib.compress if kind == Compression.ZLIB else _zstd()[0]

    def compress(data):
        if len(data) > COMPRESS_ABOVE:
            compressed = function(data, level)
            if len(compressed) < len(data):
                return kind, compressed
        return Compression.NONE, data
    return compress


def decompress(kind, data):
    """The data as the application knows them."""
    if kind == Compression.NONE:
        return data
    try:
        if kind == Compression.ZLIB:
            return zlib.decompress(data)
        zstd = _zstd()
        if zstd is not None:
            return zstd[1](data)
    except Exception as error:
        raise BrokenData('data can not be decompressed: %s' % error)
    raise BrokenData('data are compressed with zstd: ' + NO_ZSTD)
