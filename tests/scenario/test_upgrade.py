"""What the programs before left behind is opened by these, and nothing of it is lost."""

import contextlib
import os
import sqlite3
import tempfile

import harness
from scripted_stt import ScriptedStt

PREVIOUS = os.path.join(harness.ROOT, "tests", "scenario", "previous")
ROOM = ["Said long ago.", "Stored before.", "Left in the outbox.", "And said bare."]


def make(folder, name):
    with contextlib.closing(sqlite3.connect(os.path.join(folder, f"{name}.db"))) as database, \
            open(os.path.join(PREVIOUS, f"{name}.sql"), encoding="utf-8") as file:
        database.executescript(file.read())


def rows(folder, name, query):
    with contextlib.closing(sqlite3.connect(os.path.join(folder, f"{name}.db"), timeout=harness.PATIENCE_S)) as database:
        return database.execute(query).fetchall()


def transcript(node, slug):
    answer = harness.http_json(node.url("http", f"/sessions/{slug}/transcript.json"))
    return [row["text"] for row in answer["transcripts"]], answer["transcripts"]


def expect_all_kept(node):
    texts, room = transcript(node, "room")
    assert texts == ROOM, texts
    assert [row["speaker"] for row in room] == ["Bob", None, "Ann", None], room
    assert room[2]["words"] and room[3]["words"] is None and room[3]["confidence"] is None, room
    assert transcript(node, "cut")[0] == ["Cut short."]
    assert harness.http(node.url("http", "/sessions/erased/transcript.json"))[0] == 404


def expect_in_the_tables(folder):
    ended = dict(rows(folder, "store", "SELECT slug || ' ' || epoch, ended_at FROM sessions"))
    assert ended["room 1780000000000"] == 1780000009 and ended["room 1790000001000"] == 1790000003.5, ended
    assert ended["cut 1790000004000"] > 1790000004, ended  # of the crash
    dead = dict(rows(folder, "store", "SELECT key, reason FROM dead"))
    assert dead == {"room": "a reason", "later": "v is missing or newer than this program knows"}, dead
    for name in ("journal", "store"):
        (version,), = rows(folder, name, "PRAGMA user_version")
        assert version >= 3, (name, version)


def wait_empty(node):
    harness.wait_until(lambda: harness.http_json(node.url("admin", "/metrics"))["gauges"]["journal.rows"] == 0,
                       "the outbox is empty")


def test_an_outbox_and_a_database_of_before():
    with ScriptedStt() as stt, tempfile.TemporaryDirectory() as folder:
        make(folder, "journal")
        make(folder, "store")
        for n_said in (1, 2):  # what was brought on once stays as it is
            with harness.node(stt.url, folder=folder) as node:
                wait_empty(node)
                expect_all_kept(node)
                with harness.viewer(node, "new") as viewer, harness.publisher(node, "new", seconds=1):
                    assert viewer.wait_type("end")["epoch"] > 1790000005000
                wait_empty(node)
                epochs = {row["epoch"] for row in transcript(node, "new")[1]}
                assert len(epochs) == n_said, epochs
            expect_in_the_tables(folder)


if __name__ == "__main__":
    harness.main(globals())
