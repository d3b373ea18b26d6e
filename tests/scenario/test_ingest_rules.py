"""Publishers that replace, vanish, come back, have bad names or send rubbish."""

import contextlib
import random
import socket

import harness
from scripted_stt import ScriptedStt


def counter(node, name):
    return harness.http_json(node.url("admin", "/metrics"))["counters"].get(name, 0)


def wait_counter(node, name, least=1):
    harness.wait_until(lambda: counter(node, name) >= least, f"{name} >= {least}")


def test_second_publisher_takes_over():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        with harness.publisher(node, "room") as first:
            viewer.wait_finals(1)
            with harness.publisher(node, "room") as second:
                wait_counter(node, "ingest.takeovers_total")
                assert first.wait() != 0
                before = len(viewer.finals())
                viewer.wait_finals(before + 2)
                second.stop()
        viewer.wait_type("end")
        assert len({final["epoch"] for final in viewer.finals()}) == 1
        assert len(stt.sessions) == 1


def named(node, name, **more):
    """A publisher that is told from others, as two machines would be."""
    return harness.publisher(node, "room", encode=("-c:a", "aac", "-rtmp_flashver", name), **more)


def test_two_publishers_do_not_replace_each_other_for_ever():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        with named(node, "first") as first, contextlib.ExitStack() as stack:
            viewer.wait_finals(1)
            second = stack.enter_context(named(node, "second"))
            wait_counter(node, "ingest.takeovers_total")
            assert first.wait() != 0
            with named(node, "first") as back:
                assert back.wait() != 0
            assert counter(node, "ingest.takeover_flaps_total") == 1
            assert counter(node, "ingest.takeovers_total") == 1
            viewer.wait_finals(len(viewer.finals()) + 2)
            third = stack.enter_context(named(node, "third"))  # a stranger may
            wait_counter(node, "ingest.takeovers_total", 2)
            assert second.wait() != 0
            viewer.wait_finals(len(viewer.finals()) + 2)
            third.stop()
        viewer.wait_type("end")
        assert len(stt.sessions) == 1


def test_vanished_publisher_may_come_back():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        with harness.publisher(node, "room") as publisher:
            viewer.wait_finals(1)
            publisher.kill()
        viewer.wait(lambda message: message["type"] == "status" and message["state"] == "reconnecting", "reconnecting")
        with harness.publisher(node, "room", seconds=3) as publisher:
            viewer.wait(lambda message: message["type"] == "status" and message["state"] == "live", "live again")
            assert publisher.wait() == 0, publisher.errors()
        viewer.wait_type("end")
        assert len(stt.sessions) == 1
        starts = [final["start"] for final in viewer.finals()]
        assert starts == sorted(starts), starts


def test_session_ends_when_nobody_comes_back():
    with ScriptedStt() as stt, harness.node(stt.url, SESSION_RESUME_MS=300) as node:
        with harness.viewer(node, "room") as viewer, harness.publisher(node, "room") as publisher:
            viewer.wait_finals(1)
            publisher.kill()
            assert viewer.wait_type("end")["reason"] == "publisher_left"


def test_bad_names_and_applications_are_refused():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        rtmp = node.addresses["rtmp"]
        for path in ("live/-bad", "live/a%20b", "live/" + "x" * 129, "other/room"):
            with harness.Publisher(f"rtmp://{rtmp}/{path}", seconds=1) as publisher:
                assert publisher.wait() != 0, path
        wait_counter(node, "ingest.name_refused_total", 3)
        wait_counter(node, "ingest.app_refused_total", 1)
        assert not stt.sessions


def test_rubbish_is_closed_and_counted():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        dice = random.Random(20261126)
        address = ("127.0.0.1", node.port("rtmp"))
        with harness.publisher(node, "real") as real, harness.viewer(node, "real") as viewer:
            viewer.wait_finals(1)
            for kind in range(30):
                with socket.create_connection(address, timeout=harness.PATIENCE_S) as peer:
                    head = b"\x03" + dice.randbytes(1536) if kind % 3 else b""
                    peer.sendall(head + dice.randbytes(4096))
                    peer.shutdown(socket.SHUT_WR)
                    while peer.recv(65536):
                        pass
            assert counter(node, "ingest.protocol_errors_total") >= 10
            before = len(viewer.finals())
            viewer.wait_finals(before + 2)
            seqs = [message["seq"] for message in viewer.messages if message["type"] != "hello"]
            assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), seqs
            real.stop()


def test_silence_is_closed():
    with ScriptedStt() as stt, harness.node(stt.url, INGEST_IDLE_TIMEOUT_MS=500, SESSION_RESUME_MS=200) as node:
        with harness.viewer(node, "room") as viewer, harness.publisher(node, "room") as publisher:
            viewer.wait_finals(1)
            publisher.process.send_signal(harness.signal.SIGSTOP)
            viewer.wait_type("end")
            wait_counter(node, "ingest.timeouts_total")
            publisher.process.send_signal(harness.signal.SIGCONT)


def test_kick():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        with harness.publisher(node, "room") as publisher:
            viewer.wait_finals(1)
            status, _, body = harness.http(node.url("admin", "/admin/kick"), method="POST",
                                           body=b'{"session": "room", "what": "publisher"}')
            assert status == 200, body
            assert viewer.wait_type("end")["reason"] == "kicked"
            assert publisher.wait() != 0


if __name__ == "__main__":
    harness.main(globals())
