"""What neoctl prints, from the description of a cluster: lines for people, data for programs."""
from ..cluster.addresses import readable
from ..cluster.ids import moment, node_order
from ..cluster.partition_table import PartitionTable
from ..protocol.types import ClusterState, NodeKind, NodeState

LETTERS = {NodeState.RUNNING: 'R', NodeState.DOWN: 'D', NodeState.PENDING: 'P',
           NodeState.UNKNOWN: 'U'}


class Nothing(Exception):
    """What was asked for is not there; the message says why."""


def state_of(description):
    return ClusterState(description.state).name


# -- cluster, primary ---------------------------------------------------------------------------
def cluster(description):
    return {'state': state_of(description), 'reason': description.reason}


def cluster_lines(description):
    return [state_of(description)]


def primary(description):
    return description.primary


def primary_lines(description):
    return [primary(description)]


# -- nodes --------------------------------------------------------------------------------------
def nodes(description, kind=None):
    return [{'id': info.id, 'kind': NodeKind(info.kind).name.lower(),
             'address': readable(info.address) if info.address else None,
             'state': NodeState(info.state).name, 'name': info.name,
             'condition': info.condition}
            for info in description.nodes if kind in (None, info.kind)]


def node_lines(description, kind=None):
    return aligned([(node['id'], node['kind'], node['address'] or '-', node['state'],
                     node['name'] or ('-' if node['condition'] else ''), node['condition'])
                    for node in nodes(description, kind)])


def aligned(rows):
    widths = [max(map(len, column)) for column in zip(*rows)]
    return [' | '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip(' |')
            for row in rows]


# -- partition table ----------------------------------------------------------------------------
def pt(description, first=0, last=None, node=None):
    """Rows `first` to `last`, both included; of one storage only with `node`."""
    if description.table is None:
        raise Nothing('there is no partition table yet: the cluster is %s%s' % (
            state_of(description), description.reason and ', ' + description.reason))
    table = PartitionTable.unpack(description.table)
    last = table.partitions - 1 if last is None else last
    if not first <= last < table.partitions:
        raise Nothing('there are no rows %d to %d: the table has rows 0 to %d'
                      % (first, last, table.partitions - 1))
    states = {info.id: NodeState(info.state) for info in description.nodes
              if info.kind == NodeKind.STORAGE}
    storages = sorted({*table.storages(), *states}, key=node_order)
    if node is not None:
        if node not in storages:
            raise Nothing('there is no storage %s' % node)
        storages = [node]
    return {'ptid': table.ptid, 'replicas': table.replicas, 'partitions': table.partitions,
            'first': first, 'storages': [
                {'id': storage, 'state': states.get(storage, NodeState.UNKNOWN).name,
                 'cells': table.letters(storage)[first:last + 1]} for storage in storages]}


def pt_lines(description, first=0, last=None, node=None):
    table = pt(description, first, last, node)
    width = max(len(storage['id']) for storage in table['storages'])
    return ['# ptid: %(ptid)d, replicas: %(replicas)d' % table] + [
        '%s %s %s' % (storage['id'].ljust(width), LETTERS[NodeState[storage['state']]],
                      storage['cells']) for storage in table['storages']]


# -- what is or would be done -----------------------------------------------------------------
def tweak(answer):
    table = PartitionTable.unpack(answer.table)
    return {'message': answer.message, 'ptid': table.ptid, 'replicas': table.replicas,
            'storages': [{'id': storage, 'cells': table.letters(storage)}
                         for storage in table.storages()]}


def tweak_lines(answer):
    found = tweak(answer)
    width = max(len(storage['id']) for storage in found['storages'])
    return ['%s %s' % (storage['id'].ljust(width), storage['cells'])
            for storage in found['storages']] + [found['message']]


# -- ids, summary -----------------------------------------------------------------------------
def ids(description):
    table = description.table
    return {'ptid': table[1] if table else None,
            'last_oid': last(description, description.last_oid),
            'last_tid': last(description, description.last_tid),
            'last_time': moment(description.last_tid),
            'cluster_id': description.cluster_id and description.cluster_id.hex()}


def last(description, id):
    """None if it is not known: a primary knows it while it serves, and it is 0 in a new cluster."""
    serves = description.state == ClusterState.RUNNING and not description.reason
    return '0x%016x' % id if id or serves else None


def ids_lines(description):
    found = ids(description)
    when = found.pop('last_time')
    if when:
        found['last_tid'] += ' (%s)' % when
    return ['%s = %s' % (name, '-' if value is None else value) for name, value in found.items()]


def summary(description):
    found = nodes(description)
    storages = [node for node in found if node['kind'] == 'storage']
    return {'cluster': description.cluster, 'state': state_of(description),
            'reason': description.reason, 'primary': description.primary,
            'storages': len(storages),
            'storages_running': sum(node['state'] == 'RUNNING' for node in storages),
            'clients': sum(node['kind'] == 'client' for node in found),
            'partitions': description.partitions,
            'replicas': description.table[2] if description.table else None,
            'last_tid': last(description, description.last_tid),
            'last_time': moment(description.last_tid),
            'trouble': {node['id']: node['condition'] for node in found if node['condition']}}


def summary_lines(description):
    found = summary(description)
    found['storages'] = '%d, of which %d running' % (
        found['storages'], found.pop('storages_running'))
    found['state'] += ': ' + found['reason'] if found['reason'] else ''
    del found['reason']
    trouble = ['%s: %s' % item for item in found.pop('trouble').items()]
    return ['%-10s %s' % (name, '-' if value is None else value)
            for name, value in (*found.items(), *(('trouble', one) for one in trouble))]
