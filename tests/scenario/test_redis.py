"""Several nodes with one Redis: anyone watches anything anywhere, whatever dies meanwhile. (takes long)"""

import contextlib
import json
import signal
import time

import harness
import services
from fleet import Fleet
from redis_server import RedisServer
from scripted_stt import ScriptedStt
from track import tone

UTTERANCE_S = 0.2
OWNER_S = 5        # half of what an owner's key lives that nobody renews
SLOW_S = 0.3       # of a Redis that answers late
MORE = 8           # finals that show that it goes on
PASSWORD = "opensesame-4711"
KEPT = ("transcript", "status", "end")  # and of the transcripts the finals
WITHOUT_BALANCER = {"TRUSTED_PROXIES": "", "DRAIN_DELAY_MS": 0}


class Redises(contextlib.ExitStack):
    """The nodes of a story, their Redis and what speaks to them; no password in any log at the end."""

    def __init__(self, redis=None, n=3, utterance_s=UTTERANCE_S, redis_url=None, **options):
        super().__init__()
        self.redis = self.enter_context(redis or RedisServer())
        self.stt = self.enter_context(ScriptedStt(utterance_s))
        self.fleet = self.enter_context(Fleet(n, redis_url or self.redis.url, self.stt, **{**WITHOUT_BALANCER, **options}))
        self.nodes = self.fleet.nodes

    def watch(self, i, slug="room", since=None):
        query = f"&since={since[0]}.{since[1]}" if since else ""
        viewer = RawViewer(f"ws://{self.nodes[i].addresses['http']}/live/{slug}?token={self.fleet.token(slug)}{query}")
        return self.enter_context(viewer)

    def watch_all(self, slug="room", since=None):
        viewers = [self.watch(i, slug, since) for i in range(len(self.nodes))]
        for viewer in viewers:
            viewer.wait_type("hello")
        return viewers

    def publish(self, i, slug="room", **more):
        return self.enter_context(self.fleet.publisher(self.nodes[i], slug, **more))

    def begin(self, *nodes, count=3):
        """(viewers on those nodes, none named: on all; publisher) of a session on node 0, once all have heard of it."""
        viewers = [self.watch(i) for i in nodes] if nodes else self.watch_all()
        publisher = self.publish(0)
        for viewer in viewers:
            viewer.wait_finals(count)
        return viewers, publisher

    def metrics(self, i):
        return harness.http_json(self.nodes[i].url("admin", "/metrics"))

    def degraded(self, i):
        """The reason for which Redis does not serve this node; "": it does."""
        status, _, body = harness.http(self.nodes[i].url("admin", "/readyz"))
        assert status == 200, (status, body)
        return next((row["reason"] for row in json.loads(body)["degraded"] if row["what"] == "redis"), "")

    def wait_degraded(self, i, *words):
        return harness.wait_until(lambda: (reason := self.degraded(i)) and all(word in reason for word in words) and reason,
                                  f"node {i} says {words}, not {self.degraded(i)!r}")

    def wait_well(self):
        for i in range(len(self.nodes)):
            if self.fleet.is_up(i):
                harness.wait_until(lambda i=i: not self.degraded(i), f"node {i} is well")

    def transcript(self, i, form="json", slug="room"):
        token = self.fleet.token(slug)
        return harness.http(self.nodes[i].url("http", f"/sessions/{slug}/transcript.{form}?token={token}"))

    def erase(self, i, slug="room"):
        status, _, body = harness.http(self.nodes[i].url("admin", f"/sessions/{slug}"), method="DELETE")
        return status, json.loads(body)


class RawViewer(harness.Viewer):
    """Keeps the text of each frame too."""

    def __init__(self, *arguments, **more):
        self.texts = []
        super().__init__(*arguments, **more)

    def take(self, text):
        self.texts.append(text)
        super().take(text)

    def frames(self):
        """Every one as it came, but hellos without the node that signs them."""
        with self.changed:
            return [without_node(text) for text in self.texts]

    def all_but_hellos(self):
        return [text for text in self.frames() if json.loads(text)["type"] != "hello"]

    def of(self, kind):
        with self.changed:
            return [message for message in self.messages if message["type"] == kind]

    def epoch(self):
        return self.of("hello")[-1]["epoch"]

    def wait_more(self, count=MORE):
        return self.wait_finals(len(self.finals()) + count)

    def wait_epoch_after(self, epoch):
        """The hello of a newer one, and a final of it."""
        hello = self.wait(lambda message: message["type"] == "hello" and message["epoch"] > epoch, "a newer epoch")
        self.wait(lambda message: is_final(message) and message["epoch"] == hello["epoch"], "its first final")
        return hello["epoch"]

    def wait_state(self, state, reason=None):
        return self.wait(lambda message: message["type"] == "status" and message["state"] == state and
                         reason in (None, message["reason"]), f"status {state} {reason}")


def without_node(text):
    message = json.loads(text)
    if message["type"] == "hello":
        message.pop("node")
    return json.dumps(message) if message["type"] == "hello" else text


def is_final(message):
    return message["type"] == "transcript" and message["isFinal"]


def finals_of(viewer, epoch=None):
    return [(final["epoch"], final["seq"], final["text"]) for final in viewer.finals() if epoch in (None, final["epoch"])]


def same_finals(viewers, epoch=None):
    """All of them have the same; those that lag are waited for."""
    harness.wait_until(lambda: finals_of(viewers[0], epoch) and len({tuple(finals_of(viewer, epoch)) for viewer in viewers}) == 1,
                       f"all have the same finals of {epoch or 'every epoch'}")
    found = finals_of(viewers[0], epoch)
    assert len(set(found)) == len(found), found
    return found


def no_hole(viewers, since_first=True):
    """What the STT said is there from the first that was seen: its utterances are counted."""
    for viewer in viewers:
        numbers = [int(text.split(" ")[-1]) for _, _, text in finals_of(viewer)]
        first = 0 if since_first else numbers[0]
        assert numbers == list(range(first, first + len(numbers))), numbers
        assert not viewer.of("gap"), viewer.of("gap")


def stop_speaking(world, viewers, epoch=None):
    """The STT says no more, and all have heard what it said."""
    world.stt.is_silent = True
    return same_finals(viewers, epoch)


def forget_stt_sessions(stt):
    for ident in list(stt.sessions):
        stt.sessions[ident] = None
    stt.drop_all()


# --- all is well


def test_anyone_watches_any_session_through_any_node():
    with Redises(utterance_s=1.0, SESSION_RESUME_MS=20000) as world:
        viewers = world.watch_all()
        for viewer in viewers:
            assert viewer.of("hello")[0]["state"] == "idle"
        publisher = world.publish(0)
        viewers[0].wait_finals(2)
        count = len([message for message in viewers[0].messages if message["type"] == "transcript"])
        viewers[0].wait(lambda message: message["type"] == "transcript" and not message["isFinal"] and
                        viewers[0].messages.index(message) > count, "another partial")
        forget_stt_sessions(world.stt)  # its open partial gets no final
        viewers[0].wait_type("retract")
        viewers[0].wait_more(2)
        publisher.kill()
        viewers[0].wait_state("reconnecting")
        publisher = world.publish(0)
        viewers[0].wait_state("live")
        viewers[0].wait_more(2)
        publisher.stop()
        for viewer in viewers:
            assert viewer.wait_type("end")["reason"] == "publisher_left"
        frames = viewers[0].all_but_hellos()
        assert {json.loads(frame)["type"] for frame in frames} == {"transcript", "retract", "status", "end"}, frames
        assert any('"isFinal":false' in frame for frame in frames)
        for viewer in viewers[1:]:
            assert viewer.all_but_hellos() == frames
            assert [hello["epoch"] for hello in viewer.of("hello")] == [hello["epoch"] for hello in viewers[0].of("hello")]
        assert [viewer.of("hello")[-1]["node"] for viewer in viewers] == ["node-1", "node-2", "node-3"]


def answers(world, since, n_finals):
    """What a join is answered with on each node, from the hello to the last of what is over."""
    viewers = world.watch_all(since=since)
    for viewer in viewers:
        viewer.wait_finals(n_finals)
    harness.wait_until(lambda: len({tuple(viewer.frames()) for viewer in viewers}) == 1,
                       f"all are told the same: {[viewer.frames() for viewer in viewers]}")
    found = viewers[0].frames()
    for viewer in viewers:
        viewer.close()
        assert viewer.frames() == found, "more came before the close"
    return [json.loads(frame) for frame in found]


def test_a_join_elsewhere_gets_history_as_on_the_owner():
    with Redises(utterance_s=0.1, HISTORY_ON_JOIN=5, SESSION_RESUME_MS=1000) as world:
        watcher = world.watch(0)
        world.publish(0, seconds=3)
        old = watcher.wait_type("end")
        first = watcher.finals()
        assert len(first) > 10
        told = answers(world, None, 5)
        assert told[0]["state"] == "ended" and [m["seq"] for m in told if is_final(m)] == [m["seq"] for m in first[-5:]]
        since = (first[2]["epoch"], first[2]["seq"])
        told = answers(world, since, len(first) - 3)
        assert [m["seq"] for m in told if is_final(m)] == [m["seq"] for m in first[3:]]
        assert told[-1]["type"] == "end"
        told = answers(world, (1, 1), 5)
        assert [m["type"] for m in told[:2]] == ["hello", "gap"] and told[1]["to"] is None, told[:3]
        world.publish(1, seconds=3)
        watcher.wait(lambda m: m["type"] == "end" and m["epoch"] > old["epoch"], "the second end")
        both = watcher.finals()
        told = answers(world, since, len(both) - 3)
        assert [(m["epoch"], m["seq"]) for m in told if is_final(m)] == [(m["epoch"], m["seq"]) for m in both[3:]]
        epochs = [m["epoch"] for m in told]
        assert told[0]["type"] == "hello" and epochs[1:] == sorted(epochs[1:])
        world.publish(2)
        live = watcher.wait_epoch_after(told[-1]["epoch"])
        watcher.wait_more()
        late = world.watch_all(since=since)
        stop_speaking(world, late, live)
        for viewer in late:
            assert finals_of(viewer) == [entry for entry in finals_of(watcher) if entry > (*since, "~")]


def test_transcripts_and_lists_are_the_same_everywhere():
    with Redises(SESSION_RESUME_MS=1000) as world:
        viewers = world.watch_all()
        publisher = world.publish(0)
        viewers[0].wait_finals(MORE)
        said = stop_speaking(world, viewers)
        nobody_watches = world.publish(2, "other")
        for form in ("json", "txt", "srt", "vtt"):
            bodies = [world.transcript(i, form) for i in range(3)]
            assert [status for status, _, _ in bodies] == [200] * 3, bodies
            assert len({body for _, _, body in bodies}) == 1, bodies
            assert said[-1][2].lower() in bodies[0][2].lower()
            assert [headers["X-Verbacast-Complete"] for _, headers, _ in bodies] == ["true"] * 3

        def lists():
            told = [harness.http_json(node.url("admin", "/sessions?all=1")) for node in world.nodes]
            return told[0] if [row["slug"] for row in told[0]] == ["other", "room"] and told[0] == told[1] == told[2] and \
                all(row["publisher"] for row in told[0]) and told[0][1]["viewers"] == 3 else None

        rows = {row["slug"]: row for row in harness.wait_until(lists, "the same list everywhere")}
        assert rows["room"]["node"] == "node-1" and rows["other"]["node"] == "node-3"
        assert rows["room"]["epoch"] == said[0][0] and rows["room"]["state"] == "live"
        assert sorted(world.fleet.sessions(2)) == ["other", "room"] and list(world.fleet.sessions(1)) == ["room"]
        world.stt.is_silent = False
        publisher.stop()
        nobody_watches.stop()
        for viewer in viewers:
            viewer.wait_type("end")
        bodies = {world.transcript(i)[2] for i in range(3)}
        assert len(bodies) == 1 and len(json.loads(bodies.pop())["transcripts"]) == len(viewers[0].finals())


def test_a_list_of_all_nodes_that_is_too_long_is_refused():
    with Redises(n=1) as world:
        world.redis.ask("SET", "vc:node:huge", json.dumps([{"slug": "room", "node": "huge", "padding": "x" * (16 << 20)}]))
        world.redis.ask("ZADD", "vc:nodes", 9999999999999, "huge")
        status, _, body = harness.http(world.nodes[0].url("admin", "/sessions?all=1"))
        assert status == 503 and "more than 16 MiB" in json.loads(body)["error"], (status, body)
        assert world.metrics(0)["counters"]["http.fleet_refused_total"] == 1
        assert harness.http_json(world.nodes[0].url("admin", "/sessions")) == []
        world.redis.ask("DEL", "vc:node:huge")
        assert harness.http_json(world.nodes[0].url("admin", "/sessions?all=1")) == []


def test_a_node_subscribes_only_while_it_has_a_viewer():
    with Redises() as world:
        def subscribers():
            return world.redis.subscribers("vc:live:room")

        def wait_subscribers(count):
            harness.wait_until(lambda: subscribers() == count, f"{count} nodes subscribe, not {subscribers()}")

        publisher = world.publish(0)
        harness.wait_until(lambda: len(world.redis.stream("room")) > 3, "the stream grows")
        assert subscribers() == 0
        on_owner = world.watch(0)
        on_owner.wait_finals(2)
        assert subscribers() == 0
        elsewhere = [world.watch(1), world.watch(1), world.watch(2)]
        wait_subscribers(2)
        elsewhere[0].close()
        elsewhere[2].close()
        wait_subscribers(1)
        elsewhere[1].wait_more()
        elsewhere[1].close()
        wait_subscribers(0)
        on_owner.close()
        publisher.stop()
        assert not world.degraded(0)


def test_an_erasure_is_honoured_everywhere():
    with Redises(SESSION_RESUME_MS=500, DATABASE_URL="") as world:
        viewers, publisher = world.begin(count=2)
        assert world.erase(1)[0] == 409, "it is live on another node"
        publisher.stop()
        for viewer in viewers:
            viewer.wait_type("end")
            viewer.close()
        assert [world.transcript(i)[0] for i in range(3)] == [200] * 3
        status, answer = harness.wait_until(lambda: (told := world.erase(1))[0] != 409 and told, "its owner has let go", OWNER_S)
        assert status == 200 and answer["erased"], answer
        assert not world.redis.ask("EXISTS", "vc:history:room")
        harness.wait_until(lambda: [world.transcript(i)[0] for i in range(3)] == [404] * 3, "nobody has it any more")
        for viewer in world.watch_all():
            assert viewer.of("hello")[0]["state"] == "idle" and not viewer.finals()


# --- owners come and go


def test_another_node_takes_over():
    with Redises() as world:
        viewers, first = world.begin()
        old = viewers[0].epoch()
        world.publish(1)
        epochs = {viewer.wait_epoch_after(old) for viewer in viewers}
        first.wait()
        assert len(epochs) == 1
        assert world.fleet.homes("room") == [1]
        for viewer in viewers:
            viewer.wait_more(3)
        old_finals = same_finals(viewers, old)
        assert len(old_finals) == world.stt.sessions["s1"].told, "the last words of the old owner are there"
        for viewer in viewers:
            assert not viewer.of("end") and not viewer.of("gap")
            kinds = [(m["type"], m["epoch"]) for m in viewer.messages if m["epoch"]]
            assert [epoch for _, epoch in kinds] == sorted(epoch for _, epoch in kinds)
            begin = [epoch for _, epoch in kinds].index(epochs.copy().pop())
            assert kinds[begin][0] == "hello", kinds[begin]
        stop_speaking(world, viewers)
        assert world.metrics(0)["counters"]["ledger.epochs_taken_total"] == 1


def lost_rest(viewer, epoch):
    """It was told that the rest of that epoch is lost, once."""
    viewer.wait_type("gap")
    assert [(gap["epoch"], gap["to"]) for gap in viewer.of("gap")] == [(epoch, None)], viewer.of("gap")


def test_another_node_takes_over_from_one_whose_last_words_are_late():
    """Who is elsewhere will never hear them, and is told so."""
    with Redises() as world:
        viewers, first = world.begin()
        old = viewers[0].epoch()
        world.stt.holds_end = True
        world.publish(1)
        for viewer in viewers[1:]:
            viewer.wait_epoch_after(old)
            lost_rest(viewer, old)
        world.stt.holds_end = False
        first.wait()
        viewers[0].wait_epoch_after(old)
        lost_rest(viewers[0], old)
        heard, elsewhere = finals_of(viewers[0], old), finals_of(viewers[1], old)
        assert len(heard) == world.stt.sessions["s1"].told, "its own viewers have them"
        assert elsewhere == finals_of(viewers[2], old) == heard[:len(elsewhere)] != heard
        newcomer = world.watch(2, since=elsewhere[-1][:2])
        lost_rest(newcomer, old)
        stop_speaking(world, [*viewers, newcomer], viewers[0].epoch())


def test_who_joins_where_it_was_takes_it_back():
    """What was said elsewhere meanwhile is everybody's but those who watch there, and they are told."""
    with Redises() as world, world.fleet.track(world.nodes[0], "room", "Ada") as ada:
        viewers = world.watch_all()
        sounds = [ada.start(tone(20, 16000, 1))]
        for viewer in viewers:
            viewer.wait_finals(3)
        old = viewers[0].epoch()
        world.stt.holds_end = True
        world.publish(1)
        harness.wait_until(lambda: world.metrics(0)["counters"]["ledger.epochs_taken_total"] == 1, "node 0 hears of it")
        with world.fleet.track(world.nodes[0], "room", "Bob") as bob:
            sounds.append(bob.start(tone(20, 16000, 1)))
            harness.wait_until(lambda: "Bob" in str(world.fleet.sessions(0)["room"]), "Bob is in")
            world.stt.holds_end = False
            for viewer in viewers:
                viewer.wait(lambda m: is_final(m) and m["speaker"] == "Bob" and m["epoch"] > old, "Bob, in an epoch of his own")
            newest = {viewer.epoch() for viewer in viewers}
            lost_rest(viewers[0], old)
            assert len(newest) == 1 and world.fleet.homes("room") == [0]
            stop_speaking(world, viewers, newest.pop())
            for sound in sounds:
                sound.cancel()
        for viewer in viewers[1:]:
            between = {epoch for epoch, _, _ in finals_of(viewer)} - {old, viewer.epoch()}
            assert len(between) == 1 and not viewer.of("gap"), (between, viewer.of("gap"))
        same_finals(viewers[1:])


def test_an_owner_is_lost_and_nobody_comes_back():
    with Redises(SESSION_RESUME_MS=9000) as world:
        viewers, _ = world.begin()
        world.fleet.kill(0)
        rest = viewers[1:]
        for viewer in rest:
            viewer.wait_state("reconnecting", "owner_lost")
            assert viewer.wait_type("end")["reason"] == "owner_lost"
        same_finals(rest)
        no_hole(rest)
        assert rest[0].all_but_hellos() == rest[1].all_but_hellos()
        newcomer = world.watch(2, since=(rest[0].epoch(), 0))
        newcomer.wait_type("end")
        assert finals_of(newcomer) == finals_of(rest[0])
        assert newcomer.of("hello")[0]["state"] == "ended"
        world.fleet.start(0)
        back = world.watch(0)
        assert back.wait_type("hello")["state"] == "ended"


def test_an_owner_is_lost_and_its_publisher_goes_elsewhere():
    with Redises() as world:
        viewers, _ = world.begin()
        old = viewers[1].epoch()
        world.fleet.kill(0)
        world.publish(1)
        rest = viewers[1:]
        for viewer in rest:
            viewer.wait_epoch_after(old)
            viewer.wait_more(3)
            assert not viewer.of("end") and not viewer.of("gap"), viewer.messages
            assert not [status for status in viewer.of("status") if status["reason"] == "owner_lost"]
        same_finals(rest, old)
        moved = world.watch(2, since=finals_of(viewers[0])[-1][:2])
        moved.wait_epoch_after(old)
        last = finals_of(viewers[0])[-1]
        stop_speaking(world, rest)
        harness.wait_until(lambda: finals_of(moved) == [entry for entry in finals_of(rest[0]) if entry > last],
                           "who was on the lost node goes on where it was")
        assert not moved.of("gap")


def test_an_owner_is_lost_and_two_come_one_after_another():
    """The first leaves while the lost one is waited for; the second's words are everybody's too."""
    with Redises() as world:
        viewers, _ = world.begin()
        old = viewers[2].epoch()
        world.fleet.kill(0)
        with world.fleet.track(world.nodes[1], "room", "Ada") as ada:
            ada.tone(0.1)
            ada.leave()
        with world.fleet.track(world.nodes[1], "room", "Bob") as bob:
            sound = bob.start(tone(5, 16000, 1))
            for viewer in viewers[1:]:
                viewer.wait_epoch_after(old)
                harness.wait_until(lambda viewer=viewer: [m for m in viewer.of("transcript") if m["isFinal"] and m["speaker"] == "Bob"],
                                   "Bob is heard")
            assert world.redis.ask("EXISTS", "vc:owner:room") == 1
            sound.result(harness.PATIENCE_S)
            bob.leave()
        stop_speaking(world, viewers[1:])


def test_the_owner_drains():
    with Redises() as world:
        viewers, publisher = world.begin()
        old = viewers[0].epoch()
        world.nodes[0].signal(signal.SIGTERM)
        assert viewers[0].wait_close() == 1001
        publisher.wait()
        assert world.nodes[0].wait() == 0, world.nodes[0].log()[-2000:]
        for viewer in viewers:
            viewer.wait_state("reconnecting")
        same_finals(viewers)
        assert len(finals_of(viewers[0])) == world.stt.sessions["s1"].told, "the last words are there"
        world.publish(1)
        for viewer in viewers[1:]:
            viewer.wait_epoch_after(old)
        for viewer in viewers:
            assert not viewer.of("end") and not viewer.of("gap"), viewer.messages[-5:]
        last = viewers[0].messages[-1]
        moved = world.watch(2, since=(last["epoch"], last["seq"]))
        moved.wait_epoch_after(old)
        assert finals_of(moved, old) == [] and not moved.of("gap")


def test_the_owner_drains_while_redis_is_slow():
    """Its last words are not answered at once; who takes over waits for them, and misses nothing."""
    with Redises() as world:
        viewers, _ = world.begin()
        old = viewers[0].epoch()
        world.stt.holds_end = True
        world.nodes[0].signal(signal.SIGTERM)
        harness.wait_until(lambda: "reason=shutdown" in world.nodes[0].log(), "its publisher is told")
        world.publish(1)
        harness.wait_until(lambda: json.loads(world.redis.ask("GET", "vc:owner:room"))["epoch"] > old, "node 1 has claimed it")
        world.redis.freeze()
        world.stt.holds_end = False
        harness.wait_until(lambda: "event=ledger.ended" in world.nodes[0].log(), "its last words are said")
        time.sleep(SLOW_S)
        world.redis.thaw()
        assert world.nodes[0].wait() == 0, world.nodes[0].log()[-2000:]
        for viewer in viewers[1:]:
            viewer.wait_epoch_after(old)
            assert not viewer.of("gap"), viewer.of("gap")
            assert len(finals_of(viewer, old)) == world.stt.sessions["s1"].told


def test_the_owner_drains_without_redis():
    for leave in (RedisServer.freeze, RedisServer.kill):
        with Redises(n=1) as world:
            viewer = world.watch(0)
            publisher = world.publish(0)
            viewer.wait_finals(3)
            leave(world.redis)
            began = time.monotonic()
            world.nodes[0].signal(signal.SIGTERM)
            assert viewer.wait_close() == 1001
            viewer.wait_state("reconnecting")
            assert world.nodes[0].wait() == 0, world.nodes[0].log()[-2000:]
            publisher.wait()
            assert time.monotonic() - began < 10, "it did not wait for Redis"
            assert len(finals_of(viewer)) == world.stt.sessions["s1"].told, "the last words are there"


# --- Redis comes and goes


def goes_on_without(world, viewers):
    """The owner's viewers go on, the others wait; somebody new is told that nothing is known."""
    viewers[0].wait_more()
    seen = len(viewers[1].finals())
    viewers[0].wait_more()
    assert len(viewers[1].finals()) == seen, "how did it come here?"
    newcomer = world.watch(2, "room")
    assert newcomer.wait_type("hello")["state"] == "unknown"
    for i in range(3):
        world.wait_degraded(i)
    assert len(viewers[1].finals()) == seen
    return newcomer


def is_whole_again(world, viewers, newcomer):
    newcomer.wait_type("status")
    world.wait_well()
    newcomer.wait_more()
    stop_speaking(world, viewers)
    no_hole(viewers)
    no_hole([newcomer], since_first=False)
    harness.wait_until(lambda: finals_of(newcomer)[-1] == finals_of(viewers[0])[-1], "the newcomer has the last")
    assert len({viewer.epoch() for viewer in viewers}) == 1, "nobody took it from its owner"


def history_is_there_again(world, viewers):
    """Who comes late is given all of it."""
    late = world.watch(2, since=(viewers[0].epoch(), 0))
    harness.wait_until(lambda: finals_of(late) == finals_of(viewers[0]), "history was written again")
    return late


def test_redis_is_frozen():
    with Redises() as world:
        viewers, _ = world.begin(0, 1)
        world.redis.freeze()
        newcomer = goes_on_without(world, viewers)
        world.redis.thaw()
        is_whole_again(world, viewers, newcomer)


def test_redis_comes_back_empty():
    with Redises() as world:
        viewers, _ = world.begin(0, 1)
        world.redis.kill()
        newcomer = goes_on_without(world, viewers)
        world.redis.start()
        is_whole_again(world, viewers, newcomer)
        history_is_there_again(world, viewers)


def test_redis_is_flushed():
    with Redises() as world:
        viewers, _ = world.begin(0, 1, count=MORE)
        world.redis.flush()
        viewers[1].wait_more()
        stop_speaking(world, viewers)
        no_hole(viewers)
        late = history_is_there_again(world, viewers)
        harness.wait_until(lambda: world.redis.ask("GET", "vc:owner:room"), "the owner's key is there again")
        world.redis.flush()  # nobody speaks now: only the renewal finds it
        harness.wait_until(lambda: world.redis.ask("EXISTS", "vc:history:room"), "and again")
        assert len({viewer.epoch() for viewer in [*viewers, late]}) == 1


def test_redis_is_full():
    with Redises() as world:
        viewers, _ = world.begin(0, 1)
        world.redis.ask("CONFIG", "SET", "maxmemory", "1")
        world.wait_degraded(0, "OOM")
        seen = len(viewers[1].finals())
        viewers[0].wait_more()
        assert len(viewers[1].finals()) == seen
        assert world.metrics(0)["counters"]["redis.errors_oom_total"] > 0
        world.redis.ask("CONFIG", "SET", "maxmemory", "0")
        viewers[1].wait_more()
        world.wait_well()
        stop_speaking(world, viewers)
        no_hole(viewers)


def test_redis_fails_over():
    """As where one address leads to whoever is the primary: it dies, and what it led to before it is promoted."""
    with RedisServer() as primary, contextlib.closing(services.Proxy(primary.port)) as proxy, \
            RedisServer(replicaof=f"127.0.0.1 {primary.port}") as replica, \
            Redises(RedisServer(), redis_url=f"redis://127.0.0.1:{proxy.port}") as world:
        harness.wait_until(lambda: replica.info("replication")["master_link_status"] == "up", "the replica follows")
        viewers, _ = world.begin(0, 1)
        proxy.target = replica.port
        primary.kill()
        world.wait_degraded(0, "replica")
        viewers[0].wait_more()
        replica.ask("REPLICAOF", "NO", "ONE")
        viewers[1].wait_more()
        world.wait_well()
        stop_speaking(world, viewers)
        no_hole(viewers)
        assert replica.stream("room")[-1][1] >= finals_of(viewers[0])[-1][1]


def test_both_own_it_while_redis_is_away():
    with Redises() as world:
        viewers, first = world.begin()
        old = viewers[0].epoch()
        world.redis.freeze()
        viewers[0].wait_more()
        world.publish(1)
        new = viewers[1].wait_epoch_after(old)
        viewers[0].wait_more()
        assert viewers[0].epoch() == old and world.fleet.homes("room") == [0, 1]
        world.redis.thaw()
        first.wait()
        newest = {viewer.wait_epoch_after(new - 1) for viewer in viewers}
        assert world.fleet.homes("room") == [1]
        for viewer in viewers:
            viewer.wait_more()
            assert not viewer.of("end")
        assert newest == {new}, "the larger epoch wins"
        stop_speaking(world, viewers, new)


def test_an_owner_that_was_given_up_while_it_was_cut_off():
    """It ended meanwhile: others lack what it said last, and are told so when it is back."""
    with Redises(SESSION_RESUME_MS=1000) as world, contextlib.closing(services.Proxy(world.redis.port)) as proxy:
        world.fleet.start(0, REDIS_URL=f"redis://127.0.0.1:{proxy.port}")
        viewers, publisher = world.begin()
        proxy.cut()
        viewers[0].wait_more()
        publisher.stop()
        assert viewers[0].wait_type("end")["reason"] == "publisher_left"
        for viewer in viewers[1:]:
            assert viewer.wait_type("end")["reason"] == "owner_lost"
        proxy.heal()
        for viewer in viewers[1:]:
            viewer.wait(lambda message: message["type"] == "end" and message["reason"] == "publisher_left", "the owner's own end")
            assert [message["type"] for message in viewer.messages if message["type"] in ("end", "gap")] == ["end", "gap", "end"]
        world.wait_well()
        assert len(viewers[0].of("end")) == 1 and not viewers[0].of("gap"), "it has all of it"
        late = world.watch(1)
        assert late.wait_type("gap")["to"] == viewers[1].of("end")[-1]["seq"] - 1
        assert finals_of(late) == finals_of(viewers[1]), "what they have is still given"


# --- what it asks for


def no_password(world, *texts):
    for text in [node.log() for node in world.nodes] + list(texts):
        assert PASSWORD not in text, text[max(0, text.index(PASSWORD) - 200):][:400]


def test_a_password_and_a_database():
    redis = RedisServer(PASSWORD)
    with Redises(redis, redis_url=redis.url_of(database=3), REDIS_PREFIX="fleet-a:") as world:
        viewers = [world.watch(0), world.watch(1)]
        world.publish(0)
        viewers[1].wait_finals(3)
        assert redis.ask("DBSIZE") == 0
        third = redis.connection(3)
        keys = third.ask("KEYS", "*")
        third.close()
        assert {"fleet-a:history:room", "fleet-a:owner:room"} < set(keys) and all(key.startswith("fleet-a:") for key in keys), keys
        redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        viewers[1].wait_more()
        no_password(world, json.dumps(world.metrics(0)), harness.http(world.nodes[0].url("admin", "/readyz"))[2])


def test_a_wrong_password_costs_only_the_fleet():
    redis = RedisServer("another-" + PASSWORD[::-1])
    with Redises(redis, redis_url=redis.url_of(password=PASSWORD)) as world:
        reason = world.wait_degraded(0, "WRONGPASS")
        viewer = world.watch(0)
        world.publish(0)
        viewer.wait_finals(3)
        elsewhere = world.watch(1)
        assert elsewhere.wait_type("hello")["state"] == "unknown"
        no_password(world, reason)
        assert PASSWORD[::-1] not in reason
        redis.ask("CONFIG", "SET", "requirepass", PASSWORD)
        elsewhere.wait_finals(3)
        no_hole([viewer])


def test_channels_that_a_user_may_not_hear():
    with RedisServer() as redis:
        redis.ask("ACL", "SETUSER", "poor", "on", ">word", "~*", "+@all", "resetchannels", "&vc:ctl:*")
        url = f"redis://poor:word@127.0.0.1:{redis.port}"
        with Redises(contextlib.nullcontext(redis), n=2, redis_url=url) as world:
            viewers = [world.watch(0), world.watch(1)]
            world.publish(0)
            viewers[1].wait_finals(3)  # as the stream has them
            assert viewers[1].wait_type("hello") and not viewers[1].of("gap")
            world.wait_degraded(1, "a subscription is refused", "NOPERM")
            assert world.metrics(1)["counters"]["redis.subscriptions_refused_total"] > 0
            # What is written meanwhile takes nothing of that back.
            shown = int(redis.ask("TIME")[0])
            harness.wait_until(lambda: int(redis.ask("ZSCORE", "vc:nodes", "node-2")) // 1000 > shown, "node 1 was written of again")
            world.wait_degraded(1, "a subscription is refused", "NOPERM")
            assert world.nodes[1].log().count("event=redis.subscription_refused") == 1
            redis.ask("ACL", "SETUSER", "poor", "&vc:live:*")
            viewers[1].wait(lambda message: message["type"] == "transcript" and not message["isFinal"], "what is not kept")
            harness.wait_until(lambda: not world.degraded(1), "node 1 is well")
            same_finals(viewers)
            no_hole(viewers)


def test_tls_is_refused_by_name():
    for url in (f"rediss://:{PASSWORD}@127.0.0.1:6380", f"redis://:{PASSWORD}@127.0.0.1:6380/x"):
        refused = harness.Process("verbacast", {"REDIS_URL": url}, ready=False)
        try:
            assert refused.wait() in (1, 2)
            assert "REDIS_URL" in refused.log() and PASSWORD not in refused.log(), refused.log()
            assert ("TLS" in refused.log()) == url.startswith("rediss"), refused.log()
        finally:
            refused.kill()
            refused.process.stdout.close()
            harness.shutil.rmtree(refused.folder)


def test_an_eviction_policy_that_loses_history_is_told():
    with Redises(RedisServer(maxmemory_policy="allkeys-lru"), n=2) as world:
        assert "allkeys-lru" in world.wait_degraded(0, "noeviction")
        viewer = world.watch(1)
        world.publish(0)
        viewer.wait_finals(3)
        world.redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        world.redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        world.wait_well()


if __name__ == "__main__":
    harness.main(globals())
