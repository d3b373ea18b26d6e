"""SIGTERM: the balancer is told, the last words are said, viewers are sent elsewhere, all is kept."""

import signal

import harness
from scripted_stt import ScriptedStt


def test_drain_keeps_everything():
    with ScriptedStt() as stt, harness.node(stt.url, DRAIN_DELAY_MS=1500) as node:
        with harness.viewer(node, "room") as viewer, harness.publisher(node, "room"):
            viewer.wait_finals(2)
            node.signal(signal.SIGTERM)
            harness.wait_until(lambda: harness.http(node.url("admin", "/readyz"))[0] == 404, "readyz says 404")
            assert viewer.wait_type("end")["reason"] == "shutdown"
            assert viewer.wait_close() == 1001
            assert node.wait() == 0, node.log()[-2000:]
            node.check_log()
            texts = [final["text"] for final in viewer.finals()]
        with harness.node(stt.url, folder=node.folder) as again:
            rows = harness.http_json(again.url("http", "/sessions/room/transcript.json"))["transcripts"]
            assert [row["text"] for row in rows] == texts


def test_spread_words_say_so_live_and_past():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        stt.spreads_words = True
        with harness.viewer(node, "room") as viewer, harness.publisher(node, "room", seconds=3):
            viewer.wait_type("end")
        live = harness.http_json(node.url("http", "/sessions/room/transcript.json"))["transcripts"]
        node.signal(signal.SIGTERM)
        assert node.wait() == 0, node.log()[-2000:]
        with harness.node(stt.url, folder=node.folder) as again:
            past = harness.http_json(again.url("http", "/sessions/room/transcript.json"))["transcripts"]
        assert live and past == live
        assert all(final["approximate"] is True for final in [*viewer.finals(), *live])


def test_second_signal_ends_at_once():
    with ScriptedStt() as stt:
        node = harness.node(stt.url, DRAIN_DELAY_MS=60000)
        try:
            node.signal(signal.SIGTERM)
            harness.wait_until(lambda: harness.http(node.url("admin", "/readyz"))[0] == 404, "readyz says 404")
            node.signal(signal.SIGTERM)
            assert node.wait() != 0
        finally:
            node.kill()


if __name__ == "__main__":
    harness.main(globals())
