"""One seed after the other on the same services: fresh topics, database, node and sinks for each."""

import contextlib
import glob
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
import traceback

import harness
import services
from history import checker, faults, generator

N_SESSIONS = 4
POISON = '{"v":1,"type":"no such thing"}'
HEALED_S = 120      # in which the database must have all
SCHEDULES_OF_A_BROKER = 20
DISK_BYTES = 24 * 1024 * 1024
SINK_KAFKA = "session.timeout.ms=3000,heartbeat.interval.ms=500"
KAFKA_PROPERTIES = {"group.min.session.timeout.ms": 1000}


class Disk:
    """A small file system for the journal, which can be filled; only root may mount one."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="vc-disk-")
        self.ballast = os.path.join(self.folder, "ballast")
        self.is_own = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "verbacast", self.folder],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def fill(self):
        with open(self.ballast, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(65536))
            except OSError:  # full
                pass

    def free(self):
        if os.path.exists(self.ballast):
            os.unlink(self.ballast)

    def close(self):
        if self.is_own:
            subprocess.run(["umount", "--lazy", self.folder], check=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class SqliteDatabase:
    """A file that the sink writes."""

    UNTOUCHED = ("database", "sink-to-database")  # what faults have no hand on

    def __init__(self, _around, _seed, folder):
        self.path = os.path.join(folder, "store.db")
        self.sink_url = self.node_url = f"sqlite:{self.path}"
        self.proxy = None

    def query(self, sql):
        with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as connection:
            return [list(map(str, row)) for row in connection.execute(sql)]

    def close(self):
        pass


class PostgresDatabase:
    """A database of the server; the sink has a way to it that can be cut off."""

    UNTOUCHED = ()

    def __init__(self, around, seed, _folder):
        self.server, self.name = around.postgres, f"history_{seed}"
        self.proxy = services.Proxy(self.server.port)
        self.node_url = self.server.create_database(self.name)
        self.sink_url = self.node_url.replace(f":{self.server.port}/", f":{self.proxy.port}/")

    def query(self, sql):
        return self.server.query(sql, self.name)

    def close(self):
        self.proxy.close()
        with contextlib.suppress(services.postgres_cluster.PostgresError):  # of a schedule that failed
            self.server.drop_database(self.name)


DATABASES = {"postgres": PostgresDatabase, "sqlite": SqliteDatabase}


class Services:
    """What outlives a schedule."""

    def __init__(self, database):
        self.new_database = DATABASES[database]
        self.disk = Disk()
        self.postgres = None
        self.kafka = None
        self.used = 0
        self.scratch = tempfile.mkdtemp(prefix="vc-history-")
        try:
            self.frames = generator.make_frames(self.scratch)
            if database == "postgres":
                self.postgres = services.RealPostgres()
                self.postgres.start()
        except BaseException:
            self.close()
            raise

    def again(self, seed):
        """The command that runs it."""
        database = "postgres" if self.postgres else "sqlite"
        return f"python3 tests/scenario/history/run.py --database {database} --seeds {seed}-{seed}"

    def untouched(self):
        return self.new_database.UNTOUCHED + (() if self.disk.is_own else ("disk",))

    def fresh_kafka(self):
        """Topics of many schedules make a broker slow."""
        if self.kafka and self.used % SCHEDULES_OF_A_BROKER == 0:
            self.kafka.__exit__(None, None, None)
            self.kafka = None
        if not self.kafka:
            self.kafka = services.RealKafka(proxied=["NODE", "SINK"], properties=KAFKA_PROPERTIES)
            self.kafka.start()
        self.used += 1

    def close(self):
        if self.kafka:
            self.kafka.__exit__(None, None, None)
        if self.postgres:
            self.postgres.__exit__(None, None, None)
        self.disk.close()
        shutil.rmtree(self.scratch)


class World:
    """One schedule's programs. What a fault does to them is in faults.py."""

    def __init__(self, around, seed, folder):
        self.kafka, self.postgres, self.disk = around.kafka, around.postgres, around.disk
        self.seed, self.folder = seed, folder
        self.topic = f"history-{seed}"
        self.database = around.new_database(around, seed, folder)
        self.history = checker.History()
        self.node = None
        self.sinks = []  # one or two; the first is the one that faults meet
        self.stt = generator.NumberedStt()
        self.journal = os.path.join(self.disk.folder if self.disk.is_own else folder, f"journal-{seed}.db")

    def open(self):
        self.kafka.create_topics(self.topic, partitions=2)
        self.start_node()
        self.sinks = [self.new_sink() for _ in range(1 + random.Random(self.seed).randrange(2))]

    def start_node(self):
        self.node = harness.node(self.stt.url, folder=self.folder, LOG_LEVEL="debug", JOURNAL_PATH=self.journal,
                                 KAFKA_BROKERS=self.kafka.brokers("NODE"), KAFKA_TOPIC=self.topic, NODE_ID="history",
                                 DATABASE_URL=self.database.node_url)

    def kill_node(self):
        self.node.kill()
        self.node.check_log()
        self.history.crashes.append(time.monotonic())

    def freeze_node(self):
        self.history.frozen.append((time.monotonic(), None))
        self.node.signal(signal.SIGSTOP)

    def thaw_node(self):
        self.node.signal(signal.SIGCONT)
        self.history.frozen[-1] = (self.history.frozen[-1][0], time.monotonic())

    @property
    def sink(self):
        return self.sinks[0]

    def new_sink(self):
        return harness.Process("verbacast-sink", {
            "KAFKA_BROKERS": self.kafka.brokers("SINK"), "KAFKA_TOPIC": self.topic, "KAFKA_GROUP": self.topic,
            "KAFKA_CONFIG": SINK_KAFKA, "DATABASE_URL": self.database.sink_url, "SINK_LISTEN": "127.0.0.1:0"}, folder=self.folder)

    def start_sink(self):
        self.sinks[0] = self.new_sink()

    def kill_sink(self):
        self.sink.kill()
        self.sink.check_log()

    def rows(self):
        return [((slug, int(epoch), int(seq)), text) for slug, epoch, seq, text in self.database.query(
            "SELECT slug, epoch, seq, text FROM transcripts t JOIN sessions s ON s.id = t.session_id ORDER BY t.id")]

    def open_sessions(self):
        """Of those that the journal has known: one that lived past a full disk only leaves no begin to be ended."""
        known = {(slug, epoch) for slug, epoch, _ in generator.committed(self.folder)}
        rows = self.database.query("SELECT slug, epoch FROM sessions WHERE ended_at IS NULL")
        return [(slug, epoch) for slug, epoch in rows if (slug, int(epoch)) in known]

    def waits(self):
        """What is still on its way to the database, in words; empty: nothing."""
        try:
            kept = {key for key, _ in self.rows()}
        except (sqlite3.Error, services.postgres_cluster.PostgresError) as error:  # no tables yet
            return str(error)
        left = generator.committed(self.folder) - kept
        if left:
            return f"{len(left)} finals, such as {min(left)}"
        rows = harness.http_json(self.node.url("admin", "/metrics"))["gauges"]["journal.rows"]
        if rows:
            return f"{rows:.0f} rows of the journal"
        if self.open_sessions():
            return f"the ends of {self.open_sessions()}"
        return "" if self.kafka.read(self.topic + ".dead") else "the dead letter"

    def run(self, plan, frames):
        slugs = [f"room-{number}" for number in range(N_SESSIONS)]
        watchers = [generator.Watcher(self, slug) for slug in slugs]
        publishers = [generator.Publisher(self, slug, frames) for slug in slugs]
        harness.wait_until(lambda: generator.committed(self.folder), "the first finals are committed")
        self.kafka.write(self.topic, slugs[0], POISON)
        self.history.meant_dead.add(POISON)
        faults.drive(self, plan)
        for publisher in publishers:
            publisher.end()
        for publisher in publishers:
            publisher.join(harness.PATIENCE_S)
        limit = time.monotonic() + HEALED_S
        while (left := self.waits()) and time.monotonic() < limit:
            time.sleep(0.2)
        for watcher in watchers:
            watcher.end()
        for watcher in watchers:
            watcher.join(harness.PATIENCE_S)
            self.history.shown.update(watcher.shown)
        for each in [self.node, *self.sinks]:
            each.stop()
        return [f"not healed in {HEALED_S} s: {left}"] if left else []

    def gather(self):
        history = self.history
        history.promised = generator.committed(self.folder)
        history.said = self.stt.said
        history.rows = self.rows()
        history.records = [((value["session"], value["epoch"], value["seq"]), value["text"])
                           for value in (record.json() for record in self.kafka.read(self.topic)) if "seq" in value]
        history.dead = [record.value for record in self.kafka.read(self.topic + ".dead")]
        history.open_sessions = self.open_sessions()

    def close(self):
        for each in [self.node, *self.sinks]:
            if each:
                each.kill()
                each.process.stdout.close()
        self.stt.close()
        self.disk.free()
        if self.disk.is_own:
            for path in glob.glob(glob.escape(self.journal) + "*"):  # it is small, and others come after
                os.remove(path)
        self.database.close()


def run(around, seed):
    """(complaints, figures, faults); the logs stay in the folder that is named when there are complaints."""
    plan = faults.draw(seed, around.untouched())
    folder = tempfile.mkdtemp(prefix=f"vc-history-{seed}-")
    around.fresh_kafka()
    world = World(around, seed, folder)
    found = []
    try:
        for step in (world.open, lambda: found.extend(world.run(plan, around.frames)), world.gather):
            step()
    except Exception:  # a seed may fail in any way: it is told with its faults
        found.append(traceback.format_exc())
        with contextlib.suppress(Exception):  # what could be gathered says more
            world.gather()
    found += checker.complaints(world.history)
    if found:
        for service in filter(None, (world.kafka, world.postgres)):
            with open(os.path.join(folder, f"{type(service).__name__}.log"), "w", encoding="utf-8") as file:
                file.write(service.log())
        found += [f"logs: {folder}", f"again: {around.again(seed)}"]
    world.close()
    if not found:
        shutil.rmtree(folder)
    return found, checker.figures(world.history), plan
