"""300 silent and 64 slow connections on the viewers' port: operators and new viewers get through. (runs alone)"""

import contextlib
import socket

import harness
from scripted_stt import ScriptedStt


def test_nobody_is_kept_out():
    with ScriptedStt() as stt, harness.node(stt.url) as node, contextlib.ExitStack() as stack:
        address = ("127.0.0.1", node.port("http"))
        for number in range(300):
            silent = stack.enter_context(socket.create_connection(address, timeout=harness.PATIENCE_S))
            if number % 3 == 0:
                silent.sendall(b"G")
        for _ in range(64):
            slow = stack.enter_context(socket.create_connection(address, timeout=harness.PATIENCE_S))
            slow.sendall(b"GET /pages/viewer.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert harness.http(node.url("admin", "/readyz"))[0] == 200
        with harness.viewer(node, "room") as viewer:
            viewer.wait_type("hello")


if __name__ == "__main__":
    harness.main(globals())
