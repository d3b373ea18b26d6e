// What is held how long, and what gives way when there is too much.
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define E0 RIG_UNIX_MS

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

static void publish(struct rig *rig, const char *slug, const char *text)
{
  struct vc_session *session = rig_open(rig, slug);
  rig_final(rig, session, "a", text);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

static void test_an_idle_session_goes_with_its_last_viewer(void **state)
{
  struct rig *rig = *state;
  uint64_t first = rig_join(rig, "demo");
  uint64_t second = rig_join_since(rig, "demo", 1, 0, 0);
  rig_leave(rig, "demo", 0, first);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 1);
  rig_leave(rig, "demo", 1, second);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 0);
}

static void test_an_ended_session_is_held_for_a_while(void **state)
{
  struct rig *rig = *state;
  publish(rig, "demo", "One.");
  rig_pass_ms(rig, 599999);
  rig_join_since(rig, "demo", 0, E0, 0);
  rig_expect(rig, 0, "answer 1 last e0#3", "- hello e0#2 ended publisher_left",
             "- final e0#1 1-0-a One.", "- end e0#2  publisher_left", NULL);
  rig_leave(rig, "demo", 0, 1);
  rig_pass_ms(rig, 1000);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 0);
  assert_int_equal(rig_count(rig, "ledger.history_bytes"), 0);
  rig_join_since(rig, "demo", 0, E0, 0);
  rig_expect(rig, 0, "answer 2 last e-#1", "- hello e-#0 idle", "- gap e0 1-0", NULL);
}

static void test_its_viewers_hold_it_longer(void **state)
{
  struct rig *rig = *state;
  uint64_t viewer = rig_join(rig, "demo");
  publish(rig, "demo", "One.");
  rig_pass_ms(rig, 700000);
  rig_skip(rig, 0);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 1);
  assert_int_equal(rig_count(rig, "ledger.history_bytes"), 0);
  rig_join_since(rig, "demo", 0, E0, 0);
  rig_expect(rig, 0, "answer 2 last e0#3", "- hello e0#2 ended publisher_left", "- gap e0 1-2",
             NULL);
  rig_leave(rig, "demo", 0, viewer);
  rig_leave(rig, "demo", 0, 2);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 0);
}

static void test_it_begins_anew_after_its_time(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  publish(rig, "demo", "One.");
  rig_pass_ms(rig, 700000);
  rig_skip(rig, 0);
  struct vc_session *session = rig_open(rig, "demo");
  rig_pass_ms(rig, 700000);
  rig_final(rig, session, "a", "Two.");
  rig_expect(rig, 0, "live hello e700000#0 live", "live final e700000#1 1-0-a Two.", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_leave(rig, "demo", 0, 1);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 1);
}

static void test_epochs_of_a_forgotten_session_are_not_used_again(void **state)
{
  struct rig *rig = *state;
  publish(rig, "demo", "One.");
  rig_pass_ms(rig, 700000);
  rig->unix_us = RIG_UNIX_MS * 1000;
  rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  rig_expect(rig, 0, "answer 1 last e-#1", "- hello e-#0 idle", "live hello e1#0 live", NULL);
  vc_session_unref(session);
}

static void test_a_slug_has_64_epochs(void **state)
{
  struct rig *rig = *state;
  for (int i = 0; i < 65; i++) {
    publish(rig, "demo", "x");
    rig_pass_ms(rig, 1);
  }
  rig_join_since(rig, "demo", 0, E0, 2);
  rig_expect(rig, 0, "answer 1 last e64#3", "- hello e64#2 ended publisher_left", "- gap e0 3-0",
             "- final e64#1 1-0-a x", NULL);
  assert_int_equal(rig_count(rig, "ledger.history_finals"), 64);
}

static void few_sessions(struct rig *rig)
{
  rig->options.max_sessions = 2;
}

static void test_viewers_of_too_many_sessions_are_refused(void **state)
{
  (void)state;
  struct rig *rig = rig_create(few_sessions);
  rig_join(rig, "one");
  rig_join(rig, "two");
  rig_skip(rig, 0);
  rig_join(rig, "three");
  rig_join(rig, "two");
  rig_expect(rig, 0, "answer 3 refused", "answer 4 last e-#1", "- hello e-#0 idle", NULL);
  rig_leave(rig, "one", 0, 1);
  rig_join(rig, "three");
  rig_expect(rig, 0, "answer 5 last e-#1", "- hello e-#0 idle", NULL);
  assert_int_equal(rig_count(rig, "ledger.joins_refused_total"), 1);
  rig_destroy(rig);
}

static void test_a_publisher_is_not_refused(void **state)
{
  (void)state;
  struct rig *rig = rig_create(few_sessions);
  publish(rig, "old", "x");
  publish(rig, "watched", "x");
  rig_join(rig, "old"); // it is held by its viewer
  struct vc_session *third = rig_open(rig, "third");
  assert_int_equal(rig_count(rig, "ledger.sessions"), 2);
  struct vc_session *fourth = rig_open(rig, "fourth");
  assert_int_equal(rig_count(rig, "ledger.sessions"), 3);
  rig_skip(rig, 0);
  rig_join_since(rig, "old", 0, E0, 0);
  rig_expect(rig, 0, "answer 2 last e0#3", "- hello e0#2 ended publisher_left",
             "- final e0#1 1-0-a x", "- end e0#2  publisher_left", NULL);
  vc_session_unref(third);
  vc_session_unref(fourth);
  rig_destroy(rig);
}

static void little_memory(struct rig *rig)
{
  rig->options.history_max_bytes = 41000;
}

static void test_ended_sessions_give_way_first(void **state)
{
  (void)state;
  struct rig *rig = rig_create(little_memory);
  char *text = calloc(1, 6001);
  assert_non_null(text);
  memset(text, 'x', 6000); // about 12 KB a final, with its record
  struct vc_session *live = rig_open(rig, "live");
  rig_final(rig, live, "a", text);
  publish(rig, "first", text);
  publish(rig, "second", text);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 3);
  rig_final(rig, live, "b", text);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 2);
  rig_final(rig, live, "c", text);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 1);
  assert_int_equal(rig_count(rig, "ledger.history_finals"), 3);
  rig_final(rig, live, "d", text); // now its own oldest
  assert_int_equal(rig_count(rig, "ledger.history_finals"), 3);
  assert_true(rig_count(rig, "ledger.history_bytes") <= 41000);
  rig_join_since(rig, "live", 0, E0, 0);
  struct vc_answer *answer = (struct vc_answer *)hand_take(rig->broadcast, 0);
  char line[256];
  rig_describe(answer->messages[1], line);
  assert_string_equal(line, "gap e0 1-1");
  vc_item_destroy(&answer->item);
  vc_session_unref(live);
  free(text);
  rig_destroy(rig);
}

static void drain_with_history_of(const char *text, uint64_t n_bytes)
{
  struct rig *rig = rig_create(little_memory);
  struct vc_session *live = rig_open(rig, "live");
  publish(rig, "first", text);
  publish(rig, "second", text);
  for (int i = 0; rig_count(rig, "ledger.history_bytes") < n_bytes; i++) {
    rig_state(rig, live, i % 2 == 0 ? VC_STATE_RECONNECTING : VC_STATE_LIVE, "");
  }
  assert_int_equal(vc_stage_stop(rig->ledger, 1000), 0);
  vc_session_unref(live);
  rig_destroy(rig);
}

// An end that is said during a drain may make ended sessions give way, also the next in the table.
static void test_a_drain_may_make_others_give_way(void **state)
{
  (void)state;
  char *text = calloc(1, 6001);
  assert_non_null(text);
  memset(text, 'x', 6000);
  for (uint64_t n_bytes = 38000; n_bytes < 39900; n_bytes += 100) {
    drain_with_history_of(text, n_bytes);
  }
  free(text);
}

static void test_the_largest_live_session_gives_way(void **state)
{
  (void)state;
  struct rig *rig = rig_create(little_memory);
  char *text = calloc(1, 6001);
  assert_non_null(text);
  memset(text, 'x', 6000);
  struct vc_session *small = rig_open(rig, "small");
  struct vc_session *large = rig_open(rig, "large");
  rig_final(rig, small, "a", text);
  rig_final(rig, large, "a", text);
  rig_final(rig, large, "b", text);
  rig_final(rig, small, "b", text + 3000);
  rig_join_since(rig, "small", 0, E0, 0);
  struct vc_answer *answer = (struct vc_answer *)hand_take(rig->broadcast, 0);
  assert_int_equal(answer->n_messages, 3);
  assert_int_equal(answer->messages[1]->kind, VC_MESSAGE_FINAL);
  vc_item_destroy(&answer->item);
  rig_join_since(rig, "large", 0, E0, 0);
  answer = (struct vc_answer *)hand_take(rig->broadcast, 0);
  assert_int_equal(answer->n_messages, 3);
  assert_int_equal(answer->messages[1]->kind, VC_MESSAGE_GAP);
  vc_item_destroy(&answer->item);
  vc_session_unref(small);
  vc_session_unref(large);
  free(text);
  rig_destroy(rig);
}

static void few_finals(struct rig *rig)
{
  rig->options.history_finals = 4;
}

static void test_statuses_are_bounded_too(void **state)
{
  (void)state;
  struct rig *rig = rig_create(few_finals);
  struct vc_session *session = rig_open(rig, "demo");
  for (int i = 0; i < 1000; i++) {
    rig_state(rig, session, i % 2 == 0 ? VC_STATE_RECONNECTING : VC_STATE_LIVE, "");
  }
  assert_true(rig_count(rig, "ledger.history_bytes") < 50000);
  vc_session_unref(session);
  rig_destroy(rig);
}

// --- the journal

static void test_records_wait_for_the_journal(void **state)
{
  struct rig *rig = *state;
  hand_set_capacity(rig->journal, 0, 1);
  publish(rig, "demo", "One.");
  rig_expect_records(rig, "started demo e0", NULL);
  rig_turn(rig);
  rig_expect_records(rig, "final demo e0#1", NULL);
  assert_true(rig_count(rig, "journal.backlog_bytes") > 0);
  publish(rig, "next", "Two.");
  hand_set_capacity(rig->journal, 0, HAND_UNBOUNDED);
  rig_turn(rig);
  rig_expect_records(rig, "ended demo e0", "started next e0", "final next e0#1", "ended next e0",
                     NULL);
  assert_int_equal(rig_count(rig, "journal.backlog_bytes"), 0);
  assert_int_equal(rig_count(rig, "journal.lost_total"), 0);
}

static void test_the_oldest_loses_its_durability(void **state)
{
  struct rig *rig = *state;
  struct vc_condition conditions[VC_HEALTH_MAX];
  size_t size = 1024 * 1024;
  char *text = calloc(1, size + 1);
  assert_non_null(text);
  memset(text, 'x', size);
  vc_health_set(rig->health, "journal", "the journal's own trouble");
  hand_set_capacity(rig->journal, 0, 0);
  struct vc_session *session = rig_open(rig, "demo");
  for (int i = 0; i < 65; i++) {
    char id[16];
    snprintf(id, sizeof id, "%d", i);
    rig_final(rig, session, id, text);
  }
  assert_int_equal(rig_count(rig, "journal.lost_total"), 3); // the start and two finals
  assert_true(rig_count(rig, "journal.backlog_bytes") <= 64 * 1024 * 1024);
  assert_int_equal(vc_health_list(rig->health, conditions), 2);
  assert_string_equal(conditions[1].what, "journal_backlog");
  hand_set_capacity(rig->journal, 0, HAND_UNBOUNDED);
  rig_turn(rig);
  const struct vc_record *record = (const struct vc_record *)hand_take(rig->journal, 0);
  assert_int_equal(record->kind, VC_RECORD_FINAL);
  assert_int_equal(record->seq, 3);
  vc_record_destroy(&(struct vc_record *){(struct vc_record *)record});
  assert_int_equal(hand_count(rig->journal, 0), 62);
  assert_int_equal(vc_health_list(rig->health, conditions), 1);
  assert_string_equal(conditions[0].reason, "the journal's own trouble");
  vc_session_unref(session);
  free(text);
}

static void test_a_drain_that_fails_loses_what_waits(void **state)
{
  (void)state;
  struct rig *rig = rig_create(NULL);
  struct vc_session *session = rig_open(rig, "demo");
  hand_set_capacity(rig->journal, 0, 0);
  rig_final(rig, session, "a", "One.");
  assert_int_equal(vc_stage_stop(rig->ledger, 10), 1);
  assert_int_equal(rig_count(rig, "journal.lost_total"), 2); // the final and the end
  vc_session_unref(session);
  rig_destroy(rig);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      CASE(test_an_idle_session_goes_with_its_last_viewer),
      CASE(test_an_ended_session_is_held_for_a_while),
      CASE(test_its_viewers_hold_it_longer),
      CASE(test_it_begins_anew_after_its_time),
      CASE(test_epochs_of_a_forgotten_session_are_not_used_again),
      CASE(test_a_slug_has_64_epochs),
      cmocka_unit_test(test_viewers_of_too_many_sessions_are_refused),
      cmocka_unit_test(test_a_publisher_is_not_refused),
      cmocka_unit_test(test_ended_sessions_give_way_first),
      cmocka_unit_test(test_a_drain_may_make_others_give_way),
      cmocka_unit_test(test_the_largest_live_session_gives_way),
      cmocka_unit_test(test_statuses_are_bounded_too),
      CASE(test_records_wait_for_the_journal),
      CASE(test_the_oldest_loses_its_durability),
      cmocka_unit_test(test_a_drain_that_fails_loses_what_waits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
