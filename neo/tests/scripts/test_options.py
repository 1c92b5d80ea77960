"""Options of the daemons: command line over section over [DEFAULT] over what is built in."""
import os
import re
import socket
from configparser import ConfigParser
from pathlib import Path

import pytest

from neo import __version__
from neo.runtime.addresses import ListenError
from neo.scripts import checks, neomaster, neostorage, options
from neo.scripts.options import ADMIN, DAEMONS, MASTER, STORAGE, UsageError, read
from neo.storage import engine
from neo.storage.engine.interface import EngineError

NEO_CONF = Path(__file__).parents[3] / 'neo.conf'
BASE = ['-c', 'test']


def parsed(daemon, *arguments):
    return read(daemon, '', list(arguments))


def refused(daemon, *arguments):
    with pytest.raises(UsageError) as info:
        parsed(daemon, *arguments)
    assert '\n' not in str(info.value)
    return str(info.value)


@pytest.fixture
def conf(tmp_path):
    def write(text):
        path = tmp_path / 'x.conf'
        path.write_text(text)
        return str(path)
    return write


# -- defaults and the command line ----------------------------------------------------------
def test_defaults():
    master, storage, admin = (parsed(daemon, *BASE) for daemon in DAEMONS)
    assert master.bind == ('127.0.0.1', 10000)
    assert storage.bind == ('127.0.0.1', 0)
    assert admin.bind == ('127.0.0.1', 9999)
    for found in master, storage, admin:
        assert found.masters == [('127.0.0.1', 10000)]
        assert found.cluster == 'test' and found.verbose is False and found.logfile is None
    assert (master.name, storage.name, admin.name) == ('master', 'storage', 'admin')
    assert master.replicas is None and master.partitions is None    # the node has its defaults


@pytest.mark.parametrize('daemon, arguments, key, value', [
    (MASTER, ['--masters=a.example:1'], 'masters', [('a.example', 1)]),
    (MASTER, ['--masters', '[::1]:10'], 'masters', [('::1', 10)]),
    (MASTER, ['-m', 'h:1'], 'bind', ('h', 1)),
    (MASTER, ['-m', 'h:1', '-b', '0.0.0.0'], 'bind', ('0.0.0.0', 10000)),
    (STORAGE, ['-m', 'h:1'], 'bind', ('127.0.0.1', 0)),
    (STORAGE, ['-b', 'me:7'], 'bind', ('me', 7)),
    (STORAGE, ['--bind', '[::1]'], 'bind', ('::1', 0)),
    (ADMIN, ['-b', '[fe80::1%eth0]:5'], 'bind', ('fe80::1%eth0', 5)),
    (STORAGE, ['-n', 'left rack'], 'name', 'left rack'),
    (STORAGE, ['-l', '/tmp/x'], 'logfile', '/tmp/x'),
    (STORAGE, ['-v'], 'verbose', True),
    (MASTER, ['-r', '2'], 'replicas', 2),
    (MASTER, ['--partitions=7'], 'partitions', 7),
    (MASTER, ['-A', '3'], 'autostart', 3),
    (STORAGE, ['-a', 'sqlite'], 'adapter', 'SQLite'),
    (STORAGE, ['--topology', 'rack 3'], 'topology', 'rack 3'),
    (STORAGE, [], 'topology', None),
    (STORAGE, ['-d', 'file:/x?cache_size=1'], 'database', 'file:/x?cache_size=1'),
    (STORAGE, ['--reset'], 'reset', True),
    (STORAGE, ['--fill-rate=2.5'], 'fill_rate', 2.5e6),
    (STORAGE, ['--fill-rate', '0'], 'fill_rate', 0),
    (ADMIN, ['--check-config'], 'check_config', True),
])
def test_command_line(daemon, arguments, key, value):
    assert getattr(parsed(daemon, *BASE, *arguments), key) == value


@pytest.mark.parametrize('daemon, arguments, said', [
    (MASTER, ['-m', 'h'], "--masters: the address 'h' has no port"),
    (MASTER, ['-m', ''], 'no address is given'),
    (MASTER, ['-m', 'h:1 h:1'], 'given twice'),
    (STORAGE, ['-m', 'h:99999'], 'above 65535'),
    (STORAGE, ['-b', 'a b'], "--bind: 'a b' is not an address"),
    (STORAGE, ['-b', '::1'], 'is not an address'),
    (STORAGE, ['-b', 'user@host:1'], 'is not an address'),
    (MASTER, ['-r', '-1'], "--replicas: '-1' is not a number from 0 to 15"),
    (MASTER, ['-p', '0'], 'from 1 to 10000'),
    (MASTER, ['-A', 'x'], 'from 1 to'),
    (STORAGE, ['-e', 'RocksDB'], '--engine is not available in this version'),
    (STORAGE, ['-w', '5'], '--wait is not available in this version'),
    (STORAGE, ['-a', 'Oracle'], "--adapter: 'Oracle' is none of SQLite, MySQL"),
    (STORAGE, ['--ca', 'f'], '--ca is not available in this version'),
    (ADMIN, ['--cert', 'f'], '--cert is not available in this version'),
    (MASTER, ['--key', 'f'], '--key is not available in this version'),
    (ADMIN, ['--http', 'h:1'], '--http is not available in this version'),
    (STORAGE, ['--fill-rate', '-1'], "--fill-rate: '-1' is not a number of megabytes"),
    (STORAGE, ['--fill-rate', 'fast'], "--fill-rate: 'fast' is not a number of megabytes"),
    (MASTER, ['--state', ''], '--state: the path of a file is expected'),
    (STORAGE, ['--database', ''], '--database: the path of a file is expected'),
    (ADMIN, ['--logfile', ''], '--logfile: the path of a file is expected'),
    (STORAGE, ['--fill-rate', 'nan'], 'is not a number of megabytes'),
    (STORAGE, ['-s', 'x'], '-s x: no file is given'),
    (STORAGE, ['-n', 'a\nb'], '--name: a name of at most 255 printable characters'),
])
def test_what_is_refused(daemon, arguments, said):
    assert said in refused(daemon, *BASE, *arguments)


def test_a_cluster_needs_a_name():
    assert refused(ADMIN) == 'the name of the cluster is missing: give it with -c'
    assert '1 to 255' in refused(ADMIN, '-c', '')


@pytest.mark.parametrize('arguments, said', [
    (['--nonsense'], 'unrecognized arguments: --nonsense'),
    (['--clus=test'], 'unrecognized arguments'),
    (['extra'], 'unrecognized arguments: extra'),
    (['-c'], 'expected one argument')])
def test_a_wrong_option_is_one_line(arguments, said, capsys):
    with pytest.raises(SystemExit) as info:
        parsed(STORAGE, *arguments)
    out, err = capsys.readouterr()
    assert info.value.code == 2 and not out
    assert err.startswith('neostorage: ') and err.count('\n') == 1 and said in err


def test_version_and_help(capsys):
    for option in '--version', '--help':
        with pytest.raises(SystemExit) as info:
            parsed(MASTER, option)
        assert info.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith('neomaster %s\n' % __version__) and '--autostart' in out


# -- the file -------------------------------------------------------------------------------
def test_precedence(conf):
    file = conf('[DEFAULT]\ncluster = a\nlogfile = 1\nreplicas = 3\n'
                '[storage]\nname = s\nlogfile = 2\n[other]\nname=o\n')
    found = parsed(STORAGE, '-f', file)
    assert (found.cluster, found.name, found.logfile, found.section) == ('a', 's', '2', 'storage')
    found = parsed(STORAGE, '-f', file, '-l', '3', '-c', 'b')
    assert (found.cluster, found.logfile) == ('b', '3')
    found = parsed(STORAGE, '-f', file, '-s', 'other')
    assert (found.name, found.logfile) == ('o', '1')
    assert parsed(MASTER, '-f', file).replicas == 3         # [DEFAULT] alone is enough


def test_the_name_is_that_of_the_section(conf):
    file = conf('[storage_01]\ncluster=a\n')
    assert parsed(STORAGE, '-f', file, '-s', 'storage_01').name == 'storage_01'


def test_a_percent_sign_is_a_percent_sign(conf):
    assert parsed(STORAGE, '-f', conf('[storage]\ncluster=50%\n')).cluster == '50%'


@pytest.mark.parametrize('text, said', [
    ('[DEFAULT]\nclutser=a\n', "[DEFAULT] has the unknown key 'clutser'"),
    ('[storage]\nreplicas=1\n', "[storage] has the unknown key 'replicas'"),
    ('[storage]\nreset=yes\n', "[storage] has the unknown key 'reset'"),
    ('[storage]\nverbose=perhaps\n', "[storage] verbose: 'perhaps' is neither yes nor no"),
    ('[storage]\nengine=InnoDB\n', '[storage] engine is not available in this version'),
    ('cluster = a\n', 'no section headers'),
    ('[storage]\ncluster=a\ncluster=b\n', 'already exists'),
])
def test_a_bad_file_is_named_with_section_and_key(conf, text, said):
    file = conf(text)
    message = refused(STORAGE, *BASE, '-f', file)
    assert said in message and 'x.conf' in message


def test_a_key_of_another_section_does_not_matter(conf):
    assert parsed(STORAGE, '-f', conf('[storage]\ncluster=a\n[x]\nfoo=1\n')).cluster == 'a'


def test_files_and_sections_that_are_not_there(conf, tmp_path):
    assert refused(STORAGE, '-f', str(tmp_path / 'none')).endswith(
        'none: No such file or directory')
    assert 'Is a directory' in refused(STORAGE, '-f', str(tmp_path))
    assert refused(STORAGE, '-f', conf('[a]\n'), '-s', 'b').endswith('there is no section [b]')
    (tmp_path / 'binary').write_bytes(b'\xff\xfe\x00')
    assert 'binary: ' in refused(STORAGE, '-f', str(tmp_path / 'binary'))


# -- neo.conf -------------------------------------------------------------------------------
def commented_in():
    return re.sub(r'(?m)^#(?=[\w-]+ = )', '', NEO_CONF.read_text())


def test_the_example_names_exactly_the_keys_there_are():
    config = ConfigParser(interpolation=None)
    config.read_string(commented_in())
    named = set(config.defaults()).union(*(config[section] for section in config.sections()))
    assert named == options.KEYS


def test_the_example_works_for_each_daemon():
    file = str(NEO_CONF)
    assert parsed(MASTER, '-f', file).bind == ('127.0.0.1', 10000)
    assert parsed(ADMIN, '-f', file).bind == ('127.0.0.1', 9999)
    found = parsed(STORAGE, '-f', file, '-s', 'storage_02')
    assert found.database == './storage_02.sqlite' and found.cluster == 'test'
    neostorage.check(found)


@pytest.mark.parametrize('section, daemon', [
    ('master', MASTER), ('admin', ADMIN), ('storage', STORAGE)])
def test_what_the_example_calls_unavailable_is(conf, section, daemon):
    """Each key is in a section where its daemon knows it, and is accepted or not as it says."""
    text = commented_in()
    for paragraph in text.split('\n\n'):
        keys = re.findall(r'(?m)^(\w+) = ', paragraph)
        later = re.search(r'[Nn]ot available', paragraph) is not None
        for key in keys:
            option = next(option for option in options.OPTIONS if option.key == key)
            assert later >= option.later, key
    # With all keys commented in, a daemon complains of what is not available, not of what is
    # unknown.
    assert 'is not available' in refused(daemon, '-f', conf(text), '-s', section)


# -- what the daemons refuse ------------------------------------------------------------------
@pytest.mark.parametrize('database, mysql', [
    ('user:passwd@db', True), ('user@db/run/x.sock', True), ('db@host:3306', True),
    ('/neo/x@y.sqlite', False), ('file:x@y', False), ('./x@y', False), ('x.sqlite', False)])
def test_the_adapter_follows_from_the_database(database, mysql, tmp_path, monkeypatch):
    assert engine.adapter_of(None, database) == ('MySQL' if mysql else 'SQLite')
    monkeypatch.chdir(tmp_path)
    found = parsed(STORAGE, *BASE, '-d', database.replace('/neo', str(tmp_path)))
    if mysql:
        with pytest.raises(EngineError, match='MySQL adapter is not available in this version'):
            neostorage.check(found)
    else:
        neostorage.check(found)


def test_a_database_by_default():
    found = parsed(STORAGE, *BASE, '-n', 's1')
    neostorage.check(found)
    assert found.database == './test-s1.sqlite'


@pytest.mark.parametrize('arguments, said', [
    (['-b', '0.0.0.0'], 'no address that clients could connect to'),
    (['-n', 'a/b'], 'give --database'),
    (['-a', 'MySQL', '-d', 'db'], 'MySQL adapter is not available'),
    (['-d', 'file:x?nonsense=1'], "'file:x?nonsense=1': unknown key 'nonsense'"),
    (['-d', 'no/where/x.sqlite'], 'there is no folder'),
    (['-d', __file__], 'is not a database of NEO'),
])
def test_what_neostorage_refuses(arguments, said):
    with pytest.raises((UsageError, EngineError), match=re.escape(said)):
        neostorage.check(parsed(STORAGE, *BASE, *arguments))


def test_a_database_of_another_cluster(tmp_path):
    path = str(tmp_path / 'x.sqlite')
    database = engine.open_engine(None, path)
    database.put('cluster', 'other')
    database.commit()
    database.close()
    with pytest.raises(UsageError, match='x.sqlite belongs to cluster other, not to test'):
        neostorage.check(parsed(STORAGE, *BASE, '-d', path))


def test_several_masters():
    masters = ['-m', 'h:1, i:1']
    for daemon in STORAGE, ADMIN:
        assert parsed(daemon, *BASE, *masters).masters == [('h', 1), ('i', 1)]
    neomaster.check(parsed(MASTER, *BASE, *masters, '-b', 'i:1'))
    with pytest.raises(UsageError, match='--bind: j:1 is none of the masters, h:1 i:1'):
        neomaster.check(parsed(MASTER, *BASE, *masters, '-b', 'j:1'))


# -- --check-config -----------------------------------------------------------------------------
@pytest.mark.parametrize('arguments, said', [
    (['-l', 'no/where/x.log'], '--logfile: there is no folder no/where'),
    (['-l', '/'], '--logfile: / is a folder'),
    (['-m', 'no-such-host.invalid:1'], '--masters: no-such-host.invalid:1: '),
    (['-b', 'no-such-host.invalid:1'], 'cannot listen at no-such-host.invalid:1: '),
    (['-b', '192.0.2.1:1000'], 'cannot listen at 192.0.2.1:1000: Cannot assign'),
])
def test_what_is_seen_to_be_wrong(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, ListenError), match=re.escape(said)) as info:
        checks.check_surroundings(parsed(STORAGE, *BASE, *arguments))
    assert '\n' not in str(info.value)
    assert os.listdir(tmp_path) == []


def test_what_is_worth_knowing(tmp_path):
    log = tmp_path / 'x.log'
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        address = '127.0.0.1:%d' % taken.getsockname()[1]
        arguments = [*BASE, '-b', address, '-m', 'localhost:1', '-l', str(log)]
        assert checks.check_surroundings(parsed(ADMIN, *arguments)) == [
            address + ' is in use at the moment']
    assert checks.check_surroundings(parsed(ADMIN, *arguments)) == []
    assert not log.exists()


# -- help -----------------------------------------------------------------------------------------
@pytest.mark.parametrize('daemon', DAEMONS)
def test_help_lists_what_there_is(daemon, capsys):
    with pytest.raises(SystemExit):
        parsed(daemon, '--help')
    shown = re.findall(r'--([a-z-]+)', capsys.readouterr().out)
    assert {option.key for option in options.options_of(daemon) if not option.later} <= set(shown)
    assert not {option.key for option in options.options_of(daemon) if option.later} & set(shown)


def test_the_rate_of_copying_reaches_the_storage(conf, tmp_path):
    given = parsed(STORAGE, '-f', conf('[storage]\ncluster=a\nfill-rate=2.5\n'),
                   '-d', str(tmp_path / 'x.sqlite'))
    storage = neostorage.make(given, ('127.0.0.1', 1))
    assert storage.fill_rate == 2.5e6
    storage.engine.close()
