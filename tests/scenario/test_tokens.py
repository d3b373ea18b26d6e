"""Who may publish and watch by which token: each algorithm, wrong ones, keys that change, and logs without a word of them."""

import hashlib
import hmac
import json
import os
import signal
import tempfile
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import harness
import tokens
from rtmp_peer import RtmpPeer
from scripted_stt import ScriptedStt

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


def by_hand(header, key, session="demo"):
    """A token that no library makes: HMAC of anything, with anything."""
    head = tokens.encode((header if isinstance(header, str) else json.dumps(header, separators=(",", ":"))).encode())
    body = tokens.encode(json.dumps({"session": session, "exp": int(time.time()) + 3600}, separators=(",", ":")).encode())
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
    with harness.viewer(node, "demo", f"?token={token}") as viewer:
        if status == 200:
            viewer.wait_type("hello")
        else:
            viewer.wait_close()
            assert viewer.refusal == status, (viewer.refusal, status)


def check_unlogged(node):
    harness.http(node.url("http", "/healthz"))
    node.wait_log("level=debug event=http.request")
    log = node.log()
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
            check_unlogged(node)


def test_a_viewer_whose_token_expires_is_closed():
    secret = "".join((SIGNERS["RS256"].secret, SIGNERS["ES256"].secret, ",", SIGNERS["HS256"].secret))
    with harness.node(NOWHERE, VIEWER_SECRET=secret, TOKEN_LEEWAY_MS=0) as node:
        viewers = [harness.viewer(node, "demo", f"?token={signer.sign(expires_s=4)}") for signer in SIGNERS.values()]
        for viewer in viewers:
            with viewer:
                viewer.wait_type("hello")
                assert viewer.wait_close() == 4001, viewer.close_code


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


PATHS = ("/live/demo%3Ftoken={}", "/live/demo&token={}", "/live/{}", "/{}", "/sessions/demo/transcript.txt%3ftoken={}",
         "/sessions/{}/transcript.txt", "/live/demo?token={}x", "/live/demo?jwt={}&token={}x", "//demo;token={}")
NAMES = (("demo&token={}", "live"), ("demo%3Ftoken={}", "live"), ("{}", "live"), ("demo/{}", "live"), ("{}/demo", "live"),
         ("demo?jwt={}", "live"), ("demo?token={}x", "live"), ("demo", "live/{}"), ("demo", "live%3Ftoken={}"),
         ("demo", "live?token={}"), ("demo", "other;token={}"), ("demo", "{}"))


def test_a_token_at_a_wrong_place_is_not_logged():
    short = by_hand({"alg": "HS256"}, SIGNERS["HS256"].secret)
    assert len(short) <= 128, "it could be a session's name"
    spaced = by_hand('{ "alg" : "HS256" }', SIGNERS["HS256"].secret)  # does not begin as most do
    with protected(NOWHERE, SIGNERS["HS256"].secret) as node:
        n_refused = 0
        for token in (short, spaced, SIGNERS["HS256"].sign("*")):
            for path in (path.replace("{}", token) for path in PATHS if token is not spaced or "=" in path):
                for method in ("GET", "DELETE"):
                    harness.http(node.url("http", path), method=method, headers={"Authorization": f"Basic {token}"})
                    harness.http(node.url("admin", path), method=method, headers={"Cookie": token})
                with harness.Viewer(f"ws://{node.addresses['http']}{path}") as viewer:
                    viewer.wait_close()
            for name, app in (pair for pair in NAMES if token is not spaced or "=" in "".join(pair)):
                answer = published(node, name.replace("{}", token), app.replace("{}", token))
                assert answer in ("Denied", "BadName", "Rejected"), (name, app)
                n_refused += 1
        assert node.log().count("ingest.refused") == n_refused
        check_unlogged(node)


if __name__ == "__main__":
    harness.main(globals())
