"""What a seed chooses of the cluster: its shape, and how much is done at once."""
from ..protocol.limits import Amounts

# In a small run, nothing is ever large: the amounts shrink, so that transactions are spilled, sent
# in several batches, wait for a window, and answers come in chunks.
SHRUNK = {
    'store_batch': (1, 200, 2_000),
    'store_batch_records': (1, 2, 5),
    'pending_in_memory': (0, 200, 2_000),
    'current_tids': (0, 1, 4),
    'chunk': (1, 300, 3_000),
    'chunk_rows': (1, 2, 7),
    'fill_chunk': (1, 300, 3_000),
    'fill_rows': (1, 2, 7, 30),
    'ttids_ahead': (1, 2, 5),
    'oids_ahead': (1, 2, 5),
    'oids_reserved': (1, 3, 30),
}


def choose_cluster(rnd):
    """Options of `Simulation`."""
    storages = rnd.choice([1, 2, 2, 3, 3, 3, 4, 5])
    replicas = rnd.randint(0, min(2, storages - 1))
    # Storages that come after the cluster was created have no part in it before they are added.
    autostart = rnd.randint(replicas + 1, storages) if rnd.random() < .2 else storages
    masters = rnd.choice([1, 1, 2, 3, 3])
    return {'storages': storages, 'replicas': replicas, 'autostart': autostart,
            'partitions': rnd.randint(1, 12), 'clients': rnd.randint(1, 4),
            'amounts': choose_amounts(rnd), 'stray': rnd.random() < .15,
            'masters': masters, 'stateful': choose_stateful(rnd, masters)}


def choose_stateful(rnd, masters):
    """Names of those that have a state file: none, most often all, or some."""
    chance = rnd.choice([0, .5, 1, 1])
    return ['M%d' % number for number in range(1, masters + 1) if rnd.random() < chance]


def choose_amounts(rnd):
    """All as they are for real, or some of them, or most."""
    chance = rnd.choice([0, .3, .8])
    amounts = Amounts(**{name: rnd.choice(values) for name, values in SHRUNK.items()
                         if rnd.random() < chance})
    # What waits for room in the window is not sent before a batch is full: it holds one at least.
    return amounts._replace(store_window=amounts.store_batch * rnd.choice([1, 3, 30]))
