"""A viewer that does not read: it costs the others nothing, and may come back for every final."""

import base64
import contextlib
import json
import os
import socket
import struct

import harness
from scripted_stt import ScriptedStt

PADDING = " and so on" * 400  # a few messages fill the kernel's buffers
UTTERANCE_S = 0.2
N_THAT_FILL = 30  # finals that no kernel's buffers here take


class Deaf:
    """A WebSocket client that reads nothing until it is told to, through the smallest of buffers."""

    def __init__(self, node, slug, query=""):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self.socket.settimeout(harness.PATIENCE_S)
        self.socket.connect(("127.0.0.1", node.port("http")))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET /live/{slug}{query} HTTP/1.1\r\nHost: {node.addresses['http']}\r\nUpgrade: websocket\r\n"
                             f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
        self.rest = b""
        self.messages = []
        self.close_code = None  # 1006: the connection ended without one
        while b"\r\n\r\n" not in self.rest:
            self.rest += self.socket.recv(1)
        assert self.rest.startswith(b"HTTP/1.1 101 "), self.rest
        self.rest = b""

    def take(self, size):
        while len(self.rest) < size:
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError
            self.rest += more
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def read_frame(self):
        first, length = self.take(2)
        if length == 126:
            length = struct.unpack(">H", self.take(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self.take(8))[0]
        payload = self.take(length)
        if first == 0x81:
            self.messages.append(json.loads(payload))
        elif first == 0x88:
            self.close_code = struct.unpack(">H", payload[:2])[0]

    def read_until(self, is_over):
        """Reads until the last message is such a one, or the connection ends."""
        try:
            while self.close_code is None and not (self.messages and is_over(self.messages[-1])):
                self.read_frame()
        except ConnectionError:
            self.close_code = 1006

    def transcripts(self, is_final):
        return [message for message in self.messages if message["type"] == "transcript" and message["isFinal"] == is_final]

    def position(self):
        last = [message for message in self.messages if message["type"] != "hello"][-1]
        return f"{last['epoch']}.{last['seq']}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def counter(node, name):
    return harness.http_json(node.url("admin", "/metrics"))["counters"][name]


def lag(node, slug):
    return harness.http_json(node.url("admin", "/metrics"))["sessions"][slug]["queue_size"]


def texts(finals):
    return [final["text"] for final in finals]


def expect_nothing_missed(viewer):
    seqs = [message["seq"] for message in viewer.messages if message["type"] != "hello"]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), seqs
    assert texts(viewer.finals()) == [f"utterance {number}{PADDING}" for number in range(len(viewer.finals()))]


@contextlib.contextmanager
def talk(**options):
    """A session with long texts, two viewers that read and one that does not."""
    with ScriptedStt(UTTERANCE_S) as stt, harness.node(stt.url, **options) as node, \
            harness.viewer(node, "room") as one, harness.viewer(node, "room") as other, Deaf(node, "room") as deaf:
        stt.padding = PADDING
        for viewer in (one, other):
            viewer.wait_type("hello")
        with harness.publisher(node, "room") as publisher:
            yield node, publisher, one, other, deaf
        expect_nothing_missed(one)
        expect_nothing_missed(other)
        assert texts(one.finals()) == texts(other.finals())


def test_one_that_never_reads_is_closed_and_comes_back():
    with talk(SLOW_VIEWER_TIMEOUT_MS=300) as (node, publisher, one, other, deaf):
        harness.wait_until(lambda: counter(node, "ws.slow_closed_total") == 1, "the slow viewer is closed")
        deaf.read_until(lambda message: message["type"] == "end")
        assert deaf.close_code in (4008, 1006), (deaf.close_code, deaf.messages[-1])
        one.wait_finals(len(one.finals()) + 2)
        with harness.viewer(node, "room", f"?since={deaf.position()}") as again:
            again.wait_finals(2)
            publisher.stop()
            for viewer in (one, other, again):
                viewer.wait_type("end")
            assert texts(deaf.transcripts(True) + again.finals()) == texts(one.finals())
            assert not [message for message in again.messages if message["type"] == "gap"]
        assert counter(node, "ws.slow_closed_total") == 1
        assert counter(node, "ws.queue_drops_total") == 0


def test_one_that_lags_is_given_finals_from_history():
    with talk(MAX_BROADCAST_QUEUE_SIZE=16) as (node, publisher, one, other, deaf):
        one.wait_finals(1)
        harness.wait_until(lambda: lag(node, "room") > 24, "a lag beyond the queue")
        assert counter(node, "ws.catch_ups_total") == 0
        publisher.stop()
        for viewer in (one, other):
            viewer.wait_type("end")
        deaf.read_until(lambda message: message["type"] == "end")
        assert deaf.close_code is None, deaf.close_code
        assert texts(deaf.transcripts(True)) == texts(one.finals())
        seqs = [message["seq"] for message in deaf.messages if message["type"] != "hello"]
        assert seqs == sorted(set(seqs)), seqs
        missed = sum(1 for message in one.messages if message["type"] == "transcript" and not message["isFinal"])
        missed -= len(deaf.transcripts(False))
        assert missed > 0
        assert counter(node, "ws.partials_skipped_total") > 0
        assert counter(node, "ws.catch_ups_total") >= 1
        assert counter(node, "ws.queue_drops_total") == 0


def test_one_that_stops_within_its_history_misses_no_final():
    with talk(MAX_BROADCAST_QUEUE_SIZE=16) as (node, publisher, one, other, _):
        first = one.wait_finals(N_THAT_FILL)[0]
        with Deaf(node, "room", f"?since={first['epoch']}.{first['seq']}") as late:
            one.wait_finals(len(one.finals()) + 16)
            seen = one.messages[-1]["seq"]
            late.read_until(lambda message: message["type"] == "transcript" and message["seq"] > seen)
            publisher.stop()
            for viewer in (one, other):
                viewer.wait_type("end")
            late.read_until(lambda message: message["type"] == "end")
            assert late.close_code is None, late.close_code
            assert texts(late.transcripts(True)) == texts(one.finals())[1:]
            seqs = [message["seq"] for message in late.messages if message["type"] != "hello"]
            assert seqs == sorted(set(seqs)), seqs
            assert not [message for message in late.messages if message["type"] == "gap"]


if __name__ == "__main__":
    harness.main(globals())
