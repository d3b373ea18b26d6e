#include "rig.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include <cmocka.h>

static _Atomic size_t refused_size; // allocations of this size fail, 0: none does

// The compiler may make one of the other.
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t size)
{
  return size == atomic_load(&refused_size) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
  return n * size == atomic_load(&refused_size) ? NULL : __real_calloc(n, size);
}

static void test_words_are_told(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, &(struct rig_settings){.languages = "en,ru"});
  rig_begin(&rig, "demo");
  rig_speak(&rig, 45);
  rig_await(&rig, &rig.n_finals, 4);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  assert_int_equal(rig_get(&rig, &rig.ordinal_max), 1);
  assert_in_range(rig_get(&rig, &rig.n_partials), 4, 5);
  assert_int_equal(rig_get(&rig, &rig.n_states), 0); // nothing happened
  assert_int_equal(rig_get(&rig, &rig.n_retracts), 0);
  assert_string_equal(service.key, "k-123");
  assert_non_null(strstr(service.body, "\"languages\":[\"en\",\"ru\"],\"code_switching\":true"));
  assert_non_null(strstr(service.body, "\"session\":\"demo\""));
  assert_int_equal(service_get(&service, &service.n_posts), 1);
  assert_int_equal(service_get(&service, &service.n_stops), 1);
  rig_stop(&rig);
  service_stop(&service);
}

// Each has a session of its own, and only one that begins anew hurries the one before it.
static void test_participants_are_heard_beside_each_other(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, NULL);
  rig_begin_of(&rig, "demo", "Ada");
  service_await(&service, &service.n_open, 1);
  rig_begin_of(&rig, "demo", "Bob");
  service_await(&service, &service.n_open, 2);
  rig_speak(&rig, 45);
  rig_await(&rig, &rig.n_finals, 4);
  assert_int_equal(service_get(&service, &service.n_stops), 0);
  assert_int_equal(rig_get(&rig, &rig.n_open), 2);
  assert_int_equal(rig_get(&rig, &rig.n_closed), 0);
  rig_begin_of(&rig, "demo", "Bob");
  service_await(&service, &service.n_stops, 1);
  rig_await(&rig, &rig.n_closed, 1);
  rig_await(&rig, &rig.n_open, 3);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_figures(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  service_await(&service, &service.n_open, 1);
  for (int i = 0; i < 20; i++) {
    rig_speak(&rig, 1);
    service_await_heard(&service, (uint64_t)(i + 1) * WORD_SAMPLES); // one chunk a frame
  }
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  assert_int_equal(rig_counter(&rig, "audio.chunks_sent"), 20);
  assert_int_equal(rig_samples(&rig, "audio.chunk_size_bytes"), 20);
  assert_int_equal(rig_samples(&rig, "ingest.to_stt_ms"), 20);
  struct vc_distribution size;
  vc_metrics_distribution(rig.metrics, "audio.chunk_size_bytes", &size);
  assert_true(size.min == 1600 && size.max == 1600);
  int n = rig_get(&rig, &rig.n_partials) + rig_get(&rig, &rig.n_finals);
  assert_int_equal(rig_samples(&rig, "stt.end_to_transcript_ms"), n);
  assert_int_equal(rig_samples(&rig, "gladia.stt_latency_ms"), n);
  assert_int_equal(rig_samples(&rig, "gladia.stt_latency_ms.final"), rig_get(&rig, &rig.n_finals));
  assert_int_equal(rig_samples(&rig, "gladia.stt_latency_ms.partial"),
                   rig_get(&rig, &rig.n_partials));
  assert_int_equal(rig_samples(&rig, "gladia.message_gap_ms"), 2); // partial to final, twice
  assert_int_equal(atomic_load(&rig.session->n_chunks_sent), 20);
  rig_stop(&rig);
  service_stop(&service);
}

// --- connections that end

static void drop(int kind, int kills, int close_code, int ack_lag)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.drop_kind = kind;
  service.kills = kills;
  service.close_code = close_code;
  service.ack_lag = ack_lag;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 28); // an utterance is open
  service_await_heard(&service, 28 * WORD_SAMPLES);
  rig_await(&rig, &rig.n_finals, 2);
  service_set(&service, &service.drop_after, 1);
  rig_speak(&rig, 5);
  service_await(&service, &service.n_drops, 1);
  rig_speak(&rig, 40);
  rig_await_state(&rig, VC_STATE_RECONNECTING);
  rig_await_state(&rig, VC_STATE_LIVE);
  rig_await(&rig, &rig.n_words, 60);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  int n_sessions = kills || close_code == 4408 || close_code == 1000 ? 2 : 1;
  assert_int_equal(service_get(&service, &service.n_posts), n_sessions);
  assert_int_equal(rig_get(&rig, &rig.ordinal_max), n_sessions);
  assert_int_equal(rig_counter(&rig, "stt.reconnects_total"), 1);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_drop_is_taken_up(void **state)
{
  for (int kind = 0; kind < 3; kind++) {
    drop(kind, 0, 0, 0);
    drop(kind, 0, 0, 3);
  }
  drop(1, 0, 1011, 0);
}

static void test_lost_session_is_replaced(void **state)
{
  drop(0, 1, 0, 0); // 403 at the next connection
  drop(1, 1, 0, 3);
  drop(1, 0, 4408, 0);
  drop(2, 0, 1000, 0);
}

static void drop_in_a_row(int kind)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 25);
  rig_await(&rig, &rig.n_finals, 2);
  service_await_heard(&service, 25 * WORD_SAMPLES);
  service_set(&service, &service.ack_lag, 3); // acknowledgments are owed
  service_set(&service, &service.drop_kind, kind);
  for (int i = 1; i <= 4; i++) {
    service_set(&service, &service.drop_after, 1); // the first frame
    rig_speak(&rig, 4);
    service_await(&service, &service.n_drops, i);
  }
  service_set(&service, &service.ack_lag, 0);
  rig_speak(&rig, 20);
  rig_await(&rig, &rig.n_words, 50);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  assert_int_equal(service_get(&service, &service.n_posts), 1);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_dropped_in_a_row(void **state)
{
  for (int kind = 0; kind < 3; kind++) {
    drop_in_a_row(kind);
  }
}

// n words, each of them heard before the next is said.
static void speak_slowly(struct rig *rig, struct service *service, int n)
{
  for (int i = 0; i < n; i++) {
    rig_speak(rig, 1);
    service_await_heard(service, rig->n_samples);
  }
}

// A final is on its way when the connection ends, and the service does not say it again: its
// partial was shown, and all of its sound but the last word was acknowledged.
static void begin_with_lost_final(struct rig *rig, struct service *service)
{
  service_start(service, NULL);
  service->drop_kind = 1;
  service->loses_words = 1;
  rig_start(rig, service, NULL);
  rig_begin(rig, "demo");
  speak_slowly(rig, service, 20);
  rig_await(rig, &rig->n_partials, 2);
  rig_await(rig, &rig->n_finals, 1);
  service_set(service, &service->drop_after, 1);
  rig_speak(rig, 1); // with it the second utterance has ended
  service_await(service, &service->n_drops, 1);
  service_await(service, &service->n_upgrades, 2);
}

static void test_lost_final_is_heard_again(void **state)
{
  struct service service;
  struct rig rig;
  begin_with_lost_final(&rig, &service);
  rig_speak(&rig, 30);
  rig_await(&rig, &rig.n_words, 40);
  assert_int_equal(rig_get(&rig, &rig.n_retracts), 1); // the partial that got no final
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  assert_int_equal(service_get(&service, &service.n_posts), 1);
  assert_int_equal(rig_counter(&rig, "stt.reconnects_total"), 1);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_lost_final_before_silence(void **state)
{
  struct service service;
  struct rig rig;
  begin_with_lost_final(&rig, &service);
  rig_await_state(&rig, VC_STATE_LIVE);
  rig_turn(&rig, 20000); // nothing more is said
  rig_await(&rig, &rig.n_words, 20);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  assert_int_equal(service_get(&service, &service.n_posts), 1);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_lost_final_before_the_end(void **state)
{
  struct service service;
  struct rig rig;
  begin_with_lost_final(&rig, &service);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  assert_int_equal(service_get(&service, &service.n_posts), 2);
  rig_stop(&rig);
  service_stop(&service);
}

// Much of an utterance whose final was lost is sent again in any case, and heard as one of its own.
static void test_resent_sound_that_was_not_told(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.drop_kind = 1;
  service.loses_words = 1;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  speak_slowly(&rig, &service, 11);
  rig_await(&rig, &rig.n_finals, 1);
  service_set(&service, &service.ack_lag, 32); // acknowledgments come late
  speak_slowly(&rig, &service, 9);
  service_set(&service, &service.drop_after, 1);
  rig_speak(&rig, 1);
  service_await(&service, &service.n_drops, 1);
  service_set(&service, &service.ack_lag, 0);
  rig_speak(&rig, 10);
  rig_await(&rig, &rig.n_words, 20);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  rig_stop(&rig);
  service_stop(&service);
}

// Of times in milliseconds some are a hair before the sample that they mean: at word 323 of the
// stream the sound begins again.
static void test_word_at_a_seam(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.drop_kind = 1;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 320);
  service_await_heard(&service, 320 * WORD_SAMPLES);
  rig_await(&rig, &rig.n_words, 310);
  speak_slowly(&rig, &service, 1);
  service_set(&service, &service.ack_lag, 2);
  service_set(&service, &service.drop_after, service_get(&service, &service.n_frames) + 2);
  rig_speak(&rig, 2); // are heard, and not acknowledged
  service_await(&service, &service.n_drops, 1);
  service_set(&service, &service.ack_lag, 0);
  rig_speak(&rig, 10);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_drop_at_the_end(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.holds_end = 1;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 25);
  rig_await(&rig, &rig.n_finals, 2);
  rig_say(&rig, VC_TURN_CLOSE);
  service_await(&service, &service.n_stops, 1);
  service_drop_all(&service, 0);
  service_set(&service, &service.holds_end, 0);
  rig_await(&rig, &rig.n_closed, 1);
  rig_stop(&rig);
  service_stop(&service);
}

// --- services that do not serve

// Turns the clock on, each time the service refused, until it did so n times.
static void await_refusals(struct rig *rig, uint64_t n)
{
  for (uint64_t i = 1; i < n; i++) {
    rig_await_counter(rig, "stt.refusals_total", i);
    rig_turn(rig, 31000); // no pause is longer
  }
  rig_await_counter(rig, "stt.refusals_total", n);
}

static void test_refused_for_ever(void **state)
{
  struct service service;
  struct rig rig;
  struct vc_condition conditions[VC_HEALTH_MAX];
  service_start(&service, NULL);
  service.refuse_post = 401;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  assert_string_equal(rig.reason, "stt refused: 401");
  assert_int_equal(vc_health_list(rig.health, conditions), 1);
  assert_string_equal(conditions[0].what, "stt");
  assert_string_equal(conditions[0].reason, "stt refused: 401");
  await_refusals(&rig, 12);
  service_await(&service, &service.n_posts, 12);
  service_set(&service, &service.refuse_post, 0);
  rig_speak(&rig, 10);
  rig_turn(&rig, 31000);
  rig_await_state(&rig, VC_STATE_LIVE);
  rig_await(&rig, &rig.n_partials, 1);
  assert_int_equal(vc_health_list(rig.health, conditions), 0);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_refused_until_the_end(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.refuse_post = 403;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 10);
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1); // asked once more, and no more
  rig_stop(&rig);
  service_stop(&service);
}

// What was said while it was down is not given up before it was asked once more.
static void test_back_at_the_end(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.refuse_post = 503;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 25);
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  await_refusals(&rig, 8); // the next pause is 15 s at least
  service_await(&service, &service.n_posts, 8);
  service_set(&service, &service.refuse_post, 0);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_told_not_to_ask_at_the_end(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.refuse_post = 429;
  service.retry_after_s = 120;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 10);
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  assert_int_equal(service_get(&service, &service.n_posts), 1);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_retry_after(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.refuse_post = 429;
  service.retry_after_s = 120;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  assert_string_equal(rig.reason, "stt refused: 429");
  rig_turn(&rig, 60000);
  rig_say(&rig, VC_TURN_LOST); // handled after the turn of the clock
  rig_await_state(&rig, VC_STATE_RECONNECTING);
  rig_say(&rig, VC_TURN_BACK);
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  service_await(&service, &service.n_posts, 1);
  assert_int_equal(service_get(&service, &service.n_posts), 1);
  service_set(&service, &service.refuse_post, 0);
  rig_turn(&rig, 61000);
  service_await(&service, &service.n_posts, 2);
  rig_await_state(&rig, VC_STATE_LIVE);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_unreachable(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service_stop(&service); // its port is known, and nobody is there
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  assert_string_equal(rig.reason, "stt unreachable");
  rig_stop(&rig);
}

static void test_never_answers(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.is_silent = 1;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 10);
  service_await(&service, &service.n_open, 1);
  service_await_heard(&service, 10 * WORD_SAMPLES);
  service_set(&service, &service.is_silent, 0);
  rig_turn(&rig, 16000); // audio was sent, and nothing came
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  rig_turn(&rig, 31000);
  rig_await_state(&rig, VC_STATE_LIVE);
  rig_await(&rig, &rig.n_partials, 1);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_goes_silent(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 10);
  rig_await(&rig, &rig.n_partials, 1);
  service_set(&service, &service.is_silent, 1);
  rig_speak(&rig, 3);
  service_await_heard(&service, 13 * WORD_SAMPLES);
  rig_turn(&rig, 16000);
  rig_await_state(&rig, VC_STATE_RECONNECTING);
  service_set(&service, &service.is_silent, 0);
  rig_await_state(&rig, VC_STATE_LIVE);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_urls_that_may_not_be(void **state)
{
  static const char *const urls[] = {"http://127.0.0.1/", "ftp://127.0.0.1/", "ws://", "nonsense"};
  for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
    struct service service;
    struct rig rig;
    service_start(&service, NULL);
    service.url = urls[i];
    rig_start(&rig, &service, NULL);
    rig_begin(&rig, "demo");
    rig_await_state(&rig, VC_STATE_STT_DOWN);
    assert_int_equal(service_get(&service, &service.n_upgrades), 0);
    rig_stop(&rig);
    service_stop(&service);
  }
}

static void test_rubbish_is_passed_over(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.says_rubbish = 1;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 20);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  assert_in_range(rig_counter(&rig, "stt.malformed_messages_total"), 3, 1000);
  assert_int_equal(rig_get(&rig, &rig.n_states), 0);
  rig_stop(&rig);
  service_stop(&service);
}

// --- time

static void test_keep_alive(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 10);
  rig_await(&rig, &rig.n_partials, 1);
  rig_say(&rig, VC_TURN_LOST);
  rig_await_state(&rig, VC_STATE_RECONNECTING);
  assert_string_equal(rig.reason, "publisher lost");
  for (int i = 1; i <= 3; i++) {
    rig_turn(&rig, 20500);
    service_await(&service, &service.n_keep_alives, i);
  }
  rig_say(&rig, VC_TURN_BACK);
  rig_await_state(&rig, VC_STATE_LIVE);
  rig_speak(&rig, 10);
  rig_await(&rig, &rig.n_words, 10);
  assert_int_equal(service_get(&service, &service.n_upgrades), 1);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_old_session_is_renewed(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 27);
  service_await_heard(&service, 27 * WORD_SAMPLES);
  rig_await(&rig, &rig.n_finals, 2);
  rig_turn(&rig, 176 * 60000);
  service_await(&service, &service.n_posts, 2);
  rig_speak(&rig, 20);
  rig_await(&rig, &rig.n_words, 40);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_late_final(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.has_late_final = 1;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 17);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_end_that_does_not_come(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.holds_end = 1;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 17);
  rig_await(&rig, &rig.n_partials, 1);
  rig_say(&rig, VC_TURN_CLOSE);
  service_await(&service, &service.n_stops, 1);
  rig_turn(&rig, VC_STT_END_MS + 1000);
  rig_await(&rig, &rig.n_closed, 1); // the open partial was retracted: rig_stop
  rig_stop(&rig);
  service_stop(&service);
}

// --- what is full

static void test_slow_ledger(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, &(struct rig_settings){.ledger_lane = 2});
  rig_begin(&rig, "demo");
  rig_await(&rig, &rig.n_open, 1);
  rig_block(&rig, 1);
  rig_speak(&rig, 150);
  rig_await_counter(&rig, "stt.results_waiting_total", 1);
  rig_speak(&rig, 150);
  service_await_heard(&service, 300 * WORD_SAMPLES); // audio goes on
  rig_block(&rig, 0);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  assert_int_equal(rig_counter(&rig, "stt.results_dropped_total"), 0);
  rig_stop(&rig);
  service_stop(&service);
}

// A service that is not read is not one that is silent.
static void test_ledger_away_for_long(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, &(struct rig_settings){.ledger_lane = 2});
  rig_begin(&rig, "demo");
  rig_speak(&rig, 25);
  rig_await(&rig, &rig.n_finals, 2);
  rig_block(&rig, 1);
  rig_speak(&rig, 300);
  service_await_heard(&service, 325 * WORD_SAMPLES);
  rig_await_counter(&rig, "stt.results_waiting_total", 1);
  rig_turn(&rig, 16000);
  rig_block(&rig, 0);
  rig_await(&rig, &rig.n_finals, 20); // nothing but its own time makes the room try again
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  assert_int_equal(rig_counter(&rig, "stt.reconnects_total"), 0);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_ring_overflows(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.refuse_post = 503;
  rig_start(&rig, &service, &(struct rig_settings){.buffer_ms = 2000});
  rig_begin(&rig, "demo");
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  rig_speak(&rig, 100); // 5 s
  rig_say(&rig, VC_TURN_LOST);
  rig_await_state(&rig, VC_STATE_RECONNECTING); // all was taken
  assert_int_equal(rig_counter(&rig, "stt.audio_dropped_ms_total"), 3000);
  service_set(&service, &service.refuse_post, 0);
  rig_say(&rig, VC_TURN_BACK);
  rig_turn(&rig, 31000);
  rig_await_state(&rig, VC_STATE_LIVE);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  for (int i = 0; i < 100; i++) {
    assert_int_equal(rig.told[i], i >= 60); // the newest 2 s
  }
  assert_true(rig.worst_s < 0.025);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_service_takes_nothing(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.takes_nothing = 1;
  rig_start(&rig, &service, &(struct rig_settings){.buffer_ms = 1000});
  rig_begin(&rig, "demo");
  service_await(&service, &service.n_open, 1);
  while (rig_counter(&rig, "stt.audio_dropped_ms_total") == 0) {
    rig_speak(&rig, 100);
    assert_in_range(rig.n_samples, 0, 16000 * 3600);
  }
  rig_say(&rig, VC_TURN_CLOSE);
  rig_turn_until_closed(&rig, 1);
  rig_stop(&rig);
  service_set(&service, &service.takes_nothing, 0);
  service_stop(&service);
}

static void test_backlog_goes_in_pieces(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.refuse_post = 500;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  rig_speak(&rig, 400); // 20 s
  rig_say(&rig, VC_TURN_LOST);
  rig_await_state(&rig, VC_STATE_RECONNECTING);
  service_set(&service, &service.refuse_post, 0);
  rig_turn(&rig, 31000);
  service_await_heard(&service, 400 * WORD_SAMPLES);
  assert_in_range(service.frame_max, 32000, 65536);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  rig_stop(&rig);
  service_stop(&service);
}

// --- the audio clock

static void test_holes_keep_times_true(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 10);
  rig_skip(&rig, 4 * WORD_SAMPLES); // becomes silence
  rig_speak(&rig, 10);
  rig_skip(&rig, 40 * WORD_SAMPLES); // is left out of the stream
  rig_speak(&rig, 20);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  assert_int_equal(rig.n_words, 40);
  assert_true(rig.worst_s < 0.001);
  assert_in_range(service_heard(&service), 44 * WORD_SAMPLES, 44 * WORD_SAMPLES);
  rig_stop(&rig);
  service_stop(&service);
}

// --- sessions

static void test_no_memory_for_the_table(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, NULL);
  atomic_store(&refused_size, sizeof(UT_hash_table));
  rig_begin(&rig, "demo");
  rig_await_counter(&rig, "stt.out_of_memory_total", 1);
  atomic_store(&refused_size, 0);
  rig_speak(&rig, 5); // to nobody
  rig_begin(&rig, "demo");
  rig_speak(&rig, 10);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_next_session_of_a_slug_waits_for_the_end_of_the_first(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.holds_end = 1;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 15);
  rig_await(&rig, &rig.n_partials, 1);
  rig_say(&rig, VC_TURN_CLOSE);
  service_await(&service, &service.n_stops, 1);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 10);
  service_await(&service, &service.n_posts, 2);
  assert_int_equal(rig_get(&rig, &rig.n_open), 1);
  service_set(&service, &service.holds_end, 0);
  pthread_cond_broadcast(&service.changed);
  rig_await(&rig, &rig.n_open, 2);
  assert_int_equal(rig_get(&rig, &rig.n_closed), 1);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 2);
  assert_int_equal(rig.n_words, 25);
  rig_stop(&rig); // nothing strayed
  service_stop(&service);
}

static void test_drain_waits_for_finals(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 33);
  vc_stage_stop(rig.stt, 20000);
  rig_await(&rig, &rig.n_closed, 1);
  assert_int_equal(rig.close_reason, VC_CLOSE_SHUTDOWN);
  rig_check_told(&rig);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_drain_that_takes_too_long(void **state)
{
  struct service service;
  struct rig rig;
  service_start(&service, NULL);
  service.holds_end = 1;
  rig_start(&rig, &service, NULL);
  rig_begin(&rig, "demo");
  rig_speak(&rig, 15);
  rig_await(&rig, &rig.n_partials, 1);
  assert_int_equal(vc_stage_stop(rig.stt, 50), 1);
  rig_await(&rig, &rig.n_closed, 1);
  rig_stop(&rig);
  service_stop(&service);
}

static void test_tls(void **state)
{
  struct peer_tls tls;
  struct service service;
  struct rig rig;
  assert_int_equal(peer_tls_init(&tls), 0);
  service_start(&service, &tls);
  rig_start(&rig, &service, &(struct rig_settings){.ca_file = tls.ca_file});
  rig_begin(&rig, "demo");
  rig_speak(&rig, 35);
  rig_await(&rig, &rig.n_finals, 3);
  rig_say(&rig, VC_TURN_CLOSE);
  rig_await(&rig, &rig.n_closed, 1);
  rig_check_told(&rig);
  rig_stop(&rig);

  rig_start(&rig, &service, &(struct rig_settings){.ca_file = tls.other_ca_file});
  rig_begin(&rig, "demo");
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  assert_string_equal(rig.reason, "stt unreachable: certificate not trusted");
  rig_stop(&rig);

  service.url = "ws://127.0.0.1:9/"; // after https
  rig_start(&rig, &service, &(struct rig_settings){.ca_file = tls.ca_file});
  rig_begin(&rig, "demo");
  rig_await_state(&rig, VC_STATE_STT_DOWN);
  assert_string_equal(rig.reason, "stt answer has no usable url");
  rig_stop(&rig);
  service_stop(&service);
  peer_tls_fini(&tls);
}

int main(void)
{
  signal(SIGPIPE, SIG_IGN);
  setenv("CMOCKA_TEST_ABORT", "1", 1); // threads go on with what is on the stack of a test
  if (getenv("RIG_ONLY") != NULL) {
    cmocka_set_test_filter(getenv("RIG_ONLY"));
  }
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_words_are_told),
      cmocka_unit_test(test_participants_are_heard_beside_each_other),
      cmocka_unit_test(test_figures),
      cmocka_unit_test(test_drop_is_taken_up),
      cmocka_unit_test(test_lost_session_is_replaced),
      cmocka_unit_test(test_dropped_in_a_row),
      cmocka_unit_test(test_lost_final_is_heard_again),
      cmocka_unit_test(test_lost_final_before_silence),
      cmocka_unit_test(test_lost_final_before_the_end),
      cmocka_unit_test(test_resent_sound_that_was_not_told),
      cmocka_unit_test(test_word_at_a_seam),
      cmocka_unit_test(test_drop_at_the_end),
      cmocka_unit_test(test_refused_for_ever),
      cmocka_unit_test(test_refused_until_the_end),
      cmocka_unit_test(test_back_at_the_end),
      cmocka_unit_test(test_told_not_to_ask_at_the_end),
      cmocka_unit_test(test_retry_after),
      cmocka_unit_test(test_unreachable),
      cmocka_unit_test(test_never_answers),
      cmocka_unit_test(test_goes_silent),
      cmocka_unit_test(test_urls_that_may_not_be),
      cmocka_unit_test(test_rubbish_is_passed_over),
      cmocka_unit_test(test_keep_alive),
      cmocka_unit_test(test_old_session_is_renewed),
      cmocka_unit_test(test_late_final),
      cmocka_unit_test(test_end_that_does_not_come),
      cmocka_unit_test(test_slow_ledger),
      cmocka_unit_test(test_ledger_away_for_long),
      cmocka_unit_test(test_ring_overflows),
      cmocka_unit_test(test_service_takes_nothing),
      cmocka_unit_test(test_backlog_goes_in_pieces),
      cmocka_unit_test(test_holes_keep_times_true),
      cmocka_unit_test(test_no_memory_for_the_table),
      cmocka_unit_test(test_next_session_of_a_slug_waits_for_the_end_of_the_first),
      cmocka_unit_test(test_drain_waits_for_finals),
      cmocka_unit_test(test_drain_that_takes_too_long),
      cmocka_unit_test(test_tls),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
