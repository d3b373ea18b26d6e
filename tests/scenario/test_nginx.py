"""The real nginx on deploy/nginx/nginx.conf before three nodes: what it does as HAProxy, and what it cannot. (release only)
(takes long)"""

import contextlib
import itertools
import json
import re
import signal

import websockets

import harness
from balancers import (certificate, check_answers_503, check_hops, check_killed, check_operators_pages,
                       check_participants, check_paths_are_logged, check_publishers, check_refuses, check_tls,
                       check_viewers, check_what_goes_through, next_node, node_of, opened)
from fleet import Fleet, Nginx


def test_publishers_are_spread_and_keep_their_addresses():
    """By a PROXY header of version 1."""
    with Fleet() as fleet, Nginx(fleet) as balancer:
        check_publishers(fleet, balancer)


def test_participants_of_one_session_speak_at_one_node():
    with Fleet() as fleet, Nginx(fleet) as balancer:
        check_participants(fleet, balancer)


def test_viewers_of_one_session_are_spread():
    with Fleet() as fleet, Nginx(fleet) as balancer:
        check_viewers(fleet, balancer)


def test_a_draining_node_passes_viewers_on():
    """It is not known to drain: what it refuses is tried elsewhere, and its viewers come back elsewhere."""
    with Fleet(DRAIN_DELAY_MS=0) as fleet, Nginx(fleet) as balancer, contextlib.ExitStack() as stack:
        viewers = opened(stack, fleet, balancer, "room", 6)
        fleet.nodes[1].signal(signal.SIGTERM)
        fleet.nodes[1].wait_log("program.stop")
        for viewer in opened(stack, fleet, balancer, "room", 4):
            assert node_of(viewer) != 1
        for viewer in viewers:
            if node_of(viewer) == 1:
                assert viewer.wait_close() == 1001
                assert node_of(opened(stack, fleet, balancer, "room", 1)[0]) != 1
        assert fleet.nodes[1].wait() == 0
        fleet.start(1)
        harness.wait_until(lambda: next_node(fleet, balancer) == 1, "it gets viewers again")


def test_a_killed_node_costs_only_its_own():
    with Fleet() as fleet, Nginx(fleet) as balancer:
        check_killed(fleet, balancer)


def test_a_node_that_is_back_gets_all_who_come():
    """No request to it has ended yet: WebSockets do not."""
    def watches():
        viewer = stack.enter_context(fleet.viewer(balancer, "room"))
        harness.wait_until(lambda: viewer.messages or viewer.is_over(), "an answer")
        return bool(viewer.messages)

    def speaks(slug="room"):
        try:
            stack.enter_context(fleet.track(balancer, slug, f"speaker {next(numbers)}"))
        except (OSError, websockets.exceptions.WebSocketException):
            return False
        return True

    def wait_all(comes, n):
        come = []
        harness.wait_until(lambda: comes() and (come.append(1) or len(come) == n), f"{n} have come")

    with Fleet() as fleet, Nginx(fleet) as balancer, contextlib.ExitStack() as stack:
        numbers = itertools.count()
        fleet.kill(0)
        for k in range(12):
            assert watches() and speaks(f"room-{k}")  # those who were sent to it have failed there
        fleet.start(0)
        fleet.kill(1)
        fleet.kill(2)
        wait_all(watches, 12)
        wait_all(speaks, 12)


def test_a_frozen_node_is_left_by_its_viewers():
    """By its silence alone: proxy_read_timeout, which no ping breaks; who comes meanwhile may wait as long."""
    with Fleet() as fleet, Nginx(fleet) as balancer, contextlib.ExitStack() as stack:
        viewers = opened(stack, fleet, balancer, "room", 6)
        fleet.nodes[0].signal(signal.SIGSTOP)
        for viewer in viewers:
            if node_of(viewer) == 0:
                viewer.wait_close(60)
        for viewer in opened(stack, fleet, balancer, "room", 4):
            assert node_of(viewer) != 0
        for viewer in viewers:
            assert viewer.is_over() == (node_of(viewer) == 0)


def test_a_node_whose_worker_hangs_gets_no_more():
    with Fleet() as fleet, Nginx(fleet) as balancer, contextlib.ExitStack() as stack:
        viewers = opened(stack, fleet, balancer, "room", 3)
        with harness.Frozen(fleet.nodes[0].process.pid, "vc-journal-0"):
            harness.wait_until(lambda: harness.http(fleet.nodes[0].url("http", "/healthz"))[0] == 503, "it says so")
            harness.wait_until(lambda: all(node_of(viewer) != 0 for viewer in opened(stack, fleet, balancer, "room", 6)),
                               "two were told, and all come elsewhere")
            assert not any(viewer.is_over() for viewer in viewers)
        harness.wait_until(lambda: next_node(fleet, balancer) == 0, "it gets viewers again")


def test_when_all_are_down():
    with Fleet() as fleet, Nginx(fleet) as balancer:
        for i in range(3):
            fleet.kill(i)
        for _ in range(3):  # tried one after the other, then known to be down
            check_answers_503(fleet, balancer)
        check_refuses(fleet, balancer)


def test_what_goes_through():
    with Fleet() as fleet, Nginx(fleet) as balancer:
        check_what_goes_through(fleet, balancer)


def test_operators_pages_stay_inside():
    with Fleet() as fleet, Nginx(fleet) as balancer:
        check_operators_pages(balancer)


def test_addresses_over_two_hops():
    with Fleet() as fleet, Nginx(fleet) as balancer:
        check_hops(fleet, balancer)
        for path in ("/live/room", "/ingest/room"):  # a node is asked for its health before
            balancer.get(path, source="127.0.0.7", headers={"X-Forwarded-For": "203.0.113.77"})
            fleet.wait_any_log(rf"http\.request address=127\.0\.0\.7 \S+ path={path} ")
        for node in fleet.nodes:
            asked = re.findall(r"http\.request address=(\S+) \S+ path=/healthz ", node.log())
            assert set(asked) <= {"127.0.0.7"}, asked


def test_one_address_has_its_bound_here():
    """Were it the nodes' to refuse, their 503 would count against them."""
    with Fleet() as fleet, Nginx(fleet) as balancer, contextlib.ExitStack() as stack:
        opened(stack, fleet, balancer, "room", 64)
        with fleet.viewer(balancer, "room") as viewer:
            harness.wait_until(viewer.is_over, "it is one too many")
            assert viewer.refusal == 503
        balancer.wait_log('node=- method=GET path="/live/room" status=503')
        status, headers, body = balancer.get(f"/live/room?token={fleet.token('room')}")
        assert status == 503 and headers["Retry-After"] == "2" and "this address" in json.loads(body)["error"], (status, body)


def test_clients_of_a_proxy_before_it_have_their_bound_each():
    def edit(text):
        return re.sub(r"^( +)#(set_real_ip_from|real_ip_)", r"\1\2", text, flags=re.M)

    with Fleet() as fleet, Nginx(fleet, edit) as balancer, contextlib.ExitStack() as stack:
        for k in range(66):
            said = {"X-Forwarded-For": f"203.0.113.200, 198.51.100.{1 + k % 2}"}
            stack.enter_context(fleet.viewer(balancer, "room", headers=said)).wait_type("hello")
        fleet.wait_any_log(r"http\.request address=198\.51\.100\.2 method=GET path=/live/room status=101")


def test_a_full_node_passes_viewers_on():
    with Fleet() as fleet, contextlib.ExitStack() as stack:
        fleet.start(0, MAX_VIEWERS=1)
        balancer = stack.enter_context(Nginx(fleet))
        for _ in range(9):  # one by one: of two at once a node that has room for one would have to close one
            opened(stack, fleet, balancer, "room", 1)
        assert fleet.viewers()[0] == 1, fleet.viewers()


def test_logs_have_paths_only():
    with Fleet() as fleet, Nginx(fleet) as balancer:
        check_paths_are_logged(fleet, balancer)
        balancer.wait_log(r"/absolute")
        balancer.wait_log(r"client=127\.0\.0\.1 node=127\.0\.0\.1:\d+ received=\d+")
        fleet.kill(0)
        for _ in range(3):
            with fleet.viewer(balancer, "room") as viewer:
                viewer.wait_type("hello")


def test_tls_ends_here():
    def edit(text):
        certificate(re.search(r"ssl_certificate (\S+)/verbacast\.crt", text).group(1))
        return re.sub(r"^( +)#(listen|ssl_)", r"\1\2", text, flags=re.M)

    with Fleet() as fleet, Nginx(fleet, edit) as balancer:
        check_tls(fleet, balancer)


if __name__ == "__main__":
    harness.main(globals())
