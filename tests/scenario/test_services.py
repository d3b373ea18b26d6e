"""The services that other scenarios stand on: deploy/services as a user runs it, and what kills and heals them. (release only)
(takes long)"""

import os
import re
import signal
import subprocess
import tempfile

import harness
import services
from services import kafka_cluster


def test_kafka_keeps_what_it_acknowledged():
    with services.RealKafka(proxied=["PROXIED"]) as kafka:
        kafka.create_topics("room")
        kafka.write("room.dead", "one", "before")
        kafka.kill()
        kafka.start()
        kafka.write("room.dead", "one", "behind")
        records = kafka.read("room.dead")
        assert [record.value for record in records] == ["before", "behind"] and records[0].key == "one", records
        through = ["kcat", "-L", "-b", kafka.brokers("PROXIED"), "-m", "2"]
        assert subprocess.run(through, stdout=subprocess.DEVNULL).returncode == 0
        kafka.proxies["PROXIED"].cut()
        assert subprocess.run(through, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0
        kafka.proxies["PROXIED"].hole()
        assert subprocess.run(through, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0
        kafka.proxies["PROXIED"].heal()
        assert subprocess.run(through, stdout=subprocess.DEVNULL).returncode == 0


def test_three_nodes_go_on_with_two():
    with services.RealKafka(nodes=3) as kafka:
        kafka.create_topics("room")
        kafka.kill(1)
        kafka.write("room", "one", "with two")
        kafka.start(1)
        assert [record.value for record in kafka.read("room")] == ["with two"]


def test_a_topic_that_nobody_made_is_refused():
    with services.RealKafka() as kafka:
        refused = subprocess.run(["kcat", "-P", "-b", kafka.brokers(), "-t", "room", "-X",
                                  "topic.metadata.propagation.max.ms=500"], input="x", text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert refused.returncode != 0 and "nknown topic" in refused.stdout, refused.stdout


def test_postgres_keeps_what_it_committed():
    with services.RealPostgres() as postgres:
        postgres.query("CREATE TABLE said (text text)")
        for number, end in enumerate((postgres.crash, postgres.kill, postgres.stop)):
            postgres.query(f"INSERT INTO said VALUES ('{number}')")
            end()
            postgres.start()
            rows = postgres.query("SELECT text FROM said ORDER BY text")
            assert rows == [[str(n)] for n in range(number + 1)], rows


def test_services_in_one_command():
    library = services.jars()
    folder = tempfile.mkdtemp(prefix="vc-services-")
    os.chmod(folder, 0o755)
    os.symlink(library, os.path.join(folder, "kafka-jars"))
    for _ in range(2):
        log_path = os.path.join(folder, "said")
        with open(log_path, "w", encoding="utf-8") as log:
            process = subprocess.Popen([os.path.join(harness.ROOT, "deploy", "services"), folder], stdout=log,
                                       stderr=subprocess.STDOUT)

        def said(pattern):
            assert process.poll() is None, open(log_path, encoding="utf-8").read()
            return re.search(pattern, open(log_path, encoding="utf-8").read(), re.M)

        try:
            brokers = harness.wait_until(lambda: said(r"^KAFKA_BROKERS=(.+)$"), "brokers").group(1)
            url = harness.wait_until(lambda: said(r"^DATABASE_URL=(.+)$"), "database").group(1)
            topics = subprocess.run(["kcat", "-L", "-b", brokers], stdout=subprocess.PIPE, text=True, check=True).stdout
            for suffix in kafka_cluster.TOPICS:
                assert f'topic "transcripts{suffix}" with 4 partitions' in topics, topics
            subprocess.run(["psql", "-c", "SELECT 1", url], stdout=subprocess.DEVNULL, check=True)
            redis = harness.wait_until(lambda: said(r"^REDIS_URL=redis://127.0.0.1:(.+)$"), "redis").group(1)
            with harness.socket.create_connection(("127.0.0.1", int(redis)), timeout=5) as connection:
                connection.sendall(b"CONFIG GET maxmemory-policy\r\n")
                assert b"noeviction" in connection.recv(1000)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        assert not kafka_cluster.Cluster(os.path.join(folder, "kafka")).is_up()
    harness.shutil.rmtree(folder, ignore_errors=True)


def test_what_is_missing_is_named():
    with tempfile.TemporaryDirectory() as folder:
        for name in ("python3", "sh"):
            os.symlink(f"/usr/bin/{name}", os.path.join(folder, name))
        run = subprocess.run(["/usr/bin/python3", kafka_cluster.__file__, "jars", os.path.join(folder, "jars")],
                             env={"PATH": folder}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert run.returncode == 1 and "the command mvn is missing: install maven" in run.stdout, run.stdout
        with open(os.path.join(folder, "mvn"), "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\necho cannot resolve\nexit 1\n")
        os.chmod(os.path.join(folder, "mvn"), 0o755)
        os.symlink("/bin/true", os.path.join(folder, "java"))
        run = subprocess.run(["/usr/bin/python3", kafka_cluster.__file__, "jars", os.path.join(folder, "jars")],
                             env={"PATH": folder}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert run.returncode == 1 and "is Maven Central reachable" in run.stdout, run.stdout


if __name__ == "__main__":
    harness.main(globals())
