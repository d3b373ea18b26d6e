"""The node with Kafka: what it shows comes to the topics, whatever the brokers and the disk do. (release only)"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import tempfile

import harness
import services
from scripted_stt import ScriptedStt


def degraded(node):
    return {row["what"]: row for row in json.loads(harness.http(node.url("admin", "/readyz"))[2])["degraded"]}


def counter(node, name):
    return harness.http_json(node.url("admin", "/metrics"))["counters"].get(name, 0)


def finals_of(kafka, topic="transcripts"):
    """seq and text, each the first time that it comes."""
    seen = {}
    for record in kafka.read(topic):
        value = record.json()
        assert record.key == value["session"] == "room" and value["v"] == 1, record
        place = (value["epoch"], value["seq"])
        assert place in seen or not seen or place > max(seen), place
        assert seen.setdefault(place, value["text"]) == value["text"]
    return [text for _, text in sorted(seen.items())]


def rows_of(node, table):
    with sqlite3.connect(os.path.join(node.folder, "journal.db"), timeout=10) as database:
        return database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_finals_and_turns_come_to_their_topics():
    with services.RealKafka() as kafka, ScriptedStt() as stt:
        kafka.create_topics()
        # The database that is read is nobody's: that costs nothing.
        with harness.node(stt.url, KAFKA_BROKERS=kafka.brokers(), KAFKA_PARTIALS=1, NODE_ID="n1") as node:
            with harness.viewer(node, "room") as viewer, harness.publisher(node, "room", seconds=3):
                viewer.wait_type("end")
            texts = [final["text"] for final in viewer.finals()]
            harness.wait_until(lambda: counter(node, "journal.relayed_total") == len(texts) + 2, "all is sent")
            harness.wait_until(lambda: not degraded(node), "nothing is degraded")
            status, headers, body = harness.http(node.url("http", "/sessions/room/transcript.json"))
            assert status == 200 and headers["X-Verbacast-Complete"] == "false", (status, headers, body)
            assert [row["text"] for row in json.loads(body)["transcripts"]] == texts
            assert not os.path.exists(os.path.join(node.folder, "store.db"))
            assert texts and finals_of(kafka) == texts
            turns = [record.json()["type"] for record in kafka.read("transcripts.sessions")]
            assert turns == ["session_started", "session_ended"], turns
            head = kafka.read("transcripts")[0].headers
            assert head["schema"] == "verbacast.transcript.v1" and head["node"] == "n1", head
            partials = [record.json() for record in kafka.read("transcripts.partial")]
            assert partials and not any(partial["isFinal"] for partial in partials)
            harness.http(node.url("admin", "/sessions/room"), method="DELETE")
            harness.wait_until(lambda: len(kafka.read("transcripts.sessions")) == 3, "the erasure is sent")
            assert kafka.read("transcripts.sessions")[2].json()["type"] == "session_erased"


def test_brokers_that_are_away_cost_viewers_nothing():
    with services.RealKafka(proxied=["NODE"]) as kafka, ScriptedStt() as stt:
        kafka.create_topics()
        proxy = kafka.proxies["NODE"]
        proxy.cut()
        with harness.node(stt.url, KAFKA_BROKERS=kafka.brokers("NODE"), DATABASE_URL="") as node:
            harness.wait_until(lambda: "kafka" in degraded(node), "the health says so before the first final")
            with harness.viewer(node, "room") as viewer, harness.publisher(node, "room"):
                viewer.wait_finals(2)
                assert harness.http(node.url("admin", "/healthz"))[0] == 200
                proxy.heal()
                harness.wait_until(lambda: "kafka" not in degraded(node), "the brokers are back")
                harness.wait_until(lambda: counter(node, "journal.relayed_total") > 2, "what waited is sent")
                proxy.hole()
                viewer.wait_finals(len(viewer.finals()) + 3)
                harness.wait_until(lambda: "kafka" in degraded(node), "a network that loses all is told")
                assert harness.http(node.url("admin", "/healthz"))[0] == 200
                node.signal(signal.SIGTERM)
                viewer.wait_close()
                assert node.wait() == 0, node.log()[-2000:]
                texts = [final["text"] for final in viewer.finals()]
            assert rows_of(node, "outbox") > 0
            proxy.heal()
            with harness.node(stt.url, folder=node.folder, KAFKA_BROKERS=kafka.brokers("NODE"),
                              DATABASE_URL="") as again:
                harness.wait_until(lambda: rows_of(node, "outbox") == 0, "the next life sends the rest")
                assert finals_of(kafka) == texts
                assert not degraded(again)


def test_what_no_broker_takes_is_not_in_the_way():
    with services.RealKafka() as kafka, ScriptedStt() as stt:
        kafka.cluster.create({"transcripts": (1, {"max.message.bytes": "400"})})
        kafka.cluster.create({"transcripts.sessions": (1, {})})
        with harness.node(stt.url, KAFKA_BROKERS=kafka.brokers(), DATABASE_URL="") as node:
            with harness.viewer(node, "room") as viewer, harness.publisher(node, "room", seconds=3):
                viewer.wait_type("end")
            n_finals = len(viewer.finals())
            harness.wait_until(lambda: counter(node, "journal.dead_total") == n_finals, "none fits")
            assert "journal_dead" in degraded(node) and rows_of(node, "dead") == n_finals
            harness.wait_until(lambda: len({record.value for record in kafka.read("transcripts.sessions")}) == 2,
                               "begin and end are in their topic, once or more")
            with sqlite3.connect(os.path.join(node.folder, "journal.db"), timeout=10) as database:
                database.execute("DELETE FROM dead")
            harness.wait_until(lambda: not degraded(node), "somebody has looked")


@contextlib.contextmanager
def small_disk(size="2m"):
    """A folder that is full when one wants it to be."""
    folder = tempfile.mkdtemp(prefix="vc-disk-")
    try:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder],
                          stderr=subprocess.DEVNULL).returncode != 0:
            raise harness.Skip("nothing can be mounted here")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    finally:
        os.rmdir(folder)


def fill(folder):
    path = os.path.join(folder, "filler")
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return path


def test_finals_go_past_a_full_disk():
    with services.RealKafka() as kafka, ScriptedStt() as stt, small_disk() as disk:
        kafka.create_topics()
        with harness.node(stt.url, KAFKA_BROKERS=kafka.brokers(), DATABASE_URL="", LOG_LEVEL="debug",
                          JOURNAL_PATH=os.path.join(disk, "journal.db")) as node:
            with harness.viewer(node, "room") as viewer, harness.publisher(node, "room"):
                viewer.wait_finals(1)
                # As long as somebody reads the file its log only grows: no commit finds room in it.
                reader = sqlite3.connect(os.path.join(disk, "journal.db"), isolation_level=None)
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM outbox").fetchone()
                filler = fill(disk)
                harness.wait_until(lambda: counter(node, "journal.past_disk_total") > 2, "finals go past the disk")
                since = degraded(node)["journal"]["since"]
                n_past = counter(node, "journal.past_disk_total")
                harness.wait_until(lambda: counter(node, "journal.past_disk_total") > n_past + 1, "they go on")
                assert degraded(node)["journal"]["since"] == since
                reader.close()
                os.remove(filler)
                harness.wait_until(lambda: not degraded(node), "there is room again")
                fill(disk)
                viewer.wait_finals(len(viewer.finals()) + 2)
                node.signal(signal.SIGTERM)
                viewer.wait_close()
            assert node.wait() == 0, node.log()[-2000:]
            texts = [final["text"] for final in viewer.finals()]
            assert finals_of(kafka) == texts
            log = node.log()
            assert "event=journal_past_disk session=room" in log and "event=journal.lost" not in log


if __name__ == "__main__":
    harness.main(globals())
