"""What is told of every balancer, by test_haproxy.py and test_nginx.py. `fleet` and `balancer` are up."""

import contextlib
import json
import re
import ssl
import subprocess
import time

import harness
from fleet import SECRETS
from rtmp_peer import RtmpPeer


def opened(stack, fleet, balancer, slug, n):
    """That many viewers who have been greeted."""
    viewers = [stack.enter_context(fleet.viewer(balancer, slug)) for _ in range(n)]
    for viewer in viewers:
        viewer.wait_type("hello")
    return viewers


def node_of(viewer):
    """By the first hello, which every node signs with its NODE_ID; by number."""
    return int(viewer.wait_type("hello")["node"].removeprefix("node-")) - 1


def next_node(fleet, balancer):
    """Where a viewer comes to who goes again."""
    with fleet.viewer(balancer, "passing") as viewer:
        return node_of(viewer)


class Door:
    """One of the balancer's ports, for the peer that sends bytes."""

    def __init__(self, balancer, kind):
        self.addresses = {"rtmp": balancer.addresses[kind]}
        self.number = balancer.port(kind)

    def port(self, _kind):
        return self.number


def certificate(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-keyout", f"{folder}/verbacast.key", "-out", f"{folder}/verbacast.crt"], check=True, capture_output=True)
    with open(f"{folder}/verbacast.pem", "wb") as pem:
        for part in ("crt", "key"):
            with open(f"{folder}/verbacast.{part}", "rb") as file:
                pem.write(file.read())


# --- stories


def check_publishers(fleet, balancer):
    """They are spread, and each node knows their addresses."""
    with contextlib.ExitStack() as stack:
        for k in range(9):
            stack.enter_context(fleet.peer(balancer, f"room-{k}", source=f"127.0.0.{21 + k}"))
        homes = [fleet.home(f"room-{k}") for k in range(9)]
        assert sorted(homes) == [0] * 3 + [1] * 3 + [2] * 3, homes
        for k in range(9):
            publisher = fleet.sessions(homes[k])[f"room-{k}"]["publisher"]
            assert publisher["address"] == f"127.0.0.{21 + k}", publisher


def check_participants(fleet, balancer):
    """Those of one session come to one node, and sessions are spread; when it dies they meet at another."""
    with contextlib.ExitStack() as stack:
        slugs = [f"room-{k}" for k in range(8)]
        for slug in slugs:
            for name, written in ("Ada", slug), ("Bob", slug.replace("r", "%72")), ("Eve", slug):
                stack.enter_context(fleet.track(balancer, slug, name, written))
        homes = [check_are_together(fleet, slug) for slug in slugs]
        assert len(set(homes)) > 1, homes
        fleet.kill(homes[0])
        for name in ("Ada", "Bob", "Eve"):
            stack.enter_context(fleet.track(balancer, slugs[0], name))
        assert check_are_together(fleet, slugs[0]) != homes[0]


def check_are_together(fleet, slug):
    def names():
        row = fleet.sessions(home)[slug]["publisher"]
        return sorted(one["participant"] for one in row["participants"]) == ["Ada", "Bob", "Eve"]

    home = fleet.home(slug)
    harness.wait_until(names, f"all participants of {slug} are at node-{home + 1}")
    assert fleet.homes(slug) == [home]
    return home


def check_viewers(fleet, balancer):
    """Those of one session are spread, and see its words where it is at home."""
    with contextlib.ExitStack() as stack:
        viewers = opened(stack, fleet, balancer, "room", 40)
        counts = fleet.viewers()
        assert sum(counts) == 40 and max(counts) <= 0.45 * 40, counts
        assert [sum(node_of(viewer) == i for viewer in viewers) for i in range(3)] == counts
        stack.enter_context(fleet.publisher(balancer, "room"))
        home = fleet.home("room")
        for viewer in viewers:
            if node_of(viewer) == home:
                viewer.wait_finals(1)


def check_killed(fleet, balancer):
    """A node that is killed costs only its own. How long those had to wait who came then, in seconds."""
    with contextlib.ExitStack() as stack:
        viewers = opened(stack, fleet, balancer, "room", 9)
        fleet.kill(2)
        began = time.monotonic()
        for viewer in opened(stack, fleet, balancer, "room", 6):
            assert node_of(viewer) != 2
        for k in range(4):
            stack.enter_context(fleet.peer(balancer, f"room-{k}"))
        for _ in range(6):
            assert balancer.get(f"/?token={fleet.token('room')}")[0] == 200
        took = time.monotonic() - began
        for k in range(4):
            assert fleet.home(f"room-{k}") != 2
        for viewer in viewers:
            if node_of(viewer) == 2:
                viewer.wait_close()
            else:
                assert not viewer.is_over()
        return took


def check_answers_503(fleet, balancer):
    """All nodes are down: a request."""
    status, headers, body = balancer.get(f"/sessions/room/transcript.json?token={fleet.token('room')}")
    assert status == 503 and headers["Retry-After"] == "2" and "error" in json.loads(body), (status, body)


def check_refuses(fleet, balancer):
    """All nodes are down: a viewer, and a publisher."""
    with fleet.viewer(balancer, "room") as viewer:
        harness.wait_until(viewer.is_over, "the viewer is refused")
        assert viewer.refusal == 503
    with RtmpPeer(balancer) as peer:
        peer.wait_close()


def check_what_goes_through(fleet, balancer):
    """What a page of the balancer's host may, by the name that its browser knows; and what any node does for operators."""
    with fleet.viewer(balancer, "room", headers={"Origin": f"http://{balancer.addresses['http']}"}) as viewer:
        viewer.wait_type("hello")
    with fleet.viewer(balancer, "room", headers={"Origin": "http://elsewhere.example"}) as viewer:
        harness.wait_until(viewer.is_over, "a foreign page is refused")
        assert viewer.refusal == 403, viewer.refusal
    admin = {"Authorization": "Bearer " + SECRETS["ADMIN_TOKEN"]}
    assert harness.http(balancer.url("/sessions/room"), method="DELETE")[0] == 401
    status, _, body = harness.http(balancer.url("/sessions/room"), method="DELETE", headers=admin)
    assert status == 200 and json.loads(body)["erased"], (status, body)
    for size in (2, 1 << 20):  # of a webhook a node takes that much
        status, _, body = harness.http(balancer.url("/livekit/webhook"), method="POST", body=b"x" * size)
        assert status == 404 and "LIVEKIT_API_KEY" in body, (size, status, body)


def check_operators_pages(balancer):
    """They stay inside, however they are spelt."""
    admin = {"Authorization": "Bearer " + SECRETS["ADMIN_TOKEN"]}
    for path in ("/metrics", "/metrics?format=prometheus", "/%6detrics", "/dashboard", "/healthz", "/readyz", "/read%79z",
                 "/admin/kick", "/%61dmin/kick"):
        status, _, body = balancer.get(path, headers=admin)
        assert status == 404 and "ADMIN_LISTEN" in body, (path, status, body)
    for path in ("//metrics", "/./metrics", "/x/../metrics", "/metrics.", "/readyz.", "/pages/../readyz"):
        assert balancer.get(path, headers=admin)[0] == 404, path
    assert balancer.get("/sessions")[0] == 401
    assert balancer.get("/sessions", headers=admin)[0] == 200
    assert balancer.get("/pages/viewer.js")[0] == 200


def check_hops(fleet, balancer):
    """127.0.0.1 is a proxy of ours, and 127.0.0.7 is not: what stands before it, it has written itself."""
    for k, (source, said, client) in enumerate((("127.0.0.7", "203.0.113.9", "127.0.0.7"),
                                                ("127.0.0.1", "198.51.100.4", "198.51.100.4"),
                                                ("127.0.0.1", "203.0.113.9, 198.51.100.5", "198.51.100.5"),
                                                ("127.0.0.8", None, "127.0.0.8"))):
        status, _, _ = balancer.get(f"/hops-{k}", source=source, headers={"X-Forwarded-For": said} if said else {})
        assert status == 404
        fleet.wait_any_log(rf"http\.request address={re.escape(client)} \S+ path=/hops-{k} ")


def check_paths_are_logged(fleet, balancer):
    """And no queries; a balancer that ends is looked through for the tokens."""
    token = fleet.token("room")
    balancer.get(f"/sessions/room/transcript.json?since=1&token={token}")
    balancer.wait_log(r'method=GET path="/sessions/room/transcript\.json" status=404')
    for blank in " \n\r\t":
        spaced = fleet.token("room", brace="{" + blank)
        assert balancer.get(f"/sessions/room/transcript.json?token={spaced}")[0] == 404, "it is good"
        balancer.get(f"/live/{spaced}")
    for path in (f"/live/room%3ftoken={token}", f"/live/room%3Ftoken={token}", f"/live/room&token={token}",
                 f"/live/room;token={token}", f"/live/{token}"):
        balancer.get(path)
    for line in (f"GET /a?token={token} HTTP/9.9", f"GET /a?token={token}", f"@ /a?token={token} HTTP/1.1",
                 f"GET http://host/absolute?token={token} HTTP/1.1\r\nHost: host",
                 f"GET /big?token={token} HTTP/1.1\r\nHost: host\r\nX: {'x' * 40000}",
                 f"GET /b\x01d?token={token} HTTP/1.1\r\nHost: host"):
        with RtmpPeer(Door(balancer, "http")) as raw:
            raw.send(line.encode() + b"\r\nConnection: close\r\n\r\n")
            raw.wait_close()
    with fleet.peer(balancer, "room"), fleet.viewer(balancer, "room") as viewer:
        viewer.wait_type("hello")
    balancer.wait_log(r'path="/live/room" status=101')


def check_tls(fleet, balancer):
    """It ends here, with a certificate() in the balancer's folder."""
    context = ssl.create_default_context(cafile=f"{balancer.folder}/verbacast.crt")
    with fleet.ssl_viewer(balancer, "room", context) as viewer:
        viewer.wait_type("hello")
    name = f"room?token={fleet.token('room', 'PUBLISH_SECRET')}"
    with harness.Publisher(f"rtmps://{balancer.addresses['rtmps']}/live/{name}"):
        fleet.home("room")
