"""The real HAProxy on deploy/haproxy/haproxy.cfg before three nodes: who goes where, and what it writes. (release only)
(takes long)"""

import contextlib
import json
import os
import re
import resource
import signal
import time

import harness
from balancers import (certificate, check_answers_503, check_hops, check_killed, check_operators_pages,
                       check_participants, check_paths_are_logged, check_publishers, check_refuses, check_tls,
                       check_viewers, check_what_goes_through, next_node, node_of, opened)
from fleet import Fleet, Haproxy, replace
from redis_server import RedisServer
from rtmp_peer import RtmpPeer
from track import refusal

LONG_MS = 120000  # for which sessions wait: none of them ends meanwhile
FROZEN_S = 12    # two checks without an answer and what lies between them are 5.5 s; the machine is busy


def test_publishers_are_spread_and_keep_their_addresses():
    with Fleet() as fleet, Haproxy(fleet) as balancer:
        check_publishers(fleet, balancer)
        refused = RtmpPeer(fleet.nodes[0])  # past the balancer: a header is mandatory
        refused.send(b"\x03" + bytes(1536))
        refused.wait_close()
        refused.close()
        fleet.nodes[0].wait_log("no PROXY header")


def test_participants_of_one_session_speak_at_one_node():
    with Fleet() as fleet, Haproxy(fleet) as balancer:
        check_participants(fleet, balancer)


def test_viewers_of_one_session_are_spread():
    with Fleet() as fleet, Haproxy(fleet) as balancer:
        check_viewers(fleet, balancer)


def test_viewers_at_all_nodes_see_the_words():
    """Through Redis; the last ones too, when the node of the publisher ends."""
    with RedisServer() as redis, Fleet(redis_url=redis.url) as fleet, Haproxy(fleet) as balancer:
        with contextlib.ExitStack() as stack:
            viewers = opened(stack, fleet, balancer, "room", 9)
            assert fleet.viewers() == [3, 3, 3]
            publisher = stack.enter_context(fleet.publisher(balancer, "room"))
            for viewer in viewers:
                viewer.wait_finals(2)
            leaving = fleet.home("room")
            fleet.nodes[leaving].signal(signal.SIGTERM)
            publisher.wait()
            with fleet.publisher(balancer, "room"):
                assert fleet.nodes[leaving].wait() == 0
                assert fleet.home("room") != leaving
                said = max(len(viewer.finals()) for viewer in viewers)
                for viewer in viewers:
                    if node_of(viewer) != leaving:
                        viewer.wait_finals(said + 1)


def test_a_draining_node_gets_nothing_new_and_keeps_what_it_has():
    with Fleet() as fleet, contextlib.ExitStack() as stack:
        fleet.start(1, DRAIN_DELAY_MS=10000)  # all that is looked at until it closes its own
        balancer = stack.enter_context(Haproxy(fleet))
        viewers = opened(stack, fleet, balancer, "room", 9)
        leaving = next(viewer for viewer in viewers if node_of(viewer) == 1)
        fleet.nodes[1].signal(signal.SIGTERM)
        balancer.wait_state(1, "NOLB")
        for viewer in opened(stack, fleet, balancer, "room", 6):
            assert node_of(viewer) != 1
        for k in range(4):
            stack.enter_context(fleet.peer(balancer, f"room-{k}"))
            assert fleet.home(f"room-{k}") != 1
        assert not leaving.is_over(), "it was closed before DRAIN_DELAY_MS was over"
        assert leaving.wait_close() == 1001
        assert fleet.nodes[1].wait() == 0
        assert node_of(opened(stack, fleet, balancer, "room", 1)[0]) != 1
        balancer.wait_state(1, "DOWN")
        fleet.start(1)
        balancer.wait_state(1, "UP")
        harness.wait_until(lambda: next_node(fleet, balancer) == 1, "it gets viewers again")


def test_a_killed_node_costs_only_its_own():
    with Fleet() as fleet, Haproxy(fleet) as balancer:
        assert check_killed(fleet, balancer) < 5, "nobody waits for a check"
        balancer.wait_state(2, "DOWN")


def test_a_frozen_node_is_left():
    with Fleet() as fleet, Haproxy(fleet) as balancer, contextlib.ExitStack() as stack:
        viewers = opened(stack, fleet, balancer, "room", 6)
        peers = {}
        for k in range(3):
            peer = stack.enter_context(fleet.peer(balancer, f"room-{k}"))
            peers[fleet.home(f"room-{k}")] = peer
        began = time.monotonic()
        fleet.nodes[0].signal(signal.SIGSTOP)
        for viewer in opened(stack, fleet, balancer, "room", 3):
            assert node_of(viewer) != 0, "who was sent there in between is sent on"
        balancer.wait_state(0, "DOWN")
        assert time.monotonic() - began < FROZEN_S
        for viewer in viewers:
            if node_of(viewer) == 0:
                viewer.wait_close()
            else:
                assert not viewer.is_over()
        peers[0].wait_close()
        for viewer in opened(stack, fleet, balancer, "room", 4):
            assert node_of(viewer) != 0
        stack.enter_context(fleet.peer(balancer, "room-0"))
        fleet.nodes[0].signal(signal.SIGCONT)
        balancer.wait_state(0, "UP")


def degraded(node):
    status, _, body = harness.http(node.url("admin", "/readyz"))
    assert status == 200
    return [row["what"] for row in json.loads(body)["degraded"]]


def test_a_node_whose_worker_hangs_is_left():
    """Its /readyz says 503, which it says of nothing else: not of a journal that hangs."""
    with Fleet() as fleet, Haproxy(fleet) as balancer, contextlib.ExitStack() as stack:
        viewers = opened(stack, fleet, balancer, "room", 6)
        with harness.Frozen(fleet.nodes[0].process.pid, "vc-journal-0"):
            harness.wait_until(lambda: "stuck" in degraded(fleet.nodes[0]), "it says so")
            viewers += opened(stack, fleet, balancer, "room", 3)
            assert 0 in map(node_of, viewers[6:])
        harness.wait_until(lambda: "stuck" not in degraded(fleet.nodes[0]), "it goes on")
        assert not any(viewer.is_over() for viewer in viewers)
        with harness.Frozen(fleet.nodes[0].process.pid, "vc-decode-0"):
            balancer.wait_state(0, "DOWN")
            for viewer in viewers:
                if node_of(viewer) == 0:
                    viewer.wait_close()
                else:
                    assert not viewer.is_over()
            for viewer in opened(stack, fleet, balancer, "room", 4):
                assert node_of(viewer) != 0
        balancer.wait_state(0, "UP")


def test_an_operator_takes_a_node_out():
    with Fleet() as fleet, Haproxy(fleet) as balancer, contextlib.ExitStack() as stack:
        viewers = opened(stack, fleet, balancer, "room", 3)
        balancer.ask("set server nodes/node-1 state drain; set server rtmp/node-1 state drain")
        balancer.wait_state(0, "DRAIN", ("nodes", "participants", "participants_any", "rtmp", "rtmp_any"))
        for viewer in opened(stack, fleet, balancer, "room", 4):
            assert node_of(viewer) != 0
        for k in range(2):
            stack.enter_context(fleet.peer(balancer, f"room-{k}"))
            assert fleet.home(f"room-{k}") != 0
        assert not any(viewer.is_over() for viewer in viewers)
        balancer.ask("set server nodes/node-1 state ready; set server rtmp/node-1 state ready")
        balancer.wait_state(0, "UP", ("nodes", "participants", "participants_any", "rtmp", "rtmp_any"))
        assert next_node(fleet, balancer) == 0


def test_a_node_that_takes_no_publishers_is_given_none():
    """The others have more of them, and get all the same who comes. It keeps its viewers and what it has."""
    with Fleet() as fleet, contextlib.ExitStack() as stack:
        fleet.start(0, MAX_PUBLISHERS=1)
        balancer = stack.enter_context(Haproxy(fleet))
        firsts = {}
        for k in range(3):  # one at each
            peer = stack.enter_context(fleet.peer(balancer, f"first-{k}"))
            firsts[fleet.home(f"first-{k}")] = peer
        balancer.wait_state(0, "NOLB", ("rtmp",))
        assert balancer.states()["node-1"] == "UP"
        for k in range(6):
            stack.enter_context(fleet.peer(balancer, f"room-{k}"))
            assert fleet.home(f"room-{k}") != 0
        assert len(fleet.sessions(0)) == 1, "it keeps what it has"
        assert {node_of(viewer) for viewer in opened(stack, fleet, balancer, "room", 3)} == {0, 1, 2}
        firsts[0].unpublish()
        firsts[0].close()
        balancer.wait_state(0, "UP")
        stack.enter_context(fleet.peer(balancer, "room-6"))
        assert fleet.home("room-6") == 0


def wait_said(fleet, balancer, slug, words):
    """That is what a publisher is told who comes again and again; gives back the one that was told so."""
    def told():
        peer = RtmpPeer(balancer)
        try:
            peer.ask(f"{slug}?token={fleet.token(slug, 'PUBLISH_SECRET')}")
            peer.answer()
            if words in peer.received:
                return peer
        except (AssertionError, ConnectionError):
            pass  # the node has no place for a connection as long as it has those that it refused
        peer.close()
        return None

    return harness.wait_until(told, f"{slug} is told {words}")


def test_when_all_are_full_a_session_that_waits_is_gone_on_with():
    """At the one node that has it; others are refused in words, and none is sent to a node that drains."""
    with Fleet(MAX_PUBLISHERS=1, SESSION_RESUME_MS=LONG_MS) as fleet, contextlib.ExitStack() as stack:
        fleet.start(2, DRAIN_DELAY_MS=LONG_MS)
        balancer = stack.enter_context(Haproxy(fleet))
        at = {}
        for k in range(3):  # one at each
            peer = stack.enter_context(fleet.peer(balancer, f"first-{k}"))
            at[fleet.home(f"first-{k}")] = f"first-{k}", peer
        for i in range(3):
            balancer.wait_state(i, "NOLB", ("rtmp",))
        wait_said(fleet, balancer, "new", b"Too many publishers.").close()
        fleet.nodes[2].signal(signal.SIGTERM)
        balancer.wait_state(2, "NOLB", ("rtmp_any",))
        said = len(balancer.log())
        slug, peer = at[0]
        peer.close()
        fleet.nodes[0].wait_log(f"ingest.lost slug={slug} ")
        stack.enter_context(wait_said(fleet, balancer, slug, b"NetStream.Publish.Start"))
        assert fleet.homes(slug) == [0]
        for _ in range(9):
            wait_said(fleet, balancer, "new", b"Too many publishers.").close()
        assert "node=rtmp_any/node-3" not in balancer.log()[said:]
        fleet.kill(2)


def test_participants_of_new_sessions_pass_full_nodes():
    """At once, before a check has said so; and where all but one are full."""
    with Fleet() as fleet, contextlib.ExitStack() as stack:
        for i in range(2):
            fleet.start(i, MAX_PUBLISHERS=1)
        balancer = stack.enter_context(Haproxy(fleet))
        balancer.ask("disable health rtmp/node-1")
        stack.enter_context(fleet.track(fleet.nodes[0], "full-0", "Ada"))
        fleet.home("full-0")
        for k in range(9):
            with fleet.track(balancer, f"early-{k}", "Ada") as ada:
                assert fleet.home(f"early-{k}") != 0
                ada.leave()
            harness.wait_until(lambda k=k: not fleet.homes(f"early-{k}"), "it has left")
        balancer.wait_log("status=101 .* retries=[+]1")  # of those that their names send there
        balancer.ask("enable health rtmp/node-1")
        stack.enter_context(fleet.track(fleet.nodes[1], "full-1", "Ada"))
        for i in range(2):
            balancer.wait_state(i, "NOLB", ("rtmp", "participants"))
        for k in range(12):
            stack.enter_context(fleet.track(balancer, f"late-{k}", "Ada"))
            assert fleet.home(f"late-{k}") == 2


def test_participants_are_not_parted_by_a_full_node():
    """Not when it is theirs, and not when it would be and has room again: there one would take all words from the others."""
    with Fleet() as fleet, contextlib.ExitStack() as stack:
        fleet.start(0, MAX_PUBLISHERS=1)
        balancer = stack.enter_context(Haproxy(fleet))
        first = stack.enter_context(fleet.track(fleet.nodes[0], "full", "Ada"))
        balancer.wait_state(0, "NOLB", ("rtmp", "participants"))
        adas = {}
        for k in range(9):
            adas[k] = stack.enter_context(fleet.track(balancer, f"room-{k}", "Ada"))
            assert fleet.home(f"room-{k}") != 0
        homes = {k: fleet.home(f"room-{k}") for k in adas}
        first.leave()
        balancer.wait_state(0, "UP", ("rtmp", "participants"))
        for k, home in homes.items():
            stack.enter_context(fleet.track(balancer, f"room-{k}", "Bob"))
            harness.wait_until(lambda: len(fleet.sessions(home)[f"room-{k}"]["publisher"]["participants"]) == 2, "both are there")
            assert fleet.homes(f"room-{k}") == [home]
        for n in range(60):  # until one's name sends it to the node that has room for one
            stack.enter_context(fleet.track(balancer, f"more-{n}", "Ada"))
            if fleet.home(f"more-{n}") == 0:
                break
        assert fleet.homes(f"more-{n}") == [0]
        for _ in range(2):  # before a check has said so, and then
            query = f"?participant=Bob&token={fleet.token(f'more-{n}', 'PUBLISH_SECRET')}"
            status, why = refusal(balancer, f"more-{n}", query)
            assert status == 429 and why == "Too many publishers.", (status, why)
            assert fleet.homes(f"more-{n}") == [0]
            balancer.wait_state(0, "NOLB", ("rtmp", "participants"))


def test_participants_are_not_parted_by_a_node_without_descriptors():
    """It can take none over; viewers and new sessions are passed on meanwhile."""
    with Fleet() as fleet, Haproxy(fleet) as balancer, contextlib.ExitStack() as stack:
        stack.enter_context(fleet.track(balancer, "room", "Ada"))
        home = fleet.home("room")
        pid = fleet.nodes[home].process.pid
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(soft // 4, 1024), hard))
        query = f"?participant=Bob&token={fleet.token('room', 'PUBLISH_SECRET')}"
        status, why = refusal(balancer, "room", query)
        assert status == 429 and why == "no descriptor", (status, why)
        with contextlib.ExitStack() as watching:
            viewers = opened(watching, fleet, balancer, "room", 6)
            assert not [viewer for viewer in viewers if node_of(viewer) == home]
        balancer.wait_log("/live/.* status=101 .* retries=[+]1")
        assert fleet.homes("room") == [home]
        for k in range(9):
            with fleet.track(balancer, f"new-{k}", "Ada") as ada:
                assert fleet.home(f"new-{k}") != home
                ada.leave()
        balancer.wait_log("/ingest/.* status=101 .* retries=[+]1")  # of those that their names send there
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        stack.enter_context(fleet.track(balancer, "room", "Bob"))
        assert fleet.homes("room") == [home]


def remembered(balancer):
    """{path: milliseconds that it is remembered yet}"""
    rows = re.findall(r"key=(\S+) use=\d+ exp=(\d+) ", balancer.ask("show table participants"))
    return {path: int(left) for path, left in rows}


def test_where_participants_are_is_remembered():
    """As long as one is connected, and for a while since: when their names' node has room again, and they are not there."""
    def edit(text):
        return replace(text, (r"expire 12h", "expire 2s"))

    with Fleet() as fleet, contextlib.ExitStack() as stack:
        fleet.start(0, MAX_PUBLISHERS=1)
        balancer = stack.enter_context(Haproxy(fleet, edit))
        first = stack.enter_context(fleet.track(fleet.nodes[0], "full", "Ada"))
        balancer.wait_state(0, "NOLB", ("rtmp", "participants"))
        for k in range(9):
            stack.enter_context(fleet.track(balancer, f"room-{k}", "Ada"))
        homes = {k: fleet.home(f"room-{k}") for k in range(9)}
        first.leave()
        balancer.wait_state(0, "UP", ("rtmp", "participants"))
        fleet.track(balancer, "gone", "Ada").leave()
        harness.wait_until(lambda: "/ingest/livekit/gone" not in remembered(balancer), "who has gone is forgotten")
        for k, home in homes.items():
            assert f"/ingest/livekit/room-{k}" in remembered(balancer)
            stack.enter_context(fleet.track(balancer, f"room-{k}", "Bob"))
            assert fleet.homes(f"room-{k}") == [home]


def test_who_has_gone_is_remembered_for_hours():
    """And who was not let in, never."""
    with Fleet() as fleet, Haproxy(fleet) as balancer:
        assert refusal(balancer, "nobody", "?participant=Ada")[0] == 401
        assert remembered(balancer) == {}
        fleet.track(balancer, "gone", "Ada").leave()
        harness.wait_until(lambda: not any(fleet.homes("gone")), "it has left")
        assert remembered(balancer)["/ingest/livekit/gone"] > 11 * 3600 * 1000


def test_when_all_are_full_whoever_waits_is_found():
    """Wherever that is, and though the balancer does not know: their sessions began before it did."""
    with Fleet(MAX_PUBLISHERS=2, SESSION_RESUME_MS=LONG_MS) as fleet, contextlib.ExitStack() as stack:
        for k in range(6):
            fleet.track(fleet.nodes[k % 3], f"room-{k}", "Ada").break_off()
            fleet.nodes[k % 3].wait_log(f"ingest.lost slug=room-{k} ")
        balancer = stack.enter_context(Haproxy(fleet))
        for i in range(3):
            balancer.wait_state(i, "NOLB", ("rtmp", "participants"))
        for k in range(6):
            stack.enter_context(fleet.track(balancer, f"room-{k}", "Ada"))
            assert fleet.homes(f"room-{k}") == [k % 3]


def retries_of(balancer, slug):
    """Of each participant who was let in while all were full, and has gone."""
    return re.findall(rf'node=participants_any/\S+ .* path="/ingest/livekit/{slug}" status=101 .* retries=(\S+)', balancer.log())


def test_when_all_are_full_who_was_found_is_known():
    """He comes to his node at once then, and not by trying one after the other: there may be more of them than retries."""
    with Fleet(MAX_PUBLISHERS=1, SESSION_RESUME_MS=LONG_MS) as fleet, contextlib.ExitStack() as stack:
        for k in range(3):
            fleet.track(fleet.nodes[k], f"room-{k}", "Ada").break_off()
            fleet.nodes[k].wait_log(f"ingest.lost slug=room-{k} ")
        balancer = stack.enter_context(Haproxy(fleet))
        for i in range(3):
            balancer.wait_state(i, "NOLB", ("rtmp", "participants"))
        for k in range(3):
            for n in (1, 2, 3):
                fleet.track(balancer, f"room-{k}", "Ada").break_off()
                harness.wait_until(lambda: fleet.nodes[k].log().count(f"ingest.lost slug=room-{k} ") == 1 + n, "it waits again")
                harness.wait_until(lambda: len(retries_of(balancer, f"room-{k}")) == n, "its end is logged")
            assert retries_of(balancer, f"room-{k}")[1:] == ["0", "0"], retries_of(balancer, f"room-{k}")


def test_participants_of_a_draining_node_come_back_elsewhere():
    """The balancer remembers that they were there, and the node still says so."""
    with Fleet() as fleet, Haproxy(fleet) as balancer, contextlib.ExitStack() as stack:
        ada = stack.enter_context(fleet.track(balancer, "room", "Ada"))
        leaving = fleet.home("room")
        bob = stack.enter_context(fleet.track(fleet.nodes[leaving], "room", "Bob"))
        fleet.nodes[leaving].signal(signal.SIGTERM)
        assert ada.wait_close() == 1001 and bob.wait_close() == 1001
        for name in ("Ada", "Bob"):
            stack.enter_context(fleet.track(balancer, "room", name))
        assert fleet.home("room") != leaving
        assert fleet.nodes[leaving].wait() == 0


def test_when_all_are_full_a_participant_comes_back():
    """And one of a new session hears why not."""
    with Fleet(MAX_PUBLISHERS=1, SESSION_RESUME_MS=LONG_MS) as fleet, contextlib.ExitStack() as stack:
        balancer = stack.enter_context(Haproxy(fleet))
        for k in range(3):
            last = stack.enter_context(fleet.track(balancer, f"room-{k}", "Ada"))
            home = fleet.home(f"room-{k}")
            balancer.wait_state(home, "NOLB", ("rtmp", "participants"))
        last.break_off()
        fleet.nodes[home].wait_log("ingest.lost slug=room-2 ")
        stack.enter_context(fleet.track(balancer, "room-2", "Ada"))
        assert fleet.home("room-2") == home
        got = refusal(balancer, "new", f"?participant=Ada&token={fleet.token('new', 'PUBLISH_SECRET')}")
        assert got == (503, "Too many publishers."), got


def test_an_operator_keeps_publishers_away_from_a_node():
    with Fleet() as fleet, Haproxy(fleet) as balancer, contextlib.ExitStack() as stack:
        balancer.ask("set weight rtmp/node-1 0; set weight rtmp_any/node-1 0")
        for k in range(4):
            stack.enter_context(fleet.peer(balancer, f"room-{k}"))
            assert fleet.home(f"room-{k}") != 0
        assert {node_of(viewer) for viewer in opened(stack, fleet, balancer, "room", 3)} == {0, 1, 2}
        balancer.ask("set weight rtmp/node-1 100%; set weight rtmp_any/node-1 100%")
        stack.enter_context(fleet.peer(balancer, "room-4"))
        assert fleet.home("room-4") == 0


def test_a_node_is_added_and_nobody_is_cut_off():
    def without_third(text):
        return re.sub(r"^    server node-3 .*\n", "", text, flags=re.M)

    with Fleet() as fleet, Haproxy(fleet, without_third) as balancer, contextlib.ExitStack() as stack:
        assert sorted(balancer.states()) == ["node-1", "node-2"]
        viewers = opened(stack, fleet, balancer, "room", 4)
        stack.enter_context(fleet.publisher(balancer, "room"))
        home = fleet.home("room")
        meetings = [f"meeting-{k}" for k in range(12)]
        adas = {meeting: stack.enter_context(fleet.track(balancer, meeting, "Ada")) for meeting in meetings}
        homes = {meeting: fleet.home(meeting) for meeting in meetings}
        harness.wait_until(lambda: "resync_timeout=<PAST>" in balancer.ask("show peers"), "it has something to tell")
        balancer.write(balancer.text)
        balancer.process.send_signal(signal.SIGUSR2)
        harness.wait_until(lambda: "node-3" in balancer.states(), "the new process serves")
        harness.wait_until(lambda: {f"/ingest/livekit/{meeting}" for meeting in meetings} <= set(remembered(balancer)),
                           "it knows where participants are")
        for meeting in meetings:  # some of whose names have another node now
            stack.enter_context(fleet.track(balancer, meeting, "Bob"))
            assert fleet.homes(meeting) == [homes[meeting]]
            assert not adas[meeting].socket.closed
        assert {node_of(viewer) for viewer in opened(stack, fleet, balancer, "room", 6)} == {0, 1, 2}
        for viewer in viewers:
            if node_of(viewer) == home:
                viewer.wait_finals(len(viewer.finals()) + 1)
            else:
                assert not viewer.is_over()


def test_when_all_are_down():
    with Fleet() as fleet, Haproxy(fleet) as balancer:
        assert balancer.get("/balancer")[0] == 200
        for i in range(3):
            fleet.kill(i)
        for i in range(3):
            balancer.wait_state(i, "DOWN")
        check_answers_503(fleet, balancer)
        assert balancer.get("/balancer")[0] == 503
        check_refuses(fleet, balancer)
        for i in range(3):
            fleet.start(i)
        balancer.wait_state(0, "UP")
        with fleet.viewer(balancer, "room") as viewer:
            viewer.wait_type("hello")


def test_a_full_node_passes_viewers_on():
    """It has the fewest viewers, so it is asked first each time."""
    with Fleet() as fleet, contextlib.ExitStack() as stack:
        fleet.start(0, MAX_VIEWERS=1)
        balancer = stack.enter_context(Haproxy(fleet))
        for _ in range(9):  # one by one: of two at once a node that has room for one would have to close one
            opened(stack, fleet, balancer, "room", 1)
        assert fleet.viewers() == [1, 4, 4]
        assert set(balancer.states().values()) == {"UP"}, "full is not ill"
        for i in (1, 2):
            fleet.kill(i)
            balancer.wait_state(i, "DOWN")
        with fleet.viewer(balancer, "room") as refused:
            harness.wait_until(refused.is_over, "there is no room for it anywhere")
            assert refused.refusal == 503


def test_what_goes_through():
    with Fleet() as fleet, Haproxy(fleet) as balancer:
        check_what_goes_through(fleet, balancer)


def test_operators_pages_stay_inside():
    with Fleet() as fleet, Haproxy(fleet) as balancer:
        check_operators_pages(balancer)
        text = open(balancer.configuration, encoding="utf-8").read()
        for node in fleet.nodes:
            assert node.addresses["admin"] not in text, "only checks go to the admin port"
        status, _, body = harness.http(f"http://{balancer.addresses['stats']}/metrics")
        assert status == 200 and 'haproxy_server_status{proxy="nodes",server="node-1",state="UP"} 1' in body


def test_addresses_over_two_hops():
    with Fleet() as fleet, Haproxy(fleet) as balancer:
        check_hops(fleet, balancer)
        many = {**{f"X-{i}": "more than a node reads" for i in range(62)}, "X-Forwarded-For": "203.0.113.9"}
        assert balancer.get("/hops-many", source="127.0.0.7", headers=many)[0] == 431


def test_a_tcp_proxy_before_it_tells_of_publishers():
    """And nobody else does."""
    def edit(text):
        return re.sub(r"^    #(tcp-request)", r"    \1", text, flags=re.M)

    def peer(source):
        peer = stack.enter_context(RtmpPeer(balancer, source))
        peer.send(b"PROXY TCP4 203.0.113.5 10.0.0.1 51234 1935\r\n")
        return peer

    with Fleet() as fleet, Haproxy(fleet, edit) as balancer, contextlib.ExitStack() as stack:
        peer("127.0.0.1").publish(f"room?token={fleet.token('room', 'PUBLISH_SECRET')}")
        assert fleet.sessions(fleet.home("room"))["room"]["publisher"]["address"] == "203.0.113.5"
        peer("127.0.0.9").wait_close()
        fleet.wait_any_log(r'ingest\.refused address=127\.0\.0\.9 why="broken protocol" what="no RTMP handshake"')
        stack.enter_context(fleet.peer(balancer, "direct", source="127.0.0.9"))
        assert fleet.sessions(fleet.home("direct"))["direct"]["publisher"]["address"] == "127.0.0.9"


def test_no_connection_is_given_a_listeners_port():
    """By what docs/operating.md has for a machine whose connections may have all ports."""
    def listening(path, pattern):
        with open(os.path.join(harness.ROOT, path), encoding="utf-8") as file:
            return [int(port) for port in re.findall(pattern, file.read(), flags=re.M) if int(port) >= 1024]

    with open(os.path.join(harness.ROOT, "docs", "operating.md"), encoding="utf-8") as file:
        words = re.search(r"^net\.ipv4\.ip_local_reserved_ports = (\S+)$", file.read(), flags=re.M).group(1).split(",")
    ranges = [(int(first), int(last or first)) for first, _, last in (word.partition("-") for word in words)]
    ports = (listening("deploy/haproxy/haproxy.cfg", r"^    #?bind \S*:(\d+)") + listening("deploy/nginx/nginx.conf", r"^ +#?listen (\d+)") +
             listening("docs/configuration.md", r"`(?:HTTP|ADMIN|RTMP|STT|SINK)_LISTEN` \| \S+ \| `127\.0\.0\.1:(\d+)`"))
    assert len(set(ports)) > 6, ports
    for port in ports:
        assert any(first <= port <= last for first, last in ranges), port


def test_logs_have_paths_only():
    with Fleet() as fleet, Haproxy(fleet) as balancer:
        check_paths_are_logged(fleet, balancer)
        balancer.wait_log(r'path="/absolute"')
        balancer.wait_log(r"client=127\.0\.0\.1:\d+ node=rtmp/node-\d received=\d+")


def test_tls_ends_here():
    def edit(text):
        folder = re.search(r"crt (\S+)/verbacast\.pem", text).group(1)
        certificate(folder)
        return re.sub(r"^    #(bind|http-request)", r"    \1", text, flags=re.M)

    with Fleet() as fleet, Haproxy(fleet, edit) as balancer:
        check_tls(fleet, balancer)
        status, headers, _ = balancer.get("/?session=room")
        assert status == 308 and headers["Location"].startswith("https://"), (status, headers)


if __name__ == "__main__":
    harness.main(globals())
