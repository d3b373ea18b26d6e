// Slugs that become a node's: two nodes with their whole rooms, whose ledgers the test is.
#include "node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define N_ENTRIES 350

static struct server server;
static struct node a, b;
static const struct vc_position nowhere = {0, 0};

static int set_up(void **state)
{
  server_do(&server, "FLUSHALL");
  node_start(&a, &server, "a", NULL);
  node_start(&b, &server, "b", NULL);
  node_await_ready(&a);
  node_await_ready(&b);
  return 0;
}

static int tear_down(void **state)
{
  node_stop(&a);
  node_stop(&b);
  return 0;
}

static uint64_t now_ms(void)
{
  return vc_clock_now_ns(&vc_clock_system) / VC_NS_PER_MS;
}

static void await_stream(const char *slug, long long n)
{
  uint64_t until = now_ms() + SERVER_PATIENCE_MS;
  while (server_number(&server, "XLEN vc:history:%s", slug) < n) {
    assert_true(now_ms() < until);
  }
}

// a owns "demo", epoch 5, with the entries 0 and 2.
static void begin(void)
{
  node_claim(&a, "demo", nowhere, 5);
  node_expect(&a, "demo owned 5");
  node_say(&a, "demo", 'h', 5, 0, 0);
  node_say(&a, "demo", 'p', 5, 1, 0);
  node_say(&a, "demo", 'f', 5, 2, 0);
  await_stream("demo", 2);
}

// What the node that had it said behind what is known here went with it.
static void test_an_empty_stream_behind_what_is_known(void **state)
{
  node_claim(&a, "demo", (struct vc_position){5, 2}, 6);
  node_expect(&a, "demo owned after loss 6");
}

static void test_an_empty_stream_behind_an_end(void **state)
{
  struct vc_fleet *turn = node_turn(VC_FLEET_CLAIM, "demo", (struct vc_position){5, 2});
  turn->epoch_floor = 6;
  turn->is_over = 1;
  node_put_turn(&a, turn);
  node_expect(&a, "demo owned 6");
}

// The node was cut off when it said its last, and others have said the end for it.
static void test_what_was_said_last_can_no_longer_be_written(void **state)
{
  begin();
  node_release(&a, "demo", 5, 3);
  node_expect(&a, "demo asked 5.2");
  uint64_t until = now_ms() + SERVER_PATIENCE_MS;
  while (server_number(&server, "EXISTS vc:owner:demo") == 1) {
    assert_true(now_ms() < until);
  }
  entry(&server, "demo", 'e', 5, 1000002, 2);
  node_claim(&a, "demo", (struct vc_position){5, 3}, 6);
  node_expect(&a, "demo 5.1000002");
  node_expect(&a, "demo owned after loss 6");
}

static void test_a_slug_of_nobody(void **state)
{
  node_claim(&a, "demo", nowhere, 5);
  node_expect(&a, "demo owned 5");
  assert_int_equal(node_counter(&a, "redis.claims_late_total"), 0);
  node_claim(&a, "old", nowhere, 1);
  node_expect(&a, "old owned 1");
}

static void test_what_is_known_of_it_is_read_first(void **state)
{
  for (int seq = 0; seq < N_ENTRIES; seq++) {
    entry(&server, "demo", seq == 0 ? 'h' : 'f', 5, (uint64_t)seq, seq > 0 ? (uint64_t)seq - 1 : 0);
  }
  node_claim(&a, "demo", (struct vc_position){5, 9}, 1);
  for (int seq = 10; seq < N_ENTRIES; seq++) {
    char said[NODE_MAX_SAID];
    snprintf(said, sizeof said, "demo 5.%d", seq);
    node_expect(&a, said);
  }
  node_expect(&a, "demo owned 6");
}

static void test_another_node_lets_go(void **state)
{
  begin();
  uint64_t began = now_ms();
  node_claim(&b, "demo", nowhere, 1);
  node_expect(&a, "demo taken 6 b");
  node_expect_nothing(&b); // it waits for the last finals
  node_say(&a, "demo", 'f', 5, 3, 2);
  node_release(&a, "demo", 5, 3);
  node_expect(&b, "demo 5.0");
  node_expect(&b, "demo 5.2");
  node_expect(&b, "demo 5.3");
  node_expect(&b, "demo owned 6");
  assert_true(now_ms() - began < 1900);
  node_say(&b, "demo", 'h', 6, 0, 0);
  await_stream("demo", 4);
  node_expect_nothing(&a);
}

static void test_another_node_that_is_gone(void **state)
{
  entry(&server, "demo", 'h', 5, 0, 0);
  entry(&server, "demo", 'f', 5, 2, 0);
  server_do(&server, "SET vc:owner:demo %s", "{\"node\":\"gone\",\"epoch\":5}");
  uint64_t began = now_ms();
  node_claim(&b, "demo", (struct vc_position){5, 0}, 1);
  node_expect(&b, "demo 5.2");
  node_expect(&b, "demo owned 6");
  uint64_t took = now_ms() - began;
  assert_true(took >= 500 && took < 2000); // it does not say that it is there
}

static void test_another_node_that_is_slow(void **state)
{
  begin();
  uint64_t began = now_ms();
  node_claim(&b, "demo", (struct vc_position){5, 2}, 1);
  node_expect(&a, "demo taken 6 b"); // and says nothing more of it
  node_expect(&b, "demo owned after loss 6");
  assert_true(now_ms() - began >= 2000);
  // Who watches elsewhere hears of that.
  struct vc_message *hello = node_message("b", "demo", 'h', 6, 0, 0);
  hello->is_after_loss = 1;
  node_put_message(&b, hello);
  vc_message_unref(hello);
  await_stream("demo", 3);
  node_release(&a, "demo", 5, 2);
  node_await_gauge(&a, "redis.owned", 0);
  node_watch(&a, "demo", 5, 0);
  node_expect(&a, "demo 5.2");
  node_expect(&a, "demo [5.2-0]");
  node_expect(&a, "demo 6.0");
}

static void test_another_node_that_cannot_say_its_last(void **state)
{
  begin();
  uint64_t began = now_ms();
  node_claim(&b, "demo", (struct vc_position){5, 2}, 1);
  node_expect(&a, "demo taken 6 b");
  node_give_up(&a, "demo", 5, 2);
  node_expect(&b, "demo owned after loss 6");
  assert_true(now_ms() - began >= 2000);
}

// What it says is read all the same, before the ledger waits no longer.
static void test_another_node_that_is_leaving_again_and_again(void **state)
{
  static const char leaving[] = "{\"type\":\"leaving\",\"node\":\"a\",\"epoch\":5}";
  char said[NODE_MAX_SAID];
  struct vc_remote *remote;
  begin();
  node_claim(&b, "demo", (struct vc_position){5, 0}, 1);
  node_expect(&a, "demo taken 6 b");
  while ((remote = node_try(&b)) == NULL) {
    server_do(&server, "PUBLISH vc:ctl:demo %s", leaving);
    server_do(&server, "PUBLISH vc:ctl:demo %s", // of another claim
              "{\"type\":\"leaving\",\"node\":\"c\",\"epoch\":9}");
  }
  node_print(remote, said);
  vc_item_destroy(&remote->item);
  assert_string_equal(said, "demo 5.2");
  node_expect(&b, "demo owned after loss 6");
  assert_int_equal(node_counter(&b, "redis.claims_late_total"), 0);
}

static void test_what_was_let_go_before_is_another(void **state)
{
  begin();
  uint64_t reads = node_counter(&b, "redis.reads_total");
  node_claim(&b, "demo", (struct vc_position){5, 2}, 1);
  node_expect(&a, "demo taken 6 b");
  server_do(&server, "PUBLISH vc:ctl:demo %s",
            "{\"type\":\"released\",\"node\":\"a\",\"epoch\":4}");
  server_do(&server, "PUBLISH vc:ctl:demo %s",
            "{\"type\":\"released\",\"node\":\"c\",\"epoch\":9}");
  server_do(&server, "PUBLISH vc:ctl:demo rubbish");
  node_await_counter(&b, "redis.malformed_total", 1); // it has heard both
  assert_int_equal(node_counter(&b, "redis.reads_total"), reads);
  node_release(&a, "demo", 5, 2);
  node_expect(&b, "demo owned 6");
}

// What the other says comes on another way than the answer to the claim.
static void test_who_let_go_already_is_not_waited_for(void **state)
{
  begin();
  uint64_t began = now_ms();
  node_claim(&b, "demo", nowhere, 1);
  node_release(&a, "demo", 5, 2);
  struct vc_remote *remote = node_take(&b);
  while (remote->kind != VC_REMOTE_OWNED) {
    vc_item_destroy(&remote->item);
    remote = node_take(&b);
  }
  int64_t epoch = remote->epoch;
  vc_item_destroy(&remote->item);
  assert_true(epoch > 5);
  assert_true(now_ms() - began < 1900);
}

static void test_a_claim_ends_the_watching(void **state)
{
  begin();
  node_watch(&b, "demo", 0, 0);
  node_expect(&b, "demo 5.0");
  node_expect(&b, "demo 5.2");
  node_expect(&b, "demo filled 5 a");
  node_claim(&b, "demo", (struct vc_position){5, 2}, 1);
  node_expect(&a, "demo taken 6 b");
  node_say(&a, "demo", 'p', 5, 3, 2);
  node_say(&a, "demo", 'f', 5, 4, 2);
  node_release(&a, "demo", 5, 4);
  node_expect(&b, "demo 5.4"); // the partial is not heard any more
  node_expect(&b, "demo owned 6");
  assert_int_equal(node_gauge(&b, "redis.watched"), 0);
}

static void test_its_own_again(void **state)
{
  begin();
  uint64_t began = now_ms();
  node_claim(&a, "demo", (struct vc_position){5, 2}, 1); // as after it was fenced
  node_expect(&a, "demo owned 6");
  assert_true(now_ms() - began < 1900);
}

// Both at once: each is answered, and one of them hears of the other.
static void test_two_claims_at_once(void **state)
{
  char of_a[NODE_MAX_SAID] = "", of_b[NODE_MAX_SAID] = "";
  node_claim(&a, "demo", nowhere, 5);
  node_claim(&b, "demo", nowhere, 5);
  struct vc_remote *first = node_take(&a), *second = node_take(&b);
  assert_int_equal(first->kind, VC_REMOTE_OWNED);
  assert_int_equal(second->kind, VC_REMOTE_OWNED);
  int64_t of[] = {first->epoch, second->epoch};
  assert_true((of[0] == 5 && of[1] == 6) || (of[0] == 6 && of[1] == 5));
  node_print(first, of_a);
  node_print(second, of_b);
  vc_item_destroy(&first->item);
  vc_item_destroy(&second->item);
  if (of[0] == 5) {
    node_expect(&a, "demo taken 6 b");
    node_expect_nothing(&b);
  } else {
    node_expect(&b, "demo taken 6 a");
    node_expect_nothing(&a);
  }
}

static void test_an_older_claim_takes_nothing(void **state)
{
  begin();
  server_do(&server, "PUBLISH vc:ctl:demo %s", "{\"type\":\"take\",\"node\":\"c\",\"epoch\":5}");
  server_do(&server, "PUBLISH vc:ctl:demo %s", "{\"type\":\"take\",\"node\":\"a\",\"epoch\":9}");
  server_do(&server, "PUBLISH vc:ctl:demo %s", "{\"type\":\"take\",\"node\":\"c\",\"epoch\":8}");
  node_expect(&a, "demo taken 8 c");
}

// A third claims while the second waits for the first.
static void test_who_is_taken_from_while_it_claims(void **state)
{
  begin();
  node_claim(&b, "demo", (struct vc_position){5, 2}, 1);
  node_expect(&a, "demo taken 6 b");
  server_do(&server, "PUBLISH vc:ctl:demo %s", "{\"type\":\"take\",\"node\":\"c\",\"epoch\":7}");
  node_expect(&a, "demo taken 7 c");
  node_release(&a, "demo", 5, 2);
  node_expect(&b, "demo owned 6");
  node_expect(&b, "demo taken 7 c");
}

static void hear(redisContext *listener, const char *wanted)
{
  int is_heard = 0;
  while (!is_heard) {
    redisReply *reply = NULL;
    assert_int_equal(redisGetReply(listener, (void **)&reply), REDIS_OK);
    is_heard = reply->elements == 3 && strcmp(reply->element[2]->str, wanted) == 0;
    freeReplyObject(reply);
  }
}

// And hears that the second is there, which has last words yet.
static void test_who_claims_is_waited_for(void **state)
{
  begin();
  redisContext *listener = server_connection(&server);
  freeReplyObject(redisCommand(listener, "SUBSCRIBE vc:ctl:demo"));
  node_claim(&b, "demo", (struct vc_position){5, 2}, 1);
  node_expect(&a, "demo taken 6 b");
  server_do(&server, "PUBLISH vc:ctl:demo %s", "{\"type\":\"take\",\"node\":\"d\",\"epoch\":4}");
  server_do(&server, "PUBLISH vc:ctl:demo %s", "{\"type\":\"take\",\"node\":\"c\",\"epoch\":7}");
  hear(listener, "{\"type\":\"leaving\",\"node\":\"b\",\"epoch\":6}");
  node_release(&a, "demo", 5, 2);
  hear(listener, "{\"type\":\"leaving\",\"node\":\"b\",\"epoch\":6}"); // now it has words
  node_expect(&b, "demo owned 6");
  node_expect(&b, "demo taken 7 c");
  redisFree(listener);
}

static void test_what_was_let_go_is_not_taken(void **state)
{
  begin();
  node_release(&a, "demo", 5, 2);
  uint64_t until = now_ms() + SERVER_PATIENCE_MS;
  while (server_number(&server, "EXISTS vc:owner:demo") > 0) {
    assert_true(now_ms() < until);
  }
  node_watch(&a, "demo", 5, 2); // behind the word of the publishing worker, or before it
  node_expect(&a, "demo filled 0");
  node_await_gauge(&a, "redis.owned", 0);
  node_claim(&b, "demo", (struct vc_position){5, 2}, 1);
  node_expect(&b, "demo owned 6");
  node_expect(&a, "demo owner 6 b");
}

// --- Redis is not there

static void test_a_frozen_redis_is_not_waited_for(void **state)
{
  server_freeze(&server);
  uint64_t began = now_ms();
  node_claim(&a, "demo", nowhere, 5);
  node_expect(&a, "demo owned after loss 0");
  assert_in_range(now_ms() - began, 300, 2000);
  assert_int_equal(node_counter(&a, "redis.claims_late_total"), 1);
  server_thaw(&server);
  struct vc_remote *remote; // the late answer is nobody's
  node_watch(&a, "other", 0, 0);
  while ((remote = node_take(&a))->kind != VC_REMOTE_FILLED) {
    assert_true(remote->kind == VC_REMOTE_AWAY || remote->kind == VC_REMOTE_BACK);
    vc_item_destroy(&remote->item);
  }
  vc_item_destroy(&remote->item);
}

static void test_a_redis_that_is_gone(void **state)
{
  server_kill(&server);
  node_expect(&a, "away");
  node_expect(&b, "away");
  uint64_t began = now_ms();
  node_claim(&a, "demo", nowhere, 5);
  node_expect(&a, "demo owned after loss 0");
  assert_true(now_ms() - began < 2000);
  server_start_again(&server, NULL);
  node_expect(&a, "back");
  node_claim(&a, "other", nowhere, 5);
  node_expect(&a, "other owned 5");
}

// It answers the claim, and then no more.
static void test_a_redis_that_goes_within_a_claim(void **state)
{
  begin();
  node_claim(&b, "demo", (struct vc_position){5, 1}, 1);
  node_expect(&a, "demo taken 6 b");
  server_freeze(&server);
  char said[NODE_MAX_SAID] = "";
  uint64_t began = now_ms();
  // With the epoch that is known, and without the rest of the other's.
  while (strcmp(said, "demo owned after loss 6") != 0) {
    struct vc_remote *remote = node_take(&b);
    node_print(remote, said);
    vc_item_destroy(&remote->item);
  }
  assert_true(now_ms() - began < 4000);
  server_thaw(&server);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_a_slug_of_nobody),
      TEST(test_an_empty_stream_behind_what_is_known),
      TEST(test_an_empty_stream_behind_an_end),
      TEST(test_what_was_said_last_can_no_longer_be_written),
      TEST(test_what_is_known_of_it_is_read_first),
      TEST(test_another_node_lets_go),
      TEST(test_another_node_that_is_gone),
      TEST(test_another_node_that_is_slow),
      TEST(test_another_node_that_cannot_say_its_last),
      TEST(test_another_node_that_is_leaving_again_and_again),
      TEST(test_what_was_let_go_before_is_another),
      TEST(test_who_let_go_already_is_not_waited_for),
      TEST(test_a_claim_ends_the_watching),
      TEST(test_its_own_again),
      TEST(test_two_claims_at_once),
      TEST(test_an_older_claim_takes_nothing),
      TEST(test_who_is_taken_from_while_it_claims),
      TEST(test_who_claims_is_waited_for),
      TEST(test_what_was_let_go_is_not_taken),
      TEST(test_a_frozen_redis_is_not_waited_for),
      TEST(test_a_redis_that_is_gone),
      TEST(test_a_redis_that_goes_within_a_claim),
  };
  if (!server_is_there("redis/claim")) {
    return 0;
  }
  server_start(&server, NULL);
  int status = cmocka_run_group_tests(tests, NULL, NULL);
  server_stop(&server);
  return status;
}
