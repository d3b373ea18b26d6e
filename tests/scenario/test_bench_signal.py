"""verbacast-bench is told to end while a system runs: the system ends by SIGTERM, and leaves nothing."""

import os
import signal
import stat
import tempfile

from harness import Process, main, program, wait_until

# Never ready; says where it runs, and that SIGTERM ended it: one that it inherits blocked does not.
PEER = """#!/usr/bin/python3
import os, signal, sys, time

def end(number, frame):
    os.close(os.open("%(folder)s/end", os.O_CREAT))
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
os.symlink(os.getcwd(), "%(folder)s/where")
while True:
    time.sleep(0.05)
"""


def end_with(number, nohup=False):
    with tempfile.TemporaryDirectory() as folder:
        peer, audio = os.path.join(folder, "peer"), os.path.join(folder, "audio.aac")
        with open(peer, "w", encoding="utf-8") as file:
            file.write(PEER % {"folder": folder})
        os.chmod(peer, stat.S_IRWXU)
        with open(audio, "wb") as file:  # one silent ADTS frame, 44100 Hz, mono
            file.write(bytes.fromhex("fff15040017ffc01182007"))
        options = {"BENCH_AUDIO": audio, "BENCH_NODE": "none", "BENCH_PEERS": f"peer={peer}", "BENCH_COUNTS": "1"}
        before = {"path": "/usr/bin/nohup", "arguments": [program("verbacast-bench"), "fanout"]} if nohup else {"arguments": ["fanout"]}
        bench = Process("verbacast-bench", options, ready=False, folder=folder, **before)
        try:
            link = os.path.join(folder, "where")
            wait_until(lambda: os.path.islink(link), "the peer runs")
            where = os.readlink(link)
            assert os.path.isdir(where)
            if nohup:
                bench.signal(signal.SIGHUP)
            bench.signal(number)
            bench.stop(status=1)
            assert f"ended by signal {int(number)}" in bench.log(), bench.log()
            assert os.path.exists(os.path.join(folder, "end"))
            assert not os.path.exists(where), where
        finally:
            bench.kill()
            bench.process.stdout.close()


def test_sigterm_ends_the_system_too():
    end_with(signal.SIGTERM)


def test_sigint_ends_the_system_too():
    end_with(signal.SIGINT)


def test_under_nohup_a_terminal_that_has_gone_ends_nothing():
    end_with(signal.SIGTERM, nohup=True)


def test_a_terminal_that_has_gone_ends_the_system_too():
    end_with(signal.SIGHUP)


if __name__ == "__main__":
    main(globals())
