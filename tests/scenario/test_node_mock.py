"""The node, a mock cluster of Kafka, the sink: the whole way of a final, also where Kafka's own jars cannot be had."""

import re
import tempfile

import harness
from kafka_mock import KafkaMock
from scripted_stt import ScriptedStt
from test_sink import Folder, degraded, sink

COMMITTED = r"event=journal_committed session=(\S+) epoch=\d+ seq=(\d+)"


def node_of(stt, kafka, folder, database):
    return harness.node(stt.url, folder=folder, KAFKA_BROKERS=kafka.brokers, DATABASE_URL=f"sqlite:{database}", LOG_LEVEL="debug")


def committed(node):
    return {(slug, int(seq)) for slug, seq in re.findall(COMMITTED, node.log())}


def is_without_kafka(node):
    return "kafka" in {row["what"] for row in harness.http_json(node.url("admin", "/readyz"))["degraded"]}


def test_a_final_becomes_a_row_whatever_dies_on_the_way():
    with Folder() as folder, KafkaMock() as kafka, ScriptedStt(utterance_s=0.25) as stt, \
            tempfile.TemporaryDirectory() as home, sink(kafka, folder.path) as running:
        with node_of(stt, kafka, home, folder.database()) as node:
            with harness.viewer(node, "room") as viewer, harness.publisher(node, "room"):
                folder.wait_finals(3)
                kafka.down()
                harness.wait_until(lambda: is_without_kafka(node), "the node says that Kafka is away")
                viewer.wait_finals(len(viewer.finals()) + 4)
                harness.wait_until(lambda: len(committed(node)) > len(folder.finals()) + 2, "some are in the journal alone")
                node.kill()
                promised = committed(node)
            node.stop = node.check_log  # it is dead already, and meant to be
        kafka.up()
        with node_of(stt, kafka, home, folder.database()) as node:
            harness.wait_until(lambda: promised <= {row[:2] for row in folder.finals()}, "all that was committed is in the database")
            harness.wait_until(lambda: folder.query("SELECT count(*) FROM sessions WHERE ended_at > started_at") == [(1,)],
                               "the session has its end")
            harness.wait_until(lambda: not is_without_kafka(node) and not degraded(running), "nothing is degraded")
            rows = harness.http_json(node.url("http", "/sessions/room/transcript.json"))["transcripts"]
            assert [("room", row["seq"], row["text"]) for row in rows] == folder.finals()
            answer = harness.http_json(node.url("admin", "/sessions/room"), method="DELETE")
            assert answer["erased"] and answer["finals"] == len(rows), answer
            harness.wait_until(lambda: "session_erased" in str(kafka.read("transcripts.sessions")), "the topic says that it was erased")
        assert not kafka.read("transcripts.dead")


if __name__ == "__main__":
    harness.main(globals())
