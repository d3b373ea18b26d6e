"""Who speaks and who watches. Texts are "K N" (see checker), provider's ids begin anew with every K."""

import glob
import os
import re
import socket
import subprocess
import threading
import time

import harness
from rtmp_peer import AUDIO, RtmpPeer
from scripted_stt import ScriptedStt

FRAME_S = 1024 / 16000
AUDIO_CONFIG = b"\xaf\x00\x14\x08"  # AAC-LC, 16 kHz, mono
RETRY_S = 0.1
UTTERANCE_S = 0.01  # of sound: 100 finals a second and session


class NumberedStt(ScriptedStt):
    def __init__(self):
        super().__init__(utterance_s=UTTERANCE_S)
        self.said = set()

    async def transcript(self, socket, session, number, is_final):
        start = number * self.utterance_s
        text = f"{session.id[1:]} {number}"
        self.said.add(text)  # before it is sent: it may be kept before we come to the next line
        await self.send(socket, session, "transcript", {
            "id": f"00-{number:08d}", "is_final": is_final,
            "utterance": {"start": start, "end": start + self.utterance_s, "confidence": 0.9, "channel": 0,
                          "language": "en", "text": text, "words": []}})

    def forget_sessions(self):
        """Every connection is cut, and none may come back: the node must begin new sessions."""
        for ident in list(self.sessions):
            self.sessions[ident] = None
        self.drop_all()


def make_frames(folder):
    """AAC frames of a tone, without their ADTS headers."""
    path = os.path.join(folder, "tone.aac")
    subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-y", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=16000",
                    "-t", "4", "-ac", "1", "-c:a", "aac", "-b:a", "24k", "-f", "adts", path], check=True)
    with open(path, "rb") as file:
        data = file.read()
    frames = []
    while data:
        size = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
        frames.append(data[7:size])
        data = data[size:]
    return frames


class Publisher(threading.Thread):
    """Publishes in real time and comes back whenever it is cut off, until it is told to end."""

    def __init__(self, world, slug, frames):
        super().__init__(daemon=True)
        self.world = world
        self.slug = slug
        self.frames = frames
        self.is_ending = threading.Event()
        self.publishings = 0
        self.start()

    def run(self):
        while not self.is_ending.is_set():
            try:
                with RtmpPeer(self.world.node) as peer:
                    peer.publish(self.slug)
                    self.publishings += 1
                    self.play(peer)
                    return
            except (OSError, AssertionError):  # the node is gone or does not listen
                self.is_ending.wait(RETRY_S)

    def play(self, peer):
        peer.message(AUDIO, AUDIO_CONFIG)
        began = time.monotonic()
        n = 0
        while not self.is_ending.wait(max(0, began + n * FRAME_S - time.monotonic())):
            peer.message(AUDIO, b"\xaf\x01" + self.frames[n % len(self.frames)], timestamp_ms=int(n * FRAME_S * 1000))
            n += 1
        peer.unpublish()
        peer.socket.shutdown(socket.SHUT_WR)
        peer.wait_close()

    def end(self):
        self.is_ending.set()


class Watcher(threading.Thread):
    """A viewer that comes back; keeps when it first read each final."""

    def __init__(self, world, slug):
        super().__init__(daemon=True)
        self.world = world
        self.slug = slug
        self.shown = {}
        self.is_ending = threading.Event()
        self.start()

    def run(self):
        while not self.is_ending.is_set():
            viewer = TimedViewer(f"ws://{self.world.node.addresses['http']}/live/{self.slug}", self.shown)
            while not (viewer.is_over() or self.is_ending.is_set()):
                self.is_ending.wait(RETRY_S)
            viewer.close()
            self.is_ending.wait(RETRY_S)

    def end(self):
        self.is_ending.set()


class TimedViewer(harness.Viewer):
    def __init__(self, url, shown):
        self.shown = shown
        super().__init__(url)

    def take(self, text):
        message = harness.json.loads(text)
        if message["type"] == "transcript" and message["isFinal"]:
            self.shown.setdefault((message["session"], message["epoch"], message["seq"]), time.monotonic())


COMMITTED = re.compile(r"event=journal_committed session=(\S+) epoch=(\d+) seq=(\d+)")


def committed(folder):
    """What the logs of all lives of the node trace."""
    keys = set()
    for path in glob.glob(os.path.join(folder, "verbacast-[0-9]*.log")):
        with open(path, encoding="utf-8", errors="replace") as log:
            keys |= {(slug, int(epoch), int(seq)) for slug, epoch, seq in COMMITTED.findall(log.read())}
    return keys
