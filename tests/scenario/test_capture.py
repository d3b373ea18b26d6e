"""The bytes of a real LiveKit egress, played to the ingest again."""

import os
import re

import harness
import rtmp_peer
from scripted_stt import ScriptedStt

CAPTURE = os.path.join(os.path.dirname(harness.ROOT), "shared", "captures", "livekit-egress.0")
SLUG = "session-slug-1"  # as the egress was told
FRAME_S = 1024 / 44100


def reads():
    """What the capture's server read, read by read."""
    if not os.path.exists(CAPTURE + ".raw"):
        raise harness.Skip("the capture of a LiveKit egress is not here")
    with open(CAPTURE + ".raw", "rb") as raw, open(CAPTURE + ".idx", encoding="ascii") as index:
        return [raw.read(int(line.split()[1])) for line in index]


def n_frames():
    """Audio messages by the capture's own summary, but for the configuration."""
    with open(CAPTURE + ".log", encoding="utf-8") as log:
        return int(re.search(r"audio: n=(\d+)", log.read()).group(1)) - 1


def play(node, parts, viewer):
    """The next 64 KiB when an utterance of those before was heard: faster than it was, never in one heap."""
    with rtmp_peer.RtmpPeer(node) as peer:
        sent, heard = 0, 0
        for part in parts:
            peer.send(part)
            sent += len(part)
            if sent > 64 * 1024 * (heard + 1):
                heard += 1
                viewer.wait_finals(heard)
        viewer.wait_type("end")


def test_livekit_egress():
    parts = reads()
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, SLUG) as viewer:
        play(node, parts, viewer)
        assert [message["state"] for message in viewer.messages if message["type"] == "hello"][-1] == "live"
        assert viewer.wait_type("end")["reason"] == "publisher_left"
        want_s, seconds = n_frames() * FRAME_S, sum(session.received for session in stt.sessions.values()) / 32000
        print(f"{seconds:.2f} of {want_s:.2f} s")
        assert len(stt.sessions) == 1
        assert abs(seconds - want_s) < 0.1, (seconds, want_s)
        assert [final["text"] for final in viewer.finals()] == [f"utterance {number}" for number in range(int(want_s) + 1)]
        counters = harness.http_json(node.url("admin", "/metrics"))["counters"]
        assert counters["decode.frames_total"] == n_frames(), counters
        for name in ("decode.corrupt_frames_total", "ingest.protocol_errors_total", "ingest.packets_dropped_total"):
            assert counters[name] == 0, (name, counters[name])


if __name__ == "__main__":
    harness.main(globals())
