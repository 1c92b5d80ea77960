"""What neoctl prints, from the description of a cluster: lines for people, data for programs."""
from ..cluster import balance
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
    """None while none of several masters is it: who tells is only the one that was found."""
    masters = [info for info in description.nodes if info.kind == NodeKind.MASTER]
    if description.state == ClusterState.RECOVERING and len(masters) > 1:
        return None
    return description.primary


def primary_lines(description):
    found = primary(description)
    if found is None:
        raise Nothing('no master is the primary: the cluster is RECOVERING, %s'
                      % description.reason)
    return [found]


# -- nodes --------------------------------------------------------------------------------------
def nodes(description, kind=None):
    return [{'id': info.id, 'kind': NodeKind(info.kind).name.lower(),
             'address': readable(info.address) if info.address else None,
             'state': NodeState(info.state).name, 'name': info.name,
             'topology': info.topology or None,
             'condition': info.condition or condition_of_master(description, info)}
            for info in description.nodes if kind in (None, info.kind)]


def condition_of_master(description, info):
    """Where others have state files, one was forgotten, or lost."""
    voters = description.table.masters if description.table is not None else ()
    forgotten = (info.kind == NodeKind.MASTER and info.state == NodeState.RUNNING and voters
                 and info.id not in voters)
    return 'it has no vote, without --state' if forgotten else ''


def node_lines(description, kind=None):
    return aligned([without_end((
        node['id'], node['kind'], node['address'], node['state'], node['name'],
        label_of(node), node['condition'])) for node in nodes(description, kind)])


def label_of(node):
    """Of its machine, if that is not the host of its address anyway."""
    label, host = node['topology'], (node['address'] or '').rpartition(':')[0].strip('[]')
    return label if label and label != host else None


def without_end(cells):
    """A dash for what is not there, but for what nothing follows."""
    last = max(place for place, cell in enumerate(cells) if cell)
    return [cell or '-' * (place < last) for place, cell in enumerate(cells)]


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


def may_lose(description):
    """How many storages and machines may still be lost; None: there is nothing to be lost."""
    if description.table is None or description.state != ClusterState.RUNNING:
        return None
    homes = {info.id: info.topology for info in description.nodes
             if info.kind == NodeKind.STORAGE and info.state == NodeState.RUNNING}
    storages, machines = balance.may_lose(PartitionTable.unpack(description.table), homes)
    return {'storages': storages, 'machines': machines} if storages >= 0 else None


def filling(description):
    """Of each storage with out-of-date rows how many, and how far it has come."""
    if description.table is None:
        return []
    table = PartitionTable.unpack(description.table)
    states = {info.id: NodeState(info.state) for info in description.nodes}
    progress = {it.storage: it for it in description.filling}
    return [{'id': id, 'state': states.get(id, NodeState.UNKNOWN).name,
             'rows': len(table.out_of_date[id]),
             'bytes': progress[id].bytes if id in progress else None,
             'seconds': progress[id].seconds if id in progress else None}
            for id in table.storages() if id in table.out_of_date]


def filling_text(found):
    text = '%s: %s out of date' % (found['id'], count(found['rows'], 'row'))
    if found['state'] != 'RUNNING':
        return text + ', and it is ' + found['state']
    if found['bytes'] is not None:
        text += ', %.1f MiB are copied' % (found['bytes'] / 2 ** 20)
    return text + (', about %s left' % duration(found['seconds'])
                   if found['seconds'] is not None else '')


def count(number, noun):
    return '%d %s%s' % (number, noun, 's' * (number != 1))


def duration(seconds):
    """For people: `50 s`, `12 min`, `3 h 5 min`."""
    if seconds < 60:
        return '%d s' % seconds
    hours, minutes = divmod(seconds // 60, 60)
    return '%d h %d min' % (hours, minutes) if hours else '%d min' % minutes


def summary(description):
    found = nodes(description)
    storages = [node for node in found if node['kind'] == 'storage']
    return {'cluster': description.cluster, 'state': state_of(description),
            'reason': description.reason, 'primary': primary(description),
            'storages': len(storages),
            'storages_running': sum(node['state'] == 'RUNNING' for node in storages),
            'storages_pending': sum(node['state'] == 'PENDING' for node in storages),
            'clients': sum(node['kind'] == 'client' for node in found),
            'partitions': description.partitions,
            'replicas': description.table[2] if description.table else None,
            'may_lose': may_lose(description),
            'filling': filling(description),
            'last_tid': last(description, description.last_tid),
            'last_time': moment(description.last_tid),
            'trouble': {node['id']: node['condition'] for node in found if node['condition']}}


def summary_lines(description):
    found = summary(description)
    found['storages'] = '%d, of which %d running' % (
        found['storages'], found.pop('storages_running'))
    pending = found.pop('storages_pending')
    if pending and description.table is not None:       # else none is added one by one
        found['storages'] += ', %d not added (neoctl add)' % pending
    found['state'] += ': ' + found['reason'] if found['reason'] else ''
    del found['reason']
    lose = found['may_lose']
    if lose is not None:
        found['may_lose'] = ', '.join('any ' + count(lose[noun + 's'], noun) if lose[noun + 's']
                                      else 'no ' + noun for noun in ('storage', 'machine'))
    extra = [('filling', filling_text(one)) for one in found.pop('filling')]
    extra += [('trouble', '%s: %s' % item) for item in found.pop('trouble').items()]
    return ['%-10s %s' % (name, '-' if value is None else value)
            for name, value in (*found.items(), *extra)]
