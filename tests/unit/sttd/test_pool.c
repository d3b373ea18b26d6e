// The pool with its real threads and an engine that the test holds up and lets go.
#include "fake_engine.h"
#include "pool.h"

#include <verbacast/sttd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define S ENGINE_RATE_HZ
#define PATIENCE_MS 60000

struct rig {
  struct engine *engine;
  struct pool *pool;
  struct vc_metrics *metrics;
};

static _Atomic uint64_t clock_ns;

static uint64_t read_clock(void *context)
{
  return atomic_load(&clock_ns);
}

static const struct vc_clock hand_clock = {.monotonic_ns = read_clock};

static struct rig begin(uint32_t n_threads)
{
  struct vc_error error;
  struct rig rig = {.engine = fake_engine_create()};
  atomic_store(&clock_ns, 1000 * VC_NS_PER_S);
  rig.metrics = vc_metrics_create(&hand_clock);
  const struct pool_settings settings = {
      .engine = rig.engine,
      .n_threads = n_threads,
      .clock = &hand_clock,
      .metrics = rig.metrics,
  };
  assert_int_equal(pool_create(&rig.pool, &settings, &error), 0);
  return rig;
}

static void end(struct rig *rig)
{
  pool_destroy(&rig->pool);
  engine_close(&rig->engine);
  vc_metrics_destroy(&rig->metrics);
}

static uint64_t counter(struct rig *rig, const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig->metrics, name, &value), 0);
  return value;
}

static struct stream *open_stream(struct rig *rig)
{
  const struct stream_settings settings = {
      .endpointing_s = 0.3, .longest_s = 8, .wants_partials = 1, .owner = rig};
  struct stream *stream = stream_open(rig->pool, &settings);
  assert_non_null(stream);
  return stream;
}

// Waits until one of the pool's streams has something to tell.
static void wait_ready(struct rig *rig)
{
  struct pollfd fd = {.fd = pool_event_fd(rig->pool), .events = POLLIN};
  assert_int_equal(poll(&fd, 1, PATIENCE_MS), 1);
  while (pool_take_ready(rig->pool) != NULL) {
  }
}

static struct outcome next_outcome(struct rig *rig, struct stream *stream)
{
  for (;;) {
    struct outcome outcome = stream_take(stream);
    if (outcome.kind != OUTCOME_NONE) {
      return outcome;
    }
    wait_ready(rig);
  }
}

// `level` 0: silence. Sound that finds no room waits until there is some.
static void feed(struct rig *rig, struct stream *stream, int16_t level, size_t n)
{
  static int16_t samples[S];
  for (size_t i = 0; i < S; i++) {
    samples[i] = level;
  }
  while (n > 0) {
    size_t room = stream_room(stream, n < S ? n : S);
    if (room == 0) {
      wait_ready(rig);
    }
    stream_feed(stream, samples, room);
    n -= room;
  }
}

// Waits until less than a window is unheard.
static void wait_heard(struct stream *stream)
{
  for (int i = 0; stream_backlog_s(stream) > 0.032; i++) {
    assert_true(i < PATIENCE_MS);
    poll(NULL, 0, 1);
  }
}

static void test_a_voice_becomes_words(void **state)
{
  struct rig rig = begin(2);
  struct stream *stream = open_stream(&rig);
  assert_ptr_equal(stream_owner(stream), &rig);
  feed(&rig, stream, 0, S);
  feed(&rig, stream, LOUD, S);
  feed(&rig, stream, 0, S);
  stream_finish(stream);
  struct outcome outcome = next_outcome(&rig, stream);
  assert_int_equal(outcome.kind, OUTCOME_SPEECH_START);
  assert_true(outcome.time_s > 0.8 && outcome.time_s < 1.1);
  int n_partials = 0;
  while ((outcome = next_outcome(&rig, stream)).kind == OUTCOME_TRANSCRIPT &&
         !outcome.utterance->is_final) {
    n_partials++;
    vc_utterance_destroy(&outcome.utterance);
  }
  assert_int_equal(outcome.kind, OUTCOME_TRANSCRIPT);
  assert_string_equal(outcome.utterance->id, "00-00000001");
  assert_string_equal(outcome.utterance->text, "one two three");
  assert_true(outcome.utterance->is_approximate);
  assert_true(outcome.utterance->end_s > 1.8 && outcome.utterance->end_s < 2.1);
  vc_utterance_destroy(&outcome.utterance);
  assert_int_equal(next_outcome(&rig, stream).kind, OUTCOME_SPEECH_END);
  assert_int_equal(next_outcome(&rig, stream).kind, OUTCOME_FINISHED);
  assert_int_equal(stream_take(stream).kind, OUTCOME_NONE);
  stream_close(stream);
  end(&rig);
}

// Every half second that was said is in exactly one final, whatever the threads did.
static void test_no_final_is_lost(void **state)
{
  struct rig rig = begin(2);
  struct stream *streams[6];
  int n_finals[6] = {0};
  for (size_t i = 0; i < 6; i++) {
    streams[i] = open_stream(&rig);
  }
  for (int round = 0; round < 10; round++) {
    for (size_t i = 0; i < 6; i++) {
      feed(&rig, streams[i], LOUD, S / 2);
      feed(&rig, streams[i], 0, S / 2);
    }
  }
  for (size_t i = 0; i < 6; i++) {
    stream_finish(streams[i]);
    struct outcome outcome;
    while ((outcome = next_outcome(&rig, streams[i])).kind != OUTCOME_FINISHED) {
      n_finals[i] += outcome.utterance != NULL && outcome.utterance->is_final;
      vc_utterance_destroy(&outcome.utterance);
    }
    assert_int_equal(n_finals[i], 10);
    stream_close(streams[i]);
  }
  assert_int_equal(counter(&rig, "sttd.finals_total"), 60);
  end(&rig);
}

// Seven seconds in one breath, cut after at most five: the finals, joined.
static struct vc_text say_seven_seconds(struct rig *rig)
{
  const struct stream_settings settings = {.endpointing_s = 0.3, .longest_s = 5};
  struct stream *stream = stream_open(rig->pool, &settings);
  assert_non_null(stream);
  feed(rig, stream, LOUD, 7 * S);
  stream_finish(stream);
  struct outcome outcome;
  struct vc_text said = {0};
  while ((outcome = next_outcome(rig, stream)).kind != OUTCOME_FINISHED) {
    if (outcome.utterance != NULL) {
      vc_text_add(&said, said.size > 0 ? "|" : "");
      vc_text_add(&said, outcome.utterance->text);
    }
    vc_utterance_destroy(&outcome.utterance);
  }
  stream_close(stream);
  assert_false(said.has_failed);
  return said;
}

static void test_what_was_cut_off_is_heard_after_what_it_was_cut_from(void **state)
{
  struct rig rig = begin(1);
  struct vc_text said = say_seven_seconds(&rig);
  // The words count half seconds: the second final goes on where the first ended.
  assert_non_null(said.at);
  assert_ptr_equal(strstr(said.at, "one two three four five six seven"), said.at);
  assert_non_null(strchr(said.at, '|'));
  assert_null(strstr(said.at, "|one"));
  assert_int_equal(counter(&rig, "sttd.contexts_lost_total"), 0);
  vc_text_fini(&said);
  end(&rig);
}

static void test_what_is_heard_otherwise_is_heard_alone(void **state)
{
  struct rig rig = begin(1);
  fake_engine_confuse_long(rig.engine);
  struct vc_text said = say_seven_seconds(&rig);
  assert_non_null(said.at);
  assert_non_null(strstr(said.at, "|one two"));
  assert_true(counter(&rig, "sttd.contexts_lost_total") > 0);
  vc_text_fini(&said);
  end(&rig);
}

static void hear_a_second(struct rig *rig, int n_circles, const char *expected)
{
  struct stream *stream = open_stream(rig);
  fake_engine_circle(rig->engine, n_circles);
  feed(rig, stream, LOUD, S);
  stream_finish(stream);
  struct outcome outcome;
  const char *final = NULL;
  while ((outcome = next_outcome(rig, stream)).kind != OUTCOME_FINISHED) {
    if (outcome.utterance != NULL && outcome.utterance->is_final) {
      final = strcmp(outcome.utterance->text, expected) == 0 ? expected : "another";
    }
    vc_utterance_destroy(&outcome.utterance);
  }
  assert_non_null(final);
  assert_string_equal(final, expected);
  stream_close(stream);
}

static void test_circles_are_left(void **state)
{
  struct rig rig = begin(1);
  hear_a_second(&rig, 2, "one two");
  assert_int_equal(counter(&rig, "sttd.circles_total"), 2);
  end(&rig);
}

static void test_what_is_said_again_and_again_is_told(void **state)
{
  struct rig rig = begin(1);
  hear_a_second(&rig, 3, "round and round and round and round and out");
  fake_engine_know_times(rig.engine);
  hear_a_second(&rig, 3, "Mr. Mrs. Mr. Mrs. Mr. Mrs. Mr. Mrs. out");
  end(&rig);
}

static void test_partials_give_way(void **state)
{
  struct rig rig = begin(1);
  struct stream *stream = open_stream(&rig);
  int n_transcripts = 0;
  // Nobody takes: the later partials replace the earlier ones, the final replaces the last.
  for (int i = 0; i < 12; i++) {
    feed(&rig, stream, LOUD, S / 4);
    wait_heard(stream);
  }
  stream_finish(stream);
  struct outcome outcome;
  while ((outcome = next_outcome(&rig, stream)).kind != OUTCOME_FINISHED) {
    if (outcome.utterance != NULL) {
      n_transcripts++;
      assert_true(n_transcripts > 1 || counter(&rig, "sttd.partials_total") > 0);
    }
    vc_utterance_destroy(&outcome.utterance);
  }
  assert_in_range(n_transcripts, 1, 2);
  stream_close(stream);
  end(&rig);
}

static void test_who_wants_no_partials_costs_none(void **state)
{
  struct rig rig = begin(1);
  const struct stream_settings settings = {.endpointing_s = 0.01, .longest_s = 60};
  struct stream *stream = stream_open(rig.pool, &settings);
  feed(&rig, stream, LOUD, 30 * S);
  stream_finish(stream);
  struct outcome outcome;
  int n_finals = 0;
  while ((outcome = next_outcome(&rig, stream)).kind != OUTCOME_FINISHED) {
    if (outcome.utterance != NULL) {
      assert_true(outcome.utterance->is_final);
      // The engine's longest, not the 60 s that were asked for.
      assert_true(outcome.utterance->end_s - outcome.utterance->start_s <= 10.1);
      n_finals++;
    }
    vc_utterance_destroy(&outcome.utterance);
  }
  assert_in_range(n_finals, 3, 4);
  assert_int_equal(counter(&rig, "sttd.partials_total"), 0);
  stream_close(stream);
  end(&rig);
}

static void test_sound_waits_for_room(void **state)
{
  struct rig rig = begin(1);
  static const int16_t silence[S];
  struct stream *stream = open_stream(&rig);
  fake_engine_hold(rig.engine);
  feed(&rig, stream, LOUD, S);
  fake_engine_wait_held(rig.engine);
  size_t taken = 0, room;
  while ((room = stream_room(stream, S)) > 0) {
    stream_feed(stream, silence, room);
    taken += room;
  }
  assert_true(taken <= POOL_BACKLOG_S * S);
  fake_engine_release(rig.engine);
  wait_ready(&rig);
  while (stream_room(stream, S) < S) {
    wait_ready(&rig);
  }
  stream_close(stream);
  end(&rig);
}

// One thread, held up. A client that sent four seconds at once and one that sent a tenth as it was
// said: the second waits for a second of the first at most.
static void test_a_fast_client_does_not_starve_a_live_one(void **state)
{
  struct rig rig = begin(1);
  struct stream *plug = open_stream(&rig);
  fake_engine_hold(rig.engine);
  feed(&rig, plug, LOUD, S);
  fake_engine_wait_held(rig.engine);
  struct stream *fast = open_stream(&rig);
  struct stream *live = open_stream(&rig);
  feed(&rig, fast, 0, 4 * S);
  feed(&rig, live, 0, S / 10);
  atomic_fetch_add(&clock_ns, 100 * VC_NS_PER_MS);
  stream_close(plug);
  fake_engine_release(rig.engine);
  wait_heard(fast);
  wait_heard(live);
  size_t n_windows = 4 * S / ENGINE_WINDOW;
  int n_before = 0, has_live = 0;
  // Ears are numbered as they open: who comes first gets the plug's or a new one.
  int first = -1;
  for (size_t i = 0; i < 2 * n_windows; i++) {
    int ear = fake_engine_heard_by(rig.engine, i);
    if (i < S / ENGINE_WINDOW || ear < 0) {
      continue; // the plug's own second
    }
    first = first < 0 ? ear : first;
    if (ear != first) {
      has_live = 1;
      break;
    }
    n_before++;
  }
  assert_true(has_live);
  assert_in_range(n_before, 1, 32);
  stream_close(fast);
  stream_close(live);
  end(&rig);
}

static void test_an_ear_that_does_not_open(void **state)
{
  struct rig rig = begin(2);
  fake_engine_fail_ears(rig.engine);
  struct stream *stream = open_stream(&rig);
  feed(&rig, stream, LOUD, S / 10);
  assert_int_equal(next_outcome(&rig, stream).kind, OUTCOME_FAILED);
  stream_close(stream);
  end(&rig);
}

static void test_decodes_that_fail_are_counted(void **state)
{
  struct rig rig = begin(1);
  fake_engine_fail_decodes(rig.engine);
  struct stream *stream = open_stream(&rig);
  feed(&rig, stream, LOUD, S);
  stream_finish(stream);
  struct outcome outcome;
  while ((outcome = next_outcome(&rig, stream)).kind != OUTCOME_FINISHED) {
    assert_null(outcome.utterance);
  }
  assert_true(counter(&rig, "sttd.engine_failures_total") > 0);
  stream_close(stream);
  end(&rig);
}

// What was shown as a partial gets its final, also when the last look hears nothing.
static void test_a_shown_partial_gets_its_final(void **state)
{
  struct rig rig = begin(1);
  fake_engine_mute_finals(rig.engine);
  struct stream *stream = open_stream(&rig);
  struct outcome outcome;
  feed(&rig, stream, LOUD, S);
  do {
    outcome = next_outcome(&rig, stream);
  } while (outcome.kind != OUTCOME_TRANSCRIPT);
  assert_false(outcome.utterance->is_final);
  vc_utterance_destroy(&outcome.utterance);
  stream_finish(stream);
  int n_finals = 0;
  while ((outcome = next_outcome(&rig, stream)).kind != OUTCOME_FINISHED) {
    if (outcome.utterance != NULL && outcome.utterance->is_final) {
      n_finals++;
      assert_true(strncmp(outcome.utterance->text, "one", 3) == 0);
    }
    vc_utterance_destroy(&outcome.utterance);
  }
  assert_int_equal(n_finals, 1);
  stream_close(stream);
  end(&rig);
}

static void test_a_stream_is_closed_while_it_is_decoded(void **state)
{
  struct rig rig = begin(1);
  struct stream *stream = open_stream(&rig);
  fake_engine_hold(rig.engine);
  feed(&rig, stream, LOUD, S);
  fake_engine_wait_held(rig.engine);
  atomic_fetch_add(&clock_ns, 5 * VC_NS_PER_S);
  assert_int_equal(pool_busy_ms(rig.pool), 5000);
  stream_close(stream);
  fake_engine_release(rig.engine);
  end(&rig);
}

static void test_ears_are_used_again(void **state)
{
  struct rig rig = begin(1);
  for (int i = 0; i < 5; i++) {
    struct stream *stream = open_stream(&rig);
    feed(&rig, stream, LOUD, S / 2);
    stream_finish(stream);
    struct outcome outcome;
    while ((outcome = next_outcome(&rig, stream)).kind != OUTCOME_FINISHED) {
      vc_utterance_destroy(&outcome.utterance);
    }
    stream_close(stream);
  }
  // The closing is the thread's, which may come after the next stream began.
  assert_in_range(fake_engine_n_ears(rig.engine), 1, 2);
  end(&rig);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_voice_becomes_words),
      cmocka_unit_test(test_no_final_is_lost),
      cmocka_unit_test(test_what_was_cut_off_is_heard_after_what_it_was_cut_from),
      cmocka_unit_test(test_what_is_heard_otherwise_is_heard_alone),
      cmocka_unit_test(test_circles_are_left),
      cmocka_unit_test(test_what_is_said_again_and_again_is_told),
      cmocka_unit_test(test_partials_give_way),
      cmocka_unit_test(test_who_wants_no_partials_costs_none),
      cmocka_unit_test(test_sound_waits_for_room),
      cmocka_unit_test(test_a_fast_client_does_not_starve_a_live_one),
      cmocka_unit_test(test_an_ear_that_does_not_open),
      cmocka_unit_test(test_decodes_that_fail_are_counted),
      cmocka_unit_test(test_a_shown_partial_gets_its_final),
      cmocka_unit_test(test_a_stream_is_closed_while_it_is_decoded),
      cmocka_unit_test(test_ears_are_used_again),
  };
  return cmocka_run_group_tests_name("sttd/pool", tests, NULL, NULL);
}
