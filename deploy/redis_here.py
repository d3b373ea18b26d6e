"""A private Redis on this machine's loopback: its port, its log and what it holds are in one folder."""

import os
import signal
import socket
import subprocess
import time

from loopback import free_port

START_TIMEOUT_S = 20


class RedisError(Exception):
    """What is missing or does not work, in words for whoever started it."""


class Redis:
    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.port_path = os.path.join(self.folder, "port")
        self.log_path = os.path.join(self.folder, "log")
        self.process = None

    @property
    def port(self):
        with open(self.port_path, encoding="utf-8") as file:
            return int(file.read())

    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def is_made(self):
        return os.path.exists(self.port_path)

    def init(self, port=None):
        os.makedirs(self.folder, exist_ok=True)
        with open(self.port_path, "w", encoding="utf-8") as file:
            file.write(str(port or free_port()))

    def is_up(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def start(self):
        settings = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.folder, "--maxmemory-policy",
                    "noeviction"]
        try:
            with open(self.log_path, "a", encoding="utf-8") as log:
                self.process = subprocess.Popen(["redis-server", *settings], stdin=subprocess.DEVNULL, stdout=log,
                                                stderr=subprocess.STDOUT)
        except FileNotFoundError:
            raise RedisError("Redis is missing: install redis-server") from None
        until = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if not self.is_up() or time.monotonic() > until:
                raise RedisError(f"Redis did not start: {self.log()[-2000:]}")
            time.sleep(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(START_TIMEOUT_S)
