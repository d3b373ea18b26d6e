// What HTTP handlers ask of the fleet.
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct server server;
static struct rig rig, other;

static int set_up(void **state)
{
  server_do(&server, "FLUSHALL");
  rig_begin(&rig, &server, "a", "[{\"slug\":\"one\"},{\"slug\":\"two\"}]");
  return 0;
}

static int tear_down(void **state)
{
  rig_stop(&rig);
  return 0;
}

static void expect_sessions(const char *wanted)
{
  char shown[256] = "";
  for (int i = 0; i < 10000 && strcmp(shown, wanted) != 0; i++) {
    struct vc_buffer *reply = NULL;
    assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_SESSIONS, NULL, NULL, &reply), 200);
    assert_non_null(reply);
    snprintf(shown, sizeof shown, "%.*s", (int)reply->size, (const char *)reply->data);
    vc_buffer_unref(reply);
  }
  assert_string_equal(shown, wanted);
}

static void test_sessions(void **state)
{
  expect_sessions("[{\"slug\":\"one\"},{\"slug\":\"two\"}]");
  rig_begin(&other, &server, "b", "[{\"slug\":\"three\"}]");
  expect_sessions("[{\"slug\":\"one\"},{\"slug\":\"two\"},{\"slug\":\"three\"}]");
  rig_stop(&other);
  expect_sessions("[{\"slug\":\"one\"},{\"slug\":\"two\"}]");
  // Those of a node that is gone are gone with its key; what is no list is none.
  server_do(&server, "ZADD vc:nodes 9999999999999 c");
  server_do(&server, "ZADD vc:nodes 9999999999999 d");
  server_do(&server, "SET vc:node:c nonsense");
  expect_sessions("[{\"slug\":\"one\"},{\"slug\":\"two\"}]");
}

static int is_whole(void)
{
  struct vc_query *query = vc_query_create(VC_QUERY_FLEET_SESSIONS, NULL);
  assert_int_equal(vc_putter_put(rig.to_publisher, 0, vc_query_item(query)), 0);
  assert_int_equal(vc_query_wait(query, SERVER_PATIENCE_MS), 0);
  assert_int_equal(vc_query_status(query), 200);
  int is = vc_query_is_complete(query);
  vc_query_unref(query);
  return is;
}

// What finds no room is told as missing: the lists together, or one that is too long to be shown.
static void test_sessions_that_are_left_out(void **state)
{
  rig_wait_shown(&server, "a");
  assert_true(is_whole());
  server_do(&server, "ZADD vc:nodes 9999999999999 c");
  server_do(&server, "SETRANGE vc:node:c %d ]", 16 * 1024 * 1024);
  assert_false(is_whole());
  server_do(&server, "DEL vc:node:c");
  assert_true(is_whole());
  memset(&other, 0, sizeof other);
  other.sessions_size = LINK_UNSENT_MAX;
  rig_start(&other, &server, "b", server.url);
  rig_wait_gauge(&other, "redis.connections", 3);
  rig_wait_shown(&server, "b");
  assert_false(is_whole());
  rig_stop(&other);
  assert_true(is_whole());
}

static void begin(void)
{
  assert_int_equal(rig_claim(&rig, "demo", 5), 5);
  rig_say(&rig, "demo", 5, (struct rig_said){VC_MESSAGE_HELLO, 0, 0});
  rig_wait_stream(&server, "demo", "5-0");
}

static void test_erase(void **state)
{
  int64_t number = 3;
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_ERASE, "demo", &number, NULL), 404);
  assert_int_equal(number, 3);
  begin();
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_ERASE, "demo", &number, NULL), 409);
  rig_release(&rig, "demo", 5, 0);
  rig_expect_released(&rig, "demo");
  redisContext *listener = server_connection(&server);
  freeReplyObject(redisCommand(listener, "SUBSCRIBE vc:ctl:demo"));
  number = 3;
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_ERASE, "demo", &number, NULL), 200);
  assert_int_equal(number, 5);
  assert_int_equal(server_number(&server, "EXISTS vc:history:demo"), 0);
  redisReply *reply = NULL;
  // The slug may have been let go after the listener came.
  do {
    if (reply != NULL) {
      freeReplyObject(reply);
    }
    assert_int_equal(redisGetReply(listener, (void **)&reply), REDIS_OK);
  } while (strstr(reply->element[2]->str, "released") != NULL);
  assert_string_equal(reply->element[2]->str, "{\"type\":\"erased\",\"node\":\"a\",\"epoch\":5}");
  freeReplyObject(reply);
  redisFree(listener);
}

// What no node has numbered goes too, and takes no number from those to come.
static void test_erase_of_what_no_node_has_numbered(void **state)
{
  static const char *const ends[] = {"18446744073709551615", "4503599627370496",
                                     "2251799813685249"};
  for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
    int64_t number = 3;
    server_do(&server, "XADD vc:history:demo %s-1 message nonsense", ends[i]);
    assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_ERASE, "demo", &number, NULL), 200);
    assert_int_equal(number, 3);
    assert_int_equal(server_number(&server, "EXISTS vc:history:demo"), 0);
  }
}

// Its key is lost, but it is live here.
static void test_erase_of_our_own(void **state)
{
  begin();
  server_do(&server, "DEL vc:owner:demo");
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_ERASE, "demo", NULL, NULL), 409);
  assert_string_equal(rig_stream(&server, "demo"), "5-0");
}

// What is still to be written of it is not any more.
static void test_erase_of_what_is_not_complete(void **state)
{
  static const struct rig_said end[] = {{VC_MESSAGE_END, 1, 0}};
  begin();
  rig_release(&rig, "demo", 5, 1);
  rig_expect_ask(&rig, "demo", 5, 0);
  rig_expect_released(&rig, "demo"); // after LET_GO_MS
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_ERASE, "demo", NULL, NULL), 200);
  rig_give(&rig, "demo", (struct vc_position){5, 0}, 1, 5, end, 1);
  rig_wait_gauge(&rig, "redis.owned", 0);
  assert_int_equal(server_number(&server, "EXISTS vc:history:demo"), 0);
  assert_int_equal(rig_metric(&rig, "redis.asked_total"), 1);
}

static void test_erase_of_anothers(void **state)
{
  server_do(&server, "SET vc:owner:demo {\"node\":\"b\",\"epoch\":5}");
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_ERASE, "demo", NULL, NULL), 409);
}

static void test_claim(void **state)
{
  int64_t ms = 60000;
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_CLAIM, "webhook-1", &ms, NULL), 200);
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_CLAIM, "webhook-1", &ms, NULL), 409);
  assert_in_range(server_number(&server, "PTTL vc:webhook-1"), 50000, 60000);
  ms = 0;
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_CLAIM, "webhook-2", &ms, NULL), 503);
}

static void test_end(void **state)
{
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_END, "demo", NULL, NULL), 404);
  server_do(&server, "SET vc:owner:demo {\"node\":\"b\",\"epoch\":5}");
  redisContext *listener = server_connection(&server);
  freeReplyObject(redisCommand(listener, "SUBSCRIBE vc:ctl:demo"));
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_END, "demo", NULL, NULL), 200);
  redisReply *reply = NULL;
  assert_int_equal(redisGetReply(listener, (void **)&reply), REDIS_OK);
  assert_string_equal(reply->element[2]->str, "{\"type\":\"end\",\"node\":\"a\",\"epoch\":5}");
  freeReplyObject(reply);
  redisFree(listener);
}

static void test_began(void **state)
{
  int64_t epoch = 0;
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_BEGAN, "demo", &epoch, NULL), 404);
  server_do(&server, "SET vc:owner:demo {\"node\":\"b\",\"epoch\":1790000000123}");
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_BEGAN, "demo", &epoch, NULL), 200);
  assert_int_equal(epoch, INT64_C(1790000000123));
  server_do(&server, "SET vc:owner:demo nonsense");
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_BEGAN, "demo", &epoch, NULL), 404);
}

static void test_anothers(void **state)
{
  assert_int_equal(rig_query(&rig, VC_QUERY_SESSIONS, NULL, NULL, NULL), 501);
}

static void test_forgotten_scripts(void **state)
{
  server_do(&server, "SCRIPT FLUSH");
  assert_int_equal(rig_query(&rig, VC_QUERY_FLEET_END, "demo", NULL, NULL), 404);
}

static void test_away(void **state)
{
  server_kill(&server);
  rig_wait_gauge(&rig, "redis.connections", 2);
  static const enum vc_query_kind kinds[] = {VC_QUERY_FLEET_SESSIONS, VC_QUERY_FLEET_ERASE,
                                             VC_QUERY_FLEET_CLAIM, VC_QUERY_FLEET_END,
                                             VC_QUERY_FLEET_BEGAN};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    assert_int_equal(rig_query(&rig, kinds[i], "demo", NULL, NULL), 503);
  }
  server_start_again(&server, NULL);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH(test_sessions),
      WITH(test_sessions_that_are_left_out),
      WITH(test_erase),
      WITH(test_erase_of_our_own),
      WITH(test_erase_of_what_no_node_has_numbered),
      WITH(test_erase_of_what_is_not_complete),
      WITH(test_erase_of_anothers),
      WITH(test_claim),
      WITH(test_end),
      WITH(test_began),
      WITH(test_anothers),
      WITH(test_forgotten_scripts),
      WITH(test_away),
  };
  if (!server_is_there("redis/questions")) {
    return 0;
  }
  vc_log_level_set(VC_LOG_ERROR);
  server_start(&server, NULL);
  int n_failed = cmocka_run_group_tests_name("redis/questions", tests, NULL, NULL);
  server_stop(&server);
  return n_failed;
}
