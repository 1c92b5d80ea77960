"""Virtual time: what happens when, and a hash over all of it."""
import heapq
from hashlib import blake2b


class Scheduler:
    """Calls functions at virtual times, in seconds from 0; at equal times, in the order they were
    asked for.  Nothing else decides about order, so a seed replays exactly."""

    def __init__(self):
        self.now = 0.0
        self.count = 0              # calls made so far
        self._order = 0
        self._heap = []

    def at(self, time, function, *args):
        """Call `function(*args)` at `time`; give what `cancel` takes."""
        self._order += 1
        entry = [max(time, self.now), self._order, function, args]
        heapq.heappush(self._heap, entry)
        return entry

    def after(self, delay, function, *args):
        return self.at(self.now + delay, function, *args)

    @staticmethod
    def cancel(entry):
        entry[2] = None

    def run(self, until, stop=None):
        """Go on until the time `until`, or until `stop()` is true: then return True."""
        heap = self._heap
        if stop is not None and stop():
            return True
        while heap and heap[0][0] <= until:
            self.now, _, function, args = heapq.heappop(heap)
            if function is not None:
                self.count += 1
                function(*args)
                if stop is not None and stop():
                    return True
        self.now = max(self.now, until)
        return False


class Trace:
    """Everything that happens, as lines: hashed always, shown if somebody wants to read them."""

    def __init__(self, scheduler, show=None):
        self._scheduler = scheduler
        self._hash = blake2b(digest_size=16)
        self.show = show            # function(line) or None

    def note(self, line, shown=None):
        """`shown`, if given, is shown and not hashed: something that is dear to print."""
        line = '%.6f %s' % (self._scheduler.now, line)
        self._hash.update(line.encode())
        if self.show is not None:
            self.show(line if shown is None else '%s %s' % (line, shown))

    def bytes(self, data):
        """Part of the hash, too long to be read."""
        self._hash.update(data)

    def digest(self):
        return self._hash.hexdigest()
