"""What the tests stand on: what is told of those that were skipped or never ran, of crashes, and whose a port is. (release only)"""

import contextlib
import glob
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from unittest import mock

import harness
import loopback
from fleet import Fleet

sys.path.insert(0, os.path.join(harness.ROOT, "tests"))
import suite  # noqa: E402


def closing(tally):
    """(status, what is printed)"""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = suite.close(tally)
    return status, said.getvalue()


def run(text):
    """The outcome of a scenario that is this program."""
    with tempfile.TemporaryDirectory(prefix="vc-suite-") as folder:
        path = os.path.join(folder, "test_story.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return suite.run_scenario("release", harness.BUILD, {}, path)


def count(text, status=0, plan=None):
    """What a scenario's output comes to."""
    plan = f"1..{len(text.splitlines())}" if plan is None else plan
    outcome = run(f"print({plan!r})\nprint({text!r})\nraise SystemExit({status})\n")
    tally = suite.Tally()
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


def test_what_failed_may_not_be_skipped_then():
    """Nor may the whole file be, whose row has another name; what was skipped before may."""
    first = (1, [("not ok", "test_one"), ("skip", "test_three # never"), ("ok", "test_two")], "")
    for row, status in (("skip - test_one # it went away", 1), ("skip - all of it # it went away", 1),
                        ("skip - test_three # never", 0), ("ok - test_one", 0)):
        again = suite.repeated(first, (0, [tuple(row.split(" - "))], ""))
        assert again[0] == status, (row, again)


def meson(*runs):
    """`meson test` run by run: what it prints, and its log's rows."""
    left = list(runs)
    return mock.patch.object(suite, "meson_test", lambda *_: (subprocess.CompletedProcess([], *left[0][:2]), left.pop(0)[2]))


def test_a_unit_that_failed_may_not_be_skipped_then():
    for row, skipped_before, n_failed, n_skipped in (
            (("skip", "a", "a: one"), [], 1, 0), (("skip", "a", "a: a"), [], 1, 0), (("ok", "a", "a: one"), [], 0, 0),
            (("skip", "a", "a: two"), ["a: two"], 0, 1), (("not ok", "a", "a: one"), [], 1, 0)):
        tally = suite.Tally()
        tally.to_repeat.append(("release", "", "a", skipped_before))
        with meson((0, "", [row])), contextlib.redirect_stdout(io.StringIO()):
            suite.repeat_units(tally)
        assert (len(tally.failed), len(tally.skipped)) == (n_failed, n_skipped), (row, tally.failed)
        assert closing(tally)[0] == (n_failed + n_skipped > 0)


def test_units_are_counted_once():
    """Those that passed before another of their program failed pass again in its repeat."""
    line = " 1/2 verbacast:unit / room/a   FAIL   0.1s\n"
    first = [("ok", "room/a", "a: one"), ("not ok", "room/a", "a: two"), ("ok", "room/b", "b: one")]
    again = [("ok", "room/a", "a: one"), ("ok", "room/a", "a: two")]
    tally = suite.Tally()
    with meson((1, line, first), (0, "", again)), contextlib.redirect_stdout(io.StringIO()):
        suite.run_units_into("release", "", tally)
        suite.repeat_units(tally)
    assert (tally.passed, tally.failed, tally.unsteady) == (3, [], ["release room/a"]), vars(tally)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_a_test_leaves_running_is_not_waited_for():
    """It is ended, also that of a test which does not end."""
    status, rows, _ = run("import subprocess; print('1..1\\nok - test_one', subprocess.Popen(['sleep', '600']).pid, flush=True)")
    assert status == 0 and len(rows) == 1, rows
    harness.wait_until(lambda: not is_running(int(rows[0][1].split()[-1])), "it is ended")
    with mock.patch.object(suite, "SCENARIO_S", 10):
        status, rows, output = run("import subprocess, time; print('ok - test_one', subprocess.Popen(['setsid', 'sleep', '600']).pid,"
                                   " flush=True); time.sleep(600)")
    assert status == 1 and output.endswith("\nno end after 10 s"), output
    harness.wait_until(lambda: not is_running(int(rows[0][1].split()[-1])), "it is ended")


def test_nothing_starts_while_the_suite_ends():
    """One that is about to begin when all are ended does not; one that has just begun ends with them."""
    for is_late in (False, True):
        running = suite.Running()
        with mock.patch.object(suite, "running", running), tempfile.TemporaryFile() as log:
            begun = None if is_late else running.start(["sleep", "600"], {}, log)
            running.end_all()
            if begun:
                assert begun.wait(harness.PATIENCE_S) == -signal.SIGKILL
            try:
                run("print('1..1\\nok - test_one')")
                raise AssertionError("it was begun")
            except RuntimeError as error:
                assert "the suite ends" in str(error)


def check_scenarios_end_by(number):
    with tempfile.TemporaryDirectory(prefix="vc-suite-") as folder:
        path = os.path.join(folder, "test_story.py")
        with open(path, "w", encoding="utf-8") as file:
            file.write("import os, subprocess, time\n"
                       f"os.symlink(str(subprocess.Popen(['sleep', '600']).pid), f'{folder}/pid-{{os.getpid()}}')\n"
                       "time.sleep(600)")
        begin = ("import sys, suite; suite.scenarios_for = lambda _: ([], [sys.argv[1]] * 9)\n"
                 "suite.run_scenarios({'release': sys.argv[2]}, {}, suite.Tally())")
        with subprocess.Popen([sys.executable, "-c", begin, path, harness.BUILD], stdout=subprocess.DEVNULL,
                              env={**os.environ, "PYTHONPATH": os.path.join(harness.ROOT, "tests")}) as process, \
                contextlib.ExitStack() as stack:
            stack.callback(process.kill)

            def pids():
                return [int(os.readlink(link)) for link in glob.glob(folder + "/pid-*")]

            harness.wait_until(pids, "a scenario runs")

            def is_ended():
                process.send_signal(number)  # and once more, as whoever is impatient does
                return process.poll() is not None

            harness.wait_until(is_ended, "the suite ends")
            assert process.returncode == 128 + number, (number, process.returncode)
        harness.wait_until(lambda: not any(map(is_running, pids())), "what they started is ended")


def test_scenarios_end_with_the_suite():
    """Whoever is told to end, by a signal, ends what runs beside it and what that has started."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        check_scenarios_end_by(number)


def test_what_runs_no_test_fails():
    for text, status in (("", 0), ("ok - test_one", 1), ("not ok - test_one", 0)):
        assert len(count(text, status).failed) == 1, (text, status)
    assert closing(suite.Tally())[0] == 1


def test_each_test_must_have_its_row():
    for text, plan in (("ok - test_one", ""), ("ok - test_one", "1..2"), ("ok - test_one", "1..1\n1..1"),
                       ("half a line of another testok - test_one", "1..1")):
        assert len(count(text, plan=plan).failed) == 1, (text, plan)
    for end in ("sys.exit(0)", "os._exit(0)"):
        status, rows, output = run(f"""import os, sys, harness
def test_one(): pass
def test_two(): {end}
def test_three(): pass
harness.main(globals())
""")
        assert status != 0 and ("ok", "test_one") in rows and ("ok", "test_two") not in rows, (end, output)


def test_a_fleet_tells_of_each_node_that_crashed():
    """Also of one that was started anew; not of those that were killed."""
    def crash(fleet):
        os.kill(fleet.nodes[0].process.pid, signal.SIGSEGV)
        fleet.nodes[0].process.wait()

    def crash_in_drain(fleet):
        fleet.nodes[0].signal(signal.SIGTERM)
        os.kill(fleet.nodes[0].process.pid, signal.SIGABRT)
        fleet.nodes[0].process.wait()

    def complain(fleet):
        fleet.kill(0)
        with open(fleet.nodes[0].log_path, "a", encoding="utf-8") as log:
            log.write("x.c:1:1: runtime error: null pointer\n")

    for what, words in ((crash, "ended with -11"), (crash_in_drain, "ended with -6"), (complain, "runtime error"),
                        (lambda fleet: fleet.kill(0), None)):
        for again in (False, True):
            said = None
            try:
                with Fleet(n=1) as fleet:
                    what(fleet)
                    if again:
                        fleet.start(0)
            except AssertionError as error:
                said = str(error)
            assert words in (said or "") if words else said is None, (what, again, said)


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
    """Whoever looks whether one is left is not overtaken by another who takes it."""
    class Spare(list):
        def __len__(self):
            n = super().__len__()
            time.sleep(0.0005)
            return n

    ports = []
    threads = [threading.Thread(target=lambda: ports.extend(loopback.free_ports(20))) for _ in range(8)]
    with mock.patch.object(loopback, "spare", Spare(loopback.spare)):
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
