"""One seed: its own Redis, three nodes, viewers on all of them."""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import tempfile
import time
import traceback

import harness
from fleet import Fleet, Haproxy
from fleet_history import checker, faults, generator
from history import faults as driving
from history.generator import make_frames
from redis_server import RedisServer

HEALED_S = 30     # in which all viewers must have the end
GOES_ON_S = 3     # without faults, before the publishers end
MODES = ("direct", "haproxy")
OPTIONS = {"DRAIN_DELAY_MS": 500, "SESSION_RESUME_MS": 20000, "MAX_BROADCAST_QUEUE_SIZE": 50, "LOG_LEVEL": "info",
           "DATABASE_URL": ""}


class WayFleet(Fleet):
    """Every node comes to Redis by a way of its own."""

    def __init__(self, ways, redis, *arguments, **options):
        self.ways, self.redis = ways, redis
        super().__init__(*arguments, **options)

    def start(self, i, **options):
        """While it was down a connection of anybody's may have been given its port: that ends."""
        def try_to():
            try:
                return super(WayFleet, self).start(i, REDIS_URL=self.redis.url_of(port=self.ways[i].port), **options)
            except AssertionError as error:
                if "cannot listen" not in str(error):
                    raise
                return None

        return harness.wait_until(try_to, f"node {i + 1} has its ports")


class World:
    def __init__(self, seed, mode, frames):
        self.seed, self.mode, self.frames = seed, mode, frames
        self.history = checker.History()
        self.slugs = [f"room-{k + 1}" for k in range(faults.N_SESSIONS)]
        self.turn = itertools.count(seed)
        self.stack = contextlib.ExitStack()
        self.down = set()  # nodes that are, or are going
        self.balancer = self.watchers = None
        self.publishers = []

    def open(self):
        enter = self.stack.enter_context
        self.redis = enter(RedisServer())
        self.stt = enter(contextlib.closing(generator.NumberedStt()))
        self.ways = [enter(contextlib.closing(generator.Way(self.redis.port, self.seed * 10 + i))) for i in range(faults.N_NODES)]
        trusted = "127.0.0.1" if self.mode == "haproxy" else ""
        self.fleet = WayFleet(self.ways, self.redis, faults.N_NODES, stt=self.stt, TRUSTED_PROXIES=trusted, **OPTIONS)
        self.stack.callback(self.fleet.kill_all)
        if self.mode == "haproxy":
            self.balancer = Haproxy(self.fleet)
            self.stack.callback(self.end_balancer)
            harness.wait_until(lambda: set(self.balancer.states().values()) == {"UP"}, "all nodes are up")
        self.recorder = generator.Recorder(self.redis, self.slugs, self.history)
        self.stack.callback(self.recorder.end)
        self.watchers = generator.Watchers(self)

    def end_balancer(self):
        self.balancer.process.kill()
        self.balancer.process.wait()
        shutil.rmtree(self.balancer.folder, ignore_errors=True)

    # --- doors

    def next_node(self):
        """Of those that are not known to be down, in turn: what a balancer would find."""
        up = [i for i in range(faults.N_NODES) if i not in self.down] or list(range(faults.N_NODES))
        return up[next(self.turn) % len(up)]

    def publishers_door(self, _slug):
        return self.balancer or self.fleet.nodes[self.next_node()]

    def viewers_door(self):
        return (self.balancer or self.fleet.nodes[self.next_node()]).addresses["http"]

    def door_of(self, i):
        """That node's while it is up; who was on it goes elsewhere when it is not."""
        return lambda: self.fleet.nodes[i].addresses["http"] if i not in self.down else self.viewers_door()

    # --- what is done to it

    def start_node(self, i):
        self.fleet.start(i)
        self.down.discard(i)

    def kill_node(self, i):
        self.history.deaths.append((time.monotonic(), f"node-{i + 1}"))
        self.down.add(i)
        self.fleet.kill(i)

    def drain_node(self, i):
        self.history.deaths.append((time.monotonic(), f"node-{i + 1}"))
        node = self.fleet.nodes[i]
        node.signal(signal.SIGTERM)
        self.down.add(i)
        node.check_end()

    def freeze_node(self, i):
        self.fleet.nodes[i].signal(signal.SIGSTOP)

    def thaw_node(self, i):
        self.fleet.nodes[i].signal(signal.SIGCONT)

    def flush(self):
        if self.redis.process.poll() is None:
            self.redis.flush()

    # --- the run

    def populate(self):
        dice = random.Random(self.seed)
        self.publishers = [generator.Publisher(self, slug, self.frames) for slug in self.slugs]
        for slug in self.slugs:
            for i in range(faults.N_NODES):
                self.watchers.add(f"{slug}/node-{i + 1}", slug, self.door_of(i))
            self.watchers.add(f"{slug}/roaming", slug, self.viewers_door)
            self.watchers.add(f"{slug}/slow", slug, self.viewers_door, is_slow=True, seed=dice.random())

    def has_begun(self):
        return all(any(shown.is_final for shown in viewer.shown) for viewer in self.watchers.viewers)

    def run(self, plan):
        self.populate()
        harness.wait_until(self.has_begun, "every viewer sees the first final")
        driving.drive(self, plan, faults.ACTION_S)
        healed = time.monotonic()
        self.wait_back()
        time.sleep(GOES_ON_S)
        for publisher in self.publishers:
            publisher.end()
        for publisher in self.publishers:
            publisher.join(harness.PATIENCE_S)
        complaint = self.wait_ends()
        self.history.healed_s = time.monotonic() - healed - GOES_ON_S
        return complaint

    def wait_back(self):
        """All speak again and are heard by all who watch."""
        marks = [len(viewer.shown) for viewer in self.watchers.viewers]

        def are_back():
            return all(any(shown.is_final for shown in viewer.shown[mark:]) for viewer, mark in zip(self.watchers.viewers, marks))

        harness.wait_until(are_back, "every viewer sees finals again")

    def wait_ends(self):
        """The last end that anybody was shown is what all come to."""
        limit = time.monotonic() + HEALED_S

        def last(viewer):
            shown = checker.last_of(viewer)
            return shown.position if shown and shown.kind == "end" else None

        while time.monotonic() < limit:
            by_session = [{last(viewer) for viewer in self.watchers.viewers if viewer.session == slug} for slug in self.slugs]
            if all(len(ends) == 1 and None not in ends for ends in by_session):
                return []
            time.sleep(0.1)
        return [f"not at one end in {HEALED_S} s: {by_session}"]

    def gather(self):
        history = self.history
        self.recorder.end()
        history.viewers = self.watchers.viewers if self.watchers else []
        history.said = self.stt.said
        history.breaks = [s for publisher in self.publishers for s in publisher.breaks]
        for slug in self.slugs:
            entries = self.redis.stream(slug)
            history.chains[slug] = []
            for epoch, seq, message in entries:
                self.recorder.keep(slug, f"{epoch}-{seq}", message)
                history.chains[slug].append((epoch, seq, json.loads(message)["prevFinal"]))
            if entries:
                history.ends[slug] = entries[-1][:2]

    def stop(self):
        """The nodes end as they should, having logged no secret."""
        self.watchers.end()
        for node in self.fleet.nodes:
            node.signal(signal.SIGTERM)
        for process in self.fleet.processes:
            process.check_end()
        self.fleet.check_logs()

    def keep_logs(self, folder):
        for i in range(faults.N_NODES):
            source = os.path.join(self.fleet.folder, f"node-{i + 1}")
            shutil.copytree(source, os.path.join(folder, f"node-{i + 1}"), ignore=shutil.ignore_patterns("*.db*"), dirs_exist_ok=True)
        with open(os.path.join(folder, "shown"), "w", encoding="utf-8") as file:
            for viewer in self.watchers.viewers:
                for shown in viewer.shown:
                    file.write(f"{viewer.name} {shown.at:.3f} {shown.connection} {shown.node} {shown.kind} {shown.epoch}.{shown.seq} "
                               f"{shown.ident} {'final' if shown.is_final else ''} {shown.text} {shown.gap or ''}\n")
        with open(os.path.join(folder, "redis.log"), "w", encoding="utf-8") as file:
            file.write(self.redis.log())

    def close(self):
        for publisher in self.publishers:
            publisher.end()
        if self.watchers and not self.watchers.is_ending:
            self.watchers.end()
        for publisher in self.publishers:
            publisher.join(harness.PATIENCE_S)
        self.stack.close()


def run(seed, mode=None, plan=None):
    """(complaints, figures, faults); what was recorded stays in the folder that is named when there are complaints."""
    mode = mode or MODES[seed % len(MODES)]
    plan = faults.draw(seed) if plan is None else plan
    folder = tempfile.mkdtemp(prefix=f"vc-fleet-history-{seed}-")
    world = World(seed, mode, make_frames(folder))
    world.history.may_lose = faults.which(plan, faults.MAY_LOSE)
    world.history.may_part = faults.which(plan, faults.MAY_PART)
    found = []
    try:
        for step in (world.open, lambda: found.extend(world.run(plan)), world.gather, world.stop):
            step()
    except Exception:  # a seed may fail in any way: it is told with its faults
        found.append(traceback.format_exc())
        with contextlib.suppress(Exception):  # what could be gathered says more
            world.gather()
    found += checker.complaints(world.history)
    if found:
        with contextlib.suppress(Exception):
            world.keep_logs(folder)
        found += [f"logs: {folder}", f"again: python3 tests/scenario/fleet_history/run.py --mode {mode} --seeds {seed}-{seed}"]
    world.close()
    if not found:
        shutil.rmtree(folder)
    return found, checker.figures(world.history), plan
