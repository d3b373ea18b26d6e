"""Sound in by RTMP, numbered words out by WebSocket, and the same words afterwards by HTTP."""

import harness
from scripted_stt import ScriptedStt


def test_words_reach_the_viewer():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        with harness.viewer(node, "demo") as viewer:
            hello = viewer.wait_type("hello")
            assert hello["state"] == "idle", hello
            with harness.publisher(node, "demo", seconds=6) as publisher:
                assert publisher.wait() == 0, publisher.errors()
                end = viewer.wait_type("end")
            assert end["reason"] == "publisher_left", end
            finals = viewer.finals()
            texts = [final["text"] for final in finals]
            assert texts[:5] == [f"utterance {n}" for n in range(5)], texts
            seqs = [message["seq"] for message in viewer.messages if message["type"] != "hello"]
            assert seqs == list(range(1, len(seqs) + 1)), seqs
            transcript = harness.http_json(node.url("http", "/sessions/demo/transcript.json"))
            assert [row["text"] for row in transcript["transcripts"]] == texts, transcript


if __name__ == "__main__":
    harness.main(globals())
