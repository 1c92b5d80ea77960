"""The commands of neoctl: what may be typed, and what is asked of the admin node for it."""
import argparse
import re

from ..cluster.ids import LETTERS, tid_at, utc
from ..protocol.packets import (AddStorages, Check, DescribeCluster, DropStorage, KillNode,
                                ForceStart, SetClusterState, SetReplicas, Truncate, Tweak)
from ..protocol.types import ClusterState, MAX_ID, MAX_TID, NodeKind
from . import show

DIGITS = 9                      # of a number: of a row, or of copies
FIRST_TIME = 631152000          # 1990: no transaction is older
LATER = '%s is not available in this version'
KINDS = [kind.name.lower() for kind in LETTERS]


# -- arguments --------------------------------------------------------------------------------
def number(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError('%r is not a number' % text)
    if len(text) > DIGITS:
        raise argparse.ArgumentTypeError('%s is above all that there can be' % text)
    return int(text)


def node(text):
    if not re.fullmatch('[MSAC][0-9]{1,11}', text):
        raise argparse.ArgumentTypeError('%r is not a node: S1 is, for example' % text)
    return text


def node_or_all(text):
    return text if text == 'all' else node(text)


def tid(text):
    """`tid:0x…`, `tid:N`, or seconds since 1970."""
    kind, _, value = text.rpartition(':')
    try:
        if kind == 'tid':
            result = int(value, 16 if value[:2].lower() == '0x' else 10)
        elif not kind:
            result = tid_at(float(value))
        else:
            raise ValueError
    except (ValueError, OverflowError, OSError):
        result = -1
    if not 0 <= result <= MAX_ID:
        raise argparse.ArgumentTypeError(
            '%r is not a TID: tid:0x…, tid:N or a UNIX timestamp is' % text)
    return result


def tid_to_keep(text):
    """As `tid`; a time before all transactions, which would remove everything, is a slip."""
    result = tid(text)
    if not text.startswith('tid:') and result < tid_at(FIRST_TIME):
        raise argparse.ArgumentTypeError(
            '%s is %s, before any transaction: nothing would be left. If that is meant: tid:0' % (
                text, utc(float(text))))
    return result


def reference(text):
    """`[PARTITION]:[REFERENCE]`"""
    partition, colon, storage = text.partition(':')
    if not colon:
        raise argparse.ArgumentTypeError('%r is not [PARTITION]:[REFERENCE]' % text)
    return number(partition) if partition else None, node(storage) if storage else None


def cluster_state(text):
    try:
        return ClusterState[text.upper()]
    except KeyError:
        raise argparse.ArgumentTypeError('%r can\'t be set: RUNNING or STOPPING can' % text)


# -- what is done ---------------------------------------------------------------------------
class Command:
    """`request` is what to ask; `show(answer)` gives lines, `data(answer)` what --json prints."""

    def __init__(self, request, show, data):
        self.request, self.show, self.data = request, show, data


def message(request):
    return Command(request, lambda answer: [answer.message],
                   lambda answer: {'message': answer.message})


def order(state):
    return message(SetClusterState(state))


def description(lines, data, *arguments):
    def of(function):
        def described(answer):
            if answer.primary is None:
                raise show.Nothing(answer.reason)
            return function(answer, *arguments)
        return described
    return Command(DescribeCluster(), of(lines), of(data))


def _start(options):
    return message(ForceStart()) if options.force else order(ClusterState.RUNNING)


def _stop(options):
    return order(ClusterState.STOPPING)


def _set_cluster(options):
    return order(options.state)


def _print_node(options):
    kind = NodeKind[options.type.upper()] if options.type else None
    return description(show.node_lines, show.nodes, kind)


def _print_pt(options):
    return description(show.pt_lines, show.pt, options.min, options.max, options.node)


def _print(name):
    return lambda options: description(getattr(show, name + '_lines'), getattr(show, name))


def _set_replicas(options):
    return message(SetReplicas(options.replicas))


def _add(options):
    return message(AddStorages(() if 'all' in options.nodes else tuple(options.nodes)))


def _tweak(options):
    return Command(Tweak(tuple(options.nodes), options.dry_run), show.tweak_lines, show.tweak)


def _drop(options):
    return message(DropStorage(options.node))


def _kill(options):
    return message(KillNode(options.node))


def _truncate(options):
    return message(Truncate(options.tid))


def _check(options):
    rows = tuple([it for it in options.arguments if isinstance(it, tuple)])
    tids = [it for it in options.arguments if not isinstance(it, tuple)]
    if not rows or len(tids) > 2 or options.arguments != [*rows, *tids]:
        raise Misused('check: [PARTITION]:[REFERENCE]… [MIN_TID [MAX_TID]], in this order')
    first, last = (tids + [0, MAX_TID][len(tids):])
    return message(Check(rows, first, last))


class Misused(Exception):
    """What was typed makes no sense."""


def _later(name):
    def refuse(options):
        raise NotAvailable(LATER % name)
    return refuse


class NotAvailable(Exception):
    """The command is known, and not built yet."""


# -- the grammar ------------------------------------------------------------------------------
def add_commands(parser, parent):
    """Add the commands to an argparse parser; `options.make(options)` gives a Command.  `parent`
    has the options that are accepted after a command as well."""
    commands = parser.add_subparsers(metavar='COMMAND', dest='command')

    def add(to, name, make, help=None):
        listed = {'help': help} if help else {}     # else it is known, and not shown
        sub = to.add_parser(name, description=help, parents=[parent], allow_abbrev=False,
                            **listed)
        sub.set_defaults(make=make)
        return sub

    def group(name, help):
        sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
        return sub.add_subparsers(metavar='WHAT', dest='what', required=True)

    sub = add(commands, 'start', _start, 'start a new cluster with the storages that are there')
    sub.add_argument('--force', action='store_true', help='start a cluster that waits for nodes'
                     ' which do not come back; what only they had is lost, and they can take part'
                     ' again with empty databases only')
    _add_print(group('print', 'print what the cluster is like'), add)
    _add_set(group('set', 'change the cluster'), add)
    _add_changes(commands, add)
    _add_unavailable(commands, add)
    add(commands, 'stop', _stop, 'end what is in progress and stop all nodes')


def _add_print(what, add):
    add(what, 'cluster', _print('cluster'), 'the state of the cluster')
    sub = add(what, 'node', _print_node,
              'a line per node: id | kind | address | state | name | machine (if it was given'
              ' one) | what is wrong')
    sub.add_argument('type', nargs='?', metavar='TYPE', type=str.lower, choices=KINDS,
                     help=' or '.join(KINDS))
    sub = add(what, 'pt', _print_pt, 'the partition table, a line per storage: U up to date, O out'
              ' of date, F feeding, C corrupted')
    sub.add_argument('min', nargs='?', type=number, metavar='MIN', default=0, help='first row')
    sub.add_argument('max', nargs='?', type=number, metavar='MAX', help='last row')
    sub.add_argument('node', nargs='?', type=node, metavar='NODE', help='this storage only')
    add(what, 'ids', _print('ids'), 'how far ids have got')
    add(what, 'primary', _print('primary'), 'the id of the primary master')
    add(what, 'summary', _print('summary'), 'the most important of all this')


def _add_set(what, add):
    sub = add(what, 'cluster', _set_cluster, 'the state: RUNNING or STOPPING')
    sub.add_argument('state', type=cluster_state, metavar='STATE')
    sub = add(what, 'replicas', _set_replicas, 'how many copies of each row are wanted beside the'
              ' first one; `tweak` makes them, or removes them')
    sub.add_argument('replicas', type=number, metavar='N')


def _add_changes(commands, add):
    sub = add(commands, 'add', _add, 'let storages that wait (PENDING) belong to the cluster, first'
              ' without any rows: `tweak` gives them some')
    sub.add_argument('nodes', nargs='+', type=node_or_all, metavar='NODE', help='or: all')
    sub = add(commands, 'tweak', _tweak, 'spread the rows evenly over the storages that run; who is'
              ' down keeps what it has and does not count')
    sub.add_argument('-n', action='store_true', dest='dry_run', help='only show what would be done')
    sub.add_argument('nodes', nargs='*', type=node, metavar='NODE',
                     help='about to be dropped: what it has is copied elsewhere')
    sub = add(commands, 'drop', _drop, 'remove a storage from the cluster; if it runs, it ends')
    sub.add_argument('node', type=node, metavar='NODE')
    sub = add(commands, 'check', _check, 'compare the copies of rows in the background, and repair'
              ' those that are not what REFERENCE, or most of them, are; up to what is committed by'
              ' now, or within the given TIDs')
    sub.add_argument('arguments', nargs='+', type=_check_argument, metavar='ARGUMENT',
                     help='[PARTITION]:[REFERENCE]… [MIN_TID [MAX_TID]]; `:` is all rows')
    sub = add(commands, 'truncate', _truncate, 'bring the whole cluster back to a tid: all that was'
              ' committed after it is removed, for good, without a question')
    sub.add_argument('tid', type=tid_to_keep, metavar='TID',
                     help='tid:0x…, tid:N, or a UNIX timestamp')
    sub = add(commands, 'kill', _kill, 'end the process of a storage or of an admin node')
    sub.add_argument('node', type=node, metavar='NODE')


def _add_unavailable(commands, add):
    """What comes later is known, so that it is refused for what it is."""
    _add_later(commands, add, 'flush_log')


def _add_later(to, add, name, whole=None):
    return add(to, name, _later(whole or name))


def _check_argument(text):
    return tid(text) if text.startswith('tid:') or ':' not in text else reference(text)
