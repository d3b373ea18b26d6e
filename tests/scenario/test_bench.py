"""The bench measures: figures of both ends, in a table and as JSON, and it says when it cannot (release only)."""

import json
import os
import subprocess
import tempfile

import harness

SECONDS = ["--bench-seconds", "2", "--bench-warm-up-s", "1"]


def make_audio(folder, kind="aac"):
    path = os.path.join(folder, f"speech.{kind}")
    subprocess.run([os.path.join(harness.ROOT, "bench", "load", "make-audio"), path], check=True, timeout=120)
    return path


def bench(*arguments, status=(0, 1)):
    run = subprocess.run([harness.program("verbacast-bench"), *arguments], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, timeout=240)
    assert run.returncode in status, (run.returncode, run.stdout, run.stderr)
    return run


def measured(mode, *arguments, audio="aac"):
    """The rows of a run by name. On a busy machine the load may be late: then the exit is 1 and it says so."""
    with tempfile.TemporaryDirectory(prefix="vc-bench-") as folder:
        path = os.path.join(folder, "out.json")
        run = bench(mode, "--bench-audio", make_audio(folder, audio), "--bench-json", path, *arguments)
        assert (run.returncode == 1) == ("NOT TO BE BELIEVED" in run.stdout), run.stdout + run.stderr
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    rows = {row["name"]: row for row in report["rows"]}
    for name in rows:
        assert f"| {name} |" in run.stdout, run.stdout
    return rows


def test_ingest_is_measured_from_message_to_pcm():
    rows = measured("ingest", "--bench-counts", "1,3", "--bench-rounds", "2", *SECONDS)
    assert set(rows) == {"verbacast, 1 streams", "verbacast, 3 streams"}, rows
    for name, n in (("verbacast, 1 streams", 1), ("verbacast, 3 streams", 3)):
        row = rows[name]
        assert len(row["latency p50"]["rounds"]) == 2, row
        assert row["latency p50"]["least"] >= 0, row  # no sound arrives before it was sent
        assert 10 * n <= row["chunks/s"]["median"] <= 25 * n, row  # 50 ms chunks in real time
        assert row["publish to first PCM p50"]["least"] > 0, row
        assert row["CPU a stream"]["median"] >= 0, row


def test_participants_streams_are_measured_the_same_way():
    rows = measured("ingest", "--bench-publish", "pcm", "--bench-counts", "3", "--bench-rounds", "1", *SECONDS, audio="pcm")
    row = rows["verbacast, 3 streams"]
    assert 0 <= row["latency p50"]["least"] < 1000, row
    assert 30 <= row["chunks/s"]["median"] <= 75, row
    assert row["publish to first PCM p50"]["least"] > 0, row


def test_fanout_is_measured_beside_the_bound():
    loop = f"send-loop={harness.program('verbacast-bench')} send-loop"
    rows = measured("fanout", "--bench-counts", "20", "--bench-rounds", "1", "--bench-rate-hz", "10", "--bench-peers",
                    loop, *SECONDS)
    assert set(rows) == {"verbacast, 20 viewers", "send-loop, 20 viewers"}, rows
    for row in rows.values():
        assert 150 <= row["delivered/s"]["median"] <= 250, row  # 10 a second to each of 20
        assert row["missed"]["median"] == 0, row
        assert row["p50"]["least"] > 0, row
        assert row["fanout (own)"]["least"] > 0, row
    assert rows["verbacast, 20 viewers"]["lag (own)"]["least"] >= 0, rows


def test_a_peer_that_is_none_is_named():
    with tempfile.TemporaryDirectory(prefix="vc-bench-") as folder:
        run = bench("fanout", "--bench-audio", make_audio(folder), "--bench-node", "none", "--bench-peers",
                    "nobody=/does/not/exist", status=(1,))
        assert "nobody did not say that it is ready" in run.stderr, run.stderr


def test_wrong_arguments_are_named():
    assert "'walk' is no mode" in bench("walk", status=(2,)).stderr
    assert "BENCH_SECONDS" in bench("ingest", "--bench-seconds", "0", status=(2,)).stderr
    assert "BENCH_PEERS do not take" in bench("ingest", "--bench-audio", "x", "--bench-publish", "pcm", "--bench-peers", "a=b",
                                              status=(1,)).stderr
    assert "BENCH_AUDIO is not set" in bench("ingest", status=(1,)).stderr
    assert "BENCH_COUNTS is '1,x'" in bench("ingest", "--bench-audio", "x", "--bench-counts", "1,x", status=(1,)).stderr


if __name__ == "__main__":
    harness.main(globals())
