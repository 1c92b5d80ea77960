"""Which core is in use, without any cluster."""
import random

import pytest

from ...client.access import Access
from ...client.core.client import Client
from ...client.exception import StorageClosed
from ..alarms import before_line


def ignore(*_, **__):
    pass


def new_access():
    """Nobody listens there."""
    return Access(lambda: Client(random.Random(1), 'test', [('127.0.0.1', 1)]), ignore)


def test_closed_by_a_signal_handler_while_a_core_is_replaced():
    """Whatever it comes between, nothing is opened anew."""
    number, struck = 0, True
    while struck:
        number += 1
        access = new_access()
        with pytest.raises(ZeroDivisionError):
            access.session.call(lambda core: 1 / 0)
        with before_line(number, Access._replace.__code__.__eq__, access.close) as struck:
            try:
                access.current()
            except StorageClosed:
                pass
        if struck:
            with pytest.raises(StorageClosed):
                access.call(lambda core: None)
        access.close()
    assert number > 5
