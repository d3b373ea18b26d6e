"""A real redis-server for scenarios: started, killed, frozen, emptied and looked into.

    with RedisServer() as redis, Fleet(redis_url=redis.url) as fleet:

It is on a port of its own that it keeps, in a folder that goes with it, evicts nothing and writes nothing to disk
unless told otherwise. `ask` is a connection for the test's own commands.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import harness

ANSWER_S = 10


class RedisError(Exception):
    """What Redis answered with."""


class RedisConnection:
    """Commands out, answers in: text, numbers, None and lists of them. Every wait is bounded."""

    def __init__(self, port, password=None, database=0):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S)
        self.file = self.socket.makefile("rb")
        if password:
            self.ask("AUTH", password)
        if database:
            self.ask("SELECT", database)

    def ask(self, *words):
        self.send(*words)
        return self.read()

    def send(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words))

    def read(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed by Redis")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"+":
            return rest.decode()
        if kind == b"$":
            return None if int(rest) < 0 else self.file.read(int(rest) + 2)[:-2].decode("utf-8", "replace")
        return None if int(rest) < 0 else [self.read() for _ in range(int(rest))]

    def close(self):
        self.file.close()
        self.socket.close()


class RedisServer:
    """`settings` are redis.conf's, with _ for -: RedisServer(maxmemory="2mb")."""

    def __init__(self, password=None, **settings):
        self.folder = tempfile.mkdtemp(prefix="vc-redis-")
        self.port = harness.free_port()
        self.password = password
        self.settings = {"maxmemory_policy": "noeviction", "save": "", "appendonly": "no", **settings}
        if password:
            self.settings.update({"requirepass": password, "masterauth": password})
        self.url = self.url_of()
        self.process = None
        self.own = None
        self.is_frozen = False

    def url_of(self, port=None, password=None, database=None):
        """As REDIS_URL is written; `port` may be that of a proxy before it."""
        secret = f":{password or self.password}@" if password or self.password else ""
        return f"redis://{secret}127.0.0.1:{port or self.port}" + (f"/{database}" if database is not None else "")

    def start(self):
        if shutil.which("redis-server") is None:
            raise harness.Skip("redis-server is not installed")
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder,
                   "--logfile", os.path.join(self.folder, "log")]
        for name, value in self.settings.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder)
        harness.wait_until(self.serves, "Redis serves")

    def serves(self):
        assert self.process.poll() is None, f"redis-server has ended: {self.log()[-2000:]}"
        try:
            return self.ask("PING") == "PONG"
        except (OSError, RedisError):  # not yet, or it is loading
            self.forget_connection()
            return False

    def connection(self, database=0):
        return RedisConnection(self.port, self.password, database)

    def ask(self, *words):
        """One command on the test's own connection."""
        if self.own is None:
            self.own = self.connection()
        return self.own.ask(*words)

    def info(self, section):
        lines = self.ask("INFO", section).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def subscribers(self, channel):
        return self.ask("PUBSUB", "NUMSUB", channel)[1]

    def stream(self, slug, prefix="vc:"):
        """[(epoch, seq, message)] of a session's history."""
        entries = self.ask("XRANGE", f"{prefix}history:{slug}", "-", "+")
        return [(*map(int, ident.split("-")), dict(zip(fields[::2], fields[1::2]))["message"]) for ident, fields in entries]

    def flush(self):
        self.ask("FLUSHALL")

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)
        self.is_frozen = False

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
        self.is_frozen = False
        self.forget_connection()

    def restart_empty(self):
        self.kill()
        self.start()

    def forget_connection(self):
        if self.own:
            self.own.close()
            self.own = None

    def log(self):
        with contextlib.suppress(FileNotFoundError), open(os.path.join(self.folder, "log"), encoding="utf-8", errors="replace") as file:
            return file.read()
        return ""

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, _value, _trace):
        if kind is not None:
            print(f"--- Redis' log, its end:\n{self.log()[-2000:]}", file=sys.stderr)
        self.close()
