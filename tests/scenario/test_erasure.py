"""An erasure goes everywhere: the node's own store, the sink's by way of Kafka; what comes late stays out. (release only)"""

import contextlib
import os
import sqlite3
import tempfile

import harness
import services
from scripted_stt import ScriptedStt

TABLES = ("sessions", "transcripts", "erasures")


def counts(path):
    """Rows of a database's tables; none while they are not there."""
    with contextlib.closing(sqlite3.connect(path, timeout=harness.PATIENCE_S)) as database:
        try:
            return tuple(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)
        except sqlite3.OperationalError as error:
            assert "no such table" in str(error), error
            return (0, 0, 0)


def sink(kafka, folder, group, url):
    return harness.Process("verbacast-sink", {"KAFKA_BROKERS": kafka.brokers(), "KAFKA_GROUP": group, "DATABASE_URL": url,
                                              "SINK_LISTEN": "127.0.0.1:0"}, folder=folder)


def test_an_erasure_reaches_every_database():
    with services.RealKafka() as kafka, services.RealPostgres() as postgres, ScriptedStt(0.2) as stt, \
            tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        kafka.create_topics()
        url, other = postgres.url(), os.path.join(folder, "other.db")
        stack.enter_context(sink(kafka, folder, "own", url))
        stack.enter_context(sink(kafka, folder, "other", f"sqlite:{other}"))
        node = stack.enter_context(harness.node(stt.url, KAFKA_BROKERS=kafka.brokers(), DATABASE_URL=url, SESSION_KEEP_MS=0))

        def own():
            if not postgres.query(f"SELECT 1 WHERE to_regclass('{TABLES[-1]}') IS NOT NULL"):
                return (0, 0, 0)
            return tuple(int(postgres.query(f"SELECT count(*) FROM {table}")[0][0]) for table in TABLES)

        with harness.viewer(node, "room") as viewer, harness.publisher(node, "room", seconds=2) as publisher:
            viewer.wait_finals(2)
            assert harness.http(node.url("admin", "/sessions/room"), method="DELETE")[0] == 409
            assert publisher.wait() == 0
            viewer.wait_type("end")
            n_finals = len(viewer.finals())
        said = (1, n_finals, 0)
        harness.wait_until(lambda: own() == said and counts(other) == said, "both databases have it")
        answer = harness.http_json(node.url("admin", "/sessions/room"), method="DELETE")
        assert answer["erased"] and answer["finals"] == n_finals, answer
        remains, = answer["remains"]
        assert remains["where"] == "kafka" and "transcripts.sessions" in remains["topics"], answer
        line = node.wait_log(r"event=erase .*")[0]
        assert "session=room" in line and f"finals={n_finals}" in line and "shown=this_machine" in line, line
        assert own() == (0, 0, 1)
        harness.wait_until(lambda: counts(other) == (0, 0, 1), "the other database has lost it too")
        late = kafka.read("transcripts")[0]
        kafka.write("transcripts", "room", late.value)
        kafka.write("transcripts", "room", late.value.replace('"session":"room"', '"session":"next"'))
        harness.wait_until(lambda: own() == (1, 1, 1) and counts(other) == (1, 1, 1), "it is passed over, what lies behind it is not")
        assert harness.http(node.url("http", "/sessions/room/transcript.json"))[0] == 404


if __name__ == "__main__":
    harness.main(globals())
