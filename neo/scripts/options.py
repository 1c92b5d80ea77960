"""Options of the daemons: from the command line, from a section of a configuration file, or by
default, in this order.

One table has them all.  `neo.conf` explains each of them, and a test keeps it so.
"""
import argparse
import re
from configparser import ConfigParser, Error as ConfigError

from .. import __version__
from ..cluster.addresses import parse, parse_list
from ..protocol import limits
from ..storage.engine import ADAPTERS

MASTER_PORT, ADMIN_PORT = 10000, 9999
MASTER, STORAGE, ADMIN = 'neomaster', 'neostorage', 'neoadmin'
DAEMONS = MASTER, STORAGE, ADMIN
BIND = {MASTER: '127.0.0.1:%d' % MASTER_PORT, STORAGE: '127.0.0.1:0',
        ADMIN: '127.0.0.1:%d' % ADMIN_PORT}
BOOLEANS = ConfigParser.BOOLEAN_STATES


class UsageError(Exception):
    """What the operator asked for can't be done; one line says why."""


# -- values -----------------------------------------------------------------------------------
def boolean(text):
    if isinstance(text, str):
        if text.lower() not in BOOLEANS:
            raise ValueError('%r is neither yes nor no' % text)
        return BOOLEANS[text.lower()]
    return text


def integer(minimum, maximum):
    def convert(text):
        if not text.isdecimal() or not minimum <= int(text) <= maximum:
            raise ValueError('%r is not a number from %d to %d' % (text, minimum, maximum))
        return int(text)
    return convert


def amount(limit, of):
    def convert(text):
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < limit:
            raise ValueError('%r is not a number of %s' % (text, of))
        return value
    convert.__name__ = of               # for argparse
    return convert


seconds = amount(1e9, 'seconds')


def megabytes(text):
    """In bytes."""
    return amount(1e6, 'megabytes')(text) * 1e6


def path(text):
    if not text or '\0' in text:
        raise ValueError('the path of a file is expected')
    return text


def cluster_name(text):
    if not 0 < len(text) <= 255 or not text.isprintable():
        raise ValueError('a name of 1 to 255 printable characters is expected')
    return text


def name(text):
    if len(text) > 255 or not text.isprintable():
        raise ValueError('a name of at most 255 printable characters is expected')
    return text


def machine(text):
    if not 0 < len(text) <= limits.MAX_MACHINE or not text.isprintable():
        raise ValueError('%d printable characters at most are expected' % limits.MAX_MACHINE)
    return text


def choice(*choices):
    def convert(text):
        for known in choices:
            if text.lower() == known.lower():
                return known
        raise ValueError('%r is none of %s' % (text, ', '.join(choices)))
    return convert


# -- the table ------------------------------------------------------------------------------
class Option:
    """`key` is the long option, and the key in a file, unless the option is only for the command
    line.  `later`: it is known, and refused when it is given; its help is for then."""

    def __init__(self, key, short, convert, help, metavar=None, daemons=DAEMONS, in_file=True,
                 later=False):
        self.key, self.short, self.convert, self.help = key, short, convert, help
        self.attribute = key.replace('-', '_')      # of Options
        self.metavar, self.daemons, self.in_file, self.later = metavar, daemons, in_file, later

    def add_to(self, parser):
        flags = (['-' + self.short] if self.short else []) + ['--' + self.key]
        if self.metavar is None:
            parser.add_argument(*flags, dest=self.attribute, action='store_const', const='yes',
                                help=self.help)
        else:
            parser.add_argument(*flags, dest=self.attribute, metavar=self.metavar,
                                help=argparse.SUPPRESS if self.later else self.help)


OPTIONS = [
    Option('cluster', 'c', cluster_name, 'name of the cluster', 'NAME'),
    Option('masters', 'm', parse_list, 'where the masters listen (default: 127.0.0.1:10000)',
           '"HOST:PORT …"'),
    Option('bind', 'b', str, 'where to listen', 'HOST[:PORT]'),
    Option('name', 'n', name, 'what to call this node (default: its section)', 'NAME'),
    Option('logfile', 'l', path, 'log to this file and not to stderr', 'FILE'),
    Option('verbose', 'v', boolean, 'log more'),
    Option('ca', None, str, 'certificate of the authority', 'FILE', later=True),
    Option('cert', None, str, 'certificate of this node', 'FILE', later=True),
    Option('key', None, str, 'private key of this node', 'FILE', later=True),
    Option('replicas', 'r', integer(0, limits.MAX_REPLICAS),
           'extra copies in a new cluster (default: 0)', 'N', [MASTER]),
    Option('partitions', 'p', integer(1, limits.MAX_PARTITIONS),
           'rows of the table of a new cluster (default: 100)', 'N', [MASTER]),
    Option('autostart', 'A', integer(1, 10000),
           'start a new cluster by itself once so many storages are there', 'N', [MASTER]),
    Option('state', 'd', path, 'durable state of this master, which has a vote by it', 'FILE',
           [MASTER]),
    Option('adapter', 'a', choice(*ADAPTERS), 'kind of database (default: by --database)',
           'SQLite', [STORAGE]),
    Option('database', 'd', path, 'where the data are (default: ./CLUSTER-NAME.sqlite)', 'STRING',
           [STORAGE]),
    Option('topology', None, machine, 'which machine (or rack, or room) it is lost with: copies of'
           ' one row are put on different ones (default: the host of its address)', 'LABEL',
           [STORAGE]),
    Option('engine', 'e', choice('InnoDB', 'RocksDB'), 'of MySQL', 'InnoDB|RocksDB', [STORAGE],
           later=True),
    Option('wait', 'w', seconds, 'how long to wait for a database server', 'SECONDS', [STORAGE],
           later=True),
    Option('fill-rate', None, megabytes,
           'MB per second, at most, that this storage copies from others (default: 0, no limit)',
           'MB', [STORAGE]),
    Option('reset', None, boolean, 'remove the database, if there is one, and exit', None,
           [STORAGE], in_file=False),
    Option('http', None, str, 'where to serve the status page and metrics', 'HOST:PORT', [ADMIN],
           later=True),
]
KEYS = {option.key for option in OPTIONS if option.in_file}


def options_of(daemon):
    return [option for option in OPTIONS if daemon in option.daemons]


# -- command line ---------------------------------------------------------------------------
class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message):
        # The list of commands would have those that come later.
        message = re.sub(r'(argument (?:COMMAND|WHAT): .*) \(choose from .*\)', r'\1', message)
        self.exit(2, '%s: %s (see %s --help)\n' % (
            self.prog.split()[0], ' '.join(message.split()), self.prog))


def parser_of(daemon, description):
    parser = Parser(prog=daemon, description=description, allow_abbrev=False)
    parser.add_argument('-f', '--file', metavar='FILE', help='configuration file')
    parser.add_argument('-s', '--section', metavar='NAME',
                        help='section of that file (default: %s)' % daemon.removeprefix('neo'))
    for option in options_of(daemon):
        option.add_to(parser)
    parser.add_argument('--check-config', action='store_true', help='check all this and exit')
    parser.add_argument('--version', action='version', version='%(prog)s ' + __version__)
    return parser


# -- configuration file -----------------------------------------------------------------------
def read_section(file, section, default_section, known):
    """`(key -> text of a section over [DEFAULT], section)`.  In [DEFAULT] may stand what any daemon
    knows, in the section only what is `known` to this one."""
    config = ConfigParser(interpolation=None)
    try:
        with open(file, encoding='utf-8') as stream:
            config.read_file(stream)
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError('%s: %s' % (file, getattr(e, 'strerror', None) or e))
    except ConfigError as e:
        raise UsageError('%s' % ' '.join(str(e).split()))
    defaults = dict(config.defaults())
    _check_keys(file, 'DEFAULT', defaults, KEYS)
    if section is None and not config.has_section(default_section):
        return defaults, default_section
    section = section or default_section
    if not config.has_section(section):
        raise UsageError('%s: there is no section [%s]' % (file, section))
    # A key is the section's own if it is there without the defaults.
    own = {key: value for key, value in config[section].items()
           if key not in defaults or value != defaults[key]}
    _check_keys(file, section, own, known)
    return {**defaults, **own}, section


def _check_keys(file, section, keys, known):
    for key in keys:
        if key not in known:
            raise UsageError('%s: [%s] has the unknown key %r' % (file, section, key))


# -- all together -------------------------------------------------------------------------------
class Options:
    """One attribute per option of the daemon, plus `section` and `check_config`."""


def read(daemon, description, arguments=None):
    """Parse `arguments`, or the command line.  UsageError says what is wrong."""
    given = parser_of(daemon, description).parse_args(arguments)
    known = options_of(daemon)
    default_section = daemon.removeprefix('neo')
    keys = {option.key for option in known if option.in_file}
    texts, section = {}, given.section or default_section
    if given.file is not None:
        texts, section = read_section(given.file, given.section, default_section, keys)
    elif given.section is not None:
        raise UsageError('-s %s: no file is given, with -f' % given.section)
    result = Options()
    result.daemon, result.section, result.check_config = daemon, section, given.check_config
    for option in known:
        text, source = getattr(given, option.attribute), '--' + option.key
        if text is None and option.in_file and option.key in texts:
            text, source = texts[option.key], '%s: [%s] %s' % (given.file, section, option.key)
        setattr(result, option.attribute, _convert(option, text, source))
    _complete(result)
    return result


def _convert(option, text, source):
    if text is None:
        return None
    if option.later:
        raise UsageError('%s is not available in this version' % source)
    try:
        return option.convert(text)
    except ValueError as e:
        raise UsageError('%s: %s' % (source, e))


def _complete(options):
    """What is not given, and what does not fit together."""
    if options.cluster is None:
        raise UsageError('the name of the cluster is missing: give it with -c')
    bind = options.bind
    if bind is None and options.daemon == MASTER and options.masters:
        options.bind = options.masters[0]       # where the others look for it
    else:
        default = parse(BIND[options.daemon])
        try:
            options.bind = parse(bind, default[1]) if bind else default
        except ValueError as e:
            raise UsageError('--bind: %s' % e)
    if options.masters is None:
        options.masters = [parse(BIND[MASTER])]
    if options.name is None:
        options.name = options.section
    options.verbose = bool(options.verbose)
