"""The language of neo/tests/conversations: what is done, and below it what comes of it.

A file is made of blocks with an empty line between them.  Lines that begin with `#` are for the
reader.  Each other line is a command; `----` ends the commands of a block, and what follows is the
trace that they have to give: each message once it arrives, each commit of a database, and what
applications are told.  `pytest --rewrite` writes it anew.

    cluster masters=1 storages=2 replicas=1 partitions=2 clients=1   start one, without a trace
    master M1 autostart=2   storage S1   admin A1   client C1   declare nodes, with options
    start S1                run a node that was declared, or killed
    kill S1                 kill -9: what was not committed is lost
    cut C1 S1               lose the connections between two
    hold S1                 let no message come to S1, …
    hold M1->S1 Lock        …or none from M1 once there is one of this kind,
    release M1->S1 Lock     until this
    pass 3                  let seconds go by
    save S1, restore S1     copy the disk of a killed storage; put the copy back
    disk S1 100000          so many bytes are left on its disk
    logs                    show what nodes log, from here on

    C1 begin a              a transaction is called `a`, its tid `A`
    C1 store a 1=x 2=y      objects and their data, made from what the client knows or can load…
    C1 store a 1=x from B   …or from that revision (0: a new object)
    C1 check a 1            what was read is still current
    C1 vote a, C1 finish a, C1 abort a
    C1 commit a 1=x         all of these
    C1 load 1, C1 load 1 before A
    C1 sync
    C1 import a 5=x 6=y     a transaction with a tid of its own, one minute ahead
    A1 print node           what neoctl prints; also `print cluster`, `print ids`…
    A1 start, A1 stop       what neoctl start and stop do
    A1 order tweak -n       what any other command of neoctl does

With `quietly` before it, a command leaves no trace.
"""
import argparse

from neo.admin.node import Admin
from neo.client.core.client import Client
from neo.client.exception import NoObject
from neo.cluster.ids import tid_at
from neo.ctl.commands import add_commands
from neo.ctl.node import Ctl
from neo.ctl.show import Nothing
from neo.master.node import Master
from neo.protocol.checksum import checksum
from neo.protocol.types import MAX_TID, Compression, Record
from neo.storage.engine.memory import MemoryEngine
from neo.storage.node import Storage

from .stage import Stage

CLUSTER = 'test'
MASTERS = [('m1', 10000)]
METADATA = ' ', b'', b'', b''


class Script:
    """Runs the commands of one file."""

    def __init__(self):
        self.stage = Stage()
        self.masters = list(MASTERS)
        self.transactions = {}      # name -> Transaction of a client
        self.serials = {}           # (client, oid) -> tid that it has read last

    def run(self, line):
        """Run one command, and all that comes of it."""
        words = line.split()
        length = len(self.stage.trace)
        quietly = words[0] == 'quietly'
        if quietly:
            del words[0]
        if len(words) > 1 and hasattr(self, words[0][0].lower() + '_' + words[1]):
            getattr(self, words[0][0].lower() + '_' + words[1])(words[0], *words[2:])
        else:
            getattr(self, 'do_' + words[0])(*words[1:])
        self.stage.settle()
        if quietly or words[0] == 'cluster':
            del self.stage.trace[length:]

    # -- the stage --------------------------------------------------------------------------
    def do_cluster(self, *words):
        options = {name: int(value) for name, _, value in (w.partition('=') for w in words)}
        storages = options.pop('storages', 1)
        clients, admins = options.pop('clients', 1), options.pop('admins', 0)
        names = ['M%d' % (i + 1) for i in range(options.pop('masters', 1))]
        self.masters = [(name.lower(), 10000) for name in names]
        for name in names:
            self.do_master(name, 'autostart=%d' % storages, *('%s=%d' % o for o in options.items()))
        for kind, count in (('storage', storages), ('admin', admins), ('client', clients)):
            for i in range(1, count + 1):
                names.append('%s%d' % (kind[0].upper(), i))
                getattr(self, 'do_' + kind)(names[-1])
        for name in names:
            self.stage.start(name)
            self.stage.settle()
        if len(self.masters) > 1:
            self.do_pass(3)

    def do_master(self, name, *words):
        options = dict(partitions=1) | self._options(words)
        address = name.lower(), 10000
        self.stage.add(name, address, lambda engine, rnd: Master(
            rnd, CLUSTER, address, masters=self.masters, **options))

    def do_storage(self, name, *words):
        address = name.lower(), 10000
        self.stage.add(name, address, lambda engine, rnd: Storage(
            rnd, engine, CLUSTER, self.masters, address, **self._options(words)), MemoryEngine())

    def do_admin(self, name):
        address = name.lower(), 10000
        self.stage.add(name, address, lambda engine, rnd: Admin(
            rnd, CLUSTER, self.masters, address))

    def do_client(self, name, *words):
        self.stage.add(name, None, lambda engine, rnd: Client(
            rnd, CLUSTER, self.masters, **self._options(words)))

    @staticmethod
    def _options(words):
        return {name: int(value) for name, _, value in (word.partition('=') for word in words)}

    def do_start(self, *names):
        for name in names:
            self.stage.start(name)
            self.stage.settle()

    def do_kill(self, *names):
        for name in names:
            self.stage.leave(name)

    def do_cut(self, one, other):
        self.stage.cut(one, other)

    def do_hold(self, *words):
        self.stage.hold(*words)

    def do_release(self, *words):
        self.stage.release(*words)

    def do_pass(self, seconds):
        self.stage.wait(float(seconds))

    def do_save(self, name):
        self.stage.save(name)

    def do_restore(self, name):
        self.stage.restore(name)

    def do_disk(self, name, free):
        self.stage.limit_disk(name, int(free))

    def do_logs(self):
        self.stage.with_logs = True

    # -- applications -----------------------------------------------------------------------
    def _operation(self, client, method, *arguments):
        actor = self.stage.actors[client]
        actor.node.now = actor.now = self.stage.now
        operation = getattr(actor.node, method)(*arguments)
        actor.act()
        return operation

    def _tell(self, client, what, operation, words):
        """Once it has ended, say so: `words(result)`."""
        def ended():
            if operation.done:
                error = operation.error
                became = words(operation.result) if error is None else '%s: %s' % (
                    type(error).__name__, error)
                self.stage.note('%s %s: %s' % (client, what, became))
            return operation.done
        if not ended():
            self.stage.actors[client].watched.append(ended)

    def c_begin(self, client, name):
        operation = self._operation(client, 'begin')
        assert operation.done, operation
        self.transactions[name] = operation.result
        self.stage.names.name(operation.result.ttid, name)

    def c_store(self, client, name, *words):
        base = None
        if 'from' in words:
            *words, _, base = words
            base = self.stage.names.number(base)
        for word in words:
            oid, data = word.split('=')
            self._store(client, name, int(oid), data, base)

    def _store(self, client, name, oid, data, base):
        if base is None:
            base = self._known(client, oid)
        operation = self._operation(client, 'store', self.transactions[name],
                                    record(oid, base, data))
        if not operation.done or operation.error:
            self._tell(client, 'stores %d in %s' % (oid, name), operation, lambda result: 'done')

    def _known(self, client, oid):
        """The serial that a ZODB connection would have; without a trace."""
        if (client, oid) not in self.serials:
            length = len(self.stage.trace)
            loading = self._operation(client, 'load_before', oid, MAX_TID)
            self.stage.settle()
            del self.stage.trace[length:]
            assert loading.done, 'object %d can not be loaded' % oid
            if loading.error is not None and not isinstance(loading.error, NoObject):
                raise loading.error
            self.serials[client, oid] = loading.result[0] if loading.error is None else 0
        return self.serials[client, oid]

    def c_check(self, client, name, *oids):
        for oid in map(int, oids):
            self._operation(client, 'check', self.transactions[name], oid,
                            self._known(client, oid))

    def c_vote(self, client, name):
        self._tell(client, 'votes %s' % name, self._operation(
            client, 'vote', self.transactions[name], METADATA), self._conflicts)

    def _conflicts(self, conflicts):
        return 'conflicts: %s' % ', '.join('%d of %s is of %s now' % (
            oid, self.stage.names(base), self.stage.names(serial))
            for oid, base, serial, _ in conflicts) if conflicts else 'done'

    def c_finish(self, client, name):
        transaction = self.transactions[name]

        def finished(tid):
            self.stage.names.has_tid(transaction.ttid, tid)
            self.serials.update({(client, oid): tid for oid in transaction.records})
            return 'committed as %s' % self.stage.names(tid)
        self._tell(client, 'finishes %s' % name, self._operation(client, 'finish', transaction),
                   finished)

    def c_abort(self, client, name):
        self._operation(client, 'abort', self.transactions[name])

    def c_commit(self, client, name, *words):
        self.c_begin(client, name)
        self.stage.settle()
        self.c_store(client, name, *words)
        self.c_vote(client, name)
        self.stage.settle()
        self.c_finish(client, name)

    def c_load(self, client, oid, *words):
        oid, names = int(oid), self.stage.names
        before = names.number(words[1]) if words else MAX_TID

        def loaded(found):
            self.serials[client, oid] = found[0]
            return '%s of %s' % (self.stage.words.data(found[4]), names(found[0]))
        self._tell(client, 'loads %d' % oid, self._operation(client, 'load_before', oid, before),
                   loaded)

    def c_sync(self, client):
        self._tell(client, 'syncs', self._operation(client, 'sync'), lambda tid: (
            'the last one is %s' % self.stage.names(tid)))

    def c_import(self, client, name, *words):
        tid = tid_at(self.stage.now + 60)
        self.stage.names.name(tid, name.upper())
        records = [record(int(oid), None, data, tid)
                   for oid, _, data in (word.partition('=') for word in words)]
        operation = self._operation(client, 'import_batch', [(tid, *METADATA, records)])
        self._tell(client, 'imports %s' % name, operation, self.stage.names)

    # -- operators --------------------------------------------------------------------------
    def _ctl(self, admin, *words):
        grammar = argparse.ArgumentParser()
        add_commands(grammar, argparse.ArgumentParser(add_help=False))
        options = grammar.parse_args(words)
        command = options.make(options)
        address = admin.lower(), 10000
        name = 'neoctl'
        self.stage.add(name, None, lambda engine, rnd: Ctl(rnd, address, command.request))

        def left(ctl):
            try:
                lines = [ctl.failure] if ctl.failure else command.show(ctl.result)
            except Nothing as nothing:
                lines = [str(nothing)]
            for line in lines:
                self.stage.note('neoctl | ' + line)
        self.stage.start(name, left)

    def a_print(self, admin, *words):
        self._ctl(admin, 'print', *words)

    def a_order(self, admin, *words):
        """`tid:A` is the tid with that name."""
        number = self.stage.names.number
        self._ctl(admin, *['tid:%d' % number(word[4:]) if word.startswith('tid:') else word
                           for word in words])

    def a_start(self, admin):
        self._ctl(admin, 'start')

    def a_stop(self, admin):
        self._ctl(admin, 'stop')


def record(oid, base, data, tid=None):
    data = data.encode()
    return Record(oid, base, tid, Compression.NONE, checksum(data), data, None)


# -- files ------------------------------------------------------------------------------------
MARK = '----'


def rewritten(text):
    """The text of a file, with the traces that its commands give now."""
    script, lines, expected = Script(), [], False
    for line in text.splitlines() + ['']:
        if not line.strip():
            if expected or not lines or lines[-1]:
                lines.append('')
            expected = False
        elif line == MARK:
            expected = True
            lines.append(MARK)
            lines += script.stage.trace
            script.stage.trace.clear()
        elif not expected:
            lines.append(line)
            if line[0] != '#':
                script.run(line)
    return '\n'.join(lines).rstrip() + '\n'
