"""PostgreSQL as the node's own store, without Kafka. (takes long)"""

import harness
import services
from scripted_stt import ScriptedStt

PASSWORD = "hunter2-of-the-database"


def postgres():
    try:
        services.postgres_cluster.programs()
    except services.postgres_cluster.PostgresError as error:
        raise harness.Skip(str(error)) from None
    return services.RealPostgres()


def with_password(url):
    return url.replace("verbacast@", f"verbacast:{PASSWORD}@")


def rows_of(node, slug):
    status, _, body = harness.http(node.url("http", f"/sessions/{slug}/transcript.json"))
    return harness.json.loads(body)["transcripts"] if status == 200 else []


def places(rows):
    return [(row["epoch"], row["seq"]) for row in rows]


def is_kept(node):
    return harness.http_json(node.url("http", "/metrics"))["gauges"]["journal.rows"] == 0


def is_degraded(node, what):
    return any(row["what"] == what for row in harness.http_json(node.url("admin", "/readyz"))["degraded"])


def test_finals_are_kept_and_read_back():
    folder = harness.tempfile.mkdtemp(prefix="vc-")
    with postgres() as server, ScriptedStt() as stt:
        url = with_password(server.url())
        with harness.node(stt.url, folder=folder, DATABASE_URL=url, SESSION_KEEP_MS=0) as node:
            with harness.viewer(node, "room") as viewer, harness.publisher(node, "room", seconds=3):
                viewer.wait_type("end")
                finals = viewer.finals()
            harness.wait_until(lambda: not harness.http_json(node.url("http", "/sessions")), "the session has gone")
            harness.wait_until(lambda: is_kept(node), "the journal is empty")
            assert len(finals) >= 3 and places(rows_of(node, "room")) == places(finals)
            assert PASSWORD not in node.log()
        with harness.node(stt.url, folder=folder, DATABASE_URL=url) as node:
            rows = rows_of(node, "room")
            assert places(rows) == places(finals)
            assert [row["text"] for row in rows] == [final["text"] for final in finals]
            assert [row["words"] for row in rows] == [final["words"] for final in finals]
            assert PASSWORD not in node.log()
    harness.shutil.rmtree(folder, ignore_errors=True)


def test_a_crash_of_the_database_loses_nothing():
    with postgres() as server, ScriptedStt(utterance_s=0.25) as stt:
        with harness.node(stt.url, DATABASE_URL=with_password(server.url()), SESSION_KEEP_MS=0) as node:
            with harness.viewer(node, "room") as viewer, harness.publisher(node, "room", seconds=6):
                viewer.wait_finals(3)
                server.crash()
                harness.wait_until(lambda: is_degraded(node, "database"), "the node says that it is away")
                viewer.wait_finals(8)
                server.start()
                viewer.wait_type("end")
                finals = viewer.finals()
            harness.wait_until(lambda: is_kept(node), "the journal is empty")
            assert places(rows_of(node, "room")) == places(finals)
            assert PASSWORD not in node.log()


def test_a_frozen_database_is_no_frozen_node():
    with postgres() as server, ScriptedStt(utterance_s=0.25) as stt:
        with harness.node(stt.url, DATABASE_URL=server.url(), SESSION_KEEP_MS=0) as node:
            with harness.viewer(node, "room") as viewer, harness.publisher(node, "room", seconds=20):
                viewer.wait_finals(3)
                server.freeze()

                def is_noticed():
                    assert harness.http(node.url("admin", "/healthz"))[0] == 200
                    return is_degraded(node, "database")

                harness.wait_until(is_noticed, "the node says that it is away")
                viewer.wait_finals(len(viewer.finals()) + 3)
                server.thaw()
                viewer.wait_type("end")
                finals = viewer.finals()
            harness.wait_until(lambda: is_kept(node), "the journal is empty")
            assert places(rows_of(node, "room")) == places(finals)


if __name__ == "__main__":
    harness.main(globals())
