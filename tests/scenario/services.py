"""Real Apache Kafka and real PostgreSQL for scenarios: started, killed, frozen, cut off and looked into.

What starts them is deploy/kafka_cluster.py and deploy/postgres_cluster.py, which users read and run too.
"""

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import harness

sys.path.insert(0, os.path.join(harness.ROOT, "deploy"))

import kafka_cluster  # noqa: E402
import postgres_cluster  # noqa: E402

POSTGRES_SETTINGS = {"max_connections": 40, "log_min_messages": "warning"}


def jars():
    """Kafka's jars, which the suite has fetched once."""
    folder = os.environ.get("VC_KAFKA_LIB", os.path.join(harness.ROOT, "build-tests", "kafka-jars"))
    if not folder or not kafka_cluster.has_jars(folder):
        raise harness.Skip("Kafka's jars of Maven Central are not here (VC_KAFKA_LIB)")
    return folder


class RealKafka:
    """A cluster of its own in a folder that goes with it.

    For each name in `proxied` there is a listener besides, whose address `brokers(NAME)` is that of a
    Proxy, `proxies[NAME]`: who uses it can be cut off while `brokers()` still reaches the cluster.
    """

    def __init__(self, nodes=1, proxied=(), listeners=None, properties=None):
        library = jars()
        self.folder = tempfile.mkdtemp(prefix="vc-kafka-")
        self.cluster = kafka_cluster.Cluster(os.path.join(self.folder, "kafka"))
        assert nodes == 1 or not proxied, "all nodes would be told at one address"
        self.proxies = {name: Proxy() for name in proxied}
        listeners = dict(listeners or {})
        listeners.update({name: ("PLAINTEXT", proxy.port) for name, proxy in self.proxies.items()})
        self.cluster.init(library, nodes, listeners=listeners, properties=properties)
        for name, proxy in self.proxies.items():
            proxy.target = self.cluster.about["ports"][0][name]

    def start(self, *nodes):
        self.cluster.start(nodes or None)

    def stop(self, *nodes):
        self.cluster.stop(nodes or None)

    def kill(self, *nodes):
        self.cluster.kill(nodes or None)

    def freeze(self, *nodes):
        self.cluster.signal(signal.SIGSTOP, nodes or None)

    def thaw(self, *nodes):
        self.cluster.signal(signal.SIGCONT, nodes or None)

    def brokers(self, listener="PLAINTEXT"):
        if listener in self.proxies:
            return f"127.0.0.1:{self.proxies[listener].port}"
        return self.cluster.brokers(listener)

    def create_topics(self, topic="transcripts", partitions=kafka_cluster.PARTITIONS):
        self.cluster.create_ours(topic, partitions)

    def read(self, topic):
        """All that the topic holds now, each partition in its order."""
        done = subprocess.run(["kcat", "-C", "-e", "-q", "-J", "-b", self.brokers(), "-t", topic, "-o", "beginning"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=harness.PATIENCE_S)
        if done.returncode != 0:
            raise AssertionError(f"kcat: {done.stderr}")
        return [Record(json.loads(line)) for line in done.stdout.splitlines()]

    def write(self, topic, key, value):
        subprocess.run(["kcat", "-P", "-b", self.brokers(), "-t", topic, "-k", key], input=value, text=True,
                       check=True, timeout=harness.PATIENCE_S)

    def log(self):
        return "".join(self.cluster.log(node) for node in self.cluster.nodes())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, _value, _trace):
        if kind is not None:
            print(f"--- Kafka's log, its end:\n{self.log()[-3000:]}", file=sys.stderr)
        self.thaw()
        self.kill()
        for proxy in self.proxies.values():
            proxy.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Record:
    """A record as kcat -J tells it."""

    def __init__(self, row):
        self.topic, self.partition, self.offset = row["topic"], row["partition"], row["offset"]
        self.key, self.value = row["key"], row["payload"]
        pairs = row.get("headers") or []
        self.headers = dict(zip(pairs[::2], pairs[1::2]))

    def json(self):
        return json.loads(self.value)


class RealPostgres(postgres_cluster.Postgres):
    """A server of its own in a folder that goes with it."""

    def __init__(self, **settings):
        self.parent = tempfile.mkdtemp(prefix="vc-postgres-")
        os.chmod(self.parent, 0o755)  # for the user that it runs as
        super().__init__(os.path.join(self.parent, "postgres"))
        self.init(settings={**POSTGRES_SETTINGS, **settings})

    def crash(self):
        self.stop("immediate")

    def restart(self):
        self.stop()
        self.start()

    def freeze(self):
        self.signal(signal.SIGSTOP)

    def thaw(self):
        self.signal(signal.SIGCONT)

    def create_database(self, name):
        self.query(f"CREATE DATABASE {name}", "postgres")
        return self.url(name)

    def drop_database(self, name):
        self.query(f"DROP DATABASE {name} WITH (FORCE)", "postgres")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, _value, _trace):
        if kind is not None:
            print(f"--- PostgreSQL's log, its end:\n{self.log()[-3000:]}", file=sys.stderr)
        with contextlib.suppress(FileNotFoundError):
            self.thaw()
        with contextlib.suppress(postgres_cluster.PostgresError):
            self.crash()
        shutil.rmtree(self.parent, ignore_errors=True)


class Proxy:
    """Passes connections on to `target`, a port of the loopback, until it is told otherwise.

    cut: connections are reset and new ones too; hole: they stay, and nothing goes through.
    """

    def __init__(self, target=None):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.peers = {}  # socket -> the other end
        self.servers = set()  # those of them that lead to the target
        self.mode = "pass"
        self.woken, self.waker = socket.socketpair()
        self.selector.register(self.woken, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def set(self, mode):
        self.mode = mode
        self.waker.send(b"x")

    def cut(self):
        self.set("cut")

    def hole(self):
        self.set("hole")

    def heal(self):
        self.set("pass")

    def run(self):
        while self.mode != "over":
            if self.mode == "cut":
                self.drop_all()
            if self.mode == "hole":
                # What comes meanwhile waits in the kernel, as in a network that loses all.
                self.woken.recv(16)
                continue
            for key, _ in self.selector.select():
                if key.fileobj is self.woken:
                    self.woken.recv(16)
                elif key.fileobj is self.listener:
                    self.accept()
                elif key.fileobj in self.peers:
                    self.carry(key.fileobj)
        self.drop_all()

    def accept(self):
        client, _ = self.listener.accept()
        try:
            if self.mode == "cut":
                raise ConnectionRefusedError
            server = socket.create_connection(("127.0.0.1", self.target), 5)
        except OSError:
            reset(client)
            return
        self.servers.add(server)
        for one, other in ((client, server), (server, client)):
            one.settimeout(20)
            self.peers[one] = other
            self.selector.register(one, selectors.EVENT_READ)

    def carry(self, source):
        try:
            data = source.recv(65536)
            if data:
                self.peers[source].sendall(self.passing(source, data))
                return
        except OSError:
            pass
        self.drop(source)

    def passing(self, _source, data):
        """What goes on of what comes: for those that make it late or less."""
        return data

    def drop(self, one):
        for end in (one, self.peers[one]):
            self.servers.discard(end)
            self.selector.unregister(end)
            self.peers.pop(end)
            reset(end)

    def drop_all(self):
        while self.peers:
            self.drop(next(iter(self.peers)))

    def close(self):
        self.set("over")
        self.thread.join(30)
        self.listener.close()
        self.selector.close()
        self.woken.close()
        self.waker.close()


def reset(connection):
    """A close that loses what is under way, as a cable that is pulled."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    connection.close()
