"""Carries packets between hosts: see network.py.

    wire DEVICE…

Each is a file descriptor, and a line of the input says between which of them packets are lost from
then on, as it is acknowledged by another line.
"""
import json
import os
import select
import sys

PACKET = 1 << 16
PACKETS_PER_TURN = 64
DESTINATION = 19                # the last byte of it, in what begins as IPv4 does


def packets(device):
    """What its host has sent."""
    for _ in range(PACKETS_PER_TURN):
        try:
            packet = os.read(device, PACKET)
        except BlockingIOError:
            return
        if packet[0] >> 4 == 4:
            yield packet


def carry(devices, orders, say):
    """Until there are no more orders."""
    poll = select.epoll()
    for fd in orders, *devices:
        poll.register(fd, select.EPOLLIN)
    cuts = set()
    read = os.fdopen(orders, 'rb', 0)
    while True:
        for fd, _ in poll.poll():
            if fd == orders:
                line = read.readline()
                if not line:
                    return
                cuts = {tuple(cut) for cut in json.loads(line)}
                os.write(say, b'\n')
                continue
            sender = devices.index(fd)
            for packet in packets(fd):
                receiver = packet[DESTINATION] - 1
                if 0 <= receiver < len(devices) and (sender, receiver) not in cuts:
                    try:
                        os.write(devices[receiver], packet)
                    except OSError:
                        pass            # it has too many, and may lose this one


if __name__ == '__main__':
    carry([int(device) for device in sys.argv[1:]], 0, 1)
