"""What goes wrong in a fleet. Every node has a way of its own to Redis, which may be cut, stand still, be slow or lose.

`MAY_LOSE` are those after which a viewer may be told of a gap, `MAY_PART` those after which what an owner said may
have been heard by its own viewers only.
"""

from history import faults

N_NODES = 3
N_SESSIONS = 3
ACTION_S = 8.0  # in which faults begin

MAY_LOSE = {
    ("redis", "killed"), ("redis", "flushed"),  # and its owner, which has what it held, is lost or cut off
    ("redis", "frozen"), ("node", "frozen"), ("way", "cut"), ("way", "still"),  # two owners: the smaller epoch's end stays with it
    ("way", "slow"),  # who claims does not hear in time how the epoch before ended
    ("node", "killed"),  # its viewers were shown what had not gone out yet: positions that nobody else knows
}
MAY_PART = MAY_LOSE


def of_node(i):
    return {
        "killed": (lambda world: world.kill_node(i), lambda world: world.start_node(i)),
        "drained": (lambda world: world.drain_node(i), lambda world: world.start_node(i)),
        "frozen": (lambda world: world.freeze_node(i), lambda world: world.thaw_node(i)),
    }


def of_way(i):
    def deed(mode):
        return lambda world: world.ways[i].set(mode)

    return {kind: (deed(mode), deed("pass"))
            for kind, mode in (("cut", "cut"), ("still", "hole"), ("slow", "slow"), ("lossy", "lossy"))}


def of_publisher(k):
    return {"moved": (lambda world: world.publishers[k].move(), faults.nothing),
            "gone": (lambda world: world.publishers[k].leave(), lambda world: world.publishers[k].come())}


TARGETS = {
    **{f"node-{i + 1}": of_node(i) for i in range(N_NODES)},
    **{f"way-{i + 1}": of_way(i) for i in range(N_NODES)},
    **{f"publisher-{k + 1}": of_publisher(k) for k in range(N_SESSIONS)},
    "redis": {
        "killed": (lambda world: world.redis.kill(), lambda world: world.redis.start()),
        "frozen": (lambda world: world.redis.freeze(), lambda world: world.redis.thaw()),
        "flushed": (lambda world: world.flush(), faults.nothing),
    },
    "stt": {"forgets": (lambda world: world.stt.forget_sessions(), faults.nothing)},
}
LONG_S = (0.05, 5.0)  # longer than Redis' silence is borne
MENU = faults.Menu(TARGETS, weights={**{f"node-{i + 1}": 2 for i in range(N_NODES)}, "redis": 3},
                   lengths_s={"redis": LONG_S, **{f"way-{i + 1}": LONG_S for i in range(N_NODES)},
                              **{f"node-{i + 1}": LONG_S for i in range(N_NODES)}}, action_s=ACTION_S)


def draw(seed):
    return faults.draw(seed, menu=MENU)


def which(plan, kinds):
    """Those of the faults, in words."""
    return [str(fault) for fault in plan if (fault.target.rstrip("-0123456789"), fault.kind) in kinds]
