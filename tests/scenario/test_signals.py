"""What an operator says to a running node by signal: another log level, secrets read again."""

import os
import signal
import tempfile

import harness
from tokens import token

NOWHERE = "http://127.0.0.1:9/v2/live"


def write_secret(folder, text):
    """As a deployment does it: never half a file."""
    path = os.path.join(folder, "secret")
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)
    return "@" + path


def status_with(node, secret):
    value = token(secret, session="demo")
    return harness.http(node.url("http", f"/sessions/demo/transcript.json?token={value}"))[0]


def reload(node, times):
    node.signal(signal.SIGHUP)
    harness.wait_until(lambda: node.log().count("secrets.reload") == times, "the secrets are read again")


def test_sighup_rotates_a_secret():
    with tempfile.TemporaryDirectory(prefix="vc-signals-") as folder:
        first, second = "f" * 32, "s" * 32
        with harness.node(NOWHERE, VIEWER_SECRET=write_secret(folder, first)) as node:
            missing = status_with(node, first)
            assert missing == 404, missing  # let in: there is no such session
            assert status_with(node, second) == 401
            write_secret(folder, f"{second},{first}")
            assert status_with(node, second) == 401, "nobody has said that it changed"
            reload(node, 1)
            assert status_with(node, first) == 404 and status_with(node, second) == 404
            write_secret(folder, second)
            reload(node, 2)
            assert status_with(node, first) == 401 and status_with(node, second) == 404
            os.unlink(os.path.join(folder, "secret"))
            reload(node, 3)
            assert status_with(node, second) == 404, "a file that is gone takes no secret away"
            assert first not in node.log() and second not in node.log()


def test_sighup_to_the_speech_server():
    with tempfile.TemporaryDirectory(prefix="vc-signals-") as folder:
        with harness.stt(STT_API_KEYS=write_secret(folder, "k" * 32)) as stt:
            reload(stt, 1)
            os.unlink(os.path.join(folder, "secret"))
            reload(stt, 2)


def test_sigusr_turns_the_log_up_and_down():
    with harness.node(NOWHERE, LOG_LEVEL="info") as node:
        node.signal(signal.SIGUSR1)
        node.wait_log(r"log\.level.*level=debug")
        node.signal(signal.SIGUSR2)
        node.wait_log(r"log\.level.*level=info")
        node.signal(signal.SIGUSR2)
        node.wait_log(r"log\.level.*level=warn")
        assert harness.http(node.url("admin", "/healthz"))[0] == 200


if __name__ == "__main__":
    harness.main(globals())
