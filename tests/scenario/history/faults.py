"""What goes wrong: a seed gives kinds, begins and lengths. Those of one target follow each other,
those of different targets overlap as they fall."""

import contextlib
import dataclasses
import os
import random
import signal
import threading
import time

import harness

ACTION_S = 5.0   # in which faults begin
LENGTH_S = (0.05, 2.5)
LENGTHS_S = {"sink": (0.05, 6)}  # longer than its group waits for it: another takes its partitions
FEWEST, MOST = 3, 8
WEIGHTS = {"node": 3, "broker": 2, "database": 2}


def end_a_backend(world):
    """PostgreSQL ends all of its connections for that."""
    for pid in world.postgres.backends()[-1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def nothing(_world):
    """What mends itself."""


def kinds_of_way(proxy):
    """proxy: world -> services.Proxy"""
    return {"cut": (lambda world: proxy(world).cut(), lambda world: proxy(world).heal()),
            "swallowed": (lambda world: proxy(world).hole(), lambda world: proxy(world).heal())}


# target -> kind -> (what breaks it, what mends it)
TARGETS = {
    "node": {
        "killed": (lambda world: world.kill_node(), lambda world: world.start_node()),
        "frozen": (lambda world: world.freeze_node(), lambda world: world.thaw_node()),
    },
    "sink": {
        "killed": (lambda world: world.kill_sink(), lambda world: world.start_sink()),
        "frozen": (lambda world: world.sink.signal(signal.SIGSTOP), lambda world: world.sink.signal(signal.SIGCONT)),
    },
    "broker": {
        "killed": (lambda world: world.kafka.kill(), lambda world: world.kafka.start()),
        "frozen": (lambda world: world.kafka.freeze(), lambda world: world.kafka.thaw()),
    },
    "database": {
        "crashed": (lambda world: world.postgres.crash(), lambda world: world.postgres.start()),
        "killed": (lambda world: world.postgres.kill(), lambda world: world.postgres.start()),
        "frozen": (lambda world: world.postgres.freeze(), lambda world: world.postgres.thaw()),
        "backend-killed": (end_a_backend, lambda world: harness.wait_until(world.postgres.serves, "PostgreSQL serves again")),
    },
    "node-to-broker": kinds_of_way(lambda world: world.kafka.proxies["NODE"]),
    "sink-to-broker": kinds_of_way(lambda world: world.kafka.proxies["SINK"]),
    "sink-to-database": kinds_of_way(lambda world: world.database.proxy),
    "disk": {"full": (lambda world: world.disk.fill(), lambda world: world.disk.free())},
    "stt": {"forgets": (lambda world: world.stt.forget_sessions(), nothing)},
}


@dataclasses.dataclass
class Fault:
    target: str
    kind: str
    begin_s: float
    length_s: float
    deeds: tuple  # what breaks it, what mends it

    def __str__(self):
        return f"{self.target} {self.kind} at {self.begin_s:.2f} for {self.length_s:.2f}"

    def happen(self, world):
        breaks, mends = self.deeds
        breaks(world)
        time.sleep(self.length_s)
        mends(world)


@dataclasses.dataclass
class Menu:
    """What a seed draws from."""
    targets: dict
    weights: dict    # of the others: 1
    lengths_s: dict  # of the others: LENGTH_S
    action_s: float = ACTION_S


OURS = Menu(TARGETS, WEIGHTS, LENGTHS_S)


def draw(seed, without=(), menu=OURS):
    """The faults of a seed; those of targets that are not to be had here are left out of it."""
    dice = random.Random(seed)
    faults = []
    targets = [target for target in menu.targets for _ in range(menu.weights.get(target, 1))]
    for _ in range(dice.randint(FEWEST, MOST)):
        target = dice.choice(targets)
        kind = dice.choice(list(menu.targets[target]))
        faults.append(Fault(target, kind, dice.uniform(0, menu.action_s), dice.uniform(*menu.lengths_s.get(target, LENGTH_S)),
                            menu.targets[target][kind]))
    faults.sort(key=lambda fault: fault.begin_s)
    return [fault for fault in faults if fault.target not in without]


def drive(world, faults, action_s=ACTION_S):
    """Returns when all are over and healed; the first that could not be done is raised."""
    began = time.monotonic()
    errors = []

    def follow(own):
        try:
            for fault in own:
                time.sleep(max(0, began + fault.begin_s - time.monotonic()))
                fault.happen(world)
        except Exception as error:  # told to the caller, whose thread it is not
            errors.append(error)

    threads = [threading.Thread(target=follow, args=([fault for fault in faults if fault.target == target],))
               for target in dict.fromkeys(fault.target for fault in faults)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.sleep(max(0, began + action_s - time.monotonic()))
    if errors:
        raise errors[0]
