"""A mock cluster of Kafka in a process of its own, written to and read by kcat."""

import json
import subprocess

import harness

TOPICS = {"transcripts": 4, "transcripts.sessions": 4, "transcripts.partial": 4, "transcripts.dead": 1}
PRODUCE, TOPIC_AUTHORIZATION_FAILED = 0, 29  # of Kafka's protocol
BETWEEN = "\x01"  # key and value


class KafkaMock:
    """One broker with our topics."""

    def __init__(self):
        self.process = subprocess.Popen([harness.program("kafka_mock"), "1"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.brokers = self.process.stdout.readline().strip().removeprefix("BROKERS=")
        for topic, partitions in TOPICS.items():
            self.tell(f"topic {topic} {partitions}")

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer == "ok\n", (command, answer)

    def down(self):
        self.tell("down 1")

    def up(self):
        self.tell("up 1")

    def refuse_writes(self):
        self.tell(f"fail {PRODUCE} {TOPIC_AUTHORIZATION_FAILED} 10000")

    def take_writes(self):
        self.tell(f"heal {PRODUCE}")

    def write(self, topic, rows, has_tombstones=True):
        """(key, value) each; a value that is None is a tombstone. Without tombstones one may be empty."""
        lines = "".join(f"{key}{BETWEEN}{value or ''}\n" for key, value in rows)
        nulls = ["-Z"] if has_tombstones else []
        subprocess.run(["kcat", "-P", *nulls, "-b", self.brokers, "-t", topic, "-K", BETWEEN], input=lines, text=True,
                       check=True, timeout=harness.PATIENCE_S)

    def read(self, topic, partition=None):
        """All that lies there, as kcat tells it."""
        of = [] if partition is None else ["-p", str(partition)]
        done = subprocess.run(["kcat", "-C", "-e", "-q", "-J", "-b", self.brokers, "-t", topic, "-o", "beginning", *of],
                              stdout=subprocess.PIPE, text=True, check=True, timeout=harness.PATIENCE_S)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(harness.PATIENCE_S)
        self.process.stdout.close()
