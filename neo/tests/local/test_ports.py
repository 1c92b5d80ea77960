"""Ports that are kept."""
import socket

import pytest

from ...local.ports import Port, preferred


def test_who_knows_the_number_may_listen_there():
    port = Port()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((port.host, port.number))
        listener.listen()
    assert str(port) == '127.0.0.1:%d' % port.number
    port.close()


@pytest.mark.parametrize('listens', [False, True])
def test_nobody_else_is_given_it(listens):
    """Also while its daemon does not listen yet."""
    port = Port()
    with socket.socket() as listener:
        if listens:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((port.host, port.number))
            listener.listen()
        with pytest.raises(OSError) as error:
            Port(port.host, port.number)
        assert error.value.filename == str(port)
        other = preferred(port.host, port.number)
        assert other.number != port.number
        other.close()
    port.close()
    again = preferred(port.host, port.number)
    assert again.number == port.number
    again.close()
