// Participants' streams: PCM by WebSocket, each in a session of its own, so that the speech peer
// can tell them apart.
#include <stdio.h>
#include <string.h>

#include <verbacast/wire/http.h>

#include "bench.h"

#define MESSAGE_MAX 4096
#define FRAME_MAX 8192

static const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};

static void connected(struct vc_worker *worker, struct publisher *publisher)
{
  char text[512];
  int n = snprintf(text, sizeof text,
                   "GET /ingest/livekit/%s?participant=bench HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                   "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                   publisher->slug);
  publisher->publish_ns = vc_clock_now_ns(&vc_clock_system);
  vc_ws_parser_init(&publisher->parser, VC_WS_CLIENT, MESSAGE_MAX);
  link_send(worker, &publisher->link, text, (size_t)n);
}

static void send_message(struct vc_worker *worker, struct publisher *publisher,
                         enum vc_ws_opcode opcode, const void *payload, size_t size)
{
  uint8_t frame[VC_WS_HEADER_MAX + FRAME_MAX];
  size_t n = vc_ws_print_header(frame, opcode, size, mask);
  if (size > FRAME_MAX) {
    die("a message of %zu bytes", size);
  }
  if (size > 0) {
    memcpy(frame + n, payload, size);
  }
  vc_ws_mask(frame + n, size, mask);
  link_send(worker, &publisher->link, frame, n + size);
}

static void send_frame(struct vc_worker *worker, struct publisher *publisher,
                       const struct sound_frame *frame, uint32_t timestamp_ms)
{
  (void)timestamp_ms; // PCM has none
  send_message(worker, publisher, VC_WS_BINARY, frame->at, frame->size);
}

static void take_frames(struct vc_worker *worker, struct publisher *publisher)
{
  struct vc_ws_event event;
  size_t used;
  int got;
  do {
    got = vc_ws_parse(&publisher->parser, (const uint8_t *)publisher->in.at, publisher->in.n, &used,
                      &event);
    pile_drop(&publisher->in, used);
    if (got == 1 && event.opcode == VC_WS_PING) {
      send_message(worker, publisher, VC_WS_PONG, event.payload, event.size);
    } else if (got < 0 || (got == 1 && event.opcode == VC_WS_CLOSE)) {
      die("%s was closed with %d", publisher->slug, event.close_code);
    }
  } while (got == 1);
}

static void take(struct vc_worker *worker, struct publisher *publisher, const uint8_t *bytes,
                 size_t size)
{
  struct vc_http_head head;
  pile_add(&publisher->in, bytes, size);
  if (publisher->step == HANDSHAKE) {
    int got = vc_http_parse_head(publisher->in.at, publisher->in.n, VC_HTTP_RESPONSE, &head);
    if (got < 0 || (got == 0 && head.status != 101)) {
      die("%s is refused: %d", publisher->slug, got < 0 ? 0 : head.status);
    }
    if (got > 0) {
      return;
    }
    pile_drop(&publisher->in, head.size);
    publisher_go_live(worker, publisher);
  }
  take_frames(worker, publisher);
}

const struct publishing_way track_way = {connected, take, send_frame};
