"""deploy/alerts.yml in the real Prometheus: every alarm is rung by what it is there for, and falls silent after. (release only)
(takes long)"""

import contextlib
import os
import sqlite3
import tempfile

import alarms
import fake_livekit
import harness
from fake_livekit import FakeLiveKit
from rtmp_peer import RtmpPeer
from scripted_stt import ScriptedStt
from test_slow_viewer import Deaf

prometheus = None  # alarms.run makes it
HUGE = " and so on" * 6500  # as long as a final's text may be: 64 kB


@contextlib.contextmanager
def locked(path):
    """Another program has the file: nobody writes to it."""
    with contextlib.closing(sqlite3.connect(path, timeout=harness.PATIENCE_S, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("ROLLBACK")


def test_a_node_that_dies_and_comes_back():
    with ScriptedStt() as stt, tempfile.TemporaryDirectory() as folder:
        node = harness.node(stt.url, folder=folder)
        address = node.addresses["admin"]
        prometheus.watch("verbacast", address)
        node.kill()
        prometheus.wait_firing(address, "VerbacastDown")
        with harness.node(stt.url, folder=folder, ADMIN_LISTEN=address):
            prometheus.wait_silent(address, "VerbacastDown")


def test_a_drain():
    with ScriptedStt() as stt, tempfile.TemporaryDirectory() as folder:
        node = harness.node(stt.url, folder=folder, DRAIN_DELAY_MS=600000)
        address = node.addresses["admin"]
        prometheus.watch("verbacast", address)
        node.process.terminate()
        prometheus.wait_firing(address, "VerbacastDrainDoesNotEnd")
        node.process.terminate()  # a second signal ends it at once
        assert node.wait() == 1, node.log()
        prometheus.wait_silent(address, "VerbacastDrainDoesNotEnd")


def test_an_stt_that_refuses():
    with ScriptedStt() as stt, alarms.watched_node(prometheus, stt.url, STT_BUFFER_MS=1000) as (node, address):
        stt.refuse_with = 503
        with harness.publisher(node, "room") as publisher:
            prometheus.wait_firing(address, "VerbacastSttDegraded", "VerbacastAudioDropped")
            stt.refuse_with = None
            prometheus.wait_silent(address, "VerbacastSttDegraded", "VerbacastAudioDropped")
            publisher.stop()


def test_a_livekit_that_refuses():
    with ScriptedStt() as stt, FakeLiveKit() as livekit:
        options = {"LIVEKIT_URL": livekit.url, "LIVEKIT_API_KEY": fake_livekit.KEY, "LIVEKIT_API_SECRET": fake_livekit.SECRET,
                   "LIVEKIT_AUTO_EGRESS": "rtmp://127.0.0.1:1/live"}
        livekit.publishes = False
        livekit.refuses["StartRoomCompositeEgress"] = (503, "unavailable")
        with alarms.watched_node(prometheus, stt.url, **options) as (node, address):
            livekit.serve(node)
            livekit.start_room("room")
            prometheus.wait_firing(address, "VerbacastLivekitDegraded")
            livekit.refuses.clear()
            prometheus.wait_silent(address, "VerbacastLivekitDegraded")


def test_an_stt_without_its_engine():
    with harness.stt(STT_ENGINE="pocketsphinx") as stt:
        prometheus.watch("verbacast-stt", stt.addresses["stt"])
        prometheus.wait_firing(stt.addresses["stt"], "VerbacastEngineDegraded")


def test_publishers_that_are_refused():
    with ScriptedStt() as stt, alarms.watched_node(prometheus, stt.url, MAX_PUBLISHERS=1) as (node, address):
        with harness.publisher(node, "room") as publisher, harness.viewer(node, "room") as viewer:
            viewer.wait_finals(1)
            with harness.publisher(node, "other") as other:
                assert other.wait() != 0
            for _ in range(11):
                with RtmpPeer(node) as peer:
                    peer.handshake()
                    peer.command("connect", 1, {"app": "elsewhere", "tcUrl": peer.url})
                    peer.wait_for(b"NetConnection.Connect.Rejected")
            prometheus.wait_firing(address, "VerbacastPublishersHaveNoRoom", "VerbacastPublishersTurnedAway")
            prometheus.wait_silent(address, "VerbacastPublishersHaveNoRoom", "VerbacastPublishersTurnedAway")
            publisher.stop()


def test_viewers_that_take_nothing():
    with ScriptedStt(0.2) as stt, contextlib.ExitStack() as stack:
        node, address = stack.enter_context(alarms.watched_node(prometheus, stt.url, SLOW_VIEWER_TIMEOUT_MS=300))
        stt.padding = " and so on" * 400
        for _ in range(7):
            stack.enter_context(Deaf(node, "room"))
        with harness.publisher(node, "room") as publisher:
            prometheus.wait_firing(address, "VerbacastSlowViewers")
            publisher.stop()
        prometheus.wait_silent(address, "VerbacastSlowViewers")


def test_viewers_that_do_not_answer():
    with ScriptedStt() as stt, contextlib.ExitStack() as stack:
        node, address = stack.enter_context(alarms.watched_node(prometheus, stt.url, PING_INTERVAL_MS=100))
        for _ in range(7):
            stack.enter_context(Deaf(node, "room"))
        prometheus.wait_firing(address, "VerbacastHeartbeatsMissed")
        prometheus.wait_silent(address, "VerbacastHeartbeatsMissed")


def test_a_viewer_that_comes_too_late_for_the_history():
    options = {"MAX_BROADCAST_QUEUE_SIZE": 16, "HISTORY_FINALS": 4}
    with ScriptedStt(0.2) as stt, alarms.watched_node(prometheus, stt.url, **options) as (node, address), \
            harness.viewer(node, "room") as viewer, Deaf(node, "room") as deaf:
        stt.padding = " and so on" * 400
        with harness.publisher(node, "room") as publisher:
            viewer.wait_finals(60)
            deaf.read_until(lambda message: message["type"] == "gap")
            prometheus.wait_firing(address, "VerbacastFinalsMissedByViewers")
            publisher.stop()
        prometheus.wait_silent(address, "VerbacastFinalsMissedByViewers")


def test_a_database_that_others_have_locked():
    with ScriptedStt(0.2) as stt, alarms.watched_node(prometheus, stt.url, JOURNAL_MAX_BYTES=65536) as (node, address):
        stt.padding = " and so on" * 400
        rings = ("VerbacastDatabaseDegraded", "VerbacastJournalUnsentOld", "VerbacastJournalNearlyFull",
                 "VerbacastJournalDegraded")
        with locked(os.path.join(node.folder, "store.db")), harness.publisher(node, "room") as publisher, \
                harness.viewer(node, "room") as viewer:
            prometheus.wait_firing(address, *rings)
            with harness.publisher(node, "other") as other:
                assert other.wait() != 0  # the journal is full
            viewer.wait_finals(len(viewer.finals()) + 3)  # who was there stays
            assert publisher.process.poll() is None
            publisher.stop()
            prometheus.wait_firing(address, "VerbacastPublishersHaveNoRoom")
        prometheus.wait_silent(address, *rings)


def test_a_place_that_is_taken():
    with ScriptedStt(0.2) as stt, alarms.watched_node(prometheus, stt.url) as (node, address), harness.viewer(node, "room") as viewer:
        with harness.publisher(node, "room") as publisher:
            first = viewer.wait_finals(1)[0]
            store = os.path.join(node.folder, "store.db")
            query = "SELECT id FROM sessions WHERE slug = 'room' AND epoch = ?"
            with contextlib.closing(sqlite3.connect(store, timeout=harness.PATIENCE_S)) as other:
                session, = harness.wait_until(lambda: other.execute(query, (first["epoch"],)).fetchone(), "the session is stored")
                other.executemany("INSERT INTO transcripts (session_id, utterance_id, seq, text, start_s, end_s)"
                                  " VALUES (?, ?, ?, 'another', 0, 0) ON CONFLICT DO NOTHING",
                                  [(session, f"other-{seq}", seq) for seq in range(first["seq"] + 1, first["seq"] + 200)])
                other.commit()
            prometheus.wait_firing(address, "VerbacastStoreDead")
            publisher.stop()
        prometheus.wait_silent(address, "VerbacastStoreDead")


def test_a_journal_that_others_have_locked():
    with ScriptedStt(0.2) as stt, alarms.watched_node(prometheus, stt.url) as (node, address):
        with harness.publisher(node, "room", realtime=False) as publisher:
            with locked(os.path.join(node.folder, "journal.db")):
                prometheus.wait_firing(address, "VerbacastJournalDegraded", "VerbacastJournalCommitsFail")
                stt.padding = HUGE  # 64 MB are soon there
                prometheus.wait_firing(address, "VerbacastJournalLost")
                publisher.kill()
            prometheus.wait_silent(address, "VerbacastJournalDegraded", "VerbacastJournalCommitsFail", "VerbacastJournalLost")


def test_a_journal_that_hangs():
    with ScriptedStt(0.05) as stt, alarms.watched_node(prometheus, stt.url) as (node, address):
        with harness.Frozen(node.process.pid, "vc-journal-0"), harness.publisher(node, "room", realtime=False) as publisher:
            prometheus.wait_firing(address, "VerbacastStuck")
            harness.wait_until(lambda: harness.http_json(node.url("admin", "/metrics"))["gauges"]["journal.backlog_bytes"] > 0,
                               "the lane is full")
            stt.padding = HUGE
            prometheus.wait_firing(address, "VerbacastJournalBacklogDegraded")
            publisher.kill()
        prometheus.wait_silent(address, "VerbacastStuck", "VerbacastJournalBacklogDegraded")


if __name__ == "__main__":
    alarms.run(globals(), "verbacast", "verbacast-speech", "verbacast-viewers", "verbacast-kept")
