"""Logging of daemons: a record is a line with time, node and level; tracebacks follow theirs."""
import logging
import sys
import time


class _Formatter(logging.Formatter):

    def __init__(self, log):
        super().__init__()
        self._log = log

    def format(self, record):
        text = '%s.%03d %s %s %s' % (
            time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record.created)), record.msecs,
            self._log.name, record.levelname, record.getMessage().replace('\n', '\\n'))
        if record.exc_info:
            text += '\n' + self.formatException(record.exc_info)
        return text


class Log:
    """The log of one daemon.

    `name` stands in each line; it may be changed once the node is known by its id.  Without a file,
    the log is stderr.  OSError if the file can't be opened.
    """

    def __init__(self, name, logfile=None, verbose=False):
        self.name = name
        self._file = logfile
        self._stream = open(logfile, 'a', encoding='utf-8') if logfile else None
        self._handler = logging.StreamHandler(self._stream or sys.stderr)
        self._handler.setFormatter(_Formatter(self))
        self._root = logging.getLogger()
        self._root.addHandler(self._handler)
        self._root.setLevel(logging.DEBUG if verbose else logging.INFO)

    def __call__(self, level, message):
        self._root.log(level, message)

    def reopen(self):
        """Go on in a new file of the same name, after the old one has been moved away."""
        if self._file is None:
            return
        try:
            stream = open(self._file, 'a', encoding='utf-8')
        except OSError as error:
            self(logging.ERROR, 'the log is not reopened: %s' % error)
            return
        self._handler.setStream(stream)
        self._stream.close()
        self._stream = stream

    def fail(self, message, exc_info=False):
        """Why the daemon stops: one line on stderr, wherever the log goes."""
        self._root.critical(message, exc_info=exc_info)
        if self._file is not None or exc_info:
            print('%s: %s' % (self.name, message), file=sys.stderr, flush=True)

    def close(self):
        self._root.removeHandler(self._handler)
        self._handler.flush()
        if self._stream is not None:
            self._stream.close()
