"""RETENTION_DAYS on a node that writes its own database: what ended longer ago goes, also when nobody publishes."""

import os
import sqlite3
import time

import harness
from scripted_stt import ScriptedStt

DAY_S = 86400


def add_session(path, slug, ended_at):
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO sessions (slug, epoch, node, started_at, ended_at) VALUES (?, ?, 'a1', ?, ?)",
                         (slug, int(ended_at * 1000), ended_at - 60, ended_at))
        database.execute("INSERT INTO transcripts (session_id, utterance_id, seq, text, start_s, end_s)"
                         " SELECT id, '1-0-a', 1, 'Said.', 0, 1 FROM sessions WHERE slug = ?", (slug,))
    database.close()


def read(path, column):
    with sqlite3.connect(path, timeout=10) as database:
        rows = database.execute(f"SELECT {column} ORDER BY 1").fetchall()
    database.close()
    return [row[0] for row in rows]


def slugs(path):
    return read(path, "slug FROM sessions")


def test_old_sessions_go_and_others_stay():
    with ScriptedStt() as stt:
        with harness.node(stt.url) as node:
            path = os.path.join(node.folder, "store.db")
            harness.wait_until(lambda: os.path.exists(path), "the database is made")
            node.stop()
            add_session(path, "old", time.time() - 3 * DAY_S)
            add_session(path, "young", time.time() - DAY_S)
            with harness.node(stt.url, folder=node.folder) as kept:
                kept.stop()
            assert slugs(path) == ["old", "young"]
            with harness.node(stt.url, folder=node.folder, RETENTION_DAYS=2) as again:
                harness.wait_until(lambda: slugs(path) == ["young"], "the old one is gone")
                assert read(path, "count(*) FROM transcripts") == [1]
                again.wait_log("event=store.expired sessions=1 retention_days=2")


def test_what_cannot_be_deleted_is_in_no_finals_way():
    with ScriptedStt(utterance_s=0.25) as stt, harness.node(stt.url) as node:
        path = os.path.join(node.folder, "store.db")
        harness.wait_until(lambda: os.path.exists(path), "the database is made")
        node.stop()
        add_session(path, "old", time.time() - 4 * DAY_S)
        add_session(path, "younger", time.time() - 3 * DAY_S)
        with sqlite3.connect(path) as database:
            database.execute("CREATE TRIGGER held BEFORE DELETE ON sessions WHEN old.slug = 'old'"
                             " BEGIN SELECT RAISE(ABORT, 'it is held'); END")
        database.close()
        with harness.node(stt.url, folder=node.folder, RETENTION_DAYS=2, BATCH_FLUSH_INTERVAL_MS=1) as kept:
            with harness.publisher(kept, "room"):
                kept.wait_log("event=store.expire_failed sessions=1 .*it is held")
                kept.wait_log("event=store.expired sessions=1 ")
                figures = harness.http_json(kept.url("admin", "/metrics"))
                assert figures["counters"]["store.expire_failed_total"] == 1, figures["counters"]
                harness.wait_until(lambda: read(path, "count(*) FROM transcripts")[0] >= 6, "finals are written")
            assert kept.log().count("event=store.expire_failed") == 1, kept.log()
        assert "old" in slugs(path) and "younger" not in slugs(path)


if __name__ == "__main__":
    harness.main(globals())
