"""One question to an admin node, as a plain call."""
import random

from ..ctl.node import Ctl
from . import clock
from .driver import Driver

TIMEOUT = 30.0


class NoAnswer(Exception):
    """The admin node can't be asked, or refuses; the message says why, in one line."""


def ask(address, request, timeout=TIMEOUT):
    """The answer packet of the admin node at `(host, port)`; raises NoAnswer."""
    driver = Driver(lambda level, message: None)
    try:
        node = driver.node = Ctl(random.Random(), address, request, timeout)
        node.start(clock.now())
        driver.act()
        while driver.exit is None:
            driver.turn(driver.poll(driver.next()))
    finally:
        driver.close()
    if node.failure is not None:
        raise NoAnswer(node.failure)
    return node.result
