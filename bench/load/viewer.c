// Viewers: they open a WebSocket, read, and compare each message's stamp with the clock. Where a
// system has no speech peer, speakers say the messages to it.
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/wire/http.h>

#include "bench.h"

#define MESSAGE_MAX 65536
#define OPENING_MAX 64            // at once
#define SMALL_RECEIVE_BUFFER 4096 // of those that hardly read
#define SIP_BYTES 1024            // that a slow one reads
#define SIP_NS VC_NS_PER_S        // so often

struct worker_state {
  struct viewing *viewing;
};

enum viewer_kind viewer_kind_of(size_t i, uint32_t slow_part, uint32_t stalled_part)
{
  uint32_t at = (uint32_t)(i * 2654435761U) >> 16; // no session has more of a kind than another
  at %= 100;
  return at < stalled_part ? STALLED : at < stalled_part + slow_part ? SLOW : READER;
}

void viewing_init(struct viewing *viewing)
{
  viewing->viewers = grow(NULL, viewing->n, sizeof *viewing->viewers);
  memset(viewing->viewers, 0, viewing->n * sizeof *viewing->viewers);
  for (size_t i = 0; i < viewing->n; i++) {
    viewing->viewers[i].session =
        (uint32_t)(viewing->first_session + (viewing->first + i) % viewing->n_sessions);
    viewing->viewers[i].kind =
        viewer_kind_of(viewing->first + i, viewing->slow_part, viewing->stalled_part);
  }
  viewing->speakers = grow(NULL, viewing->n_sessions, sizeof *viewing->speakers);
  memset(viewing->speakers, 0, viewing->n_sessions * sizeof *viewing->speakers);
  for (size_t i = 0; i < viewing->n_sessions; i++) {
    viewing->speakers[i].session = (uint32_t)i;
  }
}

void viewing_fini(struct viewing *viewing)
{
  free(viewing->viewers);
  free(viewing->speakers);
  free(viewing->receipts.at);
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
  const struct viewer *viewer = (struct viewer *)link;
  const struct viewing *viewing = viewing_of(worker);
  const char *path = is_speaker(viewing, viewer) ? viewing->publish_path : viewing->watch_path;
  const char *session = strstr(path, "{session}");
  char text[1024], slug[SLUG_MAX] = "";
  if (session != NULL) {
    snprintf(slug, sizeof slug, "bench-%u", viewer->session);
  }
  int n = snprintf(text, sizeof text,
                   "GET %.*s%s%s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                   "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                   session != NULL ? (int)(session - path) : (int)strlen(path), path, slug,
                   session != NULL ? session + strlen("{session}") : "");
  if (n < 0 || (size_t)n >= sizeof text) {
    die("the path %s is too long", path);
  }
  link_send(worker, link, text, (size_t)n);
}

static double number_behind(const uint8_t *bytes, size_t size, const char *key)
{
  const char *at = memmem(bytes, size, key, strlen(key));
  char text[32];
  if (at == NULL) {
    return NAN;
  }
  at += strlen(key);
  snprintf(text, sizeof text, "%.*s", (int)((const char *)bytes + size - at), at);
  return strtod(text, NULL);
}

static void keep(struct viewing *viewing, const struct viewer *viewer, uint64_t now_ns,
                 const uint8_t *bytes, size_t size)
{
  struct receipts *receipts = &viewing->receipts;
  struct receipt receipt = {.at_ns = now_ns, .session = viewer->session};
  if (memmem(bytes, size, "\"isFinal\"", 9) == NULL) {
    return; // no transcript
  }
  if (!stamp_find(bytes, size, &receipt.said_ns, &receipt.number)) {
    receipt.end_s = number_behind(bytes, size, "\"end\":");
    receipt.is_final = memmem(bytes, size, "\"isFinal\":true", 14) != NULL;
  }
  if (receipts->n == receipts->capacity) {
    receipts->capacity = receipts->capacity * 2 + 1024;
    receipts->at = grow(receipts->at, receipts->capacity, sizeof *receipts->at);
  }
  receipts->at[receipts->n++] = receipt;
}

static void become_live(struct viewing *viewing, struct viewer *viewer, uint64_t said_ns,
                        const uint8_t *bytes, size_t size)
{
  if (said_ns < viewing->live_from_ns) {
    viewing->n_before++;
    return;
  }
  viewer->is_live = 1;
  if (atomic_load_explicit(&viewing->seq, memory_order_relaxed) == 0) {
    atomic_store(&viewing->epoch, (uint64_t)number_behind(bytes, size, "\"epoch\":"));
    atomic_store(&viewing->seq, (uint64_t)number_behind(bytes, size, "\"seq\":"));
  }
  atomic_fetch_add(&viewing->n_live, 1);
}

// What comes twice, or behind what was said after it, is not received.
static void count(struct viewing *viewing, uint64_t now_ns, uint64_t said_ns, int is_new)
{
  if (is_new && pace_is_measured(viewing->pace, now_ns)) {
    atomic_fetch_add_explicit(&viewing->n_arrived, 1, memory_order_relaxed);
  }
  if (!pace_is_measured(viewing->pace, said_ns)) {
    return;
  }
  viewing->n_disordered += !is_new;
  if (is_new) {
    atomic_fetch_add_explicit(&viewing->n_received, 1, memory_order_relaxed);
    samples_add(&viewing->delay_ms, (double)(now_ns - said_ns) / (double)VC_NS_PER_MS);
  }
}

static void note(struct viewing *viewing, struct viewer *viewer, uint64_t now_ns,
                 const uint8_t *bytes, size_t size)
{
  uint64_t said_ns, number;
  if (!stamp_find(bytes, size, &said_ns, &number)) {
    return;
  }
  if (!viewer->is_live) {
    become_live(viewing, viewer, said_ns, bytes, size);
  }
  int is_new = number > viewer->last_number;
  if (viewer->kind == READER) {
    count(viewing, now_ns, said_ns, is_new);
  }
  if (!is_new) {
    return;
  }
  viewer->last_number = number;
  if (viewer->kind == READER) {
    pace_received(viewing->pace, number);
  }
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

// Nearly all that comes are whole texts, which need no copy and no look at each byte: what the load
// spends the system under test does not get.
// Returns: 1 and the next as vc_ws_parse gives it, or 0: it is something else.
static int take_whole_text(const struct vc_ws_parser *parser, const uint8_t *bytes, size_t size,
                           size_t *used, struct vc_ws_event *event)
{
  if (parser->is_in_payload || parser->n_header > 0 || parser->message_opcode != 0 || size < 4 ||
      bytes[0] != (0x80 | VC_WS_TEXT) || bytes[1] > 126) {
    return 0;
  }
  size_t n_header = bytes[1] == 126 ? 4 : 2;
  size_t n = bytes[1] == 126 ? (size_t)(bytes[2] << 8 | bytes[3]) : bytes[1];
  if (size - n_header < n) {
    return 0;
  }
  *event = (struct vc_ws_event){.opcode = VC_WS_TEXT, .payload = bytes + n_header, .size = n};
  *used = n_header + n;
  return 1;
}

static void take_frames(struct vc_worker *worker, struct viewer *viewer, const uint8_t *bytes,
                        size_t size)
{
  struct vc_ws_event event;
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
  size_t used;
  int got;
  while (take_whole_text(&viewer->parser, bytes, size, &used, &event) ||
         (got = vc_ws_parse(&viewer->parser, bytes, size, &used, &event)) == 1) {
    bytes += used;
    size -= used;
    if (event.opcode == VC_WS_TEXT && viewing_of(worker)->keeps_receipts) {
      keep(viewing_of(worker), viewer, now_ns, event.payload, event.size);
    } else if (event.opcode == VC_WS_TEXT) {
      note(viewing_of(worker), viewer, now_ns, event.payload, event.size);
    } else if (event.opcode == VC_WS_PING) {
      send_masked(worker, viewer, VC_WS_PONG, event.payload, event.size);
    } else if (event.opcode == VC_WS_CLOSE && viewer->kind == READER) {
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
  if (viewer->kind != READER && viewer->link.watch.fd >= 0) {
    link_pause(worker, &viewer->link);
  }
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
  if (((struct viewer *)link)->kind != READER) {
    return; // it was too slow, and is told so in its own time
  }
  atomic_fetch_add_explicit(&viewing_of(worker)->n_lost, 1, memory_order_relaxed);
}

static void begin(struct vc_worker *worker, struct viewer *viewer, size_t number)
{
  viewer->link.take = take;
  viewer->link.connected = connected;
  viewer->link.closed = closed;
  viewer->link.receive_buffer = viewer->kind != READER ? SMALL_RECEIVE_BUFFER : 0;
  link_open(worker, &viewer->link, &viewing_of(worker)->to, number);
}

static void say(struct vc_worker *worker, struct viewing *viewing, struct viewer *speaker)
{
  char said[STAMP_TEXT_MAX], text[768];
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
  pace_said(viewing->pace, speaker->session, now_ns);
  stamp_print(said, sizeof said, now_ns, ++speaker->last_number);
  int n = snprintf(text, sizeof text,
                   "{\"type\":\"transcript\",\"session\":\"bench-%u\",\"epoch\":1790000000000,"
                   "\"seq\":%llu,\"utteranceId\":\"1-0-00000001\",\"isFinal\":false,\"text\":"
                   "\"%s\",\"language\":\"en\",\"speaker\":null,\"confidence\":0.91,"
                   "\"start\":12.480,\"end\":13.020,\"sentAt\":1790000000.123}",
                   speaker->session, (unsigned long long)speaker->last_number, said);
  send_masked(worker, speaker, VC_WS_TEXT, text, (size_t)n);
  viewing->n_said++;
}

static void say_all(struct vc_worker *worker, struct viewing *viewing, struct viewer *speaker)
{
  for (uint32_t i = 0; i < viewing->pace->burst; i++) {
    say(worker, viewing, speaker);
  }
}

// At a rate.
static void speak(struct vc_worker *worker, struct viewing *viewing)
{
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
  const struct pace *pace = viewing->pace;
  size_t n_sessions = viewing->n_sessions;
  assert(pace->burst > 0 && n_sessions > 0);
  uint64_t step_ns =
      (uint64_t)((double)VC_NS_PER_S * pace->burst / pace->rate_hz / (double)n_sessions);
  viewing->next_ns = viewing->next_ns != 0 ? viewing->next_ns : now_ns;
  for (; viewing->next_ns <= now_ns; viewing->next_ns += step_ns) {
    size_t i = viewing->n_said / pace->burst % n_sessions;
    pace_late(viewing->pace, &viewing->lateness_ms, viewing->next_ns, now_ns);
    say_all(worker, viewing, &viewing->speakers[i]);
  }
  vc_worker_wake_at(worker, viewing->next_ns);
}

static void turned(struct vc_worker *worker)
{
  struct viewing *viewing = viewing_of(worker);
  if (viewing->has_speakers && pace_is_due(viewing->pace, vc_clock_now_ns(&vc_clock_system))) {
    for (size_t i = 0; i < viewing->n_sessions; i++) {
      say_all(worker, viewing, &viewing->speakers[i]);
    }
  }
}

static void sip(struct vc_worker *worker, struct viewing *viewing)
{
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
  if (now_ns >= viewing->next_sip_ns) {
    for (size_t i = 0; i < viewing->n_begun && i < viewing->n; i++) {
      struct viewer *viewer = &viewing->viewers[i];
      if (viewer->kind == SLOW && viewer->is_open) {
        link_sip(worker, &viewer->link, SIP_BYTES);
      }
    }
    viewing->next_sip_ns = now_ns + SIP_NS;
  }
  vc_worker_wake_at(worker, viewing->next_sip_ns);
}

static void tick(struct vc_worker *worker)
{
  struct viewing *viewing = viewing_of(worker);
  size_t n_all = viewing->n + (viewing->has_speakers ? viewing->n_sessions : 0);
  size_t n_open = atomic_load_explicit(&viewing->n_open, memory_order_relaxed);
  size_t opening_max = viewing->opening_max > 0 ? viewing->opening_max : OPENING_MAX;
  while (viewing->n_begun < n_all && viewing->n_begun - n_open < opening_max) {
    size_t i = viewing->n_begun++;
    begin(worker, i < viewing->n ? &viewing->viewers[i] : &viewing->speakers[i - viewing->n],
          viewing->first + i);
  }
  if (viewing->has_speakers && n_open == n_all && viewing->pace->rate_hz > 0) {
    speak(worker, viewing);
  }
  if (viewing->slow_part > 0) {
    sip(worker, viewing);
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

const struct vc_stage_ops viewing_ops = {.name = "view",
                                         .enter = enter,
                                         .handle = load_handle_nothing,
                                         .turned = turned,
                                         .tick = tick,
                                         .leave = leave};
