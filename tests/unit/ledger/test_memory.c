// Every allocation of the ledger fails once, and a run of them from each one on: nothing breaks or
// leaks, and when there is memory again the ledger serves as before.
#include "no_memory.h"
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/base/log.h>

#define E0 RIG_UNIX_MS

static void small(struct rig *rig)
{
  rig->options.history_finals = 6;
  rig->options.history_max_bytes = 20000;
  rig->options.dedup_window = 8;
}

static void ask(struct rig *rig, enum vc_query_kind kind, const char *slug)
{
  struct vc_query *query = rig_ask(rig, kind, slug);
  (void)vc_query_status(query);
  vc_query_unref(query);
}

static void talk(struct rig *rig, struct vc_session *session)
{
  char id[16];
  for (int i = 0; i < 12; i++) {
    snprintf(id, sizeof id, "%d", i);
    rig_partial(rig, session, id, "one");
    rig_partial(rig, session, id, "one two");
    rig_final(rig, session, id, "One two.");
  }
  rig_partial(rig, session, "open", "three");
  rig_partial(rig, session, "gone", "four");
  rig_retract(rig, session, "gone");
  rig_state(rig, session, VC_STATE_STT_DOWN, "401");
}

// Two more who speak at once, one of them with a name that must be made plain.
static void talk_beside(struct rig *rig)
{
  struct vc_session *ada = rig_open_of(rig, "demo", "Ada");
  struct vc_session *bob = rig_open_of(rig, "demo", "Bob B.");
  atomic_store(&ada->first_audio_ns, rig->now_ns);
  atomic_store(&bob->first_audio_ns, rig->now_ns + 1000000);
  rig_partial(rig, bob, "0", "one");
  rig_partial(rig, ada, "0", "one");
  rig_final(rig, bob, "0", "One.");
  rig_close(rig, &ada, VC_CLOSE_PUBLISHER_LEFT);
  rig_close(rig, &bob, VC_CLOSE_PUBLISHER_LEFT);
}

static void live_a_life(struct rig *rig)
{
  uint64_t viewer = rig_join(rig, "demo");
  struct vc_session *session = rig_open(rig, "demo");
  talk(rig, session);
  talk_beside(rig);
  rig_join_since(rig, "demo", 1, E0, 1);
  hand_set_capacity(rig->broadcast, 0, 0);
  hand_set_capacity(rig->journal, 0, 0);
  rig_join_since(rig, "demo", 0, E0 + 5, 1);
  rig_final(rig, session, "late", "Five.");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  hand_set_capacity(rig->broadcast, 0, HAND_UNBOUNDED);
  hand_set_capacity(rig->journal, 0, HAND_UNBOUNDED);
  rig_turn(rig);
  session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "Six.");
  rig_catch_up(rig, "demo", viewer, E0, 3);
  ask(rig, VC_QUERY_SESSIONS, NULL);
  ask(rig, VC_QUERY_TRANSCRIPT, "demo");
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  ask(rig, VC_QUERY_ERASE, "demo");
  rig_leave(rig, "demo", 0, viewer);
}

static void expect_it_serves(struct rig *rig)
{
  rig_turn(rig);
  rig_turn(rig);
  rig_skip(rig, 0);
  struct vc_session *session = rig_open(rig, "after");
  rig_final(rig, session, "a", "Seven.");
  rig_join(rig, "after");
  struct vc_answer *answer = (struct vc_answer *)hand_take(rig->broadcast, 0);
  assert_non_null(answer);
  assert_int_equal(answer->item.kind, VC_ITEM_ANSWER);
  assert_true(answer->is_last);
  assert_int_equal(answer->n_messages, 2);
  vc_item_destroy(&answer->item);
  vc_session_unref(session);
}

// --- with other nodes

static void small_with_fleet(struct rig *rig)
{
  small(rig);
  rig_with_fleet(rig);
}

static void drop_fleet(struct rig *rig)
{
  struct vc_stage *const stages[] = {rig->publisher, rig->watcher};
  struct vc_item *item;
  for (size_t i = 0; i < 2; i++) {
    while ((item = hand_take(stages[i], 0)) != NULL) {
      vc_item_destroy(item);
    }
  }
}

static void hear_others(struct rig *rig)
{
  rig_remote_say(rig, VC_MESSAGE_HELLO, "far", E0, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "far", E0, 2, "1-0-a", "One.");
  rig_remote(rig, VC_REMOTE_FILLED, "far", E0, 0);
  rig_remote_say(rig, VC_MESSAGE_PARTIAL, "far", E0, 3, "1-0-b", "tw");
  rig_remote_gap(rig, "far", E0, 3, 7);
  rig_remote_say(rig, VC_MESSAGE_FINAL, "far", E0, 8, "1-0-c", "Three.");
  rig_remote(rig, VC_REMOTE_OWNER, "far", 0, 0);
}

static void live_among_others(struct rig *rig)
{
  uint64_t viewer = rig_join(rig, "far");
  hear_others(rig);
  rig_join_since(rig, "far", 0, E0 + 9, 1);
  rig_pass_ms(rig, 6000);
  struct vc_session *session = rig_open(rig, "demo");
  rig_final(rig, session, "a", "One.");
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 1, 0);
  talk(rig, session);
  rig_remote(rig, VC_REMOTE_ASK, "demo", 0, 0);
  rig_remote(rig, VC_REMOTE_FENCED, "demo", E0 + 1, 0);
  rig_final(rig, session, "b", "Two.");
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 2, 0);
  rig_remote(rig, VC_REMOTE_TAKEN, "demo", E0 + 3, 0);
  rig_close(rig, &session, VC_CLOSE_TAKEN_OVER);
  rig_leave(rig, "far", 0, viewer);
  rig_pass_ms(rig, 40000);
  drop_fleet(rig);
}

static void expect_it_serves_others(struct rig *rig)
{
  rig_turn(rig);
  rig_turn(rig);
  rig_skip(rig, 0);
  drop_fleet(rig);
  rig_join(rig, "after");
  rig_remote_say(rig, VC_MESSAGE_HELLO, "after", E0, 0, NULL, "live");
  rig_remote_say(rig, VC_MESSAGE_FINAL, "after", E0, 2, "1-0-a", "One.");
  rig_remote(rig, VC_REMOTE_FILLED, "after", E0, 0);
  struct vc_answer *answer = (struct vc_answer *)hand_take(rig->broadcast, 0);
  assert_non_null(answer);
  assert_int_equal(answer->item.kind, VC_ITEM_ANSWER);
  assert_int_equal(answer->n_messages, 2);
  vc_item_destroy(&answer->item);
}

static size_t run_among_others(size_t from, size_t n)
{
  struct rig *rig = rig_create(small_with_fleet);
  memory_fail(from, n);
  live_among_others(rig);
  size_t total = memory_n_allocations();
  memory_fail(0, 0);
  expect_it_serves_others(rig);
  rig_destroy(rig);
  return total;
}

static void test_allocations_among_other_nodes_may_fail(void **state)
{
  (void)state;
  size_t total = run_among_others(0, 0);
  assert_true(total > 100);
  for (size_t from = 0; from < total; from++) {
    run_among_others(from, 1);
  }
  for (size_t from = 0; from < total; from += 3) {
    run_among_others(from, 40);
  }
  run_among_others(0, SIZE_MAX);
}

// The last that the fleet was told is that the slug is let go, of the epoch that it gave or a later
// one: what is of an older one says nothing of this claim.
static void expect_it_is_let_go(struct rig *rig, int64_t epoch)
{
  struct vc_position released = {0, 0};
  struct vc_item *item;
  while ((item = hand_take(rig->publisher, 0)) != NULL) {
    const struct vc_fleet *fleet = (const struct vc_fleet *)item;
    released = fleet->kind == VC_FLEET_RELEASE ? fleet->position : (struct vc_position){.epoch = 0};
    vc_item_destroy(item);
  }
  assert_true(released.epoch >= epoch);
}

static size_t claim_without_memory(size_t from)
{
  struct rig *rig = rig_create(small_with_fleet);
  struct vc_session *session = rig_open(rig, "demo");
  memory_fail(from, 1);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 1, 0);
  size_t total = memory_n_allocations();
  memory_fail(0, 0);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_turn(rig);
  expect_it_is_let_go(rig, E0 + 1);
  session = rig_open(rig, "demo"); // of what there was before, too
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 3, 0);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  session = rig_open(rig, "demo");
  memory_fail(from, 1);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 5, 0);
  memory_fail(0, 0);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_turn(rig);
  expect_it_is_let_go(rig, E0 + 5);
  rig_destroy(rig);
  return total;
}

static void test_a_claim_is_given_up_where_no_session_begins(void **state)
{
  (void)state;
  size_t total = claim_without_memory(SIZE_MAX);
  assert_true(total > 3);
  for (size_t from = 0; from < total; from++) {
    claim_without_memory(from);
  }
}

// A fenced one goes on as it was, unheard.
static void test_a_claim_is_given_up_where_no_epoch_begins(void **state)
{
  (void)state;
  struct rig *rig = rig_create(small_with_fleet);
  struct vc_session *session = rig_open(rig, "demo");
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 1, 0);
  rig_remote(rig, VC_REMOTE_FENCED, "demo", E0 + 1, 0);
  memory_fail(0, SIZE_MAX);
  rig_remote(rig, VC_REMOTE_OWNED, "demo", E0 + 3, 0);
  memory_fail(0, 0);
  rig_close(rig, &session, VC_CLOSE_PUBLISHER_LEFT);
  rig_turn(rig);
  expect_it_is_let_go(rig, E0 + 3);
  rig_destroy(rig);
}

// --- on its own

// Returns: how many allocations there were.
static size_t run(size_t from, size_t n)
{
  struct rig *rig = rig_create(small);
  memory_fail(from, n);
  live_a_life(rig);
  size_t total = memory_n_allocations();
  memory_fail(0, 0);
  expect_it_serves(rig);
  rig_destroy(rig);
  return total;
}

static void test_each_allocation_may_fail(void **state)
{
  (void)state;
  size_t total = run(0, 0);
  assert_true(total > 100);
  for (size_t from = 0; from < total; from++) {
    run(from, 1);
  }
}

static void test_a_run_of_allocations_may_fail(void **state)
{
  (void)state;
  size_t total = run(0, 0);
  for (size_t from = 0; from < total; from += 3) {
    run(from, 40);
  }
  run(0, SIZE_MAX);
}

static int quiet(void **state)
{
  (void)state;
  if (freopen("/dev/null", "w", stderr) == NULL) { // errors are what it is about
    return -1;
  }
  return 0;
}

int main(void)
{
  memory_count_while(&hand_is_turning);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_each_allocation_may_fail),
      cmocka_unit_test(test_a_run_of_allocations_may_fail),
      cmocka_unit_test(test_allocations_among_other_nodes_may_fail),
      cmocka_unit_test(test_a_claim_is_given_up_where_no_session_begins),
      cmocka_unit_test(test_a_claim_is_given_up_where_no_epoch_begins),
  };
  return cmocka_run_group_tests(tests, quiet, NULL);
}
