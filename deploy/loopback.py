"""Ports of this machine's loopback."""

import contextlib
import errno
import random
import socket
import threading

# Below those that the kernel gives to outgoing connections: a server that is started anew finds its
# port free, even if its clients have called it meanwhile.
FIRST, LAST = 15000, 32000

# A port is this process's from when it was found to its end, also while nothing listens there: others
# who look for one at the same time pass it over. It has them by the block, and holds a name for each
# that the kernel gives to one process of the machine and takes back when that ends.
BLOCK = 16
names = []
spare = []  # of its blocks, those that it has not given out
lock = threading.Lock()


class NoPortError(Exception):
    """All are taken."""


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def try_claim(block):
    """Returns: whether it is this process's from now on."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0verbacast-ports-{block}")
    except OSError as error:
        name.close()
        if error.errno == errno.EADDRINUSE:
            return False
        raise
    names.append(name)
    return True


def claim_block():
    blocks = range(FIRST // BLOCK, (LAST - 1) // BLOCK + 1)
    for block in random.sample(blocks, len(blocks)):
        if try_claim(block):
            spare.extend(port for port in range(block * BLOCK, (block + 1) * BLOCK) if FIRST <= port < LAST)
            return
    raise NoPortError(f"all ports from {FIRST} to {LAST - 1} are taken: too many tests and services run beside each other")


def free_port():
    with lock:
        while True:
            while not spare:
                claim_block()
            port = spare.pop()
            if is_free(port):
                return port


def free_ports(count):
    return [free_port() for _ in range(count)]
