"""bench/kept measures the whole way of what is kept, with little of everything. (release only)"""

import os
import re
import subprocess
import tempfile

import harness
import services


def rows_of(text):
    """Row's name -> figures, of all tables."""
    rows = re.findall(r"^\| ([^|-][^|]*) \| (.*) \|$", text, re.M)
    return {name: [float(word) if word != "-" else None for word in figures.split(" | ")] for name, figures in rows}


def test_each_table_has_its_figures():
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(services.jars(), os.path.join(folder, "kafka-jars"))
        os.symlink(harness.BUILD, os.path.join(folder, "release"))
        done = subprocess.run([os.path.join(harness.ROOT, "bench", "kept"), "--folder", folder, "--rounds", "1", "--seconds", "2",
                               "--records", "2000", "--loads", "100:2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, timeout=10 * harness.PATIENCE_S)
        assert done.returncode == 0, done.stderr[-3000:]
        rows = rows_of(done.stdout)
        assert rows["sink, batches of 100"][0] > rows["an INSERT and a commit a row"][0] > 0, done.stdout
        rate, p50, p99, most = rows["100 finals/s"]
        assert rate > 50 and 0 < p50 <= p99 <= most, done.stdout
        for kind in ("Kafka", "journal alone"):
            assert all(figure > 0 for figure in rows[f"100 finals/s, {kind}"]), done.stdout


if __name__ == "__main__":
    harness.main(globals())
