// A Gladia-compatible service that hears nothing: it notes when which audio came, acknowledges it,
// and says what it is told to, stamped with the time.
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <verbacast/wire/gladia_server.h>
#include <verbacast/wire/http.h>
#include <verbacast/wire/json.h>

#include "bench.h"

#define RATE_HZ 16000
#define BYTES_PER_S (RATE_HZ * 2)
#define MESSAGE_MAX (1 << 20)
#define MARK_LEVEL 20000          // of a mark; what lies between is far quieter
#define MARK_QUIET (RATE_HZ / 2)  // before one
#define UTTERANCE_SAMPLES RATE_HZ // without a rate: a final a second, so that audio is let go
#define BACKLOG 1024
#define N_WORDS 8

struct peer {       // a connection; one that is upgraded belongs to a session
  struct link link; // first
  struct peer *next;
  struct pile in;
  struct vc_ws_parser parser;
  struct heard *heard; // NULL: still HTTP
  char id[24];
  uint64_t n_said, n_finals, next_ns;
  double utterance_start_s;
};

struct worker_state {
  struct speech *speech;
  struct vc_watch door;
};

void speech_init(struct speech *speech, size_t max_sessions)
{
  speech->max_sessions = max_sessions;
  speech->heard = grow(NULL, max_sessions, sizeof *speech->heard);
  memset(speech->heard, 0, max_sessions * sizeof *speech->heard);
}

void speech_fini(struct speech *speech)
{
  for (size_t i = 0; i < speech->n_heard; i++) {
    free(speech->heard[i].pieces);
    free(speech->heard[i].marks);
  }
  free(speech->heard);
  samples_fini(&speech->lateness_ms);
  *speech = (struct speech){0};
}

void stamp_print(char *text, size_t size, uint64_t now_ns, uint64_t number)
{
  int n =
      snprintf(text, size, "@%llu #%llu ", (unsigned long long)now_ns, (unsigned long long)number);
  for (size_t at = (size_t)n; at + 1 < size; at++) {
    text[at] = at % 6 == 5 ? ' ' : 'a';
  }
  text[size - 2] = '.';
  text[size - 1] = '\0';
}

int stamp_find(const uint8_t *bytes, size_t size, uint64_t *at_ns, uint64_t *number)
{
  const char *begin = (const char *)bytes, *end = begin + size, *at = begin;
  do {
    at = memchr(at, '@', (size_t)(end - at));
    if (at == NULL) {
      return 0;
    }
    at++;
  } while (at - begin < 2 || at[-2] != '"');
  uint64_t figures[2] = {0, 0};
  for (int i = 0; i < 2; i++) {
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
      figures[i] = figures[i] * 10 + (uint64_t)(*at - '0');
    }
    at += i == 0 ? 2 : 0; // " #"
  }
  *at_ns = figures[0];
  *number = figures[1];
  return 1;
}

// --- what it says

static struct speech *speech_of(const struct vc_worker *worker)
{
  return ((struct worker_state *)vc_worker_state(worker))->speech;
}

static void say(struct vc_worker *worker, struct peer *peer, struct vc_text *text)
{
  uint8_t header[VC_WS_HEADER_MAX];
  struct pile frame = {0};
  pile_add(&frame, header, vc_ws_print_header(header, VC_WS_TEXT, text->size, NULL));
  pile_add(&frame, text->at, text->size);
  link_send(worker, &peer->link, frame.at, frame.n);
  free(frame.at);
  vc_text_fini(text);
}

static struct vc_gladia_envelope envelope_of(const struct peer *peer)
{
  return (struct vc_gladia_envelope){peer->id, vc_clock_unix_ms(&vc_clock_system)};
}

static uint64_t samples_of(const struct heard *heard)
{
  return heard->n_pieces > 0 ? heard->pieces[heard->n_pieces - 1].n_samples : 0;
}

static double rate_of(const struct speech *speech)
{
  return speech->pace != NULL ? speech->pace->rate_hz : 0;
}

// With a rate utterances follow each other through the sound, each as long as its messages take.
static double end_of_utterance(const struct speech *speech, const struct peer *peer)
{
  double heard_s = (double)samples_of(peer->heard) / RATE_HZ;
  double end_s = peer->utterance_start_s +
                 (rate_of(speech) > 0 ? speech->messages_per_final / rate_of(speech) : HUGE_VAL);
  return end_s < heard_s ? end_s : heard_s;
}

// Of an utterance, one after the other in equal parts.
static void make_words(struct vc_word *words, double start_s, double end_s)
{
  double step_s = (end_s - start_s) / N_WORDS;
  for (int i = 0; i < N_WORDS; i++) {
    words[i] = (struct vc_word){"words", start_s + i * step_s, start_s + (i + 0.8) * step_s, 0.9};
  }
}

static void say_transcript(struct vc_worker *worker, struct peer *peer, const char *said,
                           int is_final)
{
  char id[32];
  struct vc_text text = {0};
  struct vc_word words[N_WORDS];
  const struct vc_gladia_envelope envelope = envelope_of(peer);
  double end_s = end_of_utterance(speech_of(worker), peer);
  snprintf(id, sizeof id, "00-%08llu", (unsigned long long)peer->n_finals);
  make_words(words, peer->utterance_start_s, end_s);
  const struct vc_utterance utterance = {.id = id,
                                         .text = said,
                                         .language = "en",
                                         .start_s = peer->utterance_start_s,
                                         .end_s = end_s,
                                         .confidence = 0.9,
                                         .is_final = is_final,
                                         .words = words,
                                         .n_words = speech_of(worker)->has_words ? N_WORDS : 0};
  vc_gladia_print_transcript(&text, &envelope, &utterance);
  say(worker, peer, &text);
  if (is_final) {
    peer->n_finals++;
    peer->utterance_start_s = end_s;
  }
}

static void say_stamped(struct vc_worker *worker, struct peer *peer, uint64_t number)
{
  char said[STAMP_TEXT_MAX];
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
  struct pace *pace = speech_of(worker)->pace;
  peer->n_said++;
  if (pace != NULL) {
    pace_said(pace, peer->heard->session, now_ns);
  }
  stamp_print(said, sizeof said, now_ns, number);
  say_transcript(worker, peer, said, peer->n_said % speech_of(worker)->messages_per_final == 0);
  atomic_fetch_add_explicit(&speech_of(worker)->n_said, 1, memory_order_relaxed);
}

static void say_all(struct vc_worker *worker, struct peer *peer)
{
  for (uint32_t i = 0; i < speech_of(worker)->pace->burst; i++) {
    say_stamped(worker, peer, peer->n_said + 1);
  }
}

static void say_end(struct vc_worker *worker, struct peer *peer)
{
  struct vc_text text = {0};
  const struct vc_gladia_envelope envelope = envelope_of(peer);
  double length_s = (double)samples_of(peer->heard) / RATE_HZ;
  vc_gladia_print_stop_ack(&text, &envelope, length_s, 0);
  say(worker, peer, &text);
  vc_gladia_print_end_recording(&text, &envelope, length_s);
  say(worker, peer, &text);
  vc_gladia_print_lifecycle(&text, &envelope, "end_session");
  say(worker, peer, &text);
}

// --- what it hears

static void look_for_marks(struct heard *heard, const uint8_t *bytes, size_t n, uint64_t before)
{
  for (size_t i = 0; i < n; i++) {
    int16_t sample = (int16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
    if (sample < MARK_LEVEL && sample > -MARK_LEVEL) {
      heard->quiet_samples++;
      continue;
    }
    if (heard->quiet_samples > MARK_QUIET) {
      if (heard->n_marks == heard->marks_capacity) {
        heard->marks_capacity = heard->marks_capacity * 2 + 16;
        heard->marks = grow(heard->marks, heard->marks_capacity, sizeof *heard->marks);
      }
      heard->marks[heard->n_marks++] = before + i;
    }
    heard->quiet_samples = 0;
  }
}

// Answers the piece that has just come.
static void echo(struct vc_worker *worker, struct peer *peer, uint64_t now_ns)
{
  if (now_ns >= peer->next_ns) {
    peer->next_ns = now_ns + (uint64_t)((double)VC_NS_PER_S / speech_of(worker)->echo_hz);
    say_stamped(worker, peer, peer->heard->n_pieces);
  }
}

static void hear(struct vc_worker *worker, struct peer *peer, const uint8_t *bytes, size_t size)
{
  struct heard *heard = peer->heard;
  struct vc_text text = {0};
  const struct vc_gladia_envelope envelope = envelope_of(peer);
  uint64_t before = samples_of(heard), after = before + size / 2;
  if (heard->n_pieces == heard->capacity) {
    heard->capacity = heard->capacity * 2 + 1024;
    heard->pieces = grow(heard->pieces, heard->capacity, sizeof *heard->pieces);
  }
  heard->pieces[heard->n_pieces++] =
      (struct hearing_piece){vc_clock_now_ns(&vc_clock_system), after};
  look_for_marks(heard, bytes, size / 2, before);
  vc_gladia_print_ack(&text, &envelope, before * 2, after * 2, BYTES_PER_S);
  say(worker, peer, &text);
  if (speech_of(worker)->echo_hz > 0) {
    echo(worker, peer, heard->pieces[heard->n_pieces - 1].at_ns);
  } else if (speech_of(worker)->pace == NULL &&
             before / UTTERANCE_SAMPLES != after / UTTERANCE_SAMPLES) {
    say_transcript(worker, peer, "as scripted", 1);
  }
}

static void take_frames(struct vc_worker *worker, struct peer *peer, const uint8_t *bytes,
                        size_t size)
{
  struct vc_ws_event event;
  size_t used;
  int got;
  while ((got = vc_ws_parse(&peer->parser, bytes, size, &used, &event)) == 1) {
    bytes += used;
    size -= used;
    if (event.opcode == VC_WS_BINARY) {
      hear(worker, peer, event.payload, event.size);
    } else if (event.opcode == VC_WS_TEXT &&
               memmem(event.payload, event.size, "stop_recording", 14) != NULL) {
      say_end(worker, peer);
    } else if (event.opcode == VC_WS_CLOSE) {
      link_close(worker, &peer->link);
      return;
    }
  }
  if (got < 0) {
    die("the system under test breaks the WebSocket protocol (%d)", event.close_code);
  }
}

// --- HTTP

static void answer(struct vc_worker *worker, struct peer *peer, const char *status,
                   const char *more, const char *body)
{
  char head[512];
  int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n", status, more,
                   strlen(body));
  link_send(worker, &peer->link, head, (size_t)n);
  link_send(worker, &peer->link, body, strlen(body));
}

static void begin_session(struct vc_worker *worker, struct peer *peer, const char *body,
                          size_t size)
{
  struct speech *speech = speech_of(worker);
  const char *why;
  json_t *root = vc_json_parse(body, size, &why);
  const char *slug = vc_json_string(json_object_get(root, "custom_metadata"), "session", "unknown");
  if (root == NULL || speech->n_heard == speech->max_sessions) {
    die("a POST that cannot be served: %s", root == NULL ? why : "more sessions than publishers");
  }
  struct heard *heard = &speech->heard[speech->n_heard++];
  snprintf(heard->slug, sizeof heard->slug, "%s", slug);
  const char *number = strrchr(slug, '-');
  heard->session = number != NULL ? strtoull(number + 1, NULL, 10) : 0;
  json_decref(root);
  char text[256];
  snprintf(text, sizeof text,
           "{\"id\":\"s%zu\",\"created_at\":\"2026-01-01T00:00:00.000Z\","
           "\"url\":\"ws://127.0.0.1:%u/v2/live?token=%zu\"}",
           speech->n_heard, speech->address.port, speech->n_heard - 1);
  answer(worker, peer, "201 Created", "Content-Type: application/json\r\n", text);
}

static uint64_t step_of(const struct speech *speech)
{
  double rate_hz = rate_of(speech);
  return rate_hz > 0 ? (uint64_t)((double)VC_NS_PER_S * speech->pace->burst / rate_hz) : 0;
}

// Sessions speak when they do and not all at once: parts of the golden section lie apart, however
// many there are.
static uint64_t first_of(const struct speech *speech, size_t session, uint64_t from_ns)
{
  uint64_t step_ns = step_of(speech);
  double part = fmod((double)session * 0.6180339887, 1);
  return step_ns > 0 ? (from_ns / step_ns + 1) * step_ns + (uint64_t)(part * (double)step_ns)
                     : from_ns;
}

static void upgrade(struct vc_worker *worker, struct peer *peer, const struct vc_http_head *head)
{
  struct speech *speech = speech_of(worker);
  const char *key = vc_http_find(head, "Sec-WebSocket-Key");
  const char *token = strstr(head->target, "token=");
  size_t number = token != NULL ? strtoull(token + 6, NULL, 10) : SIZE_MAX;
  if (key == NULL || number >= speech->n_heard) {
    die("an upgrade that cannot be served: %s", head->target);
  }
  char accept[VC_WS_ACCEPT_SIZE], text[256];
  vc_ws_print_accept(key, accept);
  int n = snprintf(text, sizeof text,
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                   accept);
  link_send(worker, &peer->link, text, (size_t)n);
  vc_ws_parser_init(&peer->parser, VC_WS_SERVER, MESSAGE_MAX);
  snprintf(peer->id, sizeof peer->id, "s%zu", number + 1);
  peer->heard = &speech->heard[number];
  peer->next_ns =
      first_of(speech, peer->heard->session, vc_clock_now_ns(&vc_clock_system) + VC_NS_PER_S);
  vc_worker_wake_at(worker, peer->next_ns);
  atomic_fetch_add_explicit(&speech->n_live, 1, memory_order_relaxed);
}

static void take_request(struct vc_worker *worker, struct peer *peer)
{
  struct vc_http_head head;
  uint64_t length = 0;
  char *copy = memcpy(grow(NULL, peer->in.n, 1), peer->in.at, peer->in.n); // the parser changes it
  int got = vc_http_parse_head(copy, peer->in.n, VC_HTTP_REQUEST, &head);
  if (got == -1 || (got == 0 && vc_http_content_length(&head, &length) == -1)) {
    die("a malformed HTTP request from the system under test");
  }
  if (got == 0 && head.size + length <= peer->in.n) {
    if (strcmp(head.method, "POST") == 0) {
      begin_session(worker, peer, copy + head.size, length);
    } else {
      upgrade(worker, peer, &head);
    }
    pile_drop(&peer->in, head.size + length);
    if (peer->heard != NULL && peer->in.n > 0) {
      take_frames(worker, peer, (const uint8_t *)peer->in.at, peer->in.n);
    }
  }
  free(copy);
}

static void take(struct vc_worker *worker, struct link *link, uint8_t *bytes, size_t size)
{
  struct peer *peer = (struct peer *)link;
  if (peer->heard != NULL) {
    take_frames(worker, peer, bytes, size);
  } else {
    pile_add(&peer->in, bytes, size);
    take_request(worker, peer);
  }
}

static void closed(struct vc_worker *worker, struct link *link)
{
  // Its place in the list stays until the end: a run has as many connections as sessions.
}

static void door_ready(struct vc_worker *worker, struct vc_watch *watch, uint32_t events)
{
  struct speech *speech = speech_of(worker);
  int fd;
  while ((fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    struct peer *peer = grow(NULL, 1, sizeof *peer);
    *peer = (struct peer){.link = {.take = take, .closed = closed}, .next = speech->peers};
    speech->peers = peer;
    link_adopt(worker, &peer->link, fd);
  }
}

// --- time

static void tick(struct vc_worker *worker)
{
  struct speech *speech = speech_of(worker);
  int is_silent = atomic_load_explicit(&speech->is_silent, memory_order_relaxed);
  uint64_t step_ns = step_of(speech);
  for (struct peer *peer = speech->peers; peer != NULL && step_ns > 0; peer = peer->next) {
    if (peer->heard == NULL || peer->link.watch.fd < 0) {
      continue;
    }
    uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
    if (peer->next_ns <= now_ns && peer->heard->n_pieces > 0 && !is_silent) {
      pace_late(speech->pace, &speech->lateness_ms, peer->next_ns, now_ns);
      say_all(worker, peer);
      peer->next_ns += step_ns;
    } else if (peer->next_ns <= now_ns) {
      // Nothing was heard yet, or nothing is to be said.
      peer->next_ns += ((now_ns - peer->next_ns) / step_ns + 1) * step_ns;
    }
    vc_worker_wake_at(worker, peer->next_ns);
  }
}

static void turned(struct vc_worker *worker)
{
  struct speech *speech = speech_of(worker);
  if (speech->pace == NULL || !pace_is_due(speech->pace, vc_clock_now_ns(&vc_clock_system))) {
    return;
  }
  for (struct peer *peer = speech->peers; peer != NULL; peer = peer->next) {
    if (peer->heard != NULL && peer->link.watch.fd >= 0) {
      say_all(worker, peer);
    }
  }
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct worker_state *state = grow(NULL, 1, sizeof *state);
  *state = (struct worker_state){.speech = *(struct speech **)config};
  int fd = vc_listen("127.0.0.1:0", BACKLOG, &state->speech->address, error);
  state->door = (struct vc_watch){.fd = fd, .ready = door_ready};
  if (fd < 0 || vc_worker_watch(worker, &state->door, EPOLLIN) != 0) {
    free(state);
    return -1;
  }
  vc_worker_set_state(worker, state);
  return 0;
}

static void leave(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  for (struct peer *peer = state->speech->peers, *next; peer != NULL; peer = next) {
    next = peer->next;
    link_close(worker, &peer->link);
    vc_ws_parser_fini(&peer->parser);
    free(peer->in.at);
    free(peer);
  }
  state->speech->peers = NULL;
  vc_worker_unwatch(worker, &state->door);
  close(state->door.fd);
  free(state);
}

const struct vc_stage_ops speech_ops = {.name = "speech",
                                        .enter = enter,
                                        .handle = load_handle_nothing,
                                        .turned = turned,
                                        .tick = tick,
                                        .leave = leave};
