"""What --check-config looks at beside the options themselves: all that can be seen without
changing anything."""
import os
import socket

from ..cluster.addresses import readable
from ..runtime.addresses import ListenError, listen
from .options import UsageError


def check_surroundings(options):
    """Lines with what is not wrong, and worth knowing; UsageError or ListenError."""
    remarks = []
    if options.logfile is not None:
        check_writable('--logfile', options.logfile)
    for master in options.masters:
        check_name(master)
    try:
        sockets, _ = listen(*options.bind)
        for one in sockets:
            one.close()
    except ListenError as error:
        if not error.in_use:
            raise
        # Maybe by the very daemon whose configuration is about to change.
        remarks.append('%s is in use at the moment' % readable(options.bind))
    return remarks


def check_writable(source, path):
    """May this file be appended to, or created?"""
    if os.path.isdir(path):
        raise UsageError('%s: %s is a folder' % (source, path))
    folder = os.path.dirname(path) or '.'
    if not os.path.isdir(folder):
        raise UsageError('%s: there is no folder %s' % (source, folder))
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise UsageError('%s: %s may not be written' % (source, path))


def check_name(address):
    """Does the host have an address?"""
    try:
        socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError('--masters: %s: %s' % (
            readable(address), getattr(error, 'strerror', None) or error))
