"""What happens to the processes and to the hosts of stress.py."""
import signal
import time

from .copies import incomplete

# The others of three machines go on within about 9 s: they notice after 5, and give who is away 3
# to come back.  The rest is for a busy machine.
GO_ON = 20.0


def primary_host(cluster):
    """Where the primary of a cluster that runs is."""
    found = cluster.describe()
    name, = [info.name for info in found.nodes if info.id == found.primary]
    return cluster.machine([daemon.name for daemon in cluster.master_daemons].index(name) + 1)


class Fault:
    """`strike()` happens to some victims, and after `seconds` it is over: `heal()`."""

    def __init__(self, stress, victims, seconds):
        self.stress, self.victims, self.seconds = stress, victims, seconds

    def __str__(self):
        return '%s %s, for %.1f s' % (
            self.what, ' '.join(victim.name for victim in self.victims), self.seconds)


class Kill(Fault):
    what = 'kill -9'

    def strike(self):
        self.stress.cluster.kill(*self.victims)

    def heal(self):
        self.stress.cluster.start(self.victims)


class Stop(Kill):
    """As an operator does it."""

    what = 'SIGTERM'

    def strike(self):
        for victim in self.victims:
            victim.terminate()
        for victim in self.victims:
            status = victim.wait()
            assert status == 0, '%s ended with status %s\n%s' % (victim, status, victim.tail(50))


class Freeze(Fault):
    what = 'SIGSTOP'

    def strike(self):
        for victim in self.victims:
            victim.signal(signal.SIGSTOP)

    def heal(self):
        for victim in self.victims:
            victim.signal(signal.SIGCONT)


class KillClients(Fault):
    what = 'kill -9'

    def strike(self):
        for victim in self.victims:
            victim.kill()
            victim.start()

    def heal(self):
        pass


class Cut(Fault):
    """What these hosts send to those others is lost, or what they send to them, or both."""

    LINKS = {
        'cut off': lambda host, other: [(host, other), (other, host)],
        'deafen': lambda host, other: [(other, host)],
        'silence': lambda host, other: [(host, other)],
    }

    def __init__(self, stress, how, victims, others, seconds):
        super().__init__(stress, victims, seconds)
        self.what, self.others = how, others

    def __str__(self):
        return '%s, for %s' % (super().__str__(), ' '.join(other.name for other in self.others))

    def strike(self):
        self.stress.network.cut([link for victim in self.victims for other in self.others
                                 for link in self.LINKS[self.what](victim, other)])

    def heal(self):
        self.stress.network.cut([])


class Isolate(Cut):
    """Who is at other hosts goes on, if nothing else was wrong, and nobody at these does: elsewhere
    there are most machines, or half of them with the reigning primary."""

    def __init__(self, stress, how, victims, seconds):
        super().__init__(stress, how, victims, stress.network.others(*victims), seconds)
        self._counts = None             # of who is there, once all others have gone on

    def strike(self):
        whole = not incomplete(self.stress.cluster) and self._others_can()
        super().strike()
        if whole:
            began = time.monotonic()
            self.stress.bank.wait_everybody(self._clients(False), GO_ON)
            self.stress.say('the others go on, %.1f s after that' % (time.monotonic() - began))
            self._counts = self._here()

    def _others_can(self):
        return (len(self.stress.network.hosts) > 2
                or primary_host(self.stress.cluster) not in self.victims)

    @property
    def others_went_on(self):
        return self._counts is not None

    def heal(self):
        if self.others_went_on:
            assert self._counts == self._here(), 'two halves commit'
        super().heal()

    def _clients(self, here):
        """Those at this host, or those elsewhere, by their numbers."""
        machine, victims = self.stress.cluster.machine, self.victims
        return [number for number in range(len(self.stress.bank.clients))
                if (machine(number + 1) in victims) == here]

    def _here(self):
        counts = self.stress.bank.counts()
        return [counts[number] for number in self._clients(True)]


class Together(Fault):
    """Faults of which each may begin while others go on."""

    def __init__(self, stress, faults):
        super().__init__(stress, [], max(fault.seconds for fault in faults))
        self.faults = faults

    def __str__(self):
        return '; '.join(map(str, self.faults))

    def strike(self):
        for fault in self.faults:
            fault.strike()

    def heal(self):
        for fault in self.stress.random.sample(self.faults, len(self.faults)):
            fault.heal()
