// Those who come late, come back, catch up, and go.
#include "rig.h"

#include <stdio.h>
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

static void say_finals(struct rig *rig, struct vc_session *session, int from, int to)
{
  char id[16];
  for (int i = from; i <= to; i++) {
    snprintf(id, sizeof id, "%d", i);
    rig_final(rig, session, id, "x");
  }
}

static void test_a_newcomer_gets_finals_then_what_is_open(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_partial(rig, session, "b", "tw");
  rig_partial(rig, session, "b", "two");
  rig_state(rig, session, VC_STATE_RECONNECTING, "");
  rig_join(rig, "demo");
  rig_expect(rig, 0, "answer 1 last e0#5", "- hello e0#4 reconnecting", "- final e0#1 1-0-a One.",
             "- partial e0#3 1-0-b two", NULL);
  vc_session_unref(session);
}

static void few_on_join(struct rig *rig)
{
  rig->options.history_on_join = 2;
}

static void test_a_newcomer_gets_the_last_finals_only(void **state)
{
  (void)state;
  struct rig *rig = rig_create(few_on_join);
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "A");
  rig_state(rig, session, VC_STATE_STT_DOWN, "x");
  rig_final(rig, session, "b", "B");
  rig_state(rig, session, VC_STATE_LIVE, "");
  rig_final(rig, session, "c", "C");
  rig_join(rig, "demo");
  rig_expect(rig, 0, "answer 1 last e0#6", "- hello e0#5 live", "- final e0#3 1-0-b B",
             "- final e0#5 1-0-c C", NULL);
  vc_session_unref(session);
  rig_destroy(rig);
}

static void none_on_join(struct rig *rig)
{
  rig->options.history_on_join = 0;
}

static void test_a_newcomer_may_get_no_finals_at_all(void **state)
{
  (void)state;
  struct rig *rig = rig_create(none_on_join);
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "A");
  rig_partial(rig, session, "b", "b");
  rig_join(rig, "demo");
  rig_expect(rig, 0, "answer 1 last e0#3", "- hello e0#2 live", "- partial e0#2 1-0-b b", NULL);
  vc_session_unref(session);
  rig_destroy(rig);
}

static void test_what_a_final_overtook_is_said_again(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_join(rig, "demo");
  rig_skip(rig, 0);
  rig_partial(rig, session, "a", "on");
  rig_partial(rig, session, "b", "tw");
  rig_final(rig, session, "a", "One.");
  rig_skip(rig, 0);
  rig_join(rig, "demo");
  rig_join(rig, "demo");
  rig_expect(rig, 0, "live partial e0#4 1-0-b tw", "answer 2 last e0#5", "- hello e0#4 live",
             "- final e0#3 1-0-a One.", "- partial e0#4 1-0-b tw", "answer 3 last e0#5",
             "- hello e0#4 live", "- final e0#3 1-0-a One.", "- partial e0#4 1-0-b tw", NULL);
  vc_session_unref(session);
}

static void test_who_comes_back_gets_what_is_later(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_partial(rig, session, "b", "two");
  rig_state(rig, session, VC_STATE_RECONNECTING, "");
  rig_retract(rig, session, "b");
  rig_partial(rig, session, "c", "three");
  rig_join_since(rig, "demo", 0, E0, 1);
  rig_expect(rig, 0, "answer 1 last e0#6", "- hello e0#5 reconnecting",
             "- status e0#3 reconnecting", "- retract e0#4 1-0-b", "- partial e0#5 1-0-c three",
             NULL);
  rig_join_since(rig, "demo", 0, E0, 5);
  rig_expect(rig, 0, "answer 2 last e0#6", "- hello e0#5 reconnecting",
             "- partial e0#5 1-0-c three", NULL);
  rig_join_since(rig, "demo", 0, E0, 0);
  rig_expect(rig, 0, "answer 3 last e0#6", "- hello e0#5 reconnecting", "- final e0#1 1-0-a One.",
             "- status e0#3 reconnecting", "- retract e0#4 1-0-b", "- partial e0#5 1-0-c three",
             NULL);
  vc_session_unref(session);
}

static void test_an_older_epoch_is_read_on_into_the_newer(void **state)
{
  struct rig *rig = *state;
  for (int i = 0; i < 3; i++) {
    struct vc_session *session = rig_open(rig, "demo");
    say_finals(rig, session, 1, 2);
    if (i < 2) {
      rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
    } else {
      vc_session_unref(session);
    }
    rig_pass_ms(rig, 1000);
  }
  rig_join_since(rig, "demo", 0, E0, 1);
  rig_expect(rig, 0, "answer 1 last e2000#3", "- hello e2000#2 live", "- final e0#2 1-0-2 x",
             "- end e0#3  publisher_left", "- hello e1000#3 ended publisher_left",
             "- final e1000#1 1-0-1 x", "- final e1000#2 1-0-2 x", "- end e1000#3  publisher_left",
             "- hello e2000#2 live", "- final e2000#1 1-0-1 x", "- final e2000#2 1-0-2 x", NULL);
  rig_join_since(rig, "demo", 0, E0 + 1000, 3);
  rig_expect(rig, 0, "answer 2 last e2000#3", "- hello e2000#2 live", "- final e2000#1 1-0-1 x",
             "- final e2000#2 1-0-2 x", NULL);
  rig_join(rig, "demo");
  rig_expect(rig, 0, "answer 3 last e2000#3", "- hello e2000#2 live", "- final e2000#1 1-0-1 x",
             "- final e2000#2 1-0-2 x", NULL);
}

static void test_a_position_nobody_holds_is_a_gap(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_join_since(rig, "demo", 0, E0 - 5, 7);
  rig_join_since(rig, "demo", 0, E0, 9);
  rig_join_since(rig, "nobody", 0, E0, 9);
  rig_expect(rig, 0, "answer 1 last e0#2", "- hello e0#1 live", "- gap e-5 8-0",
             "- final e0#1 1-0-a One.", "answer 2 last e0#2", "- hello e0#1 live", "- gap e0 10-0",
             "- final e0#1 1-0-a One.", "answer 3 last e-#1", "- hello e-#0 idle", "- gap e0 10-0",
             NULL);
  assert_int_equal(rig_count(rig, "ledger.gaps_total"), 3);
  vc_session_unref(session);
}

static void test_an_ended_session_can_be_read(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_close(rig, &session, VC_CLOSE_KICKED);
  rig_join(rig, "demo");
  rig_join_since(rig, "demo", 0, E0, 2);
  rig_expect(rig, 0, "answer 1 last e0#3", "- hello e0#2 ended kicked", "- final e0#1 1-0-a One.",
             "answer 2 last e0#3", "- hello e0#2 ended kicked", NULL);
}

static void few_finals(struct rig *rig)
{
  rig->options.history_finals = 3;
}

static void test_what_history_let_go_is_a_gap(void **state)
{
  (void)state;
  struct rig *rig = rig_create(few_finals);
  struct vc_session *session = rig_open(rig, "demo");
  say_finals(rig, session, 1, 5);
  rig_join_since(rig, "demo", 0, E0, 1);
  rig_join_since(rig, "demo", 0, E0, 2);
  rig_join(rig, "demo");
  rig_expect(rig, 0, "answer 1 last e0#6", "- hello e0#5 live", "- gap e0 2-2",
             "- final e0#3 1-0-3 x", "- final e0#4 1-0-4 x", "- final e0#5 1-0-5 x",
             "answer 2 last e0#6", "- hello e0#5 live", "- final e0#3 1-0-3 x",
             "- final e0#4 1-0-4 x", "- final e0#5 1-0-5 x", "answer 3 last e0#6",
             "- hello e0#5 live", "- final e0#3 1-0-3 x", "- final e0#4 1-0-4 x",
             "- final e0#5 1-0-5 x", NULL);
  assert_int_equal(rig_count(rig, "ledger.history_dropped_total"), 2);
  vc_session_unref(session);
  rig_destroy(rig);
}

static void test_a_gap_moves_the_position(void **state)
{
  (void)state;
  struct rig *rig = rig_create(few_finals);
  struct vc_session *session = rig_open(rig, "demo");
  say_finals(rig, session, 1, 5);
  rig_join_since(rig, "demo", 0, E0, 1);
  struct vc_answer *answer = (struct vc_answer *)hand_take(rig->broadcast, 0);
  assert_int_equal(answer->messages[1]->kind, VC_MESSAGE_GAP);
  assert_int_equal(answer->messages[1]->epoch, E0);
  assert_int_equal(answer->messages[1]->seq, 2);
  vc_item_destroy(&answer->item);
  vc_session_unref(session);
  rig_destroy(rig);
}

static void test_after_a_gap_state_and_partials_are_told_again(void **state)
{
  (void)state;
  struct rig *rig = rig_create(few_finals);
  struct vc_session *session = rig_open(rig, "demo");
  uint64_t viewer = rig_join(rig, "demo");
  rig_partial(rig, session, "open", "still");
  rig_state(rig, session, VC_STATE_STT_DOWN, "429");
  say_finals(rig, session, 1, 4);
  rig_skip(rig, 0);
  rig_catch_up(rig, "demo", viewer, E0, 0);
  rig_expect(rig, 0, "live partial e0#7 1-0-open still", "answer 1 last e0#8", "- gap e0 1-3",
             "- hello e0#7 stt_down 429", "- final e0#4 1-0-2 x", "- final e0#5 1-0-3 x",
             "- final e0#6 1-0-4 x", "- partial e0#7 1-0-open still", NULL);
  vc_session_unref(session);
  rig_destroy(rig);
}

// Reads on until the last answer. Returns: how many finals came, in order.
static size_t read_all(struct rig *rig, const char *slug, uint64_t viewer, size_t *n_answers)
{
  size_t n_finals = 0;
  struct vc_position at = {0, 0};
  int is_last = 0;
  for (*n_answers = 0; !is_last; ++*n_answers) {
    struct vc_answer *answer = (struct vc_answer *)hand_take(rig->broadcast, 0);
    assert_non_null(answer);
    assert_int_equal(answer->item.kind, VC_ITEM_ANSWER);
    for (size_t i = 0; i < answer->n_messages; i++) {
      const struct vc_message *message = answer->messages[i];
      if (message->kind != VC_MESSAGE_HELLO) {
        assert_true(message->epoch > at.epoch || message->seq > at.seq);
        at = (struct vc_position){message->epoch, message->seq};
      }
      n_finals += message->kind == VC_MESSAGE_FINAL;
    }
    is_last = answer->is_last;
    vc_item_destroy(&answer->item);
    if (!is_last) {
      rig_catch_up(rig, slug, viewer, at.epoch, at.seq);
    }
  }
  return n_finals;
}

static void test_much_is_given_in_parts(void **state)
{
  struct rig *rig = *state;
  size_t n_answers;
  struct vc_session *session = rig_open(rig, "demo");
  say_finals(rig, session, 1, 200);
  rig_partial(rig, session, "open", "x");
  uint64_t viewer = rig_join_since(rig, "demo", 0, E0, 0);
  assert_int_equal(read_all(rig, "demo", viewer, &n_answers), 200);
  assert_int_equal(n_answers, 4); // 63 + 64 + 64 + the rest
  viewer = rig_join_since(rig, "demo", 0, E0, 201 - 64 - 63);
  assert_int_equal(read_all(rig, "demo", viewer, &n_answers), 126);
  assert_int_equal(n_answers, 2); // filled to the brim, and still the last
  vc_session_unref(session);
}

static void many_on_join(struct rig *rig)
{
  rig->options.history_on_join = 150;
}

static void test_a_newcomer_may_get_many(void **state)
{
  (void)state;
  struct rig *rig = rig_create(many_on_join);
  size_t n_answers;
  struct vc_session *session = rig_open(rig, "demo");
  say_finals(rig, session, 1, 200);
  uint64_t viewer = rig_join(rig, "demo");
  assert_int_equal(read_all(rig, "demo", viewer, &n_answers), 150);
  vc_session_unref(session);
  rig_destroy(rig);
}

// A hello must not be the last of a part: it is no position, and would be said twice.
static void test_no_part_ends_with_a_hello(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  say_finals(rig, session, 1, 61);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "x");
  uint64_t viewer = rig_join_since(rig, "demo", 0, E0, 0);
  struct vc_answer *answer = (struct vc_answer *)hand_take(rig->broadcast, 0);
  assert_int_equal(answer->n_messages, 63); // hello, 61 finals, end
  assert_int_equal(answer->is_last, 0);
  vc_item_destroy(&answer->item);
  rig_catch_up(rig, "demo", viewer, E0, 62);
  rig_expect(rig, 0, "answer 1 last e1#2", "- hello e1#1 live", "- final e1#1 1-0-a x", NULL);
  vc_session_unref(session);
}

static void test_a_lagging_viewer_catches_up(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  uint64_t viewer = rig_join(rig, "demo");
  rig_partial(rig, session, "a", "o");
  rig_partial(rig, session, "a", "on");
  rig_final(rig, session, "a", "One.");
  rig_partial(rig, session, "b", "t");
  rig_skip(rig, 0);
  rig_catch_up(rig, "demo", viewer, E0, 1);
  rig_expect(rig, 0, "answer 1 last e0#5", "- final e0#3 1-0-a One.", "- partial e0#4 1-0-b t",
             NULL);
  rig_catch_up(rig, "demo", viewer, E0, 4);
  rig_expect(rig, 0, "answer 1 last e0#5", NULL);
  vc_session_unref(session);
}

static void test_who_waited_since_before_the_first_epoch_catches_up(void **state)
{
  struct rig *rig = *state;
  uint64_t viewer = rig_join(rig, "demo");
  rig_catch_up(rig, "demo", viewer, 0, 0);
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  session = rig_open(rig, "demo");
  rig_skip(rig, 0);
  rig_catch_up(rig, "demo", viewer, 0, 0);
  rig_expect(rig, 0, "answer 1 last e1#1", "- hello e0#2 ended publisher_left",
             "- final e0#1 1-0-a One.", "- end e0#2  publisher_left", "- hello e1#0 live", NULL);
  vc_session_unref(session);
}

static void test_only_workers_with_viewers_hear_live(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  uint64_t first = rig_join_since(rig, "demo", 1, 0, 0);
  uint64_t second = rig_join_since(rig, "demo", 1, 0, 0);
  rig_skip(rig, 1);
  rig_final(rig, session, "a", "A");
  rig_leave(rig, "demo", 1, first);
  rig_final(rig, session, "b", "B");
  rig_leave(rig, "demo", 1, second);
  rig_final(rig, session, "c", "C");
  rig_expect(rig, 0, NULL);
  rig_expect(rig, 1, "live final e0#1 1-0-a A", "live final e0#2 1-0-b B", NULL);
  assert_int_equal(rig_count(rig, "ledger.viewers"), 0);
  vc_session_unref(session);
}

static void test_a_stray_leave_is_counted(void **state)
{
  struct rig *rig = *state;
  uint64_t viewer = rig_join(rig, "demo");
  rig_leave(rig, "demo", 1, viewer); // another worker's
  rig_leave(rig, "other", 0, viewer);
  assert_int_equal(rig_count(rig, "ledger.stray_viewers_total"), 2);
  assert_int_equal(rig_count(rig, "ledger.viewers"), 1);
}

// --- a full lane

static void test_a_full_lane_costs_live_messages_only(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  uint64_t viewer = rig_join(rig, "demo");
  rig_join_since(rig, "demo", 1, 0, 0);
  rig_skip(rig, 0);
  rig_skip(rig, 1);
  hand_set_capacity(rig->broadcast, 0, 1);
  rig_final(rig, session, "a", "A");
  rig_final(rig, session, "b", "B");
  rig_final(rig, session, "c", "C");
  rig_expect(rig, 1, "live final e0#1 1-0-a A", "live final e0#2 1-0-b B",
             "live final e0#3 1-0-c C", NULL);
  rig_expect(rig, 0, "live final e0#1 1-0-a A", NULL);
  rig_final(rig, session, "d", "D");
  rig_expect(rig, 0, "live! final e0#4 1-0-d D", NULL);
  rig_catch_up(rig, "demo", viewer, E0, 1);
  rig_expect(rig, 0, "answer 1 last e0#5", "- final e0#2 1-0-b B", "- final e0#3 1-0-c C",
             "- final e0#4 1-0-d D", NULL);
  rig_final(rig, session, "e", "E");
  rig_expect(rig, 0, "live final e0#5 1-0-e E", NULL);
  assert_int_equal(rig_count(rig, "ledger.live_dropped_total"), 2);
  vc_session_unref(session);
}

static void test_the_last_message_is_tried_again(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_join(rig, "demo");
  rig_skip(rig, 0);
  hand_set_capacity(rig->broadcast, 0, 0);
  rig_final(rig, session, "a", "A");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_turn(rig);
  rig_expect(rig, 0, NULL);
  hand_set_capacity(rig->broadcast, 0, HAND_UNBOUNDED);
  rig_turn(rig);
  rig_turn(rig);
  rig_expect(rig, 0, "live! end e0#2  publisher_left", NULL);
}

static void test_requests_wait_for_room(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "A");
  hand_set_capacity(rig->broadcast, 0, 0);
  rig_join(rig, "demo");
  rig_join_since(rig, "demo", 1, 0, 0); // another worker's lane is another's
  uint64_t gone = rig_join(rig, "demo");
  rig_final(rig, session, "b", "B");
  rig_leave(rig, "demo", 0, gone);
  assert_int_equal(rig_count(rig, "ledger.requests_waiting"), 2);
  rig_expect(rig, 1, "answer 2 last e0#2", "- hello e0#1 live", "- final e0#1 1-0-a A",
             "live final e0#2 1-0-b B", NULL);
  hand_set_capacity(rig->broadcast, 0, HAND_UNBOUNDED);
  rig_turn(rig);
  rig_expect(rig, 0, "live! final e0#2 1-0-b B", "answer 1 last e0#3", "- hello e0#2 live",
             "- final e0#1 1-0-a A", "- final e0#2 1-0-b B", "answer 3 last e0#3",
             "- hello e0#2 live", "- final e0#1 1-0-a A", "- final e0#2 1-0-b B", NULL);
  vc_session_unref(session);
}

static void test_a_request_of_one_who_left_is_let_go(void **state)
{
  struct rig *rig = *state;
  hand_set_capacity(rig->broadcast, 0, 0);
  uint64_t viewer = rig_join(rig, "idle");
  rig_leave(rig, "idle", 0, viewer);
  assert_int_equal(rig_count(rig, "ledger.sessions"), 0);
  hand_set_capacity(rig->broadcast, 0, HAND_UNBOUNDED);
  rig_turn(rig);
  rig_expect(rig, 0, NULL);
  assert_int_equal(rig_count(rig, "ledger.requests_waiting"), 0);
}

static void two_viewers(struct rig *rig)
{
  rig->settings.max_viewers = 2;
}

static void test_waiting_requests_are_bounded(void **state)
{
  (void)state;
  struct rig *rig = rig_create(two_viewers);
  hand_set_capacity(rig->broadcast, 0, 0);
  for (int i = 0; i < 3; i++) {
    rig_join(rig, "demo");
  }
  assert_int_equal(rig_count(rig, "ledger.requests_waiting"), 2);
  assert_int_equal(rig_count(rig, "ledger.requests_lost_total"), 1);
  rig_destroy(rig);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      CASE(test_a_newcomer_gets_finals_then_what_is_open),
      cmocka_unit_test(test_a_newcomer_gets_the_last_finals_only),
      cmocka_unit_test(test_a_newcomer_may_get_no_finals_at_all),
      CASE(test_what_a_final_overtook_is_said_again),
      CASE(test_who_comes_back_gets_what_is_later),
      CASE(test_an_older_epoch_is_read_on_into_the_newer),
      CASE(test_a_position_nobody_holds_is_a_gap),
      CASE(test_an_ended_session_can_be_read),
      cmocka_unit_test(test_what_history_let_go_is_a_gap),
      cmocka_unit_test(test_a_gap_moves_the_position),
      cmocka_unit_test(test_after_a_gap_state_and_partials_are_told_again),
      CASE(test_much_is_given_in_parts),
      cmocka_unit_test(test_a_newcomer_may_get_many),
      CASE(test_no_part_ends_with_a_hello),
      CASE(test_a_lagging_viewer_catches_up),
      CASE(test_who_waited_since_before_the_first_epoch_catches_up),
      CASE(test_only_workers_with_viewers_hear_live),
      CASE(test_a_stray_leave_is_counted),
      CASE(test_a_full_lane_costs_live_messages_only),
      CASE(test_the_last_message_is_tried_again),
      CASE(test_requests_wait_for_room),
      CASE(test_a_request_of_one_who_left_is_let_go),
      cmocka_unit_test(test_waiting_requests_are_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
