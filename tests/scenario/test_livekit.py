"""Rooms of LiveKit: their webhooks, their egresses, and the words of them. (takes long)"""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time

import fake_livekit
import harness
import tokens
from fake_livekit import FakeLiveKit
from scripted_stt import ScriptedStt


PUBLIC_KEY = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
"""


def livekit_node(stt, livekit, **options):
    """Its RTMP address is told to LiveKit before it is known: the port is chosen here."""
    address = f"127.0.0.1:{harness.free_port()}"
    settings = {"LIVEKIT_URL": livekit.url, "LIVEKIT_API_KEY": fake_livekit.KEY, "LIVEKIT_API_SECRET": fake_livekit.SECRET,
                "LIVEKIT_AUTO_EGRESS": f"rtmp://{address}/live", "LIVEKIT_POLL_MS": 0, "RTMP_LISTEN": address}
    settings.update(options)
    return harness.node(stt.url, **settings)


@contextlib.contextmanager
def stage(**options):
    """A LiveKit whose webhooks come to a node."""
    with ScriptedStt() as stt, FakeLiveKit() as livekit, livekit_node(stt, livekit, **options) as node:
        livekit.serve(node)
        yield livekit, node


def counters(node):
    found = harness.http_json(node.url("admin", "/metrics"))["counters"]
    return {name.removeprefix("livekit."): value for name, value in found.items() if name.startswith("livekit.")}


def wait_counter(node, name, value):
    harness.wait_until(lambda: counters(node)[name] >= value, f"{name} is {value}: {counters(node)}")


def degraded(node):
    return [row["what"] for row in harness.http_json(node.url("admin", "/readyz"))["degraded"]]


def test_room_is_heard():
    with stage() as (livekit, node), harness.viewer(node, "daily") as viewer:
        livekit.start_room("daily")
        viewer.wait_finals(2)
        livekit.finish_room("daily")
        assert viewer.wait_type("end")["reason"] == "publisher_left"
        start = [request for method, request in livekit.calls if method == "StartRoomCompositeEgress"]
        assert len(start) == 1 and start[0]["audio_only"] is True, start
        assert start[0]["advanced"]["audio_codec"] == "AAC", start
        assert start[0]["stream_outputs"][0]["urls"] == [f"rtmp://{node.addresses['rtmp']}/live/daily"], start
        assert "file_outputs" not in start[0] and "layout" not in start[0], start
        assert livekit.denied == []
        assert degraded(node) == []


def test_token_of_the_egress():
    secret = "what publishers sign with"
    with stage(PUBLISH_SECRET=secret) as (livekit, node), harness.viewer(node, "daily") as viewer:
        livekit.start_room("daily")
        viewer.wait_finals(1)
        address = livekit.wait_active("daily")[0].url
        claims = fake_livekit.claims_of(address.split("?token=")[1], secret)
        assert claims["session"] == "daily" and 80000 < claims["exp"] - time.time() <= 86400, claims
        assert address.split("token=")[1] not in node.log()


def test_token_of_an_egress_that_fails():
    """LiveKit says at which address: that is told to whoever asks how the node is, and to the log."""
    secret = "what publishers sign with"
    with stage(PUBLISH_SECRET=secret, LOG_LEVEL="debug") as (livekit, node):
        livekit.quotes = True
        livekit.refuses["StartRoomCompositeEgress"] = (400, "invalid_argument")
        livekit.start_room("r")
        harness.wait_until(lambda: degraded(node) == ["livekit"], "it is said")
        pages = [harness.http(node.url("http", path))[2] for path in ("/readyz", "/metrics")]
        assert all("invalid_argument: it was told to: rtmp://" in page for page in pages), pages
        node.wait_log("event=livekit.failed.*it was told to: rtmp://")
        livekit.egress_fails = 1
        livekit.refuses.clear()
        node.wait_log("event=livekit.egress_failed.*no space left on it: rtmp://")
        addresses = [request["stream_outputs"][0]["urls"][0] for method, request in livekit.calls
                     if method == "StartRoomCompositeEgress"]
        assert len(addresses) >= 2, livekit.calls
        for part in (part for address in addresses for part in address.split("?token=")[1].split(".")):
            for text in (*pages, node.log()):
                assert part[:8] not in text, f"{part} of a token is told"


def test_room_that_is_over_does_not_wait():
    with stage(SESSION_RESUME_MS=600000) as (livekit, node), harness.viewer(node, "r") as viewer:
        livekit.start_room("r")
        viewer.wait_finals(1)
        livekit.wait_active("r")[0].publisher.kill()
        viewer.wait(lambda message: message["type"] == "status" and message["state"] == "reconnecting", "reconnecting")
        livekit.finish_room("r")
        assert viewer.wait_type("end", timeout=20)["reason"] == "publisher_left"


def test_egress_that_outlives_its_room():
    """It is heard out for a while, unless a room of that name is on again."""
    with stage() as (livekit, node), harness.viewer(node, "r") as viewer:
        livekit.start_room("r")
        viewer.wait_finals(1)
        livekit.tell("room_finished", room=livekit.room("r"))
        with harness.publisher(node, "r"):
            node.wait_log("event=ingest.takeover")
            finals = len(viewer.finals())
            viewer.wait_finals(finals + 5)
            assert not any(message["type"] == "end" for message in viewer.messages), viewer.messages
            livekit.tell("room_finished", room=livekit.room("r"))
            assert viewer.wait_type("end")["reason"] == "publisher_left"


def test_webhook_that_comes_again():
    with stage() as (livekit, node):
        livekit.start_room("r")
        livekit.wait_active("r")
        body = livekit.tell("room_started", room=livekit.room("r"))  # another id, the same room
        for _ in range(3):
            assert fake_livekit.post_webhook(livekit.webhook_urls[0], body, fake_livekit.signed(body))[0] == 200
        wait_counter(node, "webhooks_repeated_total", 3)
        harness.wait_until(lambda: livekit.n_calls("ListEgress") >= 2, "it was looked at again")
        livekit.finish_room("r")
        assert livekit.n_calls("StartRoomCompositeEgress") == 1, livekit.calls


@contextlib.contextmanager
def one_of_two_was_stopped():
    """Two nodes were told of the room "r" at once; of the egresses that both began one goes on."""
    with stage() as (livekit, node), ScriptedStt() as stt, \
            livekit_node(stt, livekit, LIVEKIT_AUTO_EGRESS=f"rtmp://{node.addresses['rtmp']}/live") as other:
        livekit.serve(node, other)
        livekit.publishes = False
        livekit.before_start = threading.Barrier(2, timeout=harness.PATIENCE_S).wait
        livekit.start_room("r")
        harness.wait_until(lambda: livekit.n_calls("StopEgress") == 1, f"one is stopped: {livekit.calls}")
        yield livekit, node, other


def test_two_nodes_are_told():
    """Where LiveKit lists an egress nobody begins another; of two that were begun at once one is stopped."""
    with one_of_two_was_stopped() as (livekit, node, other):
        assert livekit.wait_active("r")[0].id == "EG_0000"
        harness.wait_until(lambda: livekit.n_calls("ListEgress") >= 4, "both have looked at what they did")
        assert sorted(counters(each)["egress_stops_total"] for each in (node, other)) == [0, 1]
        # Another id, another order: what is listed is enough.
        looked = livekit.n_calls("ListEgress")
        livekit.webhook_urls.reverse()
        livekit.tell("room_started", room=livekit.room("r"))
        harness.wait_until(lambda: livekit.n_calls("ListEgress") >= looked + 2, "both have looked")
        assert livekit.n_calls("StartRoomCompositeEgress") == 2, livekit.calls
        assert livekit.n_calls("StopEgress") == 1, livekit.calls


def test_one_of_two_fails():
    """That the other was stopped, since it was one too many, is no reason to leave the room alone."""
    with one_of_two_was_stopped() as (livekit, node, _):
        livekit.before_start = lambda: None
        livekit.serve(node)
        livekit.end_egress(livekit.wait_active("r")[0], "EGRESS_FAILED", "its machine died")
        livekit.wait_active("r")


def test_egress_that_begins_late():
    """LiveKit begins it after all, when nobody waits for the answer any more: of two one is stopped."""
    is_first, begins = threading.Lock(), threading.Event()

    def wait():
        if is_first.acquire(blocking=False):  # pylint: disable=consider-using-with
            begins.wait(harness.PATIENCE_S)

    with stage(LIVEKIT_POLL_MS=1000) as (livekit, node):
        livekit.publishes = False
        livekit.before_start = wait
        livekit.start_room("r")
        livekit.wait_active("r")
        begins.set()
        livekit.wait_active("r", 2)
        harness.wait_until(lambda: [egress.id for egress in livekit.active("r")] == ["EG_0000"], f"one is left: {livekit.calls}")
        polls = counters(node)["polls_total"]
        wait_counter(node, "polls_total", polls + 3)
        assert livekit.n_calls("StartRoomCompositeEgress") == 2 and livekit.n_calls("StopEgress") == 1, livekit.calls


def test_room_that_is_described_at_length():
    """What a room is described with goes with its webhooks: LiveKit allows half a megabyte of it."""
    with stage() as (livekit, node):
        livekit.publishes = False
        livekit.start_room("r", tells=False)
        livekit.tell("room_started", room=dict(livekit.room("r"), metadata='"' * 500000))
        livekit.wait_active("r")
        wait_counter(node, "webhooks_total", 1)


def test_lost_webhooks():
    with stage(LIVEKIT_POLL_MS=300) as (livekit, node), harness.viewer(node, "lost") as viewer:
        livekit.start_room("lost", tells=False)
        viewer.wait_finals(1)
        polls = counters(node)["polls_total"]
        wait_counter(node, "polls_total", polls + 3)
        assert livekit.n_calls("StartRoomCompositeEgress") == 1, livekit.calls
        livekit.finish_room("lost", tells=False)
        assert viewer.wait_type("end")["reason"] == "publisher_left"


def test_room_that_is_older_than_the_node():
    with ScriptedStt() as stt, FakeLiveKit() as livekit:
        livekit.start_room("old")
        with livekit_node(stt, livekit, LIVEKIT_POLL_MS=3600000) as node, harness.viewer(node, "old") as viewer:
            viewer.wait_finals(1)


def test_egress_that_fails():
    """Not for ever at the same pace, and not in a room that is over."""
    with stage() as (livekit, node), harness.viewer(node, "r") as viewer:
        livekit.egress_fails = 2
        livekit.start_room("r")
        livekit.wait_active("r")
        assert livekit.n_calls("StartRoomCompositeEgress") == 3, livekit.calls
        viewer.wait_finals(1)
        livekit.end_egress(livekit.active("r")[0], "EGRESS_FAILED", "lost its way")
        livekit.wait_active("r")
        assert livekit.n_calls("StartRoomCompositeEgress") == 4, livekit.calls
        wait_counter(node, "egress_failures_total", 3)
        viewer.wait(lambda message: message["type"] == "status" and message["state"] == "live"
                    and message["seq"] > viewer.finals()[0]["seq"], "the session goes on")
        # It ends with its room: LiveKit says both, and nobody begins another.
        room, egress = livekit.room("r"), livekit.active("r")[0]
        looked = livekit.n_calls("ListRooms")
        del livekit.rooms["r"]
        livekit.end_egress(egress, "EGRESS_FAILED", "the room went")
        harness.wait_until(lambda: livekit.n_calls("ListRooms") > looked, "it is asked whether the room is on")
        livekit.tell("room_finished", room=room)
        assert viewer.wait_type("end")["reason"] == "publisher_left"
        assert livekit.n_calls("StartRoomCompositeEgress") == 4, livekit.calls


def test_egress_that_was_stopped():
    """Somebody wanted that."""
    with stage(LIVEKIT_POLL_MS=200) as (livekit, node):
        livekit.start_room("r")
        livekit.end_egress(livekit.wait_active("r")[0], "EGRESS_COMPLETE")
        node.wait_log("event=livekit.left")
        polls = counters(node)["polls_total"]
        wait_counter(node, "polls_total", polls + 3)
        assert livekit.n_calls("StartRoomCompositeEgress") == 1, livekit.calls


def test_refusals():
    with stage() as (livekit, node):
        url = livekit.webhook_urls[0]
        livekit.start_room("r", tells=False)
        body = livekit.event("room_started", room=livekit.room("r"))
        other = body.replace(b'"r"', b'"s"')
        rows = [
            (None, "Authorization"),
            ("", ""),
            ("nonsense", ""),
            (fake_livekit.signed(body, secret="not the secret of LiveKit's, but long"), "signed"),
            (fake_livekit.signed(body, key="APIother"), "another API key"),
            (fake_livekit.signed(body, expires_s=-60), "expired"),
            (fake_livekit.signed(body, hashed=other), "body"),
            (fake_livekit.sign({"iss": fake_livekit.KEY, "exp": time.time() + 60}), "body"),
            (fake_livekit.signed(body, expires_s=None), "exp is missing"),
            (fake_livekit.signed(body).rsplit(".", 1)[0] + ".", ""),
            ("Bearer " + fake_livekit.signed(body), ""),
            (tokens.token(fake_livekit.SECRET, "r"), "another API key"),
        ]
        for authorization, words in rows:
            status, answer = fake_livekit.post_webhook(url, body, authorization)
            assert status == 401 and words in json.loads(answer)["error"], (authorization, status, answer)
        assert counters(node)["webhooks_refused_total"] == len(rows), counters(node)
        assert counters(node)["webhooks_total"] == 0 and livekit.calls == []
        deep = b"[" * 60000
        assert fake_livekit.post_webhook(url, deep, fake_livekit.signed(deep))[0] == 200
        wait_counter(node, "webhooks_malformed_total", 1)
        assert harness.http(url)[0] == 405
        large = b" " * (1024 * 1024 + 1)
        assert harness.http(url, method="POST", body=large)[0] == 413
        assert harness.http(url, method="POST", body=large[1:])[0] == 401
        assert fake_livekit.post_webhook(node.url("admin", "/livekit/webhook"), body, fake_livekit.signed(body))[0] == 200
        livekit.wait_active("r")


def test_livekit_away():
    with stage() as (livekit, node):
        livekit.refuses["StartRoomCompositeEgress"] = (503, "unavailable")
        livekit.start_room("r")
        harness.wait_until(lambda: degraded(node) == ["livekit"], "it is said")
        reason = harness.http_json(node.url("admin", "/readyz"))["degraded"][0]["reason"]
        assert reason == "livekit refused: 503 unavailable: it was told to", reason
        wait_counter(node, "egress_failures_total", 2)
        livekit.refuses.clear()
        livekit.wait_active("r")
        harness.wait_until(lambda: degraded(node) == [], "it is well again")


def test_keys_that_change():
    """LiveKit is called with the first of each; webhooks are believed by any, which a reload may add to."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "secret")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{fake_livekit.SECRET},the one that was")
        with stage(LIVEKIT_API_KEY=f"{fake_livekit.KEY},APIold", LIVEKIT_API_SECRET="@" + path) as (livekit, node):
            livekit.publishes = False
            livekit.start_room("r")
            livekit.wait_active("r")
            assert livekit.denied == []
            body = livekit.event("participant_joined")
            for key, secret, status in (("APIold", "the one that was", 200), ("APIold", "the next one", 401)):
                assert fake_livekit.post_webhook(livekit.webhook_urls[0], body, fake_livekit.signed(body, key, secret))[0] == status
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"{fake_livekit.SECRET},the next one")
            node.signal(signal.SIGHUP)
            for secret, status in (("the next one", 200), ("the one that was", 401)):
                harness.wait_until(lambda: fake_livekit.post_webhook(livekit.webhook_urls[0], body, fake_livekit.signed(
                    body, secret=secret))[0] == status, f"{status} for {secret}")  # pylint: disable=cell-var-from-loop


def test_livekit_that_leads_elsewhere():
    """Tokens are for LiveKit alone; and no answer fills the memory."""
    with FakeLiveKit() as elsewhere, stage() as (livekit, node):
        livekit.publishes = False

        def degraded_because(reason):
            rows = harness.http_json(node.url("admin", "/readyz"))["degraded"]
            return [row["reason"] for row in rows] == [reason]

        livekit.redirects = elsewhere.url
        livekit.start_room("r")
        harness.wait_until(lambda: degraded_because("livekit refused: 307"), "it is said")
        assert elsewhere.calls == [] and elsewhere.denied == []
        livekit.redirects, livekit.padding = "", 17 * 1024 * 1024
        harness.wait_until(lambda: degraded_because("livekit unreachable: answer too big"), "it is said")
        livekit.padding = 0
        livekit.wait_active("r")
        harness.wait_until(lambda: degraded(node) == [], "it is well again")


def test_livekit_unreachable():
    with ScriptedStt() as stt, FakeLiveKit() as livekit:
        with livekit_node(stt, livekit, LIVEKIT_URL=f"ws://127.0.0.1:{harness.free_port()}") as node:
            livekit.serve(node)
            livekit.start_room("r")
            harness.wait_until(lambda: degraded(node) == ["livekit"], "it is said")
            livekit.finish_room("r")
            harness.wait_until(lambda: degraded(node) == [], "a room that is over is no trouble")


def test_drain_while_livekit_is_silent():
    asked, answered = threading.Event(), threading.Event()

    def hang():
        asked.set()
        answered.wait(harness.PATIENCE_S)

    with ScriptedStt() as stt, FakeLiveKit() as livekit:
        livekit.before_start = hang
        with livekit_node(stt, livekit) as node:
            livekit.serve(node)
            livekit.start_room("r")
            assert asked.wait(harness.PATIENCE_S)
            began = time.monotonic()
            node.stop()
            took_s = time.monotonic() - began
        answered.set()
        assert took_s < 12, took_s  # Civetweb's doors alone take 4 s; LiveKit's answer is waited for 15 s
        print(f"{took_s:.1f} s")


def test_only_a_trusted_livekit_is_called():
    with tempfile.TemporaryDirectory() as folder:
        certified = fake_livekit.certificate(folder)
        with ScriptedStt() as stt, FakeLiveKit(certified) as livekit:
            livekit.publishes = False
            with livekit_node(stt, livekit) as node:
                livekit.serve(node)
                livekit.start_room("r")
                harness.wait_until(lambda: degraded(node) == ["livekit"], "it is said")
                reason = harness.http_json(node.url("admin", "/readyz"))["degraded"][0]["reason"]
                assert reason == "livekit unreachable: certificate not trusted", reason
                assert livekit.calls == [] and livekit.denied == []
            with livekit_node(stt, livekit, LIVEKIT_CA_FILE=certified[0], LIVEKIT_POLL_MS=60000,
                              LIVEKIT_URL=f"wss://127.0.0.1:{livekit.port}/"):
                livekit.wait_active("r")


def test_room_that_begins_anew():
    """What is said late of its life before does not end it."""
    with stage() as (livekit, node), harness.viewer(node, "r") as viewer:
        livekit.start_room("r")
        viewer.wait_finals(1)
        before = livekit.room("r")
        livekit.finish_room("r", tells=False)
        viewer.wait_type("end")
        livekit.start_room("r")
        viewer.wait_finals(2)
        finals = len(viewer.finals())
        livekit.tell("room_finished", room=before)
        viewer.wait_finals(finals + 5)
        assert sum(message["type"] == "end" for message in viewer.messages) == 1
        livekit.finish_room("r")
        harness.wait_until(lambda: sum(message["type"] == "end" for message in viewer.messages) == 2, "the second end")


def test_many_rooms_at_once():
    """More than are called about at once; each is begun once."""
    with stage(LIVEKIT_POLL_MS=500) as (livekit, node):
        livekit.publishes = False
        names = [f"room-{n}" for n in range(300)]
        for name in names:
            livekit.start_room(name, tells=False)
        began = time.monotonic()
        harness.wait_until(lambda: len(livekit.active()) == len(names), f"all are begun: {len(livekit.active())}")
        print(f"300 rooms in {time.monotonic() - began:.1f} s")
        polls = counters(node)["polls_total"]
        wait_counter(node, "polls_total", polls + 2)
        assert sorted(egress.room["name"] for egress in livekit.active()) == sorted(names)
        assert livekit.n_calls("StartRoomCompositeEgress") == len(names)


def test_one_room_is_not_in_the_way_of_others():
    """Whoever names it may put there what no list can be read for."""
    with stage(LIVEKIT_POLL_MS=300) as (livekit, node):
        livekit.publishes = False
        livekit.start_room("a\x00b", tells=False)
        livekit.start_room("r", tells=False)
        livekit.wait_active("r")
        assert degraded(node) == [] and livekit.n_calls("StartRoomCompositeEgress") == 1, livekit.calls


def test_names_of_rooms():
    names = {"A daily meeting": "A-daily-meeting--", "встреча": "room--", "../../etc/passwd": "etc-passwd--", "r" * 200: "r" * 110 + "--",
             "plain.name_1": "plain.name_1"}
    with stage() as (livekit, node):
        for name, begins in names.items():
            livekit.start_room(name)
            slug = livekit.wait_active(name)[0].url.rsplit("/", 1)[1]
            assert slug.startswith(begins) and len(slug) <= 128, slug
            assert (slug == name) == (begins == name), slug
            with harness.viewer(node, slug) as viewer:
                viewer.wait_finals(1)
                livekit.finish_room(name)
                viewer.wait_type("end")
        assert node.log().count("event=livekit.named") == 4, node.log()


def test_room_that_is_called_as_anothers_session():
    """It neither takes that session over nor ends it."""
    with stage() as (livekit, node):
        livekit.start_room("A daily meeting")
        slug = livekit.wait_active("A daily meeting")[0].url.rsplit("/", 1)[1]
        with harness.viewer(node, slug) as viewer:
            viewer.wait_finals(1)
            livekit.start_room(slug)
            other = livekit.wait_active(slug)[0].url.rsplit("/", 1)[1]
            assert other.startswith(f"{slug}--"), other
            livekit.finish_room(slug)
            finals = len(viewer.finals())
            viewer.wait_finals(finals + 5)
            assert not any(message["type"] == "end" for message in viewer.messages), viewer.messages


def test_through_a_proxy():
    """With LiveKit's keys the viewers' door is protected; the operators' is when it has its token."""
    with stage() as (livekit, node), ScriptedStt() as stt, livekit_node(stt, livekit, ADMIN_TOKEN="hush") as other:
        body = livekit.event("participant_joined")
        headers = {"Authorization": fake_livekit.signed(body), "X-Forwarded-For": "203.0.113.7"}
        for one, door, want in ((node, "http", 200), (node, "admin", 403), (other, "admin", 200)):
            status, _, answer = harness.http(one.url(door, "/livekit/webhook"), method="POST", headers=headers, body=body)
            assert status == want, (door, status, answer)


def test_not_configured():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        status, answer = fake_livekit.post_webhook(node.url("http", "/livekit/webhook"), b"{}", fake_livekit.signed(b"{}"))
        assert status == 404 and "LIVEKIT_API_KEY and LIVEKIT_API_SECRET" in answer, (status, answer)
        assert counters(node)["webhooks_total"] == 0  # the names are there


def test_what_goes_together():
    whole = {"LIVEKIT_URL": "wss://livekit.example", "LIVEKIT_API_KEY": "k", "LIVEKIT_API_SECRET": "s",
             "LIVEKIT_AUTO_EGRESS": "rtmp://media.example:1937/live"}
    rows = [
        ({}, 0, ""),
        ({"LIVEKIT_API_SECRET": None}, 1, "LIVEKIT_API_KEY is set and LIVEKIT_API_SECRET is not"),
        ({"LIVEKIT_API_KEY": None}, 1, "LIVEKIT_API_SECRET is set and LIVEKIT_API_KEY is not"),
        ({"LIVEKIT_URL": None}, 1, "LIVEKIT_AUTO_EGRESS is set and LIVEKIT_URL is not"),
        ({"LIVEKIT_API_KEY": None, "LIVEKIT_API_SECRET": None}, 1, "LIVEKIT_AUTO_EGRESS is set and LIVEKIT_API_KEY is not"),
        ({"LIVEKIT_URL": "ftp://livekit.example"}, 2, "LIVEKIT_URL"),
        ({"LIVEKIT_AUTO_EGRESS": "rtmp://media.example"}, 2, "LIVEKIT_AUTO_EGRESS"),
        ({"LIVEKIT_AUTO_EGRESS": "http://media.example/live"}, 2, "LIVEKIT_AUTO_EGRESS"),
        ({"LIVEKIT_POLL_MS": "-1"}, 2, "LIVEKIT_POLL_MS"),
        ({"LIVEKIT_CA_FILE": "/nothing"}, 2, "LIVEKIT_CA_FILE"),
        ({"PUBLISH_SECRET": "s"}, 0, ""),
        ({"PUBLISH_SECRET": PUBLIC_KEY}, 1, "PUBLISH_SECRET is a public key"),
        ({"PUBLISH_SECRET": PUBLIC_KEY, "LIVEKIT_AUTO_EGRESS": None}, 0, ""),
        ({"PUBLISH_SECRET": "s," + PUBLIC_KEY}, 0, ""),
    ]
    for change, status, words in rows:
        options = {name: value for name, value in {**whole, **change}.items() if value is not None}
        run = subprocess.run([harness.program("verbacast"), "--check-config"], env=options, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True, check=False)
        assert run.returncode == status and words in run.stderr, (change, run)


if __name__ == "__main__":
    harness.main(globals())
