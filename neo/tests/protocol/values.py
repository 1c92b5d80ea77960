"""Packets with values that fit their types, for hypothesis."""
from hypothesis import strategies as st

from neo.protocol import packets                # noqa: F401 (declares them)
from neo.protocol.declare import BY_CODE
from neo.protocol.types import MAX_TIME

PACKETS = [BY_CODE[code] for code in sorted(BY_CODE)]
SPECIAL = {
    'Bool': st.booleans(),
    'Time': st.floats(0, MAX_TIME),
    'Name': st.text(min_size=1, max_size=50),
    'NodeId': st.builds('{}{}'.format, st.sampled_from('MSAC'), st.integers(0, 10 ** 10)),
    'Uuid': st.binary(min_size=16, max_size=16),
    'Checksum': st.binary(min_size=16, max_size=16),
}


def values(type_):
    """Values of a `Type` of the protocol."""
    if type_.name in SPECIAL:
        return SPECIAL[type_.name]
    if type_.kind == 'Struct':
        cls = type_.detail
        return st.tuples(*map(values, cls.FIELDS.values())).map(cls._make)
    return {
        'int': lambda maximum: st.integers(0, maximum),
        'str': lambda longest: st.text(max_size=min(longest, 50)),
        'bytes': lambda longest: st.binary(max_size=min(longest, 200)),
        'Optional': lambda inner: st.none() | values(inner),
        'List': lambda inner: st.lists(values(inner), max_size=4).map(tuple),
    }[type_.kind](type_.detail)


def packets_of(cls):
    return st.tuples(*map(values, cls.types)).map(lambda fields: cls(*fields))


any_packet = st.sampled_from(PACKETS).flatmap(packets_of)
