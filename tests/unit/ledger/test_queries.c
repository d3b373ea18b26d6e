// What HTTP asks.
#include "rig.h"

#include <string.h>

#include <verbacast/wire/json.h>
#include <verbacast/wire/record.h>

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

static json_t *reply_of(struct vc_query *query)
{
  const struct vc_buffer *reply = vc_query_reply(query);
  assert_non_null(reply);
  json_t *root = vc_json_parse((const char *)reply->data, reply->size, NULL);
  assert_non_null(root);
  return root;
}

static int status_of(struct rig *rig, enum vc_query_kind kind, const char *slug)
{
  struct vc_query *query = rig_ask(rig, kind, slug);
  int status = vc_query_status(query);
  vc_query_unref(query);
  return status;
}

static const json_t *find(const json_t *list, const char *slug)
{
  for (size_t i = 0; i < json_array_size(list); i++) {
    if (strcmp(vc_json_string(json_array_get(list, i), "slug", ""), slug) == 0) {
      return json_array_get(list, i);
    }
  }
  fail_msg("no %s", slug);
  return NULL;
}

static void test_lists_its_sessions(void **state)
{
  struct rig *rig = *state;
  struct vc_session *live = rig_open(rig, "live");
  struct vc_session *ended = rig_open(rig, "ended");
  rig_close(rig, &ended, VC_CLOSE_KICKED);
  rig_join(rig, "live");
  rig_join_since(rig, "live", 1, 0, 0);
  rig_join(rig, "idle");
  struct vc_query *query = rig_ask(rig, VC_QUERY_SESSIONS, NULL);
  assert_int_equal(vc_query_status(query), 200);
  json_t *list = reply_of(query);
  assert_int_equal(json_array_size(list), 3);
  const json_t *row = find(list, "live");
  assert_string_equal(vc_json_string(row, "state", ""), "live");
  assert_int_equal(vc_json_integer(row, "epoch", 0), RIG_UNIX_MS);
  assert_int_equal(vc_json_integer(row, "viewers", 0), 2);
  assert_true(vc_json_real(row, "startedAt", 0) == (double)RIG_UNIX_MS / 1000);
  assert_string_equal(vc_json_string(find(list, "ended"), "state", ""), "ended");
  row = find(list, "idle");
  assert_string_equal(vc_json_string(row, "state", ""), "idle");
  assert_int_equal(vc_json_integer(row, "epoch", -1), 0);
  json_decref(list);
  vc_query_unref(query);
  vc_session_unref(live);
}

static void expect_started(struct rig *rig, int64_t started_ms)
{
  struct vc_query *query = rig_ask(rig, VC_QUERY_SESSIONS, NULL);
  json_t *list = reply_of(query);
  assert_true(vc_json_real(find(list, "demo"), "startedAt", 0) == (double)started_ms / 1000);
  json_decref(list);
  vc_query_unref(query);
}

// As its node says, or as its epoch's number does.
static void test_tells_when_another_nodes_session_began(void **state)
{
  struct rig *rig = rig_create(rig_with_fleet);
  for (int is_told = 0; is_told < 2; is_told++) {
    int64_t epoch = RIG_UNIX_MS + is_told;
    rig->remote_started_ms = is_told ? RIG_UNIX_MS - 2500 : 0;
    rig_join(rig, "demo");
    rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", epoch, 0, NULL, "live");
    rig_remote(rig, VC_REMOTE_FILLED, "demo", epoch, 0);
    expect_started(rig, is_told ? RIG_UNIX_MS - 2500 : epoch);
  }
  rig_remote_gap(rig, "demo", RIG_UNIX_MS + 2, 0, 299); // what it began with was trimmed
  expect_started(rig, RIG_UNIX_MS + 2);
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", RIG_UNIX_MS + 2, 300, "1-0-a", "One.");
  expect_started(rig, RIG_UNIX_MS - 2500);
  rig->remote_started_ms = RIG_UNIX_MS + 2; // who speaks for it has only guessed
  rig_remote_say(rig, VC_MESSAGE_STATUS, "demo", RIG_UNIX_MS + 2, 301, NULL, "reconnecting");
  expect_started(rig, RIG_UNIX_MS - 2500);
  rig_destroy(rig);
}

// `began_ms`: -1 where the slug is not held.
static void expect_began(struct rig *rig, int64_t began_ms)
{
  struct vc_query *query = rig_ask(rig, VC_QUERY_BEGAN, "demo");
  assert_int_equal(vc_query_status(query), began_ms >= 0 ? 200 : 404);
  if (began_ms >= 0) {
    json_t *list = reply_of(query);
    assert_int_equal(json_integer_value(json_array_get(list, 0)), began_ms);
    json_decref(list);
  }
  vc_query_unref(query);
}

static void test_knows_when_a_session_that_is_on_began(void **state)
{
  struct rig *rig = *state;
  expect_began(rig, -1);
  rig_join(rig, "demo");
  expect_began(rig, 0);
  struct vc_session *session = rig_open(rig, "demo");
  expect_began(rig, RIG_UNIX_MS);
  rig_state(rig, session, VC_STATE_RECONNECTING, "");
  expect_began(rig, RIG_UNIX_MS);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  expect_began(rig, 0);
}

static void test_lists_nothing(void **state)
{
  struct vc_query *query = rig_ask(*state, VC_QUERY_SESSIONS, NULL);
  json_t *list = reply_of(query);
  assert_int_equal(json_array_size(list), 0);
  json_decref(list);
  vc_query_unref(query);
}

static void test_gives_the_records_of_all_epochs(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_state(rig, session, VC_STATE_RECONNECTING, "");
  rig_final(rig, session, "b", "Two.");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "Three.");
  struct vc_query *query = rig_ask(rig, VC_QUERY_TRANSCRIPT, "demo");
  assert_int_equal(vc_query_status(query), 200);
  assert_true(vc_query_is_complete(query));
  json_t *list = reply_of(query);
  const char *texts[] = {"One.", "Two.", "Three."};
  assert_int_equal(json_array_size(list), 3);
  for (size_t i = 0; i < 3; i++) {
    const json_t *row = json_array_get(list, i);
    assert_string_equal(vc_json_string(row, "text", ""), texts[i]);
    assert_string_equal(vc_json_string(row, "type", ""), "transcript");
    assert_string_equal(vc_json_string(row, "node", ""), "a1");
    assert_int_equal(vc_json_integer(row, "epoch", 0), RIG_UNIX_MS + (i == 2));
    assert_int_equal(vc_json_integer(row, "seq", 0), i == 2 ? 1 : 2 * i + 1);
  }
  json_decref(list);
  vc_query_unref(query);
  vc_session_unref(session);
}

static void test_keeps_what_the_transcript_says(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_pass_ms(rig, 2500);
  rig_hear(rig, session, 3,
           &(struct vc_utterance){
               .id = "7",
               .text = "Good \"morning\".",
               .language = "en",
               .speaker = "2",
               .start_s = 1,
               .end_s = 2,
               .confidence = 0.5,
               .channel = 1,
               .is_final = 1,
               .words = (const struct vc_word[]){{.text = "Good", .start_s = 1, .end_s = 1.5}},
               .n_words = 1});
  vc_item_destroy(hand_take(rig->journal, 0)); // the session's start
  struct vc_record *record = (struct vc_record *)hand_take(rig->journal, 0);
  struct vc_record_parsed parsed;
  const char *why = "";
  assert_int_equal(
      vc_record_parse((const char *)record->value->data, record->value->size, &parsed, &why), 0);
  assert_string_equal(parsed.fields.session, "demo");
  assert_string_equal(parsed.fields.utterance_id, "3-1-7");
  assert_string_equal(parsed.fields.text, "Good \"morning\".");
  assert_string_equal(parsed.fields.speaker, "2");
  assert_int_equal(parsed.fields.epoch, RIG_UNIX_MS);
  assert_int_equal(parsed.fields.seq, 1);
  assert_int_equal(parsed.fields.started_at_ms, RIG_UNIX_MS);
  assert_int_equal(parsed.fields.received_at_us, (RIG_UNIX_MS + 2500) * 1000);
  assert_int_equal(json_array_size(parsed.fields.words), 1);
  vc_record_parsed_fini(&parsed);
  vc_record_destroy(&record);
  vc_session_unref(session);
}

static void few_finals(struct rig *rig)
{
  rig->options.history_finals = 1;
}

static void test_says_when_it_has_not_all(void **state)
{
  (void)state;
  struct rig *rig = rig_create(few_finals);
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_final(rig, session, "b", "Two.");
  struct vc_query *query = rig_ask(rig, VC_QUERY_TRANSCRIPT, "demo");
  assert_false(vc_query_is_complete(query));
  json_t *list = reply_of(query);
  assert_int_equal(json_array_size(list), 1);
  json_decref(list);
  vc_query_unref(query);
  vc_session_unref(session);
  rig_destroy(rig);
}

static void test_knows_what_it_does_not_know(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "idle");
  assert_int_equal(status_of(rig, VC_QUERY_TRANSCRIPT, "unknown"), 404);
  assert_int_equal(status_of(rig, VC_QUERY_TRANSCRIPT, "idle"), 404);
  assert_int_equal(status_of(rig, VC_QUERY_ERASE, "unknown"), 404);
  assert_int_equal(status_of(rig, VC_QUERY_KICK_VIEWERS, "idle"), 501);
}

static void test_forgets_what_is_erased(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  assert_int_equal(status_of(rig, VC_QUERY_ERASE, "demo"), 409);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_skip(rig, 0);
  assert_int_equal(status_of(rig, VC_QUERY_ERASE, "demo"), 200);
  assert_int_equal(rig_count(rig, "ledger.history_bytes"), 0);
  assert_int_equal(status_of(rig, VC_QUERY_TRANSCRIPT, "demo"), 404);
  rig_join_since(rig, "demo", 0, RIG_UNIX_MS, 1);
  session = rig_open(rig, "demo"); // in the same millisecond: a larger epoch all the same
  rig_expect(rig, 0, "answer 2 last e-#1", "- hello e-#0 idle", "- gap e0 2-0",
             "live hello e1#0 live", NULL);
  vc_session_unref(session);
}

// The number of an erasure goes into tombstones: all that there is lies at it or below, all that
// begins lies above, also of what the ledger never held and where the clock lies behind.
static void test_an_erasure_ends_before_what_begins(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "other");
  rig_expect_records(rig, "started other e0", NULL);
  struct vc_query *query = rig_ask(rig, VC_QUERY_ERASE, "demo");
  assert_int_equal(vc_query_status(query), 404);
  assert_int_equal(vc_query_number(query), RIG_UNIX_MS);
  vc_query_unref(query);
  struct vc_session *erased = rig_open(rig, "demo");
  rig_expect_records(rig, "started demo e1", NULL);
  vc_session_unref(erased);
  vc_session_unref(session);
}

static void test_erases_what_nobody_watches(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  assert_int_equal(status_of(rig, VC_QUERY_ERASE, "demo"), 200);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 0);
}

static void test_erases_records_that_wait(void **state)
{
  struct rig *rig = *state;
  struct vc_session *other = rig_open(rig, "other");
  rig_expect_records(rig, "started other e0", NULL);
  hand_set_capacity(rig->journal, 0, 0);
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_final(rig, other, "a", "Other.");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  assert_int_equal(status_of(rig, VC_QUERY_ERASE, "demo"), 200);
  hand_set_capacity(rig->journal, 0, HAND_UNBOUNDED);
  rig_turn(rig);
  rig_expect_records(rig, "final other e0#1", NULL);
  vc_session_unref(other);
}

static void test_erasing_forgets_who_is_behind(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  hand_set_capacity(rig->broadcast, 0, 0);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  assert_int_equal(status_of(rig, VC_QUERY_ERASE, "demo"), 200);
  hand_set_capacity(rig->broadcast, 0, HAND_UNBOUNDED);
  rig_turn(rig);
  rig_expect(rig, 0, NULL);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      CASE(test_lists_its_sessions),
      cmocka_unit_test(test_tells_when_another_nodes_session_began),
      CASE(test_knows_when_a_session_that_is_on_began),
      CASE(test_lists_nothing),
      CASE(test_gives_the_records_of_all_epochs),
      CASE(test_keeps_what_the_transcript_says),
      cmocka_unit_test(test_says_when_it_has_not_all),
      CASE(test_knows_what_it_does_not_know),
      CASE(test_forgets_what_is_erased),
      CASE(test_an_erasure_ends_before_what_begins),
      CASE(test_erases_what_nobody_watches),
      CASE(test_erases_records_that_wait),
      CASE(test_erasing_forgets_who_is_behind),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
