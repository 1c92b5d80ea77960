from random import Random

import pytest

from ...client import compression
from ...client.exception import BrokenData
from ...protocol.limits import COMPRESS_ABOVE
from ...protocol.types import Compression

TEXT = b'All work and no play. ' * 100
ZSTD = compression._zstd() is not None


@pytest.mark.parametrize('setting, parsed', [
    (False, (Compression.NONE, 0)), (None, (Compression.NONE, 0)), ('no', (Compression.NONE, 0)),
    ('', (Compression.NONE, 0)), (True, (Compression.ZLIB, 6)), ('yes', (Compression.ZLIB, 6)),
    ('zlib', (Compression.ZLIB, 6)), ('ZLIB=9', (Compression.ZLIB, 9))])
def test_settings(setting, parsed):
    assert compression.parse(setting) == parsed


@pytest.mark.parametrize('setting', ['gzip', 'zlib=', 'zlib=0', 'zlib=10', 'zlib=fast', 'zstd=99'])
def test_bad_settings(setting):
    with pytest.raises(ValueError):
        compression.parse(setting)


@pytest.mark.skipif(ZSTD, reason='zstd is there')
def test_zstd_that_is_not_there():
    with pytest.raises(ValueError, match='zstandard'):
        compression.parse('zstd')
    with pytest.raises(BrokenData, match='zstandard'):
        compression.decompress(Compression.ZSTD, b'x')


@pytest.mark.parametrize('setting', ['zlib', 'zlib=1'] + ['zstd', 'zstd=5'] * ZSTD)
def test_there_and_back(setting):
    kind, data = compression.compressor(setting)(TEXT)
    assert kind != Compression.NONE and len(data) < len(TEXT)
    assert compression.decompress(kind, data) == TEXT


def test_what_does_not_pay_is_left_alone():
    compress = compression.compressor(True)
    small = bytes(COMPRESS_ABOVE)
    assert compress(small) == (Compression.NONE, small)
    noise = Random(1).randbytes(2000)
    assert compress(noise) == (Compression.NONE, noise)
    assert compression.compressor(False)(TEXT) == (Compression.NONE, TEXT)


@pytest.mark.parametrize('kind', [Compression.ZLIB, 77])
def test_broken_data(kind):
    with pytest.raises(BrokenData):
        compression.decompress(kind, b'no compressed data')
