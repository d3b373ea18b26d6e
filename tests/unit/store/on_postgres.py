"""Runs test programs on a PostgreSQL of their own, one server for all of them; what they print becomes one TAP.

    on_postgres.py PROGRAM...
    on_postgres.py --server FOLDER crash|start|freeze|thaw     what the programs ask for
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, os.path.join(ROOT, "deploy"))

import postgres_cluster  # noqa: E402

SETTINGS = {"max_connections": 40, "log_min_messages": "warning", "fsync": "off"}  # the machine does not crash
LINE = re.compile(r"^(ok|not ok) \d+ - (.*)$")


def control(folder, action):
    server = postgres_cluster.Postgres(folder)
    if action == "crash":
        server.stop("immediate")
    elif action == "start":
        server.start()
    else:
        server.signal({"freeze": signal.SIGSTOP, "thaw": signal.SIGCONT}[action])


def run(program, environment, first):
    """Returns: the number of the next case, and whether the program ended well."""
    done = subprocess.run([program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in done.stdout.splitlines():
        match = LINE.match(line)
        if match:
            print(f"{match.group(1)} {first} - {os.path.basename(program)}: {match.group(2)}")
            first += 1
        elif not line.startswith(("1..", "# ok", "# not ok")):
            print(line if line.startswith("#") else f"# {line}")
    return first, done.returncode == 0


def run_all(server, programs):
    environment = dict(os.environ, VC_TEST_POSTGRES=server.url(),
                       VC_TEST_SERVER=f"'{sys.executable}' '{os.path.abspath(__file__)}' --server '{server.folder}'")
    number, is_well = 1, True
    for program in programs:
        number, is_good = run(program, environment, number)
        is_well = is_well and is_good
        sys.stdout.flush()
    print(f"1..{number - 1}")
    return 0 if is_well else 1


def main(programs):
    try:
        postgres_cluster.programs()
    except postgres_cluster.PostgresError as error:
        print(f"1..1\nok 1 - the store on PostgreSQL # SKIP {error}")
        return 0
    parent = tempfile.mkdtemp(prefix="vc-store-")
    os.chmod(parent, 0o755)  # for the user that it runs as
    server = postgres_cluster.Postgres(os.path.join(parent, "postgres"))
    try:
        server.init(settings=SETTINGS)
        server.start()
        return run_all(server, programs)
    finally:
        if server.is_up():
            server.signal(signal.SIGCONT)
            server.stop("immediate")
        shutil.rmtree(parent, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1] == "--server":
        control(*sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))
