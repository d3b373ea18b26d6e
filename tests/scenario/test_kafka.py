"""The node and a real Kafka: what the topics hold, what a consumer makes of it, and what is in the way. (takes long)"""

import contextlib
import json
import os
import re
import signal
import subprocess

import jsonschema

import harness
import services
from scripted_stt import ScriptedStt

DOCUMENT = os.path.join(harness.ROOT, "docs", "consuming.md")
ADMIN = "listener.name.sasl.plain.sasl.jaas.config"


def validator(name):
    with open(os.path.join(harness.ROOT, "docs", "schemas", f"{name}.json"), encoding="utf-8") as file:
        return jsonschema.Draft7Validator(json.load(file))


def gauges(node):
    return harness.http_json(node.url("admin", "/metrics"))["gauges"]


def counters(node):
    return harness.http_json(node.url("admin", "/metrics"))["counters"]


def degraded(node):
    return {row["what"]: row["reason"] for row in harness.http_json(node.url("admin", "/readyz"))["degraded"]}


def wait_relayed(node):
    harness.wait_until(lambda: gauges(node)["journal.rows"] == 0, "the outbox is empty")


@contextlib.contextmanager
def with_kafka(**more):
    with services.RealKafka(**more) as kafka:
        kafka.create_topics()
        yield kafka


def node_of(stt, kafka, listener="PLAINTEXT", **options):
    return harness.node(stt.url, KAFKA_BROKERS=kafka.brokers(listener), DATABASE_URL="", NODE_ID="a1", **options)


def say(node, slug, seconds=3):
    """A session from its begin to its end: its finals as a viewer reads them."""
    with harness.viewer(node, slug) as viewer, harness.publisher(node, slug, seconds=seconds):
        viewer.wait_type("end")
        return viewer.finals()


def key_of(record):
    value = record.json()
    return value["session"], value["epoch"], value["seq"]


def shown_keys(finals):
    return [(final["session"], final["epoch"], final["seq"]) for final in finals]


def check_records(records, schema):
    check = validator(schema)
    for record in records:
        errors = [error.message for error in check.iter_errors(record.json())]
        assert not errors, (errors, record.value)
        assert record.key == record.json()["session"], (record.key, record.value)
        wanted = {"content-type": "application/json", "schema": f"verbacast.{schema}", "node": "a1"}
        assert record.headers == wanted, record.headers


def test_records_are_as_their_schemas_say():
    with ScriptedStt(utterance_s=0.25) as stt, with_kafka() as kafka, node_of(stt, kafka, KAFKA_PARTIALS=1) as node:
        finals = say(node, "room-a") + say(node, "room-b")
        wait_relayed(node)
        transcripts = kafka.read("transcripts")
        check_records(transcripts, "transcript.v1")
        assert sorted(map(key_of, transcripts)) == sorted(shown_keys(finals)) and finals
        assert all(record.json()["isFinal"] for record in transcripts)
        assert {record.json()["text"] for record in transcripts} == {final["text"] for final in finals}
        sessions = kafka.read("transcripts.sessions")
        check_records(sessions, "sessions.v1")
        for slug in ("room-a", "room-b"):
            own = [record.json()["type"] for record in sessions if record.key == slug]
            assert own == ["session_started", "session_ended"], own
        partials = harness.wait_until(lambda: kafka.read("transcripts.partial"), "partials")
        check_records(partials, "transcript.v1")
        assert not any(record.json()["isFinal"] for record in partials)
        of_finals = {(final["session"], final["utteranceId"]) for final in finals}
        assert {(record.key, record.json()["utteranceId"]) for record in partials} <= of_finals
        assert not kafka.read("transcripts.dead")


def test_without_the_option_no_partials():
    with ScriptedStt(utterance_s=0.25) as stt, with_kafka() as kafka, node_of(stt, kafka) as node:
        assert say(node, "room")
        wait_relayed(node)
        assert kafka.read("transcripts") and not kafka.read("transcripts.partial")


def examples():
    """{language: code} of docs/consuming.md."""
    with open(DOCUMENT, encoding="utf-8") as file:
        return dict(re.findall(r"^```(sh|python)\n(.*?)^```", file.read(), re.M | re.S))


def test_the_documented_consumers_run():
    with ScriptedStt(utterance_s=0.25) as stt, with_kafka() as kafka:
        with node_of(stt, kafka) as node:
            finals = say(node, "room-a") + say(node, "room-b")
            wait_relayed(node)
        for record in kafka.read("transcripts")[:3]:
            kafka.write("transcripts", record.key, record.value)  # as after a crash of the node
        wanted = sorted([*map(str, key), final["text"]] for key, final in zip(shown_keys(finals), finals))
        environment = dict(os.environ, KAFKA_BROKERS=kafka.brokers())
        done = subprocess.run(["sh", "-c", examples()["sh"]], env=environment, stdout=subprocess.PIPE, text=True, check=True)
        assert sorted(line.split("\t") for line in done.stdout.splitlines()) == wanted, (done.stdout, wanted)
        process = subprocess.Popen(["/usr/bin/python3", "-c", examples()["python"]], env=environment,
                                   stdout=subprocess.PIPE, text=True)
        lines = []
        reader = harness.threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
        reader.start()
        try:
            harness.wait_until(lambda: len(lines) >= len(wanted), "the example has printed all")
        finally:
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(harness.PATIENCE_S) == 0
            finally:
                process.kill()
        reader.join()
        process.stdout.close()
        assert sorted(line.rstrip("\n").split(" ", 3) for line in lines) == wanted, (lines, wanted)


def test_a_broker_that_goes_and_comes_back():
    with ScriptedStt(utterance_s=0.25) as stt, with_kafka() as kafka, node_of(stt, kafka) as node:
        with harness.viewer(node, "room") as viewer, harness.publisher(node, "room"):
            viewer.wait_finals(4)
            harness.wait_until(lambda: counters(node)["journal.relayed_total"] > 4, "what was said is relayed")
            kafka.kill()
            harness.wait_until(lambda: "kafka" in degraded(node), "the node says that Kafka is away")
            assert harness.http(node.url("admin", "/readyz"))[0] == 200
            viewer.wait_finals(len(viewer.finals()) + 8)
            assert gauges(node)["journal.rows"] > 0
            kafka.start()
            harness.wait_until(lambda: "kafka" not in degraded(node), "the node says that Kafka is back")
        viewer.close()
        with harness.viewer(node, "room") as again:
            again.wait_type("hello")
        harness.wait_until(lambda: {key_of(record) for record in kafka.read("transcripts")} >= set(shown_keys(viewer.finals())),
                           "all finals are in the topic")
        keys = [key_of(record) for record in kafka.read("transcripts")]
        assert len(keys) == len(set(keys)), "an idempotent producer repeats nothing"


def test_what_a_killed_node_left_comes_at_its_next_start():
    with ScriptedStt(utterance_s=0.25) as stt, with_kafka() as kafka:
        folder = harness.tempfile.mkdtemp(prefix="vc-")
        kafka.stop()
        with node_of(stt, kafka, folder=folder, LOG_LEVEL="debug") as node:
            with harness.viewer(node, "room") as viewer, harness.publisher(node, "room"):
                viewer.wait_finals(6)
                pattern = r"event=journal_committed session=(\S+) epoch=(\d+) seq=(\d+)"
                harness.wait_until(lambda: len(re.findall(pattern, node.log())) >= 6, "six are committed")
                node.kill()
                promised = {(slug, int(epoch), int(seq)) for slug, epoch, seq in re.findall(pattern, node.log())}
            node.stop = lambda: None  # it is dead already, and meant to be
        kafka.start()
        with node_of(stt, kafka, folder=folder) as node:
            wait_relayed(node)
            keys = [key_of(record) for record in kafka.read("transcripts")]
            assert promised <= set(keys) and len(keys) == len(set(keys)), (promised, keys)
            ends = [record.json() for record in kafka.read("transcripts.sessions") if record.json()["type"] == "session_ended"]
            assert [end["reason"] for end in ends] == ["crash"], ends
        harness.shutil.rmtree(folder)


def test_a_final_that_no_broker_takes_steps_aside():
    with ScriptedStt(utterance_s=0.5) as stt, with_kafka(properties={"message.max.bytes": 20000}) as kafka:
        with node_of(stt, kafka, KAFKA_CONFIG="compression.codec=none") as node:
            stt.final_text = lambda number: f"utterance {number}" + " and so on" * (3000 if number == 1 else 1)
            finals = say(node, "room")
            wait_relayed(node)
            texts = [record.json()["text"] for record in kafka.read("transcripts")]
            assert len(texts) == len(finals) - 1 and max(map(len, texts)) < 1000, list(map(len, texts))
            assert counters(node)["journal.dead_total"] == 1, counters(node)
            assert len(degraded(node)) == 1, degraded(node)


def test_a_topic_that_is_not_there_is_said():
    with ScriptedStt(utterance_s=0.25) as stt, with_kafka() as kafka:
        with node_of(stt, kafka, KAFKA_TOPIC="missing") as node:
            finals = say(node, "room")
            harness.wait_until(lambda: "kafka" in degraded(node), "the node says what is wrong")
            reason = harness.wait_until(lambda: re.search("opic", degraded(node)["kafka"]) and degraded(node)["kafka"],
                                        "the reason names the topic")
            assert "missing" in node.log(), (reason, node.log()[-2000:])
            kafka.create_topics("missing")
            wait_relayed(node)
            assert sorted(map(key_of, kafka.read("missing"))) == sorted(shown_keys(finals))


def test_a_wrong_password_is_said_and_counted():
    properties = {"sasl.enabled.mechanisms": "PLAIN",
                  ADMIN: 'org.apache.kafka.common.security.plain.PlainLoginModule required user_node="right";'}
    login = "security.protocol=SASL_PLAINTEXT,sasl.mechanisms=PLAIN,sasl.username=node,sasl.password="
    with ScriptedStt(utterance_s=0.25) as stt, with_kafka(listeners={"SASL": ("SASL_PLAINTEXT", None)},
                                                          properties=properties) as kafka:
        with node_of(stt, kafka, "SASL", KAFKA_CONFIG=login + "wrong-secret") as node:
            assert say(node, "room")
            reason = harness.wait_until(lambda: degraded(node).get("kafka"), "the node says what is wrong")
            assert re.search("uthentication", reason), reason
            errors = {name: value for name, value in counters(node).items() if "kafka" in name and "auth" in name}
            assert sum(errors.values()) >= 1, counters(node)
            assert not kafka.read("transcripts")
            assert "wrong-secret" not in node.log()
        with node_of(stt, kafka, "SASL", KAFKA_CONFIG=login + "right") as node:
            assert say(node, "room")
            wait_relayed(node)
            assert kafka.read("transcripts")


if __name__ == "__main__":
    harness.main(globals())
