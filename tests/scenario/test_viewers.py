"""Viewers that come late, come back, say what they should not, and are sent away."""

import asyncio
import json

import websockets

import harness
from scripted_stt import ScriptedStt


def test_late_and_returning_viewers_get_every_final_once():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as whole:
        with harness.publisher(node, "room", seconds=8) as publisher:
            with harness.viewer(node, "room") as early:
                early.wait_finals(2)
                seen = early.finals()
            last = early.messages[-1]
            whole.wait_finals(5)
            with harness.viewer(node, "room", f"?since={last['epoch']}.{last['seq']}") as again, \
                    harness.viewer(node, "room") as late:
                assert publisher.wait() == 0, publisher.errors()
                whole.wait_type("end")
                again.wait_type("end")
                late.wait_type("end")
                want = [final["text"] for final in whole.finals()]
                assert [final["text"] for final in seen + again.finals()] == want
                assert [final["text"] for final in late.finals()] == want
                seqs = [message["seq"] for message in again.messages if message["type"] != "hello"]
                assert seqs == sorted(set(seqs)) and seqs[0] > last["seq"], seqs


def test_unknown_position_is_a_gap():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.publisher(node, "room") as publisher:
        with harness.viewer(node, "room") as viewer:
            viewer.wait_finals(1)
        with harness.viewer(node, "room", "?since=99.7") as lost:
            assert lost.wait_type("gap")["to"] is None
            lost.wait_finals(1)
        publisher.stop()


def test_new_epoch_brings_a_new_hello():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        for _ in range(2):
            with harness.publisher(node, "room", seconds=2) as publisher:
                assert publisher.wait() == 0, publisher.errors()
                ends = lambda: [message for message in viewer.messages if message["type"] == "end"]
                harness.wait_until(lambda count=_: len(ends()) > count, "the end")
        epochs = [message["epoch"] for message in viewer.messages if message["type"] == "end"]
        assert epochs[1] > epochs[0]
        hellos = [message["epoch"] for message in viewer.messages if message["type"] == "hello"]
        assert epochs[1] in hellos, hellos


async def misbehave(url, message):
    async with websockets.connect(url, compression=None) as connection:
        await connection.recv()
        await connection.send(message)
        await asyncio.wait_for(connection.wait_closed(), harness.PATIENCE_S)
        return connection.close_code


def test_what_viewers_may_not_send():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        url = f"ws://{node.addresses['http']}/live/room"
        assert asyncio.run(misbehave(url, b"binary")) == 1003
        assert asyncio.run(misbehave(url, "x" * 5000)) == 1009


def test_refusals_before_the_upgrade():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        base = f"ws://{node.addresses['http']}"
        for path, headers, status in ((f"{base}/live/-bad", {}, 404), (f"{base}/other/room", {}, 404),
                                      (f"{base}/live/room?since=x", {}, 400),
                                      (f"{base}/live/room", {"Origin": "https://elsewhere.example"}, 403),
                                      (f"{base}/live/room", {"X-Forwarded-For": "192.0.2.1"}, 403)):
            with harness.Viewer(path, headers) as viewer:
                viewer.wait_close()
                assert viewer.refusal == status, (path, headers, viewer.refusal)


def test_sessions_beyond_the_bound_are_refused():
    with ScriptedStt() as stt, harness.node(stt.url, MAX_SESSIONS=1) as node, harness.viewer(node, "room") as viewer:
        viewer.wait_type("hello")
        with harness.viewer(node, "other") as refused:
            refused.wait_close()
            assert refused.refusal == 503, refused.refusal
        with harness.viewer(node, "room") as second, harness.publisher(node, "room") as publisher:
            second.wait_finals(1)
            with harness.publisher(node, "other", seconds=2) as refused:
                assert refused.wait() != 0
            publisher.stop()


def test_kicked_viewers():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        viewer.wait_type("hello")
        body = json.dumps({"session": "room", "what": "viewers"}).encode()
        status, _, text = harness.http(node.url("admin", "/admin/kick"), method="POST", body=body)
        assert status == 200, text
        assert viewer.wait_close() == 1001


if __name__ == "__main__":
    harness.main(globals())
