"""A node dies, or is drained, while real encoders publish through HAProxy and people watch through it. (release only)

The encoders are ffmpeg and what an egress runs (rtmp2sink), each begun anew when it is cut off, as their users do it;
the viewers come back with the position that they reached.
"""

import contextlib
import json
import signal
import subprocess
import threading
import time

import harness
from fleet import Fleet, Haproxy
from redis_server import RedisServer

SESSIONS = ("by-ffmpeg", "by-rtmp2sink")
VIEWERS_EACH = 4


class Encoder(threading.Thread):
    """A program that publishes, begun anew whenever it ends, until it is told to end."""

    def __init__(self, command):
        super().__init__(daemon=True)
        self.command = command
        self.n_begun = 0
        self.is_ending = threading.Event()
        self.process = None
        self.start()

    def run(self):
        while not self.is_ending.is_set():
            self.n_begun += 1
            self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.process.wait()
            self.is_ending.wait(0.2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_ending.set()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.process.kill()
        self.join(harness.PATIENCE_S)


def url_of(fleet, balancer, slug):
    return f"rtmp://{balancer.addresses['rtmp']}/live/{slug}?token={fleet.token(slug, 'PUBLISH_SECRET')}"


def ffmpeg(fleet, balancer, slug):
    return lambda: ["ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-f", "lavfi", "-i", "sine=frequency=440", "-c:a", "aac",
                    "-f", "flv", url_of(fleet, balancer, slug)]


def rtmp2sink(fleet, balancer, slug):
    return lambda: ["gst-launch-1.0", "-q", "-e", "audiotestsrc", "is-live=true", "samplesperbuffer=441", "!",
                    "audio/x-raw,rate=44100,channels=2", "!", "identity", "sync=true", "!", "voaacenc", "bitrate=128000", "!",
                    "aacparse", "!", "flvmux", "streamable=true", "skip-backwards-streams=true", "!", "queue", "!", "rtmp2sink",
                    "async-connect=false", "async=false", "sync=false", f"location={url_of(fleet, balancer, slug)}"]


class Follower:
    """Somebody who watches and comes back through the balancer, as docs/protocol.md says."""

    def __init__(self, fleet, balancer, slug):
        self.fleet, self.balancer, self.slug = fleet, balancer, slug
        self.messages, self.nodes, self.breaks = [], [], []
        self.position = None
        self.is_ending = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        lost_at = None
        while not self.is_ending.is_set():
            query = "&since={}.{}".format(*self.position) if self.position else ""
            with self.fleet.viewer(self.balancer, self.slug, query) as viewer:
                n = 0
                while not self.is_ending.is_set() and (n < len(viewer.messages) or not viewer.is_over()):
                    if n == len(viewer.messages):
                        self.is_ending.wait(0.01)
                        continue
                    if lost_at and n == 0:
                        self.breaks.append(time.monotonic() - lost_at)
                    self.take(viewer.messages[n])
                    n += 1
            lost_at = time.monotonic()
            self.is_ending.wait(0.05)

    def take(self, message):
        self.messages.append(message)
        if message["type"] == "hello":
            self.nodes.append(message["node"])
        elif message["type"] == "gap":
            self.position = (message["epoch"], message["to"] or 0)
        else:
            self.position = (message["epoch"], message["seq"])

    def finals(self):
        return [(one["epoch"], one["seq"]) for one in list(self.messages) if one["type"] == "transcript" and one["isFinal"]]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_ending.set()
        self.thread.join(harness.PATIENCE_S)


def wait_grown(followers, by=3):
    """Each of them sees so many more finals."""
    before = {follower: len(follower.finals()) for follower in followers}
    harness.wait_until(lambda: all(len(follower.finals()) >= before[follower] + by for follower in followers), "words go on", 60)


def told(balancer, slug):
    """What the fleet has of a session, whichever node is asked."""
    status, headers, body = balancer.get(f"/sessions/{slug}/transcript.json?token={balancer.fleet.token(slug)}")
    assert status == 200 and headers["X-Verbacast-Complete"] == "true", (status, body)
    return [(one["epoch"], one["seq"]) for one in json.loads(body)["transcripts"]]


def check(balancer, followers):
    """All that watch a session have all of its finals, each once and in order, and were told of no gap."""
    for slug in SESSIONS:
        watching = [follower for follower in followers if follower.slug == slug]
        harness.wait_until(lambda: len({tuple(one.finals()) for one in watching}) == 1, f"all have the finals of {slug}", 30)
        finals = watching[0].finals()
        assert finals == sorted(set(finals)), finals
        assert finals == told(balancer, slug)
        for follower in watching:
            assert not [one for one in follower.messages if one["type"] in ("gap", "end")], follower.messages[-20:]


def hand_over(fault, n_times):
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        fleet = stack.enter_context(Fleet(redis_url=redis.url, DRAIN_DELAY_MS=1000))
        balancer = stack.enter_context(Haproxy(fleet))
        encoders = [stack.enter_context(Encoder(make(fleet, balancer, slug)))
                    for make, slug in zip((ffmpeg, rtmp2sink), SESSIONS)]
        followers = [stack.enter_context(Follower(fleet, balancer, slug)) for slug in SESSIONS for _ in range(VIEWERS_EACH)]
        wait_grown(followers)
        for round_ in range(n_times):
            home = fleet.home(SESSIONS[round_ % 2])
            began = time.monotonic()
            fault(fleet, home)
            wait_grown(followers)
            print(f"{fault.__name__}: words at all viewers again after {time.monotonic() - began:.1f} s with 3 finals each")
            fleet.start(home)
            balancer.wait_state(home, "UP")
        for encoder in encoders:
            encoder.is_ending.set()
        for slug in SESSIONS:
            harness.wait_until(lambda slug=slug: fleet.homes(slug), f"{slug} is on")
        check_last(balancer, encoders, followers)
        breaks = sorted(sum((follower.breaks for follower in followers), []))
        print(f"{fault.__name__}: viewers were back after {breaks[len(breaks) // 2]:.2f} s (median), {breaks[-1]:.2f} s at most")


def check_last(balancer, encoders, followers):
    for encoder in encoders:
        encoder.process.kill()
    check(balancer, followers)
    assert all(encoder.n_begun > 1 for encoder in encoders), "every encoder was cut off at least once"


def kill(fleet, i):
    fleet.kill(i)


def drain(fleet, i):
    fleet.nodes[i].signal(signal.SIGTERM)
    assert fleet.nodes[i].wait() == 0, fleet.nodes[i].log()[-2000:]


def test_nodes_are_killed():
    hand_over(kill, 4)


def test_nodes_are_drained():
    hand_over(drain, 4)


if __name__ == "__main__":
    harness.main(globals())
