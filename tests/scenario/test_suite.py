"""What tests/suite.py says of what was skipped, and of a file that ran no test. (release only)"""

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading

import harness
import loopback

sys.path.insert(0, os.path.join(harness.ROOT, "tests"))
import suite  # noqa: E402


def closing(tally):
    """(status, what is printed)"""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = suite.close(tally)
    return status, said.getvalue()


def count(text, status=0):
    """What a scenario's output comes to."""
    with tempfile.TemporaryDirectory(prefix="vc-suite-") as folder:
        path = os.path.join(folder, "test_story.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"print({text!r})\nraise SystemExit({status})\n")
        tally = suite.Tally()
        outcome = suite.run_scenario("release", harness.BUILD, {}, path)
        with contextlib.redirect_stdout(io.StringIO()):
            suite.count_scenario("release", "test_story.py", outcome, tally)
    return tally


def test_a_listed_skip_is_counted_and_named():
    row = suite.allowed_skips()[0]
    tally = suite.Tally()
    tally.passed = 1
    tally.skipped.append((f"release {row}", row))
    status, said = closing(tally)
    assert status == 0 and f"SKIPPED release {row}\n" in said, said
    assert re.search(r"^1 skipped, .*\n1 passed, 0 failed\n\Z", said, re.M), said


def test_an_unlisted_skip_fails():
    tally = count("ok - test_one\nskip - test_other # not today")
    assert (tally.passed, tally.failed) == (1, [])
    status, said = closing(tally)
    assert status == 1, said
    assert "FAILED skipped without a row in tests/skips.txt: release test_story.py: test_other" in said, said
    assert said.endswith("1 passed, 1 failed\n"), said


def test_what_a_test_leaves_running_is_not_waited_for():
    leave = "import subprocess; print('ok - test_one', subprocess.Popen(['sleep', '600']).pid, flush=True)"
    with tempfile.TemporaryDirectory(prefix="vc-suite-") as folder:
        path = os.path.join(folder, "test_story.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(leave)
        status, rows, _ = suite.run_scenario("release", harness.BUILD, {}, path)
    assert status == 0 and len(rows) == 1, rows
    os.kill(int(rows[0][1].split()[-1]), signal.SIGKILL)


def test_what_runs_no_test_fails():
    for text, status in (("", 0), ("ok - test_one", 1), ("not ok - test_one", 0)):
        assert len(count(text, status).failed) == 1, (text, status)
    assert closing(suite.Tally())[0] == 1


def test_a_port_is_given_to_one():
    """Nobody listens at them, and others look for some of the same few until all are taken."""
    look = ("import sys, loopback; loopback.FIRST, loopback.LAST = map(int, sys.argv[1:])\n"
            "while True: print(loopback.free_port(), flush=True)")
    mine = harness.free_port()
    first = mine - 31
    with tempfile.TemporaryDirectory(prefix="vc-suite-") as folder:
        run = subprocess.run([sys.executable, "-c", look, str(first), str(first + 64)], capture_output=True, text=True,
                             env={**os.environ, "TMPDIR": folder, "PYTHONPATH": os.path.join(harness.ROOT, "deploy")})
    theirs = [int(port) for port in run.stdout.split()]
    assert theirs and mine not in theirs and len(theirs) == len(set(theirs)), theirs
    assert run.returncode == 1 and f"all ports from {first} to {first + 63} are taken" in run.stderr, run.stderr


def test_ports_are_for_threads_too():
    ports = []
    threads = [threading.Thread(target=lambda: ports.extend(loopback.free_ports(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ports) == len(set(ports)) == 160, ports


def test_every_allowed_skip_has_a_reason():
    with open(os.path.join(harness.ROOT, "tests", "skips.txt"), encoding="utf-8") as file:
        rows = [line.strip() for line in file if line.strip() and not line.startswith("#")]
    assert rows and all(re.fullmatch(r"\S.* \| \S.*", row) for row in rows), rows


if __name__ == "__main__":
    harness.main(globals())
