// Several that publish one slug at once: one session of many speakers.
#include "rig.h"

#include <math.h>
#include <stdio.h>
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

static struct {
  struct vc_session *ada, *bob;
} both;

// The two publish "demo", and a viewer is shown what they say.
static int set_up_both(void **state)
{
  set_up(state);
  struct rig *rig = *state;
  rig_join(rig, "demo");
  rig_skip(rig, 0);
  both.ada = rig_open_of(rig, "demo", "Ada");
  both.bob = rig_open_of(rig, "demo", "Bob");
  return 0;
}

static int tear_down_both(void **state)
{
  vc_session_unref(both.ada);
  vc_session_unref(both.bob);
  return tear_down(state);
}

static void begin_sound(struct rig *rig, struct vc_session *session)
{
  atomic_store(&session->first_audio_ns, rig->now_ns);
}

static void test_is_one_session_until_the_last_leaves(void **state)
{
  struct rig *rig = *state;
  rig_partial(rig, both.ada, "1", "good mor");
  rig_final(rig, both.bob, "1", "Hello.");
  rig_final(rig, both.ada, "1", "Good morning.");
  rig_partial(rig, both.ada, "2", "and");
  rig_close(rig, &both.ada, VC_CLOSE_PUBLISHER_LEFT);
  rig_final(rig, both.bob, "2", "Bye.");
  rig_close(rig, &both.bob, VC_CLOSE_KICKED);
  rig_expect(rig, 0, "live hello e0#0 live", "live partial e0#1 1-Ada-1 good mor",
             "live final e0#2 1-Bob-1 Hello.", "live final e0#3 1-Ada-1 Good morning.",
             "live partial e0#4 1-Ada-2 and", "live retract e0#5 1-Ada-2",
             "live final e0#6 1-Bob-2 Bye.", "live end e0#7  kicked", NULL);
  rig_expect_records(rig, "started demo e0", "final demo e0#2", "final demo e0#3",
                     "final demo e0#6", "ended demo e0", NULL);
}

static void test_mixes_with_one_of_nobody(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  rig_skip(rig, 0);
  struct vc_session *all = rig_open(rig, "demo");
  struct vc_session *zero = rig_open_of(rig, "demo", "0");
  rig_final(rig, all, "a", "From the room.");
  rig_final(rig, zero, "a", "From one.");
  rig_close(rig, &all, VC_CLOSE_PUBLISHER_LEFT);
  rig_close(rig, &zero, VC_CLOSE_PUBLISHER_LEFT);
  rig_expect(rig, 0, "live hello e0#0 live", "live final e0#1 1-0-a From the room.",
             "live final e0#2 1-0.af63ad4c86019caf-a From one.", "live end e0#3  publisher_left",
             NULL);
}

// What the journal keeps of it, as JSON. Borrowed by the caller, who gives it back.
static json_t *take_record(struct rig *rig)
{
  const char *why;
  struct vc_item *item;
  json_t *root = NULL;
  while (root == NULL && (item = hand_take(rig->journal, 0)) != NULL) {
    const struct vc_record *record = (const struct vc_record *)item;
    if (record->kind == VC_RECORD_FINAL) {
      root = vc_json_parse((const char *)record->value->data, record->value->size, &why);
    }
    vc_item_destroy(item);
  }
  assert_non_null(root);
  return root;
}

static void hear_word(struct rig *rig, struct vc_session *session, const char *id, double start_s)
{
  const struct vc_word word = {"Hi", start_s, start_s + 0.5, NAN};
  rig_hear(rig, session, 1,
           &(struct vc_utterance){.id = id,
                                  .text = "Hi",
                                  .language = "en",
                                  .speaker = "A",
                                  .start_s = start_s,
                                  .end_s = start_s + 0.5,
                                  .confidence = NAN,
                                  .is_final = 1,
                                  .words = &word,
                                  .n_words = 1});
}

static void expect_record(struct rig *rig, const char *speaker, double start_s)
{
  json_t *root = take_record(rig);
  const json_t *word = json_array_get(json_object_get(root, "words"), 0);
  assert_string_equal(vc_json_string(root, "speaker", "?"), speaker);
  assert_float_equal(vc_json_real(root, "start", -1), start_s, 0.0001);
  assert_float_equal(vc_json_real(root, "end", -1), start_s + 0.5, 0.0001);
  assert_float_equal(vc_json_real(word, "start", -1), start_s, 0.0001);
  assert_float_equal(vc_json_real(word, "end", -1), start_s + 0.5, 0.0001);
  json_decref(root);
}

static void test_names_the_speaker(void **state)
{
  struct rig *rig = *state;
  struct vc_session *all = rig_open(rig, "demo");
  struct vc_session *ada = rig_open_of(rig, "demo", "Ada Lovelace");
  hear_word(rig, all, "a", 1);
  expect_record(rig, "A", 1); // whom the provider told apart
  hear_word(rig, ada, "a", 1);
  expect_record(rig, "Ada Lovelace", 1);
  begin_sound(rig, ada);
  rig_pass_ms(rig, 3000);
  begin_sound(rig, all);
  hear_word(rig, all, "b", 1); // moved, and still the provider's
  expect_record(rig, "A", 4);
  vc_session_unref(all);
  vc_session_unref(ada);
}

static void test_counts_from_the_first_sound_of_any(void **state)
{
  struct rig *rig = *state;
  struct vc_session *ada = rig_open_of(rig, "demo", "Ada");
  rig_pass_ms(rig, 4000); // muted
  struct vc_session *bob = rig_open_of(rig, "demo", "Bob");
  begin_sound(rig, bob);
  rig_pass_ms(rig, 1500);
  hear_word(rig, bob, "a", 1);
  expect_record(rig, "Bob", 1);
  rig_pass_ms(rig, 1000);
  begin_sound(rig, ada);
  hear_word(rig, ada, "a", 0.25);
  expect_record(rig, "Ada", 2.75);
  hear_word(rig, bob, "b", 3);
  expect_record(rig, "Bob", 3);
  vc_session_unref(ada);
  vc_session_unref(bob);
}

// Nothing was heard of either when both had begun.
static void test_counts_from_the_earlier_of_two(void **state)
{
  struct rig *rig = *state;
  begin_sound(rig, both.bob);
  rig_pass_ms(rig, 1500);
  begin_sound(rig, both.ada);
  hear_word(rig, both.ada, "a", 1);
  expect_record(rig, "Ada", 2.5);
  hear_word(rig, both.bob, "a", 1);
  expect_record(rig, "Bob", 1);
}

static void test_keeps_the_clock_of_one_that_left(void **state)
{
  struct rig *rig = *state;
  struct vc_session *ada = rig_open_of(rig, "demo", "Ada");
  begin_sound(rig, ada); // and nothing that is heard
  rig_pass_ms(rig, 2000);
  struct vc_session *bob = rig_open_of(rig, "demo", "Bob");
  begin_sound(rig, bob);
  rig_close(rig, &ada, VC_CLOSE_PUBLISHER_LEFT);
  hear_word(rig, bob, "a", 1);
  expect_record(rig, "Bob", 3);
  vc_session_unref(bob);
}

static void test_begins_its_clock_anew_with_an_epoch(void **state)
{
  struct rig *rig = *state;
  struct vc_session *ada = rig_open_of(rig, "demo", "Ada");
  begin_sound(rig, ada);
  hear_word(rig, ada, "a", 1);
  expect_record(rig, "Ada", 1);
  rig_close(rig, &ada, VC_CLOSE_PUBLISHER_LEFT);
  rig_pass_ms(rig, 9000);
  ada = rig_open_of(rig, "demo", "Ada");
  begin_sound(rig, ada);
  hear_word(rig, ada, "a", 1);
  expect_record(rig, "Ada", 1);
  vc_session_unref(ada);
}

// The provider numbers its sessions anew for each publishing; within an epoch ids stay unique.
static void test_gives_no_id_twice(void **state)
{
  struct rig *rig = *state;
  rig_final(rig, both.ada, "a", "One.");
  rig_close(rig, &both.ada, VC_CLOSE_PUBLISHER_LEFT);
  both.ada = rig_open_of(rig, "demo", "Ada");
  rig_final(rig, both.ada, "a", "Two.");
  rig_final(rig, both.bob, "a", "Three.");
  rig_expect(rig, 0, "live hello e0#0 live", "live final e0#1 1-Ada-a One.",
             "live final e0#2 2-Ada-a Two.", "live final e0#3 1-Bob-a Three.", NULL);
}

static void expect_id(struct rig *rig, const char *slug, const char *participant,
                      const char *provider, const char *id)
{
  char line[256];
  rig_join(rig, slug);
  rig_skip(rig, 0);
  struct vc_session *session = rig_open_of(rig, slug, participant);
  rig_final(rig, session, provider, "x");
  snprintf(line, sizeof line, "live final e0#1 %s x", id);
  rig_expect(rig, 0, "live hello e0#0 live", line, NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_skip(rig, 0);
}

static void test_tells_odd_participants_apart(void **state)
{
  struct rig *rig = *state;
  static const struct {
    const char *participant, *provider, *id;
  } rows[] = {
      {"a", "b-1", "1-a-b-1"},
      {"a-b", "1", "1-a_b.e61ab31904644883-1"},
      {"a b", "1", "1-a_b.e63f991904833892-1"},
      {"J\xc3\xbcrgen", "1", "1-J__rgen.3412c31bef48d94a-1"},
      {"12", "1", "1-12.07f89407b4ba0c0a-1"},
      {"abcdefghijklmnopqrstuvwxyz012345", "1", "1-abcdefghijklmnopqrstuvwxyz012345-1"},
      {"abcdefghijklmnopqrstuvwxyz0123456", "1", "1-abcdefghijklmno.a1d47233d209bd89-1"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char slug[16];
    snprintf(slug, sizeof slug, "ids%zu", i);
    expect_id(rig, slug, rows[i].participant, rows[i].provider, rows[i].id);
  }
}

static void test_is_as_well_as_its_best(void **state)
{
  struct rig *rig = *state;
  rig_state(rig, both.ada, VC_STATE_STT_DOWN, "unreachable"); // Bob is live
  rig_state(rig, both.bob, VC_STATE_RECONNECTING, "");
  rig_state(rig, both.bob, VC_STATE_STT_DOWN, "refused"); // the one who came first is shown
  rig_state(rig, both.bob, VC_STATE_LIVE, "");
  rig_close(rig, &both.bob, VC_CLOSE_PUBLISHER_LEFT);
  both.bob = rig_open_of(rig, "demo", "Bob");
  rig_expect(rig, 0, "live hello e0#0 live", "live status e0#1 reconnecting",
             "live status e0#2 stt_down unreachable", "live status e0#3 live",
             "live status e0#4 stt_down unreachable", "live status e0#5 live", NULL);
}

static void test_replaces_one_whose_close_was_lost(void **state)
{
  struct rig *rig = *state;
  rig_partial(rig, both.ada, "a", "on");
  struct vc_session *again = rig_open_of(rig, "demo", "Ada");
  rig_final(rig, both.ada, "a", "One.");
  rig_final(rig, again, "a", "Two.");
  rig_expect(rig, 0, "live hello e0#0 live", "live partial e0#1 1-Ada-a on",
             "live retract e0#2 1-Ada-a", "live final e0#3 2-Ada-a Two.", NULL);
  assert_int_equal(rig_count(rig, "ledger.stray_results_total"), 2);
  vc_session_unref(again);
}

static void test_ends_all_at_shutdown(void **state)
{
  struct rig *rig = *state;
  rig_partial(rig, both.ada, "a", "on");
  assert_int_equal(vc_stage_stop(rig->ledger, 1000), 0);
  rig_expect(rig, 0, "live hello e0#0 live", "live partial e0#1 1-Ada-a on",
             "live retract e0#2 1-Ada-a", "live end e0#3  shutdown", NULL);
  rig_expect_records(rig, "started demo e0", "ended demo e0", NULL);
}

static void test_is_not_erased_while_one_is_on(void **state)
{
  struct rig *rig = *state;
  struct vc_session *ada = rig_open_of(rig, "demo", "Ada");
  struct vc_session *bob = rig_open_of(rig, "demo", "Bob");
  rig_close(rig, &ada, VC_CLOSE_PUBLISHER_LEFT);
  struct vc_query *query = rig_ask(rig, VC_QUERY_ERASE, "demo");
  assert_int_equal(vc_query_status(query), 409);
  vc_query_unref(query);
  query = rig_ask(rig, VC_QUERY_BEGAN, "demo");
  assert_int_equal(vc_query_status(query), 200);
  assert_memory_equal(vc_query_reply(query)->data, "[1790000000000]", 15);
  vc_query_unref(query);
  vc_session_unref(bob);
}

// Counts what an answer brings of open utterances.
static size_t take_answer(struct rig *rig, struct vc_position *position, int *is_last)
{
  struct vc_item *item = hand_take(rig->broadcast, 0);
  while (item != NULL && item->kind == VC_ITEM_LIVE) {
    vc_item_destroy(item);
    item = hand_take(rig->broadcast, 0);
  }
  if (item == NULL) {
    fail_msg("no answer came");
    return 0;
  }
  const struct vc_answer *answer = (const struct vc_answer *)item;
  size_t n = 0;
  for (size_t i = 0; i < answer->n_messages; i++) {
    const struct vc_message *message = answer->messages[i];
    if (message->kind == VC_MESSAGE_PARTIAL) {
      assert_true(message->seq > position->seq);
      position->seq = message->seq;
      n++;
    }
    position->epoch = message->epoch;
  }
  *is_last = answer->is_last;
  vc_item_destroy(item);
  return n;
}

// More than one answer holds: a newcomer is given them all, in order.
static void test_shows_all_who_speak_at_once(void **state)
{
  struct rig *rig = *state;
  struct vc_session *speakers[VC_PARTICIPANTS_MAX];
  char text[32];
  struct vc_position position = {0};
  for (size_t i = 0; i < VC_PARTICIPANTS_MAX; i++) {
    snprintf(text, sizeof text, "P%zu", i);
    speakers[i] = rig_open_of(rig, "demo", text);
    rig_partial(rig, speakers[i], "a", "so");
    rig_partial(rig, speakers[i], "b", "well");
  }
  // With a position behind them all, so that none is only further on.
  uint64_t viewer = rig_join_since(rig, "demo", 0, RIG_UNIX_MS, (uint64_t)2 * VC_PARTICIPANTS_MAX);
  int is_last = 0;
  size_t n = take_answer(rig, &position, &is_last);
  while (!is_last) {
    rig_catch_up(rig, "demo", viewer, position.epoch, position.seq);
    n += take_answer(rig, &position, &is_last);
  }
  assert_int_equal(n, 2 * VC_PARTICIPANTS_MAX);
  for (size_t i = 0; i < VC_PARTICIPANTS_MAX; i++) {
    vc_session_unref(speakers[i]);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_OF_BOTH(name) cmocka_unit_test_setup_teardown(name, set_up_both, tear_down_both)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST_OF_BOTH(test_is_one_session_until_the_last_leaves),
      TEST(test_mixes_with_one_of_nobody),
      TEST(test_names_the_speaker),
      TEST(test_counts_from_the_first_sound_of_any),
      TEST_OF_BOTH(test_counts_from_the_earlier_of_two),
      TEST(test_keeps_the_clock_of_one_that_left),
      TEST(test_begins_its_clock_anew_with_an_epoch),
      TEST_OF_BOTH(test_gives_no_id_twice),
      TEST(test_tells_odd_participants_apart),
      TEST_OF_BOTH(test_is_as_well_as_its_best),
      TEST_OF_BOTH(test_replaces_one_whose_close_was_lost),
      TEST_OF_BOTH(test_ends_all_at_shutdown),
      TEST(test_is_not_erased_while_one_is_on),
      TEST(test_shows_all_who_speak_at_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
