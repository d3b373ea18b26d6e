"""verbacast-sink between a mock cluster of Kafka and SQLite: each record once, whatever dies."""

import json
import os
import shutil
import signal
import sqlite3
import tempfile

import harness
from kafka_mock import KafkaMock

EPOCH = 1790000000000
# A member that was killed is missed after this long.
SETTINGS = {"KAFKA_CONFIG": "session.timeout.ms=6000,heartbeat.interval.ms=500", "SINK_LISTEN": "127.0.0.1:0",
            "DATABASE_URL": "sqlite:store.db"}


def final(slug, seq, text=None, epoch=EPOCH):
    return json.dumps({"v": 1, "type": "transcript", "session": slug, "epoch": epoch, "seq": seq,
                       "utteranceId": f"1-0-{seq}", "isFinal": True, "text": text or f"words {seq}", "language": "en",
                       "speaker": None, "confidence": 0.5, "start": seq, "end": seq + 0.5, "words": None,
                       "startedAt": epoch / 1000, "receivedAt": epoch / 1000 + seq, "node": "a1"})


def partial(slug, seq):
    return json.dumps({**json.loads(final(slug, seq, "not all of it")), "isFinal": False})


def event(slug, kind, **more):
    return json.dumps({"v": 1, "type": kind, "session": slug, "epoch": EPOCH, "startedAt": EPOCH / 1000, "node": "a1", **more})


def sink(kafka, folder, arguments=(), ready=True, **options):
    settings = {"KAFKA_BROKERS": kafka.brokers, **SETTINGS, **options}
    return harness.Process("verbacast-sink", settings, folder=folder, arguments=arguments, ready=ready)


def metrics(of_sink):
    return harness.http_json(of_sink.url("sink", "/metrics"))


def degraded(of_sink):
    return {row["what"]: row["reason"] for row in harness.http_json(of_sink.url("sink", "/readyz"))["degraded"]}


class Folder:
    """Where the database lies."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="vc-sink-")
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def database(self):
        return os.path.join(self.path, "store.db")

    def query(self, sql):
        if not os.path.exists(self.database()):
            return []
        with sqlite3.connect(f"file:{self.database()}?mode=ro", uri=True, timeout=10) as database:
            try:
                return database.execute(sql).fetchall()
            except sqlite3.OperationalError as error:
                assert "no such table" in str(error), error
                return []

    def change(self, sql):
        with sqlite3.connect(self.database(), timeout=10) as database:
            database.execute(sql)
        database.close()

    def finals(self):
        return self.query("SELECT slug, seq, text FROM transcripts JOIN sessions ON sessions.id = session_id "
                          "ORDER BY slug, seq")

    def wait_finals(self, count):
        return harness.wait_until(lambda: len(self.finals()) >= count and self.finals(), f"{count} finals in the database")


def test_records_become_rows_and_others_dead_letters():
    with Folder() as folder, KafkaMock() as kafka:
        kafka.write("transcripts.sessions", [("demo", event("demo", "session_started"))])
        kafka.write("transcripts", [("demo", final("demo", seq)) for seq in (1, 2, 3)])
        kafka.write("transcripts", [("demo", final("demo", 2)), ("demo", None), ("demo", "junk"),
                                    ("demo", final("demo", 3, "another text")), ("demo", partial("demo", 4)),
                                    ("demo", final("demo", 4))])
        kafka.write("transcripts.sessions", [("demo", event("demo", "session_ended", endedAt=EPOCH / 1000 + 60,
                                                           reason="publisher_left"))])
        with sink(kafka, folder.path) as running:
            assert folder.wait_finals(4) == [("demo", seq, f"words {seq}") for seq in (1, 2, 3, 4)]
            harness.wait_until(lambda: metrics(running)["counters"]["store.stored_total"] == 6, "all is counted")
            figures = metrics(running)
            counters = figures["counters"]
            assert [counters[f"store.{name}_total"] for name in ("repeated", "conflicts", "poisoned")] == [1, 1, 2], counters
            assert counters["sink.tombstones_total"] == 1 and counters["sink.dead_letters_total"] == 3, counters
            assert figures["latency"]["sink.lag_ms"]["count"] >= 10 and figures["node"]["degraded"] == [], figures
            assert figures["latency"]["sink.batch_rows"]["max"] <= 100, figures
        assert folder.query("SELECT slug, started_at, ended_at FROM sessions") == [("demo", EPOCH / 1000, EPOCH / 1000 + 60)]
        dead = kafka.read("transcripts.dead")
        assert sorted(row["payload"] for row in dead) == sorted(["junk", partial("demo", 4), final("demo", 3, "another text")]), dead
        for row in dead:
            headers = dict(zip(row["headers"][::2], row["headers"][1::2]))
            assert row["key"] == "demo" and headers["topic"] == "transcripts" and headers["reason"], row
            source = kafka.read("transcripts", int(headers["partition"]))[int(headers["offset"])]
            assert source["payload"] == row["payload"], (row, source)
        assert folder.query("SELECT count(*) FROM dead") == [(0,)]


def test_values_that_are_empty_are_dead_letters():
    with Folder() as folder, KafkaMock() as kafka:
        kafka.write("transcripts", [("demo", ""), ("demo", ""), ("demo", final("demo", 1))], has_tombstones=False)
        with sink(kafka, folder.path) as running:
            folder.wait_finals(1)
            assert metrics(running)["counters"]["sink.tombstones_total"] == 0
        assert [row["payload"] for row in kafka.read("transcripts.dead")] == ["", ""]


def test_the_dead_letters_topic_refuses_for_a_while():
    with Folder() as folder, KafkaMock() as kafka:
        kafka.write("transcripts", [("demo", final("demo", 1)), ("demo", "junk"), ("demo", final("demo", 2))])
        kafka.refuse_writes()
        with sink(kafka, folder.path) as running:
            harness.wait_until(lambda: "dead letters' topic" in degraded(running).get("kafka", ""), "kafka is degraded")
            harness.wait_until(lambda: metrics(running)["counters"]["sink.retries_total"] > 1, "it is tried again")
            assert folder.finals() == [] and "database" not in degraded(running)
            kafka.take_writes()
            folder.wait_finals(2)
            harness.wait_until(lambda: not degraded(running), "nothing is degraded")
        assert [row["payload"] for row in kafka.read("transcripts.dead")] == ["junk"]


def test_a_drain_writes_what_is_held():
    with Folder() as folder, KafkaMock() as kafka:
        with sink(kafka, folder.path, BATCH_FLUSH_INTERVAL_MS=60000) as running:
            kafka.write("transcripts", [("demo", final("demo", seq)) for seq in range(1, 6)])
            harness.wait_until(lambda: metrics(running)["counters"]["kafka.consumed_total"] == 5, "all is consumed")
            assert folder.finals() == []
        assert len(folder.finals()) == 5
        log = running.log()
        assert "event=program.end status=0" in log, log


def test_killed_in_the_middle_nothing_is_lost_or_doubled():
    rooms = [f"room{n}" for n in range(8)]
    with Folder() as folder, KafkaMock() as kafka:
        running = sink(kafka, folder.path, BATCH_MAX_SIZE=20)
        written = 0
        for part in range(3):
            kafka.write("transcripts", [(room, final(room, seq)) for seq in range(part * 100 + 1, part * 100 + 101)
                                        for room in rooms])
            if part < 2:
                folder.wait_finals(written + 10)  # in the midst of it
                running.kill()
                running.process.stdout.close()
                running = sink(kafka, folder.path, BATCH_MAX_SIZE=20)
            written += 100 * len(rooms)
        with running:
            rows = folder.wait_finals(written)
            assert [row[:2] for row in rows] == [(room, seq) for room in rooms for seq in range(1, 301)]
            counters = metrics(running)["counters"]
            assert counters["store.repeated_total"] == 0 and counters["store.conflicts_total"] == 0, counters


def test_two_sinks_share_the_work_and_one_takes_over():
    rooms = [f"room{n}" for n in range(16)]
    with Folder() as folder, KafkaMock() as kafka:
        with sink(kafka, folder.path) as first:
            with sink(kafka, folder.path) as second:
                both = (first, second)
                harness.wait_until(lambda: all(metrics(each)["gauges"]["kafka.consumer_partitions"] > 0 for each in both)
                                   and sum(metrics(each)["gauges"]["kafka.consumer_partitions"] for each in both) == 8,
                                   "the partitions are shared out")
                kafka.write("transcripts", [(room, final(room, seq)) for seq in range(1, 51) for room in rooms])
                folder.wait_finals(50 * len(rooms))
                stored = [metrics(each)["counters"]["store.stored_total"] for each in both]
                assert all(stored) and sum(stored) == 50 * len(rooms), stored
                assert all(metrics(each)["counters"]["store.repeated_total"] == 0 for each in both)
            kafka.write("transcripts", [(room, final(room, 51)) for room in rooms])
            folder.wait_finals(51 * len(rooms))
            assert metrics(first)["counters"]["store.repeated_total"] == 0


def test_a_sink_that_hung_and_comes_back_doubles_nothing():
    with Folder() as folder, KafkaMock() as kafka, sink(kafka, folder.path, BATCH_FLUSH_INTERVAL_MS=60000) as hung:
        kafka.write("transcripts", [("demo", final("demo", seq)) for seq in range(1, 11)])
        harness.wait_until(lambda: metrics(hung)["counters"]["kafka.consumed_total"] == 10, "all is consumed")
        hung.signal(signal.SIGSTOP)
        with sink(kafka, folder.path) as other:
            folder.wait_finals(10)
            hung.signal(signal.SIGCONT)
            harness.wait_until(lambda: metrics(hung)["counters"]["sink.rewound_total"] == 10, "its batch is thrown away")
            harness.wait_until(lambda: metrics(hung)["gauges"]["kafka.consumer_partitions"] in range(1, 8), "it joins anew")
            kafka.write("transcripts", [(f"room{n}", final(f"room{n}", 1)) for n in range(16)])
            harness.wait_until(lambda: metrics(hung)["counters"]["kafka.consumed_total"] > 10, "it consumes again")
            hung.stop()
            folder.wait_finals(26)
            assert metrics(other)["counters"]["store.repeated_total"] == 0


def test_the_database_is_locked_for_a_while():
    with Folder() as folder, KafkaMock() as kafka, sink(kafka, folder.path) as running:
        kafka.write("transcripts", [("demo", final("demo", 1))])
        folder.wait_finals(1)
        lock = sqlite3.connect(folder.database(), isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        kafka.write("transcripts", [("demo", final("demo", seq)) for seq in range(2, 300)])
        harness.wait_until(lambda: "database" in degraded(running), "the database is degraded")
        harness.wait_until(lambda: metrics(running)["gauges"]["sink.paused"] == 1, "consuming is paused")
        assert harness.http(running.url("sink", "/healthz"))[0] == 200
        lock.execute("ROLLBACK")
        lock.close()
        assert len(folder.wait_finals(299)) == 299
        harness.wait_until(lambda: not degraded(running), "nothing is degraded")
        counters = metrics(running)["counters"]
        assert counters["sink.retries_total"] > 0 and counters["store.repeated_total"] == 0, counters


def test_a_database_that_is_played_back_is_filled_again():
    with Folder() as folder, KafkaMock() as kafka, sink(kafka, folder.path) as running:
        rooms = [f"room{n}" for n in range(8)]
        kafka.write("transcripts", [(room, final(room, 1)) for room in rooms])
        folder.wait_finals(8)
        lock = sqlite3.connect(folder.database(), isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        kafka.write("transcripts", [("room0", final("room0", 2))])
        harness.wait_until(lambda: metrics(running)["gauges"]["sink.paused"] == 1, "consuming is paused")
        lock.execute("DELETE FROM transcripts")
        lock.execute("DELETE FROM offsets")
        lock.execute("COMMIT")
        lock.close()
        assert len(folder.wait_finals(9)) == 9
        harness.wait_until(lambda: not degraded(running), "nothing is degraded")


def refusal_of(kafka, folder, **options):
    ended = sink(kafka, folder.path, **options)
    try:
        status = ended.wait()
    finally:
        ended.kill()
        ended.process.stdout.close()
    last = ended.log().splitlines()[-1]
    assert status == 1 and "event=program.failed" in last, (status, ended.log())
    return last


def test_an_offset_that_the_brokers_do_not_have():
    with Folder() as folder, KafkaMock() as kafka:
        with sink(kafka, folder.path):
            kafka.write("transcripts", [("demo", final("demo", 1))])
            folder.wait_finals(1)
        (partition,), = folder.query("SELECT partition FROM offsets WHERE topic = 'transcripts'")
        folder.change("UPDATE offsets SET next_offset = 4711 WHERE topic = 'transcripts'")
        said = refusal_of(kafka, folder)
        for word in ("transcripts", f"partition {partition}", "4711", "--reset-offsets"):
            assert word in said, (word, said)
        with sink(kafka, folder.path, arguments=["--reset-offsets"]) as running:
            harness.wait_until(lambda: metrics(running)["counters"]["store.repeated_total"] == 1, "it begins at the first")
        assert len(folder.finals()) == 1


def test_the_positions_of_another_cluster():
    with Folder() as folder, KafkaMock() as kafka:
        with sink(kafka, folder.path):
            kafka.write("transcripts", [("demo", final("demo", 1))])
            folder.wait_finals(1)
        (own,), = folder.query("SELECT DISTINCT cluster_id FROM offsets")
        folder.change("UPDATE offsets SET cluster_id = 'elsewhere'")
        said = refusal_of(kafka, folder)
        assert own in said and "elsewhere" in said and "--reset-offsets" in said, said
        with sink(kafka, folder.path, RESET_OFFSETS=1):
            kafka.write("transcripts", [("demo", final("demo", 2))])
            folder.wait_finals(2)
        assert folder.query("SELECT DISTINCT cluster_id FROM offsets") == [(own,)]


def test_a_sink_waits_for_its_brokers():
    with Folder() as folder, KafkaMock() as kafka:
        kafka.down()
        with sink(kafka, folder.path) as running:
            harness.wait_until(lambda: "kafka" in degraded(running), "kafka is degraded")
            assert harness.http(running.url("sink", "/healthz"))[0] == 200
            kafka.up()
            kafka.write("transcripts", [("demo", final("demo", 1))])
            folder.wait_finals(1)
            harness.wait_until(lambda: not degraded(running), "nothing is degraded")


def test_a_drain_without_brokers_ends():
    with Folder() as folder, KafkaMock() as kafka:
        with sink(kafka, folder.path, BATCH_FLUSH_INTERVAL_MS=60000) as running:
            kafka.write("transcripts", [("demo", final("demo", 1))])
            harness.wait_until(lambda: metrics(running)["counters"]["kafka.consumed_total"] == 1, "all is consumed")
            kafka.down()
        assert len(folder.finals()) == 1


def test_who_may_ask():
    with Folder() as folder, KafkaMock() as kafka:
        with sink(kafka, folder.path, ADMIN_TOKEN="hush") as running:
            url = running.url("sink", "/metrics")
            far = {"X-Forwarded-For": "192.0.2.1"}
            assert harness.http(url)[0] == 200
            assert harness.http(url, headers=far)[0] == 401
            assert harness.http(url, headers={**far, "Authorization": "Bearer shout"})[0] == 401
            status, headers, text = harness.http(url + "?format=prometheus", headers={**far, "Authorization": "Bearer hush"})
            assert status == 200 and headers["Content-Type"].startswith("text/plain") and "verbacast_info{" in text
            for path in ("/healthz", "/readyz"):
                assert harness.http(running.url("sink", path), headers=far)[0] == 200
            assert harness.http(url, method="POST")[0] == 405
            assert harness.http(running.url("sink", "/sessions"))[0] == 404
        with sink(kafka, folder.path) as running:
            status, _, body = harness.http(running.url("sink", "/metrics"), headers={"X-Forwarded-For": "192.0.2.1"})
            assert status == 403 and "ADMIN_TOKEN" in body, (status, body)


def test_a_secret_is_read_again():
    with Folder() as folder, KafkaMock() as kafka:
        secret = os.path.join(folder.path, "token")
        with open(secret, "w", encoding="utf-8") as file:
            file.write("old")
        with sink(kafka, folder.path, ADMIN_TOKEN=f"@{secret}") as running:
            def is_taken(token):
                headers = {"X-Forwarded-For": "192.0.2.1", "Authorization": f"Bearer {token}"}
                return harness.http(running.url("sink", "/metrics"), headers=headers)[0] == 200
            assert is_taken("old")
            with open(secret, "w", encoding="utf-8") as file:
                file.write("new")
            running.signal(signal.SIGHUP)
            harness.wait_until(lambda: is_taken("new"), "the new token is taken")
            assert not is_taken("old")


if __name__ == "__main__":
    harness.main(globals())
