"""A private PostgreSQL on this machine's loopback: its data, its log and its port are in one folder.

Whoever may connect to the loopback may do all in it: for trying and testing. PostgreSQL does not run as
root: when root starts it, it runs as the user `postgres`, which Debian's package makes.
"""

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import time

from loopback import free_port

ROLE = "verbacast"
USER = "postgres"
START_TIMEOUT_S = 60


class PostgresError(Exception):
    """What is missing or does not work, in words for whoever started it."""


def programs():
    """The folder of the newest PostgreSQL's programs, which Debian keeps off the path."""
    folders = glob.glob("/usr/lib/postgresql/*/bin")
    if not folders:
        raise PostgresError("PostgreSQL is missing: install postgresql")
    return max(folders, key=lambda path: int(path.split("/")[-2]))


class Postgres:
    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.data = os.path.join(self.folder, "data")
        self.log_path = os.path.join(self.folder, "log")
        self.port_path = os.path.join(self.folder, "port")
        self.bin = programs()
        self.own = {"user": USER, "group": USER, "extra_groups": []} if os.getuid() == 0 else {}

    @property
    def port(self):
        with open(self.port_path, encoding="utf-8") as file:
            return int(file.read())

    def url(self, database=ROLE):
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{database}"

    def run(self, program, *arguments, check=True):
        # A server that is started keeps its output for its life: to a file, not to a pipe.
        done = subprocess.run([os.path.join(self.bin, program), *arguments], stdin=subprocess.DEVNULL, cwd=self.folder,
                              stdout=subprocess.PIPE if program != "pg_ctl" else subprocess.DEVNULL,
                              stderr=subprocess.STDOUT, text=True, **self.own)
        if check and done.returncode != 0:
            raise PostgresError(f"{program} failed: {done.stdout or self.log()[-2000:]}")
        return done

    def init(self, port=None, settings=None):
        """settings: what else goes into postgresql.conf."""
        os.makedirs(self.folder, exist_ok=True)
        if self.own:
            os.chmod(self.folder, 0o755)
            subprocess.run(["chown", f"{USER}:{USER}", self.folder], check=True)
            if subprocess.run(["test", "-x", self.folder], **self.own).returncode != 0:
                raise PostgresError(f"the user {USER} may not enter {self.folder}: choose a folder that all may enter")
        shutil.rmtree(self.data, ignore_errors=True)  # of an init that was cut off
        self.run("initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", f"--username={ROLE}", "--pgdata", self.data)
        rows = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **(settings or {})}
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in rows.items())
        with open(self.port_path, "w", encoding="utf-8") as file:
            file.write(str(port or free_port()))

    def is_made(self):
        return os.path.exists(self.port_path)

    def start(self):
        """After SIGKILL it is tried until the last life's backends have gone."""
        limit = time.monotonic() + START_TIMEOUT_S
        while self.run("pg_ctl", "start", "-w", "-t", str(START_TIMEOUT_S), "-D", self.data, "-l", self.log_path,
                       "-o", f"-p {self.port}", check=False).returncode != 0:
            if time.monotonic() > limit or "pre-existing shared memory" not in self.log()[-2000:]:
                raise PostgresError(f"PostgreSQL does not start:\n{self.log()[-2000:]}")
            time.sleep(0.1)
        if not self.query(f"SELECT 1 FROM pg_database WHERE datname = '{ROLE}'", "postgres"):
            self.query(f"CREATE DATABASE {ROLE}", "postgres")

    def serves(self):
        with contextlib.suppress(PostgresError):
            return self.query("SELECT 1", "postgres") == [["1"]]
        return False

    def stop(self, mode="fast"):
        """fast: connections are closed; immediate: as in a crash."""
        self.run("pg_ctl", "stop", "-w", "-m", mode, "-D", self.data)

    def pid(self):
        with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as file:
            return int(file.readline())

    def is_up(self):
        return self.run("pg_ctl", "status", "-D", self.data, check=False).returncode == 0

    def backends(self):
        """The processes that serve connections or write; they are children of the postmaster."""
        with contextlib.suppress(FileNotFoundError), open(f"/proc/{self.pid()}/task/{self.pid()}/children",
                                                          encoding="utf-8") as file:
            return [int(word) for word in file.read().split()]
        return []

    def signal(self, number):
        """The postmaster and all of its processes."""
        for pid in [self.pid(), *self.backends()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self):
        processes = [self.pid(), *self.backends()]
        self.signal(signal.SIGKILL)
        limit = time.monotonic() + START_TIMEOUT_S
        while any(os.path.exists(f"/proc/{pid}") for pid in processes):
            if time.monotonic() > limit:
                raise PostgresError(f"PostgreSQL does not end: {processes}")
            time.sleep(0.02)

    def query(self, sql, database=ROLE):
        """The rows as lists of texts."""
        done = self.run("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--field-separator=\t",
                        "-v", "ON_ERROR_STOP=1", "-c", sql, self.url(database))
        return [line.split("\t") for line in done.stdout.splitlines()]

    def log(self):
        with contextlib.suppress(FileNotFoundError), open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()
        return ""
