// Publishers in real time, each with a phase of its own; by RTMP they speak as encoders do. The
// only figure taken here is when each audio message was handed to the kernel.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define OUR_CHUNK_SIZE 4096
#define MESSAGE_MAX 65536
#define CONTROL_STREAM 3
#define AUDIO_STREAM 4
#define CONNECTING_MAX 16 // at once
#define TAG_AAC 0xaf

struct worker_state {
  struct publishing *publishing;
};

void publishing_init(struct publishing *publishing, size_t n)
{
  publishing->n = n;
  publishing->publishers = grow(NULL, n, sizeof *publishing->publishers);
  memset(publishing->publishers, 0, n * sizeof *publishing->publishers);
  for (size_t i = 0; i < n; i++) {
    snprintf(publishing->publishers[i].slug, SLUG_MAX, "bench-%zu", i);
    publishing->publishers[i].link.watch.fd = -1;
  }
}

void publishing_fini(struct publishing *publishing)
{
  for (size_t i = 0; i < publishing->n; i++) {
    free(publishing->publishers[i].sent_ns);
    free(publishing->publishers[i].in.at);
  }
  free(publishing->publishers);
  *publishing = (struct publishing){0};
}

// --- what it says

static void send_message(struct vc_worker *worker, struct publisher *publisher, uint8_t stream,
                         const struct rtmp_message *message)
{
  struct rtmp_bytes out = {0};
  rtmp_write(&out, OUR_CHUNK_SIZE, stream, message);
  if (out.has_failed) {
    die("out of memory");
  }
  link_send(worker, &publisher->link, out.at, out.size);
  rtmp_bytes_fini(&out);
}

static void begin_command(struct rtmp_bytes *body, const char *name, double transaction)
{
  rtmp_amf_write_string(body, name);
  rtmp_amf_write_number(body, transaction);
}

static void send_command(struct vc_worker *worker, struct publisher *publisher,
                         struct rtmp_bytes *body, uint32_t stream_id)
{
  const struct rtmp_message message = {
      .type = RTMP_COMMAND_AMF0, .stream_id = stream_id, .payload = body->at, .size = body->size};
  send_message(worker, publisher, CONTROL_STREAM, &message);
  rtmp_bytes_fini(body);
}

static void say_connect(struct vc_worker *worker, struct publisher *publisher)
{
  struct rtmp_bytes control = {0}, body = {0};
  rtmp_write_control(&control, RTMP_SET_CHUNK_SIZE, OUR_CHUNK_SIZE);
  link_send(worker, &publisher->link, control.at, control.size);
  rtmp_bytes_fini(&control);
  begin_command(&body, "connect", 1);
  rtmp_amf_begin_object(&body);
  rtmp_amf_write_key(&body, "app");
  rtmp_amf_write_string(&body, "live");
  rtmp_amf_write_key(&body, "type");
  rtmp_amf_write_string(&body, "nonprivate");
  rtmp_amf_write_key(&body, "tcUrl");
  rtmp_amf_write_string(&body, "rtmp://127.0.0.1/live");
  rtmp_amf_end_object(&body);
  send_command(worker, publisher, &body, 0);
  publisher->step = CONNECTING;
}

static void say_create(struct vc_worker *worker, struct publisher *publisher)
{
  struct rtmp_bytes body = {0};
  begin_command(&body, "createStream", 2);
  rtmp_amf_write_null(&body);
  send_command(worker, publisher, &body, 0);
  publisher->step = CREATING;
}

static void say_publish(struct vc_worker *worker, struct publisher *publisher)
{
  struct rtmp_bytes body = {0};
  begin_command(&body, "publish", 3);
  rtmp_amf_write_null(&body);
  rtmp_amf_write_string(&body, publisher->slug);
  rtmp_amf_write_string(&body, "live");
  publisher->publish_ns = vc_clock_now_ns(&vc_clock_system);
  send_command(worker, publisher, &body, 1);
  publisher->step = PUBLISHING;
}

static void send_audio(struct vc_worker *worker, struct publisher *publisher, uint8_t kind,
                       const void *data, size_t size, uint32_t timestamp_ms)
{
  uint8_t payload[2 + MESSAGE_MAX] = {TAG_AAC, kind};
  size = size < MESSAGE_MAX ? size : MESSAGE_MAX;
  memcpy(payload + 2, data, size);
  const struct rtmp_message message = {.type = RTMP_AUDIO,
                                       .stream_id = 1,
                                       .timestamp_ms = timestamp_ms,
                                       .payload = payload,
                                       .size = size + 2};
  send_message(worker, publisher, AUDIO_STREAM, &message);
}

static struct publishing *publishing_of(const struct vc_worker *worker)
{
  return ((struct worker_state *)vc_worker_state(worker))->publishing;
}

void publisher_go_live(struct vc_worker *worker, struct publisher *publisher)
{
  struct publishing *publishing = publishing_of(worker);
  publisher->step = LIVE;
  publisher->first_ns = vc_clock_now_ns(&vc_clock_system);
  vc_worker_wake_at(worker, publisher->first_ns);
  atomic_fetch_add_explicit(&publishing->n_live, 1, memory_order_relaxed);
}

// --- what it is told

static int text_is(const struct rtmp_amf_value *value, const char *text)
{
  return value->kind == RTMP_AMF_STRING && value->size == strlen(text) &&
         memcmp(value->string, text, value->size) == 0;
}

static void take_status(struct vc_worker *worker, struct publisher *publisher, struct rtmp_amf *amf)
{
  struct rtmp_amf_value value, code;
  while (rtmp_amf_next(amf, &value) == 1) {
    if (value.kind != RTMP_AMF_OBJECT || rtmp_amf_find(&value, "code", &code) != 1) {
      continue;
    }
    if (!text_is(&code, "NetStream.Publish.Start")) {
      die("%s is refused: %.*s", publisher->slug, (int)code.size, code.string);
    }
    if (publisher->step == PUBLISHING) {
      const struct sound *sound = publishing_of(worker)->sound;
      send_audio(worker, publisher, 0, sound->config, sizeof sound->config, 0);
      publisher_go_live(worker, publisher);
    }
  }
}

static void take_command(struct vc_worker *worker, struct publisher *publisher,
                         const struct rtmp_message *message)
{
  struct rtmp_amf amf = {message->payload, message->payload + message->size};
  struct rtmp_amf_value name, transaction;
  if (rtmp_amf_next(&amf, &name) != 1 || rtmp_amf_next(&amf, &transaction) != 1) {
    return;
  }
  if (text_is(&name, "_error")) {
    die("%s: the server answers _error", publisher->slug);
  }
  if (text_is(&name, "_result") && publisher->step == CONNECTING) {
    say_create(worker, publisher);
  } else if (text_is(&name, "_result") && publisher->step == CREATING) {
    say_publish(worker, publisher);
  } else if (text_is(&name, "onStatus")) {
    take_status(worker, publisher, &amf);
  }
}

static void take_messages(struct vc_worker *worker, struct publisher *publisher)
{
  struct rtmp_message message;
  size_t used;
  int got;
  do {
    got = rtmp_reader_next(&publisher->reader, (const uint8_t *)publisher->in.at, publisher->in.n,
                           &used, &message);
    if (got == 1 && message.type == RTMP_COMMAND_AMF0) {
      take_command(worker, publisher, &message);
    }
    pile_drop(&publisher->in, used);
  } while (got == 1);
  if (got < 0) {
    die("%s: the server's RTMP cannot be read: %s", publisher->slug, rtmp_error_text(got));
  }
}

static void take_rtmp(struct vc_worker *worker, struct publisher *publisher, const uint8_t *bytes,
                      size_t size)
{
  pile_add(&publisher->in, bytes, size);
  if (publisher->step == HANDSHAKE && publisher->in.n >= RTMP_S0S1S2_SIZE) {
    link_send(worker, &publisher->link, publisher->in.at + 1, RTMP_HANDSHAKE_SIZE);
    pile_drop(&publisher->in, RTMP_S0S1S2_SIZE);
    say_connect(worker, publisher);
  }
  if (publisher->step > HANDSHAKE) {
    take_messages(worker, publisher);
  }
}

static void connected_rtmp(struct vc_worker *worker, struct publisher *publisher)
{
  uint8_t hello[RTMP_C0C1_SIZE];
  static const uint8_t filling[RTMP_HANDSHAKE_SIZE] = {0};
  rtmp_handshake_begin(filling, hello);
  link_send(worker, &publisher->link, hello, sizeof hello);
}

static void send_rtmp_frame(struct vc_worker *worker, struct publisher *publisher,
                            const struct sound_frame *frame, uint32_t timestamp_ms)
{
  send_audio(worker, publisher, 1, frame->at, frame->size, timestamp_ms);
}

const struct publishing_way rtmp_way = {connected_rtmp, take_rtmp, send_rtmp_frame};

// --- either way

static void connected(struct vc_worker *worker, struct link *link)
{
  publishing_of(worker)->way->connected(worker, (struct publisher *)link);
}

static void take(struct vc_worker *worker, struct link *link, uint8_t *bytes, size_t size)
{
  publishing_of(worker)->way->take(worker, (struct publisher *)link, bytes, size);
}

static void closed(struct vc_worker *worker, struct link *link)
{
  struct publishing *publishing = publishing_of(worker);
  ((struct publisher *)link)->step = LOST;
  atomic_fetch_add_explicit(&publishing->n_lost, 1, memory_order_relaxed);
}

// --- time

static uint64_t due_ns(const struct publishing *publishing, const struct publisher *publisher,
                       size_t message)
{
  return publisher->first_ns + message * publishing->sound->frame_samples * VC_NS_PER_S /
                                   publishing->sound->sample_rate_hz;
}

double publishing_late_ms(const struct publishing *publishing, uint64_t from_ns, uint64_t to_ns)
{
  struct samples late_ms = {0};
  for (size_t i = 0; i < publishing->n; i++) {
    const struct publisher *publisher = &publishing->publishers[i];
    uint64_t due = due_ns(publishing, publisher, 0);
    for (size_t j = 0; publisher->n_sent > 0 && due < to_ns; j++) {
      uint64_t sent_ns = j < publisher->n_sent ? publisher->sent_ns[j] : to_ns;
      if (due >= from_ns) {
        samples_add(&late_ms, (double)(sent_ns - due) / (double)VC_NS_PER_MS);
      }
      due = due_ns(publishing, publisher, j + 1);
    }
  }
  samples_sort(&late_ms);
  double part = samples_part(&late_ms, 0.99);
  samples_fini(&late_ms);
  return part;
}

static void send_frame(struct vc_worker *worker, struct publishing *publishing,
                       struct publisher *publisher)
{
  const struct sound *sound = publishing->sound;
  const struct sound_frame *frame = &sound->frames[publisher->n_sent % sound->n_frames];
  uint64_t timestamp_ms =
      publisher->n_sent * sound->frame_samples * UINT64_C(1000) / sound->sample_rate_hz;
  // Before it: after it the threads that it wakes may have run already.
  uint64_t now_ns = vc_clock_now_ns(&vc_clock_system);
  publishing->way->send_frame(worker, publisher, frame, (uint32_t)timestamp_ms);
  if (publisher->n_sent == publisher->sent_capacity) {
    publisher->sent_capacity = publisher->sent_capacity > 0 ? publisher->sent_capacity * 2 : 4096;
    publisher->sent_ns = grow(publisher->sent_ns, publisher->sent_capacity, sizeof(uint64_t));
  }
  publisher->sent_ns[publisher->n_sent++] = now_ns;
}

static void tick(struct vc_worker *worker)
{
  struct publishing *publishing = publishing_of(worker);
  size_t n_connecting = 0;
  for (size_t i = 0; i < publishing->n_begun; i++) {
    struct publisher *publisher = &publishing->publishers[i];
    n_connecting += publisher->step < LIVE;
    if (publisher->step != LIVE) {
      continue;
    }
    while (publisher->step == LIVE &&
           due_ns(publishing, publisher, publisher->n_sent) <= vc_clock_now_ns(&vc_clock_system)) {
      send_frame(worker, publishing, publisher);
    }
    vc_worker_wake_at(worker, due_ns(publishing, publisher, publisher->n_sent));
  }
  while (publishing->n_begun < publishing->n && n_connecting++ < CONNECTING_MAX) {
    struct publisher *publisher = &publishing->publishers[publishing->n_begun++];
    publisher->link.take = take;
    publisher->link.connected = connected;
    publisher->link.closed = closed;
    publisher->connect_ns = vc_clock_now_ns(&vc_clock_system);
    rtmp_reader_init(&publisher->reader, MESSAGE_MAX, MESSAGE_MAX);
    link_open(worker, &publisher->link, &publishing->to, 0);
  }
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  struct worker_state *state = grow(NULL, 1, sizeof *state);
  state->publishing = *(struct publishing **)config;
  vc_worker_set_state(worker, state);
  vc_worker_wake_at(worker, 1);
  return 0;
}

static void leave(struct vc_worker *worker)
{
  struct worker_state *state = vc_worker_state(worker);
  for (size_t i = 0; i < state->publishing->n_begun; i++) {
    link_close(worker, &state->publishing->publishers[i].link);
    rtmp_reader_fini(&state->publishing->publishers[i].reader);
    vc_ws_parser_fini(&state->publishing->publishers[i].parser);
  }
  free(state);
}

const struct vc_stage_ops publishing_ops = {
    .name = "publish", .enter = enter, .handle = load_handle_nothing, .tick = tick, .leave = leave};
