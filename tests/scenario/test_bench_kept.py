"""bench/kept measures the whole way of what is kept, with little of everything. (release only)"""

import json
import os
import re
import runpy
import subprocess
import tempfile
from types import SimpleNamespace

import harness
import services

PATIENCE_S = 10 * harness.PATIENCE_S


def rows_of(text):
    """Row's name -> figures (the medians), of all tables."""
    rows = re.findall(r"^\| ([^|-][^|]*) \| (.*) \|$", text, re.M)
    return {name: [float(word.split(" ")[0]) if word != "-" else None for word in figures.split(" | ")]
            for name, figures in rows}


def make_audio(folder):
    path = os.path.join(folder, "speech.aac")
    subprocess.run([os.path.join(harness.ROOT, "bench", "load", "make-audio"), path], check=True, timeout=120)
    return path


def test_each_row_has_its_figures():
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(services.jars(), os.path.join(folder, "kafka-jars"))
        os.symlink(harness.BUILD, os.path.join(folder, "release"))
        done = subprocess.run([os.path.join(harness.ROOT, "bench", "kept"), "--folder", folder, "--", "--rounds", "1", "--seconds", "2",
                               "--warm-up-s", "1", "--drain", "2000", "--counts", "100"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
        # On a busy machine the load may be late: then it says so.
        assert done.returncode == ("NOT TO BE BELIEVED" in done.stdout), done.stdout + done.stderr[-3000:]
        with open(os.path.join(folder, "sink.json"), encoding="utf-8") as file:
            rows = {row["name"]: row for row in json.load(file)["rows"]}
        check_rate(rows["100 finals/s"], rows["100 finals/s, journal alone"])
        for batch in (100, 1000):
            row = rows[f"drain of 2000, batches of {batch}"]
            assert row["rows missing"]["most"] == 0 and row["CPU of the sink a row"]["median"] > 0, row
        assert rows["drain of 2000, batches of 100"]["rows/s"]["median"] > 0, rows
        assert rows_of(done.stdout)["an INSERT and a commit a row"][0] > 0, done.stdout
        with open(os.path.join(folder, "sink.svg"), encoding="utf-8") as file:
            assert "100 finals/s" in file.read()


def check_rate(row, alone):
    assert row["rows/s"]["median"] > 50 and row["rows missing"]["most"] == 0, row
    assert 0 < row["lag p50"]["median"] <= row["lag p99"]["median"] <= row["lag max"]["median"], row
    assert row["CPU of the sink a row"]["median"] > 0, row
    assert "lag p50" not in alone and "rows missing" not in alone, alone
    for own in (row, alone):
        assert own["finals/s"]["median"] > 50 and own["CPU of the node a final"]["median"] > 0, own
        assert own["said to viewer p50"]["median"] > 0 and own["latency (own)"]["median"] > 0, own


def test_an_older_runs_figures_are_gone():
    """Where the load ends without any, too."""
    kept = runpy.run_path(os.path.join(harness.ROOT, "bench", "kept"))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("sink.json", "sink.svg"):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write("older")
        ground = SimpleNamespace(folder=folder, build=harness.BUILD, audio="none", kafka=SimpleNamespace(brokers=lambda: "127.0.0.1:1"),
                                 postgres=SimpleNamespace(url=lambda name: f"postgresql://127.0.0.1:1/{name}"))
        assert kept["measure"](ground, ["--counts", "none"]) != 0
        assert os.listdir(folder) == []


def test_a_database_without_times_of_commits_is_named():
    with tempfile.TemporaryDirectory() as folder, services.RealPostgres() as postgres:
        url = postgres.create_database("bench")
        done = subprocess.run([harness.program("verbacast-bench"), "sink", "--audio", make_audio(folder), "--brokers",
                               "127.0.0.1:1", "--database", url], stderr=subprocess.PIPE, text=True, timeout=harness.PATIENCE_S)
        assert done.returncode == 1 and "track_commit_timestamp is off" in done.stderr, done.stderr


if __name__ == "__main__":
    harness.main(globals())
