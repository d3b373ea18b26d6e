"""A publisher's end of RTMP written by hand, to send what no real publisher would."""

import os
import re
import socket
import struct

import harness

SET_CHUNK_SIZE, AUDIO, VIDEO, DATA, COMMAND, AGGREGATE = 1, 8, 9, 18, 20, 22
HANDSHAKE_SIZE = 1536
LENGTH_MAX = 0xffffff  # the most that a chunk header can announce: 16 MiB but a byte


def amf(value):
    if value is None:
        return b"\x05"
    if isinstance(value, str):
        return b"\x02" + struct.pack(">H", len(value)) + value.encode()
    if isinstance(value, dict):
        members = (struct.pack(">H", len(key)) + key.encode() + amf(member) for key, member in value.items())
        return b"\x03" + b"".join(members) + b"\x00\x00\x09"
    return b"\x00" + struct.pack(">d", value)


def chunk_header(kind, length, timestamp_ms=0, chunk_stream=4, stream_id=1):
    return (bytes([chunk_stream]) + timestamp_ms.to_bytes(3, "big") + length.to_bytes(3, "big") + bytes([kind]) +
            stream_id.to_bytes(4, "little"))


class RtmpPeer:
    """A connection to the node's ingest; every wait on it is bounded."""

    def __init__(self, node, source=None):
        """From that address of loopback, or from whichever."""
        self.socket = socket.create_connection(("127.0.0.1", node.port("rtmp")), timeout=harness.PATIENCE_S,
                                               source_address=(source, 0) if source else None)
        self.url = f"rtmp://{node.addresses['rtmp']}/live"
        self.chunk_size = 128
        self.received = b""

    def send(self, data):
        self.socket.sendall(data)

    def handshake(self):
        self.send(b"\x03" + bytes(8) + os.urandom(HANDSHAKE_SIZE - 8))
        answer = self.receive(1 + 2 * HANDSHAKE_SIZE)
        self.send(answer[1:1 + HANDSHAKE_SIZE])

    def receive(self, size):
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, "closed by the node"
            data += more
        return data

    def wait_for(self, text):
        """The node's chunks are larger than what it says here: its words stand in them whole."""
        while text not in self.received:
            more = self.socket.recv(65536)
            assert more, f"closed by the node before {text}: {self.received[-300:]}"
            self.received += more

    def message(self, kind, payload, **header):
        """Sends one, cut into chunks."""
        rest = [payload[at:at + self.chunk_size] for at in range(0, len(payload), self.chunk_size)] or [b""]
        stream = header.get("chunk_stream", 4)
        self.send(chunk_header(kind, len(payload), **header) + bytes([0xc0 | stream]).join(rest))
        if kind == SET_CHUNK_SIZE:
            self.chunk_size = int.from_bytes(payload, "big")

    def command(self, *values, stream_id=0):
        self.message(COMMAND, b"".join(amf(value) for value in values), chunk_stream=3, stream_id=stream_id)

    def ask(self, name, app="live"):
        """From the handshake to the wish to publish."""
        self.handshake()
        self.command("connect", 1, {"app": app, "flashVer": "by hand", "tcUrl": self.url})
        self.command("createStream", 2, None)
        self.command("publish", 3, None, name, "live", stream_id=1)

    def answer(self):
        """What the node says to that: Start, Denied, BadName, or Rejected."""
        said = rb"NetStream\.Publish\.(Start|Denied|BadName)|NetConnection\.Connect\.(Rejected)"
        while not (match := re.search(said, self.received)):
            more = self.socket.recv(65536)
            assert more, f"closed by the node without a word: {self.received[-300:]}"
            self.received += more
        return (match.group(1) or match.group(2)).decode()

    def publish(self, slug):
        """From the handshake to the node's word that it listens."""
        self.ask(slug)
        self.wait_for(b"NetStream.Publish.Start")
        self.message(SET_CHUNK_SIZE, (4096).to_bytes(4, "big"), chunk_stream=2, stream_id=0)

    def unpublish(self):
        self.command("deleteStream", 4, None, 1)

    def wait_close(self):
        """Reads until the node closes or resets; a time-out is an error."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionError:
            pass

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
