"""Rooms of LiveKit on several nodes with Redis between them: one egress, one poll, an end wherever it was told."""

import contextlib
import threading
import time

import fake_livekit
import harness
import services
from fake_livekit import FakeLiveKit
from redis_server import RedisServer
from scripted_stt import ScriptedStt
from test_livekit import counters, livekit_node


def wait_for_both(redis):
    """Who has not found Redis yet claims nothing, and begins what another begins."""
    harness.wait_until(lambda: len(redis.ask("KEYS", "vc:node:*") or ()) == 2, "both nodes are known to Redis")


@contextlib.contextmanager
def two_nodes(**options):
    """A LiveKit, a Redis and two nodes; egresses publish at the first."""
    with ScriptedStt() as stt, FakeLiveKit() as livekit, RedisServer() as redis:
        with livekit_node(stt, livekit, REDIS_URL=redis.url, NODE_ID="first", **options) as first:
            address = f"rtmp://{first.addresses['rtmp']}/live"
            with livekit_node(stt, livekit, REDIS_URL=redis.url, NODE_ID="second", LIVEKIT_AUTO_EGRESS=address, **options) as second:
                wait_for_both(redis)
                livekit.serve(first, second)
                yield livekit, redis, (first, second)


def total(nodes, name):
    return sum(counters(node)[name] for node in nodes)


def tell_at_once(livekit, body):
    threads = [threading.Thread(target=fake_livekit.post_webhook, args=(url, body, fake_livekit.signed(body)))
               for url in livekit.webhook_urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_told_both():
    """The same webhook, and another of the same room for each: one begins its egress, and no other is stopped."""
    with two_nodes() as (livekit, redis, nodes):
        for name in ("a", "b", "c"):
            livekit.start_room(name, tells=False)
            tell_at_once(livekit, livekit.event("room_started", room=livekit.room(name)))
            livekit.wait_active(name)
        harness.wait_until(lambda: total(nodes, "webhooks_repeated_total") == 3, "each event is one node's")
        livekit.publishes = False
        livekit.start_room("d", tells=False)
        told = threading.Event()
        livekit.before_start = lambda: told.wait(harness.PATIENCE_S)
        looked = livekit.n_calls("ListEgress")
        for url in livekit.webhook_urls:
            body = livekit.event("room_started", room=livekit.room("d"))
            assert fake_livekit.post_webhook(url, body, fake_livekit.signed(body))[0] == 200
        harness.wait_until(lambda: livekit.n_calls("ListEgress") >= looked + 2, "both look, and one begins")
        harness.wait_until(lambda: livekit.n_calls("StartRoomCompositeEgress") >= 4, "it is begun")
        told.set()
        livekit.wait_active("d")
        looked = livekit.n_calls("ListEgress")
        harness.wait_until(lambda: livekit.n_calls("ListEgress") > looked, "it was looked at what was begun")
        assert livekit.n_calls("StartRoomCompositeEgress") == total(nodes, "egress_starts_total") == 4, livekit.calls
        assert livekit.n_calls("StopEgress") == 0
        keys = redis.ask("KEYS", "vc:lk:*")
        assert len(keys) >= 8 and all(0 < redis.ask("PTTL", key) <= 600000 for key in keys), keys


def test_node_dies_before_it_begins():
    """It has the webhook, and the claim of the room: the other finds the room by its poll, and waits for the claim's end."""
    asked, gone = threading.Event(), threading.Event()

    def hang():
        if not asked.is_set():
            asked.set()
            assert gone.wait(harness.PATIENCE_S)
            raise ConnectionAbortedError("nobody is there")

    with ScriptedStt() as stt, FakeLiveKit() as livekit, RedisServer() as redis:
        livekit.publishes = False
        livekit.before_start = hang
        first = livekit_node(stt, livekit, REDIS_URL=redis.url, NODE_ID="first")
        try:
            address = f"rtmp://{first.addresses['rtmp']}/live"
            with livekit_node(stt, livekit, REDIS_URL=redis.url, NODE_ID="second", LIVEKIT_AUTO_EGRESS=address,
                              LIVEKIT_POLL_MS=1000) as second:
                wait_for_both(redis)
                livekit.serve(first, second)
                livekit.start_room("r")
                assert asked.wait(harness.PATIENCE_S)
                polled = counters(second)["polls_total"]
                harness.wait_until(lambda: counters(second)["polls_total"] >= polled + 3, "the other has found the room meanwhile")
                assert livekit.n_calls("StartRoomCompositeEgress") == 1, "it is the first's"
                first.kill()
                gone.set()
                livekit.wait_active("r")
                assert livekit.n_calls("StartRoomCompositeEgress") == 2, livekit.calls
        finally:
            first.kill()
            gone.set()


def test_end_is_told_another_node():
    """The session is the first node's, its end is told to the second, which has a viewer of it, too."""
    with two_nodes(SESSION_RESUME_MS=600000) as (livekit, _, (first, second)):
        with harness.viewer(first, "r") as near, harness.viewer(second, "r") as far:
            livekit.start_room("r")
            for viewer in (near, far):
                viewer.wait_finals(2)
            livekit.wait_active("r")[0].publisher.kill()
            near.wait(lambda message: message["type"] == "status" and message["state"] == "reconnecting", "reconnecting")
            livekit.serve(second)
            livekit.finish_room("r")
            for viewer in (near, far):
                assert viewer.wait_type("end", timeout=20)["reason"] == "publisher_left"


class SlowWay(services.Proxy):
    """To a Redis whose answers take their time."""

    delay_s = 0

    def passing(self, source, data):
        if source in self.servers:
            time.sleep(self.delay_s)
        return data


def test_redis_is_slow():
    """Each webhook waits for Redis, one after the other; the node is well, and what LiveKit answers is heard meanwhile."""
    with ScriptedStt() as stt, FakeLiveKit() as livekit, RedisServer() as redis, contextlib.closing(SlowWay(redis.port)) as way:
        with livekit_node(stt, livekit, REDIS_URL=redis.url_of(way.port)) as node:
            livekit.serve(node)
            livekit.publishes = False
            harness.wait_until(lambda: redis.ask("KEYS", "vc:node:*"), "the node shows itself")
            way.delay_s = 0.1
            for n in range(40):
                livekit.start_room(f"r{n}")
            seen = set()

            def is_begun():
                seen.update(harness.http(node.url("admin", page))[0] for page in ("/healthz", "/readyz"))
                return livekit.active("r0")

            harness.wait_until(is_begun, "the first is begun")
            assert len(redis.ask("KEYS", "vc:lk:event:*")) < 40, "the others' webhooks wait"
            harness.wait_until(lambda: is_begun() and len(redis.ask("KEYS", "vc:lk:event:*")) == 40, "all are taken")
            assert seen == {200}, seen
            way.delay_s = 0


def test_one_node_polls():
    with two_nodes(LIVEKIT_POLL_MS=1000) as (livekit, redis, nodes):
        began, first = time.monotonic(), total(nodes, "polls_total")
        harness.wait_until(lambda: total(nodes, "polls_total") >= first + 5, "five polls")
        polls, took_s = total(nodes, "polls_total") - first, time.monotonic() - began
        print(f"{polls} polls in {took_s:.1f} s")
        assert polls <= took_s / 0.9 + 2, (polls, took_s)
        # One is as good as the other, and without Redis each looks for itself.
        livekit.start_room("r", tells=False)
        livekit.wait_active("r")
        redis.kill()
        livekit.start_room("s", tells=False)
        livekit.wait_active("s")
        before = [counters(node)["polls_total"] for node in nodes]
        harness.wait_until(lambda: all(counters(node)["polls_total"] > n + 1 for node, n in zip(nodes, before)), "both poll")


if __name__ == "__main__":
    harness.main(globals())
