"""verbacast-sink between a mock cluster of Kafka and PostgreSQL that crashes, freezes and is out of reach. (release only)"""

import harness
import services
from kafka_mock import KafkaMock
from test_sink import degraded, final, metrics, sink

ROOMS = [f"room{n}" for n in range(8)]


def count(postgres):
    if postgres.query("SELECT to_regclass('transcripts')", "sink") == [[""]]:
        return 0
    return int(postgres.query("SELECT count(*) FROM transcripts", "sink")[0][0])


def wait_count(postgres, wanted):
    harness.wait_until(lambda: count(postgres) >= wanted, f"{wanted} finals in the database")
    assert count(postgres) == wanted


def write(kafka, begin, end):
    kafka.write("transcripts", [(room, final(room, seq)) for seq in range(begin, end) for room in ROOMS])


def test_a_database_that_crashes_and_freezes_loses_and_doubles_nothing():
    with services.RealPostgres() as postgres, KafkaMock() as kafka:
        url = postgres.create_database("sink")
        with sink(kafka, None, DATABASE_URL=url, BATCH_MAX_SIZE=20) as running:
            write(kafka, 1, 101)
            harness.wait_until(lambda: count(postgres) > 50, "the first are written")
            postgres.crash()
            write(kafka, 101, 201)
            harness.wait_until(lambda: "database" in degraded(running), "the database is degraded")
            postgres.start()
            wait_count(postgres, 200 * len(ROOMS))
            harness.wait_until(lambda: not degraded(running), "nothing is degraded")

            postgres.freeze()
            write(kafka, 201, 301)
            harness.wait_until(lambda: "database" in degraded(running), "the database is degraded")
            assert harness.http(running.url("sink", "/healthz"))[0] == 200
            postgres.thaw()
            wait_count(postgres, 300 * len(ROOMS))
            counters = metrics(running)["counters"]
            assert counters["store.repeated_total"] == counters["store.conflicts_total"] == 0, counters
            assert counters["sink.retries_total"] > 0


if __name__ == "__main__":
    harness.main(globals())
