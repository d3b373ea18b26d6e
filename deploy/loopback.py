"""Ports of this machine's loopback."""

import contextlib
import fcntl
import functools
import os
import random
import socket
import tempfile

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


# A port is this process's from when it was found to its end, also while nothing listens there: others
# who look for one at the same time pass it over. One byte of the file is locked for each.
CLAIMS = os.path.join(tempfile.gettempdir(), f"verbacast-ports-{os.getuid()}")
claimed = set()


@functools.cache
def open_claims():
    return os.open(CLAIMS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def claim(port):
    """Whether it is free, and nobody else's."""
    if port in claimed or not is_free(port):
        return False
    try:
        fcntl.lockf(open_claims(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except (BlockingIOError, PermissionError):
        return False
    claimed.add(port)
    return True


def free_ports(count):
    ports = random.sample(range(FIRST, LAST), LAST - FIRST)
    return [port for port, _ in zip(filter(claim, ports), range(count))]
