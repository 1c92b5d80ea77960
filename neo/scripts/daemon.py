"""What the three daemons do alike: options, log, socket, loop; and one line when that fails."""
import sys
from contextlib import suppress

from ..master.state import StateError
from ..runtime.addresses import ListenError
from ..runtime.logs import Log
from ..runtime.loop import Loop
from ..storage.engine.interface import EngineError
from .checks import check_surroundings
from .options import UsageError, read


def run_daemon(daemon, description, arguments, check, make):
    """Give the exit status.  `check(options)` raises UsageError or EngineError before anything is
    done, and may give a status to leave at once; `make(options, address)` gives the node, once the
    socket is there."""
    try:
        options = read(daemon, description, arguments)
        status = check(options)
        if options.check_config:
            remarks = check_surroundings(options)
            print('%s: the configuration is valid%s' % (
                daemon, ''.join('; ' + remark for remark in remarks)))
            return 0
        if status is not None:
            return status
        return _serve(options, make)
    except UsageError as e:
        status = 2
        reason = e
    except (ListenError, EngineError, StateError) as e:
        status = 1
        reason = e
    except OSError as e:
        status = 1
        reason = '%s: %s' % (e.filename, e.strerror) if e.filename else e
    print('%s: %s' % (daemon, ' '.join(str(reason).split())), file=sys.stderr)
    return status


def _serve(options, make):
    log = Log(options.daemon, options.logfile, options.verbose)
    try:
        loop = Loop(log)
        try:
            # Before the node: a port in use must not have changed anything.
            node = make(options, loop.listen(*options.bind))
        except BaseException:
            loop.close()
            raise
        return loop.run(node, lambda: _release(node))
    finally:
        log.close()


def _release(node):
    """Close the database of a storage: what its log holds goes to the file, which is then all there
    is to be copied, and may be opened by the next one."""
    engine = getattr(node, 'engine', None)
    if engine is not None:
        with suppress(EngineError):
            engine.close()
