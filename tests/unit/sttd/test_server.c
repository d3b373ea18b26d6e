// The server on a real socket, with an engine that counts half seconds.
#include "client.h"
#include "fake_engine.h"
#include "room.h"

#include <verbacast/base/options.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define S ENGINE_RATE_HZ
#define ALL                                                                                        \
  "{\"encoding\":\"wav/pcm\",\"bit_depth\":16,\"sample_rate\":16000,\"channels\":1,"               \
  "\"endpointing\":0.3,\"language_config\":{\"languages\":[\"en\"]},"                              \
  "\"custom_metadata\":{\"session\":\"room-7\"},\"messages_config\":{"                             \
  "\"receive_partial_transcripts\":true,\"receive_final_transcripts\":true,"                       \
  "\"receive_speech_events\":true,\"receive_acknowledgments\":true,\"receive_errors\":true,"       \
  "\"receive_lifecycle_events\":true,\"receive_post_processing_events\":true}}"
#define FINALS_ONLY                                                                                \
  "{\"messages_config\":{\"receive_partial_transcripts\":false,"                                   \
  "\"receive_final_transcripts\":true,\"receive_speech_events\":false,"                            \
  "\"receive_acknowledgments\":false,\"receive_lifecycle_events\":false,"                          \
  "\"receive_post_processing_events\":false}}"

static _Atomic int n_until_refused; // tables that are still made, then one is not; 0: all are

static int is_refused(size_t size)
{
  return size == sizeof(UT_hash_table) && atomic_load(&n_until_refused) > 0 &&
         atomic_fetch_sub(&n_until_refused, 1) == 1;
}

// The compiler may make one of the other.
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size)
{
  return is_refused(size) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
  return is_refused(n * size) ? NULL : __real_calloc(n, size);
}

// The real clock, and what a test puts it forward by.
static _Atomic uint64_t forward_ns;

static uint64_t read_clock(void *context)
{
  return vc_clock_now_ns(&vc_clock_system) + atomic_load(&forward_ns);
}

static int64_t read_unix(void *context)
{
  return vc_clock_unix_us(&vc_clock_system);
}

static const struct vc_clock test_clock = {.monotonic_ns = read_clock, .unix_us = read_unix};

struct rig {
  struct vc_sttd_options options;
  struct vc_option_group group;
  struct vc_option_set set;
  struct vc_metrics *metrics;
  struct engine *engine;
  struct vc_sttd *sttd;
  struct vc_address address;
};

static int create(struct rig *rig, const char *listen, const char *keys, const char *sessions)
{
  char listen_at[64], keys_are[128], sessions_are[64];
  struct vc_error error = {.text = ""};
  snprintf(listen_at, sizeof listen_at, "STT_LISTEN=%s", listen);
  snprintf(keys_are, sizeof keys_are, "STT_API_KEYS=%s", keys);
  snprintf(sessions_are, sizeof sessions_are, "STT_MAX_SESSIONS=%s", sessions);
  char program[] = "test";
  char *arguments[] = {program, NULL};
  char *environment[] = {listen_at, keys_are, sessions_are, NULL};
  *rig = (struct rig){.group = {"Test", vc_sttd_option_rows, &rig->options}};
  rig->set = (struct vc_option_set){.program = "test", .groups = &rig->group, .n_groups = 1};
  assert_int_equal(vc_options_parse(&rig->set, 1, arguments, environment, stdout, &error),
                   VC_OPTIONS_RUN);
  rig->metrics = vc_metrics_create(&test_clock);
  rig->engine = fake_engine_create();
  const struct vc_sttd_settings settings = {
      .options = &rig->options, .clock = &test_clock, .metrics = rig->metrics};
  return room_create(&rig->sttd, rig->engine, &settings, &rig->address, &error);
}

static void begin_with(struct rig *rig, const char *keys, const char *sessions)
{
  struct vc_error error;
  assert_int_equal(create(rig, "127.0.0.1:0", keys, sessions), 0);
  assert_int_equal(vc_sttd_start(rig->sttd, &error), 0);
}

static void begin(struct rig *rig)
{
  begin_with(rig, "", "8");
}

static void end(struct rig *rig)
{
  if (rig->sttd != NULL) {
    vc_sttd_stop(rig->sttd, 20000);
  }
  vc_sttd_destroy(&rig->sttd);
  vc_metrics_destroy(&rig->metrics);
  vc_options_free(&rig->set);
}

static void put_forward(struct rig *rig, uint64_t seconds)
{
  atomic_fetch_add(&forward_ns, seconds * VC_NS_PER_S);
  room_wake(rig->sttd);
}

static uint64_t counter(struct rig *rig, const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig->metrics, name, &value), 0);
  return value;
}

static void wait_counter(struct rig *rig, const char *name, uint64_t at_least)
{
  for (int i = 0; counter(rig, name) < at_least; i++) {
    assert_true(i < 60000);
    poll(NULL, 0, 1);
  }
}

static void expect_status(struct reply reply, int status)
{
  if (reply.status != status) {
    print_error("%s\n", reply.text);
  }
  assert_int_equal(reply.status, status);
  reply_free(&reply);
}

static void open_session(struct rig *rig, struct client *client, const char *body, char token[128])
{
  char id[64];
  assert_int_equal(client_init(&rig->address, body, id, token), 201);
  assert_int_equal(client_open(client, &rig->address, token), 101);
}

// Sound as binary frames of 50 ms.
static void say_sound(struct client *client, int16_t level, double seconds)
{
  int16_t samples[S / 20];
  for (size_t i = 0; i < S / 20; i++) {
    samples[i] = level;
  }
  for (int i = 0; i < (int)(seconds * 20 + 0.5); i++) {
    client_say(client, VC_WS_BINARY, samples, sizeof samples);
  }
}

static void say_text(struct client *client, const char *text)
{
  client_say(client, VC_WS_TEXT, text, strlen(text));
}

static const char *text_of(const json_t *message)
{
  return json_string_value(
      json_object_get(json_object_get(json_object_get(message, "data"), "utterance"), "text"));
}

static int is_final(const json_t *message)
{
  return json_is_true(json_object_get(json_object_get(message, "data"), "is_final"));
}

static const char *type_of(const json_t *message)
{
  return json_string_value(json_object_get(message, "type"));
}

// Returns: the text of the next final, the caller's.
static char *hear_final(struct client *client)
{
  json_t *message;
  while ((message = client_hear_type(client, "transcript")) != NULL) {
    char *text = is_final(message) ? strdup(text_of(message)) : NULL;
    json_decref(message);
    if (text != NULL) {
      return text;
    }
  }
  return NULL;
}

// --- a session's life

static void test_a_session_in_order(void **state)
{
  struct rig rig;
  struct client client;
  char token[128], order[1024] = "";
  int close_code;
  begin(&rig);
  open_session(&rig, &client, ALL, token);
  say_sound(&client, 0, 0.5);
  say_sound(&client, LOUD, 1);
  say_sound(&client, 0, 0.5);
  say_text(&client, "{\"type\":\"stop_recording\"}");
  json_t *message;
  double acked = 0;
  while ((message = client_hear(&client, &close_code)) != NULL) {
    const char *type = type_of(message);
    assert_non_null(json_object_get(message, "session_id"));
    assert_non_null(json_object_get(message, "created_at"));
    if (strcmp(type, "audio_chunk") == 0) {
      json_t *range = json_object_get(json_object_get(message, "data"), "byte_range");
      assert_true(json_is_true(json_object_get(message, "acknowledged")));
      assert_true(json_number_value(json_array_get(range, 0)) == acked);
      acked = json_number_value(json_array_get(range, 1));
    } else if (strcmp(type, "transcript") != 0 || is_final(message)) {
      snprintf(order + strlen(order), sizeof order - strlen(order), "%s ", type);
    }
    if (strcmp(type, "transcript") == 0 && is_final(message)) {
      assert_string_equal(text_of(message), "one two three");
    }
    if (strcmp(type, "post_transcript") == 0) {
      json_t *full = json_object_get(json_object_get(message, "data"), "full_transcript");
      assert_string_equal(json_string_value(full), "one two three");
    }
    json_decref(message);
  }
  assert_int_equal(close_code, 1000);
  assert_true(acked == 2 * 32000);
  // What was heard may come before or after the acknowledgment of the stop.
  char *stop = strstr(order, "stop_recording ");
  assert_non_null(stop);
  memmove(stop, stop + strlen("stop_recording "), strlen(stop + strlen("stop_recording ")) + 1);
  assert_string_equal(order, "start_session start_recording speech_start transcript speech_end "
                             "end_recording post_transcript post_final_transcript end_session ");
  client_close(&client);
  end(&rig);
}

static void test_only_what_was_asked_for(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  int close_code;
  begin(&rig);
  open_session(&rig, &client, FINALS_ONLY, token);
  say_sound(&client, LOUD, 1);
  say_text(&client, "{\"type\":\"stop_recording\"}");
  json_t *message = client_hear(&client, &close_code);
  assert_non_null(message);
  assert_true(is_final(message));
  json_decref(message);
  assert_null(client_hear(&client, &close_code));
  assert_int_equal(close_code, 1000);
  client_close(&client);
  end(&rig);
}

static void test_result_is_kept(void **state)
{
  struct rig rig;
  struct client client;
  char id[64], token[128], line[128];
  begin(&rig);
  assert_int_equal(client_init(&rig.address, ALL, id, token), 201);
  snprintf(line, sizeof line, "GET /v2/live/%s", id);
  struct reply reply = client_request(&rig.address, line, "", "");
  assert_non_null(strstr(reply.body, "\"status\":\"queued\""));
  reply_free(&reply);
  assert_int_equal(client_open(&client, &rig.address, token), 101);
  say_sound(&client, LOUD, 1);
  // Closing with 1000 is done, too.
  uint8_t payload[VC_WS_CONTROL_MAX];
  client_say(&client, VC_WS_CLOSE, payload, vc_ws_print_close(payload, 1000, ""));
  assert_int_equal(client_hear_close(&client), 1000);
  client_close(&client);
  for (int i = 0;; i++) {
    reply = client_request(&rig.address, line, "", "");
    if (strstr(reply.body, "\"status\":\"done\"") != NULL) {
      break;
    }
    assert_true(i < 20000);
    reply_free(&reply);
    poll(NULL, 0, 1);
  }
  json_t *root = json_loads(reply.body, 0, NULL);
  assert_non_null(root);
  assert_string_equal(
      json_string_value(json_object_get(json_object_get(root, "custom_metadata"), "session")),
      "room-7");
  const json_t *asked = json_object_get(root, "request_params");
  assert_int_equal(json_integer_value(json_object_get(asked, "sample_rate")), 16000);
  assert_true(json_real_value(json_object_get(asked, "endpointing")) == 0.3);
  assert_non_null(strstr(reply.body, "\"one two\""));
  json_decref(root);
  reply_free(&reply);
  snprintf(line, sizeof line, "DELETE /v2/live/%s", id);
  expect_status(client_request(&rig.address, line, "", ""), 202);
  expect_status(client_request(&rig.address, line, "", ""), 404);
  end(&rig);
}

static void test_base64_and_odd_bytes(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  static uint8_t sound[2 * S];
  for (size_t i = 0; i < sizeof sound; i++) {
    sound[i] = i % 2 == 0 ? LOUD & 0xff : LOUD >> 8;
  }
  begin(&rig);
  open_session(&rig, &client, ALL, token);
  for (size_t at = 0, n = 1; at < sizeof sound; at += n) {
    n = at + 333 <= sizeof sound ? 333 : sizeof sound - at;
    client_say(&client, VC_WS_BINARY, sound + at, n);
  }
  say_text(&client, "{\"type\":\"audio_chunk\",\"data\":{\"chunk\":\"QB9AH0Af\"}}"); // 3 samples
  say_text(&client, "{\"type\":\"audio_chunk\",\"data\":{\"chunk\":\"\"}}");
  say_text(&client, "{\"type\":\"stop_recording\"}");
  json_t *message;
  double acked = 0;
  int close_code;
  while ((message = client_hear(&client, &close_code)) != NULL) {
    json_t *range = json_object_get(json_object_get(message, "data"), "byte_range");
    acked = range != NULL ? json_number_value(json_array_get(range, 1)) : acked;
    json_decref(message);
  }
  assert_true(acked == 32006);
  assert_int_equal(close_code, 1000);
  client_close(&client);
  end(&rig);
}

static void test_eight_kilohertz(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  begin(&rig);
  open_session(&rig, &client, "{\"sample_rate\":8000}", token);
  say_sound(&client, LOUD, 0.5); // 8000 samples: a second
  say_sound(&client, 0, 0.5);
  char *text = hear_final(&client);
  assert_string_equal(text, "one two three");
  free(text);
  client_close(&client);
  end(&rig);
}

static void test_words_carry_their_times(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  begin(&rig);
  fake_engine_know_times(rig.engine);
  open_session(&rig, &client, ALL, token);
  say_sound(&client, LOUD, 1);
  say_sound(&client, 0, 1);
  json_t *message;
  do {
    message = client_hear_type(&client, "transcript");
    assert_non_null(message);
    json_t *utterance = json_object_get(json_object_get(message, "data"), "utterance");
    assert_null(json_object_get(utterance, "approximate"));
    assert_int_equal(json_array_size(json_object_get(utterance, "words")) > 0, 1);
    int was_final = is_final(message);
    json_decref(message);
    if (was_final) {
      break;
    }
  } while (1);
  client_close(&client);
  end(&rig);
}

// --- what is refused

static void test_requests_that_are_refused(void **state)
{
  static const struct {
    const char *body;
    int status;
    const char *why;
  } rows[] = {
      {"", 400, "JSON"},
      {"{", 400, "JSON"},
      {"[]", 400, "object"},
      {"{\"sample_rate\":44100}", 422, "16000 or 8000"},
      {"{\"encoding\":\"wav/alaw\"}", 422, "wav/pcm"},
      {"{\"channels\":2}", 422, "channels"},
      {"{\"endpointing\":99}", 422, "endpointing"},
      {"{\"messages_config\":{\"receive_partial_transcripts\":1}}", 422,
       "messages_config.receive_partial_transcripts is 1; allowed: true or false"},
      {"{\"language_config\":{\"languages\":[\"en\",\"ru\"]}}", 422, "'ru'"},
  };
  struct rig rig;
  begin(&rig);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct reply reply = client_request(&rig.address, "POST /v2/live", "", rows[i].body);
    assert_non_null(strstr(reply.body, rows[i].why));
    expect_status(reply, rows[i].status);
  }
  char deep[2049];
  memset(deep, '[', 2048);
  deep[2048] = '\0';
  expect_status(client_request(&rig.address, "POST /v2/live", "", deep), 400);
  assert_int_equal(counter(&rig, "sttd.sessions_total"), 0);
  end(&rig);
}

static void test_http_that_is_refused(void **state)
{
  struct rig rig;
  begin(&rig);
  const struct vc_address *to = &rig.address;
  expect_status(client_ask(to, "\x16\x03\x01\r\n\r\n"), 400);
  expect_status(client_ask(to, "GET / HTTP/2.0\r\n\r\n"), 400);
  expect_status(client_ask(to, "POST /v2/live HTTP/1.1\r\nContent-Length: x\r\n\r\n"), 400);
  expect_status(client_ask(to, "POST /v2/live HTTP/1.1\r\nContent-Length: 65537\r\n\r\n"), 413);
  expect_status(client_ask(to, "POST /v2/live HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
                411);
  expect_status(client_request(to, "GET /nothing", "", ""), 404);
  expect_status(client_request(to, "PUT /v2/live", "", ""), 405);
  expect_status(client_request(to, "POST /healthz", "", ""), 405);
  expect_status(client_request(to, "GET /v2/live?token=x", "", ""), 426);
  expect_status(client_request(to, "GET /v2/live/x", "", ""), 404);
  expect_status(client_request(to, "GET /healthz", "X-Forwarded-For: 192.0.2.1\r\n", ""), 403);
  expect_status(client_ask(to, "GET /healthz HTTP/1.1\r\nHost: rebound.example\r\n\r\n"), 403);
  expect_status(client_request(to, "POST /v2/live", "Origin: http://evil.example\r\n", "{}"), 403);
  char head[9000] = "GET /healthz HTTP/1.1\r\nX: ";
  memset(head + strlen(head), 'x', 8900 - strlen(head));
  expect_status(client_ask(to, head), 431);
  struct client client;
  assert_int_equal(client_open(&client, to, "0123"), 403);
  client_close(&client);
  expect_status(client_request(to, "GET /healthz", "", ""), 200);
  end(&rig);
}

static void test_keys(void **state)
{
  struct rig rig;
  begin_with(&rig, "alpha,beta,gamma", "8");
  const struct vc_address *to = &rig.address;
  expect_status(client_request(to, "POST /v2/live", "", "{}"), 401);
  expect_status(client_request(to, "POST /v2/live", "x-gladia-key: alph\r\n", "{}"), 401);
  expect_status(client_request(to, "POST /v2/live", "x-gladia-key: alpha\r\n", "{}"), 201);
  expect_status(client_request(to, "POST /v2/live", "X-Gladia-Key: gamma\r\n", "{}"), 201);
  expect_status(client_request(to, "GET /v2/live/x", "", ""), 401);
  // With keys it may stand behind a proxy, under any name.
  expect_status(client_ask(to, "GET /readyz HTTP/1.1\r\nHost: stt.example\r\n\r\n"), 200);
  end(&rig);
  assert_int_equal(create(&rig, "0.0.0.0:0", "", "8"), -1);
  end(&rig);
  assert_int_equal(create(&rig, "0.0.0.0:0", "alpha", "8"), 0);
  end(&rig);
}

static void test_sessions_have_a_limit(void **state)
{
  struct rig rig;
  char id[64], token[128], line[128];
  begin_with(&rig, "", "2");
  assert_int_equal(client_init(&rig.address, "{}", id, token), 201);
  assert_int_equal(client_init(&rig.address, "{}", id, token), 201);
  struct reply reply = client_request(&rig.address, "POST /v2/live", "", "{}");
  assert_non_null(strstr(reply.text, "Retry-After: "));
  expect_status(reply, 429);
  snprintf(line, sizeof line, "DELETE /v2/live/%s", id);
  expect_status(client_request(&rig.address, line, "", ""), 202);
  assert_int_equal(client_init(&rig.address, "{}", id, token), 201);
  // Those that nobody connected to give their places back.
  put_forward(&rig, 61);
  wait_counter(&rig, "sttd.sessions_expired_total", 2);
  assert_int_equal(client_init(&rig.address, "{}", id, token), 201);
  end(&rig);
}

static void test_sessions_by_cores(void **state)
{
  struct rig rig;
  char id[64], token[128];
  cpu_set_t all, one;
  assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
  begin_with(&rig, "", "0");
  for (int i = 0; i < 4; i++) {
    assert_int_equal(client_init(&rig.address, "{}", id, token), 201);
  }
  expect_status(client_request(&rig.address, "POST /v2/live", "", "{}"), 429);
  end(&rig);
  assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

static void test_no_memory_for_a_session(void **state)
{
  struct rig rig;
  char id[64], token[128];
  begin(&rig);
  for (int table = 1; table <= 2; table++) {
    atomic_store(&n_until_refused, table);
    struct reply reply = client_request(&rig.address, "POST /v2/live", "", "{}");
    assert_non_null(strstr(reply.text, "Retry-After: "));
    expect_status(reply, 503);
    assert_int_equal(atomic_load(&n_until_refused), 0);
  }
  assert_int_equal(counter(&rig, "sttd.sessions_total"), 0);
  assert_int_equal(client_init(&rig.address, "{}", id, token), 201);
  end(&rig);
}

static void test_messages_that_are_refused(void **state)
{
  static const char *const bad[] = {
      "{",
      "7",
      "{\"type\":\"dance\"}",
      "{\"type\":\"audio_chunk\"}",
      "{\"type\":\"audio_chunk\",\"data\":{\"chunk\":\"***\"}}",
  };
  struct rig rig;
  struct client client;
  char token[128], deep[2049];
  memset(deep, '[', 2048);
  deep[2048] = '\0';
  begin(&rig);
  open_session(&rig, &client, ALL, token);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    say_text(&client, bad[i]);
    json_t *message = client_hear_type(&client, i < 3 ? "error" : "audio_chunk");
    assert_non_null(message);
    assert_true(json_is_object(json_object_get(message, "error")));
    json_decref(message);
  }
  say_text(&client, deep);
  json_decref(client_hear_type(&client, "error"));
  client_say(&client, VC_WS_PING, "hi", 2);
  say_sound(&client, LOUD, 1); // and it goes on
  say_text(&client, "{\"type\":\"stop_recording\"}");
  say_text(&client, "{\"type\":\"stop_recording\"}");
  json_t *message = client_hear_type(&client, "end_session");
  assert_non_null(message);
  json_decref(message);
  assert_int_equal(client_hear_close(&client), 1000);
  client_close(&client);
  end(&rig);
}

static void test_a_frame_that_is_too_large(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  begin(&rig);
  open_session(&rig, &client, FINALS_ONLY, token);
  char *large = calloc(1, FRAME_MAX + 1);
  client_say(&client, VC_WS_BINARY, large, FRAME_MAX + 1);
  assert_int_equal(client_hear_close(&client), 1009);
  client_close(&client);
  // The session is still there.
  assert_int_equal(client_open(&client, &rig.address, token), 101);
  client_close(&client);
  free(large);
  end(&rig);
}

// --- what breaks

static void test_a_session_is_resumed(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  begin(&rig);
  open_session(&rig, &client, ALL, token);
  say_sound(&client, LOUD, 1);
  json_t *message = NULL;
  for (int i = 0; i < 20; i++) {
    json_decref(message);
    message = client_hear_type(&client, "audio_chunk");
  }
  json_decref(message);
  client_close(&client); // without a word
  wait_counter(&rig, "sttd.messages_total", 1);
  assert_int_equal(client_open(&client, &rig.address, token), 101);
  say_sound(&client, 0, 0.5);
  message = client_hear_type(&client, "audio_chunk");
  json_t *range = json_object_get(json_object_get(message, "data"), "byte_range");
  assert_true(json_number_value(json_array_get(range, 0)) == 32000);
  json_decref(message);
  char *text = hear_final(&client);
  assert_string_equal(text, "one two three");
  free(text);
  client_close(&client);
  end(&rig);
}

static void test_finals_wait_for_who_is_away(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  begin(&rig);
  open_session(&rig, &client, FINALS_ONLY, token);
  fake_engine_hold(rig.engine);
  say_sound(&client, LOUD, 1);
  say_sound(&client, 0, 0.5);
  fake_engine_wait_held(rig.engine);
  client_close(&client);
  for (int i = 0;; i++) { // until the server knows it
    struct reply reply = client_request(&rig.address, "GET /metrics", "", "");
    int is_away = strstr(reply.body, "\"connected\":false") != NULL;
    reply_free(&reply);
    if (is_away) {
      break;
    }
    assert_true(i < 20000);
    poll(NULL, 0, 1);
  }
  fake_engine_release(rig.engine);
  wait_counter(&rig, "sttd.finals_total", 1);
  assert_int_equal(client_open(&client, &rig.address, token), 101);
  client_close(&client); // before it has read them
  assert_int_equal(client_open(&client, &rig.address, token), 101);
  char *text = hear_final(&client);
  assert_string_equal(text, "one two three");
  free(text);
  client_close(&client);
  end(&rig);
}

static void test_who_stays_away_is_over(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  begin(&rig);
  open_session(&rig, &client, ALL, token);
  json_decref(client_hear_type(&client, "start_recording"));
  client_close(&client);
  for (int i = 0; counter(&rig, "sttd.sessions_expired_total") == 0; i++) {
    assert_true(i < 60000);
    put_forward(&rig, 61);
    poll(NULL, 0, 1);
  }
  // It is done, not forgotten: who comes late is told so.
  assert_int_equal(client_open(&client, &rig.address, token), 101);
  json_decref(client_hear_type(&client, "end_session"));
  assert_int_equal(client_hear_close(&client), 1000);
  client_close(&client);
  end(&rig);
}

static void test_a_second_connection_takes_over(void **state)
{
  struct rig rig;
  struct client first, second;
  char token[128];
  begin(&rig);
  open_session(&rig, &first, FINALS_ONLY, token);
  assert_int_equal(client_open(&second, &rig.address, token), 101);
  assert_int_equal(client_hear_close(&first), 1001);
  say_sound(&second, LOUD, 1);
  say_sound(&second, 0, 0.5);
  char *text = hear_final(&second);
  assert_string_equal(text, "one two three");
  free(text);
  client_close(&first);
  client_close(&second);
  end(&rig);
}

static void test_silence_on_the_wire(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  begin(&rig);
  open_session(&rig, &client, ALL, token);
  json_decref(client_hear_type(&client, "start_recording"));
  put_forward(&rig, 31);
  assert_int_equal(client_hear_close(&client), 1008);
  client_close(&client);
  int fd = client_connect(&rig.address);
  client_send(fd, "GET /he", 7);
  wait_counter(&rig, "sttd.connections_total", 3);
  char answer[64] = "";
  put_forward(&rig, 11);
  assert_true(recv(fd, answer, sizeof answer - 1, MSG_WAITALL) > 12);
  assert_int_equal(atoi(answer + 9), 408);
  close(fd);
  end(&rig);
}

// A minute of sound, all but a second of it at once while the engine is held up: the server reads
// what it has room for and no more; then all of it is heard.
static void test_a_fast_client_waits(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  int16_t samples[S / 20];
  for (size_t i = 0; i < S / 20; i++) {
    samples[i] = LOUD;
  }
  begin(&rig);
  open_session(&rig, &client, ALL, token);
  fake_engine_hold(rig.engine);
  say_sound(&client, LOUD, 1);
  fake_engine_wait_held(rig.engine);
  pid_t writer = fork();
  if (writer == 0) {
    for (int i = 0; i < 59 * 20; i++) {
      client_say(&client, VC_WS_BINARY, samples, sizeof samples);
    }
    client_say(&client, VC_WS_TEXT, "{\"type\":\"stop_recording\"}", 25);
    _exit(0);
  }
  wait_counter(&rig, "sttd.pauses_total", 1);
  uint64_t taken = counter(&rig, "sttd.audio_bytes_total");
  assert_true(taken <= (POOL_BACKLOG_S + 2) * 32000);
  fake_engine_release(rig.engine);
  json_t *message = client_hear_type(&client, "end_recording");
  assert_non_null(message);
  double duration =
      json_number_value(json_object_get(json_object_get(message, "data"), "recording_duration"));
  assert_true(duration == 60);
  json_decref(message);
  assert_int_equal(waitpid(writer, NULL, 0), writer);
  client_close(&client);
  end(&rig);
}

static void test_an_engine_that_fails(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  begin(&rig);
  fake_engine_fail_ears(rig.engine);
  open_session(&rig, &client, ALL, token);
  say_sound(&client, LOUD, 0.5);
  assert_int_equal(client_hear_close(&client), 1011);
  client_close(&client);
  end(&rig);
}

static void test_a_drain_gives_the_last_finals(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  begin(&rig);
  open_session(&rig, &client, ALL, token);
  say_sound(&client, LOUD, 1);
  wait_counter(&rig, "sttd.audio_bytes_total", 32000);
  assert_int_equal(vc_sttd_stop(rig.sttd, 60000), 0);
  char *text = hear_final(&client);
  assert_string_equal(text, "one two");
  free(text);
  assert_int_equal(client_hear_close(&client), 1001);
  client_close(&client);
  end(&rig);
}

// --- what it tells of itself

static void test_health_and_metrics(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  begin(&rig);
  open_session(&rig, &client, ALL, token);
  say_sound(&client, LOUD, 1);
  wait_counter(&rig, "sttd.audio_bytes_total", 32000);
  struct reply reply = client_request(&rig.address, "GET /metrics", "", "");
  json_t *root = json_loads(reply.body, 0, NULL);
  assert_non_null(root);
  json_t *counters = json_object_get(root, "counters");
  json_t *gauges = json_object_get(root, "gauges");
  assert_int_equal(json_integer_value(json_object_get(counters, "sttd.audio_bytes_total")), 32000);
  assert_int_equal(json_integer_value(json_object_get(gauges, "sttd.sessions")), 1);
  assert_non_null(json_object_get(json_object_get(root, "latency"), "sttd.decode_ms.final"));
  assert_int_equal(json_object_size(json_object_get(root, "sessions")), 1);
  json_decref(root);
  expect_status(reply, 200);
  reply = client_request(&rig.address, "GET /metrics?format=prometheus", "", "");
  assert_non_null(strstr(reply.body, "verbacast_sttd_audio_bytes_total 32000"));
  expect_status(reply, 200);
  reply = client_request(&rig.address, "GET /metrics", "Accept: text/plain\r\n", "");
  assert_non_null(strstr(reply.text, "text/plain; version=0.0.4; charset=utf-8\r\n"));
  expect_status(reply, 200);
  reply = client_request(&rig.address, "GET /readyz", "", "");
  assert_non_null(strstr(reply.body, "\"sessions\":1"));
  expect_status(reply, 200);
  expect_status(client_request(&rig.address, "GET /healthz", "", ""), 200);
  client_close(&client);
  end(&rig);
}

// Returns: `degraded` of the answer's root, or of its node. Takes the reply.
static json_t *degraded_of(struct reply reply, const char *node)
{
  json_t *root = json_loads(reply.body, 0, NULL);
  assert_non_null(root);
  json_t *degraded = json_object_get(node != NULL ? json_object_get(root, node) : root, "degraded");
  assert_true(json_is_array(degraded));
  json_incref(degraded);
  json_decref(root);
  expect_status(reply, 200);
  return degraded;
}

static void test_a_fallback_engine_is_told_as_the_node_tells(void **state)
{
  struct rig rig;
  begin(&rig);
  json_t *none = degraded_of(client_request(&rig.address, "GET /readyz", "", ""), NULL);
  assert_int_equal(json_array_size(none), 0);
  json_decref(none);
  rig.engine->is_fallback = 1;
  struct reply text = client_request(&rig.address, "GET /metrics?format=prometheus", "", "");
  assert_non_null(strstr(text.body, "\nverbacast_degraded{what=\"engine\"} 1\n"));
  expect_status(text, 200);
  json_t *ready = degraded_of(client_request(&rig.address, "GET /readyz", "", ""), NULL);
  json_t *figures = degraded_of(client_request(&rig.address, "GET /metrics", "", ""), "node");
  assert_true(json_equal(ready, figures));
  const json_t *condition = json_array_get(ready, 0);
  assert_string_equal(json_string_value(json_object_get(condition, "what")), "engine");
  assert_non_null(json_string_value(json_object_get(condition, "reason")));
  double now_s = (double)vc_clock_unix_ms(&vc_clock_system) / 1000;
  double since_s = json_real_value(json_object_get(condition, "since"));
  assert_true(since_s > now_s - 3600 && since_s <= now_s);
  json_decref(ready);
  json_decref(figures);
  end(&rig);
}

static void test_a_stuck_recogniser_is_told(void **state)
{
  struct rig rig;
  struct client client;
  char token[128];
  begin(&rig);
  fake_engine_hold(rig.engine);
  open_session(&rig, &client, ALL, token);
  say_sound(&client, LOUD, 1);
  fake_engine_wait_held(rig.engine);
  put_forward(&rig, 25);
  expect_status(client_request(&rig.address, "GET /healthz", "", ""), 503);
  fake_engine_release(rig.engine);
  client_close(&client);
  end(&rig);
}

// The last one is the client's own: the server goes on when there are more.
static void test_no_descriptor_is_left(void **state)
{
  static const char request[] = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
  struct rig rig;
  struct rlimit before;
  char answer[16] = "";
  begin(&rig);
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  int next = dup(STDIN_FILENO);
  close(next);
  struct rlimit one = {.rlim_cur = (rlim_t)next + 1, .rlim_max = before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &one), 0);
  int fd = client_connect(&rig.address);
  assert_int_equal(fd, next);
  wait_counter(&rig, "sttd.accept_rests_total", 1);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  put_forward(&rig, 1);
  client_send(fd, request, sizeof request - 1);
  assert_true(recv(fd, answer, sizeof answer - 1, MSG_WAITALL) > 0);
  assert_memory_equal(answer, "HTTP/1.1 200", 12);
  close(fd);
  end(&rig);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_session_in_order),
      cmocka_unit_test(test_only_what_was_asked_for),
      cmocka_unit_test(test_result_is_kept),
      cmocka_unit_test(test_base64_and_odd_bytes),
      cmocka_unit_test(test_eight_kilohertz),
      cmocka_unit_test(test_words_carry_their_times),
      cmocka_unit_test(test_requests_that_are_refused),
      cmocka_unit_test(test_http_that_is_refused),
      cmocka_unit_test(test_keys),
      cmocka_unit_test(test_sessions_have_a_limit),
      cmocka_unit_test(test_sessions_by_cores),
      cmocka_unit_test(test_no_memory_for_a_session),
      cmocka_unit_test(test_messages_that_are_refused),
      cmocka_unit_test(test_a_frame_that_is_too_large),
      cmocka_unit_test(test_a_session_is_resumed),
      cmocka_unit_test(test_finals_wait_for_who_is_away),
      cmocka_unit_test(test_who_stays_away_is_over),
      cmocka_unit_test(test_a_second_connection_takes_over),
      cmocka_unit_test(test_silence_on_the_wire),
      cmocka_unit_test(test_a_fast_client_waits),
      cmocka_unit_test(test_an_engine_that_fails),
      cmocka_unit_test(test_a_drain_gives_the_last_finals),
      cmocka_unit_test(test_health_and_metrics),
      cmocka_unit_test(test_a_fallback_engine_is_told_as_the_node_tells),
      cmocka_unit_test(test_a_stuck_recogniser_is_told),
      cmocka_unit_test(test_no_descriptor_is_left),
  };
  return cmocka_run_group_tests_name("sttd/server", tests, NULL, NULL);
}
