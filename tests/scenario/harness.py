"""What the scenarios share: starting the real programs on free ports, publishing, watching, waiting.

A scenario is one story in one file `test_X.py` of functions `test_…`, run by `main(globals())`. Its
docstring may say "(release only)", "(runs alone)" or "(takes long)" (such are begun first). Every wait
is bounded and on a condition.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

import websockets

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("VC_BUILD", os.path.join(ROOT, "build")))
ENGINE = os.environ.get("VC_STT_ENGINE", "")
CONFIGURATION = os.environ.get("VC_CONFIGURATION", "release")
sys.path.insert(0, os.path.join(ROOT, "deploy"))
import loopback  # noqa: E402

PATIENCE_S = 60 if CONFIGURATION == "release" else 150
SANITIZER_WORDS = ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:")


class Skip(Exception):
    """Raised by a test that cannot run here; its reason must stand in tests/skips.txt."""


def program(name):
    """A program of ours, or one of tests/scenario/programs."""
    own = os.path.join(BUILD, "tests", "scenario", "programs", name)
    return own if os.path.exists(own) else os.path.join(BUILD, "src", "main", name)


def from_pypi(name):
    """The program of a package that tests/requirements.txt names."""
    path = os.path.join(os.environ.get("VC_VENV", ""), "bin", name)
    if not os.path.exists(path):
        raise Skip(f"{name} of PyPI is not here")
    return path


def wait_until(condition, what, timeout=None):
    """Asks `condition` until it gives something true, and gives that back."""
    limit = time.monotonic() + (timeout or PATIENCE_S)
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > limit:
            raise AssertionError(f"not in time: {what}")
        time.sleep(0.02)


class Process:
    """A program of ours: started with free ports, its log kept, its end checked."""

    def __init__(self, name, options=None, ready=True, arguments=(), folder=None, path=None):
        self.folder = folder or tempfile.mkdtemp(prefix="vc-")
        self.own_folder = folder is None
        self.log_path = os.path.join(self.folder, f"{name}-{time.monotonic_ns()}.log")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("STT_", "RTMP_"))}
        environment.update({key: str(value) for key, value in (options or {}).items()})
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([path or program(name), *arguments], env=environment, stdout=subprocess.PIPE,
                                            stderr=log, cwd=self.folder)
        self.name = name
        self.was_killed = False
        self.addresses = {}
        if ready:
            self.addresses = self.read_ready()

    def read_ready(self):
        """The one line on stdout: `ready http=127.0.0.1:41233 …`."""
        lines = []
        reader = threading.Thread(target=lambda: lines.append(self.process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(PATIENCE_S)
        if not lines or not lines[0].startswith(b"ready "):
            ended = self.process.poll()
            self.kill()
            raise AssertionError(f"{self.name} is not ready, ended {ended}: {lines} {self.log()[-3000:]}")
        return dict(word.split("=", 1) for word in lines[0].decode().split()[1:])

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_log(self, pattern, timeout=None):
        return wait_until(lambda: re.search(pattern, self.log()), f"{self.name} logs {pattern}", timeout)

    def url(self, kind, path):
        return f"http://{self.addresses[kind]}{path}"

    def port(self, kind):
        return int(self.addresses[kind].rsplit(":", 1)[1])

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=None):
        return self.process.wait(timeout or PATIENCE_S)

    def stop(self, status=0):
        """SIGTERM, and the end that a drain must have."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            got = self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} does not end: {self.log()[-3000:]}") from None
        self.check_log()
        assert got == status, f"{self.name} ended with {got}: {self.log()[-3000:]}"

    def kill(self):
        if self.process.poll() is None:
            self.was_killed = True
            self.process.kill()
        self.process.wait()

    def check_end(self):
        """It has ended as it was told to, and its log has nothing of a sanitizer."""
        got = self.wait()
        self.check_log()
        assert got == (-signal.SIGKILL if self.was_killed else 0), f"{self.name} ended with {got}: {self.log()[-3000:]}"

    def check_log(self):
        text = self.log()
        for word in SANITIZER_WORDS:
            assert word not in text, f"{self.name}: {text[max(0, text.index(word) - 200):][:6000]}"

    def __enter__(self):
        return self

    def __exit__(self, kind, _value, _trace):
        try:
            if kind is None:
                self.stop()
            else:
                self.kill()
                print(f"--- the log of {self.name}, its end:\n{self.log()[-4000:]}", file=sys.stderr)
        finally:
            if self.process.stdout:
                self.process.stdout.close()
            if self.own_folder:
                shutil.rmtree(self.folder, ignore_errors=True)


class Frozen:
    """One thread of a process of ours stands still, as one that waits for a disk that hangs."""

    SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17

    def __init__(self, pid, name):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
        self.libc.ptrace.restype = ctypes.c_long
        self.thread = next(int(task) for task in os.listdir(f"/proc/{pid}/task") if self.name_of(pid, task) == name)

    @staticmethod
    def name_of(pid, task):
        with open(f"/proc/{pid}/task/{task}/comm", encoding="utf-8") as file:
            return file.read().strip()

    def ask(self, request):
        assert self.libc.ptrace(request, self.thread, None, None) == 0, os.strerror(ctypes.get_errno())

    def __enter__(self):
        self.ask(self.SEIZE)
        self.ask(self.INTERRUPT)
        os.waitpid(self.thread, 0x40000000)  # __WALL
        return self

    def __exit__(self, *_):
        self.ask(self.DETACH)


def node(stt_url, folder=None, **options):
    """The node on free ports, with a journal and a store of its own."""
    settings = {
        "HTTP_LISTEN": "127.0.0.1:0", "ADMIN_LISTEN": "127.0.0.1:0", "RTMP_LISTEN": "127.0.0.1:0",
        "STT_URL": stt_url, "DRAIN_DELAY_MS": 0, "JOURNAL_PATH": "journal.db", "DATABASE_URL": "sqlite:store.db",
    }
    settings.update(options)
    return Process("verbacast", settings, folder=folder)


def stt(**options):
    """verbacast-stt with the best engine there is."""
    settings = {"STT_LISTEN": "127.0.0.1:0"}
    settings.update(options)
    return Process("verbacast-stt", settings)


def http(url, method="GET", headers=None, body=None, timeout=20):
    """(status, headers, body as text); an error status is an answer too."""
    request = urllib.request.Request(url, method=method, headers=headers or {}, data=body)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read().decode("utf-8")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode("utf-8", "replace")


def http_json(url, **more):
    status, _, body = http(url, **more)
    assert status == 200, f"{url}: {status} {body}"
    return json.loads(body)


class Viewer:
    """A WebSocket client in a thread of its own, that keeps all it was sent."""

    def __init__(self, url, headers=None, ssl=None):
        self.messages = []
        self.close_code = None
        self.refusal = None
        self.changed = threading.Condition()
        self.is_stopping = False
        self.loop = asyncio.new_event_loop()
        self.url = url
        self.headers = headers or {}
        self.ssl = {"ssl": ssl} if ssl else {}
        self.socket = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        self.loop.run_until_complete(self.watch())
        self.loop.close()

    async def watch(self):
        try:
            async with websockets.connect(self.url, extra_headers=self.headers, compression=None, open_timeout=PATIENCE_S,
                                          ping_interval=None, max_size=None, close_timeout=5, **self.ssl) as connection:
                self.socket = connection
                async for text in connection:
                    self.take(text)
            self.close_code = connection.close_code
        except websockets.exceptions.ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd else 1006
        except websockets.exceptions.InvalidStatusCode as refused:
            self.refusal = refused.status_code
        except (OSError, asyncio.TimeoutError, websockets.exceptions.WebSocketException) as error:
            self.refusal = repr(error)
        with self.changed:
            if self.close_code is None and self.refusal is None:
                self.close_code = 1006
            self.changed.notify_all()

    def take(self, text):
        with self.changed:
            self.messages.append(json.loads(text))
            self.changed.notify_all()

    def is_over(self):
        return self.close_code is not None or self.refusal is not None

    def wait(self, predicate, what, timeout=None):
        """The first of the messages that `predicate` likes."""
        limit = time.monotonic() + (timeout or PATIENCE_S)
        seen = 0
        with self.changed:
            while True:
                for message in self.messages[seen:]:
                    if predicate(message):
                        return message
                seen = len(self.messages)
                left = limit - time.monotonic()
                if left <= 0 or (self.is_over() and seen == len(self.messages)):
                    raise AssertionError(f"viewer did not see {what}; closed {self.close_code}, refused {self.refusal}, "
                                         f"last {self.messages[-3:]}")
                self.changed.wait(min(left, 1))

    def wait_type(self, kind, timeout=None):
        return self.wait(lambda message: message["type"] == kind, kind, timeout)

    def wait_close(self, timeout=None):
        wait_until(self.is_over, "the viewer is closed", timeout)
        return self.close_code

    def finals(self):
        with self.changed:
            return [message for message in self.messages if message["type"] == "transcript" and message["isFinal"]]

    def wait_finals(self, count, timeout=None):
        return wait_until(lambda: self.finals() if len(self.finals()) >= count else None, f"{count} finals", timeout)

    def close(self):
        if self.thread.is_alive() and self.socket is not None:
            with contextlib.suppress(RuntimeError):
                asyncio.run_coroutine_threadsafe(self.socket.close(), self.loop)
        self.thread.join(PATIENCE_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def viewer(of_node, slug, query="", **more):
    return Viewer(f"ws://{of_node.addresses['http']}/live/{slug}{query}", **more)


class Publisher:
    """ffmpeg that publishes by RTMP in real time."""

    def __init__(self, url, source=("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100"),
                 encode=("-c:a", "aac", "-b:a", "64k"), realtime=True, seconds=None):
        command = ["ffmpeg", "-nostdin", "-loglevel", "error"]
        command += ["-re"] if realtime else []
        command += [*source]
        command += ["-t", str(seconds)] if seconds else []
        command += [*encode, "-f", "flv", url]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def wait(self, timeout=None):
        return self.process.wait(timeout or PATIENCE_S)

    def errors(self):
        return self.process.stderr.read().decode("utf-8", "replace")

    def kill(self):
        """Gone without a word, as a machine that lost its power."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self):
        """Ends the stream properly."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stderr.close()


def publisher(of_node, slug, **more):
    return Publisher(f"rtmp://{of_node.addresses['rtmp']}/live/{slug}", **more)


def free_port():
    """For servers that cannot be told to choose, and for those that come back: none that an outgoing connection may have."""
    return loopback.free_port()


def speech(language="en"):
    """The utterances of shared/data/speech.tsv whose files are on this machine: (path, text)."""
    path = os.path.join(os.path.dirname(ROOT), "shared", "data", "speech.tsv")
    if not os.path.exists(path):
        raise Skip("the list of reference speech is not here")
    rows = []
    with open(path, encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                rows.append(line.rstrip("\n").split("\t"))
    return rows


def main(names):
    """Runs the test_ functions in the order in which they stand; prints a row for each, and how many there are."""
    failures = 0
    tests = [(name, test) for name, test in names.items() if name.startswith("test_") and callable(test)]
    print(f"1..{len(tests)}", flush=True)
    for name, test in tests:
        try:
            test()
            print(f"ok - {name}", flush=True)
        except Skip as skip:
            print(f"skip - {name} # {skip}", flush=True)
        except (Exception, SystemExit):  # a test may fail in any way: it is told and counted
            failures += 1
            traceback.print_exc()
            print(f"not ok - {name}", flush=True)
    sys.exit(1 if failures else 0)
