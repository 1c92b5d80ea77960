"""The log of one storage: the logger of all, and a file of its own if it has one."""
import logging
import sys

LOGGER = logging.getLogger('neo.client')


class Log:
    """OSError if the file can't be opened."""

    def __init__(self, logfile=None):
        self._file = None
        if logfile:
            self._file = logging.FileHandler(logfile)
            self._file.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(message)s'))

    def __call__(self, level, message, exc_info=None):
        LOGGER.log(level, message, exc_info=exc_info)
        if self._file is not None and level >= logging.INFO:
            self._file.handle(logging.makeLogRecord({
                'name': LOGGER.name, 'levelno': level, 'levelname': logging.getLevelName(level),
                'msg': message, 'exc_info': exc_info and sys.exc_info()}))

    def close(self):
        if self._file is not None:
            self._file.close()
            self._file = None
