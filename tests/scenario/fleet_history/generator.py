"""Who speaks and who watches. Texts are "K N" (see checker)."""

import asyncio
import json
import random
import select
import socket
import threading
import time

import websockets

import services
from fleet_history import checker
from history import generator
from redis_server import RedisError
from rtmp_peer import AUDIO, VIDEO, RtmpPeer

UTTERANCE_S = 0.03  # of sound: 33 finals a second and session
SILENCE_S = 4       # that who watches or publishes bears before it goes elsewhere
OPEN_S = 5
RETRY_S = 0.1
SLOW_RECEIVE_BYTES = 4096
VIDEO_BYTES = 1500  # beside each frame of sound, so that there is something to acknowledge all the time
LOSS = 200          # one live message in so many


class NumberedStt(generator.NumberedStt):
    """With partials, of which the history's needs none."""

    def __init__(self):
        super().__init__()
        self.utterance_s = UTTERANCE_S

    async def transcript(self, socket, session, number, is_final):
        if is_final:
            await super().transcript(socket, session, number, True)
        else:
            start = number * self.utterance_s
            await self.send(socket, session, "transcript", {
                "id": f"00-{number:08d}", "is_final": False,
                "utterance": {"start": start, "end": start + self.utterance_s / 2, "confidence": 0.9, "channel": 0,
                              "language": "en", "text": session.id[1:], "words": []}})


class Publisher(threading.Thread):
    """Publishes in real time; comes back elsewhere when it is cut off or nothing is acknowledged, until it is told to end."""

    def __init__(self, world, slug, frames):
        super().__init__(daemon=True)
        self.world, self.slug, self.frames = world, slug, frames
        self.is_ending = threading.Event()
        self.is_wanted = threading.Event()
        self.is_wanted.set()
        self.must_move = False
        self.breaks = []  # s from its loss to the node that listens
        self.old = []     # connections that stand without a word
        self.start()

    def run(self):
        lost_at = None
        while not self.is_ending.is_set():
            if not self.is_wanted.wait(RETRY_S):
                lost_at = None
                continue
            try:
                peer = RtmpPeer(self.world.publishers_door(self.slug))
                try:
                    peer.socket.settimeout(OPEN_S)
                    peer.publish(f"{self.slug}?token={self.world.fleet.token(self.slug, 'PUBLISH_SECRET')}")
                    if lost_at:
                        self.breaks.append(time.monotonic() - lost_at)
                    self.play(peer)
                finally:
                    self.leave_behind(peer)
                lost_at = None
            except (OSError, AssertionError):  # the node is gone, refuses, or has closed it
                lost_at = lost_at or time.monotonic()
                self.is_ending.wait(RETRY_S)
        for peer in self.old:
            peer.close()

    def leave_behind(self, peer):
        """One that is to be taken over still stands meanwhile."""
        if self.must_move:
            self.must_move = False
            self.old.append(peer)
        else:
            peer.close()

    def play(self, peer):
        """Returns when it ends properly, or leaves all standing."""
        peer.message(AUDIO, generator.AUDIO_CONFIG)
        peer.socket.settimeout(SILENCE_S)
        began = heard = time.monotonic()
        n = 0
        while self.is_wanted.is_set() and not self.is_ending.wait(max(0, began + n * generator.FRAME_S - time.monotonic())):
            peer.message(AUDIO, b"\xaf\x01" + self.frames[n % len(self.frames)], timestamp_ms=int(n * generator.FRAME_S * 1000))
            peer.message(VIDEO, b"\x27\x01" + bytes(VIDEO_BYTES), timestamp_ms=int(n * generator.FRAME_S * 1000))
            n += 1
            heard = self.hear(peer, heard)
            if self.must_move:
                return
        peer.unpublish()
        peer.socket.shutdown(socket.SHUT_WR)
        peer.wait_close()

    def hear(self, peer, heard):
        """When something came last."""
        if select.select([peer.socket], [], [], 0)[0]:
            if not peer.socket.recv(65536):
                raise ConnectionError("closed by the node")
            return time.monotonic()
        if time.monotonic() - heard > SILENCE_S:
            raise ConnectionError("nothing is acknowledged")
        return heard

    def move(self):
        self.must_move = True

    def leave(self):
        self.is_wanted.clear()

    def come(self):
        self.is_wanted.set()

    def end(self):
        self.is_ending.set()
        self.is_wanted.set()


class Watchers:
    """All viewers on one thread. Each comes back with its position, as docs/protocol.md says."""

    def __init__(self, world):
        self.world = world
        self.viewers = []
        self.is_ending = False
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.tasks = []

    def add(self, name, slug, door, is_slow=False, seed=0):
        """`door` is asked for an address each time; a slow one takes little and rests often."""
        viewer = checker.Viewer(name, slug, is_slow=is_slow)
        self.viewers.append(viewer)
        self.tasks.append(asyncio.run_coroutine_threadsafe(self.follow(viewer, door, is_slow, random.Random(seed)), self.loop))

    async def follow(self, viewer, door, is_slow, dice):
        position = None
        while not self.is_ending:
            number = len(viewer.connections) + 1
            try:
                since = f"&since={position[0]}.{position[1]}" if position else ""
                token = self.world.fleet.token(viewer.session)
                url = f"ws://{door()}/live/{viewer.session}?token={token}{since}"
                async with websockets.connect(url, compression=None, open_timeout=OPEN_S, ping_interval=None, max_size=None,
                                              close_timeout=1, max_queue=2 if is_slow else 1000,
                                              sock=slow_socket(url) if is_slow else None) as connection:
                    viewer.connections.append((time.monotonic(), position))
                    node = ""
                    while not self.is_ending:
                        message = json.loads(await asyncio.wait_for(connection.recv(), SILENCE_S))
                        node = message.get("node", node)
                        shown = shown_of(message, number, node)
                        viewer.shown.append(shown)
                        position = position_after(position, shown)
                        if is_slow and dice.random() < 0.02:
                            await asyncio.sleep(dice.uniform(0.1, 2))
            except (OSError, asyncio.TimeoutError, websockets.exceptions.WebSocketException):
                await asyncio.sleep(RETRY_S)

    def end(self):
        self.is_ending = True
        for task in self.tasks:
            task.result(30)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)
        self.loop.close()


def slow_socket(url):
    host, port = url.split("/")[2].split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_RECEIVE_BYTES)
    connection.settimeout(OPEN_S)
    try:
        connection.connect((host, int(port)))
    except OSError:
        connection.close()
        raise
    return connection


def shown_of(message, connection, node):
    kind = message["type"]
    shown = checker.Shown(time.monotonic(), connection, node, kind, message["epoch"], message.get("seq", 0))
    if kind == "transcript":
        shown.ident, shown.is_final = message["utteranceId"], message["isFinal"]
        shown.text = message["text"] if shown.is_final else ""
    elif kind == "gap":
        shown.gap = (message["from"], message["to"])
        shown.seq = message["to"] or message["from"]
    elif kind in ("hello", "status", "end"):
        shown.text = f"{message.get('state', '')} {message['reason']}"
    return shown


def position_after(position, shown):
    if shown.kind == "hello" or not shown.epoch or (shown.kind == "gap" and shown.gap[1] is None):
        return position
    return shown.position


class Recorder(threading.Thread):
    """What the streams hold, looked at all the time: what was flushed had been there."""

    def __init__(self, redis, slugs, history):
        super().__init__(daemon=True)
        self.redis, self.slugs, self.history = redis, slugs, history
        self.last = dict.fromkeys(slugs, "0-0")
        self.newest = dict.fromkeys(slugs, 0)  # epoch
        self.is_ending = threading.Event()
        self.start()

    def run(self):
        connection = None
        while not self.is_ending.wait(0.05):
            try:
                connection = connection or self.redis.connection()
                for slug in self.slugs:
                    self.read(connection, slug)
            except (OSError, RedisError):  # it is away
                if connection:
                    connection.close()
                connection = None
        if connection:
            connection.close()

    def read(self, connection, slug):
        entries = connection.ask("XRANGE", f"vc:history:{slug}", f"({self.last[slug]}", "+")
        for ident, fields in entries:
            self.keep(slug, ident, dict(zip(fields[::2], fields[1::2]))["message"])
            self.last[slug] = ident
        newest = connection.ask("XREVRANGE", f"vc:history:{slug}", "+", "-", "COUNT", "1")
        if not newest or tuple(map(int, newest[0][0].split("-"))) < tuple(map(int, self.last[slug].split("-"))):
            self.last[slug] = "0-0"  # it begins anew

    def keep(self, slug, ident, message):
        """A Redis that was emptied is given an old owner's history again, with what was refused before."""
        position = tuple(map(int, ident.split("-")))
        frame = json.loads(message)["frame"]
        if position[0] < self.newest[slug] and position not in self.history.streams[slug]:
            self.history.late[slug].add(position)
        self.newest[slug] = max(self.newest[slug], position[0])
        if frame["type"] == "transcript":
            self.history.streams[slug][position] = frame["text"]

    def end(self):
        self.is_ending.set()
        self.join(30)


class Way(services.Proxy):
    """A node's way to Redis. Besides those of its parent: slow, where everything comes late; and lossy, where one in
    LOSS of what is published is not heard, as by a subscriber whose buffer has overflown."""

    def __init__(self, target, seed):
        self.dice = random.Random(seed)
        self.rest = {}  # socket of Redis -> the begin of an answer
        super().__init__(target)

    def passing(self, source, data):
        if self.mode == "slow":
            time.sleep(self.dice.uniform(0.01, 0.15))
        if source not in self.servers:
            return data
        data = self.rest.pop(source, b"") + data
        kept, at = [], 0
        while (end := end_of_value(data, at)) is not None:
            is_message = data.startswith((b"*3\r\n$7\r\nmessage\r\n", b"*4\r\n$8\r\npmessage\r\n"), at)
            if not (is_message and self.mode == "lossy" and self.dice.randrange(LOSS) == 0):
                kept.append(data[at:end])
            at = end
        self.rest[source] = data[at:]
        return b"".join(kept)


def end_of_value(data, at):
    """Where a RESP value that begins there ends; None: it is not all there."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return None
    end = line_end + 2
    kind, size = data[at:at + 1], data[at + 1:line_end]
    if kind == b"$" and int(size) >= 0:
        end += int(size) + 2
        return end if end <= len(data) else None
    if kind == b"*":
        for _ in range(int(size)):
            end = end_of_value(data, end)
            if end is None:
                return None
    return end
