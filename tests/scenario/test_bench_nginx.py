"""The bench's peer of nginx and ffmpeg: it is measured as the node is, does what it says, and leaves nothing. (release only)
(runs alone)"""

import contextlib
import glob
import os
import signal
import subprocess
import tempfile

import harness
from scripted_stt import ScriptedStt
from test_bench import measured

SERVER = os.path.join(harness.ROOT, "bench", "peers", "nginx-rtmp", "server.py")
PYTHON = "/usr/bin/python3"
NEEDED = ("/usr/sbin/nginx", "/usr/lib/nginx/modules/ngx_rtmp_module.so")


def check_is_here():
    for path in NEEDED:
        if not os.path.exists(path):
            raise harness.Skip(f"{path} is not here")


def processes_of(session):
    """pid -> name, of those that are no zombies."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(path, encoding="utf-8") as file:
            head, fields = file.read().rsplit(")", 1)
            state, _, _, own_session = fields.split()[:4]
            if int(own_session) == session and state != "Z":
                found[int(head.split(" ")[0])] = head.split("(", 1)[1]
    return found


@contextlib.contextmanager
def started(stt_url, status=0):
    """The peer as the bench starts it: in a folder of its own, as the first of a session."""
    check_is_here()
    options = {"STT_URL": stt_url, "RTMP_PORT": 0, "HTTP_PORT": 0}
    with tempfile.TemporaryDirectory(prefix="vc-nginx-") as folder:
        peer = harness.Process("nginx-rtmp", options, folder=folder, path="/usr/bin/setsid", arguments=[PYTHON, SERVER])
        try:
            assert "nginx" in processes_of(peer.process.pid).values(), processes_of(peer.process.pid)
            yield peer
            peer.stop(status)
            assert not processes_of(peer.process.pid)
            assert os.listdir(folder) == [os.path.basename(peer.log_path)]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(peer.process.pid, signal.SIGKILL)
            peer.kill()
            peer.process.stdout.close()


def names_of(peer):
    return sorted(processes_of(peer.process.pid).values())


def publish(peer, name):
    return harness.Publisher(f"rtmp://{peer.addresses['rtmp']}/live/{name}")


def check_is_refused(peer, name):
    with publish(peer, name) as publisher:
        assert publisher.wait() != 0


def test_it_is_measured_from_message_to_pcm():
    check_is_here()
    rows = measured("ingest", "--bench-node", "none", "--bench-counts", "1,3", "--bench-rounds", "1", "--bench-peers",
                    f"nginx={PYTHON} {SERVER}", "--bench-seconds", "2", "--bench-warm-up-s", "5")  # ffmpeg starts late
    assert {"nginx, 1 streams", "nginx, 3 streams"} <= set(rows), rows
    for name, n in (("nginx, 1 streams", 1), ("nginx, 3 streams", 3)):
        row = rows[name]
        assert row["latency p50"]["least"] > 0, row
        assert 10 * n <= row["chunks/s"]["median"] <= 25 * n, row
        assert row["short pieces"]["median"] < 5, row  # the last of each
        assert row["publish to first PCM p50"]["least"] > 0, row
        assert row["CPU a stream"]["median"] > 0, row  # ffmpeg is in it
        assert row["memory a stream"]["median"] > 1, row


def test_viewers_see_what_was_said():
    with ScriptedStt() as stt, started(stt.url) as peer:
        assert harness.http(peer.url("http", "/healthz"))[0] == 200
        assert harness.http(peer.url("http", "/live/-room"))[0] == 404
        with harness.viewer(peer, "room") as viewer, harness.viewer(peer, "other") as other:
            with publish(peer, "room"):
                final = viewer.wait_finals(2)[0]
            assert final["session"] == "room" and final["text"] == "utterance 0" and final["utteranceId"] == "s1-00-00000000"
            assert not other.messages
        assert stt.posts[0][1]["custom_metadata"] == {"session": "room"}
        assert {size for _, size in stt.audio_times[:-1]} == {1600}


def test_a_stream_ends_with_its_publisher():
    with ScriptedStt() as stt, started(stt.url) as peer:
        for ident in ("s1", "s2"):  # and may come back
            with publish(peer, "room"):
                session = harness.wait_until(lambda ident=ident: stt.sessions.get(ident), "a session is asked for")
                harness.wait_until(lambda session=session: session.received > 0, "it is heard")
                assert names_of(peer).count("ffmpeg") == 1
                check_is_refused(peer, "room")
                assert names_of(peer).count("ffmpeg") == 1
            harness.wait_until(lambda session=session: session.is_stopped, "the session is ended")
            harness.wait_until(lambda: "ffmpeg" not in names_of(peer), "ffmpeg is gone")
        check_is_refused(peer, "-room")
        assert sorted(stt.sessions) == ["s1", "s2"]
        with publish(peer, "room"), publish(peer, "other"):  # these are there when it is told to end
            harness.wait_until(lambda: sum(one.received > 0 for one in stt.sessions.values()) == 4, "all are heard")
            peer.stop()


def test_it_says_what_is_wrong():
    with ScriptedStt() as stt, started(stt.url) as peer:
        stt.refuse_with = 402
        with publish(peer, "room"):
            peer.wait_log("room goes on unheard: .*the provider answers 402")
            harness.wait_until(lambda: "ffmpeg" not in names_of(peer), "ffmpeg is gone")
        second = subprocess.run([PYTHON, SERVER], env=dict(os.environ, RTMP_PORT=str(peer.port("rtmp"))), capture_output=True,
                                text=True, timeout=harness.PATIENCE_S, cwd=peer.folder)
        assert second.returncode == 1 and second.stdout == "", second
        assert second.stderr == f"error: RTMP_PORT {peer.port('rtmp')}: Address already in use\n", second


def test_it_ends_with_its_nginx():
    with ScriptedStt() as stt, started(stt.url, status=1) as peer:
        with open(glob.glob(os.path.join(peer.folder, "*", "nginx.pid"))[0], encoding="utf-8") as file:
            os.kill(int(file.read()), signal.SIGTERM)
        peer.wait_log("error: nginx ended with 0")
        peer.wait()


if __name__ == "__main__":
    harness.main(globals())
