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
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from history import schedule  # noqa: E402


def tell(seed, took_s, outcome):
    found, figures, plan = outcome
    print(f"seed {seed} in {took_s:.0f} s: {'; '.join(map(str, plan)) or 'no fault'}")
    print("   " + " ".join(f"{name}={value}" for name, value in figures.items()), flush=True)
    for text in found:
        print(f"   FOUND {text}", flush=True)


def follow(database, waiting, outcomes):
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


def run(seeds, beside, database):
    """{seed: (complaints, figures, faults)}"""
    waiting, outcomes = queue.Queue(), {}
    for seed in seeds:
        waiting.put(seed)
    threads = [threading.Thread(target=follow, args=(database, waiting, outcomes)) for _ in range(beside)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        print("ending with those that run", flush=True)
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for thread in threads:
            thread.join()
    return outcomes


def closing(outcomes):
    figures = [figures for _, figures, _ in outcomes.values()]
    failed = sorted(seed for seed, (found, _, _) in outcomes.items() if found)
    total = {name: (max if name == "oldest_lost_ms" else sum)(row[name] for row in figures) for name in figures[0]}
    return (f"{len(outcomes)} schedules, {len(failed)} failed{': ' + ' '.join(map(str, failed)) if failed else ''}; " +
            " ".join(f"{name}={value}" for name, value in total.items()))


def main():
    parser = argparse.ArgumentParser(description="fault schedules on the way from the node to the database")
    parser.add_argument("--seeds", default="1-30", help="A-B")
    parser.add_argument("--beside", type=int, default=1, help="schedules at a time")
    parser.add_argument("--database", default="postgres", choices=sorted(schedule.DATABASES))
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    first, last = map(int, arguments.seeds.split("-"))
    outcomes = run(range(first, last + 1), arguments.beside, arguments.database)
    print(closing(outcomes))
    return 1 if len(outcomes) != last - first + 1 or any(found for found, _, _ in outcomes.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
