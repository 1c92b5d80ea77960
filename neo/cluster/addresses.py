"""Addresses as people write them, and as the protocol has them: (host, port)."""
import re

_ADDRESS = re.compile(r'(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[^\s:\[\]/@]+))'
                      r'(?::(?P<port>[0-9]{1,5}))?')


def parse(text, default_port=None):
    """`HOST:PORT`, `[IPv6]:PORT` to (host, port).  Without a port it has `default_port`; ValueError
    says what is wrong."""
    match = _ADDRESS.fullmatch(text)
    if not match:
        raise ValueError('%r is not an address: HOST:PORT or [IPv6]:PORT is expected' % text)
    host = match['v6'] or match['host']
    port = default_port if match['port'] is None else int(match['port'])
    if port is None:
        raise ValueError('the address %r has no port' % text)
    if port > 65535:
        raise ValueError('the port of %r is above 65535' % text)
    if len(host) > 255:
        raise ValueError('the host name of %.40r… is longer than 255' % text)
    return host, port


def parse_list(text):
    """Addresses with ports, separated by spaces or commas."""
    addresses = [parse(part) for part in text.replace(',', ' ').split()]
    if not addresses:
        raise ValueError('no address is given')
    if len(set(addresses)) < len(addresses):
        raise ValueError('an address is given twice in %r' % text)
    return addresses


def readable(address):
    host, port = address
    return '%s:%d' % ('[%s]' % host if ':' in host else host, port)
