"""300 silent and 64 slow connections on the viewers' port: operators and new viewers get through. (runs alone)"""

import contextlib
import re
import select
import socket
import time

import harness
from scripted_stt import ScriptedStt

# More than the kernel takes for one that does not read; a sanitizer's memory is spared.
LONG_S = 1 if "san" in harness.CONFIGURATION else 7
RECEIVE_BUFFER = 4096
N_SILENT, N_SLOW, N_WORKERS = 300, 64, 256  # workers of the viewers' port


def tell_much(stt, node):
    """A session whose transcript is long."""
    stt.padding = " x" * 30000
    with harness.viewer(node, "long") as viewer, \
            harness.publisher(node, "long", seconds=LONG_S, realtime=False) as publisher:
        assert publisher.wait() == 0, publisher.errors()
        viewer.wait_type("end")


def open_silent(stack, address, number):
    silent = stack.enter_context(socket.create_connection(address, timeout=harness.PATIENCE_S))
    if number % 3 == 0:
        silent.sendall(b"G")
    return silent


def open_slow(stack, address):
    """Asks for what is long, and reads none of it."""
    slow = stack.enter_context(socket.socket())
    slow.settimeout(harness.PATIENCE_S)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    slow.connect(address)
    slow.sendall(b"GET /sessions/long/transcript.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return slow


def is_held(connection):
    """Neither answered nor closed yet."""
    return not select.select([connection], [], [], 0)[0]


def is_cut(slow):
    """The node gave it up: what it said would come did not come whole."""
    text = b""
    while True:
        more = slow.recv(2 ** 20)
        if not more:
            break
        text += more
    head, _, body = text.partition(b"\r\n\r\n")
    return len(body) < int(re.search(rb"Content-Length: (\d+)", head).group(1))


def test_nobody_is_kept_out():
    with ScriptedStt(utterance_s=0.1) as stt, harness.node(stt.url) as node, contextlib.ExitStack() as stack:
        tell_much(stt, node)
        address = ("127.0.0.1", node.port("http"))
        silent = [open_silent(stack, address, number) for number in range(N_SILENT)]
        slow = [open_slow(stack, address) for _ in range(N_SLOW)]
        held = [each for each in silent if is_held(each)]
        began = time.monotonic()
        assert harness.http(node.url("admin", "/readyz"))[0] == 200
        ready = time.monotonic()
        n_ended = sum(1 for each in held if not is_held(each))
        assert n_ended < N_SILENT + N_SLOW - N_WORKERS, "operators wait in the viewers' line"
        with harness.viewer(node, "room") as viewer:
            viewer.wait_type("hello")
        print(f"ready after {ready - began:.3f} s, a viewer in after {time.monotonic() - ready:.3f} s", flush=True)
        if "san" not in harness.CONFIGURATION:
            assert any(is_cut(each) for each in slow), "nobody was slow"


if __name__ == "__main__":
    harness.main(globals())
