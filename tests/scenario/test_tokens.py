"""Who may publish and watch by which token: each algorithm, wrong ones, keys that change, and logs without a word of them."""

import hashlib
import hmac
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import harness
import tokens
from redis_server import RedisServer
from rtmp_peer import RtmpPeer
from scripted_stt import ScriptedStt
from track import Track, refusal

NOWHERE = "http://127.0.0.1:9/v2/live"
made = []  # every token of this file: none of them may be in a log


def pems(key):
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


class Signer:
    """A server that makes tokens: `key` signs, `secret` is what the node is told."""

    def __init__(self, algorithm):
        self.algorithm = algorithm
        if algorithm == "HS256":
            self.key = self.secret = os.urandom(24).hex()
        else:
            self.key, self.secret = pems(rsa.generate_private_key(65537, 2048) if algorithm == "RS256"
                                         else ec.generate_private_key(ec.SECP256R1()))

    def sign(self, session="demo", expires_s=3600, algorithm=None, **more):
        claims = {"session": session, "exp": int(time.time()) + expires_s, **more}
        made.append(jwt.encode(claims, self.key, algorithm=algorithm or self.algorithm, headers={"kid": "any"}))
        return made[-1]


def compact(value):
    return (value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))).encode()


def by_hand(header, key, claims=None):
    """A token that no library makes: HMAC of anything, with anything."""
    head = tokens.encode(compact(header))
    body = tokens.encode(compact(claims or {"session": "demo", "exp": int(time.time()) + 3600}))
    digest = hmac.new(key.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest() if key is not None else b""
    made.append(f"{head}.{body}.{tokens.encode(digest)}")
    return made[-1]


SIGNERS = {algorithm: Signer(algorithm) for algorithm in ("HS256", "RS256", "ES256")}


def published(node, name, app="live"):
    with RtmpPeer(node) as peer:
        peer.ask(name, app)
        answer = peer.answer()
        if answer == "Start":
            peer.unpublish()
        return answer


def watched(node, token, session="demo"):
    status, _, body = harness.http(node.url("http", f"/sessions/{session}/transcript.txt?token={token}"))
    return (200 if status == 404 else status), body  # 404: let in, and nobody has spoken


def check(node, token, status, why=""):
    """Publishers and viewers are told the same."""
    answer = published(node, f"demo?token={token}")
    assert answer == ("Start" if status == 200 else "Denied"), (answer, status, why)
    got, body = watched(node, token)
    assert got == status and why in body, (got, status, body, why)
    assert status == 200 or node.wait_log(f"ingest.refused.*{why}")
    track = harness.Viewer(f"ws://{node.addresses['http']}/ingest/livekit/demo?participant=anna&token={token}")
    with track, harness.viewer(node, "demo", f"?token={token}") as viewer:
        if status == 200:
            viewer.wait_type("hello")
            harness.wait_until(lambda: track.socket, "a track is taken")
        else:
            viewer.wait_close()
            track.wait_close()
            assert viewer.refusal == track.refusal == status, (viewer.refusal, track.refusal, status)


def check_unlogged(node):
    last = f"/last-{time.monotonic_ns()}"
    for path in ("/healthz", last):  # lines are written in their order, a moment later
        harness.http(node.url("http", path))
    node.wait_log(last)
    log = node.log()
    assert "level=debug event=http.request" in log
    for token in made:
        for part in token.split("."):
            assert part == "" or part not in log, f"{part} of a token is in the log"


def protected(stt_url, secret, **more):
    return harness.node(stt_url, PUBLISH_SECRET=secret, VIEWER_SECRET=secret, LOG_LEVEL="debug", **more)


def confusions(signer):
    """What must not be taken although it is signed: by what everybody may read, or by nothing."""
    yield by_hand({"alg": "none"}, None)
    yield by_hand({"alg": "None", "typ": "JWT"}, None)
    yield by_hand({"alg": "none"}, signer.secret)
    if signer.algorithm != "HS256":
        for key in (signer.secret, signer.secret.strip(), signer.secret + "\n", "".join(signer.secret.split("\n")[1:-2])):
            yield by_hand({"alg": "HS256", "typ": "JWT"}, key)
    for other in SIGNERS.values():
        if other is not signer:
            yield other.sign()
    yield signer.sign(algorithm=signer.algorithm[:2] + "512") if signer.algorithm != "ES256" else signer.sign()[:-4] + "AAAA"


def check_signer(node, signer):
    stranger = Signer(signer.algorithm)
    check(node, signer.sign(), 200)
    check(node, signer.sign("*"), 200)
    check(node, signer.sign(iss="https://id.example", aud=["us", "others"], sub="anna", name="Анна", roles=["x"] * 100), 200)
    check(node, signer.sign(expires_s=-20), 200)  # within the leeway
    check(node, signer.sign(nbf=int(time.time()) + 20), 200)
    check(node, signer.sign(expires_s=-120), 401, "has expired")
    check(node, signer.sign(nbf=int(time.time()) + 120), 401, "not valid yet")
    check(node, signer.sign("other"), 403, "for another session")
    check(node, stranger.sign(), 401, "not signed with a key")
    check(node, signer.sign(exp="tomorrow"), 401, "exp is missing")
    for token in confusions(signer):
        check(node, token, 401, "is not valid")
    deep = '{"a":' + "[" * 2000 + "]" * 2000 + "}"
    for header, claims in (({"alg": "HS256"}, deep), (deep, {})):
        check(node, by_hand(header, signer.secret, claims), 401, "no JSON Web Token")
    check(node, "", 401, "is not valid")
    check(node, "x" * 7000, 401, "is not valid")
    assert published(node, "demo") == "Denied"
    assert harness.http(node.url("http", "/sessions/demo/transcript.txt"))[0] == 401


def test_each_algorithm():
    with ScriptedStt() as stt:
        for signer in SIGNERS.values():
            with protected(stt.url, signer.secret, TOKEN_LEEWAY_MS=60000) as node:
                check_signer(node, signer)
                counters = harness.http_json(node.url("admin", "/metrics"))["counters"]
                assert counters["ingest.token_refused_total"] >= 10 and counters["http.token_refused_total"] >= 20
                check_unlogged(node)
                assert signer.secret.split("\n", 2)[-1] not in node.log()


def test_a_session_by_public_keys():
    """A real publisher and a viewer, each with a token of another kind."""
    with tempfile.TemporaryDirectory(prefix="vc-tokens-") as folder, ScriptedStt() as stt:
        secrets = dict(PUBLISH_SECRET="@" + write(folder, "publish.pem", SIGNERS["RS256"].secret),
                       VIEWER_SECRET="@" + write(folder, "view.pem", SIGNERS["ES256"].secret))
        with harness.node(stt.url, LOG_LEVEL="debug", **secrets) as node:
            bearer = {"Authorization": f"Bearer {SIGNERS['ES256'].sign()}"}
            with harness.publisher(node, f"demo?token={SIGNERS['RS256'].sign()}"), \
                    harness.viewer(node, "demo", headers=bearer) as viewer:
                viewer.wait_finals(2)
            # Each secret is for its own: nobody who may watch may publish by that, nor the reverse.
            assert published(node, f"demo?token={SIGNERS['ES256'].sign()}") == "Denied"
            assert watched(node, SIGNERS["RS256"].sign())[0] == 401
            check_unlogged(node)


def test_a_viewer_whose_token_expires_is_closed():
    secret = "".join((SIGNERS["RS256"].secret, SIGNERS["ES256"].secret, ",", SIGNERS["HS256"].secret))
    with harness.node(NOWHERE, VIEWER_SECRET=secret, TOKEN_LEEWAY_MS=0) as node:
        viewers = [harness.viewer(node, "demo", f"?token={signer.sign(expires_s=4)}") for signer in SIGNERS.values()]
        for viewer in viewers:
            with viewer:
                viewer.wait_type("hello")
                assert viewer.wait_close() == 4001, viewer.close_code


def test_a_token_that_was_not_valid_when_its_session_began():
    signer = SIGNERS["HS256"]
    with ScriptedStt() as stt, protected(stt.url, signer.secret, TOKEN_LEEWAY_MS=0) as node, RtmpPeer(node) as peer:
        peer.ask(f"demo?token={signer.sign()}")
        assert peer.answer() == "Start"
        begun = time.time()
        harness.wait_until(lambda: int(time.time()) > begun, "a token's whole second is later than the session's beginning")
        earlier, later = signer.sign(expires_s=3), signer.sign(expires_s=3, nbf=int(time.time()))
        with harness.viewer(node, "demo", f"?token={earlier}") as stays, harness.viewer(node, "demo", f"?token={later}") as goes:
            goes.wait_type("hello")
            assert goes.wait_close() == 4001, goes.close_code
            assert watched(node, earlier)[0] == 200 and stays.close_code is None
        status, body = watched(node, later)
        assert status == 401 and "has expired" in body, (status, body)
        assert published(node, f"demo?token={later}") == "Denied"
        assert published(node, f"demo?token={earlier}") == "Start"


def test_an_expired_token_at_another_node():
    """A viewer comes back where its balancer sends it: the session is on in the fleet."""
    signer = SIGNERS["HS256"]
    with ScriptedStt() as stt, RedisServer() as redis:
        options = dict(TOKEN_LEEWAY_MS=0, SESSION_RESUME_MS=1000, REDIS_URL=redis.url)
        with protected(stt.url, signer.secret, **options) as one, protected(stt.url, signer.secret, **options) as other:
            token, of_any = signer.sign(expires_s=3), signer.sign("*", expires_s=3)
            with harness.publisher(one, f"demo?token={token}"):
                with harness.viewer(one, "demo", f"?token={token}") as viewer:
                    viewer.wait_finals(1)
                later = signer.sign(expires_s=0, nbf=int(time.time()))
                harness.wait_until(lambda: watched(other, of_any, "none")[0] == 401, "they have expired")
                assert watched(other, token)[0] == 200 and watched(other, later)[0] == 401
                with harness.viewer(other, "demo", f"?token={token}") as viewer:
                    viewer.wait_finals(len(viewer.finals()) + 3)
                    assert viewer.close_code is None
                redis.freeze()  # and it is not known that it is on: nobody is sent away for good
                status, body = watched(other, token)
                assert status == 503 and "is not known now" in body, (status, body)
                status, why = refusal(other, "demo", f"?participant=Ada&token={token}")
                assert status == 429 and "is not known now" in why, (status, why)
                redis.thaw()
                harness.wait_until(lambda: watched(other, token)[0] == 200, "it is known again")
            harness.wait_until(lambda: watched(other, token)[0] == 401, "the session is over")


def test_a_publisher_comes_back_to_another_node():
    """Its node dies when its token has expired; the session is on in the fleet, until it is over."""
    signer = SIGNERS["HS256"]
    with ScriptedStt() as stt, RedisServer() as redis:
        options = dict(TOKEN_LEEWAY_MS=0, SESSION_RESUME_MS=1000, REDIS_URL=redis.url)
        with protected(stt.url, signer.secret, **options) as other, protected(stt.url, signer.secret, **options) as dying:
            token, of_any = signer.sign(expires_s=3), signer.sign("*", expires_s=3)
            later = signer.sign(expires_s=3, nbf=int(time.time()) + 2)
            with harness.viewer(other, "demo", f"?token={signer.sign()}") as viewer:
                with harness.publisher(dying, f"demo?token={token}"):
                    viewer.wait_finals(1)
                    harness.wait_until(lambda: published(other, f"none?token={of_any}") == "Denied", "they have expired")
                    with Track(dying, "demo", "Ada", rate=16000, channels=1, token=signer.sign()) as ada:
                        ada.tone(0.2)
                        os.kill(dying.process.pid, signal.SIGKILL)
                        dying.process.wait()
                n = len(viewer.finals())
                assert published(other, f"demo?token={later}") == "Denied", "it was not valid when the session began"
                with harness.publisher(other, f"demo?token={token}"):
                    viewer.wait_finals(n + 3)
                    for _ in range(2):  # a participant comes as well, and once more
                        with Track(other, "demo", "Ada", rate=16000, channels=1, token=token) as ada:
                            ada.tone(0.2)
                    assert refusal(other, "demo", f"?participant=Bob&token={later}")[0] == 401
                assert viewer.close_code is None
            harness.wait_until(lambda: redis.ask("EXISTS", "vc:owner:demo") == 0, "the session is over")
            assert published(other, f"demo?token={token}") == "Denied", "it is on nowhere"
            redis.kill()
            other.wait_log("health.degraded.*what=redis")
            assert published(other, f"demo?token={token}") == "Denied"
            assert other.wait_log("ingest.refused.*the token has expired, and Redis")
            counters = harness.http_json(other.url("admin", "/metrics"))["counters"]
            assert counters["ingest.comebacks_asked_total"] >= 4, counters
            assert counters["ingest.comebacks_unanswered_total"] == 1, counters
            check_unlogged(other)
            dying.process.returncode = 0  # it ended as it should


def test_a_participant_that_was_given_up_comes_back():
    """While another one goes on with the session."""
    signer = SIGNERS["HS256"]

    def wait_ended(n):
        harness.wait_until(lambda: node.log().count("event=ingest.end ") == n, f"{n} have ended")

    with ScriptedStt() as stt, protected(stt.url, signer.secret, TOKEN_LEEWAY_MS=0, SESSION_RESUME_MS=500) as node:
        token = signer.sign("*", expires_s=5)  # good when the session begins, however slow the machine is
        shape = dict(rate=16000, channels=1)
        with Track(node, "demo", "Bob", token=signer.sign(), **shape) as bob:
            bob.tone(0.2)
            harness.wait_until(lambda: watched(node, token, "none")[0] == 401, "it has expired")
            later = signer.sign(expires_s=0, nbf=int(time.time()))
            for n in range(1, 3):
                with Track(node, "demo", "Ada", token=token, **shape) as ada:
                    ada.tone(0.2)
                wait_ended(n)
            assert refusal(node, "demo", f"?participant=Ada&token={later}")[0] == 401
            bob.tone(0.2)
            bob.leave()
        wait_ended(3)
        assert refusal(node, "demo", f"?participant=Ada&token={token}")[0] == 401
        check_unlogged(node)


def write(folder, name, text):
    """As a deployment does it: never half a file."""
    path = os.path.join(folder, name)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)
    return path


def reload(node, times):
    node.signal(signal.SIGHUP)
    harness.wait_until(lambda: node.log().count("secrets.reload") == times, "the secrets are read again")


def taken(node, signers):
    return [watched(node, signer.sign())[0] == 200 and published(node, f"demo?token={signer.sign()}") == "Start"
            for signer in signers]


def test_keys_that_change():
    old, new, text = SIGNERS["RS256"], SIGNERS["ES256"], SIGNERS["HS256"]
    with tempfile.TemporaryDirectory(prefix="vc-tokens-") as folder:
        path = write(folder, "keys", old.secret)
        with protected(NOWHERE, "@" + path) as node:
            assert taken(node, (old, new, text)) == [True, False, False]
            write(folder, "keys", new.secret + old.secret)  # cat new.pem old.pem
            assert taken(node, (old, new, text)) == [True, False, False], "nobody has said that they changed"
            reload(node, 1)
            assert taken(node, (old, new, text)) == [True, True, False]
            write(folder, "keys", f"{new.secret},{text.secret}")
            reload(node, 2)
            assert taken(node, (old, new, text)) == [False, True, True]
            for n, broken in enumerate((old.key, new.secret[:90], new.secret + "and a text", ""), 1):
                write(folder, "keys", broken)
                reload(node, 2 + n)
                assert node.log().count("level=error event=secrets.reload") == n
                assert taken(node, (old, new, text)) == [False, True, True], "what is no key takes none away"
            check_unlogged(node)
            assert text.secret not in node.log() and old.key.split("\n")[1] not in node.log()


def test_a_changed_secret_closes_nobody():
    signer = SIGNERS["HS256"]
    with tempfile.TemporaryDirectory(prefix="vc-tokens-") as folder, ScriptedStt() as stt:
        path = write(folder, "keys", signer.secret)
        with protected(stt.url, "@" + path) as node:
            with harness.publisher(node, f"demo?token={signer.sign()}"), \
                    harness.viewer(node, "demo", f"?token={signer.sign()}") as viewer:
                viewer.wait_finals(1)
                write(folder, "keys", "another secret")
                reload(node, 1)
                assert taken(node, (signer,)) == [False], "it counts for those who come"
                viewer.wait_finals(len(viewer.finals()) + 2)
                assert viewer.close_code is None
            check_unlogged(node)


def test_two_files():
    with tempfile.TemporaryDirectory(prefix="vc-tokens-") as folder:
        new, old = (write(folder, f"{name}.pem", SIGNERS[name].secret) for name in ("ES256", "RS256"))
        with protected(NOWHERE, f"@{new},@{old}") as node:
            assert taken(node, (SIGNERS["RS256"], SIGNERS["ES256"], SIGNERS["HS256"])) == [True, True, False]
            os.unlink(old)
            write(folder, "RS256.pem", Signer("RS256").secret)
            reload(node, 1)
            assert taken(node, (SIGNERS["RS256"], SIGNERS["ES256"])) == [False, True]


def test_what_is_no_key_is_refused_at_the_start():
    weak = pems(rsa.generate_private_key(65537, 1024))[1]
    other = pems(ec.generate_private_key(ec.SECP384R1()))[1]
    for secret, why in ((SIGNERS["RS256"].key, "no public key"), (weak, "1024 bits"), (other, "secp384r1"),
                        (SIGNERS["RS256"].secret[:100], "without its end")):
        for arguments in ((), ("--check-config",)):
            node = harness.Process("verbacast", {"VIEWER_SECRET": secret}, ready=False, arguments=arguments)
            with node.process.stdout:
                assert node.wait() == 2
            log = node.log()
            assert "VIEWER_SECRET: the secret" in log and why in log and secret[30:60] not in log, log
    node = harness.Process("verbacast", {"LIVEKIT_API_KEY": "key", "LIVEKIT_API_SECRET": ",".join("123456789")}, ready=False)
    with node.process.stdout:
        assert node.wait() == 2
    assert "LIVEKIT_API_SECRET: the secret" in node.log(), node.log()


def run(folder, program, text):
    return subprocess.run([program, "-c", text], cwd=folder, check=True, capture_output=True, text=True).stdout.split()


def test_the_manuals_examples():
    with open(os.path.join(harness.ROOT, "docs", "tokens.md"), encoding="utf-8") as file:
        blocks = re.findall(r"^```(\w*)\n(.*?)^```", file.read(), re.M | re.S)
    make_keys = next(text for _, text in blocks if "ecparam" in text).splitlines()
    with tempfile.TemporaryDirectory(prefix="vc-tokens-") as folder:
        run(folder, "sh", "\n".join(line for line in make_keys if "ecparam" in line or "-pubout" in line))
        made_there = run(folder, "sh", dict(blocks)["sh"]) + run(folder, "/usr/bin/python3", dict(blocks)["python"])
        assert len(made_there) == 3, made_there
        made.extend(made_there)
        with protected(NOWHERE, f"the secret,@{folder}/public.pem") as node:
            for token in made_there:
                assert watched(node, token)[0] == 200, token
            check_unlogged(node)


API_KEY, API_SECRET = "APIkey", "a secret of LiveKit's that is long enough"
FAR = {"X-Forwarded-For": "192.0.2.7"}


def join(room="demo", key=API_KEY, secret=API_SECRET, expires_s=600, grants=None, **more):
    """As LiveKit's SDKs make them for who joins a room."""
    now = int(time.time())
    video = {"room": room, "roomJoin": True, "canPublish": True, "canSubscribe": True, **(grants or {})}
    claims = {"iss": key, "sub": "anna", "nbf": now, "exp": now + expires_s, "name": "Anna", "video": video, **more}
    made.append(jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, algorithm="HS256"))
    return made[-1]


def joined(node, token, session="demo", **headers):
    path = f"/sessions/{session}/transcript.txt" + (f"?token={token}" if token else "")
    status, _, body = harness.http(node.url("http", path), headers=headers)
    return (200 if status == 404 else status), body


JOINS = ((join(), 200, ""), (join(grants={"canSubscribe": False}), 403, "hear the room"), (join("other"), 403, "another session"),
         (join(grants={"roomJoin": False, "roomAdmin": True}), 403, "join a room"), (join(secret="guess"), 401, "not signed"),
         (join(key="APIother"), 401, "LIVEKIT_API_KEY"), (join(expires_s=-60), 401, "has expired"),
         (join(exp=None), 401, "exp is missing"), (join(nbf=2000000000, exp=2000000060), 401, "not valid yet"),
         (join(video=None), 403, "join a room"))


def test_livekits_tokens_to_join_a_room():
    viewers = SIGNERS["ES256"]
    with tempfile.TemporaryDirectory(prefix="vc-tokens-") as folder:
        path = write(folder, "livekit", API_SECRET)
        options = dict(LIVEKIT_API_KEY=API_KEY, LIVEKIT_API_SECRET="@" + path, LOG_LEVEL="debug", PUBLISH_SECRET=API_SECRET)
        with harness.node(NOWHERE, VIEWER_SECRET=viewers.secret, **options) as node:
            for token, status, why in (*JOINS, (viewers.sign(), 200, ""), (viewers.sign("other"), 403, "another session")):
                got, body = joined(node, token)
                assert got == status and why in body, (got, status, body, why)
            assert joined(node, None)[0] == 401
            assert published(node, f"demo?token={join()}") == "Denied"
            with harness.viewer(node, "demo", f"?token={join()}") as viewer:
                viewer.wait_type("hello")
            slug = "Raum-1--" + hashlib.sha256(b"Raum 1").hexdigest()[:16]
            assert joined(node, join("Raum 1"), slug)[0] == 200 and joined(node, join("Raum 2"), slug)[0] == 403
            write(folder, "livekit", f"another {API_SECRET},{API_SECRET}")
            reload(node, 1)
            assert joined(node, join())[0] == 200 and joined(node, join(secret=f"another {API_SECRET}"))[0] == 200
            write(folder, "livekit", f"another {API_SECRET}")
            reload(node, 2)
            assert joined(node, join())[0] == 401 and joined(node, join(secret=f"another {API_SECRET}"))[0] == 200
            check_unlogged(node)


def test_livekits_keys_without_a_viewers_secret():
    """This machine is asked for nothing, as without them; others are."""
    options = dict(LIVEKIT_API_KEY=API_KEY, LIVEKIT_API_SECRET=API_SECRET, LOG_LEVEL="debug")
    with harness.node(NOWHERE, **options) as node:
        assert joined(node, None)[0] == 200 and harness.http(node.url("http", "/metrics"))[0] == 200
        assert joined(node, None, **FAR)[0] == 401 and harness.http(node.url("http", "/metrics"), headers=FAR)[0] == 401
        assert harness.http(node.url("admin", "/metrics"), headers=FAR)[0] == 403
        for token, status, why in JOINS:
            got, body = joined(node, token, **FAR)
            assert got == status and why in body, (got, status, body, why)
            with harness.viewer(node, "demo", f"?token={token}", headers=FAR) as viewer:
                if status == 200:
                    viewer.wait_type("hello")
                else:
                    viewer.wait_close()
                    assert viewer.refusal == status, (viewer.refusal, status)
        check_unlogged(node)
    options["HTTP_LISTEN"] = "0.0.0.0:0"
    for missing in (None, "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        settings = {key: value for key, value in options.items() if key != missing}
        node = harness.Process("verbacast", settings, ready=False, arguments=("--check-config",))
        with node.process.stdout:
            assert node.wait() == (1 if missing else 0), node.log()


PATHS = ("/live/demo%3Ftoken={}", "/live/demo&token={}", "/live/{}", "/{}", "/sessions/demo/transcript.txt%3ftoken={}",
         "/sessions/{}/transcript.txt", "/live/demo?token={}x", "/live/demo?jwt={}&token={}x", "//demo;token={}")
NAMES = (("demo&token={}", "live"), ("demo%3Ftoken={}", "live"), ("{}", "live"), ("demo/{}", "live"), ("{}/demo", "live"),
         ("demo?jwt={}", "live"), ("demo?token={}x", "live"), ("demo", "live/{}"), ("demo", "live%3Ftoken={}"),
         ("demo", "live?token={}"), ("demo", "other;token={}"), ("demo", "{}"))


HEADS = ("GET /live/demo HTTP/{}", "GET /live/demo?token={} HTTP/1.1 {}", "GET {} HTTP/1.1", "{} /live/demo HTTP/1.1",
         "GET http://{}/live/demo?token={} HTTP/1.1",
         "GET /live/demo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
         "Sec-WebSocket-Key: {}\r\nSec-WebSocket-Protocol: {}\r\nAuthorization: Bearer {}")


def send_head(node, kind, head):
    """As no client does it; the answer is of no interest, or there is none."""
    with socket.create_connection(("127.0.0.1", node.port(kind)), timeout=harness.PATIENCE_S) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass


def test_a_token_in_a_broken_head_is_not_logged():
    token = SIGNERS["HS256"].sign()
    with protected(NOWHERE, SIGNERS["HS256"].secret) as node:
        for head in HEADS:
            for kind in ("http", "admin"):
                send_head(node, kind, head.replace("{}", token))
        assert node.wait_log("level=debug event=http.civetweb")
        check_unlogged(node)


def test_a_token_at_a_wrong_place_is_not_logged():
    short = by_hand({"alg": "HS256"}, SIGNERS["HS256"].secret)
    assert len(short) <= 128, "it could be a session's name"
    spaced = by_hand('{ "alg" : "HS256" }', SIGNERS["HS256"].secret)  # does not begin as most do
    with protected(NOWHERE, SIGNERS["HS256"].secret) as node:
        check(node, spaced, 200)
        n_refused = 0
        for token in (short, spaced, SIGNERS["HS256"].sign("*")):
            for path in (path.replace("{}", token) for path in PATHS):
                for method in ("GET", "DELETE"):
                    harness.http(node.url("http", path), method=method, headers={"Authorization": f"Basic {token}"})
                    harness.http(node.url("admin", path), method=method, headers={"Cookie": token})
                with harness.Viewer(f"ws://{node.addresses['http']}{path}") as viewer:
                    viewer.wait_close()
            for name, app in NAMES:
                answer = published(node, name.replace("{}", token), app.replace("{}", token))
                assert answer in ("Denied", "BadName", "Rejected"), (name, app)
                n_refused += 1
        check_unlogged(node)
        assert node.log().count("ingest.refused") == n_refused


if __name__ == "__main__":
    harness.main(globals())
