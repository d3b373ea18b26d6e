"""What was committed is in the database once, whatever died on the way: 32 schedules of faults. (release only) (runs alone)"""

import contextlib
import copy
import io
import os
import signal
import subprocess
import sys
import threading
from concurrent import futures
from unittest import mock

import harness
import services
from history import checker, run

BESIDE = 2


def sound_history():
    history = checker.History()
    rows = [(("room", epoch, seq), f"{k} {seq * 2}") for k, epoch in enumerate((100, 200), 1) for seq in range(1, 50)]
    history.rows, history.records = rows, rows + rows[:7]
    history.promised, history.said = {key for key, _ in rows}, {text for _, text in rows}
    history.shown = {key: 1.0 for key, _ in rows}
    return history


def complaints_when(spoil):
    history = copy.deepcopy(sound_history())
    spoil(history)
    return " / ".join(checker.complaints(history))


def test_the_checker_finds_what_is_wrong():
    assert complaints_when(lambda history: None) == ""
    key, text = sound_history().rows[5]

    def swap(rows):
        (one, a), (other, b) = rows[5:7]
        rows[5:7] = [(one, b), (other, a)]

    spoilt = {
        "committed and not in the database: 1:": lambda history: history.rows.remove((key, text)),
        "twice in the database: 1:": lambda history: history.rows.append((key, text)),
        "one text in two rows: 1:": lambda history: history.rows.append((("room", 200, 99), text)),
        "out of order in the database: 1:": lambda history: swap(history.rows),
        "out of order in the topic: 1:": lambda history: history.records.reverse(),
        "never said: 1:": lambda history: history.said.remove(text),
        "not in the topic: 1:": lambda history: history.rows.append((("room", 200, 99), "9 9")),
        "did not crash: 1:": lambda history: history.shown.update({("room", 300, 1): 2.0}),
        "not meant to be: 1:": lambda history: history.dead.append("{}"),
        "kept from it: 1:": lambda history: history.meant_dead.add("{}"),
        "without an end: 1:": lambda history: history.open_sessions.append(["room", "100"]),
    }
    for words, spoil in spoilt.items():
        assert words in complaints_when(spoil), (words, complaints_when(spoil))
    history = sound_history()
    history.shown[("room", 300, 1)], history.crashes = 2.0, [1.5, 3.25, 9.0]
    history.frozen = [(1.0, 1.25), (2.125, 3.125), (3.5, 4.0)]
    assert not checker.complaints(history) and checker.figures(history)["oldest_lost_ms"] == 250


def test_ctrl_c_ends_with_the_schedules_that_run():
    began, told = threading.Event(), threading.Event()

    def pipeline(waiting, outcomes):
        seed = waiting.get_nowait()
        interrupter = threading.Thread(target=interrupt, args=(waiting,))
        interrupter.start()
        assert told.wait(harness.PATIENCE_S)
        interrupter.join()
        outcomes[seed] = "ended"

    def interrupt(waiting):
        assert began.wait(harness.PATIENCE_S)
        os.kill(os.getpid(), signal.SIGINT)
        harness.wait_until(waiting.empty, "what has not begun is let go")
        told.set()

    def wait(running):
        began.set()
        return wait_for_all(running)

    wait_for_all = futures.wait
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with mock.patch.object(futures, "wait", wait):
            assert run.run(range(1, 4), 1, pipeline=pipeline) == {1: "ended"}
    finally:
        signal.signal(signal.SIGINT, before)


STANDS_APART = """import os, sys, time
sys.path.insert(0, "tests/scenario")
from history import run
run.options("").parse_args([])
run.stand_apart()
try:
    print(os.getpgrp(), flush=True)
    while True:
        time.sleep(1)
except KeyboardInterrupt:
    sys.exit(7)
"""


def check_stands_apart(number):
    with subprocess.Popen([sys.executable, "-c", STANDS_APART], cwd=harness.ROOT, stdout=subprocess.PIPE, start_new_session=True) as runner:
        group = int(runner.stdout.readline())
        try:
            assert group != runner.pid
            os.killpg(runner.pid, number)
            assert runner.wait(harness.PATIENCE_S) == 7
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def test_ctrl_c_reaches_the_runner_and_not_what_it_has_started():
    check_stands_apart(signal.SIGINT)


def test_a_runner_whose_terminal_is_closed_ends():
    check_stands_apart(signal.SIGHUP)


def test_a_pipeline_that_fails_says_why():
    said = io.StringIO()

    def pipeline(_waiting, _outcomes):
        raise OSError("no room for a database")

    with contextlib.redirect_stderr(said):
        outcomes = run.run(range(1, 3), 1, pipeline=pipeline)
    assert "no room for a database" in said.getvalue()
    assert run.closing(outcomes).startswith("0 schedules, 0 failed") and run.status_of(outcomes, range(1, 3)) == 1


def check(seeds, database):
    services.jars()
    outcomes = run.run(seeds, BESIDE, database)
    print(run.closing(outcomes))
    assert len(outcomes) == len(seeds)
    failed = {seed: found for seed, (found, _, _) in outcomes.items() if found}
    assert not failed, failed


def test_histories_that_end_in_postgresql():
    check(range(1, 25), "postgres")


def test_histories_that_end_in_sqlite():
    check(range(25, 33), "sqlite")


if __name__ == "__main__":
    harness.main(globals())
