"""The speech-to-text service refuses, is away, drops connections: viewers are told, sound is kept."""

import harness
from scripted_stt import ScriptedStt


def status(viewer, state):
    return viewer.wait(lambda message: message["type"] == "status" and message["state"] == state, state)


def degraded(node):
    return [row["what"] for row in harness.http_json(node.url("admin", "/readyz"))["degraded"]]


def test_refused_then_taken():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        stt.refuse_with = 401
        with harness.publisher(node, "room") as publisher:
            assert "401" in status(viewer, "stt_down")["reason"]
            assert degraded(node) == ["stt"]
            stt.refuse_with = None
            status(viewer, "live")
            viewer.wait_finals(3)
            # What was said while it was away comes too: the sound was kept.
            assert viewer.finals()[0]["start"] < 1, viewer.finals()[0]
            assert degraded(node) == []
            publisher.stop()
        viewer.wait_type("end")


def test_dropped_connections_lose_no_word():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        with harness.publisher(node, "room", seconds=9) as publisher:
            for drops in range(2):
                viewer.wait_finals(2 * drops + 2)
                stt.drop_all()
            assert publisher.wait() == 0, publisher.errors()
        viewer.wait_type("end")
        texts = [final["text"] for final in viewer.finals()]
        assert texts == sorted(set(texts), key=lambda text: int(text.split()[1])), texts
        assert len(texts) >= 8, texts
        starts = [final["start"] for final in viewer.finals()]
        for earlier, later in zip(starts, starts[1:]):
            assert 0.5 < later - earlier < 1.6, starts


def test_unreachable():
    port = harness.free_port()
    with harness.node(f"http://127.0.0.1:{port}/v2/live") as node, harness.viewer(node, "room") as viewer:
        with harness.publisher(node, "room") as publisher:
            status(viewer, "stt_down")
            assert harness.http(node.url("admin", "/readyz"))[0] == 200
            publisher.stop()
        viewer.wait_type("end")


if __name__ == "__main__":
    harness.main(globals())
