// Where memory gives out while other nodes are heard: what was lost by it is read again, what was
// wanted is done later, and nothing is given twice or left out.
#include "no_memory.h"
#include "node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct server server;
static struct node node;

static int set_up(void **state)
{
  node_start(&node, &server, "me", NULL);
  node_await_ready(&node);
  return 0;
}

static int tear_down(void **state)
{
  node_stop(&node);
  return 0;
}

static void write_stream(const char *slug)
{
  entry(&server, slug, 'h', 5, 0, 0);
  entry(&server, slug, 'f', 5, 2, 0);
  entry(&server, slug, 's', 5, 3, 2);
}

static void expect(const char *slug, const char *said)
{
  char text[NODE_MAX_SAID];
  snprintf(text, sizeof text, "%s %s", slug, said);
  node_expect(&node, text);
}

// `n` allocations fail from the `after`-th on. Returns: 1 when one did.
static int watch_one(size_t after, size_t n)
{
  char slug[32];
  snprintf(slug, sizeof slug, "w%zu-%zu", after, n);
  struct vc_fleet *turn = node_turn(VC_FLEET_WATCH, slug, (struct vc_position){0, 0});
  write_stream(slug);
  memory_fail(after, n);
  node_put_turn(&node, turn);
  expect(slug, "5.0");
  expect(slug, "5.2");
  expect(slug, "5.3");
  expect(slug, "filled 0");
  int has_failed = memory_has_failed;
  memory_fail(0, 0);
  node_unwatch(&node, slug);
  return has_failed;
}

static void test_watching(void **state)
{
  size_t after = 0;
  while (watch_one(after, 1)) {
    after += after < 8 ? 1 : 17; // JSON makes most of them
  }
  assert_true(after > 50);
  for (after = 0; after < 60; after += 13) {
    assert_true(watch_one(after, 9));
  }
  assert_int_equal(node_counter(&node, "redis.gaps_total"), 0);
}

// A final comes live, and may be lost on its way through this process; it lies in the stream.
static int hear_one(uint64_t seq, size_t after)
{
  struct vc_text text = {0};
  char said[32];
  write_envelope(&text, "live", 'f', 5, seq, seq - 1);
  entry(&server, "live", 'f', 5, seq, seq - 1);
  memory_fail(after, 1);
  server_do(&server, "PUBLISH vc:live:live %s", text.at);
  snprintf(said, sizeof said, "5.%d", (int)seq);
  expect("live", said);
  int has_failed = memory_has_failed;
  memory_fail(0, 0);
  vc_text_fini(&text);
  return has_failed;
}

static void test_hearing(void **state)
{
  uint64_t seq = 1;
  size_t after = 0;
  entry(&server, "live", 'h', 5, 0, 0);
  node_watch(&node, "live", 0, 0);
  expect("live", "5.0");
  expect("live", "filled 0");
  for (; hear_one(seq, after); seq++) {
    after += after % 10 == 0 ? 1 : 9;
  }
  assert_true(after > 20);
  assert_int_equal(node_counter(&node, "redis.gaps_total"), 0);
}

static int claim_one(size_t after)
{
  char slug[32];
  snprintf(slug, sizeof slug, "c%zu", after);
  struct vc_fleet *turn = node_turn(VC_FLEET_CLAIM, slug, (struct vc_position){0, 0});
  write_stream(slug);
  memory_fail(after, 1);
  node_put_turn(&node, turn);
  struct vc_remote *remote;
  uint64_t n = 0;
  while ((remote = node_take(&node))->kind == VC_REMOTE_MESSAGE) {
    n++;
    vc_item_destroy(&remote->item);
  }
  assert_int_equal(remote->kind, VC_REMOTE_OWNED);
  assert_true(remote->epoch == 0 || (remote->epoch == 6 && n == 3));
  int has_failed = memory_has_failed;
  memory_fail(0, 0);
  vc_item_destroy(&remote->item);
  return has_failed;
}

static void test_claiming(void **state)
{
  size_t after = 0;
  while (claim_one(after)) {
    after += after < 24 ? 1 : 11;
  }
  assert_true(after > 50);
}

static void ask(const struct vc_query *query, size_t n_records)
{
  const struct vc_buffer *reply = vc_query_reply(query);
  assert_int_equal(vc_query_status(query), 200);
  json_t *list = json_loadb((const char *)reply->data, reply->size, 0, NULL);
  assert_int_equal(json_array_size(list), n_records);
  json_decref(list);
}

static void test_transcripts(void **state)
{
  size_t after = 0;
  write_stream("told");
  for (int has_failed = 1; has_failed; after++) {
    struct vc_query *query = vc_query_create(VC_QUERY_FLEET_TRANSCRIPT, "told");
    memory_fail(after, 1);
    node_put_query(&node, query);
    assert_int_equal(vc_query_wait(query, SERVER_PATIENCE_MS), 0);
    has_failed = memory_has_failed;
    memory_fail(0, 0);
    if (vc_query_status(query) != 503 || !has_failed) {
      ask(query, 1);
    }
    vc_query_unref(query);
  }
  assert_true(after > 20);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {TEST(test_watching), TEST(test_hearing), TEST(test_claiming),
                                     TEST(test_transcripts)};
  if (!server_is_there("redis/watch_memory")) {
    return 0;
  }
  server_start(&server, NULL);
  int status = cmocka_run_group_tests(tests, NULL, NULL);
  server_stop(&server);
  return status;
}
