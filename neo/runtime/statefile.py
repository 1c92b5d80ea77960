"""The state file of a master: small, whole or not there, and of one process at a time."""
import fcntl
import os

from msgpack import packb, unpackb

from ..master.state import StateError
from ..protocol.checksum import checksum

MAGIC = b'NEO master state\n'


class StateFile:
    """What neo.master.state.State keeps its values in.  As long as it is open, no other process can
    open it.  Raises StateError, with the path."""

    def __init__(self, path):
        self.path = path
        # The file itself is replaced at each change: what is locked stays.
        self._lock = open(path + '.lock', 'a')
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise StateError('%s is used by another process' % path)

    def load(self):
        """The values of the last `save`, or None."""
        try:
            with open(self.path, 'rb') as file:
                content = file.read()
        except FileNotFoundError:
            return None
        start = len(MAGIC) + 16
        if not content.startswith(MAGIC) or checksum(content[start:]) != content[len(MAGIC):start]:
            raise StateError('%s is broken, or no state of a master: remove it, and this master'
                             ' begins anew, without a vote at first' % self.path)
        return unpackb(content[start:], use_list=False, strict_map_key=False)

    def save(self, values):
        """Durable, or StateError: a crash leaves these or those of before."""
        body = packb(values)
        try:
            self._write(MAGIC + checksum(body) + body)
        except OSError as error:
            raise StateError('%s can\'t be written: %s' % (self.path, error.strerror)) from error

    def _write(self, content):
        new = self.path + '.new'
        with open(new, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)
        folder = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self):
        self._lock.close()
