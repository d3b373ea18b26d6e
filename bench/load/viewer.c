// Viewers: they open a WebSocket, read, and compare each message's stamp with the clock. Where a
// system has no speech peer, speakers say the messages to it.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/wire/http.h>

#include "bench.h"

#define MESSAGE_MAX 65536
#define OPENING_MAX 64 // at once

struct worker_state {
  struct viewing *viewing;
};

void viewing_init(struct viewing *viewing, size_t n, size_t n_sessions, int has_speakers)
{
  viewing->n = n;
  viewing->n_sessions = n_sessions;
  viewing->has_speakers = has_speakers;
  viewing->viewers = grow(NULL, n, sizeof *viewing->viewers);
  memset(viewing->viewers, 0, n * sizeof *viewing->viewers);
  viewing->speakers = grow(NULL, n_sessions, sizeof *viewing->speakers);
  memset(viewing->speakers, 0, n_sessions * sizeof *viewing->speakers);
}

void viewing_fini(struct viewing *viewing)
{
  free(viewing->viewers);
  free(viewing->speakers);
  samples_fini(&viewing->delay_ms);
  samples_fini(&viewing->lateness_ms);
  *viewing = (struct viewing){0};
}

static struct viewing *viewing_of(const struct vc_worker *worker)
{
  return ((struct worker_state *)vc_worker_state(worker))->viewing;
}

static int is_speaker(const struct viewing *viewing, const struct viewer *viewer)
{
  return viewer >= viewing->speakers && viewer < viewing->speakers + viewing->n_sessions;
}

static void connected(struct vc_worker *worker, struct link *link)
{
  struct viewer *viewer = (struct viewer *)link;
  char text[512];
  int n = snprintf(text, sizeof text,
                   "GET /%s/bench-%u HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                   is_speaker(viewing_of(worker), viewer) ? "publish" : "live", viewer->session);
  link_send(worker, link, text, (size_t)n);
}

static void note(struct viewing *viewing, struct viewer *viewer, const uint8_t *bytes, size_t size)
{
  uint64_t said_ns, number;
  uint64_t from_ns = atomic_load_explicit(&viewing->measured_from_ns, memory_order_relaxed);
  uint64_t to_ns = atomic_load_explicit(&viewing->measured_to_ns, memory_order_relaxed);
  if (!stamp_find(bytes, size, &said_ns, &number)) {
    return;
  }
  if (said_ns >= from_ns && said_ns < to_ns) {
    viewing->n_received++;
    viewing->n_missed += viewer->last_number > 0 && number > viewer->last_number
                             ? number - viewer->last_number - 1
                             : 0;
    samples_add(&viewing->delay_ms,
                (double)(vc_clock_now_ns(&vc_clock_system) - said_ns) / (double)VC_NS_PER_MS);
  }
  viewer->last_number = number;
}

static void send_masked(struct vc_worker *worker, struct viewer *viewer, enum vc_ws_opcode opcode,
                        const void *payload, size_t size)
{
  static const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};
  uint8_t frame[VC_WS_HEADER_MAX + 1024];
  size_t n = vc_ws_print_header(frame, opcode, size, mask);
  if (size > 1024) {
    die("a message of %zu bytes", size);
  }
  memcpy(frame + n, payload, size);
  vc_ws_mask(frame + n, size, mask);
  link_send(worker, &viewer->link, frame, n + size);
}

static void take_frames(struct vc_worker *worker, struct viewer *viewer, const uint8_t *bytes,
                        size_t size)
{
  struct vc_ws_event event;
  size_t used;
  int got;
  while ((got = vc_ws_parse(&viewer->parser, bytes, size, &used, &event)) == 1) {
    bytes += used;
    size -= used;
    if (event.opcode == VC_WS_TEXT) {
      note(viewing_of(worker), viewer, event.payload, event.size);
    } else if (event.opcode == VC_WS_PING) {
      send_masked(worker, viewer, VC_WS_PONG, event.payload, event.size);
    } else if (event.opcode == VC_WS_CLOSE) {
      die("a viewer was closed with %d", event.close_code);
    }
  }
  if (got < 0) {
    die("the system under test breaks the WebSocket protocol (%d)", event.close_code);
  }
}

static void take_answer(struct vc_worker *worker, struct viewer *viewer)
{
  struct vc_http_head head;
  int got = vc_http_parse_head(viewer->in.at, viewer->in.n, VC_HTTP_RESPONSE, &head);
  if (got < 0 || (got == 0 && head.status != 101)) {
    die("a viewer is refused: %d", got < 0 ? 0 : head.status);
  }
  if (got > 0) {
    return;
  }
  viewer->is_open = 1;
  vc_ws_parser_init(&viewer->parser, VC_WS_CLIENT, MESSAGE_MAX);
  atomic_fetch_add_explicit(&viewing_of(worker)->n_open, 1, memory_order_relaxed);
  take_frames(worker, viewer, (const uint8_t *)viewer->in.at + head.size, viewer->in.n - head.size);
  free(viewer->in.at);
  viewer->in = (struct pile){0};
  vc_worker_wake_at(worker, vc_clock_now_ns(&vc_clock_system)); // the next may begin
}

static void take(struct vc_worker *worker, struct link *link, uint8_t *bytes, size_t size)
{
  struct viewer *viewer = (struct viewer *)link;
  if (viewer->is_open) {
    take_frames(worker, viewer, bytes, size);
  } else {
    pile_add(&viewer->in, bytes, size);
    take_answer(worker, viewer);
  }
}

static void closed(struct vc_worker *worker, struct link *link)
{
  atomic_fetch_add_explicit(&viewing_of(worker)->n_lost, 1, memory_order_relaxed);
}

static void begin(struct vc_worker *worker, struct viewer *viewer, size_t session)
{
  viewer->session = (uint32_t)session;
  viewer->link.take = take;
  viewer->link.connected = connected;
  viewer->link.closed = closed;
  link_open(worker, &viewer->link, &viewing_of(worker)->to);
}

static void say(struct vc_worker *worker, struct viewing *viewing, struct viewer *speaker)
{
  char said[STAMP_TEXT_MAX], text[768];
  stamp_print(said, sizeof said, vc_clock_now_ns(&vc_clock_system), ++speaker->last_number);
  int n = snprintf(text, sizeof text,
                   "{\"type\":\"transcript\",\"session\":\"bench-%u\",\"epoch\":1790000000000,"
                   "\"seq\":%llu,\"utteranceId\":\"1-0-00000001\",\"isFinal\":false,\"text\":"
                   "\"%s\",\"language\":\"en\",\"speaker\":null,\"confidence\":0.91,"
                   "\"start\":12.480,\"end\":13.020,\"sentAt\":1790000000.123}",
                   speaker->session, (unsigned long long)speaker->last_number, said);
  send_masked(worker, speaker, VC_WS_TEXT, text, (size_t)n);
  viewing->n_said++;
}

static void speak(struct vc_worker *worker, struct viewing *viewing)
{
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
  uint32_t burst = viewing->burst;
  size_t n_sessions = viewing->n_sessions;
  assert(burst > 0 && n_sessions > 0);
  uint64_t step_ns =
      (uint64_t)((double)VC_NS_PER_S * burst / viewing->rate_hz / (double)n_sessions);
  viewing->next_ns = viewing->next_ns != 0 ? viewing->next_ns : now_ns;
  for (; viewing->next_ns <= now_ns; viewing->next_ns += step_ns) {
    size_t i = viewing->n_said / burst % n_sessions;
    samples_add(&viewing->lateness_ms, (double)(now_ns - viewing->next_ns) / (double)VC_NS_PER_MS);
    for (uint32_t k = 0; k < burst; k++) {
      say(worker, viewing, &viewing->speakers[i]);
    }
  }
  vc_worker_wake_at(worker, viewing->next_ns);
}

static void tick(struct vc_worker *worker)
{
  struct viewing *viewing = viewing_of(worker);
  size_t n_all = viewing->n + (viewing->has_speakers ? viewing->n_sessions : 0);
  size_t n_open = atomic_load_explicit(&viewing->n_open, memory_order_relaxed);
  while (viewing->n_begun < n_all && viewing->n_begun - n_open < OPENING_MAX) {
    size_t i = viewing->n_begun++;
    begin(worker, i < viewing->n ? &viewing->viewers[i] : &viewing->speakers[i - viewing->n],
          i < viewing->n ? i % viewing->n_sessions : i - viewing->n);
  }
  if (viewing->has_speakers && n_open == n_all) {
    speak(worker, viewing);
  }
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct worker_state *state = grow(NULL, 1, sizeof *state);
  state->viewing = *(struct viewing **)config;
  vc_worker_set_state(worker, state);
  vc_worker_wake_at(worker, 1);
  return 0;
}

static void end(struct vc_worker *worker, struct viewer *viewer)
{
  if (viewer->link.take != NULL) {
    link_close(worker, &viewer->link);
    vc_ws_parser_fini(&viewer->parser);
    free(viewer->in.at);
  }
}

static void leave(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  for (size_t i = 0; i < state->viewing->n; i++) {
    end(worker, &state->viewing->viewers[i]);
  }
  for (size_t i = 0; i < state->viewing->n_sessions; i++) {
    end(worker, &state->viewing->speakers[i]);
  }
  free(state);
}

const struct vc_stage_ops viewing_ops = {
    .name = "view", .enter = enter, .handle = load_handle_nothing, .tick = tick, .leave = leave};
