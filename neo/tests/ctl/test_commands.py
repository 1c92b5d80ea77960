"""What may be typed after neoctl."""
import re

import pytest

from neo.cluster.ids import tid_at
from neo.ctl.commands import tid
from neo.protocol.packets import (AddStorages, Check, DescribeCluster, DropStorage, ForceStart,
                                  KillNode, SetClusterState, SetReplicas, Truncate, Tweak)
from neo.protocol.types import MAX_TID, ClusterState
from neo.scripts import neoctl

# Nobody listens at port 1; what is refused before is not tried.
NOBODY = '-a', '127.0.0.1:1'


def parsed(*arguments):
    return neoctl.parser().parse_args(arguments)


@pytest.mark.parametrize('typed, request_', [
    ('start', SetClusterState(ClusterState.RUNNING)),
    ('start --force', ForceStart()),
    ('stop', SetClusterState(ClusterState.STOPPING)),
    ('set cluster RUNNING', SetClusterState(ClusterState.RUNNING)),
    ('set cluster stopping', SetClusterState(ClusterState.STOPPING)),
    ('set cluster VERIFYING', SetClusterState(ClusterState.VERIFYING)),
    ('print cluster', DescribeCluster()), ('print node', DescribeCluster()),
    ('print node STORAGE', DescribeCluster()), ('print pt', DescribeCluster()),
    ('print pt 1 2 S3', DescribeCluster()), ('print ids', DescribeCluster()),
    ('print primary', DescribeCluster()), ('print summary', DescribeCluster()),
    ('set replicas 1', SetReplicas(1)), ('add all', AddStorages(())),
    ('add S2 S1', AddStorages(('S2', 'S1'))), ('tweak', Tweak((), False)),
    ('tweak -n S1 S2', Tweak(('S1', 'S2'), True)), ('drop S2', DropStorage('S2')),
    ('kill A1', KillNode('A1')), ('check :', Check(((None, None),), 0, MAX_TID)),
    ('check 1:S1 2: :S3 tid:5 tid:0xff', Check(((1, 'S1'), (2, None), (None, 'S3')), 5, 255)),
    ('truncate tid:0', Truncate(0)), ('truncate 1e9', Truncate(tid_at(1e9))),
    ('check : tid:7', Check(((None, None),), 7, MAX_TID))])
def test_what_is_asked(typed, request_):
    options = parsed(*typed.split())
    assert options.make(options).request == request_


def test_json_before_or_after_the_command():
    assert parsed('--json', 'print', 'cluster').json is True
    assert parsed('print', 'cluster', '--json').json is True
    assert not hasattr(parsed('print', 'cluster'), 'json')


@pytest.mark.parametrize('typed, name', [
    ('flush_log', 'flush_log')])
def test_what_is_not_built_is_refused(typed, name, capsys):
    assert neoctl.main([*NOBODY, *typed.split()]) == 1
    out, err = capsys.readouterr()
    assert not out and err == 'neoctl: %s is not available in this version\n' % name


def test_tls_is_refused(capsys):
    assert neoctl.main(['--ca', 'x', 'print', 'cluster']) == 1
    assert capsys.readouterr().err == 'neoctl: --ca is not available in this version\n'


@pytest.mark.parametrize('typed', [
    'nonsense', 'print', 'print nonsense', 'print node planet', 'print pt x', 'print pt 1 2 3',
    'set', 'set cluster', 'set cluster ASLEEP', 'set replicas', 'set replicas many', 'add',
    'add T1', 'drop', 'check', 'check x', 'check 1:2', 'check tid:5', 'check : tid:5 1:',
    'check : 1 2 3', 'check :M', 'truncate', 'truncate tid:x',
    'set replicas 10000000000', 'print pt 99999999999999999999', 'truncate 0', 'truncate 1e8',
    'truncate tid:-1', 'truncate tid:0x8000000000000000', 'truncate x:5', 'truncate inf',
    '--nonsense', '-t soon start', 'start now'])
def test_what_makes_no_sense_is_one_line(typed, capsys):
    with pytest.raises(SystemExit) as info:
        neoctl.main([*NOBODY, *typed.split()])
    out, err = capsys.readouterr()
    assert info.value.code == 2 and not out
    assert err.startswith('neoctl: ') and err.count('\n') == 1


def test_no_argument_prints_the_usage(capsys):
    assert neoctl.main([]) != 0
    assert 'usage: neoctl' in capsys.readouterr().out


@pytest.mark.parametrize('typed', ['--help', 'set --help', 'nonsense', 'set nonsense'])
def test_what_is_not_there_is_not_listed(typed, capsys):
    with pytest.raises(SystemExit):
        neoctl.main(typed.split())
    said = set(re.findall(r'\w+', ''.join(capsys.readouterr())))
    assert not said & {'flush_log', 'cert'}


def test_tids():
    assert tid('tid:0x1F') == 31 and tid('tid:31') == 31
    assert tid('1000000000') == tid_at(1e9)


def test_nobody_there(capsys):
    assert neoctl.main([*NOBODY, 'print', 'cluster']) == 1
    out, err = capsys.readouterr()
    assert not out and err == 'neoctl: no admin node at 127.0.0.1:1: Connection refused\n'


@pytest.mark.parametrize('address', ['a b', 'h:99999', '::1'])
def test_wrong_addresses(address, capsys):
    assert neoctl.main(['-a', address, 'print', 'cluster']) == 1
    err = capsys.readouterr().err
    assert err.startswith('neoctl: ') and err.count('\n') == 1


def test_the_address_from_a_file(tmp_path):
    file = tmp_path / 'neo.conf'
    file.write_text('[admin]\nbind=0.0.0.0:77\n[b]\nbind=[::1]:78\n')
    options = parsed('-f', str(file), 'stop')
    assert neoctl.admin_address(options) == ('127.0.0.1', 77)
    options = parsed('-f', str(file), '-s', 'b', 'stop')
    assert neoctl.admin_address(options) == ('::1', 78)
    assert neoctl.admin_address(parsed('-a', 'me', 'stop')) == ('me', 9999)
