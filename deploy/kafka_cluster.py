"""Apache Kafka on this machine's loopback: 1..N nodes in KRaft mode (no ZooKeeper) in one folder.

    deploy/kafka jars JARS               fetch the jars from Maven Central by maven (once, 45 MB)
    deploy/kafka init FOLDER JARS [N]    N nodes (1), each broker and controller; ports are chosen once
    deploy/kafka start FOLDER [NODE...]  start them, wait until they serve
    deploy/kafka stop FOLDER [NODE...]   end them properly; kill: SIGKILL
    deploy/kafka topics FOLDER [PREFIX]  create PREFIX (transcripts), .sessions, .partial and .dead
    deploy/kafka brokers FOLDER          print host:port,... for KAFKA_BROKERS

Needs openjdk-17-jre-headless, and maven for `jars` alone. A node takes about 300 MB and 3 s to start.
"""

import base64
import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid

from loopback import free_ports

HERE = os.path.dirname(os.path.abspath(__file__))
POM = os.path.join(HERE, "kafka-pom.xml")
MARK = "complete"
ARCHIVE = "classes.jsa"
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 60
JAVA_FLAGS = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Djava.awt.headless=true",
              "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"]
HEAP = ["-Xms128m", "-Xmx512m"]

DAY_MS = 24 * 3600 * 1000
# suffix of KAFKA_TOPIC -> settings: what is said is kept a week, partials are of the moment,
# dead letters stay until somebody has looked.
TOPICS = {
    "": {"retention.ms": 7 * DAY_MS},
    ".sessions": {"retention.ms": 7 * DAY_MS},
    ".partial": {"retention.ms": 3600 * 1000},
    ".dead": {"retention.ms": -1},
}
PARTITIONS = 4


class KafkaError(Exception):
    """What is missing or does not work, in words for whoever started it."""


def command_path(name, package):
    path = shutil.which(name)
    if not path:
        raise KafkaError(f"the command {name} is missing: install {package}")
    return path


# --- the jars


def pom_text():
    with open(POM, encoding="utf-8") as file:
        return file.read()


def has_jars(folder):
    try:
        with open(os.path.join(folder, MARK), encoding="utf-8") as file:
            return file.read() == pom_text()
    except OSError:
        return False


def fetch_jars(folder):
    """Fills the folder; one that is complete is left as it is."""
    if has_jars(folder):
        return
    maven = command_path("mvn", "maven")
    command_path("java", "openjdk-17-jre-headless")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    done = subprocess.run([maven, "--quiet", "--batch-mode", "--strict-checksums", "-f", POM, "dependency:copy-dependencies",
                           "-DincludeScope=runtime", f"-DoutputDirectory={os.path.abspath(folder)}"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise KafkaError(f"maven could not get Kafka's jars (is Maven Central reachable?):\n{done.stdout[-2000:]}")
    archive_classes(folder)
    with open(os.path.join(folder, MARK), "w", encoding="utf-8") as file:
        file.write(pom_text())


def archive_classes(folder):
    """What one life of a node has loaded: mapped by the next ones, which start in 60 % of the time."""
    with tempfile.TemporaryDirectory(prefix="kafka-") as scratch:
        cluster = Cluster(scratch)
        cluster.init(folder)
        cluster.start(flags=[f"-XX:ArchiveClassesAtExit={os.path.join(os.path.abspath(folder), ARCHIVE)}"])
        cluster.stop()


def java(jars, *arguments, flags=()):
    """The command line; the class path is in a fixed order, else the archive is of no use."""
    archive = os.path.join(jars, ARCHIVE)
    shared = [f"-XX:SharedArchiveFile={archive}", "-Xshare:auto", "-Xlog:cds=off"] if os.path.exists(archive) else []
    path = ":".join(sorted(glob.glob(os.path.join(jars, "*.jar"))))
    return [command_path("java", "openjdk-17-jre-headless"), *JAVA_FLAGS, *HEAP, *shared, *flags, "-cp", path, *arguments]


# --- two requests of Kafka's protocol, so that no client library is needed here


METADATA, CREATE_TOPICS = 3, 19
TOPIC_EXISTS = 36


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def receive(connection, size):
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise OSError("closed by the broker")
        data += more
    return data


def ask(port, kind, version, body):
    request = struct.pack(">hhi", kind, version, 1) + text("deploy") + body
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(30)
        connection.sendall(struct.pack(">i", len(request)) + request)
        size, = struct.unpack(">i", receive(connection, 4))
        return receive(connection, size)[4:]


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def number(self, kind):
        value, = struct.unpack_from(">" + kind, self.data, self.at)
        self.at += struct.calcsize(kind)
        return value

    def text(self):
        size = self.number("h")
        value = self.data[self.at:self.at + max(size, 0)].decode()
        self.at += max(size, 0)
        return value


def metadata(port):
    """(ids of the nodes that serve, id of the controller), as the broker behind the port sees it."""
    answer = Reader(ask(port, METADATA, 4, struct.pack(">ib", 0, 0)))
    answer.number("i")  # throttle time
    ids = []
    for _ in range(answer.number("i")):
        ids.append(answer.number("i"))
        answer.text(), answer.number("i"), answer.text()  # host, port, rack
    answer.text()  # cluster
    return ids, answer.number("i")


def create_topics(port, topics, replicas):
    """topics: {name: (partitions, settings)}; those that are there are left as they are."""
    body = struct.pack(">i", len(topics))
    for name, (partitions, settings) in topics.items():
        body += text(name) + struct.pack(">ihii", partitions, replicas, 0, len(settings))
        body += b"".join(text(key) + text(str(value)) for key, value in settings.items())
    answer = Reader(ask(port, CREATE_TOPICS, 2, body + struct.pack(">ib", 30000, 0)))
    answer.number("i")  # throttle time
    for _ in range(answer.number("i")):
        name, error, reason = answer.text(), answer.number("h"), answer.text()
        if error not in (0, TOPIC_EXISTS):
            raise KafkaError(f"the topic {name} was not created: error {error} {reason}")


# --- the cluster


class Cluster:
    """Nodes 1..N in a folder: node-I/{server.properties,pid,log} and cluster.json."""

    def __init__(self, folder):
        self.folder = os.path.abspath(folder)
        self.about = {}
        with contextlib.suppress(FileNotFoundError), open(self.path("cluster.json"), encoding="utf-8") as file:
            self.about = json.load(file)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def is_made(self):
        return bool(self.about)

    def is_up(self):
        return all(self.is_there(node) for node in self.nodes())

    def nodes(self):
        if not self.is_made():
            raise KafkaError(f"{self.folder} holds no cluster: deploy/kafka init makes one")
        return list(range(1, len(self.about["ports"]) + 1))

    def init(self, jars, n_nodes=1, port=None, listeners=None, properties=None):
        """Makes and formats the nodes. listeners: {NAME: (protocol, port that clients are told; None: its
        own)}, besides PLAINTEXT; properties: what else goes into server.properties."""
        jars = os.path.abspath(jars)
        ports = [{"PLAINTEXT": own, "CONTROLLER": other} for own, other in zip(*[iter(free_ports(2 * n_nodes))] * 2)]
        if port and n_nodes == 1:
            ports[0]["PLAINTEXT"] = port
        for each in ports:
            each.update(zip(listeners or {}, free_ports(len(listeners or {}))))
        if self.is_made():
            raise KafkaError(f"{self.folder} holds a cluster already")
        self.about = {"jars": jars, "ports": ports}
        os.makedirs(self.folder, exist_ok=True)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        for node in self.nodes():
            shutil.rmtree(self.path(f"node-{node}"), ignore_errors=True)  # of an init that was cut off
            os.makedirs(self.path(f"node-{node}"))
            configuration = self.path(f"node-{node}", "server.properties")
            with open(configuration, "w", encoding="utf-8") as file:
                rows = {**self.properties(node, listeners or {}), **(properties or {})}
                file.writelines(f"{key}={value}\n" for key, value in rows.items())
            done = subprocess.run(java(jars, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", configuration),
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                raise KafkaError(f"node {node} could not be formatted:\n{done.stdout[-2000:]}")
        with open(self.path("cluster.json"), "w", encoding="utf-8") as file:
            json.dump(self.about, file)

    def properties(self, node, listeners):
        ports = self.about["ports"]
        own = ports[node - 1]
        replicas = min(len(ports), 3)
        in_sync = 2 if replicas == 3 else 1
        protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **{name: row[0] for name, row in listeners.items()}}
        told = {name: own[name] for name in protocols if name != "CONTROLLER"}
        told.update({name: row[1] for name, row in listeners.items() if row[1]})

        def addresses(of):
            return ",".join(f"{name}://127.0.0.1:{port}" for name, port in of.items())

        return {
            "process.roles": "broker,controller",
            "node.id": node,
            "controller.quorum.voters": ",".join(f"{i}@127.0.0.1:{row['CONTROLLER']}" for i, row in enumerate(ports, 1)),
            "listeners": addresses(own),
            "advertised.listeners": addresses(told),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": self.path(f"node-{node}", "data"),
            # A topic with a misspelt name is an error, not a new topic.
            "auto.create.topics.enable": "false",
            "num.partitions": PARTITIONS,
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "unclean.leader.election.enable": "false",
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            "group.initial.rebalance.delay.ms": 0,
            # For one small machine.
            "num.network.threads": 2,
            "num.io.threads": 2,
            "num.recovery.threads.per.data.dir": 1,
            "background.threads": 2,
            # After SIGKILL a node waits for its last session to end before it serves: 2 s instead of 9.
            "broker.session.timeout.ms": 2000,
            "broker.heartbeat.interval.ms": 333,
            "controller.quorum.election.timeout.ms": 500,
            "controller.quorum.fetch.timeout.ms": 1000,
        }

    def pid(self, node):
        """None when it does not run; a process that has the pid of a dead node is not taken for it."""
        try:
            with open(self.path(f"node-{node}", "pid"), encoding="utf-8") as file:
                pid = int(file.read())
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                return pid if self.path(f"node-{node}", "server.properties").encode() in file.read() else None
        except (OSError, ValueError):
            return None

    def start(self, nodes=None, flags=()):
        nodes = nodes or self.nodes()
        started = {node: self.launch(node, flags) for node in nodes if not self.pid(node)}
        for node in nodes:
            self.wait_ready(node, started.get(node))

    def launch(self, node, flags):
        configuration = self.path(f"node-{node}", "server.properties")
        with open(self.path(f"node-{node}", "log"), "ab") as log:
            process = subprocess.Popen(java(self.about["jars"], "kafka.Kafka", configuration, flags=flags), stdout=log,
                                       stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        with open(self.path(f"node-{node}", "pid"), "w", encoding="utf-8") as file:
            file.write(str(process.pid))
        return process

    def wait_ready(self, node, process):
        """Ready is who stands in its own list of brokers and knows the controller."""
        limit = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < limit:
            if process and process.poll() is not None:
                raise KafkaError(f"node {node} ended with {process.returncode}:\n{self.log(node)[-2000:]}")
            with contextlib.suppress(OSError, struct.error):
                ids, controller = metadata(self.about["ports"][node - 1]["PLAINTEXT"])
                if node in ids and controller >= 0:
                    return
            time.sleep(0.05)
        raise KafkaError(f"node {node} does not serve after {START_TIMEOUT_S} s:\n{self.log(node)[-2000:]}")

    def log(self, node):
        with open(self.path(f"node-{node}", "log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def signal(self, number, nodes=None):
        for node in nodes or self.nodes():
            pid = self.pid(node)
            if pid:
                os.kill(pid, number)

    def end(self, number, nodes=None):
        nodes = nodes or self.nodes()
        self.signal(number, nodes)
        limit = time.monotonic() + STOP_TIMEOUT_S
        for node in nodes:
            while self.is_there(node):
                if time.monotonic() > limit:
                    raise KafkaError(f"node {node} does not end")
                time.sleep(0.02)

    def is_there(self, node):
        """A child of ours is waited for; of another's there is only its pid."""
        pid = self.pid(node)
        if pid:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return self.pid(node) is not None

    def stop(self, nodes=None):
        self.end(signal.SIGTERM, nodes)

    def kill(self, nodes=None):
        self.end(signal.SIGKILL, nodes)

    def brokers(self, listener="PLAINTEXT"):
        self.nodes()
        return ",".join(f"127.0.0.1:{row[listener]}" for row in self.about["ports"])

    def create(self, topics):
        """{name: (partitions, settings)}, on the controller's node: in KRaft any broker passes it on."""
        create_topics(self.about["ports"][0]["PLAINTEXT"], topics, min(len(self.about["ports"]), 3))

    def create_ours(self, topic="transcripts", partitions=PARTITIONS):
        self.create({topic + suffix: (partitions, settings) for suffix, settings in TOPICS.items()})


def act(command, folder, rest):
    if command == "jars":
        fetch_jars(folder)
        return
    cluster = Cluster(folder)
    if command == "init":
        cluster.init(rest[0], int(rest[1]) if len(rest) > 1 else 1)
    elif command in ("start", "stop", "kill"):
        getattr(cluster, command)([int(node) for node in rest] or None)
    elif command == "topics":
        cluster.create_ours(*rest)
    elif command == "brokers":
        print(cluster.brokers())


ARGUMENTS = {"jars": (0, 0), "init": (1, 2), "start": (0, 99), "stop": (0, 99), "kill": (0, 99), "topics": (0, 1),
             "brokers": (0, 0)}


def main():
    words = sys.argv[1:]
    least, most = ARGUMENTS.get(words[0] if words else "", (1, 0))
    if not least <= len(words) - 2 <= most:
        print(__doc__.strip())
        sys.exit(0 if words in (["--help"], ["-h"]) else 2)
    try:
        act(words[0], words[1], words[2:])
    except KafkaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
