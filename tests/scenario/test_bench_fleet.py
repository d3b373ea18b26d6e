"""bench/fleet measures what a second node costs, with little of everything. (release only)"""

import os
import re
import runpy
import subprocess
import tempfile
from types import SimpleNamespace

import harness

PROGRAM = os.path.join(harness.ROOT, "bench", "fleet")


def test_each_system_has_its_figures():
    done = subprocess.run([PROGRAM, harness.BUILD, "--rounds", "1", "--seconds", "4", "--sessions", "2", "--viewers", "4", "--only", "one,other"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=10 * harness.PATIENCE_S)
    # On a busy machine the load may be late: then it says so.
    assert done.returncode == ("not to be believed" in done.stderr), done.stdout + done.stderr[-3000:]
    rows = {name: figures.split(" | ") for name, figures in re.findall(r"^\| ([^|-][^|]*) \| (.*) \|$", done.stdout, re.M)}
    for name, n_figures in (("one node, no Redis", 3), ("another node", 5)):
        figures = [float(figure.split(" ")[0]) for figure in rows[name] if figure != "-"]
        assert len(figures) == n_figures and 0 < figures[0] <= figures[1], done.stdout


def test_an_older_rounds_figures_are_gone():
    """Where the load ends without any, too."""
    measure = runpy.run_path(PROGRAM)["measure"]
    options = SimpleNamespace(build=harness.BUILD, viewers="none", sessions=1, rate=1, seconds=1)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("figures.json", "cpu.json"):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write("older")
        try:
            raise AssertionError(measure("one", options, folder))
        except FileNotFoundError:
            assert os.listdir(folder) == []


if __name__ == "__main__":
    harness.main(globals())
