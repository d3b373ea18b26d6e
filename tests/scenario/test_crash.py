"""kill -9 and a new start: every final whose commit was traced is in the transcript, once."""

import random
import re
import sqlite3

import harness
from scripted_stt import ScriptedStt

KILLS = 4


def committed(log):
    return {(int(epoch), int(seq)) for epoch, seq in
            re.findall(r"event=journal_committed session=room epoch=(\d+) seq=(\d+)", log)}


def test_committed_finals_survive():
    dice = random.Random(4)
    promised, folder = set(), harness.tempfile.mkdtemp(prefix="vc-")
    with ScriptedStt(utterance_s=0.25) as stt:
        for _ in range(KILLS):
            node = harness.node(stt.url, folder=folder, LOG_LEVEL="debug")
            with harness.publisher(node, "room"), harness.viewer(node, "room") as viewer:
                least = 3 + dice.randrange(8)
                harness.wait_until(lambda: len(viewer.finals()) >= least and committed(node.log()), "some finals")
                node.kill()
                promised |= committed(node.log())
        with harness.node(stt.url, folder=folder) as node:
            def rows():
                status, _, body = harness.http(node.url("http", "/sessions/room/transcript.json"))
                return harness.json.loads(body)["transcripts"] if status == 200 else []
            harness.wait_until(lambda: promised <= {(row["epoch"], row["seq"]) for row in rows()}, "all that was promised")
            keys = [(row["epoch"], row["seq"]) for row in rows()]
            assert len(keys) == len(set(keys)), "a final is there twice"
            assert keys == sorted(keys)
    harness.shutil.rmtree(folder, ignore_errors=True)
    assert len(promised) >= KILLS * 2, promised


def test_what_the_database_has_not_got_yet_is_in_the_transcript():
    with ScriptedStt() as stt, harness.node(stt.url, SESSION_KEEP_MS=0) as node:
        def transcript():
            _, headers, body = harness.http(node.url("http", "/sessions/room/transcript.json"))
            rows = harness.json.loads(body).get("transcripts", [])
            return headers.get("X-Verbacast-Complete"), [(row["epoch"], row["seq"]) for row in rows]

        def sessions():
            return harness.http_json(node.url("http", "/sessions"))

        lock = sqlite3.connect(f"{node.folder}/store.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        with harness.viewer(node, "room") as viewer, harness.publisher(node, "room", seconds=3):
            viewer.wait_type("end")
        finals = [(final["epoch"], final["seq"]) for final in viewer.finals()]
        harness.wait_until(lambda: not sessions(), "the ledger lets the session go")
        assert len(finals) >= 3 and transcript() == ("true", finals)
        lock.execute("ROLLBACK")
        harness.wait_until(lambda: harness.http_json(node.url("http", "/metrics"))["gauges"]["journal.rows"] == 0,
                           "the journal is empty")
        assert transcript() == ("true", finals)
        lock.close()


def test_epochs_grow_where_the_clock_was_set_back():
    ahead = int(harness.time.time() * 1000) + 3600_000
    with ScriptedStt() as stt:
        folder = harness.tempfile.mkdtemp(prefix="vc-")
        with harness.node(stt.url, folder=folder):
            pass
        store = sqlite3.connect(f"{folder}/store.db", isolation_level=None)
        store.execute("INSERT INTO sessions (slug, epoch, node) VALUES ('room', ?, 'a')", (ahead,))
        store.close()  # as a node would have left it whose clock was an hour ahead
        epochs = [ahead]
        for database in ("sqlite:store.db", ""):
            with harness.node(stt.url, folder=folder, DATABASE_URL=database) as node:
                with harness.viewer(node, "room") as viewer, harness.publisher(node, "room", seconds=1):
                    epochs.append(viewer.wait_type("end")["epoch"])
        harness.shutil.rmtree(folder, ignore_errors=True)
        assert epochs == sorted(set(epochs)), epochs


def test_corrupt_journal_is_moved_aside():
    with ScriptedStt() as stt:
        folder = harness.tempfile.mkdtemp(prefix="vc-")
        with open(f"{folder}/journal.db", "wb") as file:
            file.write(b"this is no database" * 1000)
        with harness.node(stt.url, folder=folder) as node:
            node.wait_log("journal.corrupt")
            assert any("journal.db.corrupt-" in name for name in harness.os.listdir(folder))
        harness.shutil.rmtree(folder, ignore_errors=True)


def test_second_process_on_the_journal_is_refused():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        settings = {"HTTP_LISTEN": "127.0.0.1:0", "ADMIN_LISTEN": "127.0.0.1:0", "RTMP_LISTEN": "127.0.0.1:0",
                    "STT_URL": stt.url, "JOURNAL_PATH": "journal.db"}
        second = harness.Process("verbacast", settings, ready=False, folder=node.folder)
        assert second.wait() == 1
        assert "another process" in second.log(), second.log()


if __name__ == "__main__":
    harness.main(globals())
