"""A participant's stream as LiveKit's Track Egress or a browser sends it: raw PCM by WebSocket, paced by
the clock, with mutes, breaks and bursts as a test says.
"""

import asyncio
import contextlib
import functools
import http.client
import json
import math
import struct
import subprocess
import threading
import time
import urllib.parse

import websockets

import harness

PIECE_S = 0.01  # LiveKit's


@functools.lru_cache  # it takes its time, in which nothing is said
def tone(seconds, rate=48000, channels=2):
    n = int(seconds * rate)
    return b"".join(struct.pack("<h", int(6000 * math.sin(2 * math.pi * 440 * i / rate))) * channels for i in range(n))


def sound_of(path, rate=48000, channels=2):
    """A recording as PCM."""
    return subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-i", path, "-ar", str(rate), "-ac", str(channels),
                           "-f", "s16le", "-"], stdout=subprocess.PIPE, check=True).stdout


def url_of(node, slug, participant, **more):
    query = urllib.parse.urlencode({"participant": participant, **more}, quote_via=urllib.parse.quote)
    return f"ws://{node.addresses['http']}/ingest/livekit/{slug}?{query}"


class Track:
    """Connected when it is made. Its methods are called by the test's thread and wait."""

    def __init__(self, node, slug, participant, rate=48000, channels=2, **more):
        self.bytes_per_s = rate * channels * 2
        self.rate, self.channels = rate, channels
        shape = {} if (rate, channels) == (48000, 2) else {"rate": rate, "channels": channels}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.began = time.monotonic()
        try:
            self.socket = self.call(self.connect(url_of(node, slug, participant, **shape, **more)))
        except BaseException:
            self.end_thread()
            raise

    async def connect(self, url):
        return await websockets.connect(url, compression=None, ping_interval=None, max_size=None, close_timeout=5,
                                        open_timeout=harness.PATIENCE_S)

    def call(self, awaitable):
        async def wait():
            return await asyncio.wait_for(awaitable, harness.PATIENCE_S * 2)
        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result()

    async def play_paced(self, sound, piece_s):
        size = max(1, int(self.rate * piece_s)) * self.channels * 2
        due = time.monotonic()
        for at in range(0, len(sound), size):
            due += piece_s
            await asyncio.sleep(max(0, due - time.monotonic()))
            await self.socket.send(sound[at:at + size])

    def play(self, sound, piece_s=PIECE_S):
        """In real time: a piece is sent when its last sample was spoken."""
        self.call(self.play_paced(sound, piece_s))

    def tone(self, seconds, piece_s=PIECE_S):
        self.play(tone(seconds, self.rate, self.channels), piece_s)

    def start(self, sound):
        """The same beside the test; the future ends with the sound."""
        return asyncio.run_coroutine_threadsafe(self.play_paced(sound, PIECE_S), self.loop)

    def send(self, message):
        self.call(self.socket.send(message))

    def mute(self, is_muted):
        self.send(json.dumps({"muted": is_muted}, separators=(",", ":")))

    async def closed(self):
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            while True:
                await self.socket.recv()
        await self.socket.wait_closed()

    def leave(self, code=1005):
        """As LiveKit: an empty close; or with a code."""
        async def close():
            if code == 1005:
                await self.socket.write_close_frame(websockets.frames.Close(1005, ""), b"")
                await self.closed()
            else:
                await self.socket.close(code)
        self.call(close())
        self.end_thread()

    def break_off(self):
        """Without a word."""
        self.loop.call_soon_threadsafe(self.socket.transport.abort)
        self.wait_close()

    def wait_close(self):
        """The code that the node closed with."""
        self.call(self.closed())
        self.end_thread()
        return self.socket.close_code

    def end_thread(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(harness.PATIENCE_S)
        self.loop.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.loop.is_closed():
            self.break_off()


def refusal(node, slug, query, headers=None):
    """(status, why) of a handshake that is refused."""
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", **(headers or {})}
    host, port = node.addresses["http"].rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=harness.PATIENCE_S)
    try:
        connection.request("GET", f"/ingest/livekit/{slug}{query}", headers=upgrade)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())["error"] if answer.status != 101 else ""
    finally:
        connection.close()
