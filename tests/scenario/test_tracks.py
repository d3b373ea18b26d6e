"""Participants who publish streams of their own: one session of many speakers."""

import contextlib
import json
import os
import socket
import sqlite3
import time

import harness
import scoring
from redis_server import RedisServer
from scripted_stt import ScriptedStt
from test_words import MOST, recordings
from tokens import token
from track import Track, refusal, sound_of, tone


def of(viewer, speaker):
    return [final for final in viewer.finals() if final["speaker"] == speaker]


def words_of(viewer, speaker):
    return sum((scoring.words_of(final["text"]) for final in of(viewer, speaker)), [])


def publisher_row(node, slug="room"):
    rows = [row for row in harness.http_json(node.url("admin", "/sessions")) if row["slug"] == slug]
    return rows[0]["publisher"] if rows else None


@contextlib.contextmanager
def room(**options):
    """(stt, node, viewer of "room")."""
    with ScriptedStt() as stt, harness.node(stt.url, **options) as node, harness.viewer(node, "room") as viewer:
        yield stt, node, viewer


def test_two_who_speak_at_once_are_told_apart():
    played = recordings()[:2]
    with harness.stt() as stt, harness.node(stt.url("stt", "/v2/live")) as node, harness.viewer(node, "room") as viewer:
        with Track(node, "room", "Ada Lovelace") as ada, Track(node, "room", "Боб", rate=16000, channels=1) as bob:
            sounds = [ada.start(sound_of(played[0][0])), bob.start(sound_of(played[1][0], 16000, 1))]
            row = publisher_row(node)
            assert {one["participant"]: (one["connected"], one["rate"], one["channels"]) for one in row["participants"]} \
                == {"Ada Lovelace": (True, 48000, 2), "Боб": (True, 16000, 1)}, row
            for sound in sounds:
                sound.result(harness.PATIENCE_S)
            ada.leave()
            bob.leave(1000)
        viewer.wait_type("end")
        epochs = {message["epoch"] for message in viewer.messages if message["type"] != "hello"}
        assert len(epochs) == 1, epochs
        for speaker, (_, want) in zip(("Ada Lovelace", "Боб"), played):
            got = words_of(viewer, speaker)
            print(f"{speaker}: {scoring.distance(want, got)} of {len(want)} words differ")
            assert scoring.distance(want, got) <= 2 * MOST * len(want), (speaker, want, got)
        finals = viewer.finals()
        assert {final["speaker"] for final in finals} == {"Ada Lovelace", "Боб"}
        assert len({final["utteranceId"] for final in finals}) == len(finals)
        _, _, text = harness.http(node.url("http", "/sessions/room/transcript.vtt"))
        assert "<v Ada Lovelace>" in text and "<v Боб>" in text, text
        store = os.path.join(node.folder, "store.db")
        harness.wait_until(lambda: count(store, "transcripts") == len(finals), "all finals in the database")
        with contextlib.closing(sqlite3.connect(store)) as database:
            rows = database.execute("SELECT label, count(*) FROM participants p JOIN transcripts t ON t.participant_id = p.id"
                                    " GROUP BY label").fetchall()
        assert dict(rows) == {name: len(of(viewer, name)) for name in ("Ada Lovelace", "Боб")}, rows


def count(path, table):
    with contextlib.closing(sqlite3.connect(path)) as database:
        try:
            return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        except sqlite3.OperationalError:  # it is made with the first batch
            return 0


def test_times_count_from_the_first_sound_of_any():
    with room() as (_, node, viewer):
        with Track(node, "room", "Ada") as ada, Track(node, "room", "Bob", rate=16000, channels=1) as bob:
            bob.mute(True)
            ada.tone(3)
            bob.mute(False)
            bob.tone(2.2)
            first = harness.wait_until(lambda: of(viewer, "Bob"), "Bob's words")[0]
            assert 2.7 < first["start"] < 4.5 and 3.7 < first["end"] < 5.5, first
            assert abs(first["words"][0]["start"] - first["start"]) < 0.01, first
            assert of(viewer, "Ada")[0]["start"] == 0
            ada.leave()
            bob.leave()
        assert viewer.wait_type("end")["reason"] == "publisher_left"


def test_a_mute_keeps_the_time_and_a_burst_does_not_hasten_it():
    for seconds in (2.5, 2, 1.5):
        tone(seconds)
    with room() as (stt, node, viewer), Track(node, "room", "Ada") as ada:
        began = time.monotonic()
        ada.tone(2.5)
        ada.mute(True)
        heard = harness.wait_until(lambda: sum(s.received for s in stt.sessions.values()) >= 4.4 * 32000,
                                   "silence that ends an utterance")
        assert heard
        time.sleep(max(0, began + 6.5 - time.monotonic()))
        ada.mute(False)
        ada.tone(2)
        # The network stands still for two seconds; then all of it comes at once.
        held = tone(2)
        time.sleep(2)
        ada.send(held[:250000])
        ada.send(held[250000:])
        ada.tone(1.5)
        said_s = time.monotonic() - began
        time.sleep(0.5)
        ada.leave()
        viewer.wait_type("end")
        last = viewer.finals()[-1]
        print(f"ended at {said_s:.2f} s, told {last['end']:.2f} s")
        assert said_s - 0.8 < last["end"] < said_s + 0.4, (said_s, last)
        received = sum(session.received for session in stt.sessions.values()) / 32000
        assert received < 8 + 4.5, received  # the mute was not sent whole
        starts = [final["start"] for final in viewer.finals()]
        assert starts == sorted(starts), starts


def test_a_muted_stream_is_not_idle_and_a_dead_one_is():
    with room(INGEST_IDLE_TIMEOUT_MS=900, SESSION_RESUME_MS=500) as (_, node, viewer):
        with Track(node, "room", "Ada") as ada:
            ada.tone(0.5)
            ada.mute(True)
            time.sleep(2.5)  # the time-out, twice and more: pongs go on by themselves
            assert publisher_row(node)["participants"][0]["muted"] is True
            ada.tone(0.2)
            assert publisher_row(node)["participants"][0]["muted"] is False
            ada.leave()
        viewer.wait_type("end")
        with Track(node, "dead", "Ada") as ada, harness.viewer(node, "dead") as watcher:
            ada.tone(0.5)
            # Nothing is read or sent any more: no pong.
            ada.loop.call_soon_threadsafe(ada.socket.transport.pause_reading)
            assert watcher.wait_type("end")["reason"] == "publisher_left"
            assert harness.http_json(node.url("admin", "/metrics"))["counters"]["ingest.timeouts_total"] == 1


def test_the_same_participant_takes_over():
    with room() as (_, node, viewer):
        with Track(node, "room", "Ada") as first, Track(node, "room", "Bob") as bob:
            first.tone(1.2)
            with Track(node, "room", "Ada") as second:
                assert first.wait_close() == 4002
                second.tone(1.5)
                assert len(harness.wait_until(lambda: of(viewer, "Ada") if len(of(viewer, "Ada")) >= 2 else None,
                                              "Ada goes on")) >= 2
                second.leave()
            bob.leave()
        viewer.wait_type("end")
        assert len({final["epoch"] for final in viewer.finals()}) == 1
        # One STT session for both: its ordinal did not change.
        assert {final["utteranceId"].split("-")[0] for final in of(viewer, "Ada")} == {"1"}


def test_one_that_is_lost_comes_back():
    with room() as (_, node, viewer):
        with Track(node, "room", "Ada") as ada:
            ada.tone(1.2)
            ada.break_off()
        assert viewer.wait_type("status")["state"] == "reconnecting"
        with Track(node, "room", "Ada") as ada:
            ada.tone(1.5)
            viewer.wait(lambda message: message["type"] == "status" and message["state"] == "live", "it is live again")
            harness.wait_until(lambda: len(of(viewer, "Ada")) >= 2, "Ada goes on")
            # One of two that is lost does not make the session less live.
            with Track(node, "room", "Bob") as bob:
                bob.tone(0.3)
                n_before = len([message for message in viewer.messages if message["type"] == "status"])
                bob.break_off()
            harness.wait_until(lambda: not all(one["connected"] for one in publisher_row(node)["participants"]), "Bob is lost")
            ada.tone(1)
            assert len([message for message in viewer.messages if message["type"] == "status"]) == n_before
            assert harness.http_json(node.url("admin", "/sessions"))[0]["state"] == "live"
            ada.break_off()
        viewer.wait(lambda message: message["seq"] > 0 and message["type"] == "status" and message["state"] == "reconnecting"
                    and len(of(viewer, "Ada")) >= 2, "nobody is there")


def test_who_leaves_and_comes_again_has_new_ids():
    with room() as (_, node, viewer), Track(node, "room", "Bob") as bob:
        for n in (1, 2):
            with Track(node, "room", "Ada") as ada:
                ada.tone(1.2)
                ada.leave()
            harness.wait_until(lambda most=n: len(of(viewer, "Ada")) >= 2 * most, "Ada's words")
        ids = [final["utteranceId"] for final in of(viewer, "Ada")]
        assert len(set(ids)) == len(ids) and {one.split("-")[0] for one in ids} == {"1", "2"}, ids
        assert not [message for message in viewer.messages if message["type"] == "end"]
        bob.leave()
        viewer.wait_type("end")


def test_rtmp_and_tracks_are_one_session():
    with room() as (_, node, viewer), harness.publisher(node, "room") as publisher:
        viewer.wait_finals(1)
        with Track(node, "room", "Ada", rate=16000, channels=1) as ada:
            ada.tone(1.5)
            harness.wait_until(lambda: of(viewer, "Ada"), "Ada's words")
            row = publisher_row(node)
            assert row["codec"] == "aac" and row["connected"] and [one["participant"] for one in row["participants"]] == ["Ada"]
            publisher.stop()
            harness.wait_until(lambda: publisher_row(node)["codec"] == "pcm", "RTMP has left")
            n = len(of(viewer, "Ada"))
            ada.tone(1.5)
            harness.wait_until(lambda: len(of(viewer, "Ada")) > n, "Ada goes on alone")
            assert not [message for message in viewer.messages if message["type"] == "end"]
            ada.leave()
        viewer.wait_type("end")
        assert {final["speaker"] for final in viewer.finals()} == {None, "Ada"}
        assert len({final["epoch"] for final in viewer.finals()}) == 1


def kick(node, **body):
    return harness.http(node.url("admin", "/admin/kick"), method="POST", body=json.dumps(body).encode())[0]


def test_one_or_all_are_kicked():
    with room() as (_, node, viewer):
        with Track(node, "room", "Ada") as ada, Track(node, "room", "Bob") as bob, Track(node, "room", "Cid") as cid:
            for one in (ada, bob, cid):
                one.tone(0.2)
            assert kick(node, session="room", participant="Bob") == 200
            assert bob.wait_close() == 4003
            assert kick(node, session="room", participant="Bob") == 404
            ada.tone(0.2)
            assert kick(node, session="room") == 200
            assert ada.wait_close() == 4003 and cid.wait_close() == 4003
        assert viewer.wait_type("end")["reason"] == "kicked"


def test_refusals_before_the_upgrade():
    secret = "publish-me"
    with ScriptedStt() as stt, harness.node(stt.url, PUBLISH_SECRET=secret, MAX_PUBLISHERS=1) as node:
        good = f"&token={token(secret, 'room')}"
        rows = (
            ("room", "?participant=Ada", 401, "a token is needed"),
            ("room", f"?participant=Ada&token={token('another', 'room')}", 401, "not"),
            ("room", f"?participant=Ada&token={token(secret, 'other')}", 403, "another session"),
            ("room", f"?participant=Ada&token={token(secret, 'room', -60)}", 401, "expired"),
            ("room", "?participant=" + good, 400, "participant="),
            ("room", "?participant=" + "x" * 65 + good, 400, "participant="),
            ("room", "?participant=%00" + good, 400, "participant="),
            ("room", "?participant=Ada&rate=1000" + good, 400, "rate="),
            ("room", "?participant=Ada&channels=0" + good, 400, "channels="),
            ("-room", "?participant=Ada" + good, 404, "streams are taken at"),
        )
        for slug, query, status, why in rows:
            got = refusal(node, slug, query)
            assert got[0] == status and why in got[1], (query, got)
        assert refusal(node, "room", "?participant=Ada" + good, {"Origin": "https://elsewhere.example"})[0] == 403
        short, of_all = token(secret, "room", 1), token(secret, "*", 1)
        with Track(node, "room", "Ada", token=short) as ada:
            ada.tone(0.2)
            got = refusal(node, "room", "?participant=Bob" + good)
            assert got[0] == 429 and "Too many publishers" in got[1], got
            got = refusal(node, "other", f"?participant=Bob&token={token(secret, 'other')}")
            assert got[0] == 503 and "Too many publishers" in got[1], got
        # What was good when Ada's stream began lets Ada go on with it, and nobody begin another.
        harness.wait_until(lambda: refusal(node, "other", f"?participant=Bob&token={of_all}")[0] == 401, "the tokens expire")
        got = refusal(node, "room", f"?participant=Bob&token={short}")
        assert got[0] == 429 and "Too many publishers" in got[1], "he may come when there is room"
        with Track(node, "room", "Ada", token=short) as ada:
            ada.tone(0.2)
            ada.leave()


def test_what_is_no_sound():
    with room() as (_, node, viewer):
        for message, code in (("hello", 1003), ("[1]", 1003), ("x" * 5000, 1009), (bytes(300 * 1024), 1009)):
            with Track(node, "room", "Ada") as ada:
                ada.tone(0.1)
                ada.send(message)
                assert ada.wait_close() == code, (message[:10], code)
        # Not masked; and a frame that ends nowhere.
        for frame, code in ((b"\x82\x04abcd", 1002), (b"\x82\xff\x7f" + b"\xff" * 7 + b"abcd", 1009)):
            with raw(node, "room", "Mallory") as connection:
                connection.sendall(frame)
                answer = connection.recv(64)
                assert answer[:1] == b"\x88" and answer[2:4] == code.to_bytes(2, "big"), answer
        counters = harness.http_json(node.url("admin", "/metrics"))["counters"]
        assert counters["ingest.protocol_errors_total"] == 6, counters
        with Track(node, "room", "Ada") as ada:  # the node is well
            ada.tone(1.2)
            ada.leave()
        viewer.wait_finals(1)


def raw(node, slug, participant):
    host, port = node.addresses["http"].rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=harness.PATIENCE_S)
    connection.sendall(f"GET /ingest/livekit/{slug}?participant={participant} HTTP/1.1\r\nHost: {host}:{port}\r\n"
                       "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += connection.recv(1)
    assert b" 101 " in head, head
    return connection


def test_the_node_where_one_was_opened_last_has_the_session():
    with RedisServer() as redis, ScriptedStt() as stt, \
            harness.node(stt.url, REDIS_URL=redis.url) as node, harness.node(stt.url, REDIS_URL=redis.url) as other, \
            harness.viewer(node, "room") as viewer:
        with Track(node, "room", "Ada") as ada, Track(node, "room", "Cid") as cid:
            ada.tone(1.2)
            harness.wait_until(lambda: of(viewer, "Ada"), "Ada's words")
            with Track(other, "room", "Bob") as bob:
                assert ada.wait_close() == 4002 and cid.wait_close() == 4002
                bob.tone(1.2)
                assert publisher_row(node) is None
                assert [one["participant"] for one in publisher_row(other)["participants"]] == ["Bob"]
                bob.leave()
        assert viewer.wait_type("end")["reason"] == "publisher_left"
        epochs = {final["speaker"]: final["epoch"] for final in viewer.finals()}
        assert epochs["Ada"] < epochs["Bob"], epochs


def test_a_drain_ends_them():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        with Track(node, "room", "Ada") as ada, Track(node, "room", "Bob") as bob:
            ada.tone(1.2)
            bob.tone(0.2)
            node.process.terminate()
            assert ada.wait_close() == 1001 and bob.wait_close() == 1001
        assert viewer.wait_type("end")["reason"] == "shutdown"
        assert node.wait() == 0


if __name__ == "__main__":
    harness.main(globals())
