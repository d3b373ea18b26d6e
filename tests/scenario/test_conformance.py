"""WebSocket as RFC 6455 has it, both ends, by the cases of the Autobahn test suite (kosoku runs them).

Our server's end is the viewers' handshake, parser and frames; our client's end is the one that talks
to speech-to-text. Each echoes in a small program of tests/scenario/programs.
"""

import json
import os
import re
import subprocess
import tempfile

import harness

GOOD = ("OK", "INFORMATIONAL", "NON-STRICT")
CASES_MIN = 200
LIMIT_S = 240  # for all cases; each has limits of its own in kosoku
DEFLATE = ["12.*", "13.*"]  # permessage-deflate: more than two hundred cases, we do not speak it
DEFLATE_SAMPLE = ["12.1.1", "13.1.1"]


def kosoku(mode, address, folder, *choice):
    with open(os.path.join(folder, "kosoku.log"), "wb") as log:
        return subprocess.Popen([harness.from_pypi("kosoku"), "--mode", mode, "--outdir", "report", *choice, address],
                                cwd=folder, stdout=log, stderr=subprocess.STDOUT)


def log_of(folder):
    with open(os.path.join(folder, "kosoku.log"), encoding="utf-8", errors="replace") as file:
        return file.read()


def cases_of(folder):
    """{case: its verdicts} of the report."""
    try:
        with open(os.path.join(folder, "report", "index.json"), encoding="utf-8") as file:
            agents = json.load(file)
    except FileNotFoundError:
        raise AssertionError(f"no report: {log_of(folder)}") from None
    assert len(agents) == 1, list(agents)
    return next(iter(agents.values()))


def end(process):
    """Ends what a failure left running."""
    if process.poll() is None:
        process.kill()
    process.wait()


def check_server(*choice):
    """Runs cases against our server: kosoku's exit status, the report."""
    with tempfile.TemporaryDirectory(prefix="vc-") as folder, harness.Process("ws_echo_server") as server:
        fuzzer = kosoku("fuzzingclient", f"ws://{server.addresses['http']}", folder, *choice)
        try:
            status = fuzzer.wait(LIMIT_S)
        finally:
            end(fuzzer)
        return status, cases_of(folder)


def wait_listening(fuzzer, folder):
    def find():
        assert fuzzer.poll() is None, log_of(folder)
        return re.search(r"listening on (ws://\S+)", log_of(folder))

    return harness.wait_until(find, "kosoku listens").group(1)


def run_client(url):
    run = subprocess.run([harness.program("ws_echo_client"), url, "verbacast"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S, check=False)
    assert run.returncode == 0, run.stdout[-6000:]


def check_client(*choice):
    """Runs cases against our client: kosoku's exit status, the report."""
    with tempfile.TemporaryDirectory(prefix="vc-") as folder:
        fuzzer = kosoku("fuzzingserver", "127.0.0.1:0", folder, *choice)
        try:
            run_client(wait_listening(fuzzer, folder))
            status = fuzzer.wait(harness.PATIENCE_S)
        finally:
            end(fuzzer)
        return status, cases_of(folder)


def without_deflate():
    return [word for pattern in DEFLATE for word in ("--exclude", pattern)]


def check_all(end_of, status, cases):
    """No case failed, and none is merely tolerated without being named."""
    verdicts = {case: (row["behavior"], row["behaviorClose"]) for case, row in cases.items()}
    failed = {case: pair for case, pair in verdicts.items() if not set(pair) <= set(GOOD)}
    lax = sorted(case for case, pair in verdicts.items() if "NON-STRICT" in pair)
    n_strict = sum(1 for pair in verdicts.values() if pair == ("OK", "OK"))
    print(f"{end_of}: {len(cases)} cases, {n_strict} as they should be, {len(failed)} failed, "
          f"{len(lax)} not strict: {', '.join(lax) or 'none'}")
    assert not failed, failed
    assert len(cases) > CASES_MIN, len(cases)
    assert n_strict > CASES_MIN, n_strict
    assert status == 0, status


def check_no_deflate(cases):
    assert sorted(cases) == DEFLATE_SAMPLE, cases
    behaviors = [row["behavior"] for row in cases.values()]
    assert behaviors == ["UNIMPLEMENTED"] * len(DEFLATE_SAMPLE), cases


def test_server_conforms():
    check_all("server", *check_server(*without_deflate()))


def test_client_conforms():
    check_all("client", *check_client(*without_deflate()))


def test_deflate_is_neither_accepted_nor_offered():
    sample = [word for case in DEFLATE_SAMPLE for word in ("--include", case)]
    check_no_deflate(check_server(*sample)[1])
    check_no_deflate(check_client(*sample)[1])


if __name__ == "__main__":
    harness.main(globals())
