"""The alarms of Kafka and of the sink in the real Prometheus, rung by real brokers and a real sink. (release only)
(takes long)"""

import contextlib
import json
import os
import sqlite3
import tempfile

import alarms
import harness
import services
from scripted_stt import ScriptedStt
from test_alerts import locked

prometheus = None  # alarms.run makes it
EPOCH = 1790000000000
MANY = 30000
FEW = 200
LARGE = 4000  # bytes of a record, in topics that take less


def incompressible():
    """Brokers measure what the producer has made of it."""
    return os.urandom(LARGE).hex()


def final(seq):
    return json.dumps({"v": 1, "type": "transcript", "session": "room", "epoch": EPOCH, "seq": seq, "utteranceId": f"1-0-{seq}",
                       "text": "as scripted", "start": seq, "end": seq + 1})


@contextlib.contextmanager
def watched_sink(kafka, topic, folder, **more):
    options = {"KAFKA_BROKERS": kafka.brokers(), "KAFKA_TOPIC": topic, "DATABASE_URL": "sqlite:sink.db",
               "SINK_LISTEN": "127.0.0.1:0", **more}
    with harness.Process("verbacast-sink", options, folder=folder) as sink:
        address = sink.addresses["sink"]
        prometheus.watch("verbacast-sink", address)
        yield sink, address


def n_stored(folder):
    with contextlib.closing(sqlite3.connect(os.path.join(folder, "sink.db"), timeout=harness.PATIENCE_S)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'transcripts'").fetchone():
            return 0  # the sink has not made its tables yet
        return database.execute("SELECT count(*) FROM transcripts").fetchone()[0]


def test_a_database_that_is_away_from_the_sink():
    with services.RealKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        kafka.create_topics("words")
        with watched_sink(kafka, "words", folder) as (_, address):
            kafka.write("words", "room", final(1))
            harness.wait_until(lambda: n_stored(folder) == 1, "the first is stored")
            with locked(os.path.join(folder, "sink.db")):
                kafka.write("words", "room", final(2))
                prometheus.wait_firing(address, "VerbacastSinkPaused", "VerbacastDatabaseDegraded")
            prometheus.wait_silent(address, "VerbacastSinkPaused", "VerbacastDatabaseDegraded")
            harness.wait_until(lambda: n_stored(folder) == 2, "both are stored")


def test_records_that_come_faster_than_they_are_stored():
    with services.RealKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        kafka.create_topics("words")
        kafka.write("words", "room", "\n".join(final(seq) for seq in range(1, MANY + 1)))
        with watched_sink(kafka, "words", folder, BATCH_MAX_SIZE=1) as (_, address):
            prometheus.wait_firing(address, "VerbacastSinkBehind")
            prometheus.wait_silent(address, "VerbacastSinkBehind")


def long_finals(first, last):
    """A few fill what the producer sends at once, which is what a consumer gets at least."""
    return "\n".join(json.dumps({**json.loads(final(seq)), "text": "x" * 100000}) for seq in range(first, last + 1))


def test_a_sink_that_stores_nothing():
    """Brokers that are cut off while it is behind: it waits for them, and is not paused."""
    with services.RealKafka(proxied=["SINK"]) as kafka, tempfile.TemporaryDirectory() as folder:
        kafka.create_topics("words")
        with watched_sink(kafka, "words", folder, BATCH_MAX_SIZE=1, KAFKA_BROKERS=kafka.brokers("SINK"),
                          KAFKA_CONFIG="queued.min.messages=1,queued.max.messages.kbytes=1000,fetch.message.max.bytes=1000") as (_, address):
            kafka.write("words", "room", final(1))
            harness.wait_until(lambda: n_stored(folder) == 1, "the first is stored")
            with contextlib.closing(sqlite3.connect(os.path.join(folder, "sink.db"), timeout=harness.PATIENCE_S)) as database:
                database.execute("CREATE TRIGGER slow AFTER INSERT ON transcripts BEGIN SELECT hex(randomblob(10000000)); END")
            kafka.write("words", "room", long_finals(2, FEW))
            harness.wait_until(lambda: harness.http_json(f"http://{address}/metrics")["gauges"]["kafka.consumer_lag"] > FEW / 2,
                               "it knows that it is behind")
            kafka.proxies["SINK"].cut()
            prometheus.wait_firing(address, "VerbacastSinkStoresNothing")
            assert not {"VerbacastSinkPaused", "VerbacastSinkBehind"} & prometheus.firing(address), prometheus.firing(address)
            assert n_stored(folder) < FEW
            kafka.proxies["SINK"].heal()
            harness.wait_until(lambda: n_stored(folder) == FEW, "all are stored")
            prometheus.wait_silent(address, "VerbacastSinkStoresNothing")


def test_records_that_are_none():
    with services.RealKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        kafka.create_topics("words")
        kafka.cluster.create({"narrow": (1, {}), "narrow.sessions": (1, {}), "narrow.dead": (1, {"max.message.bytes": LARGE // 2})})
        with watched_sink(kafka, "words", folder) as (_, address):
            kafka.write("words", "room", "no record")
            prometheus.wait_firing(address, "VerbacastDeadLetters")
            prometheus.wait_silent(address, "VerbacastDeadLetters")
        with watched_sink(kafka, "narrow", folder) as (_, address):
            kafka.write("narrow", "room", incompressible())
            prometheus.wait_firing(address, "VerbacastDeadLettersRefused")
            prometheus.wait_silent(address, "VerbacastDeadLettersRefused")


def test_positions_that_others_move():
    with services.RealKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        kafka.create_topics("words")
        with watched_sink(kafka, "words", folder) as (_, address):
            for turn in range(1, 6):
                kafka.write("words", "room", final(turn))
                harness.wait_until(lambda: n_stored(folder) == turn, "it is stored, by whomever")
                with locked(os.path.join(folder, "sink.db")) as other:
                    other.execute("UPDATE offsets SET next_offset = next_offset - 1 WHERE topic = 'words' AND next_offset > 0")
                    other.execute("COMMIT")
                    other.execute("BEGIN")
            kafka.write("words", "room", final(6))
            prometheus.wait_firing(address, "VerbacastSinkFenced")
            prometheus.wait_silent(address, "VerbacastSinkFenced")


def test_brokers_that_are_away_from_the_node():
    with services.RealKafka(proxied=["NODE"]) as kafka, ScriptedStt(0.2) as stt:
        kafka.create_topics("words")
        options = {"KAFKA_BROKERS": kafka.brokers("NODE"), "KAFKA_TOPIC": "words", "DATABASE_URL": ""}
        with alarms.watched_node(prometheus, stt.url, **options) as (node, address):
            with harness.publisher(node, "room") as publisher:
                kafka.proxies["NODE"].cut()
                prometheus.wait_firing(address, "VerbacastKafkaDegraded", "VerbacastJournalUnsentOld")
                kafka.proxies["NODE"].heal()
                prometheus.wait_silent(address, "VerbacastKafkaDegraded", "VerbacastJournalUnsentOld")
                publisher.stop()


def test_a_record_that_no_broker_takes():
    with services.RealKafka() as kafka, ScriptedStt(0.2) as stt:
        kafka.cluster.create({"narrow": (1, {"max.message.bytes": LARGE // 2}), "narrow.sessions": (1, {})})
        options = {"KAFKA_BROKERS": kafka.brokers(), "KAFKA_TOPIC": "narrow", "DATABASE_URL": ""}
        with alarms.watched_node(prometheus, stt.url, **options) as (node, address):
            stt.padding = " " + incompressible()
            with harness.publisher(node, "room") as publisher:
                prometheus.wait_firing(address, "VerbacastJournalDead")
                publisher.stop()
            with contextlib.closing(sqlite3.connect(os.path.join(node.folder, "journal.db"), timeout=harness.PATIENCE_S)) as journal:
                harness.wait_until(lambda: not harness.http_json(node.url("admin", "/metrics"))["gauges"]["journal.rows"],
                                   "the outbox is empty")
                journal.execute("DELETE FROM dead")  # somebody has looked
                journal.commit()
            prometheus.wait_silent(address, "VerbacastJournalDead")


if __name__ == "__main__":
    alarms.run(globals(), "verbacast-kafka")
