// Sessions of other nodes, and ours as others are told of them. The redis room is the test.
#include "rig.h"

#include <stdio.h>
#include <string.h>

#define E0 RIG_UNIX_MS

static int set_up(void **state)
{
  *state = rig_create(rig_with_fleet);
  return 0;
}

static int tear_down(void **state)
{
  rig_destroy(*state);
  return 0;
}

// A session of this node, whose claim was answered.
static struct vc_session *begin(struct rig *rig, const char *slug)
{
  struct vc_session *session = rig_open(rig, slug);
  rig_remote(rig, VC_REMOTE_OWNED, slug, 0, 0);
  struct vc_item *item;
  while ((item = hand_take(rig->watcher, 0)) != NULL) {
    vc_item_destroy(item);
  }
  return session;
}

// A session of another node, watched here by viewer 1: epoch e0 with one final.
static void watch(struct rig *rig)
{
  rig_join(rig, "demo");
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 3, "1-0-a", "One.");
  rig_remote(rig, VC_REMOTE_FILLED, "demo", E0, 0);
  rig_expect_watcher(rig, "watch demo e-#0", NULL);
}

// --- what is said here

static void test_a_session_is_claimed_before_it_is_numbered(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  rig_remote(rig, VC_REMOTE_FILLED, "demo", 0, 0);
  rig_expect(rig, 0, "answer 1 last e-#1", "- hello e-#0 idle", NULL);
  rig_expect_watcher(rig, "watch demo e-#0", NULL);
  struct vc_session *session = rig_open(rig, "demo");
  rig_partial(rig, session, "a", "o");
  rig_final(rig, session, "a", "One.");
  rig_expect_watcher(rig, "claim demo e-#0 floor e0", NULL);
  rig_expect_publisher(rig, NULL);
  rig_expect(rig, 0, NULL);
  rig_pass_ms(rig, 9); // its epoch is the one that others were told, not a later one
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 5, 0);
  rig_expect(rig, 0, "live hello e5#0 live", "live partial e5#1 1-0-a o",
             "live final e5#2 1-0-a One.", NULL);
  rig_expect_publisher(rig, "message hello e5#0 live", "message partial e5#1 1-0-a o",
                       "message final e5#2 1-0-a One.", NULL);
  rig_expect_records(rig, "started demo e5", "final demo e5#2", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_expect_publisher(rig, "message end e5#3  publisher_left", "release demo e5#3", NULL);
  rig_expect_watcher(rig, "watch demo e5#3 over", NULL); // its viewer stays
}

static void test_a_claim_is_not_waited_for_for_ever(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_pass_ms(rig, 2999);
  rig_expect_publisher(rig, NULL);
  rig_pass_ms(rig, 1);
  rig_expect_publisher(rig, "message hello e3000#0 live after loss",
                       "message final e3000#1 1-0-a One.", NULL);
  assert_int_equal(rig_count(rig, "ledger.claims_late_total"), 1);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 9999, 0); // too late: it is numbered
  rig_final(rig, session, "b", "Two.");
  rig_expect_publisher(rig, "message final e3000#2 1-0-b Two.", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

static void test_more_results_than_may_wait_begin_it(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  char id[16];
  for (int i = 1; i < 1024; i++) {
    rig_expect_publisher(rig, NULL);
    snprintf(id, sizeof id, "%d", i);
    rig_final(rig, session, id, "x");
  }
  assert_int_equal(rig_count(rig, "ledger.claims_late_total"), 1);
  assert_int_equal(rig_count(rig, "ledger.finals_total"), 1023);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

static void test_a_publisher_that_left_before_the_answer_is_told_whole(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 1, 0);
  rig_expect_publisher(rig, "message hello e1#0 live", "message final e1#1 1-0-a One.",
                       "message end e1#2  publisher_left", "release demo e1#2", NULL);
  rig_expect_records(rig, "started demo e1", "final demo e1#1", "ended demo e1", NULL);
}

// Two nodes must not come to the same number by counting for themselves.
static void test_a_claim_that_was_overtaken_is_made_again(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_expect_watcher(rig, "claim demo e-#0 floor e0", NULL);
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0 + 1, 0, NULL, "live"); // by itself
  rig_remote_owned_late(rig, "demo", E0 + 1);
  rig_expect_publisher(rig, NULL);
  rig_expect_watcher(rig, "claim demo e1#0 floor e2", NULL);
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0 + 3, 0, NULL, "live");
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 2, 0);
  rig_expect_publisher(rig, NULL);
  rig_expect_watcher(rig, "claim demo e3#0 floor e4", NULL);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 5, 0);
  rig_expect_publisher(rig, "message hello e5#0 live after loss", "message final e5#1 1-0-a One.",
                       NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// Nor does the next one begin without a claim, which nobody else would hear of.
static void test_one_after_another_before_the_answer(void **state)
{
  struct rig *rig = *state;
  struct vc_session *first = rig_open(rig, "demo");
  rig_final(rig, first, "a", "One.");
  rig_close(rig, &first, VC_CLOSE_PUBLISHER_LEFT);
  struct vc_session *second = rig_open(rig, "demo");
  rig_final(rig, second, "a", "Two.");
  rig_expect_watcher(rig, "claim demo e-#0 floor e0", NULL);
  rig_pass_ms(rig, 9);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 1, 0);
  rig_expect_publisher(rig, "message hello e1#0 live", "message final e1#1 1-0-a One.",
                       "message end e1#2  publisher_left", "release demo e1#2", NULL);
  rig_expect_watcher(rig, "claim demo e1#2 floor e9 over", NULL);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 8, 0); // of a claim before
  rig_expect_publisher(rig, NULL);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 9, 0);
  rig_expect_publisher(rig, "message hello e9#0 live", "message final e9#1 1-0-a Two.", NULL);
  rig_close(rig, &second, VC_CLOSE_PUBLISHER_LEFT);
  rig_expect_publisher(rig, "message end e9#2  publisher_left", "release demo e9#2", NULL);
}

static void test_one_after_another_at_a_node_that_ends(void **state)
{
  struct rig *rig = *state;
  for (int i = 0; i < 3; i++) {
    struct vc_session *session = rig_open(rig, "demo");
    rig_final(rig, session, "a", "One.");
    rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  }
  rig_expect_records(rig, NULL);
  assert_int_equal(vc_stage_stop(rig->ledger, 1000), 0);
  rig_expect_records(rig, "started demo e0", "final demo e0#1", "ended demo e0", "started demo e1",
                     "final demo e1#1", "ended demo e1", "started demo e2", "final demo e2#1",
                     "ended demo e2", NULL);
}

// What the stream holds of older epochs is there when the session begins.
static void test_older_epochs_come_before_the_claim_is_answered(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = rig_open(rig, "demo");
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0 - 9, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0 - 9, 4, "1-0-z", "Old.");
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0, 0);
  rig_final(rig, session, "a", "New.");
  rig_join_since(rig, "demo", 0, E0 - 9, 3);
  rig_expect(rig, 0, "answer 1 last e0#2", "- hello e0#1 live", "- final e-9#4 1-0-z Old.",
             "- hello e0#1 live", "- final e0#1 1-0-a New.", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// Who watches here sees the last words of the node before, then what is said here.
static void test_last_words_of_the_node_before_are_shown(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_skip(rig, 0);
  struct vc_session *session = rig_open(rig, "demo");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 5, "1-0-b", "Last.");
  rig_expect(rig, 0, NULL);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 7, 0);
  rig_final(rig, session, "a", "Here.");
  rig_expect(rig, 0, "live! hello e0#5 live", "live hello e7#0 live", "live final e7#1 1-0-a Here.",
             NULL);
  rig_catch_up(rig, "demo", 1, E0, 3);
  rig_expect(rig, 0, "answer 1 last e7#2", "- final e0#5 1-0-b Last.", "- hello e7#1 live",
             "- final e7#1 1-0-a Here.", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// Redis did not answer: how the node before went on is not known.
static void test_a_claim_without_an_answer_is_a_gap(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_skip(rig, 0);
  struct vc_session *session = rig_open(rig, "demo");
  rig_remote_owned_late(rig, "demo", 0);
  rig_final(rig, session, "a", "Here.");
  rig_expect(rig, 0, "live! hello e1#0 live", "live final e1#1 1-0-a Here.", NULL);
  rig_expect_publisher(rig, "message hello e1#0 live after loss", "message final e1#1 1-0-a Here.",
                       NULL);
  rig_catch_up(rig, "demo", 1, E0, 3);
  rig_expect(rig, 0, "answer 1 last e1#2", "- gap e0 4-0", "- hello e1#1 live",
             "- final e1#1 1-0-a Here.", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_skip(rig, 0);
  rig_expect_publisher(rig, "message end e1#2  publisher_left", "release demo e1#2", NULL);
  session = rig_open(rig, "demo"); // its own went on to its end
  rig_remote_owned_late(rig, "demo", 0);
  rig_expect(rig, 0, "live! hello e2#0 live", NULL);
  rig_expect_publisher(rig, "message hello e2#0 live after loss", NULL); // others may know more
  rig_catch_up(rig, "demo", 1, E0 + 1, 2);
  rig_expect(rig, 0, "answer 1 last e2#1", "- hello e2#0 live", NULL);
  assert_int_equal(rig_count(rig, "ledger.remote_gaps_total"), 1);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// Redis did, and the node before was there and said no last word in time.
static void test_who_did_not_say_its_last_in_time_is_a_gap(void **state)
{
  struct rig *rig = *state;
  rig->says_after_loss = 1; // of a node before that, too
  watch(rig);
  rig_skip(rig, 0);
  struct vc_session *session = rig_open(rig, "demo");
  rig_remote_owned_late(rig, "demo", E0 + 7);
  rig_expect(rig, 0, "live! hello e7#0 live", NULL);
  rig_expect_publisher(rig, "message hello e7#0 live after loss", NULL);
  rig_catch_up(rig, "demo", 1, E0, 3);
  rig_expect(rig, 0, "answer 1 last e7#1", "- gap e0 4-0", "- hello e7#0 live", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_expect_publisher(rig, "message end e7#1  publisher_left", "release demo e7#1", NULL);
  rig_remote(rig, VC_REMOTE_ASK, "demo", 0, 0); // a Redis that was flushed is told so again
  rig_expect_publisher(rig, "history demo behind e-#0", "- hello e0#0 live after loss",
                       "- final e0#3 1-0-a One.", "history demo behind e0#3 last",
                       "- hello e7#0 live after loss", "- end e7#1  publisher_left", NULL);
}

// It was on a node that knew more, and came here while Redis was away.
static void test_who_is_ahead_of_a_claim_without_an_answer(void **state)
{
  struct rig *rig = *state;
  rig_join_since(rig, "demo", 0, E0 - 5, 7);
  rig_pass_ms(rig, 300);
  rig_expect(rig, 0, "answer 1 last e-5#8", "- hello e-#0 unknown", NULL);
  struct vc_session *session = rig_open(rig, "demo");
  rig_remote_owned_late(rig, "demo", 0);
  rig_final(rig, session, "a", "Here.");
  rig_expect(rig, 0, "live! hello e300#0 live", "live final e300#1 1-0-a Here.", NULL);
  rig_catch_up(rig, "demo", 1, E0 - 5, 7);
  rig_expect(rig, 0, "answer 1 last e300#2", "- gap e-5 8-0", "- hello e300#1 live",
             "- final e300#1 1-0-a Here.", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// By a partial of the lost node; what it kept is here.
static void test_who_is_ahead_by_what_is_not_kept(void **state)
{
  struct rig *rig = *state;
  rig_join_since(rig, "demo", 0, E0 - 5, 4);
  rig_pass_ms(rig, 300);
  rig_skip(rig, 0);
  struct vc_session *session = rig_open(rig, "demo");
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0 - 5, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0 - 5, 3, "1-0-a", "One.");
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 300, 0);
  rig_skip(rig, 0);
  rig_catch_up(rig, "demo", 1, E0 - 5, 4);
  rig_expect(rig, 0, "answer 1 last e300#1", "- hello e300#0 live", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// Redis did answer, and knows less: it was flushed.
static void test_who_is_ahead_of_a_claim(void **state)
{
  struct rig *rig = *state;
  rig_join_since(rig, "demo", 0, E0 - 5, 7);
  rig_pass_ms(rig, 300);
  rig_expect(rig, 0, "answer 1 last e-5#8", "- hello e-#0 unknown", NULL);
  struct vc_session *session = rig_open(rig, "demo");
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 300, 0);
  rig_expect(rig, 0, "live! hello e300#0 live", NULL);
  rig_catch_up(rig, "demo", 1, E0 - 5, 7);
  rig_expect(rig, 0, "answer 1 last e300#1", "- gap e-5 8-0", "- hello e300#0 live", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

static void test_a_drained_node_says_no_end(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_expect_publisher(rig, "message hello e0#0 live", NULL);
  rig_close(rig, &session, VC_CLOSE_SHUTDOWN);
  rig_expect_publisher(rig, "message status e0#1 reconnecting shutdown", "release demo e0#1", NULL);
  rig_expect_records(rig, "started demo e0", "ended demo e0", NULL);
}

static void test_another_node_takes_it(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_join(rig, "demo");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  assert_string_equal(rig->taken_over, "demo");
  rig_final(rig, session, "a", "Last."); // it was under way
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
  rig_expect(rig, 0, "answer 1 last e0#1", "- hello e0#0 live", "live final e0#1 1-0-a Last.",
             NULL);
  rig_expect_publisher(rig, "message hello e0#0 live", "message final e0#1 1-0-a Last.",
                       "release demo e0#1", NULL);
  rig_expect_watcher(rig, "watch demo e0#1", NULL);
  // Its viewers go on with the other's words.
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0 + 7, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0 + 7, 1, "1-0-a", "Here.");
  rig_remote(rig, VC_REMOTE_FILLED, "demo", E0 + 7, 0);
  rig_expect(rig, 0, "live! hello e7#1 live", NULL);
  rig_catch_up(rig, "demo", 1, E0, 1);
  rig_expect(rig, 0, "answer 1 last e7#2", "- hello e7#1 live", "- final e7#1 1-0-a Here.", NULL);
}

// Both went on while Redis was away: the smaller epoch gives way, whichever is heard first.
static void test_an_older_epoch_takes_nothing(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 - 1, 0);
  assert_string_equal(rig->taken_over, "");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0, 0); // of two that are equal Redis has chosen one
  assert_string_equal(rig->taken_over, "demo");
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
}

static void test_what_is_taken_is_let_go_of_in_time(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  rig_expect_publisher(rig, "message hello e0#0 live", NULL);
  rig_pass_ms(rig, 2000);
  rig_expect_publisher(rig, "release demo e0#0 unsaid", NULL);
  rig_final(rig, session, "a", "Late."); // shown here, kept, and not the fleet's
  rig_expect_publisher(rig, NULL);
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
  rig_expect_publisher(rig, NULL);
  rig_expect_records(rig, "started demo e0", "final demo e0#1", "ended demo e0", NULL);
}

// Who came when it was taken is not closed, and is the last who opened it.
static void test_who_came_behind_the_taking_takes_it_back(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  struct vc_session *early = rig_open_of(rig, "demo", "Ada");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  struct vc_session *late = rig_open_of(rig, "demo", "Bob");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0); // both workers of the room tell it
  assert_int_equal(rig->n_taken_over, 1);
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
  rig_close(rig, &early, VC_CLOSE_TAKEN_OVER);
  rig_expect_publisher(rig, "message hello e0#0 live", NULL);
  rig_pass_ms(rig, 2000);
  rig_expect_publisher(rig, "release demo e0#0", NULL);
  rig_expect_watcher(rig, "claim demo e0#0 floor e2000", NULL);
  rig_final(rig, late, "a", "Here.");
  rig_expect_publisher(rig, NULL);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 2001, 0);
  rig_expect_publisher(rig, "message hello e2001#0 live", "message final e2001#1 1-Bob-a Here.",
                       NULL);
  rig_close(rig, &late, VC_CLOSE_PUBLISHER_LEFT);
  rig_expect_publisher(rig, "message end e2001#2  publisher_left", "release demo e2001#2", NULL);
}

// What another node says meanwhile is not heard here.
static void test_who_takes_it_back_has_missed_something(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_final(rig, session, "a", "Mine.");
  rig_join(rig, "demo");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  struct vc_session *late = rig_open_of(rig, "demo", "Bob");
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
  rig_pass_ms(rig, 2000);
  rig_skip(rig, 0);
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0 + 7, 1, "1-0-a", "Elsewhere.");
  rig_expect(rig, 0, NULL);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 2001, 0);
  rig_expect(rig, 0, "live! hello e2001#0 live", NULL);
  rig_catch_up(rig, "demo", 1, E0, 1);
  rig_expect(rig, 0, "answer 1 last e2001#1", "- gap e0 2-0", "- hello e2001#0 live", NULL);
  rig_expect_publisher(rig, "message hello e0#0 live", "message final e0#1 1-0-a Mine.",
                       "release demo e0#1", "message hello e2001#0 live", NULL);
  rig_close(rig, &late, VC_CLOSE_PUBLISHER_LEFT);
}

// His last words of before were waited for until then.
static void test_who_began_before_the_taking_does_not_take_it_back(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  uint64_t began_ns = rig->now_ns;
  rig_pass_ms(rig, 1);
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  rig_pass_ms(rig, 1000);
  struct vc_session *again = rig_open_at(rig, "demo", "Bob", began_ns);
  rig_pass_ms(rig, 1000);
  rig_expect_watcher(rig, NULL);
  rig_expect_publisher(rig, "message hello e0#0 live", "release demo e0#0 unsaid", NULL);
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
  rig_close(rig, &again, VC_CLOSE_TAKEN_OVER);
}

// A third node, where it is opened last.
static void test_who_came_behind_the_taking_is_taken_from_too(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  struct vc_session *late = rig_open_of(rig, "demo", "Bob");
  rig_pass_ms(rig, 1500);
  assert_int_equal(rig->n_taken_over, 1);
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 9, 0);
  assert_int_equal(rig->n_taken_over, 2);
  struct vc_session *between = rig_open_at(rig, "demo", "Cid", rig->now_ns - VC_NS_PER_MS);
  rig_pass_ms(rig, 500); // of the first
  rig_expect_watcher(rig, NULL);
  rig_expect_publisher(rig, "message hello e0#0 live", "release demo e0#0 unsaid", NULL);
  assert_int_equal(rig_count(rig, "ledger.epochs_taken_total"), 1);
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
  rig_close(rig, &late, VC_CLOSE_TAKEN_OVER);
  rig_close(rig, &between, VC_CLOSE_TAKEN_OVER);
}

// Somebody's last words are waited for yet.
static void test_who_joins_when_it_was_let_go_of_takes_it_back(void **state)
{
  struct rig *rig = *state;
  struct vc_session *early = begin(rig, "demo");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  rig_pass_ms(rig, 2500);
  rig_expect_publisher(rig, "message hello e0#0 live", "release demo e0#0 unsaid", NULL);
  struct vc_session *late = rig_open_of(rig, "demo", "Bob");
  rig_expect_watcher(rig, "claim demo e0#0 floor e2500", NULL);
  rig_final(rig, early, "a", "Last.");
  rig_final(rig, late, "a", "Here.");
  rig_close(rig, &early, VC_CLOSE_TAKEN_OVER);
  rig_expect_publisher(rig, NULL);
  rig_join(rig, "demo");
  rig_skip(rig, 0);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 2501, 0);
  rig_expect_publisher(rig, "message hello e2501#0 live", "message final e2501#1 1-0-a Last.",
                       "message final e2501#2 1-Bob-a Here.", NULL);
  rig_expect(rig, 0, "live! hello e2501#0 live", "live final e2501#1 1-0-a Last.",
             "live final e2501#2 1-Bob-a Here.", NULL);
  rig_close(rig, &late, VC_CLOSE_PUBLISHER_LEFT);
}

// Its publisher is told until that is heard, or it is gone.
static void test_what_is_taken_is_closed_when_there_is_room(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo"), *other = begin(rig, "other");
  rig->is_ingest_full = 1;
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  rig_remote(rig, VC_REMOTE_TAKEN, "other", E0 + 7, 0);
  rig_pass_ms(rig, 2000); // longer than it is waited for
  assert_int_equal(rig_count(rig, "ledger.closes_late_total"), 2);
  rig_close(rig, &other, VC_CLOSE_PUBLISHER_LEFT);
  rig->is_ingest_full = 0;
  rig_pass_ms(rig, 10);
  assert_string_equal(rig->taken_over, "demo");
  int n = rig->n_taken_over;
  rig_pass_ms(rig, 10);
  assert_int_equal(rig->n_taken_over, n);
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
  assert_int_equal(rig_count(rig, "ledger.closes_late_total"), 2);
}

// Nor who began before the taking, and was told to leave as well.
static void test_who_began_before_does_not_take_it_back_later(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  uint64_t began_ns = rig->now_ns;
  rig_pass_ms(rig, 1);
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  rig_pass_ms(rig, 2500);
  struct vc_session *again = rig_open_at(rig, "demo", "Bob", began_ns);
  rig_expect_watcher(rig, NULL);
  rig_close(rig, &again, VC_CLOSE_TAKEN_OVER);
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
}

static void test_who_leaves_what_was_taken_does_not_end_it(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_expect_publisher(rig, "message hello e0#0 live", "release demo e0#0", NULL);
}

// Its recogniser takes longer than the node may wait.
static void test_who_leaves_late_what_was_taken_does_not_end_it(void **state)
{
  struct rig *rig = *state;
  static const enum vc_close_reason reasons[] = {VC_CLOSE_PUBLISHER_LEFT, VC_CLOSE_KICKED};
  for (size_t i = 0; i < 2; i++) {
    const char *slug = i == 0 ? "left" : "kicked";
    struct vc_session *session = begin(rig, slug);
    rig_join(rig, slug);
    rig_skip(rig, 0);
    rig_remote(rig, VC_REMOTE_TAKEN, slug, E0 + 2007, 0);
    rig_pass_ms(rig, 2000);
    rig_close(rig, &session, reasons[i]);
    rig_expect(rig, 0, NULL);
    session = begin(rig, slug); // who comes back, and has it, ends it
    rig_skip(rig, 0);
    rig_close(rig, &session, reasons[i]);
    rig_expect(rig, 0, i == 0 ? "live end e2000#1  publisher_left" : "live end e4000#1  kicked",
               NULL);
  }
}

// It is ours again when its last word is that of who was told to leave.
static void test_what_was_taken_back_ends(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  struct vc_session *late = rig_open_of(rig, "demo", "Bob");
  rig_pass_ms(rig, 2000);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 2001, 0);
  rig_close(rig, &late, VC_CLOSE_PUBLISHER_LEFT);
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
  rig_expect_publisher(rig, "message hello e0#0 live", "release demo e0#0",
                       "message hello e2001#0 live", "message end e2001#1  publisher_left",
                       "release demo e2001#1", NULL);
}

// Who was to be told it has gone, or goes on with who takes it back.
static void test_who_takes_it_back_is_not_closed_late(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig->is_ingest_full = 1;
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  struct vc_session *late = rig_open_of(rig, "demo", "Bob");
  rig_pass_ms(rig, 2000);
  rig_expect_watcher(rig, "claim demo e0#0 floor e2000", NULL);
  int n_told = rig->n_taken_over;
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0); // of before
  rig->is_ingest_full = 0;
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 2001, 0);
  rig_pass_ms(rig, 2000);
  assert_int_equal(rig->n_taken_over, n_told);
  rig_expect_publisher(rig, "message hello e0#0 live", "release demo e0#0",
                       "message hello e2001#0 live", NULL);
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
  rig_close(rig, &late, VC_CLOSE_PUBLISHER_LEFT);
}

// Its viewers here are to go elsewhere, and are told so; who only leaves tells them nothing.
static void test_a_drained_node_says_so_of_what_was_taken(void **state)
{
  struct rig *rig = *state;
  struct vc_session *drained = begin(rig, "demo");
  struct vc_session *left = begin(rig, "other");
  rig_join(rig, "demo");
  rig_join(rig, "other");
  rig_skip(rig, 0);
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  rig_remote(rig, VC_REMOTE_TAKEN, "other", E0 + 7, 0);
  rig_close(rig, &drained, VC_CLOSE_SHUTDOWN);
  rig_close(rig, &left, VC_CLOSE_PUBLISHER_LEFT);
  rig_expect(rig, 0, "live status e0#1 reconnecting shutdown", NULL);
  rig_expect_publisher(rig, "message hello e0#0 live", "message hello e0#0 live",
                       "message status e0#1 reconnecting shutdown", "release demo e0#1",
                       "release other e0#0", NULL);
}

static void test_a_drained_node_says_so_of_what_was_let_go_of(void **state)
{
  struct rig *rig = *state;
  struct vc_session *drained = begin(rig, "demo");
  struct vc_session *left = begin(rig, "other");
  rig_join(rig, "demo");
  rig_join(rig, "other");
  rig_skip(rig, 0);
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  rig_remote(rig, VC_REMOTE_TAKEN, "other", E0 + 7, 0);
  rig_pass_ms(rig, 2000);
  rig_close(rig, &drained, VC_CLOSE_SHUTDOWN);
  rig_close(rig, &left, VC_CLOSE_PUBLISHER_LEFT);
  rig_expect(rig, 0, "live status e0#1 reconnecting shutdown", NULL);
  rig_expect_publisher(rig, "message hello e0#0 live", "message hello e0#0 live",
                       "release demo e0#0 unsaid", "release other e0#0 unsaid", NULL);
}

static void test_a_fenced_epoch_goes_on_as_a_new_one(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_join(rig, "demo");
  rig_partial(rig, session, "a", "o");
  rig_remote(rig, VC_REMOTE_FENCED, "demo", E0, 0);
  rig_final(rig, session, "a", "One.");
  rig_expect_watcher(rig, "claim demo e0#0 floor e1", NULL);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 1, 0);
  rig_expect(rig, 0, "answer 1 last e0#1", "- hello e0#0 live", "live partial e0#1 1-0-a o",
             "live retract e0#2 1-0-a", "live hello e1#0 live", "live final e1#1 1-0-a One.", NULL);
  rig_expect_records(rig, "started demo e0", "ended demo e0", "started demo e1", "final demo e1#1",
                     NULL);
  rig_expect_publisher(rig, "message hello e0#0 live", "message partial e0#1 1-0-a o",
                       "message retract e0#2 1-0-a", "message hello e1#0 live",
                       "message final e1#1 1-0-a One.", NULL);
  rig_remote(rig, VC_REMOTE_FENCED, "demo", E0, 0); // of the epoch before: known
  rig_expect_watcher(rig, NULL);
  rig_final(rig, session, "b", "Two.");
  rig_remote(rig, VC_REMOTE_FENCED, "demo", E0 + 1, 1); // that one was not written
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 2, 0);
  rig_expect_publisher(rig, "message final e1#2 1-0-b Two.", "message hello e2#0 live after loss",
                       NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// Its hello was to tell of it.
static void test_a_loss_that_was_refused_is_told_again(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  struct vc_session *session = rig_open(rig, "demo");
  rig_remote_owned_late(rig, "demo", 0);
  rig_expect_publisher(rig, "message hello e1#0 live after loss", NULL);
  rig_remote(rig, VC_REMOTE_FENCED, "demo", E0 + 1, 0);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 9, 0);
  rig_expect_publisher(rig, "message hello e9#0 live after loss", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// It ended here while the node was cut off, and others had said the end for it: they lack words.
static void test_an_end_that_others_said_first_is_said_again(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_join(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_skip(rig, 0);
  rig_expect_publisher(rig, "message hello e0#0 live", "message final e0#1 1-0-a One.",
                       "message end e0#2  publisher_left", "release demo e0#2", NULL);
  rig_expect_watcher(rig, "watch demo e0#2 over", NULL);
  rig_remote_say(rig, VC_MESSAGE_END, "demo", E0, 1000000, NULL, "owner_lost");
  rig_remote(rig, VC_REMOTE_FILLED, "demo", 0, 0);
  rig_remote_given_up(rig, "demo", E0, 1000000, 0);
  rig_expect_publisher(
      rig, "orphan end e0#1000002  publisher_left behind e0#1000000, says #1000001", NULL);
  rig_remote_gap(rig, "demo", E0, 1000000, 1000001);
  rig_remote_say(rig, VC_MESSAGE_END, "demo", E0, 1000002, NULL, "publisher_left");
  rig_expect(rig, 0, NULL);                         // who watched here has all of it
  rig_remote_given_up(rig, "demo", E0, 2000000, 0); // they were faster
  rig_expect_publisher(
      rig, "orphan end e0#2000002  publisher_left behind e0#2000000, says #2000001", NULL);
  rig_join_since(rig, "demo", 0, E0, 0);
  rig_expect(rig, 0, "answer 2 last e0#2000003", "- hello e0#2000002 ended publisher_left",
             "- final e0#1 1-0-a One.", "- end e0#2  publisher_left", NULL);
}

// They have all that was heard, and lack nothing but the end. Or they have numbered it as we did.
static void test_an_end_behind_all_words_tells_of_no_loss(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_state(rig, session, VC_STATE_RECONNECTING, "publisher_left");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_expect_publisher(rig, "message hello e0#0 live", "message final e0#1 1-0-a One.",
                       "message status e0#2 reconnecting publisher_left",
                       "message end e0#3  publisher_left", "release demo e0#3", NULL);
  rig_remote_given_up(rig, "demo", E0, 1000001, 1);
  rig_expect_publisher(
      rig, "orphan end e0#1000002  publisher_left behind e0#1000001, says #1000001", NULL);
  rig_remote_given_up(rig, "demo", E0, 2, 0);
  rig_expect_publisher(rig, "orphan end e0#1000004  publisher_left behind e0#2, says #1000003",
                       NULL);
}

static void test_what_has_not_ended_here_is_not_ended_again(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_remote_say(rig, VC_MESSAGE_END, "demo", E0, 1000003, NULL, "owner_lost");
  rig_remote_given_up(rig, "demo", E0, 1000003, 0);
  rig_expect_publisher(rig, NULL);
  struct vc_session *session = rig_open(rig, "demo");
  rig_remote_given_up(rig, "demo", E0, 1000003, 0);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 9, 0);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_remote_given_up(rig, "demo", E0, 1000003, 0); // of another epoch
  rig_expect_publisher(rig, "message hello e9#0 live", "message end e9#1  publisher_left",
                       "release demo e9#1", NULL);
}

// Another node has said more of it, behind what was refused.
static void test_who_is_ahead_of_what_was_refused(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_final(rig, session, "b", "Two.");
  rig_remote(rig, VC_REMOTE_FENCED, "demo", E0, 0);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 1, 0);
  rig_join_since(rig, "demo", 0, E0, 1000000);
  rig_expect(rig, 0, "answer 1 last e1#1", "- hello e1#0 live", "- gap e0 1000001-0", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

static void test_what_redis_missed_is_given_again(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_final(rig, session, "a", "A");
  rig_partial(rig, session, "b", "b");
  rig_final(rig, session, "b", "B");
  rig_expect_publisher(rig, "message hello e0#0 live", "message final e0#1 1-0-a A",
                       "message partial e0#2 1-0-b b", "message final e0#3 1-0-b B", NULL);
  rig_remote(rig, VC_REMOTE_ASK, "demo", E0, 1);
  rig_expect_publisher(rig, "history demo behind e0#1 last", "- final e0#3 1-0-b B", NULL);
  rig_remote(rig, VC_REMOTE_ASK, "demo", E0, 3);
  rig_expect_publisher(rig, "history demo behind e0#3 last", NULL);
  rig_remote(rig, VC_REMOTE_ASK, "demo", 0, 0);
  rig_expect_publisher(rig, "history demo behind e-#0 last", "- hello e0#0 live",
                       "- final e0#1 1-0-a A", "- final e0#3 1-0-b B", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// What was lost on the way is told after the release too, but never what another node numbered.
static void test_what_redis_missed_is_given_after_the_end(void **state)
{
  struct rig *rig = *state;
  rig_remote(rig, VC_REMOTE_ASK, "demo", E0, 4);
  rig_expect_publisher(rig, "history demo behind e0#4 last", NULL); // nothing is held
  rig_join(rig, "demo");
  struct vc_session *session = begin(rig, "demo");
  rig_final(rig, session, "a", "A");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0 + 9, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0 + 9, 1, "1-0-a", "Theirs.");
  rig_expect_publisher(rig, "message hello e0#0 live", "message final e0#1 1-0-a A",
                       "message end e0#2  publisher_left", "release demo e0#2", NULL);
  rig_remote(rig, VC_REMOTE_ASK, "demo", E0, 1);
  rig_expect_publisher(rig, "history demo behind e0#1 last", "- end e0#2  publisher_left", NULL);
  rig_remote(rig, VC_REMOTE_ASK, "demo", E0, 2);
  rig_expect_publisher(rig, "history demo behind e0#2 last", NULL);
}

// Older epochs too, an epoch a piece, at most 64 messages each, as the lane takes them.
static void test_a_long_history_is_given_in_pieces(void **state)
{
  struct rig *rig = *state;
  struct vc_session *first = begin(rig, "demo");
  char id[16];
  for (int i = 1; i <= 70; i++) {
    snprintf(id, sizeof id, "%d", i);
    rig_final(rig, first, id, "x");
  }
  rig_close(rig, &first, VC_CLOSE_PUBLISHER_LEFT);
  rig_pass_ms(rig, 10);
  struct vc_session *second = begin(rig, "demo");
  struct vc_item *item;
  while ((item = hand_take(rig->publisher, 0)) != NULL) {
    vc_item_destroy(item);
  }
  hand_set_capacity(rig->publisher, 0, 1);
  rig_remote(rig, VC_REMOTE_ASK, "demo", 0, 0);
  static const size_t sizes[] = {64, 8, 1}; // hello and 63; 7 and the end; hello
  static const uint64_t behind[] = {0, 63, 71};
  for (size_t i = 0; i < 3; i++) {
    struct vc_fleet *piece = (struct vc_fleet *)hand_take(rig->publisher, 0);
    assert_non_null(piece);
    assert_int_equal(piece->kind, VC_FLEET_HISTORY);
    assert_int_equal(piece->n_messages, sizes[i]);
    assert_int_equal(piece->is_last, i == 2);
    assert_int_equal(piece->position.epoch, i == 0 ? 0 : E0);
    assert_int_equal(piece->position.seq, behind[i]);
    vc_item_destroy(&piece->item);
    rig_turn(rig);
  }
  assert_null(hand_take(rig->publisher, 0));
  hand_set_capacity(rig->publisher, 0, HAND_UNBOUNDED);
  rig_close(rig, &second, VC_CLOSE_PUBLISHER_LEFT);
}

static void test_a_full_lane_costs_messages_and_no_turns(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  hand_set_capacity(rig->publisher, 0, 1);
  rig_final(rig, session, "a", "A");
  assert_int_equal(rig_count(rig, "ledger.fleet_dropped_total"), 1);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_expect_publisher(rig, "message hello e0#0 live", NULL);
  rig_turn(rig);
  rig_expect_publisher(rig, "release demo e0#2", NULL);
}

// --- what others say

static void test_a_join_waits_for_what_redis_holds(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_expect(rig, 0, "answer 1 last e0#4", "- hello e0#3 live", "- final e0#3 1-0-a One.", NULL);
  rig_remote_say(rig, VC_MESSAGE_PARTIAL, "demo", E0, 4, "1-0-b", "tw");
  rig_remote_say(rig, VC_MESSAGE_STATUS, "demo", E0, 5, NULL, "reconnecting");
  rig_expect(rig, 0, "live partial e0#4 1-0-b tw", "live status e0#5 reconnecting", NULL);
  rig_join(rig, "demo"); // is filled: is answered at once
  rig_expect(rig, 0, "answer 2 last e0#6", "- hello e0#5 reconnecting", "- final e0#3 1-0-a One.",
             "- partial e0#4 1-0-b tw", NULL);
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 6, "1-0-b", "Two.");
  rig_remote_say(rig, VC_MESSAGE_END, "demo", E0, 7, NULL, "publisher_left");
  rig_expect(rig, 0, "live final e0#6 1-0-b Two.", "live end e0#7  publisher_left", NULL);
  rig_leave(rig, "demo", 0, 1);
  rig_expect_watcher(rig, NULL);
  rig_leave(rig, "demo", 0, 2);
  rig_expect_watcher(rig, "unwatch demo", NULL);
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 8, "1-0-c", "?"); // was on its way
  assert_int_equal(rig_count(rig, "ledger.remote_strays_total"), 1);
}

static void test_what_came_twice_is_shown_once(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_skip(rig, 0);
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 3, "1-0-a", "One.");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0 - 5, 9, "1-0-a", "Older.");
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0, 0, NULL, "live");
  rig_expect(rig, 0, NULL);
  assert_int_equal(rig_count(rig, "ledger.remote_strays_total"), 2);
}

static void test_a_join_without_redis_is_told_unknown(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  rig_pass_ms(rig, 299);
  rig_expect(rig, 0, NULL);
  rig_pass_ms(rig, 1);
  rig_expect(rig, 0, "answer 1 last e-#1", "- hello e-#0 unknown", NULL);
  rig_remote(rig, VC_REMOTE_AWAY, "", 0, 0);
  rig_join(rig, "demo"); // now it is not waited for
  rig_expect(rig, 0, "answer 2 last e-#1", "- hello e-#0 unknown", NULL);
  rig_remote(rig, VC_REMOTE_BACK, "", 0, 0);
  rig_remote(rig, VC_REMOTE_FILLED, "demo", 0, 0);
  rig_expect(rig, 0, "live status e-#0 idle", NULL);
}

static void test_those_told_unknown_get_what_there_is(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  rig_join_since(rig, "demo", 0, E0, 3);
  rig_pass_ms(rig, 300);
  rig_expect(rig, 0, "answer 1 last e-#1", "- hello e-#0 unknown", "answer 2 last e0#4",
             "- hello e-#0 unknown", NULL);
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 3, "1-0-a", "One.");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 5, "1-0-b", "Two.");
  rig_expect(rig, 0, NULL); // not before it is whole
  rig_remote(rig, VC_REMOTE_FILLED, "demo", E0, 0);
  rig_expect(rig, 0, "live! hello e0#5 live", NULL);
  rig_catch_up(rig, "demo", 1, 0, 0);
  rig_catch_up(rig, "demo", 2, E0, 3);
  rig_expect(rig, 0, "answer 1 last e0#6", "- hello e0#5 live", "- final e0#3 1-0-a One.",
             "- final e0#5 1-0-b Two.", "- status e0#5 live", "answer 2 last e0#6",
             "- final e0#5 1-0-b Two.", "- status e0#5 live", NULL);
}

// It comes from a node that had heard more: nothing of that is missing.
static void test_a_viewer_that_is_ahead_misses_nothing(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_skip(rig, 0);
  rig_join_since(rig, "demo", 0, E0, 6);
  rig_expect(rig, 0, "answer 2 last e0#7", "- hello e0#3 live", NULL);
  rig_catch_up(rig, "demo", 2, E0, 6);
  rig_expect(rig, 0, "answer 2 last e0#7", NULL);
}

static void test_a_newer_epoch_is_asked_for(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_skip(rig, 0);
  rig_join_since(rig, "demo", 0, E0 + 9, 1);
  rig_expect_watcher(rig, "unwatch demo", "watch demo e0#3", NULL);
  rig_expect(rig, 0, NULL);
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0 + 9, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0 + 9, 2, "1-0-a", "New.");
  rig_remote(rig, VC_REMOTE_FILLED, "demo", E0 + 9, 0);
  // Who watched goes on by itself.
  rig_expect(rig, 0, "live hello e9#0 live", "live final e9#2 1-0-a New.", "answer 2 last e9#3",
             "- hello e9#2 live", "- final e9#2 1-0-a New.", NULL);
}

static void test_a_position_that_nobody_holds_is_a_gap(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_skip(rig, 0);
  rig_join_since(rig, "demo", 0, E0 + 9, 1);
  rig_remote(rig, VC_REMOTE_FILLED, "demo", E0, 0);
  rig_expect(rig, 0, "answer 2 last e0#4", "- hello e0#3 live", "- gap e9 2-0",
             "- final e0#3 1-0-a One.", NULL);
}

static void test_what_is_lost_for_good_is_a_gap(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_skip(rig, 0);
  rig_remote_gap(rig, "demo", E0, 3, 8);
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 10, "1-0-d", "Four.");
  rig_expect(rig, 0, "live! hello e0#8 live", "live final e0#10 1-0-d Four.", NULL);
  rig_catch_up(rig, "demo", 1, E0, 3);
  rig_expect(rig, 0, "answer 1 last e0#11", "- gap e0 4-8", "- hello e0#10 live",
             "- final e0#10 1-0-d Four.", NULL);
  assert_int_equal(rig_count(rig, "ledger.remote_gaps_total"), 1);
}

// What came before it and behind it is kept, until there is a second.
static void test_what_is_kept_has_a_hole_in_it(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_remote_gap(rig, "demo", E0, 3, 8);
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 10, "1-0-d", "Four.");
  rig_skip(rig, 0);
  rig_join(rig, "demo");
  rig_join_since(rig, "demo", 0, E0, 3);
  rig_join_since(rig, "demo", 0, E0, 8);
  rig_expect(rig, 0, "answer 2 last e0#11", "- hello e0#10 live", "- final e0#3 1-0-a One.",
             "- gap e0 4-8", "- final e0#10 1-0-d Four.", "answer 3 last e0#11",
             "- hello e0#10 live", "- gap e0 4-8", "- final e0#10 1-0-d Four.",
             "answer 4 last e0#11", "- hello e0#10 live", "- final e0#10 1-0-d Four.", NULL);
  rig_remote_gap(rig, "demo", E0, 10, 20);
  rig_skip(rig, 0);
  rig_join_since(rig, "demo", 0, E0, 0);
  rig_expect(rig, 0, "answer 5 last e0#21", "- hello e0#20 live", "- gap e0 1-8",
             "- final e0#10 1-0-d Four.", "- gap e0 11-20", NULL);
}

// Its last stands behind a hole, and nothing behind that.
static void test_a_hole_at_the_end(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_remote_gap(rig, "demo", E0, 3, 8);
  rig_skip(rig, 0);
  rig_join(rig, "demo");
  rig_catch_up(rig, "demo", 1, E0, 3);
  rig_catch_up(rig, "demo", 1, E0, 8);
  rig_expect(rig, 0, "answer 2 last e0#9", "- hello e0#8 live", "- final e0#3 1-0-a One.",
             "- gap e0 4-8", "answer 1 last e0#9", "- gap e0 4-8", "- hello e0#8 live",
             "answer 1 last e0#9", NULL);
}

// Two that nothing stands between are one.
static void test_a_hole_grows(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_remote_gap(rig, "demo", E0, 3, 8);
  rig_remote_gap(rig, "demo", E0, 8, 12);
  rig_skip(rig, 0);
  rig_join(rig, "demo");
  rig_expect(rig, 0, "answer 2 last e0#13", "- hello e0#12 live", "- final e0#3 1-0-a One.",
             "- gap e0 4-12", NULL);
}

static void with_no_past(struct rig *rig)
{
  rig_with_fleet(rig);
  rig->options.history_on_join = 0;
}

static void test_who_asks_for_nothing_of_the_past_is_told_no_hole(void **state)
{
  struct rig *rig = rig_create(with_no_past);
  watch(rig);
  rig_remote_gap(rig, "demo", E0, 3, 8);
  rig_skip(rig, 0);
  rig_join(rig, "demo");
  rig_expect(rig, 0, "answer 2 last e0#9", "- hello e0#8 live", NULL);
  rig_destroy(rig);
}

static void with_two_finals(struct rig *rig)
{
  rig_with_fleet(rig);
  rig->options.history_finals = 2;
}

// What stood before the hole has given way: one gap is told, not two.
static void test_a_hole_at_the_beginning(void **state)
{
  struct rig *rig = rig_create(with_two_finals);
  watch(rig);
  rig_remote_gap(rig, "demo", E0, 3, 8);
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 10, "1-0-d", "Four.");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 11, "1-0-e", "Five.");
  rig_skip(rig, 0);
  rig_join_since(rig, "demo", 0, E0, 0);
  rig_expect(rig, 0, "answer 2 last e0#12", "- hello e0#11 live", "- gap e0 1-8",
             "- final e0#10 1-0-d Four.", "- final e0#11 1-0-e Five.", NULL);
  rig_destroy(rig);
}

// A stream that was flushed under its owner: the rest of the epoch is gone, and nobody knows how
// much that was.
static void test_the_lost_rest_of_an_epoch_is_a_gap(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_skip(rig, 0);
  rig_remote_gap(rig, "demo", E0, 3, 0);
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0 + 5, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0 + 5, 1, "1-0-a", "New.");
  rig_expect(rig, 0, "live! hello e5#0 live", "live final e5#1 1-0-a New.", NULL);
  rig_join_since(rig, "demo", 0, E0, 2);
  rig_expect(rig, 0, "answer 2 last e5#2", "- hello e5#1 live", "- final e0#3 1-0-a One.",
             "- gap e0 4-0", "- hello e5#1 live", "- final e5#1 1-0-a New.", NULL);
}

// Other nodes said that it is over because they had lost its owner, who said more meanwhile.
static void test_the_lost_rest_of_a_lost_owners_epoch_is_a_gap(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_remote_say(rig, VC_MESSAGE_END, "demo", E0, 9, NULL, "owner_lost");
  rig_skip(rig, 0);
  rig_remote_gap(rig, "demo", E0, 9, 0);
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0 + 5, 0, NULL, "live");
  rig_expect(rig, 0, "live! hello e5#0 live", NULL);
  rig_join_since(rig, "demo", 0, E0, 9);
  rig_expect(rig, 0, "answer 2 last e5#1", "- hello e5#0 live", "- gap e0 10-0",
             "- hello e5#0 live", NULL);
}

static void test_a_claim_after_a_lost_owner_tells_of_the_loss(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_remote_say(rig, VC_MESSAGE_END, "demo", E0, 9, NULL, "owner_lost");
  rig_skip(rig, 0);
  struct vc_session *session = rig_open(rig, "demo");
  rig_remote_owned_late(rig, "demo", E0 + 5);
  rig_expect(rig, 0, "live! hello e5#0 live", NULL);
  rig_join_since(rig, "demo", 0, E0, 9);
  rig_expect(rig, 0, "answer 2 last e5#1", "- hello e5#0 live", "- gap e0 10-0",
             "- hello e5#0 live", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// A partial of another node cannot be numbered again: who is behind it is not led back to it.
static void test_open_partials_of_others_keep_their_numbers(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_remote_say(rig, VC_MESSAGE_PARTIAL, "demo", E0, 4, "1-0-b", "tw");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0, 5, "1-1-c", "Other.");
  rig_skip(rig, 0);
  rig_join(rig, "demo");
  rig_join_since(rig, "demo", 0, E0, 5);
  rig_expect(rig, 0, "answer 2 last e0#6", "- hello e0#5 live", "- final e0#3 1-0-a One.",
             "- partial e0#4 1-0-b tw", "- final e0#5 1-1-c Other.", "answer 3 last e0#6",
             "- hello e0#5 live", NULL);
}

// What is said for it stands behind the partials that others had of it and this node had not.
static void test_a_session_whose_node_is_lost_ends(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_skip(rig, 0);
  rig_remote(rig, VC_REMOTE_OWNER, "demo", 0, 0);
  rig_pass_ms(rig, 4999);
  rig_expect_publisher(rig, NULL);
  rig_pass_ms(rig, 1);
  rig_expect_publisher(rig, "orphan status e0#1000003 reconnecting owner_lost behind e0#3, says #3",
                       NULL);
  rig_expect(rig, 0, NULL); // it is said when it comes back from Redis
  rig_pass_ms(rig, 3000);   // it did not: again
  rig_expect_publisher(rig, "orphan status e0#1000003 reconnecting owner_lost behind e0#3, says #3",
                       NULL);
  rig_remote_say(rig, VC_MESSAGE_STATUS, "demo", E0, 1000003, NULL, "reconnecting");
  rig_pass_ms(rig, 22000);
  rig_expect_publisher(rig, "orphan end e0#2000003  owner_lost behind e0#1000003, says #1000003",
                       NULL);
  rig_remote_say(rig, VC_MESSAGE_END, "demo", E0, 2000003, NULL, "owner_lost");
  rig_expect(rig, 0, "live status e0#1000003 reconnecting", "live end e0#2000003  owner_lost",
             NULL);
  rig_pass_ms(rig, 60000);
  rig_expect_publisher(rig, NULL);
}

static void with_short_resume(struct rig *rig)
{
  rig_with_fleet(rig);
  rig->settings.session_resume_ms = 1000;
}

// Its publisher has less time to come back than it takes to know that a node is lost.
static void test_a_node_is_not_lost_before_it_can_be_known(void **state)
{
  struct rig *rig = rig_create(with_short_resume);
  watch(rig);
  rig_remote(rig, VC_REMOTE_OWNER, "demo", 0, 0);
  rig_pass_ms(rig, 4999);
  rig_expect_publisher(rig, NULL);
  rig_pass_ms(rig, 1);
  rig_expect_publisher(rig, "orphan end e0#1000003  owner_lost behind e0#3, says #3", NULL);
  rig_destroy(rig);
}

static void test_an_owner_that_is_back_is_not_lost(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_remote(rig, VC_REMOTE_OWNER, "demo", 0, 0);
  rig_pass_ms(rig, 4000);
  rig_remote(rig, VC_REMOTE_OWNER, "demo", E0, 0);
  rig_pass_ms(rig, 60000);
  rig_expect_publisher(rig, NULL);
}

// It moved to another node and goes on there: its past here is not that of an ended session.
static void test_a_session_that_moved_keeps_its_history(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_final(rig, session, "a", "Here.");
  rig_join(rig, "demo");
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 7, 0);
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0 + 7, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0 + 7, 1, "1-0-a", "There.");
  rig_remote(rig, VC_REMOTE_FILLED, "demo", E0 + 7, 0);
  rig_pass_ms(rig, (uint64_t)rig->options.session_keep_ms + 1000);
  rig_skip(rig, 0);
  rig_join_since(rig, "demo", 0, E0, 0);
  rig_expect(rig, 0, "answer 2 last e7#2", "- hello e7#1 live", "- final e0#1 1-0-a Here.",
             "- hello e7#1 live", "- final e7#1 1-0-a There.", NULL);
  rig_leave(rig, "demo", 0, 1);
  rig_leave(rig, "demo", 0, 2);
  struct vc_query *query = rig_ask(rig, VC_QUERY_TRANSCRIPT, "demo");
  assert_int_equal(vc_query_status(query), 404); // nobody watches: the stream has it
  vc_query_unref(query);
}

// A newer epoch was to be asked for when the lane was full, and then nobody wanted it any more.
static void test_nobody_waits_for_a_newer_epoch(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  hand_set_capacity(rig->watcher, 0, 1);
  rig_join(rig, "other"); // fills it
  rig_join_since(rig, "demo", 0, E0 + 9, 1);
  rig_leave(rig, "demo", 0, 1);
  rig_leave(rig, "demo", 0, 3);
  rig_expect_watcher(rig, "watch other e-#0", NULL);
  rig_turn(rig);
  rig_expect_watcher(rig, "unwatch demo", NULL);
  rig_turn(rig);
  struct vc_query *query = rig_ask(rig, VC_QUERY_BEGAN, "demo");
  assert_int_equal(vc_query_status(query), 404); // it is gone
  vc_query_unref(query);
}

// One that came late and left before Redis answered is none that waits.
static void test_who_left_hides_nobody_that_was_told_unknown(void **state)
{
  struct rig *rig = *state;
  rig_join(rig, "demo");
  rig_pass_ms(rig, 300);
  rig_join(rig, "demo");
  rig_leave(rig, "demo", 0, 2);
  rig_remote(rig, VC_REMOTE_FILLED, "demo", 0, 0);
  rig_expect(rig, 0, "answer 1 last e-#1", "- hello e-#0 unknown", "live status e-#0 idle", NULL);
}

static void test_another_nodes_erasure(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_remote(rig, VC_REMOTE_ERASED, "demo", E0, 0); // not while it is on
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_remote(rig, VC_REMOTE_ERASED, "demo", E0 - 1, 0); // it began after
  struct vc_query *query = rig_ask(rig, VC_QUERY_TRANSCRIPT, "demo");
  assert_int_equal(vc_query_status(query), 200);
  vc_query_unref(query);
  rig_remote(rig, VC_REMOTE_ERASED, "demo", E0, 0);
  query = rig_ask(rig, VC_QUERY_TRANSCRIPT, "demo");
  assert_int_equal(vc_query_status(query), 404);
  vc_query_unref(query);
}

// A session that has begun again when it is heard: what was before is gone from it, and is not
// given to Redis again.
static void test_an_erasure_of_what_was_before(void **state)
{
  struct rig *rig = *state;
  struct vc_session *session = begin(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_pass_ms(rig, 9);
  session = begin(rig, "demo");
  rig_final(rig, session, "a", "Two.");
  rig_expect_publisher(rig, "message hello e0#0 live", "message final e0#1 1-0-a One.",
                       "message end e0#2  publisher_left", "release demo e0#2",
                       "message hello e9#0 live", "message final e9#1 1-0-a Two.", NULL);
  rig_remote(rig, VC_REMOTE_ERASED, "demo", E0 + 5, 0);
  rig_remote(rig, VC_REMOTE_ASK, "demo", 0, 0);
  rig_expect_publisher(rig, "history demo behind e-#0 last", "- hello e9#0 live",
                       "- final e9#1 1-0-a Two.", NULL);
  rig_join_since(rig, "demo", 0, E0, 1);
  rig_expect(rig, 0, "answer 1 last e9#2", "- hello e9#1 live", "- gap e0 2-0",
             "- final e9#1 1-0-a Two.", NULL);
  struct vc_query *query = rig_ask(rig, VC_QUERY_TRANSCRIPT, "demo");
  assert_true(vc_query_is_complete(query));
  vc_query_unref(query);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// More than are held began before it: those that were forgotten are not missing any more.
static void test_an_erasure_of_what_was_forgotten(void **state)
{
  enum { N = 70 };
  struct rig *rig = *state;
  for (int i = 0; i < N; i++) {
    struct vc_session *session = begin(rig, "demo");
    rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
    rig_pass_ms(rig, 9);
  }
  struct vc_session *session = begin(rig, "demo");
  struct vc_query *query = rig_ask(rig, VC_QUERY_TRANSCRIPT, "demo");
  assert_false(vc_query_is_complete(query));
  vc_query_unref(query);
  rig_remote(rig, VC_REMOTE_ERASED, "demo", E0 + 9 * N - 1, 0);
  query = rig_ask(rig, VC_QUERY_TRANSCRIPT, "demo");
  assert_true(vc_query_is_complete(query));
  vc_query_unref(query);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// And the same of one that is only watched.
static void test_an_erasure_of_what_was_watched_before(void **state)
{
  struct rig *rig = *state;
  watch(rig);
  rig_remote_say(rig, VC_MESSAGE_HELLO, "demo", E0 + 9, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "demo", E0 + 9, 1, "1-0-a", "Two.");
  rig_skip(rig, 0);
  rig_remote(rig, VC_REMOTE_ERASED, "demo", E0 + 5, 0);
  rig_catch_up(rig, "demo", 1, E0, 1);
  rig_expect(rig, 0, "answer 1 last e9#2", "- gap e0 2-0", "- hello e9#1 live",
             "- final e9#1 1-0-a Two.", NULL);
}

// The node that erased has a clock that is ahead.
static void test_what_begins_after_an_erasure_is_not_erased(void **state)
{
  struct rig *rig = *state;
  rig_remote(rig, VC_REMOTE_ERASED, "demo", E0 + 5000, 0); // nothing of it is held here
  struct vc_session *session = rig_open(rig, "demo");
  rig_expect_watcher(rig, "claim demo e-#0 floor e5001", NULL);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", 0, 0);
  rig_expect_publisher(rig, "message hello e5001#0 live", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// What others say of a time that no clock has is theirs alone: behind it there is no number left
// for the sessions to come.
static void test_numbers_beyond_all_clocks_are_not_gone_on_from(void **state)
{
  struct rig *rig = *state;
  const int64_t last = INT64_C(1) << 53;
  rig_join(rig, "far");
  rig_remote_say(rig, VC_MESSAGE_HELLO, "far", last, 0, NULL, "live");
  rig_remote(rig, VC_REMOTE_FILLED, "far", last, 0);
  rig_remote(rig, VC_REMOTE_ERASED, "far", last, 0);
  struct vc_session *session = rig_open(rig, "demo");
  rig_expect_watcher(rig, "watch far e-#0", "claim demo e-#0 floor e0", NULL);
  rig_remote_say(rig, VC_MESSAGE_HELLO, "far", last, 0, NULL, "live");
  struct vc_session *far = rig_open(rig, "far");
  rig_expect_watcher(rig, "claim far e-#0 floor e0", NULL);
  rig_remote(rig, VC_REMOTE_OWNED, "far", 0, 0);
  rig_expect_publisher(rig, "message hello e0#0 live", NULL);
  rig_close(rig, &far, VC_CLOSE_PUBLISHER_LEFT);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

// Nor does what leaves hardly any number behind it use up those of all sessions.
static void test_the_last_numbers_are_not_gone_on_from_by_others(void **state)
{
  struct rig *rig = *state;
  rig_remote(rig, VC_REMOTE_ERASED, "far", (INT64_C(1) << 51) + 1, 0);
  rig_remote(rig, VC_REMOTE_ERASED, "far", INT64_C(1) << 52, 0);
  struct vc_session *session = rig_open(rig, "demo");
  rig_expect_watcher(rig, "claim demo e-#0 floor e0", NULL);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(test_a_session_is_claimed_before_it_is_numbered),
      TEST(test_a_claim_is_not_waited_for_for_ever),
      TEST(test_more_results_than_may_wait_begin_it),
      TEST(test_a_publisher_that_left_before_the_answer_is_told_whole),
      TEST(test_a_claim_that_was_overtaken_is_made_again),
      TEST(test_one_after_another_before_the_answer),
      TEST(test_one_after_another_at_a_node_that_ends),
      TEST(test_older_epochs_come_before_the_claim_is_answered),
      TEST(test_last_words_of_the_node_before_are_shown),
      TEST(test_a_claim_without_an_answer_is_a_gap),
      TEST(test_who_did_not_say_its_last_in_time_is_a_gap),
      TEST(test_who_is_ahead_of_a_claim_without_an_answer),
      TEST(test_who_is_ahead_of_a_claim),
      TEST(test_a_drained_node_says_no_end),
      TEST(test_another_node_takes_it),
      TEST(test_an_older_epoch_takes_nothing),
      TEST(test_what_is_taken_is_let_go_of_in_time),
      TEST(test_who_came_behind_the_taking_takes_it_back),
      TEST(test_who_takes_it_back_has_missed_something),
      TEST(test_who_began_before_does_not_take_it_back_later),
      TEST(test_what_was_taken_back_ends),
      TEST(test_who_leaves_what_was_taken_does_not_end_it),
      TEST(test_who_leaves_late_what_was_taken_does_not_end_it),
      TEST(test_who_is_ahead_by_what_is_not_kept),
      TEST(test_who_began_before_the_taking_does_not_take_it_back),
      TEST(test_who_came_behind_the_taking_is_taken_from_too),
      TEST(test_who_joins_when_it_was_let_go_of_takes_it_back),
      TEST(test_who_takes_it_back_is_not_closed_late),
      TEST(test_what_is_taken_is_closed_when_there_is_room),
      TEST(test_a_drained_node_says_so_of_what_was_taken),
      TEST(test_a_drained_node_says_so_of_what_was_let_go_of),
      TEST(test_a_fenced_epoch_goes_on_as_a_new_one),
      TEST(test_an_end_that_others_said_first_is_said_again),
      TEST(test_an_end_behind_all_words_tells_of_no_loss),
      TEST(test_what_has_not_ended_here_is_not_ended_again),
      TEST(test_a_loss_that_was_refused_is_told_again),
      TEST(test_who_is_ahead_of_what_was_refused),
      TEST(test_what_redis_missed_is_given_again),
      TEST(test_what_redis_missed_is_given_after_the_end),
      TEST(test_a_long_history_is_given_in_pieces),
      TEST(test_a_full_lane_costs_messages_and_no_turns),
      TEST(test_a_join_waits_for_what_redis_holds),
      TEST(test_what_came_twice_is_shown_once),
      TEST(test_a_join_without_redis_is_told_unknown),
      TEST(test_those_told_unknown_get_what_there_is),
      TEST(test_a_viewer_that_is_ahead_misses_nothing),
      TEST(test_a_newer_epoch_is_asked_for),
      TEST(test_a_position_that_nobody_holds_is_a_gap),
      TEST(test_what_is_lost_for_good_is_a_gap),
      TEST(test_what_is_kept_has_a_hole_in_it),
      TEST(test_a_hole_at_the_end),
      TEST(test_a_hole_grows),
      TEST(test_who_asks_for_nothing_of_the_past_is_told_no_hole),
      TEST(test_a_hole_at_the_beginning),
      TEST(test_the_lost_rest_of_an_epoch_is_a_gap),
      TEST(test_the_lost_rest_of_a_lost_owners_epoch_is_a_gap),
      TEST(test_a_claim_after_a_lost_owner_tells_of_the_loss),
      TEST(test_open_partials_of_others_keep_their_numbers),
      TEST(test_a_session_whose_node_is_lost_ends),
      cmocka_unit_test(test_a_node_is_not_lost_before_it_can_be_known),
      TEST(test_an_owner_that_is_back_is_not_lost),
      TEST(test_a_session_that_moved_keeps_its_history),
      TEST(test_nobody_waits_for_a_newer_epoch),
      TEST(test_who_left_hides_nobody_that_was_told_unknown),
      TEST(test_another_nodes_erasure),
      TEST(test_an_erasure_of_what_was_before),
      TEST(test_an_erasure_of_what_was_forgotten),
      TEST(test_an_erasure_of_what_was_watched_before),
      TEST(test_what_begins_after_an_erasure_is_not_erased),
      TEST(test_numbers_beyond_all_clocks_are_not_gone_on_from),
      TEST(test_the_last_numbers_are_not_gone_on_from_by_others),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
