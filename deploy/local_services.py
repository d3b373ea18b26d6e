"""Apache Kafka, PostgreSQL and Redis on loopback until Ctrl-C: see deploy/services."""

import os
import signal
import sys

from kafka_cluster import Cluster, KafkaError, fetch_jars
from loopback import is_free
from postgres_cluster import Postgres, PostgresError
from redis_here import Redis, RedisError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KAFKA_PORT = 9092
POSTGRES_PORT = 5432
REDIS_PORT = 6379


def say(text):
    print(text, file=sys.stderr, flush=True)


def usual(port):
    """The port that everybody expects; None where it is taken: then another is chosen."""
    return port if is_free(port) else None


def start_kafka(cluster, jars):
    say("Kafka: starting" if os.path.isdir(jars) else "Kafka: fetching the jars from Maven Central, once")
    fetch_jars(jars)
    if not cluster.is_made():
        cluster.init(jars, port=usual(KAFKA_PORT))
    cluster.start()
    cluster.create_ours()


def start_postgres(postgres):
    say("PostgreSQL: starting")
    if not postgres.is_made():
        postgres.init(port=usual(POSTGRES_PORT))
    if not postgres.is_up():
        postgres.start()


def start_redis(redis):
    say("Redis: starting")
    if not redis.is_made():
        redis.init(port=usual(REDIS_PORT))
    redis.start()


def show(kafka, postgres, redis):
    print(f"KAFKA_BROKERS={kafka.brokers()}")
    print(f"DATABASE_URL={postgres.url()}")
    print(f"REDIS_URL={redis.url()}", flush=True)
    say("These lines are for the environment of verbacast; the first two for that of verbacast-sink too.")
    say("Several nodes with one REDIS_URL, each with its own ports and JOURNAL_PATH, share their sessions.")
    say("Look into the topics:   kcat -C -b $KAFKA_BROKERS -t transcripts")
    say("Look into the database: psql $DATABASE_URL")
    say("Ctrl-C stops all.")


def watch(kafka, postgres, redis):
    while True:
        if not kafka.is_up():
            raise KafkaError(f"Kafka ended:\n{kafka.log(1)[-2000:]}")
        if not postgres.is_up():
            raise PostgresError(f"PostgreSQL ended:\n{postgres.log()[-2000:]}")
        if not redis.is_up():
            raise RedisError(f"Redis ended:\n{redis.log()[-2000:]}")
        signal.sigtimedwait([], 2)


def main():
    if len(sys.argv) > 2 or sys.argv[1:2] in (["--help"], ["-h"]):
        say("deploy/services [FOLDER]: starts Apache Kafka, PostgreSQL and Redis on loopback; see its head")
        sys.exit(2)
    folder = os.path.abspath(sys.argv[1] if len(sys.argv) == 2 else os.path.join(ROOT, "build-services"))
    os.makedirs(folder, exist_ok=True)

    def end(*_):
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    status = 0
    started = []
    try:
        kafka = Cluster(os.path.join(folder, "kafka"))
        postgres = Postgres(os.path.join(folder, "postgres"))
        redis = Redis(os.path.join(folder, "redis"))
        started += [kafka, postgres, redis]
        start_kafka(kafka, os.path.join(folder, "kafka-jars"))
        start_postgres(postgres)
        start_redis(redis)
        show(kafka, postgres, redis)
        watch(kafka, postgres, redis)
    except KeyboardInterrupt:
        say("stopping")
    except (KafkaError, PostgresError, RedisError) as error:
        say(f"error: {error}")
        status = 1
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for each in reversed(started):
        if each.is_made() and each.is_up():
            each.stop()
    sys.exit(status)


if __name__ == "__main__":
    main()
