// What stt says, and what a viewer who was there from the beginning reads.
#include "rig.h"

#include <math.h>
#include <string.h>

#include <verbacast/wire/json.h>

static int set_up(void **state)
{
  *state = rig_create(NULL);
  return 0;
}

static int tear_down(void **state)
{
  rig_destroy(*state);
  return 0;
}

static void test_numbers_what_it_says(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  rig_expect(rig, 0, "answer 1 last e-#1", "- hello e-#0 idle", NULL);
  struct vc_session *session = rig_open(rig, "demo");
  rig_partial(rig, session, "00-4", "good mor");
  rig_partial(rig, session, "00-4", "good morning");
  rig_final(rig, session, "00-4", "Good morning.");
  rig_state(rig, session, VC_STATE_RECONNECTING, "");
  rig_state(rig, session, VC_STATE_STT_DOWN, "unreachable");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_expect(rig, 0, "live hello e0#0 live", "live partial e0#1 1-0-00-4 good mor",
             "live partial e0#2 1-0-00-4 good morning", "live final e0#3 1-0-00-4 Good morning.",
             "live status e0#4 reconnecting", "live status e0#5 stt_down unreachable",
             "live end e0#6  publisher_left", NULL);
  rig_expect_records(rig, "started demo e0", "final demo e0#3", "ended demo e0", NULL);
}

static struct vc_message *take_live(struct rig *rig)
{
  struct vc_item *item = hand_take(rig->broadcast, 0);
  assert_non_null(item);
  assert_int_equal(item->kind, VC_ITEM_LIVE);
  struct vc_message *message = vc_message_ref(((struct vc_live *)item)->message);
  vc_item_destroy(item);
  return message;
}

static void test_says_what_came_before(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_partial(rig, session, "a", "one");
  rig_final(rig, session, "a", "One.");
  rig_partial(rig, session, "b", "two");
  rig_state(rig, session, VC_STATE_RECONNECTING, "");
  rig_final(rig, session, "b", "Two.");
  const uint64_t before[] = {0, 0, 2, 2, 4};
  for (size_t i = 0; i < 5; i++) {
    struct vc_message *message = take_live(rig);
    assert_int_equal(message->seq, i + 1);
    assert_int_equal(message->prev_final, before[i]);
    assert_int_equal(message->received_ns, i == 3 ? 0 : rig->now_ns);
    vc_message_unref(message);
  }
  vc_session_unref(session);
}

static void test_counts_for_the_figures(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_partial(rig, session, "a", "one");
  rig_final(rig, session, "a", "One.");
  rig_final(rig, session, "a", "One.");
  assert_int_equal(session->n_partials, 1);
  assert_int_equal(session->n_finals, 1);
  assert_int_equal(rig_count(rig, "ledger.finals_total"), 1);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 1);
  vc_session_unref(session);
}

static void test_shows_a_final_once(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_skip(rig, 0);
  rig_final(rig, session, "a", "One.");
  rig_partial(rig, session, "a", "on");
  rig_expect(rig, 0, NULL);
  assert_int_equal(rig_count(rig, "ledger.duplicates_total"), 1);
  assert_int_equal(rig_count(rig, "ledger.late_partials_total"), 1);
  vc_session_unref(session);
}

static void test_tells_sessions_and_channels_apart(void **state)
{
  struct rig *rig = *state;
  struct vc_utterance utterance = {
      .id = "a", .text = "x", .language = "", .end_s = 1, .confidence = NAN, .is_final = 1};
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_hear(rig, session, 1, &utterance);
  rig_hear(rig, session, 2, &utterance);
  utterance.channel = 1;
  rig_hear(rig, session, 2, &utterance);
  rig_hear(rig, session, 2, &utterance);
  rig_expect(rig, 0, "live final e0#1 1-0-a x", "live final e0#2 2-0-a x",
             "live final e0#3 2-1-a x", NULL);
  vc_session_unref(session);
}

static void narrow_window(struct rig *rig)
{
  rig->options.dedup_window = 2;
}

static void test_forgets_beyond_the_window(void **state)
{
  (void)state;
  struct rig *rig = rig_create(narrow_window);
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_final(rig, session, "a", "A");
  rig_final(rig, session, "b", "B");
  rig_final(rig, session, "a", "A"); // a double does not make it younger
  rig_final(rig, session, "c", "C");
  rig_final(rig, session, "b", "B");
  rig_final(rig, session, "a", "A");
  rig_expect(rig, 0, "live final e0#1 1-0-a A", "live final e0#2 1-0-b B",
             "live final e0#3 1-0-c C", "live final e0#4 1-0-a A", NULL);
  vc_session_unref(session);
  rig_destroy(rig);
}

// The start and end that a message tells.
static void times_of(struct rig *rig, double *start, double *end)
{
  struct vc_message *message = take_live(rig);
  json_t *root = vc_json_parse((const char *)message->frame->data + message->json_offset,
                               message->frame->size - message->json_offset, NULL);
  *start = vc_json_real(root, "start", -1);
  *end = vc_json_real(root, "end", -1);
  json_decref(root);
  vc_message_unref(message);
}

static void test_keeps_the_start_that_was_shown(void **state)
{
  struct rig *rig = *state;
  struct vc_utterance utterance = {
      .id = "a", .text = "one", .language = "", .start_s = 2, .end_s = 3, .confidence = NAN};
  double start, end;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_hear(rig, session, 1, &utterance);
  utterance.start_s = 2.5;
  utterance.end_s = 3.5;
  rig_hear(rig, session, 1, &utterance);
  utterance.start_s = 0.5;
  utterance.end_s = 1;
  utterance.is_final = 1;
  rig_hear(rig, session, 1, &utterance);
  times_of(rig, &start, &end);
  times_of(rig, &start, &end);
  assert_true(start == 2 && end == 3.5);
  times_of(rig, &start, &end);
  assert_true(start == 2 && end == 2);
  vc_session_unref(session);
}

static void test_starts_no_earlier_than_the_session(void **state)
{
  struct rig *rig = *state;
  double start, end;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_hear(rig, session, 1,
           &(struct vc_utterance){.id = "a",
                                  .text = "one",
                                  .language = "",
                                  .start_s = -2,
                                  .end_s = -1,
                                  .confidence = NAN,
                                  .is_final = 1});
  times_of(rig, &start, &end);
  assert_true(start == 0 && end == 0);
  vc_session_unref(session);
}

static void test_refuses_times_that_are_none(void **state)
{
  struct rig *rig = *state;
  struct vc_utterance utterance = {
      .id = "a", .text = "x", .language = "", .end_s = INFINITY, .confidence = NAN, .is_final = 1};
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_hear(rig, session, 1, &utterance);
  utterance.start_s = NAN;
  utterance.end_s = 1;
  rig_hear(rig, session, 1, &utterance);
  rig_expect(rig, 0, NULL);
  assert_int_equal(rig_count(rig, "ledger.invalid_utterances_total"), 2);
  vc_session_unref(session);
}

static void test_says_nothing_twice(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_partial(rig, session, "a", "one");
  rig_partial(rig, session, "a", "one");
  rig_state(rig, session, VC_STATE_LIVE, "");
  rig_state(rig, session, VC_STATE_STT_DOWN, "401");
  rig_state(rig, session, VC_STATE_STT_DOWN, "401");
  rig_state(rig, session, VC_STATE_STT_DOWN, "unreachable");
  rig_state(rig, session, VC_STATE_LIVE, "");
  rig_expect(rig, 0, "live partial e0#1 1-0-a one", "live status e0#2 stt_down 401",
             "live status e0#3 stt_down unreachable", "live status e0#4 live", NULL);
  assert_int_equal(rig_count(rig, "ledger.same_partials_total"), 1);
  vc_session_unref(session);
}

static void test_takes_back_what_gets_no_final(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_partial(rig, session, "a", "one");
  rig_partial(rig, session, "b", "two");
  rig_partial(rig, session, "c", "three");
  rig_retract(rig, session, "b");
  rig_retract(rig, session, "b");
  rig_retract(rig, session, "never shown");
  rig_close(rig, &session, VC_CLOSE_SHUTDOWN);
  rig_expect(rig, 0, "live partial e0#1 1-0-a one", "live partial e0#2 1-0-b two",
             "live partial e0#3 1-0-c three", "live retract e0#4 1-0-b", "live retract e0#5 1-0-a",
             "live retract e0#6 1-0-c", "live end e0#7  shutdown", NULL);
}

static void test_a_final_without_text_takes_back(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_partial(rig, session, "b", "");
  rig_partial(rig, session, "a", "one");
  rig_final(rig, session, "a", "");
  rig_final(rig, session, "b", "");
  rig_partial(rig, session, "a", "late");
  rig_expect(rig, 0, "live partial e0#1 1-0-a one", "live retract e0#2 1-0-a", NULL);
  vc_session_unref(session);
}

static void test_bounds_open_utterances(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  char id[16];
  for (int i = 0; i < 32; i++) {
    snprintf(id, sizeof id, "%d", i);
    rig_partial(rig, session, id, "x");
  }
  rig_join(rig, "demo");
  rig_skip(rig, 0);
  rig_partial(rig, session, "more", "x");
  rig_expect(rig, 0, "live retract e0#33 1-0-0", "live partial e0#34 1-0-more x", NULL);
  assert_int_equal(rig_count(rig, "ledger.open_overflows_total"), 1);
  vc_session_unref(session);
}

static void test_cleans_odd_ids(void **state)
{
  struct rig *rig = *state;
  char long_id[200];
  memset(long_id, 'x', sizeof long_id - 1);
  long_id[sizeof long_id - 1] = '\0';
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_final(rig, session, "a b", "1");
  rig_final(rig, session, "a/b", "2");
  rig_final(rig, session, "", "3");
  rig_final(rig, session, long_id, "4");
  long_id[150] = 'y';
  rig_final(rig, session, long_id, "5");
  rig_expect(
      rig, 0, "live final e0#1 1-0-a_b-e63f991904833892 1",
      "live final e0#2 1-0-a_b-e620c3190468cf61 2", "live final e0#3 1-0--cbf29ce484222325 3",
      "live final e0#4 1-0-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-4d89f03258ad7e5f 4",
      "live final e0#5 1-0-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx-79a2039d449414ec 5", NULL);
  vc_session_unref(session);
}

static void test_ignores_what_belongs_to_nobody(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  struct vc_session *first = rig_open(rig, "demo");
  struct vc_session *gone = vc_session_ref(first);
  rig_close(rig, &first, VC_CLOSE_KICKED);
  rig_final(rig, gone, "a", "late");
  struct vc_session *second = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_final(rig, gone, "b", "later");
  rig_state(rig, second, VC_STATE_ENDED, "");
  rig_expect(rig, 0, NULL);
  assert_int_equal(rig_count(rig, "ledger.stray_results_total"), 3);
  vc_session_unref(gone);
  vc_session_unref(second);
}

static void test_a_new_publishing_is_a_new_epoch(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_pass_ms(rig, 5000);
  session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "Again.");
  rig_skip(rig, 0);
  rig_final(rig, session, "b", "More.");
  rig_expect(rig, 0, "live final e5000#2 1-0-b More.", NULL);
  rig_expect_records(rig, "started demo e0", "final demo e0#1", "ended demo e0",
                     "started demo e5000", "final demo e5000#1", "final demo e5000#2", NULL);
  vc_session_unref(session);
}

static void test_epochs_grow_when_the_clock_steps_back(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_skip(rig, 0);
  rig->unix_us -= 3600 * INT64_C(1000000);
  session = rig_open(rig, "demo");
  rig_expect(rig, 0, "live hello e1#0 live", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_skip(rig, 0);
  rig_join(rig, "other"); // a node's epochs never go back either
  session = rig_open(rig, "other");
  rig_expect(rig, 0, "answer 2 last e-#1", "- hello e-#0 idle", "live hello e1#0 live", NULL);
  vc_session_unref(session);
}

static int64_t known_epoch(void *context, const char *slug)
{
  (void)context;
  return strcmp(slug, "demo") == 0 ? RIG_UNIX_MS + 77 : 0;
}

static void with_known_epoch(struct rig *rig)
{
  rig->settings.epoch_floor = known_epoch;
}

static void test_epochs_are_larger_than_what_others_know(void **state)
{
  (void)state;
  struct rig *rig = rig_create(with_known_epoch);
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_expect(rig, 0, "answer 1 last e-#1", "- hello e-#0 idle", "live hello e78#0 live", NULL);
  assert_int_equal(rig->began_ms, RIG_UNIX_MS); // not when the epoch says
  rig_join(rig, "demo");
  rig_expect(rig, 0, "answer 2 last e78#1", "- hello e78#0 live", NULL);
  assert_int_equal(rig->began_ms, RIG_UNIX_MS);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_skip(rig, 0);
  rig_catch_up(rig, "demo", 1, RIG_UNIX_MS + 78, 0);
  rig_expect(rig, 0, "answer 1 last e78#2", "- end e78#1  publisher_left", NULL);
  assert_int_equal(rig->began_ms, 0);
  rig_destroy(rig);
}

static void test_a_lost_close_is_made_good(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  struct vc_session *first = rig_open(rig, "demo");
  rig_partial(rig, first, "a", "one");
  rig_skip(rig, 0);
  struct vc_session *second = rig_open(rig, "demo");
  rig_expect(rig, 0, "live retract e0#2 1-0-a", "live end e0#3  publisher_left",
             "live hello e1#0 live", NULL);
  vc_session_unref(first);
  vc_session_unref(second);
}

static void test_a_drain_ends_what_is_live(void **state)
{
  (void)state;
  struct rig *rig = rig_create(NULL);
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_partial(rig, session, "a", "one");
  rig_skip(rig, 0);
  assert_int_equal(vc_stage_stop(rig->ledger, 1000), 0);
  rig_expect(rig, 0, "live retract e0#2 1-0-a", "live end e0#3  shutdown", NULL);
  rig_expect_records(rig, "started demo e0", "ended demo e0", NULL);
  vc_session_unref(session);
  rig_destroy(rig);
}

static void test_works_without_a_journal(void **state)
{
  (void)state;
  struct rig *rig = rig_create(NULL);
  vc_stage_stop(rig->ledger, 1000);
  vc_stage_destroy(&rig->ledger);
  rig->settings.journal = NULL;
  assert_int_equal(vc_ledger_create(&rig->ledger, &rig->settings, NULL), 0);
  rig->putter = vc_putter_create(rig->ledger);
  assert_int_equal(vc_stage_start(rig->ledger, NULL), 0);
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  assert_int_equal(hand_count(rig->journal, 0), 0);
  rig_destroy(rig);
}

// --- partials for others

static void want_partials(struct rig *rig)
{
  rig->settings.partials = rig->partials;
}

static void expect_partial(struct rig *rig, uint64_t seq, const char *text)
{
  struct vc_item *item = hand_take(rig->partials, 0);
  assert_non_null(item);
  const struct vc_record *record = (const struct vc_record *)item;
  assert_int_equal(item->kind, VC_ITEM_RECORD);
  assert_int_equal(record->kind, VC_RECORD_PARTIAL);
  assert_string_equal(record->slug, "demo");
  assert_int_equal(record->epoch, RIG_UNIX_MS);
  assert_int_equal(record->seq, seq);
  char wanted[256];
  snprintf(wanted, sizeof wanted,
           "\"seq\":%llu,\"utteranceId\":\"1-0-a\",\"isFinal\":false,\"text\":\"%s\"",
           (unsigned long long)seq, text);
  assert_non_null(memmem(record->value->data, record->value->size, wanted, strlen(wanted)));
  vc_item_destroy(item);
}

static void test_partials_are_given(void **state)
{
  struct rig *rig = rig_create(want_partials);
  struct vc_session *session = rig_open(rig, "demo");
  rig_partial(rig, session, "a", "Good");
  rig_partial(rig, session, "a", "Good");
  rig_partial(rig, session, "a", "Good mor");
  rig_final(rig, session, "a", "Good morning.");
  expect_partial(rig, 1, "Good");
  expect_partial(rig, 2, "Good mor");
  assert_int_equal(hand_count(rig->partials, 0), 0);
  rig_expect_records(rig, "started demo e0", "final demo e0#3", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_destroy(rig);
}

// Nobody waits for them: what the lane does not take is gone, and viewers and finals go on.
static void test_partials_that_do_not_fit_are_dropped(void **state)
{
  struct rig *rig = rig_create(want_partials);
  struct vc_session *session = rig_open(rig, "demo");
  hand_set_capacity(rig->partials, 0, 1);
  rig_partial(rig, session, "a", "Good");
  rig_partial(rig, session, "a", "Good mor");
  rig_partial(rig, session, "a", "Good morn");
  rig_final(rig, session, "a", "Good morning.");
  assert_int_equal(rig_count(rig, "ledger.partials_dropped_total"), 2);
  assert_int_equal(rig_count(rig, "journal.lost_total"), 0);
  expect_partial(rig, 1, "Good");
  rig_partial(rig, session, "b", "Next");
  assert_int_equal(hand_count(rig->partials, 0), 1);
  rig_expect_records(rig, "started demo e0", "final demo e0#4", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_destroy(rig);
}

static void test_partials_are_nobodys_by_themselves(void **state)
{
  struct rig *rig = rig_create(NULL);
  struct vc_session *session = rig_open(rig, "demo");
  rig_partial(rig, session, "a", "Good");
  assert_int_equal(hand_count(rig->partials, 0), 0);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_destroy(rig);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      CASE(test_numbers_what_it_says),
      CASE(test_says_what_came_before),
      CASE(test_counts_for_the_figures),
      CASE(test_shows_a_final_once),
      CASE(test_tells_sessions_and_channels_apart),
      cmocka_unit_test(test_forgets_beyond_the_window),
      CASE(test_keeps_the_start_that_was_shown),
      CASE(test_starts_no_earlier_than_the_session),
      CASE(test_refuses_times_that_are_none),
      CASE(test_says_nothing_twice),
      CASE(test_takes_back_what_gets_no_final),
      CASE(test_a_final_without_text_takes_back),
      CASE(test_bounds_open_utterances),
      CASE(test_cleans_odd_ids),
      CASE(test_ignores_what_belongs_to_nobody),
      CASE(test_a_new_publishing_is_a_new_epoch),
      CASE(test_epochs_grow_when_the_clock_steps_back),
      cmocka_unit_test(test_epochs_are_larger_than_what_others_know),
      CASE(test_a_lost_close_is_made_good),
      cmocka_unit_test(test_a_drain_ends_what_is_live),
      cmocka_unit_test(test_works_without_a_journal),
      cmocka_unit_test(test_partials_are_given),
      cmocka_unit_test(test_partials_that_do_not_fit_are_dropped),
      cmocka_unit_test(test_partials_are_nobodys_by_themselves),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
