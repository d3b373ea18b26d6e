"""A scripted peer that speaks the Gladia Live v2 protocol: it hears no words, it counts bytes.

For each `utterance_s` of audio it sends a final "utterance N" (N by the audio, so that two
connections of one session agree), with a partial half-way. What it should do otherwise is set by its
fields while it runs: refuse the POST with a status, drop connections, stay silent.
"""

import asyncio
import contextlib
import http.server
import json
import threading
import time

import websockets

BYTES_PER_S = 32000


class Session:
    def __init__(self, ident, request):
        self.id = ident
        self.request = request
        self.received = 0     # bytes of audio, all connections
        self.told = 0         # utterances whose final was sent
        self.sound = b""      # what was received, where keeps_sound is set
        self.is_started = False
        self.is_stopped = False
        self.connections = 0


class ScriptedStt:
    def __init__(self, utterance_s=1.0):
        self.utterance_s = utterance_s
        self.refuse_with = None      # an HTTP status for POST
        self.refuse_headers = {}
        self.is_silent = False       # take audio, say nothing
        self.holds_end = False       # a session that is stopped waits for its last words until this is cleared
        self.final_text = "utterance {}".format
        self.padding = ""            # appended to each text
        self.spreads_words = False   # say that word times were spread
        self.keeps_sound = False     # keep the audio in Session.sound
        self.sessions = {}
        self.posts = []              # (time, request body, headers)
        self.audio_times = []        # (monotonic s, bytes) of each binary frame
        self.lock = threading.Lock()
        self.live = set()
        self.loop = asyncio.new_event_loop()
        self.is_up = threading.Event()
        self.ws_port = None
        self.stop_requested = None
        self.thread = threading.Thread(target=self.run_sockets, daemon=True)
        self.thread.start()
        assert self.is_up.wait(30)
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.http_thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.http_thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v2/live"

    def handler(self):
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                with peer.lock:
                    peer.posts.append((time.monotonic(), json.loads(body), dict(self.headers)))
                    if peer.refuse_with:
                        return self.answer(peer.refuse_with, {"message": "as scripted"}, peer.refuse_headers)
                    ident = f"s{len(peer.sessions) + 1}"
                    peer.sessions[ident] = Session(ident, json.loads(body))
                return self.answer(201, {"id": ident, "created_at": "2026-01-01T00:00:00.000Z",
                                         "url": f"ws://127.0.0.1:{peer.ws_port}/v2/live?token={ident}"}, {})

            def answer(self, status, value, headers):
                text = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                for name, header in headers.items():
                    self.send_header(name, header)
                with contextlib.suppress(ConnectionError):  # who asked may have been killed
                    self.end_headers()
                    self.wfile.write(text)

            def log_message(self, *_):
                pass

        return Handler

    def run_sockets(self):
        self.loop.run_until_complete(self.serve())
        self.loop.close()

    async def serve(self):
        self.stop_requested = asyncio.Event()
        async with websockets.serve(self.connection, "127.0.0.1", 0, compression=None, ping_interval=None,
                                    max_size=2 ** 20) as server:
            self.ws_port = server.sockets[0].getsockname()[1]
            self.is_up.set()
            await self.stop_requested.wait()

    async def connection(self, socket, path=None):
        session = self.sessions.get(socket.path.split("token=")[-1])
        if session is None:
            await socket.close(4403, "no such session")
            return
        session.connections += 1
        self.live.add(socket)
        try:
            await self.send(socket, session, "start_session", {})
            await self.send(socket, session, "start_recording", {})
            async for message in socket:
                if isinstance(message, bytes):
                    await self.hear(socket, session, message)
                elif json.loads(message)["type"] == "stop_recording":
                    await self.end(socket, session)
                    break
        except websockets.exceptions.ConnectionClosed:
            pass
        finally:
            self.live.discard(socket)

    async def hear(self, socket, session, audio):
        before = session.received
        session.received += len(audio)
        if self.keeps_sound:
            session.sound += audio
        self.audio_times.append((time.monotonic(), len(audio)))
        if self.is_silent:
            return
        await self.send(socket, session, "audio_chunk",
                        {"byte_range": [before, session.received],
                         "time_range": [before / BYTES_PER_S, session.received / BYTES_PER_S]}, acknowledged=True, error=None)
        step = int(self.utterance_s * BYTES_PER_S)
        if before // (step // 2) != session.received // (step // 2) and session.received % step >= step // 2:
            await self.transcript(socket, session, session.received // step, False)
        while (session.told + 1) * step <= session.received:
            await self.transcript(socket, session, session.told, True)
            session.told += 1

    async def end(self, socket, session):
        while self.holds_end:
            await asyncio.sleep(0.01)
        session.is_stopped = True
        seconds = session.received / BYTES_PER_S
        await self.send(socket, session, "stop_recording",
                        {"recording_duration": seconds, "recording_left_to_process": 0.0}, acknowledged=True, error=None)
        if session.received / BYTES_PER_S > session.told * self.utterance_s and not self.is_silent:
            await self.transcript(socket, session, session.told, True)
            session.told += 1
        await self.send(socket, session, "end_recording", {"recording_duration": seconds})
        await self.send(socket, session, "end_session", {})
        await socket.close(1000)

    async def transcript(self, socket, session, number, is_final):
        start = number * self.utterance_s
        end = min(start + self.utterance_s * (1 if is_final else 0.5), session.received / BYTES_PER_S)
        text = self.final_text(number) if is_final else "utterance"
        words = [{"word": " utterance", "start": start, "end": (start + end) / 2, "confidence": 0.9}]
        if is_final:
            words.append({"word": f" {number}", "start": (start + end) / 2, "end": end, "confidence": 0.8})
        spread = {"approximate": True} if self.spreads_words else {}
        await self.send(socket, session, "transcript", {
            "id": f"00-{number:08d}", "is_final": is_final,
            "utterance": {"start": start, "end": end, "confidence": 0.9, "channel": 0, "language": "en",
                          "text": " " + text + self.padding, "words": words, **spread}})

    async def send(self, socket, session, kind, data, **more):
        await socket.send(json.dumps({"session_id": session.id, "created_at": "2026-01-01T00:00:00.000Z", "type": kind,
                                      "data": data, **more}))

    def drop_all(self):
        """Cuts every connection, as a network that goes away."""
        def cut():
            for socket in list(self.live):
                socket.transport.abort()
        self.loop.call_soon_threadsafe(cut)

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.loop.call_soon_threadsafe(self.stop_requested.set)
        self.thread.join(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
