"""A fleet: some nodes, and a real balancer before them that runs on deploy's own file.

    with Fleet() as fleet, Haproxy(fleet) as balancer, fleet.viewer(balancer, "room") as viewer:

Every node has its secrets and keeps its ports, so that it comes back where the balancer looks for it. A fleet that
ends looks through all logs for the tokens that were given out.
"""

import contextlib
import glob
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import harness
from rtmp_peer import RtmpPeer
from scripted_stt import ScriptedStt
from tokens import token
from track import Track

SECRETS = {"VIEWER_SECRET": "viewers-" + "v" * 32, "PUBLISH_SECRET": "publishers-" + "p" * 32,
           "ADMIN_TOKEN": "operators-" + "o" * 32}
KINDS = {"http": "HTTP_LISTEN", "rtmp": "RTMP_LISTEN", "admin": "ADMIN_LISTEN"}


class Fleet:
    """Nodes by number, of `nodes[i]`; all with one STT, which is scripted, and one Redis where there is one.

    `node_options` are every node's; those of `start(i, …)` are its own, for this once.
    """

    def __init__(self, n=3, redis_url=None, stt=None, **node_options):
        self.own_stt = None if stt else ScriptedStt()
        self.stt = stt or self.own_stt
        self.options = {**SECRETS, "TRUSTED_PROXIES": "127.0.0.1", "DRAIN_DELAY_MS": 3000, "LOG_LEVEL": "debug"}
        if redis_url:
            self.options["REDIS_URL"] = redis_url
        self.options.update(node_options)
        self.folder = tempfile.mkdtemp(prefix="vc-fleet-")
        self.nodes = [None] * n
        self.addresses = [{kind: f"127.0.0.1:{harness.free_port()}" for kind in KINDS} for _ in range(n)]
        self.processes = []  # all that there ever were
        self.tokens = []
        try:
            for i in range(n):
                self.start(i)
        except BaseException:
            self.kill_all()
            raise

    def start(self, i, **options):
        """Starts a node, or one that has ended again: with its name, its folder and its ports."""
        if self.nodes[i]:
            self.nodes[i].kill()
            self.nodes[i].process.stdout.close()
        folder = os.path.join(self.folder, f"node-{i + 1}")
        os.makedirs(folder, exist_ok=True)
        listen = {KINDS[kind]: address for kind, address in self.addresses[i].items()}
        self.nodes[i] = harness.node(self.stt.url, folder=folder,
                                     **{"NODE_ID": f"node-{i + 1}", **self.options, **listen, **options})
        self.processes.append(self.nodes[i])
        self.addresses[i] = self.nodes[i].addresses
        return self.nodes[i]

    def kill(self, i):
        self.nodes[i].kill()

    def is_up(self, i):
        return self.nodes[i].process.poll() is None

    def token(self, session, secret="VIEWER_SECRET", **more):
        """Good for an hour, and in no log at the end."""
        made = token(SECRETS[secret], session, **more)
        self.tokens.append(made)
        return made

    # --- who is where

    def ask(self, i, path):
        """Of a node's ADMIN_LISTEN; None of one that is not up, or no more."""
        if not self.is_up(i):
            return None
        try:
            return harness.http_json(self.nodes[i].url("admin", path))
        except OSError:
            if "event=program.stop" in self.nodes[i].log():
                return None
            raise

    def viewers(self):
        """How many each node has; None of one that is not up."""
        figures = [self.ask(i, "/metrics") for i in range(len(self.nodes))]
        return [found and found["gauges"]["ws.viewers"] for found in figures]

    def sessions(self, i):
        """{slug: its row of /sessions}"""
        return {row["slug"]: row for row in self.ask(i, "/sessions") or []}

    def homes(self, slug):
        """The nodes that have this session's publisher."""
        return [i for i in range(len(self.nodes)) if (self.sessions(i).get(slug) or {}).get("publisher")]

    def home(self, slug):
        """The node of a publisher that was just told to begin, as soon as it tells of it."""
        return harness.wait_until(lambda: self.homes(slug), f"{slug} is on")[0]

    def wait_any_log(self, pattern):
        harness.wait_until(lambda: any(re.search(pattern, node.log()) for node in self.nodes), f"a node logs {pattern}")

    # --- clients: `door` is a balancer or a node

    def viewer(self, door, slug, query="", **more):
        """Its token goes into the query, as a page does it."""
        return harness.Viewer(f"ws://{door.addresses['http']}/live/{slug}?token={self.token(slug)}{query}", **more)

    def ssl_viewer(self, balancer, slug, context):
        return harness.Viewer(f"wss://localhost:{balancer.port('https')}/live/{slug}?token={self.token(slug)}", ssl=context)

    def publisher(self, door, slug, **more):
        """ffmpeg, with sound."""
        name = f"{slug}?token={self.token(slug, 'PUBLISH_SECRET')}"
        return harness.Publisher(f"rtmp://{door.addresses['rtmp']}/live/{name}", **more)

    def peer(self, door, slug, source=None):
        """A publisher that is silent, from any address of loopback, once it was told that it may publish."""
        peer = RtmpPeer(door, source)
        try:
            peer.publish(f"{slug}?token={self.token(slug, 'PUBLISH_SECRET')}")
        except BaseException:
            peer.close()
            raise
        return peer

    def track(self, door, slug, participant, written=None):
        """A participant by WebSocket, who has said something; `written` is the slug as it stands in the address."""
        track = Track(door, written or slug, participant, rate=16000, channels=1, token=self.token(slug, "PUBLISH_SECRET"))
        try:
            track.tone(0.3)
        except BaseException:
            track.break_off()
            raise
        return track

    # --- the end

    def check_logs(self, *texts):
        """No token of ours and no query in what any node has written, nor in `texts`."""
        texts = list(texts)
        for path in glob.glob(os.path.join(self.folder, "node-*", "*.log")):
            with open(path, encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
        assert texts
        for text in texts:
            for word in [*self.tokens, *SECRETS.values(), "token="]:
                at = text.find(word)
                assert at < 0, f"a log has {word[:12]}…: {text[max(0, at - 300):at + 300]}"

    def kill_all(self):
        for node in self.nodes:
            if node:
                node.kill()
                node.process.stdout.close()
        if self.own_stt:
            self.own_stt.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, _value, _trace):
        try:
            up = [node for node in self.nodes if node.process.poll() is None]
            for node in up:
                node.signal(signal.SIGCONT)
                node.signal(signal.SIGTERM)
            if kind is None:
                for process in self.processes:
                    process.check_end()
                self.check_logs()
            else:
                for i, node in enumerate(self.nodes):
                    print(f"--- the log of node-{i + 1}, its end:\n{node.log()[-3000:]}", flush=True)
        finally:
            self.kill_all()


class Balancer:
    """A balancer in the foreground. Of deploy's file it changes addresses, ports and paths, and nothing else.

    `edit` may change the text further (a comment that an operator takes away). `addresses` and `port` are as a node's,
    so that clients come through it as they come to a node.
    """

    name = ""

    def __init__(self, fleet, edit=None):
        self.fleet = fleet
        self.folder = tempfile.mkdtemp(prefix=f"vc-{self.name}-")
        os.chmod(self.folder, 0o755)
        self.addresses = {kind: f"127.0.0.1:{harness.free_port()}" for kind in ("http", "rtmp", "https", "rtmps", "stats", "peers")}
        self.text = self.localize(self.read_own())
        left = re.findall(r"10\.0\.0\.\d+\S*", self.text)
        assert not left, f"{self.name}: the file has nodes that the test does not: {left}"
        self.configuration = os.path.join(self.folder, f"{self.name}.conf")
        self.write(edit(self.text) if edit else self.text)
        self.log_path = os.path.join(self.folder, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, cwd=self.folder)
        try:
            harness.wait_until(self.is_up, f"{self.name} is up")
        except BaseException:
            self.process.kill()
            print(self.log())
            raise

    def write(self, text):
        with open(self.configuration, "w", encoding="utf-8") as file:
            file.write(text)

    def read_own(self):
        raise NotImplementedError

    def localize(self, text):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def is_up(self):
        assert self.process.poll() is None, f"{self.name} has ended: {self.log()}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port("http"))) == 0

    def port(self, kind):
        return int(self.addresses[kind].rsplit(":", 1)[1])

    def url(self, path):
        return f"http://{self.addresses['http']}{path}"

    def log(self):
        """All that it has written, wherever."""
        texts = []
        for path in [self.log_path, *glob.glob(os.path.join(self.folder, "*.log"))]:
            with open(path, encoding="utf-8", errors="replace") as file:
                texts.append(file.read())
        return "\n".join(texts)

    def wait_log(self, pattern, timeout=None):
        return harness.wait_until(lambda: re.search(pattern, self.log()), f"{self.name} logs {pattern}", timeout)

    def get(self, path, source="127.0.0.1", headers=None):
        """(status, headers, body) of a request from that address."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port("http"), timeout=harness.PATIENCE_S,
                                                source_address=(source, 0))
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode("utf-8", "replace")
        finally:
            connection.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, _value, _trace):
        try:
            if self.process.poll() is None:
                self.process.terminate()
            self.process.wait(harness.PATIENCE_S)
            if kind is None:
                self.fleet.check_logs(self.log())
            else:
                print(f"--- the log of {self.name}, its end:\n{self.log()[-4000:]}", flush=True)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)


def own_file(name):
    with open(os.path.join(harness.ROOT, "deploy", name), encoding="utf-8") as file:
        return file.read()


def replace(text, *pairs):
    """Each pattern has to be there: a file that changed is not tested as another one."""
    for pattern, by in pairs:
        text, n = re.subn(pattern, by, text, flags=re.M)
        assert n > 0, f"deploy's file has no {pattern} any more"
    return text


class Haproxy(Balancer):
    name = "haproxy"

    def read_own(self):
        return own_file("haproxy/haproxy.cfg")

    def localize(self, text):
        for i, node in enumerate(self.fleet.addresses):
            admin = node["admin"].rsplit(":", 1)[1]
            text = replace(text, (rf"10\.0\.0\.1{i + 1}:3000 check port 3002\b", f"{node['http']} check port {admin}"),
                           (rf"10\.0\.0\.1{i + 1}:3000 track\b", f"{node['http']} track"),
                           (rf"10\.0\.0\.1{i + 1}:1937 check port 3002\b", f"{node['rtmp']} check port {admin}"),
                           (rf"10\.0\.0\.1{i + 1}:1937 track\b", f"{node['rtmp']} track"))
        text = replace(text, (r"src 10\.0\.0\.3 ", "src 127.0.0.1 "))
        if os.getuid() != 0:
            text = replace(text, (r"^    (user|group|chroot) .*\n", ""))
        return replace(text, (r"bind :80$", f"bind {self.addresses['http']}"), (r"bind :1935$", f"bind {self.addresses['rtmp']}"),
                       (r"bind :443 ", f"bind {self.addresses['https']} "), (r"bind :1936 ", f"bind {self.addresses['rtmps']} "),
                       (r"bind 127\.0\.0\.1:8404$", f"bind {self.addresses['stats']}"),
                       (r"peer balancer 127\.0\.0\.1:10000$", f"peer balancer {self.addresses['peers']}"),
                       (r"/run/haproxy/admin\.sock", f"{self.folder}/admin.sock"),
                       (r"/etc/haproxy/verbacast\.pem", f"{self.folder}/verbacast.pem"))

    def command(self):
        return ["/usr/sbin/haproxy", "-Ws", "-f", self.configuration]

    def is_up(self):
        with contextlib.suppress(OSError):  # the socket of ask() may come a moment after the ports
            return super().is_up() and self.ask("show info") != ""
        return False

    def ask(self, command):
        """What the stats socket answers."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(harness.PATIENCE_S)
            connection.connect(f"{self.folder}/admin.sock")
            connection.sendall(command.encode() + b"\n")
            answer = b""
            while more := connection.recv(65536):
                answer += more
        return answer.decode()

    def states(self, backend="nodes"):
        """{"node-1": "UP", …}: NOLB where it answers 404, DOWN."""
        lines = self.ask("show stat").lstrip("# ").splitlines()
        names = lines[0].split(",")
        rows = (dict(zip(names, line.split(","))) for line in lines[1:] if line)
        return {row["svname"]: row["status"].split()[0] for row in rows
                if row["pxname"] == backend and row["svname"].startswith("node-")}

    def wait_state(self, i, state, backends=("nodes", "rtmp"), timeout=None):
        """How long it took, in seconds."""
        began = time.monotonic()
        harness.wait_until(lambda: {self.states(backend)[f"node-{i + 1}"] for backend in backends} == {state},
                           f"node-{i + 1} is {state} in {backends}", timeout)
        return time.monotonic() - began


class Nginx(Balancer):
    name = "nginx"

    def read_own(self):
        return own_file("nginx/nginx.conf")

    def localize(self, text):
        for i, node in enumerate(self.fleet.addresses):
            text = replace(text, (rf"10\.0\.0\.1{i + 1}:3000\b", node["http"]), (rf"10\.0\.0\.1{i + 1}:1937\b", node["rtmp"]))
        return replace(text, (r"listen 80 ", f"listen {self.addresses['http']} "),
                       (r"listen 1935 ", f"listen {self.addresses['rtmp']} "),
                       (r"listen 443 ", f"listen {self.addresses['https']} "),
                       (r"listen 1936 ", f"listen {self.addresses['rtmps']} "),
                       (r"#set_real_ip_from 10\.0\.0\.3;", "#set_real_ip_from 127.0.0.1;"),
                       (r"/run/nginx\.pid", f"{self.folder}/nginx.pid"), (r"/var/log/nginx/", f"{self.folder}/"),
                       (r"/etc/nginx/verbacast", f"{self.folder}/verbacast"))

    def command(self):
        return ["/usr/sbin/nginx", "-c", self.configuration, "-g", "daemon off;"]
