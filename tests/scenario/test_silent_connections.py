"""300 silent and 64 slow connections on the viewers' port: operators and new viewers get through. (runs alone)"""

import contextlib
import fcntl
import re
import select
import socket
import struct
import termios
import time

import harness
from scripted_stt import ScriptedStt

RECEIVE_BUFFER = 4096
N_SILENT, N_VIEWERS, N_READERS = 300, 60, 4
N_WORKERS = 256  # of the viewers' port
READER = b"GET /sessions/long/transcript.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"
VIEWER = (b"GET /live/long HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")


def tell_much(stt, node):
    """A session whose transcript is more than the kernel takes for one that does not read."""
    stt.padding = " x" * 30000
    with open("/proc/sys/net/ipv4/tcp_wmem", encoding="ascii") as file:
        n_finals = int(file.read().split()[2]) * 3 // 2 // len(stt.padding)
    with harness.viewer(node, "long") as viewer, \
            harness.publisher(node, "long", seconds=n_finals * stt.utterance_s, realtime=False) as publisher:
        assert publisher.wait() == 0, publisher.errors()
        viewer.wait_type("end")


def open_silent(stack, address, number):
    silent = stack.enter_context(socket.create_connection(address, timeout=harness.PATIENCE_S))
    if number % 3 == 0:
        silent.sendall(b"G")
    return silent


def open_slow(stack, address, request):
    """Asks for what is long, and reads none of it."""
    slow = stack.enter_context(socket.socket())
    slow.settimeout(harness.PATIENCE_S)
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    slow.connect(address)
    slow.sendall(request)
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


def open_all(stack, node):
    """(the silent ones, the readers): viewers who read nothing are there before them."""
    address = ("127.0.0.1", node.port("http"))
    for _ in range(N_VIEWERS):
        open_slow(stack, address, VIEWER)
    harness.wait_until(lambda: harness.http_json(node.url("admin", "/metrics"))["gauges"]["ws.viewers"] == N_VIEWERS,
                       "the slow viewers are in")
    readers = [open_slow(stack, address, READER) for _ in range(N_READERS)]
    return [open_silent(stack, address, number) for number in range(N_SILENT)], readers


def test_nobody_is_kept_out():
    with ScriptedStt(utterance_s=0.1) as stt, harness.node(stt.url) as node, contextlib.ExitStack() as stack:
        tell_much(stt, node)
        silent, readers = open_all(stack, node)
        held = [each for each in silent if is_held(each)]
        began = time.monotonic()
        assert harness.http(node.url("admin", "/readyz"))[0] == 200
        ready = time.monotonic()
        n_ended = sum(1 for each in held if not is_held(each))
        assert n_ended < N_SILENT + N_READERS - N_WORKERS, "operators wait in the viewers' line"
        with harness.viewer(node, "room") as viewer:
            viewer.wait_type("hello")
        print(f"ready after {ready - began:.3f} s, a viewer in after {time.monotonic() - ready:.3f} s", flush=True)
        harness.wait_until(lambda: node.log().count("path=/sessions/long/transcript.txt") == N_READERS, "readers given up")
        assert all(is_cut(each) for each in readers), "nobody was slow"


def drip(connection):
    """One more byte of what it says would be a long body. Whether the node has closed it."""
    with contextlib.suppress(BlockingIOError):
        try:
            connection.sendall(b"1\r\nx\r\n")
            return connection.recv(2 ** 16) == b""
        except ConnectionError:
            return True
    return False


def wait_gone(dripping):
    for connection in dripping:
        connection.setblocking(False)

    def left():
        dripping[:] = [connection for connection in dripping if not drip(connection)]
        return not dripping

    harness.wait_until(left, "all are gone")


def test_bodies_that_drip_hold_nobody():
    """As many as there are threads: each is answered without its body, and gone a moment later."""
    heads = (b"POST /livekit/webhook HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
             b"POST /livekit/webhook HTTP/1.1\r\nHost: localhost\r\nAuthorization: x.y.z\r\nContent-Length: 1000000\r\n\r\n",
             b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
    livekit = {"LIVEKIT_URL": "http://127.0.0.1:9", "LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": "s" * 32, "LIVEKIT_POLL_MS": 0}
    with ScriptedStt() as stt, harness.node(stt.url, **livekit) as node, contextlib.ExitStack() as stack:
        for head in heads:
            dripping = [stack.enter_context(socket.create_connection(("127.0.0.1", node.port("admin")))) for _ in range(4)]
            for connection in dripping:
                connection.sendall(head)
            for connection in dripping:
                assert connection.recv(2 ** 16).startswith(b"HTTP/1.1 "), head
            wait_gone(dripping)
            assert harness.http(node.url("admin", "/healthz"))[0] == 200


def test_two_clients_of_one_port():
    """As two behind one NAT may come, to different addresses of the node: each is ended by itself, and neither holds a thread."""
    with ScriptedStt() as stt, harness.node(stt.url, HTTP_LISTEN="0.0.0.0:0", INSECURE=1) as node, contextlib.ExitStack() as stack:
        dripping, port = [], 0
        for address in ("127.0.0.1", "127.0.0.2"):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(harness.PATIENCE_S)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            connection.bind(("127.0.0.1", port))
            port = connection.getsockname()[1]
            connection.connect((address, node.port("http")))
            connection.sendall(b"POST /livekit/webhook HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            dripping.append(connection)
        for connection in dripping:
            assert connection.recv(2 ** 16).startswith(b"HTTP/1.1 404 ")
        wait_gone(dripping)


def is_taken(connection):
    """The node's kernel has all that was sent."""
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0, "the node has closed it"
    return struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0] == 0


def test_who_sends_too_much_hears_so():
    """Also while he is still sending, and though nobody reads it."""
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", node.port("http")), timeout=harness.PATIENCE_S) as connection:
                connection.sendall(b"POST /admin/kick HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n")
                assert select.select([connection], [], [], harness.PATIENCE_S)[0], "there is no answer"
                for _ in range(8):
                    connection.sendall(b"x" * 375000)
                    harness.wait_until(lambda: is_taken(connection), "it is read away")
                assert connection.recv(2 ** 16).startswith(b"HTTP/1.1 413 ")


if __name__ == "__main__":
    harness.main(globals())
