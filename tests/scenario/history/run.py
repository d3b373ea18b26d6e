"""Fault schedules by their seeds: python3 tests/scenario/history/run.py --seeds 1-300 [--beside 2]

VC_BUILD is the folder of the build (build). Needs Kafka's jars: VC_KAFKA_LIB, else those that tests/run
has fetched; `deploy/kafka jars FOLDER` fetches them too. What fails says how to run it again. Ctrl-C ends
with the schedules that run then.
"""

import argparse
import contextlib
import os
import queue
import signal
import sys
import time
import traceback
from concurrent import futures

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from history import schedule  # noqa: E402


def tell(seed, took_s, outcome):
    found, figures, plan = outcome
    print(f"seed {seed} in {took_s:.0f} s: {'; '.join(map(str, plan)) or 'no fault'}")
    print("   " + " ".join(f"{name}={value}" for name, value in figures.items()), flush=True)
    for text in found:
        print(f"   FOUND {text}", flush=True)


def follow(waiting, outcomes, database):
    """One pipeline; any number may run beside each other, each with services of its own."""
    around = schedule.Services(database)
    try:
        if around.untouched():
            print(f"NOTE: without faults of: {', '.join(around.untouched())}", flush=True)
        while True:
            seed = waiting.get_nowait()
            began = time.monotonic()
            outcomes[seed] = schedule.run(around, seed)
            tell(seed, time.monotonic() - began, outcomes[seed])
            if outcomes[seed][0]:  # nothing that failed is stood upon
                around.close()
                around = schedule.Services(database)
    except queue.Empty:
        pass
    finally:
        around.close()


def run(seeds, beside, *of_pipeline, pipeline=follow):
    """{seed: (complaints, figures, faults)}"""
    waiting, outcomes = queue.Queue(), {}
    for seed in seeds:
        waiting.put(seed)
    with futures.ThreadPoolExecutor(beside) as pool:
        running = [pool.submit(pipeline, waiting, outcomes, *of_pipeline) for _ in range(beside)]
        try:
            futures.wait(running)
        except KeyboardInterrupt:  # a join() that it meets takes the thread for ended
            print("ending with those that run", flush=True)
            with contextlib.suppress(queue.Empty):
                while True:
                    waiting.get_nowait()
    for ended in running:
        if ended.exception():
            traceback.print_exception(ended.exception())
    return outcomes


def closing(outcomes, combine=None):
    """`combine`: figures that are not to be summed, and what else."""
    combine = combine or {"oldest_lost_ms": max}
    figures = [figures for _, figures, _ in outcomes.values()]
    failed = sorted(seed for seed, (found, _, _) in outcomes.items() if found)
    total = {name: combine.get(name, sum)(row[name] for row in figures) for name in (figures[0] if figures else ())}
    return (f"{len(outcomes)} schedules, {len(failed)} failed{': ' + ' '.join(map(str, failed)) if failed else ''}; " +
            " ".join(f"{name}={value}" for name, value in total.items()))


def options(description):
    """Those of every such command; and Ctrl-C is heard however it was started."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", default="1-30", help="A-B")
    parser.add_argument("--beside", type=int, default=1, help="schedules at a time")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    return parser


def stand_apart():
    """Returns in a process whose group is its own: a terminal's Ctrl-C reaches a whole group, and node and sink are not to end by it."""
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD}
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)  # under nohup
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
        return
    while True:
        number = signal.sigwait(numbers)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            sys.exit(os.waitstatus_to_exitcode(status) & 255)
        if number != signal.SIGCHLD:
            os.kill(child, signal.SIGTERM)


def seeds_of(arguments):
    first, last = map(int, arguments.seeds.split("-"))
    return range(first, last + 1)


def status_of(outcomes, seeds):
    return 1 if len(outcomes) != len(seeds) or any(found for found, _, _ in outcomes.values()) else 0


def main():
    parser = options("fault schedules on the way from the node to the database")
    parser.add_argument("--database", default="postgres", choices=sorted(schedule.DATABASES))
    arguments = parser.parse_args()
    stand_apart()
    outcomes = run(seeds_of(arguments), arguments.beside, arguments.database)
    print(closing(outcomes))
    return status_of(outcomes, seeds_of(arguments))


if __name__ == "__main__":
    sys.exit(main())
