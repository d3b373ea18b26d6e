"""Ports of this machine's loopback."""

import contextlib
import random
import socket

# Below those that the kernel gives to outgoing connections: a server that is started anew finds its
# port free, even if its clients have called it meanwhile.
FIRST, LAST = 15000, 32000


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def free_ports(count):
    ports = random.sample(range(FIRST, LAST), LAST - FIRST)
    return [port for port, _ in zip(filter(is_free, ports), range(count))]
