"""Fault schedules of a fleet by their seeds: python3 tests/scenario/fleet_history/run.py --seeds 1-100 [--beside 2]

VC_BUILD is the folder of the build (build). Odd seeds have HAProxy before the nodes, even ones nothing, unless --mode
says otherwise. What fails says how to run it again. Ctrl-C ends with the schedules that run then.
"""

import contextlib
import os
import queue
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from fleet_history import schedule  # noqa: E402
from history import run as schedules  # noqa: E402

COMBINE = {"shown_least": min, "viewer_back_p50_s": max, "viewer_back_max_s": max, "publisher_back_p50_s": max,
           "publisher_back_max_s": max, "healed_max_s": max}


def follow(waiting, outcomes, mode):
    with contextlib.suppress(queue.Empty):
        while True:
            seed = waiting.get_nowait()
            began = time.monotonic()
            outcomes[seed] = schedule.run(seed, mode)
            schedules.tell(seed, time.monotonic() - began, outcomes[seed])


def run(seeds, beside=1, mode=None):
    """{seed: (complaints, figures, faults)}"""
    return schedules.run(seeds, beside, mode, pipeline=follow)


def closing(outcomes):
    return schedules.closing(outcomes, COMBINE)


def main():
    parser = schedules.options("fault schedules of three nodes and their Redis")
    parser.add_argument("--mode", choices=schedule.MODES)
    arguments = parser.parse_args()
    schedules.stand_apart()
    outcomes = run(schedules.seeds_of(arguments), arguments.beside, arguments.mode)
    print(closing(outcomes))
    return schedules.status_of(outcomes, schedules.seeds_of(arguments))


if __name__ == "__main__":
    sys.exit(main())
