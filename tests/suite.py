"""Builds Verbacast in every configuration and runs every test; ends with "N passed, N failed".

    tests/suite.py [--only PART ...] [--configurations NAME ...] [--build-folder FOLDER]

PART is lint, unit or scenario (all of them when none is named). Every build has a folder of its own.
A test that fails is run once more with nothing beside it: when it passes then, it counts as passed
and is named as unsteady, loudly, before the closing line. What is skipped must be listed with its
reason in tests/skips.txt; anything else that is skipped counts as failed.
"""

import argparse
import concurrent.futures
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

CONFIGURATIONS = {
    "release": {"cc": "gcc", "options": ["-Dbuildtype=release"]},
    "asan": {"cc": "gcc", "options": ["-Dbuildtype=debugoptimized", "-Db_sanitize=address,undefined"]},
    "tsan": {"cc": "gcc", "options": ["-Dbuildtype=debugoptimized", "-Db_sanitize=thread"]},
    "debug": {"cc": "gcc", "options": ["-Dbuildtype=debug"]},
    "clang": {"cc": "clang", "options": ["-Dbuildtype=release"]},
    "clang-asan": {"cc": "clang", "options": ["-Dbuildtype=debugoptimized", "-Db_sanitize=address,undefined"]},
    "clang-tsan": {"cc": "clang", "options": ["-Dbuildtype=debugoptimized", "-Db_sanitize=thread"]},
}
SCENARIO_CONFIGURATIONS = ["release", "asan", "tsan"]
SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=0:abort_on_error=0:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
    "TSAN_OPTIONS": "halt_on_error=0:exitcode=99:second_deadlock_stack=1:suppressions="
                    + os.path.join(ROOT, "tests", "tsan.supp"),
}


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []
        self.unsteady = []
        self.to_repeat = []

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.unsteady += other.unsteady
        self.to_repeat += other.to_repeat

    def fail(self, name, text=""):
        self.failed.append(name)
        print(f"FAILED {name}", flush=True)
        if text:
            print("\n".join("    " + line for line in text.splitlines()[-60:]), flush=True)


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def environment_of(configuration):
    environment = dict(os.environ)
    environment.update(SANITIZER_ENVIRONMENT)
    environment["CMOCKA_MESSAGE_OUTPUT"] = "TAP"
    environment["VC_CONFIGURATION"] = configuration
    return environment


def under(configuration, command):
    """gcc 12's ThreadSanitizer dies where the kernel spreads mmap over more than 28 bits."""
    return ["setarch", "-R", *command] if "tsan" in configuration else command


def engine_folder(folder):
    """The speech engine of PyPI, or "" where it cannot be had (then said loudly)."""
    target = os.path.join(folder, "stt")
    run = subprocess.run([os.path.join(ROOT, "deploy", "fetch-stt"), target], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    if run.returncode == 0:
        return target
    print(run.stdout)
    say("NOTE: the sherpa-onnx engine cannot be had: what needs it is skipped")
    return ""


def kafka_jars(folder):
    """Kafka's jars of Maven Central, or "" where they cannot be had (then said loudly)."""
    target = os.path.join(folder, "kafka-jars")
    run = subprocess.run([os.path.join(ROOT, "deploy", "kafka"), "jars", target], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True)
    if run.returncode == 0:
        return target
    print(run.stdout)
    say("NOTE: Kafka's jars cannot be had: what needs a real Kafka is skipped")
    return ""


def build(configuration, folder, stt_root, tally):
    row = CONFIGURATIONS[configuration]
    target = os.path.join(folder, configuration)
    environment = dict(os.environ, CC=row["cc"])
    log = []
    if not os.path.exists(os.path.join(target, "build.ninja")):
        shutil.rmtree(target, ignore_errors=True)
        log.append(["meson", "setup", target, ROOT, "-Dwerror=true", f"-Dstt_root={stt_root}", *row["options"]])
    log.append(["ninja", "-C", target, "-j", str(os.cpu_count() or 2)])
    started = time.monotonic()
    for command in log:
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode != 0:
            tally.fail(f"build {configuration}", run.stdout)
            return None
    tally.passed += 1
    say(f"built {configuration} in {time.monotonic() - started:.0f} s")
    return target


def read_junit(path):
    """The rows of a meson testlog: ("ok", "not ok" or "skip", program, "program: test")."""
    rows = []
    for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
        for case in suite.iter("testcase"):
            failed = case.find("failure") is not None or case.find("error") is not None
            kind = "not ok" if failed else "skip" if case.find("skipped") is not None else "ok"
            rows.append((kind, suite.get("name").split(" / ")[-1], f"{suite.get('name')}: {case.get('name')}"))
    return rows


def names_of(rows, kind):
    return [name for of, _, name in rows if of == kind]


def meson_test(configuration, target, extra):
    command = under(configuration, ["meson", "test", "-C", target, "--no-rebuild", "--print-errorlogs", *extra])
    run = subprocess.run(command, env=environment_of(configuration), stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    return run, read_junit(os.path.join(target, "meson-logs", "testlog.junit.xml"))


def failing_programs(output):
    """meson's own lines: ` 3/90 verbacast:unit / room/name   FAIL   0.1s` with any bad word."""
    pattern = re.compile(r"^\s*\d+/\d+ (?:(\S+):\S+ / )?(\S+)\s+(FAIL|ERROR|TIMEOUT|INTERRUPT)\b", re.M)
    return sorted({match.group(2) for match in pattern.finditer(output)})


# Many of them wait more than they work, the longest for another program: two configurations beside
# each other keep the cores busy.
UNITS_AT_ONCE = str(2 * (os.cpu_count() or 2))
CONFIGURATIONS_AT_ONCE = 2
SCENARIOS_AT_ONCE = 4
SCENARIO_S = 600
ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)  # that tell the suite to end


def run_units(configuration, target):
    tally = Tally()
    run_units_into(configuration, target, tally)
    return tally


def run_units_into(configuration, target, tally):
    started = time.monotonic()
    run, rows = meson_test(configuration, target, ["--num-processes", UNITS_AT_ONCE])
    programs = failing_programs(run.stdout)
    failed = names_of(rows, "not ok")
    is_bad = run.returncode != 0 or failed
    if is_bad and (not programs or len(programs) > 6):
        tally.fail(f"units of {configuration}: {failed or programs or 'meson test'}", run.stdout[-12000:])
        return
    counted = [row for row in rows if not is_bad or row[1] not in programs]  # the others' rows are those of their repeat
    passed = names_of(counted, "ok")
    tally.passed += len(passed)
    tally.skipped += skipped_rows(configuration, names_of(counted, "skip"))
    if is_bad:
        print(run.stdout[-12000:])
        tally.to_repeat += [(configuration, target, program, names_of(rows, "skip")) for program in programs]
    say(f"units of {configuration}: {len(passed)} passed in {time.monotonic() - started:.0f} s")


def repeat_units(tally):
    for configuration, target, program, skipped_before in tally.to_repeat:
        again, rows = meson_test(configuration, target, ["--num-processes", "1", program])
        passed, skipped = names_of(rows, "ok"), names_of(rows, "skip")
        dodged = [name for name in skipped if name not in skipped_before]
        if again.returncode == 0 and not names_of(rows, "not ok") and not dodged and rows:
            tally.passed += len(passed)
            tally.skipped += skipped_rows(configuration, skipped)
            tally.unsteady.append(f"{configuration} {program}")
        else:
            tally.fail(f"{configuration} {program}{said_of(dodged)}", again.stdout[-12000:])


def skipped_rows(configuration, names):
    return [(f"{configuration} {name}", name.split(":")[0]) for name in names]


def said_of(dodged):
    """What failed is not mended by being skipped, whatever name the skip has."""
    return f": failed, then skipped: {', '.join(dodged)}" if dodged else ""


def scenarios_for(configuration):
    """(those that run alone, those that may have others beside them: the long ones first)."""
    folder = os.path.join(ROOT, "tests", "scenario")
    alone, long, beside = [], [], []
    for name in sorted(os.listdir(folder)):
        if not (name.startswith("test_") and name.endswith(".py")):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            head = file.read(2000)
        if configuration != "release" and "(release only)" in head:
            continue
        (alone if "(runs alone)" in head else long if "(takes long)" in head else beside).append(name)
    return alone, long + beside


class Running:
    """The scenarios that run. Each has a process group of its own, and a mark that is inherited by all it
    starts, also by what has a session of its own: with it they end."""

    MARK = "VC_TEST_MARK"

    def __init__(self):
        self.lock = threading.Lock()
        self.marks = {}  # pid -> mark
        self.is_ending = False

    def start(self, command, environment, log):
        mark = uuid.uuid4().hex
        with self.lock:
            if self.is_ending:
                raise RuntimeError("the suite ends")
            process = subprocess.Popen(command, env={**environment, self.MARK: mark}, stdout=log, stderr=subprocess.STDOUT,
                                       stdin=subprocess.DEVNULL, cwd=ROOT, start_new_session=True)
            self.marks[process.pid] = mark
        return process

    def end(self, pid):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        for _ in range(100):  # they are looked for again: one may have started another meanwhile
            marked = self.marked(self.marks[pid])
            if not marked:
                return
            for other in marked:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(other, signal.SIGKILL)
            time.sleep(0.05)
        say(f"NOTE: some of what a scenario has started does not end: {marked}")

    def forget(self, pid):
        with self.lock:
            del self.marks[pid]

    def end_all(self):
        with self.lock:
            self.is_ending = True
            for pid in self.marks:
                self.end(pid)

    def marked(self, mark):
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as file:
                    if f"{self.MARK}={mark}".encode() in file.read().split(b"\0"):
                        found.append(int(entry))
        return found


running = Running()


def run_scenario(configuration, target, prepared, name):
    environment = environment_of(configuration)
    environment.update(prepared)
    environment.update(VC_BUILD=target, PYTHONPATH=os.path.join(ROOT, "tests", "scenario"), PYTHONDONTWRITEBYTECODE="1")
    command = under(configuration, ["/usr/bin/python3", os.path.join(ROOT, "tests", "scenario", name)])
    started = time.monotonic()
    # Into a file: what a test leaves running would keep a pipe open, and be waited for.
    with tempfile.TemporaryFile() as log:
        process = running.start(command, environment, log)
        try:
            status, late = process.wait(SCENARIO_S), ""
        except subprocess.TimeoutExpired:
            status, late = 1, f"\nno end after {SCENARIO_S} s"
        finally:
            running.end(process.pid)
            process.wait()
            running.forget(process.pid)
        log.seek(0)
        output = log.read().decode("utf-8", "replace") + late
    rows = re.findall(r"^(ok|not ok|skip) - (.*)$", output, re.M)
    plans = re.findall(r"^1\.\.(\d+)$", output, re.M)
    if status == 0 and not rows:
        output, status = output + "\nno test was run", 1
    elif status == 0 and plans != [str(len(rows))]:
        output, status = output + f"\n{len(rows)} tests have a row; planned were {plans}", 1
    say(f"{configuration} {name}: {len(rows)} rows in {time.monotonic() - started:.0f} s" + (", FAILED" if status else ""))
    return status, rows, output


def repeated(first, again):
    """The second outcome, in which nothing may be skipped that the first has not skipped, under whatever name."""
    before, after = ({text.split(" # ")[0] for kind, text in rows if kind == "skip"} for _, rows, _ in (first, again))
    dodged = sorted(after - before)
    return (again[0] or 1, again[1], again[2] + said_of(dodged)) if dodged else again


def count_scenario(configuration, name, outcome, tally):
    status, rows, output = outcome
    tally.passed += sum(1 for kind, _ in rows if kind == "ok")
    for kind, text in rows:
        if kind == "skip":
            tally.skipped.append((f"{configuration} {name}: {text}", f"{name}: {text}"))
    bad = [text for kind, text in rows if kind == "not ok"]
    if bad or status != 0:
        tally.fail(f"{configuration} {name}: {', '.join(bad) or f'exit {status}'}", output)


def run_all(jobs, prepared, n_at_once):
    """(job, outcome) of each as it ends. A session of its own hears nothing of a Ctrl-C, or of the end of the
    group that the suite is in: they are ended here."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=n_at_once) as pool:
        try:
            waiting = {pool.submit(run_scenario, configuration, target, prepared, name): (configuration, target, name)
                       for configuration, target, name in jobs}
            for future in concurrent.futures.as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            running.end_all()
            raise


def be_told(number, _):
    """What runs is ended before the suite: a second signal would leave it behind."""
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def run_scenarios(built, prepared, tally):
    """Of all configurations in one row, so that nobody waits for the last one of each."""
    for number in ENDING:
        signal.signal(number, be_told)
    started = time.monotonic()
    alone, beside = [], []
    for configuration, target in built.items():
        of_alone, of_beside = scenarios_for(configuration)
        alone += [(configuration, target, name) for name in of_alone]
        beside += [(configuration, target, name) for name in of_beside]
    outcomes = dict(run_all(beside, prepared, SCENARIOS_AT_ONCE))
    outcomes.update(run_all(alone, prepared, 1))
    for job, outcome in sorted(outcomes.items()):
        configuration, _, name = job
        if outcome[0] != 0:
            say(f"{configuration} {name} failed; once more, with nothing beside it")
            print("\n".join("    " + line for line in outcome[2].splitlines()[-60:]), flush=True)
            (_, again), = run_all([job], prepared, 1)
            outcome = repeated(outcome, again)
            if outcome[0] == 0:
                tally.unsteady.append(f"{configuration} {name}")
        count_scenario(configuration, name, outcome, tally)
    say(f"scenarios: {len(outcomes)} files in {time.monotonic() - started:.0f} s")


def run_lints(folder, tally):
    environment = dict(os.environ, VC_BUILD=os.path.join(folder, "release"))
    for name in sorted(os.listdir(os.path.join(ROOT, "tests", "lint"))):
        if not (name.startswith("lint_") and name.endswith(".py")):
            continue
        run = subprocess.run(["/usr/bin/python3", os.path.join(ROOT, "tests", "lint", name)], env=environment,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
        if run.returncode == 0:
            tally.passed += 1
        else:
            tally.fail(name, run.stdout)


def make_venv(folder):
    """PyPI packages that scenarios use; "" where they cannot be had."""
    venv = os.path.join(folder, "venv")
    python = os.path.join(venv, "bin", "python3")
    if os.path.exists(os.path.join(venv, "complete")):
        return venv
    commands = [["/usr/bin/python3", "-m", "venv", venv],
                [python, "-m", "pip", "install", "-q", "-r", os.path.join(ROOT, "tests", "requirements.txt")]]
    for command in commands:
        run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if run.returncode != 0:
            print(run.stdout[-2000:])
            say("NOTE: the packages of tests/requirements.txt cannot be had: what needs them is skipped")
            return ""
    with open(os.path.join(venv, "complete"), "w", encoding="utf-8"):
        pass
    return venv


def allowed_skips():
    allowed = []
    with open(os.path.join(ROOT, "tests", "skips.txt"), encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                allowed.append(line.split(" | ")[0].strip())
    return allowed


def close(tally):
    allowed = allowed_skips()
    for shown, name in tally.skipped:
        if not any(name.startswith(row) for row in allowed):
            tally.fail(f"skipped without a row in tests/skips.txt: {shown}")
    for shown, _ in tally.skipped:
        print(f"SKIPPED {shown}")
    for name in tally.unsteady:
        print(f"UNSTEADY {name}: failed beside others, passed alone")
    for name in tally.failed:
        print(f"FAILED {name}")
    print(f"{len(tally.skipped)} skipped, {len(tally.unsteady)} unsteady")
    print(f"{tally.passed} passed, {len(tally.failed)} failed", flush=True)
    return 1 if tally.failed or tally.passed == 0 else 0


def heed_signals():
    """A run in the background ignores some, and so would every program that a test starts and interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def main():
    heed_signals()
    parser = argparse.ArgumentParser(description="builds every configuration and runs every test")
    parser.add_argument("--only", action="append", choices=["lint", "unit", "scenario"])
    parser.add_argument("--configurations", nargs="+", choices=sorted(CONFIGURATIONS), default=list(CONFIGURATIONS))
    parser.add_argument("--build-folder", default=os.path.join(ROOT, "build-tests"))
    arguments = parser.parse_args()
    parts = arguments.only or ["lint", "unit", "scenario"]
    folder = os.path.abspath(arguments.build_folder)
    os.makedirs(folder, exist_ok=True)
    tally = Tally()
    stt_root = engine_folder(folder)
    built = {}
    for configuration in arguments.configurations:
        target = build(configuration, folder, stt_root, tally)
        if target:
            built[configuration] = target
    if "lint" in parts:
        run_lints(folder, tally)
    if "unit" in parts:
        with concurrent.futures.ThreadPoolExecutor(max_workers=CONFIGURATIONS_AT_ONCE) as pool:
            for of_one in pool.map(run_units, built.keys(), built.values()):
                tally.add(of_one)
        repeat_units(tally)
    if "scenario" in parts:
        prepared = {"VC_STT_ENGINE": stt_root, "VC_VENV": make_venv(folder), "VC_KAFKA_LIB": kafka_jars(folder)}
        run_scenarios({name: built[name] for name in SCENARIO_CONFIGURATIONS if name in built}, prepared, tally)
    return close(tally)


if __name__ == "__main__":
    sys.exit(main())
