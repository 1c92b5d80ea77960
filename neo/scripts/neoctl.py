"""The command neoctl."""
import argparse
import json
import os
import sys

from .. import __version__
from ..cluster.addresses import parse
from ..ctl.commands import Misused, NotAvailable, add_commands
from ..ctl.show import Nothing
from ..runtime.ask import TIMEOUT, NoAnswer, ask
from .options import ADMIN, ADMIN_PORT, BIND, KEYS, Parser, UsageError, read_section, seconds

# -- command line -----------------------------------------------------------------------------
def parser():
    both = argparse.ArgumentParser(add_help=False)
    both.add_argument('--json', action='store_true', default=argparse.SUPPRESS,
                      help='print JSON, for programs')
    result = Parser(prog='neoctl', parents=[both], allow_abbrev=False,
                    description='Look at a NEO cluster, and change it.')
    result.add_argument('-a', '--address', metavar='HOST:PORT',
                        help='of an admin node (default: 127.0.0.1:%d)' % ADMIN_PORT)
    result.add_argument('-f', '--file', metavar='FILE',
                        help='configuration file; the address is `bind` in its section')
    result.add_argument('-s', '--section', metavar='NAME', help='(default: admin)')
    result.add_argument('-t', '--timeout', metavar='SECONDS', type=seconds, default=TIMEOUT,
                        help='how long to wait for an answer (default: %(default)g)')
    for option in 'ca', 'cert', 'key':
        result.add_argument('--' + option, metavar='FILE', help=argparse.SUPPRESS)
    result.add_argument('--version', action='version', version='%(prog)s ' + __version__)
    add_commands(result, both)
    return result


def admin_address(options):
    text = options.address
    if text is None and options.file is not None:
        keys, _ = read_section(options.file, options.section, 'admin', KEYS)
        text = keys.get('bind')
    try:
        host, port = parse(text or BIND[ADMIN], ADMIN_PORT)
    except ValueError as e:
        raise UsageError(e)
    return {'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host), port


def refuse_later(options):
    for option in 'ca', 'cert', 'key':
        if getattr(options, option) is not None:
            raise NotAvailable('--%s is not available in this version' % option)


def run(options):
    refuse_later(options)
    command = options.make(options)
    answer = ask(admin_address(options), command.request, options.timeout)
    if getattr(options, 'json', False):
        print(json.dumps(command.data(answer), indent=2, ensure_ascii=False))
    else:
        for line in command.show(answer):
            print(line)


def main(arguments=None):
    grammar = parser()
    options = grammar.parse_args(arguments)
    if options.command is None:
        grammar.print_help()
        return 2
    try:
        run(options)
        sys.stdout.flush()
        return 0
    except (NotAvailable, UsageError, Nothing, NoAnswer) as e:
        print('neoctl: %s' % e, file=sys.stderr)
        return 1
    except Misused as e:
        grammar.error(str(e))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == '__main__':
    sys.exit(main())
