// A room from its webhook to its egress, step by step, and what happens when a step fails or is
// another node's.
#include "rig.h"

#include <stdio.h>
#include <string.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static struct rig rig;

static int set_up(void **state)
{
  (void)state;
  rig_start(&rig, "0");
  return 0;
}

static int tear_down(void **state)
{
  (void)state;
  rig_stop(&rig);
  return 0;
}

#define EGRESS(id, status)                                                                         \
  "{\"egress_id\":\"" id "\",\"room_id\":\"RM_1\",\"room_name\":\"r\",\"status\":\"EGRESS_" status \
  "\",\"error\":\"it has its reasons\",\"room_composite\":{\"audio_only\":true},"                  \
  "\"stream_results\":[{\"url\":\"" RIG_ADDRESS "/{r...r}\"}]}"
#define ONE(row) "{\"items\":[" row "]}"
#define ROOM "{\"rooms\":[{\"sid\":\"RM_1\",\"name\":\"r\"}]}"
#define NOT_FOUND "{\"code\":\"not_found\",\"msg\":\"requested room does not exist\"}"

static void bring(const char *event, const char *id, int64_t created_s)
{
  char body[512];
  snprintf(body, sizeof body,
           "{\"event\":\"%s\",\"room\":{\"sid\":\"RM_1\",\"name\":\"r\"},\"id\":\"%s\","
           "\"createdAt\":\"%lld\"}",
           event, id, (long long)created_s);
  assert_int_equal(rig_bring_good(&rig, body), 200);
}

static void begin_room(void)
{
  bring("room_started", "EV_1", RIG_NOW_S);
}

// A turn is over, of what has been brought and of what was due: the second webhook that is brought
// now is handled after it.
static void settle(void)
{
  for (int i = 0; i < 2; i++) {
    uint64_t n = rig_counter(&rig, "livekit.webhooks_malformed_total");
    assert_int_equal(rig_bring_good(&rig, "{}"), 200);
    rig_await_counter(&rig, "livekit.webhooks_malformed_total", n + 1);
  }
}

static int n_calls(int method)
{
  pthread_mutex_lock(&rig.mutex);
  int n = rig.n_calls[method];
  pthread_mutex_unlock(&rig.mutex);
  return n;
}

static void expect_calls(int rooms, int egresses, int starts, int stops)
{
  assert_int_equal(n_calls(RIG_LIST_ROOMS), rooms);
  assert_int_equal(n_calls(RIG_LIST_EGRESS), egresses);
  assert_int_equal(n_calls(RIG_START), starts);
  assert_int_equal(n_calls(RIG_STOP), stops);
}

static void test_begun(void **state)
{
  (void)state;
  rig_answer(&rig, RIG_START, 200, EGRESS("EG_1", "STARTING"));
  begin_room();
  rig_await_counter(&rig, "livekit.egress_starts_total", 1);
  rig_expect_last(&rig, "\"urls\":[\"" RIG_ADDRESS "/r\"]");
  rig_answer(&rig, RIG_LIST_EGRESS, 200, ONE(EGRESS("EG_1", "ACTIVE")));
  rig_pass(&rig, 2000);
  rig_await_calls(&rig, RIG_LIST_EGRESS, 2);
  rig_expect_last(&rig, "{\"room_name\":\"r\"}");
  rig_pass(&rig, 600000);
  settle();
  expect_calls(0, 2, 1, 0);
}

static void test_has_one(void **state)
{
  (void)state;
  rig_answer(&rig, RIG_LIST_EGRESS, 200, ONE(EGRESS("EG_1", "ACTIVE")));
  begin_room();
  rig_await_calls(&rig, RIG_LIST_EGRESS, 1);
  rig_pass(&rig, 600000);
  settle();
  expect_calls(0, 1, 0, 0);
}

static void test_webhook_that_comes_late(void **state)
{
  (void)state;
  rig_answer(&rig, RIG_LIST_ROOMS, 200, "{\"rooms\":[]}");
  bring("room_started", "EV_1", RIG_NOW_S - 10);
  rig_await_calls(&rig, RIG_LIST_ROOMS, 1);
  rig_expect_last(&rig, "{\"names\":[\"r\"]}");
  rig_pass(&rig, 600000);
  settle();
  expect_calls(1, 0, 0, 0);
  rig_answer(&rig, RIG_LIST_ROOMS, 200, ROOM);
  rig_answer(&rig, RIG_START, 200, EGRESS("EG_1", "STARTING"));
  bring("room_started", "EV_2", RIG_NOW_S - 10);
  rig_await_counter(&rig, "livekit.egress_starts_total", 1);
  expect_calls(2, 1, 1, 0);
}

static void test_webhook_of_no_time(void **state)
{
  (void)state;
  rig_answer(&rig, RIG_LIST_ROOMS, 200, "{\"rooms\":[]}");
  bring("room_started", "EV_1", INT64_MIN);
  rig_await_calls(&rig, RIG_LIST_ROOMS, 1);
}

static void test_another_node_begins_it(void **state)
{
  (void)state;
  rig_set_others(&rig, "lk:room:RM_1:");
  begin_room();
  rig_await_calls(&rig, RIG_LIST_EGRESS, 1);
  settle();
  rig_pass(&rig, 19999);
  settle();
  expect_calls(0, 1, 0, 0);
  rig_expect_claimed(&rig, "lk:event:EV_1 lk:room:RM_1: ");
  // It has died over it.
  rig_set_others(&rig, "");
  rig_answer(&rig, RIG_LIST_ROOMS, 200, ROOM);
  rig_answer(&rig, RIG_START, 200, EGRESS("EG_1", "STARTING"));
  rig_pass(&rig, 1);
  rig_await_counter(&rig, "livekit.egress_starts_total", 1);
  expect_calls(1, 2, 1, 0);
}

// One claim for each egress: who has begun the first does not own the second.
static void test_claim_names_the_one_before(void **state)
{
  (void)state;
  rig_set_others(&rig, "");
  rig_answer(&rig, RIG_LIST_EGRESS, 200, ONE(EGRESS("EG_7", "FAILED")));
  rig_answer(&rig, RIG_START, 200, EGRESS("EG_8", "STARTING"));
  begin_room();
  rig_await_counter(&rig, "livekit.egress_starts_total", 1);
  rig_expect_claimed(&rig, "lk:event:EV_1 lk:room:RM_1:EG_7 ");
}

// It holds from when it was asked for: Redis may have had it so early.
static void test_claim_that_takes_long(void **state)
{
  (void)state;
  rig_set_others(&rig, "");
  rig_answer(&rig, RIG_LIST_ROOMS, 200, ROOM);
  rig_answer(&rig, RIG_START, 503, "{\"code\":\"unavailable\",\"msg\":\"no egress\"}");
  rig_set_claim_ms(&rig, 16000);
  begin_room();
  rig_await_counter(&rig, "livekit.egress_failures_total", 1);
  rig_set_claim_ms(&rig, 0);
  rig_pass(&rig, 1000);
  rig_await_counter(&rig, "livekit.egress_failures_total", 2);
  rig_pass(&rig, 2000);
  rig_await_counter(&rig, "livekit.egress_failures_total", 3);
  rig_pass(&rig, 4000);
  rig_await_counter(&rig, "livekit.egress_failures_total", 4);
  rig_expect_claimed(&rig, "lk:event:EV_1 lk:room:RM_1: ");
  rig_pass(&rig, 8000);
  rig_await_counter(&rig, "livekit.egress_failures_total", 5);
  rig_expect_claimed(&rig, "lk:event:EV_1 lk:room:RM_1: lk:room:RM_1: ");
}

static void test_starts_that_fail(void **state)
{
  (void)state;
  rig_set_others(&rig, "");
  rig_answer(&rig, RIG_LIST_ROOMS, 200, ROOM);
  rig_answer(&rig, RIG_START, 503, "{\"code\":\"unavailable\",\"msg\":\"no egress\"}");
  begin_room();
  rig_await_degraded(&rig, "livekit refused: 503 unavailable: no egress");
  uint64_t wait_ms = 1000;
  for (int n = 1; n < 9; n++) {
    rig_pass(&rig, wait_ms - 1);
    settle();
    expect_calls(n - 1 < 3 ? 0 : n - 3, n, n, 0);
    rig_pass(&rig, 1);
    rig_await_calls(&rig, RIG_START, n + 1);
    rig_await_counter(&rig, "livekit.egress_failures_total", (uint64_t)n + 1);
    wait_ms = wait_ms * 2 < 60000 ? wait_ms * 2 : 60000;
  }
  rig_answer(&rig, RIG_START, 404, NOT_FOUND); // it is over: no trouble any more
  rig_pass(&rig, wait_ms);
  rig_await_degraded(&rig, "");
  rig_pass(&rig, 600000);
  settle();
  rig_await_calls(&rig, RIG_START, 10);
}

static void test_egress_that_fails_at_once(void **state)
{
  (void)state;
  rig_answer(&rig, RIG_START, 200, EGRESS("EG_1", "STARTING"));
  begin_room();
  rig_await_counter(&rig, "livekit.egress_starts_total", 1);
  rig_answer(&rig, RIG_LIST_EGRESS, 200, ONE(EGRESS("EG_1", "FAILED")));
  rig_answer(&rig, RIG_LIST_ROOMS, 200, ROOM);
  rig_pass(&rig, 2000);
  rig_await_degraded(&rig, "it has its reasons");
  expect_calls(0, 2, 1, 0);
  rig_pass(&rig, 1000);
  rig_await_counter(&rig, "livekit.egress_starts_total", 2);
}

#define ENDS "{\"code\":\"failed_precondition\",\"msg\":\"it ends\"}"

static void test_one_too_many(void **state)
{
  (void)state;
  rig_answer(&rig, RIG_STOP, 412, ENDS);
  rig_answer(&rig, RIG_START, 200, EGRESS("EG_2", "STARTING"));
  begin_room();
  rig_await_counter(&rig, "livekit.egress_starts_total", 1);
  rig_answer(&rig, RIG_LIST_EGRESS, 200,
             ONE(EGRESS("EG_1", "ACTIVE") "," EGRESS("EG_2", "ACTIVE")));
  rig_pass(&rig, 2000);
  rig_await_calls(&rig, RIG_STOP, 1);
  rig_expect_last(&rig, "{\"egress_id\":\"EG_2\"}");
  // It is looked again, and both are still there.
  rig_await_counter(&rig, "livekit.call_failures_total", 1);
  settle();
  rig_pass(&rig, 1000);
  rig_await_counter(&rig, "livekit.call_failures_total", 2);
  settle();
  rig_answer(&rig, RIG_LIST_EGRESS, 200,
             ONE(EGRESS("EG_1", "ACTIVE") "," EGRESS("EG_2", "COMPLETE")));
  rig_pass(&rig, 1000);
  rig_await_calls(&rig, RIG_LIST_EGRESS, 4);
  rig_pass(&rig, 600000);
  settle();
  expect_calls(0, 4, 1, 2);
  assert_int_equal(rig_counter(&rig, "livekit.egress_stops_total"), 2);
}

// Both are other nodes', of which one is no more.
static void test_one_too_many_of_others(void **state)
{
  (void)state;
  rig_answer(&rig, RIG_STOP, 412, ENDS);
  rig_answer(&rig, RIG_LIST_EGRESS, 200,
             ONE(EGRESS("EG_2", "ACTIVE") "," EGRESS("EG_1", "ACTIVE")));
  rig_answer(&rig, RIG_LIST_ROOMS, 200, ROOM);
  begin_room();
  rig_await_calls(&rig, RIG_LIST_EGRESS, 1);
  settle();
  rig_pass(&rig, 4999);
  settle();
  expect_calls(0, 1, 0, 0);
  rig_pass(&rig, 1);
  rig_await_calls(&rig, RIG_STOP, 1);
  rig_expect_last(&rig, "{\"egress_id\":\"EG_2\"}");
  rig_await_counter(&rig, "livekit.call_failures_total", 1);
  settle();
  // The other one fails meanwhile: what we stopped was nobody's wish.
  rig_answer(&rig, RIG_LIST_EGRESS, 200,
             ONE(EGRESS("EG_1", "FAILED") "," EGRESS("EG_2", "COMPLETE")));
  rig_answer(&rig, RIG_START, 200, EGRESS("EG_3", "STARTING"));
  rig_pass(&rig, 1000);
  rig_await_counter(&rig, "livekit.egress_starts_total", 1);
}

static void test_answers_that_are_none(void **state)
{
  (void)state;
  rig_answer(&rig, RIG_LIST_ROOMS, 200, ROOM);
  rig_answer(&rig, RIG_LIST_EGRESS, 200, "<html>");
  begin_room();
  rig_await_degraded(&rig, "not a JSON object or array");
  rig_answer(&rig, RIG_LIST_EGRESS, 401, "{\"code\":\"unauthenticated\",\"msg\":\"no\"}");
  rig_pass(&rig, 1000);
  rig_await_degraded(&rig, "livekit refused: 401 unauthenticated: no");
  rig_answer(&rig, RIG_LIST_EGRESS, 200, "{}");
  rig_answer(&rig, RIG_START, 200, "{}");
  rig_pass(&rig, 2000);
  rig_await_degraded(&rig, "an egress has no id");
  rig_answer(&rig, RIG_START, 502, "bad gateway");
  rig_pass(&rig, 4000);
  rig_await_degraded(&rig, "livekit refused: 502");
  rig_answer(&rig, RIG_LIST_ROOMS, 200, "7");
  rig_pass(&rig, 8000);
  rig_await_degraded(&rig, "not a JSON object or array");
  bring("room_finished", "EV_2", RIG_NOW_S);
  rig_await_degraded(&rig, "");
}

static void test_over_meanwhile(void **state)
{
  (void)state;
  rig_set_others(&rig, "lk:room:RM_1:");
  begin_room();
  rig_await_calls(&rig, RIG_LIST_EGRESS, 1);
  settle();
  bring("room_finished", "EV_2", RIG_NOW_S);
  rig_await_ended(&rig, "r ");
  rig_pass(&rig, 600000);
  settle();
  expect_calls(0, 1, 0, 0);
}

static void test_failed_egress_of_a_room_of_another_node(void **state)
{
  (void)state;
  rig_answer(&rig, RIG_LIST_ROOMS, 200, ROOM);
  rig_answer(&rig, RIG_START, 200, EGRESS("EG_2", "STARTING"));
  assert_int_equal(
      rig_bring_good(&rig, "{\"event\":\"egress_ended\",\"egressInfo\":{\"egressId\":\"EG_1\","
                           "\"roomName\":\"r\",\"roomId\":\"RM_1\",\"status\":\"EGRESS_FAILED\","
                           "\"streamResults\":[{\"url\":\"" RIG_ADDRESS "/{r...r}\"}]}}"),
      200);
  settle();
  expect_calls(0, 0, 0, 0);
  rig_pass(&rig, 1000);
  rig_await_counter(&rig, "livekit.egress_starts_total", 1);
  expect_calls(1, 1, 1, 0);
  // Not ours, or as somebody wanted.
  assert_int_equal(
      rig_bring_good(&rig, "{\"event\":\"egress_ended\",\"egressInfo\":{\"egressId\":\"EG_3\","
                           "\"roomName\":\"s\",\"status\":\"EGRESS_FAILED\"}}"),
      200);
  assert_int_equal(
      rig_bring_good(&rig, "{\"event\":\"egress_ended\",\"egressInfo\":{\"egressId\":\"EG_4\","
                           "\"roomName\":\"t\",\"status\":\"EGRESS_COMPLETE\","
                           "\"streamResults\":[{\"url\":\"" RIG_ADDRESS "/{t...t}\"}]}}"),
      200);
  settle();
  rig_pass(&rig, 1000);
  settle();
  expect_calls(1, 1, 1, 0);
}

// LiveKit says that the egress failed while it is still to say what it listed just before.
static void test_failed_egress_that_is_just_listed(void **state)
{
  (void)state;
  rig_answer(&rig, RIG_LIST_EGRESS, 200, ONE(EGRESS("EG_1", "ACTIVE")));
  rig_withhold(&rig, RIG_LIST_EGRESS);
  begin_room();
  rig_await_calls(&rig, RIG_LIST_EGRESS, 1);
  assert_int_equal(
      rig_bring_good(&rig, "{\"event\":\"egress_ended\",\"egressInfo\":{\"egressId\":\"EG_1\","
                           "\"roomName\":\"r\",\"roomId\":\"RM_1\",\"status\":\"EGRESS_FAILED\","
                           "\"streamResults\":[{\"url\":\"" RIG_ADDRESS "/{r...r}\"}]}}"),
      200);
  settle();
  rig_answer(&rig, RIG_LIST_EGRESS, 200, ONE(EGRESS("EG_1", "FAILED")));
  rig_answer(&rig, RIG_LIST_ROOMS, 200, ROOM);
  rig_answer(&rig, RIG_START, 200, EGRESS("EG_2", "STARTING"));
  rig_let_go(&rig);
  while (n_calls(RIG_LIST_ROOMS) == 0) { // whether it is on is asked again
    rig_pass(&rig, 100);
    settle();
  }
  rig_await_counter(&rig, "livekit.egress_starts_total", 1);
  expect_calls(1, 2, 1, 0);
  // That was all the news.
  rig_answer(&rig, RIG_LIST_EGRESS, 200, ONE(EGRESS("EG_2", "ACTIVE")));
  rig_pass(&rig, 2000);
  rig_await_calls(&rig, RIG_LIST_EGRESS, 3);
  for (int i = 0; i < 20; i++) {
    settle();
    rig_pass(&rig, 1000);
  }
  settle();
  expect_calls(1, 3, 1, 0);
}

// --- polls

static int set_up_poll(void **state)
{
  (void)state;
  rig_start(&rig, "30000");
  return 0;
}

static void test_poll_finds(void **state)
{
  (void)state;
  rig_await_counter(&rig, "livekit.polls_total", 1); // at the start
  rig_expect_last(&rig, "{\"active\":true}");
  rig_answer(&rig, RIG_LIST_ROOMS, 200, ROOM);
  rig_answer(&rig, RIG_START, 200, EGRESS("EG_1", "STARTING"));
  rig_pass(&rig, 29000);
  settle();
  expect_calls(1, 1, 0, 0);
  rig_pass(&rig, 1000);
  rig_await_counter(&rig, "livekit.egress_starts_total", 1);
  expect_calls(2, 3, 1, 0);
  rig_answer(&rig, RIG_LIST_EGRESS, 200, ONE(EGRESS("EG_1", "ACTIVE")));
  rig_pass(&rig, 2000);
  rig_await_calls(&rig, RIG_LIST_EGRESS, 4);
  rig_pass(&rig, 28000);
  rig_await_counter(&rig, "livekit.polls_total", 3);
  expect_calls(3, 5, 1, 0);
}

static void test_poll_finds_one_too_many(void **state)
{
  (void)state;
  rig_await_counter(&rig, "livekit.polls_total", 1);
  rig_answer(&rig, RIG_LIST_ROOMS, 200, ROOM);
  rig_answer(&rig, RIG_LIST_EGRESS, 200,
             ONE(EGRESS("EG_2", "ACTIVE") "," EGRESS("EG_1", "ACTIVE")));
  rig_pass(&rig, 30000);
  rig_await_calls(&rig, RIG_LIST_EGRESS, 3);
  settle();
  rig_pass(&rig, 5000);
  rig_await_calls(&rig, RIG_STOP, 1);
  rig_expect_last(&rig, "{\"egress_id\":\"EG_2\"}");
}

static void test_another_node_polls(void **state)
{
  (void)state;
  rig_await_counter(&rig, "livekit.polls_total", 1);
  rig_set_others(&rig, "lk:poll");
  rig_pass(&rig, 31000);
  settle();
  rig_pass(&rig, 31000);
  settle();
  expect_calls(1, 1, 0, 0);
  rig_set_others(&rig, "");
  rig_pass(&rig, 31000);
  rig_await_calls(&rig, RIG_LIST_EGRESS, 2);
}

// A webhook's and a poll's in one turn: each was waited for, the thread does not hang.
static void test_claims_of_one_turn(void **state)
{
  (void)state;
  rig_await_counter(&rig, "livekit.polls_total", 1);
  rig_pass(&rig, 28000);
  settle();
  rig_set_claim_ms(&rig, 3000);
  begin_room();
  rig_await_counter(&rig, "livekit.polls_total", 2);
  assert_int_equal(rig_n_stuck(&rig), 0);
}

static void test_poll_that_fails(void **state)
{
  (void)state;
  rig_await_counter(&rig, "livekit.polls_total", 1);
  rig_answer(&rig, RIG_LIST_ROOMS, 500, NULL);
  rig_pass(&rig, 31000);
  rig_await_degraded(&rig, "livekit refused: 500");
  rig_answer(&rig, RIG_LIST_ROOMS, 200, NULL);
  rig_answer(&rig, RIG_LIST_EGRESS, 200, "{");
  rig_pass(&rig, 31000);
  rig_await_degraded(&rig, "not a JSON object or array");
  assert_int_equal(rig_counter(&rig, "livekit.poll_failures_total"), 2);
  rig_answer(&rig, RIG_LIST_EGRESS, 200, NULL);
  rig_pass(&rig, 31000);
  rig_await_degraded(&rig, "");
}

#define TEST(function, its_set_up) cmocka_unit_test_setup_teardown(function, its_set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(test_begun, set_up),
      TEST(test_has_one, set_up),
      TEST(test_webhook_that_comes_late, set_up),
      TEST(test_webhook_of_no_time, set_up),
      TEST(test_another_node_begins_it, set_up),
      TEST(test_claim_names_the_one_before, set_up),
      TEST(test_claim_that_takes_long, set_up),
      TEST(test_starts_that_fail, set_up),
      TEST(test_egress_that_fails_at_once, set_up),
      TEST(test_one_too_many, set_up),
      TEST(test_one_too_many_of_others, set_up),
      TEST(test_answers_that_are_none, set_up),
      TEST(test_over_meanwhile, set_up),
      TEST(test_failed_egress_of_a_room_of_another_node, set_up),
      TEST(test_failed_egress_that_is_just_listed, set_up),
      TEST(test_poll_finds, set_up_poll),
      TEST(test_poll_finds_one_too_many, set_up_poll),
      TEST(test_another_node_polls, set_up_poll),
      TEST(test_claims_of_one_turn, set_up_poll),
      TEST(test_poll_that_fails, set_up_poll),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
