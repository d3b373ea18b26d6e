"""deploy/quickstart in a copy of the checkout: builds, plays, is understood, ends with Ctrl-C, starts again; takes no arguments. (release only) (runs alone)"""

import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile

import harness
import scoring

SPEECH = "/usr/share/pocketsphinx/test/data/librivox"
BUILD_PATIENCE_S = 400
FREE_PORTS = {name: "127.0.0.1:0" for name in ("HTTP_LISTEN", "ADMIN_LISTEN", "RTMP_LISTEN", "STT_LISTEN")}


def copy_checkout(folder):
    """The files that git knows, as they are now; and the speech engine that the suite has fetched."""
    listed = subprocess.run(["git", "-c", f"safe.directory={harness.ROOT}", "ls-files", "-z"], cwd=harness.ROOT,
                            stdout=subprocess.PIPE, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        source = os.path.join(harness.ROOT, name)
        if os.path.exists(source):
            os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
            shutil.copy(source, os.path.join(folder, name))
    if harness.ENGINE:
        os.mkdir(os.path.join(folder, "build-quickstart"))
        os.symlink(os.path.abspath(harness.ENGINE), os.path.join(folder, "build-quickstart", "stt"))


def children_of(pid):
    """(pid, start time) of all that descend from it: the start time tells a pid that was given anew."""
    parents = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        fields = stat_of(path)
        if fields:
            parents.setdefault(int(fields[1]), []).append((int(path.split("/")[2]), fields[19]))
    found, left = [], [pid]
    while left:
        own = parents.get(left.pop(), [])
        found += own
        left += [child for child, _ in own]
    return found


def stat_of(path):
    """The fields of a /proc/PID/stat behind the name; None when the process is gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_there(child):
    fields = stat_of(f"/proc/{child[0]}/stat")
    return fields is not None and fields[19] == child[1] and fields[0] != "Z"


class Quickstart:
    """One run of the script, as from a terminal: a process group of its own."""

    def __init__(self, folder):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("STT_", "RTMP_"))}
        environment.update(FREE_PORTS)
        self.out_path = os.path.join(folder, "quickstart.out")
        with open(self.out_path, "wb") as out:
            self.process = subprocess.Popen(["./deploy/quickstart"], cwd=folder, env=environment, stdout=out,
                                            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True)
        self.children = []

    def said(self):
        with open(self.out_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait(self, condition, what):
        def is_so():
            assert self.process.poll() is None, f"quickstart ended: {self.said()[-4000:]}"
            return condition()

        return harness.wait_until(is_so, what, BUILD_PATIENCE_S)

    def viewer_address(self):
        """HOST:PORT of the viewer's page that was printed."""
        return self.wait(lambda: re.search(r"http://(\S+)/\?session=demo", self.said()), "the address").group(1)

    def interrupt(self):
        """Ctrl-C reaches the whole group; the script must end all that it started."""
        self.children = children_of(self.process.pid)
        os.killpg(self.process.pid, signal.SIGINT)
        assert self.process.wait(harness.PATIENCE_S) == 0, self.said()[-4000:]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            left = [(self.process.pid, None), *children_of(self.process.pid)]
            for pid, _ in left:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()


def said_in_the_demo():
    """The words of the recordings in the order in which the demo plays them."""
    with open(f"{SPEECH}/transcription", encoding="utf-8") as file:
        texts = {match.group(2): match.group(1) for match in
                 re.finditer(r"^(?:<s>)?\s*(.*?)\s*(?:</s>)?\s*\((\S+)\)$", file.read(), re.M)}
    names = sorted(glob.glob(f"{SPEECH}/*.wav"))
    return sum((scoring.words_of(texts[os.path.basename(name)[:-4]]) for name in names), [])


def check_first_finals(address):
    with harness.Viewer(f"ws://{address}/live/demo") as viewer:
        got = sum((scoring.words_of(final["text"]) for final in viewer.wait_finals(3)), [])
    want = said_in_the_demo()[:len(got)]
    least = 0.7 if harness.ENGINE else 0.3
    assert len(got) >= 8 and len(scoring.align(want, got)[1]) >= least * len(got), (want, got)


def test_arguments_are_refused():
    done = subprocess.run([os.path.join(harness.ROOT, "deploy", "quickstart"), "--help"], capture_output=True, text=True, check=False,
                          timeout=harness.PATIENCE_S)
    assert done.returncode == 2 and "'--help'" in done.stderr and not done.stdout, done


def test_first_and_second_start():
    with tempfile.TemporaryDirectory(prefix="vc-quickstart-") as folder:
        copy_checkout(folder)
        with Quickstart(folder) as first:
            address = first.viewer_address()
            status, _, page = harness.http(f"http://{address}/?session=demo")
            assert status == 200 and "<html" in page, page[:300]
            assert harness.http(f"http://{address}/dashboard")[0] == 200
            check_first_finals(address)
            first.interrupt()
        assert len(first.children) >= 3, first.children
        assert not [child for child in first.children if is_there(child)], (first.children, first.said())
        assert "nothing to build" not in first.said(), first.said()
        with Quickstart(folder) as second:
            second.viewer_address()
            second.interrupt()
        assert "nothing to build" in second.said(), second.said()
        assert len(second.children) >= 3 and not [child for child in second.children if is_there(child)]


def test_ctrl_c_while_it_builds():
    with tempfile.TemporaryDirectory(prefix="vc-quickstart-") as folder:
        copy_checkout(folder)
        with Quickstart(folder) as run:
            objects = f"{folder}/build-quickstart/release/src/**/*.o"
            run.wait(lambda: glob.glob(objects, recursive=True), "something is compiled")
            run.interrupt()
        harness.wait_until(lambda: not [child for child in run.children if is_there(child)], "the compilers are gone")


if __name__ == "__main__":
    harness.main(globals())
