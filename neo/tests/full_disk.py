"""A small file system that can really be full."""
import os
import subprocess

import pytest


class SmallDisk:
    """`size` bytes, in memory, mounted at a folder."""

    def __init__(self, folder, size):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self._mount('-t', 'tmpfs', '-o', 'size=%d' % size, 'none', self.folder)

    def _mount(self, *arguments):
        done = subprocess.run(['mount', *arguments], capture_output=True, text=True)
        if done.returncode:
            pytest.skip('no file system can be mounted here: ' + done.stderr.strip())

    def resize(self, size):
        self._mount('-o', 'remount,size=%d' % size, self.folder)

    def free(self):
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self):
        """Take all that is left, as somebody else would."""
        with open(os.path.join(self.folder, 'filler'), 'ab') as filler:
            os.posix_fallocate(filler.fileno(), filler.tell(), self.free())

    def relieve(self):
        os.unlink(os.path.join(self.folder, 'filler'))

    def close(self):
        subprocess.run(['umount', '-l', self.folder], capture_output=True)
