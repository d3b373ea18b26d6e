"""Each path asked with no, a wrong and a right token; foreign Origins; hostile bodies; formats."""

import json

import harness
from scripted_stt import ScriptedStt
from tokens import token

VIEWER, ADMIN, PUBLISH = "viewer-secret", "admin-token", "publish-secret"

# (method, path, whose token it asks for, what it answers then)
TABLE = [("GET", "/", None, 200), ("GET", "/dashboard", ADMIN, 200), ("GET", "/sessions", ADMIN, 200),
         *(("GET", f"/sessions/room/transcript.{form}", VIEWER, 200) for form in ("json", "txt", "srt", "vtt")),
         ("GET", "/metrics", ADMIN, 200), ("GET", "/metrics?format=prometheus", ADMIN, 200),
         ("GET", "/healthz", None, 200), ("GET", "/readyz", None, 200),
         ("DELETE", "/sessions/past", ADMIN, 200),
         ("POST", "/admin/kick", ADMIN, 404)]
NOBODY = b'{"session": "nobody", "what": "viewers"}'


def status(url, bearer=None, **more):
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    headers.update(more.pop("headers", {}))
    return harness.http(url, headers=headers, **more)[0]


def test_open_node():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        with harness.publisher(node, "room") as publisher:
            viewer.wait_finals(2)
            for door in ("http", "admin"):
                for path in ("/", "/dashboard", "/pages/viewer.js", "/healthz", "/readyz", "/metrics", "/sessions",
                             "/metrics?format=prometheus", "/sessions/room/transcript.json",
                             "/sessions/room/transcript.txt", "/sessions/room/transcript.srt",
                             "/sessions/room/transcript.vtt"):
                    assert status(node.url(door, path)) == 200, (door, path)
            for path, want in (("/nothing", 404), ("/sessions/none/transcript.json", 404), ("/live/room", 426),
                               ("/sessions/room/transcript.doc", 404), ("/sessions/-x/transcript.txt", 404),
                               ("/pages/../secret", 404)):
                assert status(node.url("http", path)) == want, path
            assert status(node.url("http", "/metrics"), method="POST", body=b"") == 405
            assert status(node.url("http", "/admin/kick")) == 405
            rows = harness.http_json(node.url("http", "/sessions"))
            assert rows[0]["slug"] == "room" and rows[0]["state"] == "live" and rows[0]["viewers"] == 1, rows
            assert status(node.url("http", "/sessions/room"), method="DELETE") == 409
            publisher.stop()
        viewer.wait_type("end")
        _, headers, _ = harness.http(node.url("http", "/sessions/room/transcript.json"))
        assert headers["X-Verbacast-Complete"] == "true"


def test_protected_node():
    secrets = dict(VIEWER_SECRET=VIEWER, ADMIN_TOKEN=ADMIN, PUBLISH_SECRET=PUBLISH)
    with ScriptedStt() as stt, harness.node(stt.url, **secrets) as node:
        good, other = token(VIEWER, "room"), token(VIEWER, "other")
        old, wrong, none = token(VIEWER, "room", -60), token("guess", "room"), token(VIEWER, "room", algorithm="none")
        with harness.Publisher(f"rtmp://{node.addresses['rtmp']}/live/room", seconds=2) as refused:
            assert refused.wait() != 0
        url = f"rtmp://{node.addresses['rtmp']}/live/room?token={token(PUBLISH, 'room')}"
        with harness.Publisher(url) as publisher, harness.viewer(node, "room", f"?token={good}") as viewer:
            viewer.wait_finals(1)
            for secret, want in ((None, 401), (wrong, 401), (old, 401), (none, 401), (other, 403)):
                query = f"?token={secret}" if secret else ""
                with harness.viewer(node, "room", query) as rejected:
                    rejected.wait_close()
                    assert rejected.refusal == want, (secret, rejected.refusal)
                assert status(node.url("http", f"/sessions/room/transcript.txt{query}")) == want
            assert status(node.url("http", f"/sessions/room/transcript.txt?token={good}")) == 200
            assert status(node.url("http", "/sessions/room/transcript.txt"), bearer=token(VIEWER, "*")) == 200
            for path in ("/metrics", "/sessions", "/dashboard"):
                assert status(node.url("http", path)) == 401, path
                assert status(node.url("http", path), bearer="guess") == 401, path
                assert status(node.url("http", path), bearer=ADMIN) == 200, path
                assert status(node.url("admin", path)) == 200, path
            for path in ("/healthz", "/readyz", "/"):
                assert status(node.url("http", path)) == 200, path
            kick = dict(method="POST", body=b'{"session": "room", "what": "publisher"}')
            assert status(node.url("http", "/admin/kick"), **kick) == 401
            assert status(node.url("http", "/admin/kick"), bearer=ADMIN, **kick) == 200
            viewer.wait_type("end")
        for text in (VIEWER, ADMIN, PUBLISH, good):
            assert text not in node.log()


def test_each_path_by_its_token():
    with ScriptedStt() as stt, harness.node(stt.url, VIEWER_SECRET=VIEWER, ADMIN_TOKEN=ADMIN) as node, \
            harness.publisher(node, "room"):
        viewers = token(VIEWER, "room")
        with harness.viewer(node, "room", f"?token={viewers}") as viewer:
            viewer.wait_finals(1)
        right = {ADMIN: ADMIN, VIEWER: viewers, None: ADMIN}
        for method, path, asks, answer in TABLE:
            ask = dict(method=method, body=NOBODY if method == "POST" else None)
            wrong = ("guess", token("guess", "room"), viewers if asks == ADMIN else ADMIN)
            for bearer in (None, *wrong):
                got = status(node.url("http", path), bearer, **ask)
                assert got == (401 if asks else answer), (method, path, bearer, got)
            for door in ("http", "admin"):
                got = status(node.url(door, path), right[asks], **ask)
                assert got == answer, (door, method, path, got)


def refusal(node, slug, secret):
    with harness.viewer(node, slug, f"?token={secret}") as viewer:
        viewer.wait_close()
        return viewer.refusal


def test_expired_tokens_are_good_for_the_session_that_began_with_them():
    secrets = dict(VIEWER_SECRET=VIEWER, PUBLISH_SECRET=PUBLISH, TOKEN_LEEWAY_MS=0)
    with ScriptedStt() as stt, harness.node(stt.url, **secrets) as node:
        def publish(slug, secret, **more):
            return harness.Publisher(f"rtmp://{node.addresses['rtmp']}/live/{slug}?token={secret}", **more)

        watching, publishing = token(VIEWER, "*", 8), token(PUBLISH, "*", 8)
        with publish("room", publishing) as publisher, harness.viewer(node, "room", f"?token={watching}") as viewer:
            viewer.wait_finals(1)
            with harness.viewer(node, "empty", f"?token={watching}") as waiting:
                waiting.wait_type("hello")
                assert waiting.wait_close() == 4001
            assert refusal(node, "empty", watching) == 401
            with publish("other", publishing, seconds=2) as refused:
                assert refused.wait() != 0
            with harness.viewer(node, "room", f"?token={watching}") as back:
                back.wait_finals(len(viewer.finals()) + 1)
            assert status(node.url("http", f"/sessions/room/transcript.txt?token={watching}")) == 200
            publisher.kill()
            viewer.wait(lambda message: message["type"] == "status" and message["state"] == "reconnecting", "reconnecting")
            with publish("room", publishing) as again:
                viewer.wait(lambda message: message["type"] == "status" and message["state"] == "live", "live again")
                again.stop()
            viewer.wait_type("end")
            assert viewer.wait_close() == 4001
        assert refusal(node, "room", watching) == 401


def test_foreign_origins():
    with ScriptedStt() as stt, harness.node(stt.url, ALLOWED_ORIGINS="https://friend.example") as node:
        url = node.url("http", "/sessions/room")
        foreign = {"Origin": "https://elsewhere.example"}
        assert status(url, method="DELETE", headers=foreign) == 403
        assert status(url, method="DELETE", headers={"Origin": "https://friend.example"}) == 200
        assert status(url, method="DELETE", headers={"Origin": f"http://{node.addresses['http']}"}) == 200
        for door in ("http", "admin"):
            assert status(node.url(door, "/admin/kick"), headers=foreign, method="POST", body=NOBODY) == 403


def test_an_unprotected_node_behind_a_proxy():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        for header in ({"X-Forwarded-For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}, {"Host": "node.example"}):
            for door, secret in (("http", "VIEWER_SECRET"), ("admin", "ADMIN_TOKEN")):
                for method, path, *_ in TABLE:
                    body = NOBODY if method == "POST" else None
                    code, _, text = harness.http(node.url(door, path), method=method, headers=header, body=body)
                    assert code == 403 and secret in text, (door, method, path, header, code, text)


def test_hostile_bodies():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        for path in ("/admin/kick", "/livekit/webhook", "/", "/metrics"):
            for body in (b"[" * 2048, b"{" * 60000, b"\xff" * 100, b""):
                assert 400 <= status(node.url("http", path), method="POST", body=body) < 500, path
        assert status(node.url("http", "/admin/kick"), method="POST", body=b"x" * 100000) == 413
        assert status(node.url("http", "/healthz")) == 200


def test_long_paths():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        for door in ("http", "admin"):
            assert [status(node.url(door, "/".ljust(size, "a"))) for size in (1023, 1024)] == [404, 400], door


def test_erasure():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        with harness.publisher(node, "room", seconds=3) as publisher:
            assert publisher.wait() == 0, publisher.errors()
        viewer.wait_type("end")
        code, _, body = harness.http(node.url("http", "/sessions/room"), method="DELETE")
        assert code == 200 and json.loads(body)["remains"] == [], body
        assert status(node.url("http", "/sessions/room/transcript.json")) == 404


if __name__ == "__main__":
    harness.main(globals())
