'use strict';
// A WebSocket broadcaster as one writes it with ws: one process, one send() per viewer and message.
//
//   HTTP_PORT   0 or absent: a free one

const http = require('http');
const { WebSocket, WebSocketServer } = require('ws');

const HOST = '127.0.0.1';
const BACKLOG = 4096;
const PATH = /^\/(live|publish)\/([A-Za-z0-9][A-Za-z0-9._-]{0,127})$/;

const rooms = new Map(); // slug -> its viewers

function viewersOf(slug) {
  if (!rooms.has(slug)) rooms.set(slug, new Set());
  return rooms.get(slug);
}

function acceptViewer(socket, viewers) {
  viewers.add(socket);
  socket.on('error', () => socket.terminate());
  socket.on('close', () => viewers.delete(socket));
}

function acceptPublisher(socket, viewers) {
  socket.on('error', () => socket.terminate());
  socket.on('message', (message, isBinary) => {
    if (isBinary) return;
    for (const viewer of viewers) {
      if (viewer.readyState === WebSocket.OPEN) viewer.send(message, { binary: false });
    }
  });
}

const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, clientTracking: false });
const server = http.createServer((request, response) => {
  response.writeHead(404);
  response.end();
});
server.on('upgrade', (request, socket, head) => {
  const match = PATH.exec(request.url.split('?')[0]);
  if (match === null) {
    socket.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n');
    return;
  }
  const accept = match[1] === 'live' ? acceptViewer : acceptPublisher;
  sockets.handleUpgrade(request, socket, head, (webSocket) => accept(webSocket, viewersOf(match[2])));
});
server.listen({ host: HOST, port: Number(process.env.HTTP_PORT || 0), backlog: BACKLOG }, () => {
  process.stdout.write(`ready http=${HOST}:${server.address().port}\n`);
});
process.on('SIGTERM', () => process.exit(0));
