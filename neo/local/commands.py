"""Command lines that work when they are pasted into a shell of this machine."""
import json
import os
import shlex
import subprocess
import sys

from .process import ROOT

PYTHON = ('import ZODB, transaction; from neo.client.Storage import Storage; '
          'root = ZODB.DB(Storage(master_nodes=%s, name=%s)).open().root()')


def installed():
    """Does this interpreter find this very package without being told where it is?"""
    found = subprocess.run(
        [sys.executable, '-I', '-c', 'import neo; print(*neo.__path__)'], cwd='/',
        capture_output=True, text=True)
    return found.stdout.strip() == str(ROOT / 'neo')


def python(masters, name):
    """An interactive Python with the root of the database."""
    return _line([] if installed() else ['PYTHONPATH=%s' % ROOT],
                 sys.executable, '-i', '-c',
                 PYTHON % tuple(json.dumps(text, ensure_ascii=False) for text in (masters, name)))


def neoctl(admin, *arguments):
    return _line(_neoctl(), '-a', str(admin), *arguments)


def _neoctl():
    script = os.path.join(os.path.dirname(sys.executable), 'neoctl')
    if installed() and os.access(script, os.X_OK):
        return [script]
    return [sys.executable, str(ROOT / 'neoctl')]


def _line(first, *rest):
    return ' '.join([*first, *map(shlex.quote, rest)])
