'use strict';
// The system that Verbacast replaces, rebuilt for the bench: node-media-server takes RTMP, an ffmpeg
// child per stream pulls it back over loopback and writes PCM to a pipe, the PCM goes to a Gladia
// Live v2 session in chunks, and the transcripts are sent to every viewer in a loop.
//
//   RTMP_PORT HTTP_PORT   0 or absent: a free one     STT_URL   where a Gladia session is asked for
//   PCM_CHUNK_SIZE_MS     50                          GLADIA_API_KEY   sent as x-gladia-key

const http = require('http');
const { spawn } = require('child_process');
const NodeMediaServer = require('node-media-server');
const { WebSocket, WebSocketServer } = require('ws');

const HOST = '127.0.0.1';
const RTMP_PORT = Number(process.env.RTMP_PORT || 0);
const HTTP_PORT = Number(process.env.HTTP_PORT || 0);
const STT_URL = process.env.STT_URL || 'http://127.0.0.1:4100/v2/live';
const SAMPLE_RATE_HZ = 16000;
const SAMPLE_BYTES = 2;
const CHUNK_BYTES = (Number(process.env.PCM_CHUNK_SIZE_MS || 50) * SAMPLE_RATE_HZ * SAMPLE_BYTES) / 1000;
const FLUSH_INTERVAL_MS = 25;
const MAX_BROADCAST_QUEUE_SIZE = 500;
const PING_INTERVAL_MS = 15000;
const MISSED_PONGS = 3;
const DEDUP_WINDOW = 1000;
const BACKLOG = 4096;
const PATH = /^\/live\/([A-Za-z0-9][A-Za-z0-9._-]{0,127})$/;

// stdout holds the ready line alone; node-media-server logs with console.log.
console.log = console.error;

// --- transcripts to viewers ---

const rooms = new Map(); // slug -> {viewers, queue, isDraining, finals}

function roomOf(slug) {
  let room = rooms.get(slug);
  if (room === undefined) {
    room = { viewers: new Set(), queue: [], isDraining: false, finals: new Set() };
    rooms.set(slug, room);
  }
  return room;
}

function drain(room) {
  const message = room.queue.shift();
  if (message === undefined) {
    room.isDraining = false;
    return;
  }
  const text = JSON.stringify(message);
  for (const viewer of room.viewers) {
    if (viewer.readyState !== WebSocket.OPEN) continue;
    try {
      viewer.send(text);
    } catch (error) {
      room.viewers.delete(viewer);
    }
  }
  setImmediate(drain, room);
}

function broadcast(slug, message) {
  const room = roomOf(slug);
  if (room.queue.length >= MAX_BROADCAST_QUEUE_SIZE) room.queue.shift();
  room.queue.push(message);
  if (!room.isDraining) {
    room.isDraining = true;
    setImmediate(drain, room);
  }
}

function isRepeatedFinal(room, id) {
  if (room.finals.has(id)) return true;
  room.finals.add(id);
  if (room.finals.size > DEDUP_WINDOW) room.finals.delete(room.finals.values().next().value);
  return false;
}

function broadcastTranscript(slug, sttSession, data) {
  const { utterance } = data;
  const id = `${sttSession}-${data.id}`;
  if (data.is_final && isRepeatedFinal(roomOf(slug), id)) return;
  broadcast(slug, {
    type: 'transcript',
    session: slug,
    utteranceId: id,
    isFinal: data.is_final,
    text: utterance.text.trim(),
    language: utterance.language ?? null,
    speaker: utterance.speaker ?? null,
    confidence: utterance.confidence ?? null,
    start: utterance.start,
    end: utterance.end,
    sentAt: Date.now() / 1000,
  });
}

function acceptViewer(viewer, slug) {
  const room = roomOf(slug);
  let missed = 0;
  const heartbeat = setInterval(() => {
    if (missed >= MISSED_PONGS) {
      viewer.terminate();
      return;
    }
    missed += 1;
    viewer.ping();
  }, PING_INTERVAL_MS);
  viewer.on('pong', () => {
    missed = 0;
  });
  viewer.on('error', () => viewer.terminate());
  viewer.on('close', () => {
    clearInterval(heartbeat);
    room.viewers.delete(viewer);
  });
  room.viewers.add(viewer);
}

// --- audio to the provider ---

class GladiaBridge {
  constructor(slug) {
    this.slug = slug;
    this.waiting = []; // chunks that were ready before the socket was; null from then on
    this.socket = null;
    this.isStopping = false;
    this.open().catch((error) => this.giveUp(error));
  }

  async open() {
    const headers = { 'content-type': 'application/json' };
    if (process.env.GLADIA_API_KEY) headers['x-gladia-key'] = process.env.GLADIA_API_KEY;
    const answer = await fetch(STT_URL, {
      method: 'POST',
      headers,
      body: JSON.stringify({
        encoding: 'wav/pcm',
        bit_depth: 16,
        sample_rate: SAMPLE_RATE_HZ,
        channels: 1,
        custom_metadata: { session: this.slug },
        language_config: { languages: ['en'], code_switching: false },
        messages_config: {
          receive_partial_transcripts: true,
          receive_final_transcripts: true,
          receive_acknowledgments: true,
        },
      }),
    });
    if (!answer.ok) throw new Error(`the provider answers ${answer.status}`);
    const { id, url } = await answer.json();
    const socket = new WebSocket(url, { perMessageDeflate: false });
    socket.on('open', () => this.opened(socket));
    socket.on('message', (text) => {
      const message = JSON.parse(text);
      if (message.type === 'transcript') broadcastTranscript(this.slug, id, message.data);
    });
    socket.on('error', (error) => this.giveUp(error));
  }

  opened(socket) {
    this.socket = socket;
    for (const chunk of this.waiting) socket.send(chunk);
    this.waiting = null;
    if (this.isStopping) this.stop();
  }

  giveUp(error) {
    console.error(`${this.slug}: STT: ${error.message}`);
    this.waiting = null;
  }

  send(chunk) {
    if (this.waiting !== null) this.waiting.push(chunk);
    else if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(chunk);
  }

  stop() {
    this.isStopping = true;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send('{"type":"stop_recording"}');
  }
}

class Chunker {
  constructor(send) {
    this.send = send;
    this.rest = Buffer.alloc(0);
    this.timer = setInterval(() => this.flush(), FLUSH_INTERVAL_MS);
  }

  take(pcm) {
    this.rest = this.rest.length > 0 ? Buffer.concat([this.rest, pcm]) : pcm;
    while (this.rest.length >= CHUNK_BYTES) {
      this.send(this.rest.subarray(0, CHUNK_BYTES));
      this.rest = this.rest.subarray(CHUNK_BYTES);
    }
  }

  flush() {
    const whole = this.rest.length - (this.rest.length % SAMPLE_BYTES);
    if (whole === 0) return;
    this.send(this.rest.subarray(0, whole));
    this.rest = this.rest.subarray(whole);
  }

  end() {
    clearInterval(this.timer);
    this.flush();
  }
}

// --- RTMP to audio ---

const decoders = new Map(); // node-media-server's session id -> ffmpeg

function ffmpegFlags(url) {
  return [
    ...['-hide_banner', '-loglevel', 'error'],
    ...['-fflags', 'nobuffer', '-flags', 'low_delay', '-rtmp_live', 'live'],
    ...['-probesize', '64', '-analyzeduration', '50000', '-use_wallclock_as_timestamps', '1'],
    ...['-i', url, '-vn', '-acodec', 'pcm_s16le', '-ar', String(SAMPLE_RATE_HZ), '-ac', '1', '-f', 's16le', 'pipe:1'],
  ];
}

function startStream(id, path, rtmpPort) {
  const slug = PATH.exec(path)[1];
  const bridge = new GladiaBridge(slug);
  const chunker = new Chunker((chunk) => bridge.send(chunk));
  // With wallclock timestamps ffmpeg complains of every frame that came in a burst: its stderr is not kept.
  const ffmpeg = spawn('ffmpeg', ffmpegFlags(`rtmp://${HOST}:${rtmpPort}${path}`), {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  decoders.set(id, ffmpeg);
  ffmpeg.stdout.on('data', (pcm) => chunker.take(pcm));
  ffmpeg.on('error', (error) => console.error(`${slug}: ffmpeg: ${error.message}`));
  ffmpeg.on('close', () => {
    chunker.end();
    bridge.stop();
    decoders.delete(id);
  });
}

function serveRtmp() {
  // The port goes to listen() as it is, so that it may name an address too.
  const media = new NodeMediaServer({
    logType: 1,
    rtmp: {
      port: { host: HOST, port: RTMP_PORT, backlog: BACKLOG },
      chunk_size: 60000,
      gop_cache: true,
      ping: 30,
      ping_timeout: 60,
    },
  });
  media.run();
  const server = media.nrs.tcpServer;
  media.on('prePublish', (id, path) => {
    if (!PATH.test(path)) media.getSession(id).reject();
  });
  media.on('postPublish', (id, path) => startStream(id, path, server.address().port));
  media.on('donePublish', (id) => decoders.get(id)?.kill('SIGTERM'));
  return server;
}

function serveHttp() {
  const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, clientTracking: false });
  const server = http.createServer((request, response) => {
    response.writeHead(request.url === '/healthz' ? 200 : 404);
    response.end();
  });
  server.on('upgrade', (request, socket, head) => {
    const match = PATH.exec(request.url.split('?')[0]);
    if (match === null) {
      socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n');
      return;
    }
    sockets.handleUpgrade(request, socket, head, (viewer) => acceptViewer(viewer, match[1]));
  });
  return server.listen({ host: HOST, port: HTTP_PORT, backlog: BACKLOG });
}

function up(server) {
  return new Promise((resolve, reject) => {
    server.once('listening', () => resolve(server.address().port));
    server.once('error', reject);
  });
}

async function main() {
  const [rtmp, web] = await Promise.all([up(serveRtmp()), up(serveHttp())]);
  process.stdout.write(`ready rtmp=${HOST}:${rtmp} http=${HOST}:${web}\n`);
}

process.on('exit', () => {
  for (const ffmpeg of decoders.values()) ffmpeg.kill('SIGKILL');
});
process.on('SIGTERM', () => process.exit(0));
main().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exit(1);
});
