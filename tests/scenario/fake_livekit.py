"""A LiveKit for tests, made from its documented wire format: Twirp's RoomService and Egress, webhooks that are
signed as it signs them, and egresses that publish by RTMP where they were told to.

It speaks like the real one: Twirp answers have the protocol's member names with all of them there, webhooks have
camel case and leave out what is zero, 64-bit numbers are strings, stream keys are blackened.
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time

import harness
import tokens

KEY, SECRET = "APItest", "a secret of LiveKit's that is long enough"


def sign(claims, secret=SECRET):
    head = tokens.encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
    body = tokens.encode(json.dumps(claims).encode())
    signature = hmac.new(secret.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{tokens.encode(signature)}"


def claims_of(token, secret):
    """What it says, None when it is not signed with the secret."""
    head, body, signature = token.split(".")
    digest = hmac.new(secret.encode(), f"{head}.{body}".encode(), hashlib.sha256).digest()
    if tokens.encode(digest) != signature:
        return None
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def signed(body, key=KEY, secret=SECRET, expires_s=300, hashed=None):
    """The Authorization of a webhook with that body."""
    digest = hashlib.sha256(body if hashed is None else hashed).digest()
    now = int(time.time())
    claims = {"iss": key, "nbf": now, "sha256": base64.b64encode(digest).decode()}
    if expires_s is not None:
        claims["exp"] = now + expires_s
    return sign(claims, secret)


def post_webhook(url, body, authorization=None):
    """(status, answer) of one webhook."""
    headers = {"Content-Type": "application/webhook+json", "User-Agent": "LiveKit"}
    if authorization is not None:
        headers["Authorization"] = authorization
    status, _, answer = harness.http(url, method="POST", headers=headers, body=body)
    return status, answer


def blackened(url):
    before, key = url.rsplit("/", 1)
    return f"{before}/{{{key[:3]}...{key[-3:]}}}"


class Egress:
    def __init__(self, ident, room, request):
        self.id = ident
        self.room = room
        self.request = request
        self.url = request["stream_outputs"][0]["urls"][0]
        self.status = "EGRESS_STARTING"
        self.error = ""
        self.started = self.ended = 0
        self.publisher = None

    def shown(self):
        """What was asked for, as it is told."""
        shown = json.loads(json.dumps(self.request))
        shown["stream_outputs"][0]["urls"] = [blackened(self.url)]
        return shown

    def info(self):
        """As Twirp answers."""
        shown = self.shown()
        return {"egress_id": self.id, "room_id": self.room["sid"], "room_name": self.room["name"], "status": self.status,
                "started_at": str(self.started), "ended_at": str(self.ended), "error": self.error, "error_code": 0,
                "source_type": "EGRESS_SOURCE_TYPE_SDK", "room_composite": shown,
                "stream_results": [{"url": blackened(self.url), "status": "ACTIVE", "retries": 0}]}

    def webhook_info(self):
        info = {"egressId": self.id, "roomId": self.room["sid"], "roomName": self.room["name"], "status": self.status,
                "sourceType": "EGRESS_SOURCE_TYPE_SDK", "startedAt": str(self.started),
                "roomComposite": {"roomName": self.room["name"], "audioOnly": self.request["audio_only"],
                                  "streamOutputs": self.shown()["stream_outputs"]},
                "streamResults": [{"url": blackened(self.url), "status": "ACTIVE"}]}
        if self.error:
            info["error"] = self.error
        if self.ended:
            info["endedAt"] = str(self.ended)
        if self.status == "EGRESS_STARTING":
            del info["status"]
        return info


def certificate(folder):
    """(certificate, key) for 127.0.0.1, that only who is told of it trusts."""
    names = os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", names[0], "-keyout", names[1]],
                   check=True, stderr=subprocess.DEVNULL)
    return names


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):  # a client that hangs up is none
            super().handle_error(request, client_address)


class FakeLiveKit:
    def __init__(self, certified=None):
        self.webhook_urls = []
        self.publishes = True       # egresses send sound
        self.refuses = {}           # method -> (status, Twirp's code)
        self.redirects = ""         # where to, all that is asked
        self.padding = 0            # bytes more in each answer
        self.before_start = lambda: None
        self.egress_fails = 0       # so many egresses fail as soon as they are there
        self.quotes = False         # errors have the address in them that an egress was given
        self.rooms, self.egresses = {}, {}
        self.calls = []             # (method, request)
        self.denied = []            # calls without a good token
        self.n_rooms = self.n_events = 0
        self.lock = threading.RLock()
        self.server = Server(("127.0.0.1", 0), self.handler())
        self.port = self.server.server_address[1]
        self.url = f"{'https' if certified else 'http'}://127.0.0.1:{self.port}"
        if certified:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certified)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    # --- Twirp

    def handler(self):
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = fake.answer(self.path, self.headers, body)
                text = json.dumps(answer).encode() + b" " * fake.padding
                self.send_response(307 if fake.redirects else status)
                if fake.redirects:
                    self.send_header("Location", fake.redirects + self.path)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        return Handler

    def answer(self, path, headers, body):
        match = re.fullmatch(r"/twirp/livekit\.(RoomService|Egress)/(\w+)", path)
        if match is None or headers.get("Content-Type") != "application/json":
            return 404, {"code": "bad_route", "msg": f"no handler for path {path}"}
        method, grant = match[2], "roomList" if match[1] == "RoomService" else "roomRecord"
        if not self.may(headers.get("Authorization", ""), grant):
            with self.lock:
                self.denied.append(method)
            return 401, {"code": "unauthenticated", "msg": "permissions denied"}
        request = json.loads(body)
        with self.lock:
            self.calls.append((method, request))
            if method in self.refuses:
                status, code = self.refuses[method]
                return status, {"code": code, "msg": "it was told to" + self.quoted(request)}
        return getattr(self, method)(request)

    @staticmethod
    def may(authorization, grant):
        if not authorization.startswith("Bearer ") or authorization.count(".") != 2:
            return False
        claims = claims_of(authorization.removeprefix("Bearer "), SECRET)
        return (claims is not None and claims["iss"] == KEY and claims["exp"] > time.time()
                and claims.get("nbf", 0) <= time.time() and claims["video"].get(grant) is True)

    def ListRooms(self, request):  # Twirp's own name
        with self.lock:
            rooms = [room for room in self.rooms.values() if not request.get("names") or room["name"] in request["names"]]
            return 200, {"rooms": [dict(room, num_participants=1, enabled_codecs=[]) for room in rooms]}

    def ListEgress(self, request):
        with self.lock:
            found = [egress.info() for egress in self.egresses.values()
                     if request.get("room_name") in (None, egress.room["name"])
                     and (not request.get("active") or egress.status in ("EGRESS_STARTING", "EGRESS_ACTIVE", "EGRESS_ENDING"))]
        return 200, {"items": found}

    def StartRoomCompositeEgress(self, request):
        self.before_start()
        with self.lock:
            room = self.rooms.get(request["room_name"])
            if room is None:
                return 404, {"code": "not_found", "msg": "requested room does not exist"}
            egress = Egress(f"EG_{len(self.egresses):04d}", room, request)
            self.egresses[egress.id] = egress
            answer = egress.info()
            egress.started = time.time_ns()
            fails = self.egress_fails > 0
            self.egress_fails -= fails
            egress.status = "EGRESS_FAILED" if fails else "EGRESS_ACTIVE"
            egress.error = "no space left on it" + self.quoted(request) if fails else ""
            egress.ended = time.time_ns() if fails else 0
        if fails:
            self.tell("egress_ended", egressInfo=egress.webhook_info())
        elif self.publishes:
            egress.publisher = harness.Publisher(egress.url)
        return 200, answer

    def StopEgress(self, request):
        with self.lock:
            egress = self.egresses.get(request["egress_id"])
            if egress is None:
                return 404, {"code": "not_found", "msg": "egress does not exist"}
        self.end_egress(egress, "EGRESS_COMPLETE")
        return 200, egress.info()

    def quoted(self, request):
        return f": {request['stream_outputs'][0]['urls'][0]}" if self.quotes else ""

    # --- what happens in it

    def start_room(self, name, tells=True):
        with self.lock:
            self.n_rooms += 1
            self.rooms[name] = {"sid": f"RM_{self.n_rooms:04d}", "name": name, "empty_timeout": 300,
                                "creation_time": str(int(time.time()))}
        if tells:
            self.tell("room_started", room=self.room(name))

    def finish_room(self, name, tells=True):
        room = self.room(name)
        with self.lock:
            del self.rooms[name]
        for egress in self.active(name):
            self.end_egress(egress, "EGRESS_COMPLETE", tells=tells)
        if tells:
            self.tell("room_finished", room=room)

    def end_egress(self, egress, status, error="", tells=True):
        with self.lock:
            egress.status, egress.error, egress.ended = status, error, time.time_ns()
        if egress.publisher is not None:
            if status == "EGRESS_COMPLETE":
                egress.publisher.stop()
            else:
                egress.publisher.kill()
        if tells:
            self.tell("egress_ended", egressInfo=egress.webhook_info())

    def room(self, name):
        with self.lock:
            room = self.rooms[name]
        return {"sid": room["sid"], "name": name, "emptyTimeout": 300, "creationTime": room["creation_time"]}

    def active(self, name=None):
        with self.lock:
            return [egress for egress in self.egresses.values()
                    if egress.status == "EGRESS_ACTIVE" and name in (None, egress.room["name"])]

    def wait_active(self, name, count=1):
        return harness.wait_until(lambda: self.active(name) if len(self.active(name)) == count else None,
                                  f"{count} egresses of {name}; {self.calls[-5:]}, denied {self.denied}")

    def n_calls(self, method):
        with self.lock:
            return sum(called == method for called, _ in self.calls)

    # --- webhooks

    def event(self, kind, **more):
        with self.lock:
            self.n_events += 1
            ident = f"EV_{self.port}_{self.n_events:04d}"
        return json.dumps({"event": kind, **more, "id": ident, "createdAt": str(int(time.time()))}).encode()

    def tell(self, kind, **more):
        body = self.event(kind, **more)
        for url in self.webhook_urls:
            status, answer = post_webhook(url, body, signed(body))
            assert status == 200, (url, status, answer)
        return body

    def serve(self, *nodes):
        self.webhook_urls = [node.url("http", "/livekit/webhook") for node in nodes]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for egress in self.egresses.values():
            if egress.publisher is not None:
                with egress.publisher:
                    pass
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
