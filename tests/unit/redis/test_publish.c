// What is published here, and what the ledger is asked and told.
#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define HELLO VC_MESSAGE_HELLO
#define FINAL VC_MESSAGE_FINAL
#define PARTIAL VC_MESSAGE_PARTIAL
#define N_MANY 3000

static struct server server;
static struct rig rig, other;

static int set_up(void **state)
{
  server_do(&server, "FLUSHALL");
  rig_begin(&rig, &server, "a", "");
  return 0;
}

static int tear_down(void **state)
{
  rig_stop(&rig);
  return 0;
}

static void say(int64_t epoch, enum vc_message_kind kind, uint64_t seq, uint64_t prev)
{
  rig_say(&rig, "demo", epoch, (struct rig_said){kind, seq, prev});
}

// A session of epoch 5 with the entries 0, 2 and 3.
static void begin(void)
{
  assert_int_equal(rig_claim(&rig, "demo", 5), 5);
  say(5, HELLO, 0, 0);
  say(5, PARTIAL, 1, 0);
  say(5, FINAL, 2, 0);
  say(5, FINAL, 3, 2);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3");
}

// As where its owner's key has expired.
static void others_speak_for_it(void)
{
  server_do(&server, "DEL vc:owner:demo");
  server_do(&server, "XADD vc:history:demo 5-1000003 message {\"v\":1,\"node\":\"b\",\"epoch\":5}");
}

// --- what goes out

static void test_messages(void **state)
{
  static const struct rig_said said[] = {{HELLO, 0, 0},
                                         {PARTIAL, 1, 0},
                                         {FINAL, 2, 0},
                                         {VC_MESSAGE_STATUS, 3, 2},
                                         {VC_MESSAGE_RETRACT, 4, 3},
                                         {VC_MESSAGE_END, 5, 3}};
  redisContext *listener = server_connection(&server);
  freeReplyObject(redisCommand(listener, "SUBSCRIBE vc:live:demo"));
  assert_int_equal(rig_claim(&rig, "demo", 5), 5);
  for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
    rig_say(&rig, "demo", 5, said[i]);
  }
  for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
    char wanted[512];
    redisReply *reply = NULL;
    snprintf(wanted, sizeof wanted,
             "{\"v\":1,\"node\":\"a\",\"epoch\":5,\"seq\":%llu,\"prevFinal\":%llu,"
             "\"startedAt\":1790000000.000,\"receivedAt\":1790000000.123,"
             "\"frame\":{\"session\":\"demo\",\"epoch\":5,\"seq\":%llu}}",
             (unsigned long long)said[i].seq, (unsigned long long)said[i].prev,
             (unsigned long long)said[i].seq);
    assert_int_equal(redisGetReply(listener, (void **)&reply), REDIS_OK);
    assert_string_equal(reply->element[2]->str, wanted);
    freeReplyObject(reply);
  }
  redisFree(listener);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-5");
  rig_wait_metric(&rig, "redis.kept_total", 4);
  rig_wait_metric(&rig, "redis.partials_total", 2);
  assert_int_equal(rig_metric(&rig, "redis.dropped_total"), 0);
  assert_int_equal(rig_metric(&rig, "redis.holes_total"), 0);
  rig_expect_no_remote(&rig);
}

static void test_many_in_order(void **state)
{
  char last[32];
  assert_int_equal(rig_claim(&rig, "demo", 5), 5);
  say(5, HELLO, 0, 0);
  for (uint64_t seq = 1; seq <= N_MANY; seq++) {
    say(5, FINAL, seq, seq - 1);
  }
  rig_wait_metric(&rig, "redis.kept_total", N_MANY + 1);
  redisReply *reply = server_ask(&server, "XREVRANGE vc:history:demo + - COUNT 1");
  snprintf(last, sizeof last, "5-%d", N_MANY);
  assert_string_equal(reply->element[0]->element[0]->str, last);
  freeReplyObject(reply);
  assert_int_equal(rig_metric(&rig, "redis.holes_total"), 0);
}

// --- holes

static void test_flushed(void **state)
{
  static const struct rig_said all[] = {{HELLO, 0, 0}, {FINAL, 2, 0}, {FINAL, 3, 2}, {FINAL, 4, 3}};
  begin();
  server_do(&server, "FLUSHALL");
  say(5, FINAL, 4, 3);
  rig_expect_ask(&rig, "demo", 0, 0);
  say(5, PARTIAL, 5, 4); // of no use to anybody now
  rig_give(&rig, "demo", (struct vc_position){0, 0}, 0, 5, all, 2);
  rig_give(&rig, "demo", (struct vc_position){5, 2}, 1, 5, all + 2, 2);
  say(5, FINAL, 6, 4);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4 5-6");
  assert_int_equal(rig_metric(&rig, "redis.asked_total"), 1);
  rig_expect_no_remote(&rig);
}

// Nobody says anything: the renewal finds out.
static void test_flushed_and_silent(void **state)
{
  static const struct rig_said all[] = {{HELLO, 0, 0}, {FINAL, 2, 0}, {FINAL, 3, 2}};
  begin();
  server_do(&server, "FLUSHALL");
  rig_expect_ask(&rig, "demo", 0, 0);
  rig_give(&rig, "demo", (struct vc_position){0, 0}, 1, 5, all, 3);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3");
  rig_wait_owner(&server, "demo", "a", 5);
}

static void test_lost_in_the_lane(void **state)
{
  static const struct rig_said lost[] = {{FINAL, 4, 3}, {FINAL, 5, 4}};
  begin();
  say(5, FINAL, 5, 4); // 4 did not fit
  rig_expect_ask(&rig, "demo", 5, 3);
  rig_give(&rig, "demo", (struct vc_position){5, 3}, 1, 5, lost, 2);
  say(5, FINAL, 6, 5);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4 5-5 5-6");
}

static void test_lost_piece(void **state)
{
  static const struct rig_said rest[] = {{FINAL, 4, 3}, {FINAL, 5, 4}, {FINAL, 6, 5}};
  begin();
  say(5, FINAL, 6, 5);
  rig_expect_ask(&rig, "demo", 5, 3);
  rig_give(&rig, "demo", (struct vc_position){5, 4}, 1, 5, rest + 1, 2); // the first did not fit
  rig_expect_ask(&rig, "demo", 5, 3);
  rig_give(&rig, "demo", (struct vc_position){5, 3}, 1, 5, rest, 3);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4 5-5 5-6");
}

static void test_ask_without_an_answer(void **state)
{
  static const struct rig_said rest[] = {{FINAL, 4, 3}, {FINAL, 5, 4}};
  begin();
  say(5, FINAL, 5, 4);
  rig_expect_ask(&rig, "demo", 5, 3);
  rig_expect_ask(&rig, "demo", 5, 3); // after ASK_PATIENCE_MS
  rig_give(&rig, "demo", (struct vc_position){5, 3}, 1, 5, rest, 2);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4 5-5");
  rig_give(&rig, "demo", (struct vc_position){5, 3}, 1, 5, rest, 2); // the other answer
  say(5, FINAL, 6, 5);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4 5-5 5-6");
  assert_int_equal(rig_metric(&rig, "redis.repeated_total"), 0);
}

// What the ledger has let go of itself is not asked for for ever.
static void test_trimmed_history(void **state)
{
  static const struct rig_said rest[] = {{FINAL, 90, 89}, {FINAL, 91, 90}};
  begin();
  say(5, FINAL, 91, 90);
  rig_expect_ask(&rig, "demo", 5, 3);
  rig_give(&rig, "demo", (struct vc_position){5, 3}, 1, 5, rest, 2);
  say(5, FINAL, 92, 91);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-90 5-91 5-92");
  say(5, FINAL, 94, 93);
  rig_expect_ask(&rig, "demo", 5, 92);
  rig_give(&rig, "demo", (struct vc_position){5, 92}, 1, 5, NULL, 0);
  static const struct rig_said late[] = {{FINAL, 95, 94}};
  say(5, FINAL, 95, 94);
  rig_expect_ask(&rig, "demo", 5, 92);
  rig_give(&rig, "demo", (struct vc_position){5, 92}, 1, 5, late, 1);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-90 5-91 5-92 5-95");
}

static void test_scripts_forgotten(void **state)
{
  static const struct rig_said rest[] = {{FINAL, 4, 3}};
  begin();
  server_do(&server, "SCRIPT FLUSH");
  say(5, FINAL, 4, 3);
  rig_expect_ask(&rig, "demo", 5, 3);
  rig_give(&rig, "demo", (struct vc_position){5, 3}, 1, 5, rest, 1);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4");
  server_do(&server, "SCRIPT FLUSH");
  assert_int_equal(rig_claim(&rig, "demo", 5), 6);
  assert_true(rig_metric(&rig, "redis.errors_noscript_total") >= 2);
}

// --- whose it is

static void test_take_over(void **state)
{
  begin();
  rig_begin(&other, &server, "b", "");
  struct redis_claim *claim = rig_claim_whole(&other, "demo", 1);
  assert_int_equal(claim->epoch, 6);
  assert_string_equal(claim->previous.node, "a");
  assert_int_equal(claim->previous.epoch, 5);
  assert_int_equal(claim->last.epoch, 5);
  assert_int_equal(claim->last.seq, 3);
  vc_item_destroy(&claim->item.owned.item);

  struct vc_remote *taken = rig_remote(&rig, VC_REMOTE_TAKEN); // by the renewal
  assert_string_equal(taken->node, "b");
  assert_int_equal(taken->epoch, 6);
  vc_item_destroy(&taken->item);
  say(5, FINAL, 4, 3); // the last words
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4");
  rig_release(&rig, "demo", 5, 4);
  rig_expect_released(&rig, "demo");
  assert_int_equal(server_number(&server, "EXISTS vc:owner:demo"), 1); // b's

  rig_say(&other, "demo", 6, (struct rig_said){HELLO, 0, 0});
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4 6-0");
  rig_expect_no_remote(&other);
  rig_stop(&other);
}

// Another numbered it while Redis was away: its epoch is larger, whatever the key says.
static void test_fenced(void **state)
{
  begin();
  server_do(&server, "XADD vc:history:demo 7-0 message {\"v\":1,\"node\":\"b\",\"epoch\":7}");
  say(5, FINAL, 4, 3);
  struct vc_remote *taken = rig_remote(&rig, VC_REMOTE_TAKEN);
  assert_string_equal(taken->slug, "demo");
  assert_int_equal(taken->epoch, 7);
  vc_item_destroy(&taken->item);
  say(5, FINAL, 5, 4); // goes on to the journal, not here
  rig_wait_metric(&rig, "redis.dropped_total", 1);
  assert_string_equal(rig_stream(&server, "demo"), "5-0 5-2 5-3 7-0");

  assert_int_equal(rig_claim(&rig, "demo", 5), 8);
  say(8, HELLO, 0, 0);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 7-0 8-0");
}

// Redis answered a claim when the ledger had gone on without it, from a clock that is behind.
static void test_a_claim_of_a_clock_that_is_behind(void **state)
{
  server_do(&server, "XADD vc:history:demo 9-3 message {\"v\":1,\"node\":\"b\",\"epoch\":9}");
  assert_int_equal(rig_claim(&rig, "demo", 5), 10);
  say(5, HELLO, 0, 0);
  struct vc_remote *fenced = rig_remote(&rig, VC_REMOTE_FENCED);
  assert_int_equal(fenced->epoch, 5);
  vc_item_destroy(&fenced->item);
  assert_int_equal(rig_claim(&rig, "demo", 6), 11);
  say(11, HELLO, 0, 0);
  rig_wait_stream(&server, "demo", "9-3 11-0");
  rig_expect_no_remote(&rig);
}

// And the session was over before it could be claimed again.
static void test_a_claim_that_was_not_waited_for_is_let_go(void **state)
{
  server_do(&server, "XADD vc:history:demo 9-3 message {\"v\":1,\"node\":\"b\",\"epoch\":9}");
  assert_int_equal(rig_claim(&rig, "demo", 5), 10);
  say(6, HELLO, 0, 0);
  rig_release(&rig, "demo", 6, 0);
  rig_expect_released(&rig, "demo");
  rig_wait_no_owner(&server, "demo");
  rig_wait_gauge(&rig, "redis.owned", 0);
}

// Numbers that no node can have given out: nothing is built upon them.
static void test_an_owner_with_an_odd_epoch_is_none(void **state)
{
  static const char *const epochs[] = {"1e300",
                                       "9223372036854775807",
                                       "9007199254740993",
                                       "9007199254740992",
                                       "4503599627370497",
                                       "-7",
                                       "\"x\"",
                                       "null"};
  for (size_t i = 0; i < sizeof epochs / sizeof *epochs; i++) {
    server_do(&server, "SET vc:owner:demo {\"node\":\"b\",\"epoch\":%s}", epochs[i]);
    struct redis_claim *claim = rig_claim_whole(&rig, "demo", 5);
    assert_int_equal(claim->epoch, 5);
    assert_int_equal(claim->previous.epoch, 0);
    vc_item_destroy(&claim->item.owned.item);
    rig_wait_owner(&server, "demo", "a", 5);
  }
}

// And takes no session from us.
static void test_an_odd_owner_of_what_is_ours(void **state)
{
  static const char *const epochs[] = {"9007199254740993", "9007199254740992", "4503599627370497"};
  begin();
  for (size_t i = 0; i < sizeof epochs / sizeof *epochs; i++) {
    server_do(&server, "SET vc:owner:demo {\"node\":\"b\",\"epoch\":%s}", epochs[i]);
    rig_wait_owner(&server, "demo", "a", 5);
  }
  say(5, FINAL, 4, 3);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4");
  rig_expect_no_remote(&rig);
  assert_int_equal(rig_metric(&rig, "redis.taken_total"), 0);
}

static void test_an_epoch_that_leaves_none_for_others(void **state)
{
  server_do(&server, "SET vc:owner:demo {\"node\":\"b\",\"epoch\":4503599627370496}");
  assert_int_equal(rig_claim(&rig, "demo", 5), 0);
  assert_int_equal(rig_metric(&rig, "redis.malformed_total"), 1);
  rig_wait_owner(&server, "demo", "b", VC_EPOCH_MAX); // nor is the key ours
  say(5, HELLO, 0, 0); // the ledger goes on alone, and nobody takes that from it
  rig_wait_metric(&rig, "redis.malformed_total", 2);
  rig_expect_no_remote(&rig);
}

// Others would find what it leaves behind.
static void test_a_clock_beyond_all_measure(void **state)
{
  const int64_t epoch = VC_EPOCH_MAX + 7;
  assert_int_equal(rig_claim(&rig, "demo", epoch), 0);
  assert_int_equal(rig_metric(&rig, "redis.malformed_total"), 1);
  say(epoch, HELLO, 0, 0);
  rig_wait_metric(&rig, "redis.dropped_total", 1);
  rig_expect_no_remote(&rig);
  assert_int_equal(server_number(&server, "EXISTS vc:owner:demo vc:history:demo"), 0);
}

static void expect_left_alone(const char *epoch)
{
  static const struct rig_said all[] = {{HELLO, 0, 0}, {FINAL, 1, 0}};
  server_do(&server, "XADD vc:history:demo %s-1 message nonsense", epoch);
  assert_int_equal(rig_claim(&rig, "demo", 5), 0);
  assert_int_equal(server_number(&server, "EXISTS vc:owner:demo"), 0);
  say(5, HELLO, 0, 0); // the ledger goes on alone, and nobody takes that from it
  rig_wait_metric(&rig, "redis.malformed_total", 2);
  rig_wait_health(&rig, "streams of 1 sessions end with what no node has numbered");
  rig_expect_no_remote(&rig);
  server_do(&server, "DEL vc:history:demo");
  rig_expect_ask(&rig, "demo", 0, 0);
  rig_give(&rig, "demo", (struct vc_position){0, 0}, 1, 5, all, 2);
  rig_wait_stream(&server, "demo", "5-0 5-1");
  rig_wait_owner(&server, "demo", "a", 5);
  rig_wait_health(&rig, "");
  assert_int_equal(rig_metric(&rig, "redis.fenced_total"), 0);
}

// Nothing is numbered behind what an older epoch ends with.
static void test_an_older_epoch_that_ends_beyond_all_numbers(void **state)
{
  static const char *const seqs[] = {"18446744073709551615", "9007199254740993",
                                     "4503599627370497"};
  static const struct rig_said all[] = {{HELLO, 0, 0}, {FINAL, 1, 0}};
  for (size_t i = 0; i < sizeof seqs / sizeof *seqs; i++) {
    char slug[8], ids[64];
    snprintf(slug, sizeof slug, "s%zu", i);
    snprintf(ids, sizeof ids, "4-%s 5-0 5-1", seqs[i]);
    server_do(&server, "XADD vc:history:%s 4-%s message {\"v\":1,\"node\":\"b\",\"epoch\":4}", slug,
              seqs[i]);
    assert_int_equal(rig_claim(&rig, slug, 5), 5);
    rig_say(&rig, slug, 5, all[0]);
    rig_say(&rig, slug, 5, all[1]);
    rig_wait_stream(&server, slug, ids);
    rig_wait_owner(&server, slug, "a", 5);
  }
  rig_expect_no_remote(&rig);
  assert_int_equal(rig_metric(&rig, "redis.malformed_total"), 0);
}

// But behind what ours ends with.
static void test_our_epoch_that_ends_beyond_all_numbers(void **state)
{
  begin();
  server_do(&server, "XADD vc:history:demo 5-9007199254740993 message "
                     "{\"v\":1,\"node\":\"a\",\"epoch\":5}");
  say(5, FINAL, 4, 3);
  rig_wait_health(&rig, "streams of 1 sessions end with what no node has numbered");
  assert_int_equal(rig_metric(&rig, "redis.kept_total"), 3);
  rig_expect_no_remote(&rig);
}

// Unless that is another's: then it is not ours any more, whatever he numbers.
static void test_our_epoch_that_another_ends_beyond_all_numbers(void **state)
{
  begin();
  server_do(&server, "XADD vc:history:demo 5-9007199254740993 message "
                     "{\"v\":1,\"node\":\"b\",\"epoch\":5}");
  say(5, FINAL, 4, 3);
  vc_item_destroy(&rig_remote(&rig, VC_REMOTE_FENCED)->item);
  assert_int_equal(rig_metric(&rig, "redis.fenced_total"), 1);
  assert_int_equal(rig_metric(&rig, "redis.malformed_total"), 0);
}

static void test_a_renewal_that_finds_another_beyond_all_numbers(void **state)
{
  begin();
  server_do(&server, "XADD vc:history:demo 5-9007199254740993 message "
                     "{\"v\":1,\"node\":\"b\",\"epoch\":5}");
  vc_item_destroy(&rig_remote(&rig, VC_REMOTE_FENCED)->item);
}

// Whose it is the key tells, whatever the stream ends with.
static void test_a_renewal_that_finds_an_owner_and_an_odd_end(void **state)
{
  begin();
  server_do(&server, "XADD vc:history:demo 5-9007199254740993 message "
                     "{\"v\":1,\"node\":\"b\",\"epoch\":5}");
  server_do(&server, "SET vc:owner:demo {\"node\":\"b\",\"epoch\":6}");
  vc_item_destroy(&rig_remote(&rig, VC_REMOTE_TAKEN)->item);
}

static void test_a_stream_that_ends_beyond_all_numbers(void **state)
{
  expect_left_alone("18446744073709551615");
}

static void test_a_stream_that_ends_with_what_lua_rounds(void **state)
{
  expect_left_alone("9007199254740993");
}

static void test_a_stream_that_ends_beyond_all_clocks(void **state)
{
  expect_left_alone("4503599627370497");
}

// There was no memory to begin what was claimed.
static void test_a_claim_of_which_nothing_was_said_is_let_go(void **state)
{
  assert_int_equal(rig_claim(&rig, "demo", 5), 5);
  rig_release(&rig, "demo", 5, 0);
  rig_expect_ask(&rig, "demo", 0, 0);
  rig_give(&rig, "demo", (struct vc_position){0, 0}, 1, 5, NULL, 0);
  rig_expect_released(&rig, "demo");
  rig_wait_no_owner(&server, "demo");
  rig_wait_gauge(&rig, "redis.owned", 0);
}

// What is released late is of the session before.
static void test_a_release_behind_the_next_claim(void **state)
{
  begin();
  assert_int_equal(rig_claim(&rig, "demo", 6), 6);
  rig_release(&rig, "demo", 5, 3);
  say(6, HELLO, 0, 0);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 6-0");
  rig_wait_owner(&server, "demo", "a", 6);
  assert_null(rig_take_owned(&rig));
}

// The session was over before Redis answered its claim: nobody owns it for ever.
static void test_a_claim_that_outlives_its_session(void **state)
{
  server_do(&server, "XADD vc:history:demo 9-3 message {\"v\":1,\"node\":\"b\",\"epoch\":9}");
  server_freeze(&server);
  struct redis_claim *claim = redis_claim_create("demo", 5);
  assert_int_equal(vc_putter_put(rig.redis->watch_to_publish, 0, &claim->item.owned.item), 0);
  say(6, HELLO, 0, 0);
  rig_release(&rig, "demo", 6, 0);
  server_thaw(&server);
  rig_wait_metric(&rig, "redis.claims_total", 1);
  rig_wait_no_owner(&server, "demo");
  rig_wait_gauge(&rig, "redis.owned", 0);
}

// Redis was away when it was claimed: the node went on alone.
static void test_never_claimed(void **state)
{
  static const struct rig_said all[] = {{HELLO, 0, 0}, {FINAL, 1, 0}};
  say(5, HELLO, 0, 0);
  say(5, FINAL, 1, 0);
  rig_expect_ask(&rig, "demo", 0, 0);
  rig_give(&rig, "demo", (struct vc_position){0, 0}, 1, 5, all, 2);
  say(5, FINAL, 2, 1);
  rig_wait_stream(&server, "demo", "5-0 5-1 5-2");
  rig_wait_owner(&server, "demo", "a", 5);
}

static void test_claimed_again(void **state)
{
  begin();
  struct redis_claim *claim = rig_claim_whole(&rig, "demo", 1);
  assert_int_equal(claim->epoch, 6);
  assert_string_equal(claim->previous.node, "a");
  vc_item_destroy(&claim->item.owned.item);
  say(5, VC_MESSAGE_END, 4, 3); // what was still to be said of the epoch before
  say(6, HELLO, 0, 0);
  say(6, FINAL, 1, 0);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4 6-0 6-1");
  rig_expect_no_remote(&rig);
}

// The node numbers from a later epoch than the one that it was given: its key follows.
static void test_later_epoch(void **state)
{
  begin();
  say(9, HELLO, 0, 0);
  say(9, FINAL, 1, 0);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 9-0 9-1");
  rig_expect_no_remote(&rig);
  assert_int_equal(rig_metric(&rig, "redis.dropped_total"), 0);
  rig_wait_owner(&server, "demo", "a", 9);
}

static void test_release(void **state)
{
  redisContext *listener = server_connection(&server);
  begin();
  freeReplyObject(redisCommand(listener, "SUBSCRIBE vc:ctl:demo"));
  say(5, VC_MESSAGE_END, 4, 3);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4");
  server_do(&server, "PERSIST vc:history:demo");
  rig_release(&rig, "demo", 5, 4);
  rig_expect_released(&rig, "demo");
  redisReply *reply = NULL;
  assert_int_equal(redisGetReply(listener, (void **)&reply), REDIS_OK);
  assert_string_equal(reply->element[2]->str, "{\"type\":\"released\",\"node\":\"a\",\"epoch\":5}");
  freeReplyObject(reply);
  redisFree(listener);
  assert_int_equal(server_number(&server, "EXISTS vc:owner:demo"), 0);
  assert_in_range(server_number(&server, "PTTL vc:history:demo"), 1, RIG_KEEP_MS);
  assert_string_equal(rig_stream(&server, "demo"), "5-0 5-2 5-3 5-4");
  rig_wait_gauge(&rig, "redis.owned", 0);
}

// SESSION_KEEP_MS is of ended sessions: a live one's words are for those who come to other nodes.
static void test_who_keeps_no_ended_session_keeps_a_live_one(void **state)
{
  rig_stop(&rig);
  rig = (struct rig){.keeps_nothing = 1};
  rig_start(&rig, &server, "a", server.url);
  rig_wait_gauge(&rig, "redis.connections", 3);
  begin();
  assert_in_range(server_number(&server, "PTTL vc:history:demo"), 9000, 10000);
  say(5, FINAL, 4, 3);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-4");
  rig_expect_no_remote(&rig);
  assert_int_equal(rig_metric(&rig, "redis.holes_total"), 0);
}

// Its end did not fit the lane.
static void test_release_without_its_last(void **state)
{
  static const struct rig_said end[] = {{VC_MESSAGE_END, 4, 3}};
  begin();
  rig_release(&rig, "demo", 5, 4);
  rig_expect_ask(&rig, "demo", 5, 3);
  rig_give(&rig, "demo", (struct vc_position){5, 3}, 1, 5, end, 1);
  rig_expect_released(&rig, "demo");
  assert_string_equal(rig_stream(&server, "demo"), "5-0 5-2 5-3 5-4");
  rig_wait_gauge(&rig, "redis.owned", 0);
}

// Who waits for its last is not told that this is all.
static void test_release_of_what_is_not_whole(void **state)
{
  redisContext *listener = server_connection(&server);
  begin();
  freeReplyObject(redisCommand(listener, "SUBSCRIBE vc:ctl:demo"));
  rig_release(&rig, "demo", 5, 4);
  rig_expect_ask(&rig, "demo", 5, 3);
  rig_expect_released(&rig, "demo"); // after LET_GO_MS
  rig_wait_no_owner(&server, "demo");
  server_do(&server, "PUBLISH vc:ctl:demo nothing");
  redisReply *reply = NULL;
  assert_int_equal(redisGetReply(listener, (void **)&reply), REDIS_OK);
  assert_string_equal(reply->element[2]->str, "nothing");
  freeReplyObject(reply);
  redisFree(listener);
}

// The ledger has let go of it itself.
static void test_release_of_what_nobody_has(void **state)
{
  begin();
  rig_release(&rig, "demo", 5, 4);
  rig_expect_ask(&rig, "demo", 5, 3);
  rig_give(&rig, "demo", (struct vc_position){5, 3}, 1, 5, NULL, 0);
  rig_expect_released(&rig, "demo");
  rig_wait_gauge(&rig, "redis.owned", 0);
}

static void test_orphan(void **state)
{
  server_do(&server, "XADD vc:history:demo 5-3 message {\"v\":1,\"node\":\"b\",\"epoch\":5}");
  rig_orphan(&rig, "demo", 5, (struct rig_said){VC_MESSAGE_STATUS, 4, 3});
  rig_orphan(&rig, "demo", 5, (struct rig_said){VC_MESSAGE_STATUS, 4, 3});
  rig_orphan(&rig, "demo", 5, (struct rig_said){VC_MESSAGE_END, 5, 4});
  rig_wait_stream(&server, "demo", "5-3 5-4 5-5");
  rig_wait_metric(&rig, "redis.orphans_total", 2);
}

// A node that was frozen for so long that another spoke for it.
static void test_was_orphaned(void **state)
{
  begin();
  server_do(&server, "XADD vc:history:demo 5-4 message {\"v\":1,\"node\":\"b\",\"epoch\":5}");
  say(5, PARTIAL, 4, 3);
  say(5, FINAL, 5, 3);
  vc_item_destroy(&rig_remote(&rig, VC_REMOTE_FENCED)->item);
  assert_string_equal(rig_stream(&server, "demo"), "5-0 5-2 5-3 5-4");
}

// The same, far behind all that it will say, and found when it is back.
static void test_was_orphaned_while_it_was_cut_off(void **state)
{
  begin();
  others_speak_for_it();
  server_do(&server, "CLIENT KILL TYPE normal SKIPME yes");
  vc_item_destroy(&rig_remote(&rig, VC_REMOTE_FENCED)->item);
  assert_int_equal(rig_claim(&rig, "demo", 5), 6);
  say(6, HELLO, 0, 0);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-1000003 6-0");
}

// It may be asked once more for what is not there.
static void expect_not_given_up(void)
{
  struct vc_remote *remote;
  while ((remote = rig_take_remote(&rig)) != NULL) {
    assert_int_equal(remote->kind, VC_REMOTE_ASK);
    vc_item_destroy(&remote->item);
  }
}

// It was released with a last word that the stream has not, and others say the end for it.
static void begin_given_up(void)
{
  begin();
  rig_release(&rig, "demo", 5, 4);
  rig_expect_ask(&rig, "demo", 5, 3);
  rig_expect_released(&rig, "demo"); // after LET_GO_MS
  rig_wait_no_owner(&server, "demo");
  server_do(&server, "XADD vc:history:demo 5-1000003 message {\"v\":1,\"node\":\"b\",\"epoch\":5}");
}

// It is told at each look, of which there may be one more than was asked for.
static void expect_given_up(uint64_t seq)
{
  uint64_t told = 0;
  while (told != seq) {
    struct vc_remote *remote = rig_remote(&rig, VC_REMOTE_GIVEN_UP);
    assert_string_equal(remote->slug, "demo");
    assert_int_equal(remote->epoch, 5);
    assert_int_equal(remote->to, 3);
    told = remote->seq;
    vc_item_destroy(&remote->item);
  }
}

// By a new connection.
static void look_again(void)
{
  uint64_t n_connects = rig_metric(&rig, "redis.connects_total");
  server_do(&server, "CLIENT KILL TYPE normal SKIPME yes");
  rig_wait_metric(&rig, "redis.connects_total", n_connects + 1);
}

static void test_was_given_up_after_its_release(void **state)
{
  begin_given_up();
  look_again();
  expect_given_up(1000003);
  look_again(); // until it is said
  expect_given_up(1000003);
  assert_int_equal(rig_metric(&rig, "redis.given_up_total"), 1);
  rig_orphan_behind(&rig, "demo", (struct vc_position){5, 1000003},
                    (struct rig_said){VC_MESSAGE_END, 1000005, 1000004});
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-1000003 5-1000005");
  rig_wait_gauge(&rig, "redis.owned", 0);
}

// And the answer is lost.
static void test_was_given_up_and_has_said_so(void **state)
{
  begin_given_up();
  server_do(&server, "XADD vc:history:demo 5-1000005 message {\"v\":1,\"node\":\"a\",\"epoch\":5}");
  look_again();
  rig_wait_gauge(&rig, "redis.owned", 0);
  expect_not_given_up();
}

// The ledger, which had just said the end, was told that it is fenced.
static void test_was_fenced_when_it_was_released(void **state)
{
  begin();
  others_speak_for_it();
  say(5, FINAL, 4, 3);
  vc_item_destroy(&rig_remote(&rig, VC_REMOTE_FENCED)->item);
  say(5, VC_MESSAGE_END, 5, 4);
  rig_release(&rig, "demo", 5, 5);
  expect_given_up(1000003);
  rig_expect_released(&rig, "demo");
}

// Others say more before we do.
static void test_was_given_up_once_more(void **state)
{
  begin_given_up();
  look_again();
  expect_given_up(1000003);
  server_do(&server, "XADD vc:history:demo 5-2000003 message {\"v\":1,\"node\":\"b\",\"epoch\":5}");
  rig_orphan_behind(&rig, "demo", (struct vc_position){5, 1000003},
                    (struct rig_said){VC_MESSAGE_END, 1000005, 1000004});
  look_again();
  expect_given_up(2000003);
}

// What it did not know to be in the stream was.
static void test_was_given_up_with_all_of_its_words(void **state)
{
  begin();
  rig_release(&rig, "demo", 5, 4);
  rig_expect_ask(&rig, "demo", 5, 3);
  rig_expect_released(&rig, "demo");
  server_do(&server, "XADD vc:history:demo 5-4 message {\"v\":1,\"node\":\"a\",\"epoch\":5}");
  server_do(&server, "XADD vc:history:demo 5-1000004 message {\"v\":1,\"node\":\"b\",\"epoch\":5}");
  look_again();
  rig_wait_gauge(&rig, "redis.owned", 0);
  expect_not_given_up();
}

// It finds others' word where it writes its own.
static void test_was_given_up_while_it_was_released(void **state)
{
  static const struct rig_said end[] = {{VC_MESSAGE_END, 4, 3}};
  begin();
  rig_release(&rig, "demo", 5, 4);
  rig_expect_ask(&rig, "demo", 5, 3);
  others_speak_for_it();
  rig_give(&rig, "demo", (struct vc_position){5, 3}, 1, 5, end, 1);
  expect_given_up(1000003);
  rig_expect_released(&rig, "demo");
}

// Whoever begins the next epoch says it.
static void test_a_claim_behind_what_was_given_up(void **state)
{
  begin_given_up();
  for (int64_t epoch = 6; epoch <= 7; epoch++) {
    struct redis_claim *claim = rig_claim_whole(&rig, "demo", epoch);
    assert_int_equal(claim->epoch, epoch);
    assert_int_equal(claim->is_after_loss, epoch == 6);
    vc_item_destroy(&claim->item.owned.item);
    say(epoch, HELLO, 0, 0);
  }
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-1000003 6-0 7-0");
}

// Others lack its end and nothing else.
static void test_a_claim_behind_what_lacks_its_end(void **state)
{
  static const struct rig_said end[] = {{VC_MESSAGE_END, 4, 3}};
  begin();
  others_speak_for_it();
  say(5, end[0].kind, end[0].seq, end[0].prev);
  vc_item_destroy(&rig_remote(&rig, VC_REMOTE_FENCED)->item);
  struct redis_claim *claim = rig_claim_whole(&rig, "demo", 6);
  assert_int_equal(claim->epoch, 6);
  assert_int_equal(claim->is_after_loss, 0);
  vc_item_destroy(&claim->item.owned.item);
}

// It is looked at while a claim is under way: what that finds is of the epoch before.
static void test_a_look_over_a_claim(void **state)
{
  begin();
  others_speak_for_it();
  say(5, FINAL, 4, 3);
  vc_item_destroy(&rig_remote(&rig, VC_REMOTE_FENCED)->item);
  server_do(&server, "CLIENT PAUSE 1000 ALL");
  struct redis_claim *claim = rig_claim_begin(&rig, "demo", 6);
  rig_release(&rig, "demo", 5, 5);
  rig_expect_released(&rig, "demo");
  rig_claim_await(&rig, claim);
  assert_int_equal(claim->epoch, 6);
  assert_int_equal(claim->is_after_loss, 1);
  vc_item_destroy(&claim->item.owned.item);
  say(6, HELLO, 0, 0);
  rig_wait_stream(&server, "demo", "5-0 5-2 5-3 5-1000003 6-0");
  rig_expect_no_remote(&rig);
}

// What the stream lacks then is still to be written.
static void test_a_claim_before_all_is_written(void **state)
{
  begin();
  rig_release(&rig, "demo", 5, 4);
  rig_expect_ask(&rig, "demo", 5, 3);
  struct redis_claim *claim = rig_claim_whole(&rig, "demo", 6);
  assert_int_equal(claim->epoch, 6);
  assert_int_equal(claim->is_after_loss, 0);
  vc_item_destroy(&claim->item.owned.item);
}

// Two with one NODE_ID: the second says so. One that comes after another that was killed does not.
static void test_a_namesake(void **state)
{
  static struct rig first;
  memset(&other, 0, sizeof other);
  server_do(&server, "SET vc:name:twin of-one-that-was-killed PX 10000");
  snprintf(other.sessions, sizeof other.sessions, "[]");
  rig_begin(&first, &server, "twin", "[]");
  for (int i = 0; i < 2; i++) { // it shows itself, and the other's name stays
    rig_wait_shown(&server, "twin");
    server_do(&server, "DEL vc:node:twin");
  }
  rig_wait_health(&first, "");
  server_do(&server, "DEL vc:name:twin");
  while (server_number(&server, "EXISTS vc:name:twin") == 0) {
    rig_wait_shown(&server, "twin");
    server_do(&server, "DEL vc:node:twin");
  }
  rig_start(&other, &server, "twin", server.url);
  rig_wait_health(&other, "another node has the NODE_ID twin");
  rig_wait_health(&first, "");
  rig_stop(&first);
  server_do(&server, "DEL vc:name:twin"); // or after ten seconds
  rig_wait_health(&other, "");
  rig_stop(&other);
}

static void test_stop_lets_go(void **state)
{
  rig_begin(&other, &server, "b", "[]");
  assert_int_equal(rig_claim(&other, "one", 5), 5);
  assert_int_equal(rig_claim(&other, "two", 5), 5);
  rig_say(&other, "one", 5, (struct rig_said){HELLO, 0, 0});
  rig_stop(&other);
  assert_int_equal(server_number(&server, "EXISTS vc:owner:one"), 0);
  assert_int_equal(server_number(&server, "EXISTS vc:owner:two"), 0);
  assert_int_equal(server_number(&server, "EXISTS vc:node:b"), 0);
  assert_string_equal(rig_stream(&server, "one"), "5-0");
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH(test_messages),
      WITH(test_many_in_order),
      WITH(test_flushed),
      WITH(test_flushed_and_silent),
      WITH(test_lost_in_the_lane),
      WITH(test_lost_piece),
      WITH(test_ask_without_an_answer),
      WITH(test_trimmed_history),
      WITH(test_scripts_forgotten),
      WITH(test_take_over),
      WITH(test_fenced),
      WITH(test_a_claim_of_a_clock_that_is_behind),
      WITH(test_a_claim_that_outlives_its_session),
      WITH(test_an_owner_with_an_odd_epoch_is_none),
      WITH(test_an_epoch_that_leaves_none_for_others),
      WITH(test_a_stream_that_ends_beyond_all_numbers),
      WITH(test_a_stream_that_ends_with_what_lua_rounds),
      WITH(test_a_stream_that_ends_beyond_all_clocks),
      WITH(test_a_clock_beyond_all_measure),
      WITH(test_an_older_epoch_that_ends_beyond_all_numbers),
      WITH(test_our_epoch_that_ends_beyond_all_numbers),
      WITH(test_our_epoch_that_another_ends_beyond_all_numbers),
      WITH(test_a_renewal_that_finds_another_beyond_all_numbers),
      WITH(test_a_renewal_that_finds_an_owner_and_an_odd_end),
      WITH(test_an_odd_owner_of_what_is_ours),
      WITH(test_a_claim_of_which_nothing_was_said_is_let_go),
      WITH(test_a_claim_that_was_not_waited_for_is_let_go),
      WITH(test_a_release_behind_the_next_claim),
      WITH(test_never_claimed),
      WITH(test_claimed_again),
      WITH(test_later_epoch),
      WITH(test_release),
      WITH(test_who_keeps_no_ended_session_keeps_a_live_one),
      WITH(test_release_without_its_last),
      WITH(test_release_of_what_is_not_whole),
      WITH(test_release_of_what_nobody_has),
      WITH(test_orphan),
      WITH(test_was_orphaned),
      WITH(test_was_orphaned_while_it_was_cut_off),
      WITH(test_was_given_up_after_its_release),
      WITH(test_was_given_up_and_has_said_so),
      WITH(test_was_fenced_when_it_was_released),
      WITH(test_was_given_up_once_more),
      WITH(test_was_given_up_with_all_of_its_words),
      WITH(test_was_given_up_while_it_was_released),
      WITH(test_a_claim_behind_what_was_given_up),
      WITH(test_a_claim_behind_what_lacks_its_end),
      WITH(test_a_look_over_a_claim),
      WITH(test_a_claim_before_all_is_written),
      WITH(test_a_namesake),
      WITH(test_stop_lets_go),
  };
  if (!server_is_there("redis/publish")) {
    return 0;
  }
  vc_log_level_set(VC_LOG_ERROR);
  server_start(&server, NULL);
  int n_failed = cmocka_run_group_tests_name("redis/publish", tests, NULL, NULL);
  server_stop(&server);
  return n_failed;
}
