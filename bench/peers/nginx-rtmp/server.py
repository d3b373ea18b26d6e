#!/usr/bin/python3
"""nginx's RTMP module with what its users put beside it, as a peer of the bench.

nginx takes RTMP and asks this program by HTTP who may publish (on_publish). For each stream an ffmpeg pulls it
back over loopback and writes PCM to a pipe, the PCM goes in chunks to a Gladia Live v2 session, and every transcript
goes to the viewers. All of it are children of this process, in its session and its process group.

  RTMP_PORT HTTP_PORT   0 or absent: a free one     STT_URL   where a Gladia session is asked for
  PCM_CHUNK_SIZE_MS     50                          GLADIA_API_KEY   sent as x-gladia-key
"""

import asyncio
import collections
import contextlib
import http
import http.client
import http.server
import json
import os
import re
import resource
import signal
import socket
import string
import sys
import tempfile
import threading
import time
import urllib.parse

try:
    import websockets
except ImportError:
    sys.exit("error: python3-websockets is not here: bench/peers/nginx-rtmp/install brings it")

HOST = "127.0.0.1"
RTMP_PORT = int(os.environ.get("RTMP_PORT", "0"))
HTTP_PORT = int(os.environ.get("HTTP_PORT", "0"))
STT_URL = os.environ.get("STT_URL", "http://127.0.0.1:4100/v2/live")
NGINX = "/usr/sbin/nginx"
MODULE = "/usr/lib/nginx/modules/ngx_rtmp_module.so"
CONFIGURATION = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nginx.conf")
SAMPLE_RATE_HZ = 16000
SAMPLE_BYTES = 2
CHUNK_BYTES = int(os.environ.get("PCM_CHUNK_SIZE_MS", "50")) * SAMPLE_RATE_HZ * SAMPLE_BYTES // 1000
SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
PING_INTERVAL_S = 15
PONG_TIMEOUT_S = 45

BACKLOG = 4096
DESCRIPTORS = 65536       # the most that is asked for
MAX_STREAMS = 1000        # those that end are counted too
MAX_VIEWERS = 10000
VIEWER_BYTES = 1 << 20    # that wait for one viewer; one who lags further is cut off
ANSWER_BYTES = 1 << 16    # of the provider, to a POST
MESSAGE_BYTES = 1 << 20   # of the provider, on the socket
FORM_BYTES = 1 << 16      # of nginx, to a hook
START_S = 20
ANSWER_S = 5              # the provider, the hooks
FINALS_S = 3              # from stop_recording to the provider's last word
LEAVING_S = 1             # between the ends of what belongs together
ENDING_S = 10             # all of a stream, when its publisher is gone
STOP_S = 3                # from SIGTERM to SIGKILL


def say(text):
    print(text, file=sys.stderr, flush=True)


class Failure(Exception):
    """It cannot start, or not go on; the text is for whoever started it."""


# --- transcripts to viewers


class Viewers:
    """Who watches what."""

    def __init__(self):
        self.rooms = collections.defaultdict(set)  # slug -> connections; none is empty
        self.count = 0

    async def serve(self, port):
        return await websockets.serve(self.watch, HOST, port, process_request=self.admit, backlog=BACKLOG, compression=None,
                                      ping_interval=PING_INTERVAL_S, ping_timeout=PONG_TIMEOUT_S, close_timeout=1,
                                      max_size=1024, max_queue=1)

    @staticmethod
    def slug_of(path):
        match = re.fullmatch(rf"/live/({SLUG.pattern})", path.split("?")[0])
        return match and match[1]

    async def admit(self, path, _headers):
        if path == "/healthz":
            return http.HTTPStatus.OK, [], b""
        if self.slug_of(path) is None:
            return http.HTTPStatus.NOT_FOUND, [], b""
        if self.count >= MAX_VIEWERS:
            return http.HTTPStatus.SERVICE_UNAVAILABLE, [], b""
        return None

    async def watch(self, connection, path):
        slug = self.slug_of(path)
        self.count += 1
        self.rooms[slug].add(connection)
        try:
            async for _ in connection:  # what viewers say is dropped
                pass
        except websockets.ConnectionClosed:
            pass
        finally:
            self.count -= 1
            self.rooms[slug].discard(connection)
            if not self.rooms[slug]:
                del self.rooms[slug]

    def show(self, slug, stt_session, data):
        room = self.rooms.get(slug)
        if room is None:
            return
        utterance = data["utterance"]
        for connection in room:
            if connection.transport.get_write_buffer_size() > VIEWER_BYTES:
                connection.transport.abort()
        websockets.broadcast(room, json.dumps({
            "type": "transcript",
            "session": slug,
            "utteranceId": f"{stt_session}-{data['id']}",
            "isFinal": data["is_final"],
            "text": utterance["text"].strip(),
            "language": utterance.get("language"),
            "speaker": utterance.get("speaker"),
            "confidence": utterance.get("confidence"),
            "start": utterance["start"],
            "end": utterance["end"],
            "sentAt": time.time(),
        }))


# --- sound to the provider


def ask_session(slug):
    """(id, URL of its socket). Blocks."""
    url = urllib.parse.urlsplit(STT_URL)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    headers = {"Content-Type": "application/json"}
    if os.environ.get("GLADIA_API_KEY"):
        headers["x-gladia-key"] = os.environ["GLADIA_API_KEY"]
    body = json.dumps({
        "encoding": "wav/pcm",
        "bit_depth": 8 * SAMPLE_BYTES,
        "sample_rate": SAMPLE_RATE_HZ,
        "channels": 1,
        "custom_metadata": {"session": slug},
        "language_config": {"languages": ["en"], "code_switching": False},
        "messages_config": {
            "receive_partial_transcripts": True,
            "receive_final_transcripts": True,
            "receive_acknowledgments": True,
        },
    })
    with contextlib.closing(kind(url.netloc, timeout=ANSWER_S)) as connection:
        connection.request("POST", url.path + (f"?{url.query}" if url.query else ""), body, headers)
        answer = connection.getresponse()
        text = answer.read(ANSWER_BYTES)
        if answer.status not in (200, 201):
            raise ValueError(f"the provider answers {answer.status}")
        session = json.loads(text)
        return session["id"], session["url"]


async def chunks(pcm):
    """Of full length, but for the last."""
    try:
        while True:
            yield await pcm.readexactly(CHUNK_BYTES)
    except asyncio.IncompleteReadError as end:
        rest = end.partial[:len(end.partial) // SAMPLE_BYTES * SAMPLE_BYTES]
        if rest:
            yield rest


async def hear(connection, show):
    """Until the provider has no more to say; the connection is closed then."""
    try:
        async for text in connection:
            message = json.loads(text)
            if message["type"] == "transcript":
                show(message["data"])
            elif message["type"] == "end_session":
                return
    finally:
        await connection.close()


# --- RTMP to sound


def ffmpeg_command(url):
    return [
        "ffmpeg", "-hide_banner", "-loglevel", "error",
        "-fflags", "nobuffer", "-flags", "low_delay", "-rtmp_live", "live",
        "-probesize", "64", "-analyzeduration", "50000", "-use_wallclock_as_timestamps", "1",
        "-i", url, "-vn", "-acodec", "pcm_s16le", "-ar", str(SAMPLE_RATE_HZ), "-ac", "1", "-f", "s16le", "pipe:1",
    ]


def tell(process, number):
    """Not by its send_signal(), which takes the exit status away from asyncio when it has just ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


async def end(process):
    """Returns when it has ended. What it still writes is read, and dropped: it may wait for that."""
    tell(process, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.communicate(), STOP_S)
    except asyncio.TimeoutError:
        tell(process, signal.SIGKILL)
        await process.communicate()


class Stream:
    """One publisher's way through ffmpeg and the provider, on a task of its own."""

    def __init__(self, slug, url, viewers):
        self.slug, self.url, self.viewers = slug, url, viewers
        self.left = asyncio.Event()
        self.task = asyncio.create_task(self.run())

    def leave(self):
        """The publisher is gone. So is what ffmpeg pulls, and it ends; what it still writes is heard, and answered."""
        self.left.set()
        asyncio.get_running_loop().call_later(ENDING_S, self.task.cancel)

    async def leaves(self):
        """Whether the publisher is gone, or goes soon: nginx may say so last."""
        try:
            await asyncio.wait_for(self.left.wait(), LEAVING_S)
        except asyncio.TimeoutError:
            return False
        return True

    async def run(self):
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self.carry(stack)
        except (OSError, ValueError, LookupError, TypeError, asyncio.TimeoutError, http.client.HTTPException,
                websockets.WebSocketException) as error:
            say(f"{self.slug} goes on unheard: {type(error).__name__}: {error}")

    async def carry(self, stack):
        # While it starts the session is asked for. PCM that comes sooner, or faster than the provider
        # takes it, waits in the pipe; when that is full nginx drops what is not pulled.
        # With wallclock timestamps it complains of every frame that came in a burst: its stderr is not kept.
        ffmpeg = await asyncio.create_subprocess_exec(
            *ffmpeg_command(self.url), stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL)
        stack.push_async_callback(end, ffmpeg)
        stt_session, url = await asyncio.to_thread(ask_session, self.slug)
        connection = await stack.enter_async_context(websockets.connect(
            url, compression=None, open_timeout=ANSWER_S, ping_interval=None, close_timeout=1, max_size=MESSAGE_BYTES))
        hearing = asyncio.create_task(hear(connection, lambda data: self.viewers.show(self.slug, stt_session, data)))
        stack.push_async_callback(asyncio.gather, hearing, return_exceptions=True)
        stack.callback(hearing.cancel)
        try:
            async for chunk in chunks(ffmpeg.stdout):
                await connection.send(chunk)
            await connection.send('{"type":"stop_recording"}')
            if not await self.leaves():
                say(f"{self.slug} goes on unheard: ffmpeg has ended")
        except websockets.ConnectionClosed:
            if await self.leaves():
                return  # they ended together; what it would have said last is lost
            await asyncio.wait_for(hearing, FINALS_S)  # it knows why, if it was us
            raise
        await asyncio.wait_for(hearing, FINALS_S)


class Streams:
    """What nginx says of its publishers, and a stream for each."""

    def __init__(self, rtmp, viewers):
        self.rtmp, self.viewers = rtmp, viewers
        self.live = {}  # slug -> (nginx's number of the client, stream)
        self.tasks = set()

    async def admit(self, form):
        """What nginx is answered; publish() follows when that was OK."""
        if not SLUG.fullmatch(form["name"]):
            return http.HTTPStatus.FORBIDDEN
        if form["name"] in self.live:
            return http.HTTPStatus.CONFLICT
        if len(self.tasks) >= MAX_STREAMS:
            return http.HTTPStatus.SERVICE_UNAVAILABLE
        return http.HTTPStatus.OK

    def publish(self, form):
        slug = form["name"]
        stream = Stream(slug, f"rtmp://{self.rtmp}/live/{slug}", self.viewers)
        self.live[slug] = (form["clientid"], stream)
        self.tasks.add(stream.task)
        stream.task.add_done_callback(self.tasks.discard)

    def publish_done(self, form):
        client, stream = self.live.get(form["name"], (None, None))
        if client == form["clientid"]:
            del self.live[form["name"]]
            stream.leave()

    async def stop(self):
        for _, stream in self.live.values():
            stream.leave()
        if self.tasks:
            _, late = await asyncio.wait(self.tasks, timeout=STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


# --- nginx


class Hooks(http.server.HTTPServer):
    """Answers nginx, on a thread of its own; it decides nothing."""

    request_queue_size = BACKLOG

    def __init__(self, loop):
        super().__init__((HOST, 0), Hook)
        self.loop = loop
        self.streams = None
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)

    def stop(self):
        self.shutdown()
        self.server_close()


class Hook(http.server.BaseHTTPRequestHandler):
    timeout = ANSWER_S

    def do_POST(self):
        length = int(self.headers.get("Content-Length", "0"))
        if length > FORM_BYTES:
            self.send_error(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        # Of each name the first: what a publisher puts behind the '?' comes last.
        fields = urllib.parse.parse_qs(self.rfile.read(length).decode(), keep_blank_values=True)
        form = {name: values[0] for name, values in fields.items()}
        loop, streams = self.server.loop, self.server.streams
        is_begin = form["call"] == "publish"
        status = http.HTTPStatus.OK
        if is_begin:
            status = asyncio.run_coroutine_threadsafe(streams.admit(form), loop).result(ANSWER_S)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        # Behind the answer: nobody can pull a stream before its publisher was let in.
        if status == http.HTTPStatus.OK:
            loop.call_soon_threadsafe(streams.publish if is_begin else streams.publish_done, form)

    def log_message(self, *_):
        pass


def open_door(port):
    """Where nginx will listen: it takes it over as if from an nginx before it, so that no port is chosen twice."""
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        door.bind((HOST, port))
        door.listen(BACKLOG)
    except OSError as error:
        door.close()
        raise Failure(f"RTMP_PORT {port}: {error.strerror}") from None
    return door


async def start_nginx(folder, door, hooks):
    for path in (NGINX, MODULE):
        if not os.path.exists(path):
            raise Failure(f"{path} is not here: bench/peers/nginx-rtmp/install brings it")
    with open(CONFIGURATION, encoding="utf-8") as file:
        text = string.Template(file.read()).substitute(
            module=MODULE, rtmp="{}:{}".format(*door.getsockname()), hooks="{}:{}".format(*hooks.server_address))
    path = os.path.join(folder, "nginx.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return await asyncio.create_subprocess_exec(
        NGINX, "-p", folder, "-c", path, "-e", "start.log", stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
        pass_fds=[door.fileno()], env=dict(os.environ, NGINX=f"{door.fileno()};"))


async def shake_hands(address):
    """An RTMP client's first bytes, and the server's."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(b"\x03" + bytes(1536))
        return await reader.readexactly(1)
    finally:
        writer.close()


async def wait_up(nginx, address):
    try:
        version = await asyncio.wait_for(shake_hands(address), START_S)
    except (OSError, EOFError, asyncio.TimeoutError) as error:
        with contextlib.suppress(asyncio.TimeoutError):
            raise Failure(f"nginx ended with {await asyncio.wait_for(nginx.wait(), 1)}") from None
        raise Failure(f"nginx does not answer: {error!r}") from None
    if version != b"\x03":
        raise Failure(f"nginx begins its RTMP with {version!r}")


# --- all of it


async def run(folder):
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with contextlib.AsyncExitStack() as stack:
        viewers = Viewers()
        web = await stack.enter_async_context(await viewers.serve(HTTP_PORT))
        with open_door(RTMP_PORT) as door:
            rtmp = door.getsockname()
            hooks = Hooks(loop)
            hooks.streams = Streams("{}:{}".format(*rtmp), viewers)
            hooks.thread.start()
            stack.push_async_callback(hooks.streams.stop)
            nginx = await start_nginx(folder, door, hooks)
        stack.push_async_callback(asyncio.to_thread, hooks.stop)
        stack.push_async_callback(end, nginx)
        await wait_up(nginx, rtmp)
        print("ready rtmp={}:{} http={}:{}".format(*rtmp, *web.sockets[0].getsockname()), flush=True)
        ending = asyncio.create_task(nginx.wait())
        telling = asyncio.create_task(told.wait())
        await asyncio.wait({ending, telling}, return_when=asyncio.FIRST_COMPLETED)
        telling.cancel()
        if not told.is_set():
            raise Failure(f"nginx ended with {ending.result()}")


def main():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    asyncio.set_child_watcher(asyncio.PidfdChildWatcher())  # no thread for each ffmpeg
    try:
        with tempfile.TemporaryDirectory(prefix="nginx-", dir=".") as folder:
            asyncio.run(run(os.path.abspath(folder)))
    except (Failure, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
