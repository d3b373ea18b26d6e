// What comes in of other nodes' sessions: from a stream, a channel and an owner's key that the test
// writes itself, and from a redis-server that is killed, frozen and emptied.
#include "node.h"
#include "shown.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define N_ENTRIES 1050
#define N_MANY 3000
#define N_FLOOD 20000
#define N_CHANNELS 99 // in one command

static struct server server;
static struct node node;

static int set_up(void **state)
{
  server_do(&server, "FLUSHALL");
  node_start(&node, &server, "me", NULL);
  node_await_ready(&node);
  return 0;
}

static int tear_down(void **state)
{
  node_stop(&node);
  return 0;
}

static uint64_t now_ms(void)
{
  return vc_clock_now_ns(&vc_clock_system) / VC_NS_PER_MS;
}

// A watched session of epoch 5 with the entries 0 and 2.
static void begin(void)
{
  entry(&server, "demo", 'h', 5, 0, 0);
  entry(&server, "demo", 'f', 5, 2, 0);
  server_do(&server, "SET vc:owner:demo %s", "{\"node\":\"other\",\"epoch\":5}");
  node_watch(&node, "demo", 0, 0);
  node_expect(&node, "demo 5.0");
  node_expect(&node, "demo 5.2");
  node_expect(&node, "demo filled 5 other");
}

// --- following

static void test_what_is_not_there_is_filled_too(void **state)
{
  node_watch(&node, "demo", 0, 0);
  node_expect(&node, "demo filled 0");
  both(&server, "demo", 'h', 5, 0, 0);
  publish(&server, "demo", 'p', 5, 1, 0);
  node_expect(&node, "demo 5.0");
  node_expect(&node, "demo 5.1");
}

static void test_stream_then_live(void **state)
{
  begin();
  publish(&server, "demo", 'f', 5, 2, 0); // came from the stream
  publish(&server, "demo", 'p', 5, 3, 2);
  both(&server, "demo", 'f', 5, 4, 2);
  publish(&server, "demo", 'r', 5, 5, 4);
  both(&server, "demo", 's', 5, 6, 4);
  both(&server, "demo", 'e', 5, 7, 6);
  for (int seq = 3; seq <= 7; seq++) {
    char said[NODE_MAX_SAID];
    snprintf(said, sizeof said, "demo 5.%d", seq);
    node_expect(&node, said);
  }
  node_await_counter(&node, "redis.overlaps_total", 1);
  assert_int_equal(node_counter(&node, "redis.received_total"), 6);
}

static struct vc_remote *take_message(char letter, uint64_t seq, uint64_t prev)
{
  both(&server, "demo", letter, 5, seq, prev);
  struct vc_remote *remote = node_take(&node);
  assert_int_equal(remote->kind, VC_REMOTE_MESSAGE);
  assert_string_equal(remote->node, "other");
  return remote;
}

static void test_a_message_is_whole(void **state)
{
  begin();
  struct vc_message *said = node_message("other", "demo", 'f', 5, 3, 2);
  struct vc_remote *remote = take_message('f', 3, 2);
  const struct vc_message *message = remote->message;
  assert_int_equal(message->kind, VC_MESSAGE_FINAL);
  assert_int_equal(message->prev_final, 2);
  assert_string_equal(message->utterance_id, "u3");
  assert_true(message->utterance_hash != 0 && message->received_ns == 0);
  assert_int_equal(message->received_unix_us, INT64_C(1790000000000000));
  assert_int_equal(message->json_offset, said->json_offset);
  assert_int_equal(message->frame->size, said->frame->size);
  assert_memory_equal(message->frame->data, said->frame->data, said->frame->size);
  vc_message_unref(said);
  uint64_t hash = message->utterance_hash;
  vc_item_destroy(&remote->item);
  remote = take_message('s', 4, 3);
  assert_int_equal(remote->state, VC_STATE_STT_DOWN);
  assert_string_equal(remote->reason, "HTTP 401");
  assert_true(remote->message->utterance_hash == 0 && hash != 0);
  vc_item_destroy(&remote->item);
  remote = take_message('e', 5, 4);
  assert_int_equal(remote->state, VC_STATE_ENDED);
  assert_string_equal(remote->reason, "publisher_left");
  vc_item_destroy(&remote->item);
}

static void test_a_position_is_gone_on_from(void **state)
{
  entry(&server, "demo", 'h', 5, 0, 0);
  entry(&server, "demo", 'f', 5, 2, 0);
  entry(&server, "demo", 'f', 5, 3, 2);
  node_watch(&node, "demo", 5, 2);
  node_expect(&node, "demo 5.3");
  node_expect(&node, "demo filled 0");
}

static void test_a_lost_final_is_read(void **state)
{
  begin();
  entry(&server, "demo", 'f', 5, 4, 2); // its message is lost
  both(&server, "demo", 'f', 5, 6, 4);
  node_expect(&node, "demo 5.4");
  node_expect(&node, "demo 5.6");
  node_await_counter(&node, "redis.held_total", 1);
}

static void test_a_final_that_is_nowhere_is_a_gap(void **state)
{
  begin();
  uint64_t began = now_ms();
  publish(&server, "demo", 'f', 5, 6, 4);
  node_expect(&node, "demo [5.2-4]");
  node_expect(&node, "demo 5.6");
  assert_true(now_ms() - began >= 2000);
  assert_int_equal(node_counter(&node, "redis.gaps_total"), 1);
}

static void test_a_newer_epoch(void **state)
{
  begin();
  entry(&server, "demo", 'f', 5, 4, 2); // its message is lost
  both(&server, "demo", 'h', 7, 0, 0);
  publish(&server, "demo", 'p', 7, 1, 0);
  node_expect(&node, "demo 5.4");
  node_expect(&node, "demo 7.0");
  node_expect(&node, "demo 7.1");
  publish(&server, "demo", 'f', 5, 9, 4); // of a node that does not know it yet
  node_await_counter(&node, "redis.stale_total", 1);
}

static void fill_stream(int n)
{
  for (int seq = 0; seq < n; seq++) {
    entry(&server, "demo", seq == 0 ? 'h' : 'f', 5, (uint64_t)seq, seq > 0 ? (uint64_t)seq - 1 : 0);
  }
}

static void expect_run(const char *slug, int from, int to)
{
  char said[NODE_MAX_SAID];
  for (int seq = from; seq <= to; seq++) {
    snprintf(said, sizeof said, "%s 5.%d", slug, seq);
    node_expect(&node, said);
  }
}

static void test_a_long_stream_comes_in_pieces(void **state)
{
  fill_stream(N_ENTRIES);
  node_watch(&node, "demo", 0, 0);
  expect_run("demo", 0, N_ENTRIES - 1);
  node_expect(&node, "demo filled 0");
  assert_int_equal(node_counter(&node, "redis.read_entries_total"), N_ENTRIES);
}

// A stream that was flushed, or trimmed, under a reader: what is in it tells what is not.
static void test_a_trimmed_stream(void **state)
{
  fill_stream(50);
  server_do(&server, "XTRIM vc:history:demo MINID = 5-30");
  node_watch(&node, "demo", 5, 10);
  node_expect(&node, "demo [5.10-29]");
  expect_run("demo", 30, 49);
  node_expect(&node, "demo filled 0");
}

// What was said behind a position went with the stream, unless that was the epoch's end.
static void test_an_expired_stream_is_a_gap(void **state)
{
  node_watch(&node, "demo", 5, 2);
  node_expect(&node, "demo filled 0");
  both(&server, "demo", 'h', 7, 0, 0);
  node_expect(&node, "demo [5.2-0]");
  node_expect(&node, "demo 7.0");
}

static void test_an_expired_stream_behind_an_end_is_none(void **state)
{
  struct vc_fleet *turn = node_turn(VC_FLEET_WATCH, "demo", (struct vc_position){5, 2});
  turn->is_over = 1;
  node_put_turn(&node, turn);
  node_expect(&node, "demo filled 0");
  both(&server, "demo", 'h', 7, 0, 0);
  node_expect(&node, "demo 7.0");
  assert_int_equal(node_counter(&node, "redis.gaps_total"), 0);
}

static void test_a_flushed_stream_is_written_again(void **state)
{
  begin();
  server_do(&server, "FLUSHALL");
  both(&server, "demo", 'h', 5, 0, 0);
  both(&server, "demo", 'f', 5, 2, 0);
  both(&server, "demo", 'f', 5, 3, 2);
  node_expect(&node, "demo 5.3");
}

static void check_transcript(const char *slug, int status, int is_complete, const char *expected)
{
  struct vc_query *query = node_ask(&node, slug);
  const struct vc_buffer *reply = vc_query_reply(query);
  assert_int_equal(vc_query_status(query), status);
  assert_int_equal(vc_query_is_complete(query), is_complete);
  if (expected != NULL) {
    assert_int_equal(reply->size, strlen(expected));
    assert_memory_equal(reply->data, expected, reply->size);
  }
  vc_query_unref(query);
}

// --- what is none of ours

static void test_garbage_is_passed_over(void **state)
{
  begin();
  server_do(&server, "PUBLISH vc:live:demo %s", "{");
  server_do(&server, "PUBLISH vc:live:demo %s", "");
  server_do(&server, "PUBLISH vc:live:demo %s", "{\"v\":2}");
  server_do(&server, "PUBLISH vc:live:../x %s", "{\"v\":2}");
  server_do(&server, "PUBLISH vc:ctl:demo %s", "[]");
  server_do(&server, "PUBLISH vc:ctl:demo %s", "{\"type\":\"give\"}");
  server_do(&server, "PUBLISH vc:ctl:../x %s", "{");
  server_do(&server, "XADD vc:history:demo 5-3 other field");
  server_do(&server, "XADD vc:history:demo 5-4 message %s", "{\"v\":1}");
  server_do(&server, "XADD vc:history:demo 5-5 message %s", "{\"v\":2}");
  entry(&server, "demo", 'f', 5, 6, 5);
  both(&server, "demo", 'f', 5, 7, 6);
  node_expect(&node, "demo [5.2-3]");
  node_expect(&node, "demo [5.3-4]");
  node_expect(&node, "demo 5.6");
  node_expect(&node, "demo 5.7");
  assert_int_equal(node_counter(&node, "redis.malformed_total"), 5);
  assert_int_equal(node_counter(&node, "redis.newer_total"), 3);
}

// An entry whose id is not its message's, and more than a piece of those whose id is none of ours.
static void test_an_id_is_checked(void **state)
{
  entry(&server, "demo", 'h', 5, 0, 0);
  server_do(&server, "XADD vc:history:demo 5-3 message %s",
            "{\"v\":1,\"node\":\"a\",\"epoch\":5,\"seq\":2,\"prevFinal\":0,\"startedAt\":1,"
            "\"frame\":{\"type\":\"end\",\"session\":\"demo\",\"epoch\":5,\"seq\":2}}");
  for (int i = 1; i <= 150; i++) {
    server_do(&server, "XADD vc:history:demo 18446744073709551615-%d message x", i);
  }
  node_watch(&node, "demo", 0, 0);
  node_expect(&node, "demo 5.0");
  node_expect(&node, "demo [5.0-3]");
  node_expect(&node, "demo filled 0");
  publish(&server, "demo", 'f', 5, 4, 3);
  node_expect(&node, "demo 5.4");
  check_transcript("demo", 200, 0, "[]");
}

// What hides a session that goes on is not erased with it either: it is not taken.
static void test_an_epoch_beyond_all_clocks_is_nobodys(void **state)
{
  const int64_t beyond = VC_EPOCH_MAX + 1;
  entry(&server, "demo", 'h', beyond, 0, 0);
  server_do(&server, "SET vc:owner:demo {\"node\":\"other\",\"epoch\":%lld}", (long long)beyond);
  node_watch(&node, "demo", 0, 0);
  node_expect(&node, "demo filled 0");
  publish(&server, "demo", 'f', beyond, 1, 0);
  server_do(&server, "PUBLISH vc:ctl:demo {\"type\":\"take\",\"node\":\"other\",\"epoch\":%lld}",
            (long long)beyond);
  server_do(&server, "DEL vc:history:demo");
  both(&server, "demo", 'h', 5, 0, 0);
  node_expect(&node, "demo 5.0");
  both(&server, "demo", 'f', 5, 1, 0);
  node_expect(&node, "demo 5.1");
  node_expect_nothing(&node);
}

static void test_a_key_that_is_no_stream(void **state)
{
  server_do(&server, "SET vc:history:demo x");
  node_watch(&node, "demo", 0, 0);
  node_await_counter(&node, "redis.errors_other_total", 2); // it is tried again
  server_do(&server, "DEL vc:history:demo");
  node_expect(&node, "demo filled 0");
}

static void test_forgotten_scripts(void **state)
{
  server_do(&server, "SCRIPT FLUSH SYNC");
  entry(&server, "demo", 'h', 5, 0, 0);
  node_watch(&node, "demo", 0, 0);
  node_expect(&node, "demo 5.0");
  node_expect(&node, "demo filled 0");
  assert_int_equal(node_counter(&node, "redis.errors_noscript_total"), 1);
}

// --- owners

static void test_owners(void **state)
{
  begin();
  server_do(&server, "SET vc:owner:demo %s", "{\"node\":\"third\",\"epoch\":6}");
  node_expect(&node, "demo owner 6 third");
  server_do(&server, "SET vc:owner:demo %s", "{\"node\":1}"); // nobody's word
  node_await_counter(&node, "redis.malformed_total", 1);
  server_do(&server, "DEL vc:owner:demo");
  node_expect(&node, "demo owner 0");
  server_do(&server, "PUBLISH vc:ctl:demo %s", // sooner than the key is looked at
            "{\"type\":\"take\",\"node\":\"third\",\"epoch\":9}");
  node_expect(&node, "demo owner 9 third");
  node_expect(&node, "demo owner 0");
}

static void test_an_erasure_reaches_all(void **state)
{
  begin();
  server_do(&server, "PUBLISH vc:ctl:never-seen %s",
            "{\"type\":\"erased\",\"node\":\"third\",\"epoch\":4}");
  node_expect(&node, "never-seen erased 4");
  server_do(&server, "PUBLISH vc:ctl:demo %s",
            "{\"type\":\"erased\",\"node\":\"third\",\"epoch\":5}");
  node_expect(&node, "demo erased 5");
  publish(&server, "demo", 'f', 5, 3, 2); // it was on its way
  server_do(&server, "DEL vc:history:demo");
  both(&server, "demo", 'h', 6, 0, 0);
  node_expect(&node, "demo 6.0");
}

static void test_an_end_is_for_its_owner(void **state)
{
  static const char end[] = "{\"type\":\"end\",\"node\":\"third\",\"epoch\":5}";
  begin();
  node_claim(&node, "mine", (struct vc_position){0, 0}, 5);
  node_expect(&node, "mine owned 5");
  server_do(&server, "PUBLISH vc:ctl:demo %s", end);
  server_do(&server, "PUBLISH vc:ctl:mine %s", end);
  both(&server, "demo", 'f', 5, 3, 2);
  node_expect(&node, "demo 5.3");
  pthread_mutex_lock(&node.mutex);
  assert_int_equal(node.n_ended, 1);
  assert_string_equal(node.ended, "mine");
  pthread_mutex_unlock(&node.mutex);
}

// --- coming and going

static long long n_subscribers(void)
{
  redisReply *reply = server_ask(&server, "PUBSUB NUMSUB vc:live:demo");
  long long n = reply->element[1]->integer;
  freeReplyObject(reply);
  return n;
}

static void await_subscribers(long long n)
{
  uint64_t until = now_ms() + SERVER_PATIENCE_MS;
  while (n_subscribers() != n) {
    assert_true(now_ms() < until);
  }
}

static void test_what_is_not_watched_does_not_come(void **state)
{
  begin();
  assert_int_equal(n_subscribers(), 1);
  node_unwatch(&node, "demo");
  await_subscribers(0);
  both(&server, "demo", 'f', 5, 3, 2);
  node_await_gauge(&node, "redis.watched", 0);
  node_watch(&node, "demo", 5, 2);
  node_expect(&node, "demo 5.3");
  node_expect(&node, "demo filled 5 other");
  assert_int_equal(n_subscribers(), 1);
}

static void test_watching_again_reads_again(void **state)
{
  begin();
  entry(&server, "demo", 'f', 5, 3, 2); // its message is lost, and nothing follows
  node_unwatch(&node, "demo");
  node_watch(&node, "demo", 5, 2);
  node_expect(&node, "demo 5.3");
  node_expect(&node, "demo filled 5 other");
  both(&server, "demo", 'f', 5, 4, 3);
  node_expect(&node, "demo 5.4");
}

// Faster than Redis answers.
static void test_coming_and_going(void **state)
{
  entry(&server, "demo", 'h', 5, 0, 0);
  for (int i = 0; i < 500; i++) {
    node_watch(&node, "demo", 0, 0);
    node_unwatch(&node, "demo");
  }
  node_watch(&node, "demo", 5, 0);
  char said[NODE_MAX_SAID] = "";
  while (strcmp(said, "demo filled 0") != 0 || node_counter(&node, "redis.overlaps_total") == 0) {
    struct vc_remote *remote = node_take(&node);
    node_print(remote, said);
    assert_true(strcmp(said, "demo 5.0") == 0 || strcmp(said, "demo filled 0") == 0);
    vc_item_destroy(&remote->item);
    if (strcmp(said, "demo filled 0") == 0) {
      break;
    }
  }
  both(&server, "demo", 'f', 5, 2, 0);
  do {
    struct vc_remote *remote = node_take(&node);
    node_print(remote, said);
    vc_item_destroy(&remote->item);
  } while (strcmp(said, "demo 5.2") != 0);
  assert_int_equal(n_subscribers(), 1);
}

static void test_many(void **state)
{
  char slug[32];
  for (int i = 0; i < N_MANY; i++) {
    snprintf(slug, sizeof slug, "s%d", i);
    entry(&server, slug, 'h', 5, 0, 0);
    node_watch(&node, slug, 0, 0);
  }
  for (int i = 0; i < 2 * N_MANY; i++) {
    struct vc_remote *remote = node_take(&node);
    assert_true(remote->kind == VC_REMOTE_MESSAGE || remote->kind == VC_REMOTE_FILLED);
    vc_item_destroy(&remote->item);
  }
  node_await_gauge(&node, "redis.subscriptions", N_MANY);
  publish(&server, "s2999", 'p', 5, 1, 0);
  node_expect(&node, "s2999 5.1");
  for (int i = 0; i < N_MANY; i++) {
    snprintf(slug, sizeof slug, "s%d", i);
    node_unwatch(&node, slug);
  }
  node_await_gauge(&node, "redis.subscriptions", 0);
}

// --- a ledger that is behind

static void test_a_ledger_that_is_behind_loses_nothing(void **state)
{
  begin();
  node_stop(&node);
  node_start(&node, &server, "me", &(struct node_settings){.lane_capacity = 16});
  node_await_ready(&node);
  node_watch(&node, "demo", 5, 2);
  node_expect(&node, "demo filled 5 other");
  node_block(&node, 1);
  for (uint64_t seq = 3; seq < N_FLOOD; seq++) {
    publish(&server, "demo", 'f', 5, seq, seq - 1);
  }
  node_await_counter(&node, "redis.ledger_full_total", 1);
  uint64_t received = node_counter(&node, "redis.received_total");
  assert_true(received < N_FLOOD / 2); // the socket is left alone
  node_block(&node, 0);
  expect_run("demo", 3, N_FLOOD - 1);
  assert_int_equal(node_counter(&node, "redis.gaps_total"), 0);
}

// --- Redis

static void test_a_killed_redis(void **state)
{
  begin();
  server_kill(&server);
  node_expect(&node, "away");
  server_start_again(&server, NULL);
  entry(&server, "demo", 'h', 5, 0, 0); // by its owner
  entry(&server, "demo", 'f', 5, 2, 0);
  entry(&server, "demo", 'f', 5, 3, 2);
  char said[NODE_MAX_SAID];
  int is_back = 0, n_messages = 0;
  while (!is_back || n_messages == 0) { // it may be read before that was written
    struct vc_remote *remote = node_take(&node);
    node_print(remote, said);
    is_back |= strcmp(said, "back") == 0;
    n_messages += strcmp(said, "demo 5.3") == 0;
    vc_item_destroy(&remote->item);
    if (is_back && n_messages == 0) {
      publish(&server, "demo", 'p', 5, 4, 3);
    }
  }
  assert_int_equal(n_messages, 1);
}

static void test_a_connection_that_is_cut(void **state)
{
  begin();
  entry(&server, "demo", 'f', 5, 3, 2);
  server_do(&server, "CLIENT KILL TYPE pubsub");
  node_expect(&node, "away");
  node_expect(&node, "demo 5.3"); // before it is said that Redis is back
  node_expect(&node, "back");
  server_do(&server, "CLIENT KILL TYPE normal SKIPME yes");
  node_expect(&node, "away");
  node_expect(&node, "back");
  both(&server, "demo", 'f', 5, 4, 3);
  node_expect(&node, "demo 5.4");
}

static void test_a_frozen_redis(void **state)
{
  begin();
  uint64_t began = now_ms();
  server_freeze(&server);
  node_expect(&node, "away");
  assert_true(now_ms() - began < 4000);
  server_thaw(&server);
  node_expect(&node, "back");
  both(&server, "demo", 'f', 5, 3, 2);
  node_expect(&node, "demo 5.3");
}

static void test_a_redis_that_was_never_there(void **state)
{
  struct node lonely;
  struct server nowhere = {.port = 0};
  snprintf(nowhere.url, sizeof nowhere.url, "redis://127.0.0.1:1");
  node_start(&lonely, &nowhere, "lonely", &(struct node_settings){.n_ledgers = 3});
  for (int i = 0; i < 3; i++) {
    node_expect(&lonely, "away"); // each worker
  }
  for (int i = 0; i < 1000; i++) { // nothing is kept of them
    char slug[32];
    snprintf(slug, sizeof slug, "s%d", i);
    node_watch(&lonely, slug, 0, 0);
    node_unwatch(&lonely, slug);
  }
  struct vc_query *query = node_ask(&lonely, "demo");
  assert_int_equal(vc_query_status(query), 503);
  vc_query_unref(query);
  node_claim(&lonely, "demo", (struct vc_position){0, 0}, 5);
  node_expect(&lonely, "demo owned after loss 0");
  node_expect_nothing(&lonely);
  node_stop(&lonely);
}

// A user that may not hear what owners say: Redis is as good as away, and why is told.
static void test_a_user_without_channels(void **state)
{
  struct node poor;
  struct server as = server;
  server_do(&server, "ACL SETUSER poor on >word ~* resetchannels &vc:* +@all");
  snprintf(as.url, sizeof as.url, "redis://poor:word@127.0.0.1:%d", server.port);
  node_start(&poor, &as, "poor", NULL);
  node_expect(&poor, "away");
  node_await_counter(&poor, "redis.errors_auth_total", 1);
  struct vc_condition conditions[VC_HEALTH_MAX];
  assert_int_equal(vc_health_list(poor.health, conditions), 1);
  assert_non_null(strstr(conditions[0].reason, "NOPERM"));
  node_stop(&poor);
  server_do(&server, "ACL DELUSER poor");
}

static void start_poor(struct node *poor, struct server *as, const char *channels, const char *more)
{
  *as = server;
  server_do(&server, "ACL SETUSER poor reset on >word ~* +@all %s %s", channels, more);
  snprintf(as->url, sizeof as->url, "redis://poor:word@127.0.0.1:%d", server.port);
  node_start(poor, as, "poor", NULL);
}

static void stop_poor(struct node *poor)
{
  node_stop(poor);
  server_do(&server, "ACL DELUSER poor");
}

static void await_well(struct node *of)
{
  struct vc_condition conditions[VC_HEALTH_MAX];
  uint64_t until = shown_patience_ns();
  while (vc_health_list(of->health, conditions) != 0) {
    if (!shown_wait_more(until)) {
      fail_msg("%s is degraded: %s", of->name, conditions[0].reason);
    }
  }
}

static void expect_refused(struct node *of, uint64_t at_least)
{
  struct vc_condition conditions[VC_HEALTH_MAX];
  node_await_counter(of, "redis.subscriptions_refused_total", at_least);
  assert_int_equal(vc_health_list(of->health, conditions), 1);
  assert_string_equal(conditions[0].what, "redis");
  assert_non_null(strstr(conditions[0].reason, "a subscription is refused: NOPERM"));
}

// Those who watch have what the stream has, a little later; the rest when it is allowed.
static void test_a_channel_that_is_refused(void **state)
{
  struct node poor;
  struct server as;
  start_poor(&poor, &as, "&vc:ctl:*", "&vc:none");
  node_await_ready(&poor);
  entry(&server, "demo", 'h', 5, 0, 0);
  node_watch(&poor, "demo", 0, 0);
  node_expect(&poor, "demo 5.0");
  node_expect(&poor, "demo filled 0");
  expect_refused(&poor, 1);
  both(&server, "demo", 'f', 5, 2, 0);
  node_expect(&poor, "demo 5.2"); // by the next try
  expect_refused(&poor, 2);
  server_do(&server, "ACL SETUSER poor &vc:live:*");
  node_await_gauge(&poor, "redis.subscriptions", 1);
  await_well(&poor);
  publish(&server, "demo", 'p', 5, 3, 2);
  node_expect(&poor, "demo 5.3");
  stop_poor(&poor);
}

// One is enough to have a whole command refused: those that were asked for with it are not.
static void test_a_channel_that_is_refused_among_others(void **state)
{
  struct node poor;
  struct server as;
  char said[NODE_MAX_SAID] = "", slug[32];
  start_poor(&poor, &as, "&vc:ctl:*", "&vc:live:*");
  node_await_ready(&poor);
  for (int i = 0; i < N_CHANNELS; i++) {
    snprintf(slug, sizeof slug, i == N_CHANNELS / 2 ? "other" : "s%d", i);
    node_watch(&poor, slug, 0, 0);
  }
  node_await_gauge(&poor, "redis.subscriptions", N_CHANNELS);
  // It cuts off who has what is not allowed any more, and all are asked for again.
  server_do(&server, "ACL SETUSER poor resetchannels &vc:ctl:* &vc:live:s*");
  while (strcmp(said, "back") != 0) {
    struct vc_remote *remote = node_take(&poor);
    node_print(remote, said);
    vc_item_destroy(&remote->item);
  }
  node_await_gauge(&poor, "redis.subscriptions", N_CHANNELS - 1);
  expect_refused(&poor, 1);
  publish(&server, "s1", 'h', 5, 0, 0);
  node_expect(&poor, "s1 5.0");
  node_unwatch(&poor, "other");
  await_well(&poor);
  stop_poor(&poor);
}

static void test_what_owners_say_is_refused(void **state)
{
  struct node poor;
  struct server as;
  start_poor(&poor, &as, "&vc:none", "&vc:live:*");
  node_expect(&poor, "away");
  expect_refused(&poor, 1);
  node_claim(&poor, "else", (struct vc_position){0, 0}, 5);
  node_expect(&poor, "else owned after loss 0"); // it does not wait
  entry(&server, "demo", 'h', 5, 0, 0);
  node_watch(&poor, "demo", 0, 0);
  node_expect(&poor, "demo 5.0");
  node_expect(&poor, "demo filled 0");
  server_do(&server, "ACL SETUSER poor &vc:ctl:*");
  node_expect(&poor, "back");
  await_well(&poor);
  stop_poor(&poor);
}

static void test_a_prefix_that_looks_like_a_pattern(void **state)
{
  struct node odd;
  node_start(&odd, &server, "odd", &(struct node_settings){.prefix = "*[a]?\\:"});
  node_await_ready(&odd);
  server_do(&server, "PUBLISH vc:ctl:demo %s", "{\"type\":\"erased\",\"node\":\"x\",\"epoch\":4}");
  node_expect(&node, "demo erased 4");
  server_do(&server, "PUBLISH %s %s", "*[a]?\\:ctl:demo",
            "{\"type\":\"erased\",\"node\":\"x\",\"epoch\":5}");
  node_expect(&odd, "demo erased 5");
  node_expect_nothing(&odd);
  node_stop(&odd);
}

// --- transcripts

#define RECORD(seq)                                                                                \
  "{\"v\":1,\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":5,\"seq\":" seq                 \
  ",\"utteranceId\":\"u" seq "\",\"isFinal\":true,\"text\":\"text " seq                            \
  "\",\"language\":\"en\",\"speaker\":null,\"confidence\":0.750,\"start\":" seq                    \
  ".000,\"end\":3.000,\"words\":[{\"word\":\"text " seq                                            \
  "\",\"start\":1.000,\"end\":2.000,\"confidence\":0.500}],\"startedAt\":1790000000.000,"          \
  "\"receivedAt\":1790000000.000,\"node\":\"other\"}"

static void test_a_transcript(void **state)
{
  check_transcript("demo", 404, 1, NULL);
  entry(&server, "demo", 'h', 5, 0, 0);
  check_transcript("demo", 200, 1, "[]");
  entry(&server, "demo", 'f', 5, 2, 0);
  entry(&server, "demo", 's', 5, 3, 2);
  check_transcript("demo", 200, 1, "[" RECORD("2") "]");
  server_do(&server, "XTRIM vc:history:demo MINID = 5-1");
  check_transcript("demo", 200, 0, "[" RECORD("2") "]");
}

static void test_a_transcript_with_holes(void **state)
{
  entry(&server, "demo", 'h', 5, 0, 0);
  entry(&server, "demo", 'f', 5, 2, 1);
  check_transcript("demo", 200, 0, "[" RECORD("2") "]");
  server_do(&server, "DEL vc:history:demo");
  entry(&server, "demo", 'h', 5, 0, 0);
  entry(&server, "demo", 'f', 5, 2, 0);
  server_do(&server, "XADD vc:history:demo 5-3 message x");
  check_transcript("demo", 200, 0, "[" RECORD("2") "]");
}

static void test_a_long_transcript(void **state)
{
  fill_stream(N_ENTRIES);
  struct vc_query *query = node_ask(&node, "demo");
  assert_int_equal(vc_query_status(query), 200);
  assert_true(vc_query_is_complete(query));
  const struct vc_buffer *reply = vc_query_reply(query);
  json_t *list = json_loadb((const char *)reply->data, reply->size, 0, NULL);
  assert_int_equal(json_array_size(list), N_ENTRIES - 1);
  json_decref(list);
  vc_query_unref(query);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(test_what_is_not_there_is_filled_too),
      TEST(test_stream_then_live),
      TEST(test_a_message_is_whole),
      TEST(test_a_position_is_gone_on_from),
      TEST(test_a_lost_final_is_read),
      TEST(test_a_final_that_is_nowhere_is_a_gap),
      TEST(test_a_newer_epoch),
      TEST(test_a_long_stream_comes_in_pieces),
      TEST(test_a_trimmed_stream),
      TEST(test_an_expired_stream_is_a_gap),
      TEST(test_an_expired_stream_behind_an_end_is_none),
      TEST(test_a_flushed_stream_is_written_again),
      TEST(test_garbage_is_passed_over),
      TEST(test_an_id_is_checked),
      TEST(test_an_epoch_beyond_all_clocks_is_nobodys),
      TEST(test_a_key_that_is_no_stream),
      TEST(test_forgotten_scripts),
      TEST(test_owners),
      TEST(test_an_erasure_reaches_all),
      TEST(test_an_end_is_for_its_owner),
      TEST(test_what_is_not_watched_does_not_come),
      TEST(test_watching_again_reads_again),
      TEST(test_coming_and_going),
      TEST(test_many),
      TEST(test_a_ledger_that_is_behind_loses_nothing),
      TEST(test_a_killed_redis),
      TEST(test_a_connection_that_is_cut),
      TEST(test_a_frozen_redis),
      TEST(test_a_redis_that_was_never_there),
      TEST(test_a_user_without_channels),
      TEST(test_a_channel_that_is_refused),
      TEST(test_a_channel_that_is_refused_among_others),
      TEST(test_what_owners_say_is_refused),
      TEST(test_a_prefix_that_looks_like_a_pattern),
      TEST(test_a_transcript),
      TEST(test_a_transcript_with_holes),
      TEST(test_a_long_transcript),
  };
  if (!server_is_there("redis/watch")) {
    return 0;
  }
  server_start(&server, NULL);
  int status = cmocka_run_group_tests(tests, NULL, NULL);
  server_stop(&server);
  return status;
}
