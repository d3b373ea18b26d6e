// Viewers come, say things, fall silent, are sent away, and go.
#include "no_verdict.h"
#include "rig.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/wire/json.h>
#include <verbacast/wire/lag.h>

static const struct vc_position nowhere;

static void two_workers(struct rig *rig)
{
  rig->n_workers = 2;
}

static void few_viewers(struct rig *rig)
{
  rig->max_viewers = 2;
}

static int set_up(void **state)
{
  *state = rig_create(NULL);
  return 0;
}

static int set_up_two(void **state)
{
  *state = rig_create(two_workers);
  return 0;
}

static int set_up_few(void **state)
{
  *state = rig_create(few_viewers);
  return 0;
}

static int tear_down(void **state)
{
  rig_destroy(*state);
  return 0;
}

static void test_one_that_comes_and_goes(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_come(rig, "demo", (struct vc_position){7, 3});
  rig_expect_requests(rig, "join demo 1 7.3");
  assert_int_equal(rig_counter(rig, "ws.viewers"), 1);
  peer_hang_up(peer); // before its answer
  rig_turn(rig);
  rig_expect_requests(rig, "leave demo 1");
  struct vc_answer *answer = rig_answer(peer, "demo");
  rig_answer_add(answer, rig_message(VC_MESSAGE_HELLO, "demo", 1, 0, 0, 0));
  rig_answer_last(rig, peer, answer, (struct vc_position){1, 1});
  rig_turn(rig);
  assert_int_equal(rig_counter(rig, "ws.viewers"), 0);
  assert_int_equal(rig_counter(rig, "ws.viewers_total"), 1);
  assert_int_equal(vc_limits_count(rig->limits), 0);
}

static void test_a_session_is_spread_over_all_workers(void **state)
{
  struct rig *rig = *state;
  for (int i = 0; i < 4; i++) {
    rig_watch(rig, "demo", 1, 0);
  }
  rig_say(rig, VC_MESSAGE_FINAL, 1, 0);
  rig_turn(rig);
  for (size_t i = 0; i < 4; i++) {
    peer_expect(rig->peers[i], "F1.1");
  }
  struct vc_putter *control = vc_putter_create(rig->stage);
  for (uint32_t i = 0; i < 2; i++) {
    struct vc_query *query = vc_query_create(VC_QUERY_VIEWERS, "");
    assert_int_equal(vc_putter_put(control, i, vc_query_item(query)), 0);
    rig_turn(rig);
    assert_int_equal(vc_query_wait(query, 0), 0);
    struct vc_buffer *reply = vc_query_reply(query);
    assert_non_null(reply);
    // The wait of a message is measured once: by the worker that begins first.
    assert_memory_equal(reply->data,
                        i == 0 ? "{\"demo\":{\"clients\":2,\"queue_size\":0,\"lag\":{\"count\":1"
                               : "{\"demo\":{\"clients\":2,\"queue_size\":0,\"lag\":{\"count\":0",
                        52);
    vc_query_unref(query);
  }
}

static void test_the_largest_lag_is_told(void **state)
{
  struct rig *rig = *state;
  struct peer *slow = rig_watch(rig, "demo", 1, 0);
  rig_watch(rig, "demo", 1, 0);
  rig_stall(slow, 0);
  for (uint64_t seq = 1; seq <= 7; seq++) {
    rig_say(rig, VC_MESSAGE_FINAL, seq, 0);
  }
  rig_pass_ms(rig, 3000);
  struct vc_putter *control = vc_putter_create(rig->stage);
  struct vc_query *query = vc_query_create(VC_QUERY_VIEWERS, "");
  assert_int_equal(vc_putter_put(control, 0, vc_query_item(query)), 0);
  rig_turn(rig);
  assert_int_equal(vc_query_wait(query, 0), 0);
  struct vc_buffer *reply = vc_query_reply(query);
  char *text = strndup((const char *)reply->data, reply->size);
  assert_non_null(strstr(text, "\"queue_size\":7,"));
  assert_non_null(strstr(text, "\"max\":3000.0"));
  struct vc_lag_sum sum = {0};
  struct vc_distribution lag;
  json_t *all = vc_json_parse(text, strlen(text), NULL);
  vc_lag_sum_add(&sum, json_object_get(json_object_get(all, "demo"), "lag"));
  vc_lag_sum_get(&sum, &lag);
  assert_int_equal(lag.count, 7);
  assert_int_equal((int)lag.p50, 3000); // as long as that: its bucket exists
  json_decref(all);
  free(text);
  vc_query_unref(query);
}

static void test_what_they_say(void **state)
{
  struct rig *rig = *state;
  char text[5000];
  memset(text, 'x', sizeof text);
  struct peer *peer = rig_watch(rig, "demo", 1, 0);
  peer_send(peer, VC_WS_TEXT, text, 4096);
  peer_send(peer, VC_WS_PING, "hello", 5);
  rig_turn(rig);
  peer_expect(peer, "pong:hello");
  peer_send(peer, VC_WS_TEXT, text, 4097);
  rig_turn(rig);
  peer_expect(peer, "close:1009 eof");
  peer = rig_watch(rig, "demo", 1, 0);
  peer_send(peer, VC_WS_BINARY, "x", 1);
  rig_turn(rig);
  peer_expect(peer, "close:1003 eof");
  peer = rig_watch(rig, "demo", 1, 0);
  peer_send_raw(peer, "\x81\x01x", 3); // not masked
  rig_turn(rig);
  peer_expect(peer, "close:1002 eof");
  assert_string_equal(peer->why, "protocol error");
  peer = rig_watch(rig, "demo", 1, 0);
  peer_send(peer, VC_WS_CLOSE, "\x0f\xa0", 2);
  rig_turn(rig);
  peer_expect(peer, "close:4000 eof");
  peer = rig_watch(rig, "demo", 1, 0);
  peer_send(peer, VC_WS_CLOSE, "", 0);
  rig_turn(rig);
  peer_expect(peer, "close:1000 eof");
  assert_int_equal(rig_counter(rig, "ws.protocol_errors_total"), 3);
}

// What there is no memory for is no error of theirs.
static void test_no_memory_for_what_they_say(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_watch(rig, "demo", 1, 0);
  peer_send(peer, VC_WS_PONG, "hello", 5);
  no_memory_for_frames(1);
  rig_turn(rig);
  no_memory_for_frames(0);
  peer_expect(peer, "close:1011 eof");
  assert_string_equal(peer->why, "no memory");
  assert_int_equal(rig_counter(rig, "ws.protocol_errors_total"), 0);
}

static void test_more_than_a_turn_reads(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_watch(rig, "demo", 1, 0);
  char text[4000];
  memset(text, 'x', sizeof text);
  for (int i = 0; i < 20; i++) {
    peer_send(peer, VC_WS_TEXT, text, sizeof text);
  }
  peer_send(peer, VC_WS_PING, "last", 4);
  for (int i = 0; i < 5; i++) {
    rig_turn(rig); // no event comes again: the rest is remembered
  }
  peer_expect(peer, "pong:last");
}

static void test_pings_that_flood(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_watch(rig, "demo", 1, 0);
  char payload[125];
  memset(payload, 'x', sizeof payload);
  rig_stall(peer, 10); // the first pong is begun, the rest would grow without end
  for (int i = 0; i < 100; i++) {
    peer_send(peer, VC_WS_PING, payload, sizeof payload);
    rig_turn(rig);
  }
  rig_say(rig, VC_MESSAGE_FINAL, 1, 0);
  rig_turn(rig);
  peer_send(peer, VC_WS_BINARY, "x", 1);
  rig_turn(rig);
  rig_take(rig, peer, SIZE_MAX);
  const char *told = peer_read(peer);
  assert_non_null(strstr(told, "close:1003 eof")); // there is room for it
  assert_memory_equal(told, "pong:xxx", 8);
  assert_null(strstr(told + 5, "pong"));
}

static void test_no_pong(void **state)
{
  struct rig *rig = *state;
  struct peer *silent = rig_watch(rig, "demo", 1, 0), *alive = rig_watch(rig, "demo", 1, 0);
  for (int i = 0; i < 3; i++) {
    rig_pass_ms(rig, 15000);
    peer_expect(silent, "ping");
    peer_expect(alive, "ping");
    peer_send(alive, VC_WS_PONG, "", 0);
    rig_turn(rig);
  }
  rig_pass_ms(rig, 14900);
  peer_expect(silent, "");
  rig_pass_ms(rig, 200);
  peer_expect(silent, "close:4009 eof");
  peer_expect(alive, "ping");
  assert_int_equal(rig_counter(rig, "ws.heartbeat_timeouts_total"), 1);
}

// It reads a byte now and then: a ping waits behind a transcript.
static void test_no_pong_to_a_ping_that_waits_in_the_queue(void **state)
{
  struct rig *rig = *state;
  struct peer *slow = rig_watch(rig, "demo", 1, 0);
  rig_stall(slow, 1);
  rig_live(rig, rig_message(VC_MESSAGE_FINAL, "demo", 1, 1, 0, 100));
  rig_turn(rig);
  for (int i = 0; i < 8; i++) {
    rig_pass_ms(rig, 15000);
    rig_take(rig, slow, 1);
    peer_expect(slow, "");
  }
  rig_take(rig, slow, SIZE_MAX);
  peer_expect(slow, "F1.1 ping"); // one, its time runs from the next look on
  rig_pass_ms(rig, 15000);
  peer_expect(slow, "");
  rig_pass_ms(rig, 15000);
  peer_expect(slow, "ping");
  rig_pass_ms(rig, 15000);
  peer_expect(slow, "ping");
  rig_pass_ms(rig, 15000);
  peer_expect(slow, "close:4009 eof");
  assert_int_equal(rig_counter(rig, "ws.heartbeat_timeouts_total"), 1);
  assert_int_equal(rig_counter(rig, "ws.slow_closed_total"), 0);
}

// The same in the socket's buffer, which has room for more.
static void test_no_pong_to_a_ping_that_waits_in_the_kernel(void **state)
{
  struct rig *rig = *state;
  struct peer *slow = rig_watch(rig, "demo", 1, 0), *stuck = rig_watch(rig, "demo", 1, 0);
  rig_say(rig, VC_MESSAGE_FINAL, 1, 0);
  rig_turn(rig);
  rig_hold(stuck, 9);
  for (int held = 9; held > 0; held--) {
    rig_hold(slow, held);
    rig_pass_ms(rig, 15000);
  }
  peer_expect(slow, "F1.1 ping");
  peer_send(slow, VC_WS_PONG, "", 0);
  rig_hold(slow, 0);
  rig_pass_ms(rig, 15000);
  peer_expect(slow, "ping");
  peer_expect(stuck, "F1.1 ping close:4008 eof");
  assert_int_equal(rig_counter(rig, "ws.heartbeat_timeouts_total"), 0);
  assert_int_equal(rig_counter(rig, "ws.slow_closed_total"), 1);
}

static void test_kicked(void **state)
{
  struct rig *rig = *state;
  struct peer *a = rig_watch(rig, "demo", 1, 0), *b = rig_watch(rig, "demo", 1, 0),
              *other = rig_watch(rig, "other", 1, 0);
  struct vc_putter *control = vc_putter_create(rig->stage);
  peer_hang_up(b); // together with it
  struct vc_query *query = vc_query_create(VC_QUERY_KICK_VIEWERS, "demo");
  assert_int_equal(vc_putter_put(control, 0, vc_query_item(query)), 0);
  rig_turn(rig);
  assert_int_equal(vc_query_wait(query, 0), 0);
  assert_int_equal(vc_query_status(query), 200);
  vc_query_unref(query);
  peer_expect(a, "close:1001 eof");
  peer_expect(other, "");
  query = vc_query_create(VC_QUERY_KICK_VIEWERS, "nobody");
  assert_int_equal(vc_putter_put(control, 0, vc_query_item(query)), 0);
  rig_turn(rig);
  assert_int_equal(vc_query_status(query), 404);
  vc_query_unref(query);
}

static void test_a_full_lane_to_the_ledger(void **state)
{
  struct rig *rig = *state;
  hand_set_capacity(rig->ledger, 0, 0);
  struct peer *stays = rig_come(rig, "demo", nowhere), *goes = rig_come(rig, "demo", nowhere);
  rig_pass_ms(rig, 50);
  peer_hang_up(goes); // nobody knew of it
  rig_turn(rig);
  hand_set_capacity(rig->ledger, 0, 1);
  rig_pass_ms(rig, 50);
  rig_expect_requests(rig, "join demo 1 0.0");
  struct peer *third = rig_come(rig, "demo", nowhere);
  hand_set_capacity(rig->ledger, 0, 1);
  peer_hang_up(stays);
  rig_turn(rig);
  rig_expect_requests(rig, "join demo 3 0.0");
  rig_pass_ms(rig, 50);
  rig_expect_requests(rig, "leave demo 1");
  peer_hang_up(third);
  hand_set_capacity(rig->ledger, 0, HAND_UNBOUNDED);
  rig_turn(rig);
  rig_expect_requests(rig, "leave demo 3");
}

static void test_too_many_sessions(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_come(rig, "demo", nowhere);
  rig_requests(rig);
  struct vc_answer *answer = rig_answer(peer, "demo");
  answer->is_refused = 1;
  rig_answer_last(rig, peer, answer, nowhere);
  rig_turn(rig);
  peer_expect(peer, "close:1013 eof");
  peer_hang_up(peer);
  rig_turn(rig);
  rig_expect_requests(rig, ""); // the ledger does not know it
  assert_int_equal(rig_counter(rig, "ws.refused_total"), 1);
}

// A leave of it would be counted as that of another viewer of the name.
static void test_too_many_sessions_for_one_that_is_closed_meanwhile(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_come(rig, "demo", nowhere);
  rig_expect_requests(rig, "join demo 1 0.0");
  peer_send(peer, VC_WS_BINARY, "x", 1);
  rig_turn(rig);
  peer_expect(peer, "close:1003 eof");
  struct vc_answer *answer = rig_answer(peer, "demo");
  answer->is_refused = 1;
  rig_answer_last(rig, peer, answer, nowhere);
  rig_turn(rig);
  peer_hang_up(peer);
  rig_turn(rig);
  rig_expect_requests(rig, "");
  assert_int_equal(rig_counter(rig, "ws.viewers"), 0);
}

static void test_too_many_viewers(void **state)
{
  struct rig *rig = *state;
  struct peer *first = rig_watch(rig, "demo", 1, 0);
  assert_int_equal(vc_broadcast_has_room(rig->broadcast), 1);
  rig_watch(rig, "demo", 1, 0);
  assert_int_equal(vc_broadcast_has_room(rig->broadcast), 0);
  struct peer *third = rig_come(rig, "demo", nowhere);
  peer_expect(third, "close:1013 eof");
  rig_expect_requests(rig, "");
  peer_hang_up(first);
  rig_turn(rig);
  assert_int_equal(vc_broadcast_has_room(rig->broadcast), 1);
}

static void test_an_idle_viewer_is_small(void **state)
{
  struct rig *rig = *state;
  rig_watch(rig, "demo", 1, 0);
  size_t before = mallinfo2().uordblks;
  for (int i = 0; i < 50; i++) {
    rig_watch(rig, "demo", 1, 0);
  }
  rig_pass_ms(rig, 15000); // a ping leaves nothing behind
  size_t peers = 50 * (malloc_usable_size(rig->peers[0]) + 16);
  size_t after = mallinfo2().uordblks;
  // With the rig's own: a slot and an entry of the limits a viewer. Under a sanitizer both are 0.
  assert_true(after == before || after - before - peers < 50 * 1024);
}

// --- the end of the node: the rig's stages drain in turns that take no time, so it passes between

static void pass_10_ms(void *context)
{
  ((struct rig *)context)->now_ns += 10 * VC_NS_PER_MS;
}

static void pass_10_ms_and_take_after_500(void *context)
{
  struct rig *rig = context;
  pass_10_ms(rig);
  if (rig->now_ns == 100 * VC_NS_PER_S + 500 * VC_NS_PER_MS) {
    rig_take(rig, rig->peers[0], SIZE_MAX);
  }
}

static void test_a_drain_spreads_the_closes(void **state)
{
  struct rig *rig = *state;
  for (int i = 0; i < 40; i++) {
    rig_watch(rig, "demo", 1, 0);
  }
  rig_say(rig, VC_MESSAGE_END, 1, 0);
  uint64_t begun = rig->now_ns;
  hand_before_turn = pass_10_ms;
  hand_context = rig;
  assert_int_equal(vc_stage_stop(rig->stage, 0), 0);
  hand_before_turn = NULL;
  uint64_t took_ms = (rig->now_ns - begun) / VC_NS_PER_MS;
  assert_in_range(took_ms, 1000, 3500);
  for (size_t i = 0; i < 40; i++) {
    peer_expect(rig->peers[i], "E1.1 close:1001 eof");
  }
}

static void test_a_drain_gives_a_slow_one_its_last_messages(void **state)
{
  struct rig *rig = *state;
  struct peer *slow = rig_watch(rig, "demo", 1, 0);
  rig_stall(slow, 2);
  rig_say(rig, VC_MESSAGE_FINAL, 1, 0);
  rig_say(rig, VC_MESSAGE_END, 2, 0);
  rig_turn(rig);
  hand_before_turn = pass_10_ms_and_take_after_500;
  hand_context = rig;
  assert_int_equal(vc_stage_stop(rig->stage, 0), 0);
  hand_before_turn = NULL;
  peer_expect(slow, "F1.1 E1.2 close:1001 eof");
}

static void by_choice(struct rig *rig)
{
  rig->options.broadcast_io = 0;
}

static void by_demand(struct rig *rig)
{
  rig->options.broadcast_io = 2;
}

static void check_sends_without_io_uring(const char *error)
{
  struct rig *rig = rig_create(by_choice);
  assert_int_equal(rig->start_status, 0);
  struct peer *peers[4];
  for (size_t i = 0; i < 4; i++) {
    peers[i] = rig_watch(rig, "demo", 1, 0);
  }
  rig_say(rig, VC_MESSAGE_FINAL, 1, 0);
  rig_turn(rig);
  for (size_t i = 0; i < 4; i++) {
    peer_expect(peers[i], "F1.1");
  }
  rig_destroy(rig);
  rig = rig_create(by_demand);
  assert_int_equal(rig->start_status, -1);
  assert_string_equal(rig->start_error.text, error);
  rig_destroy(rig);
}

static void test_a_kernel_without_io_uring(void **state)
{
  (void)state;
  rig_uring_refusal = -EPERM;
  check_sends_without_io_uring(
      "BROADCAST_IO=uring: the kernel gives no io_uring: Operation not permitted");
  rig_uring_refusal = 0;
}

static void test_a_kernel_whose_io_uring_cannot_send(void **state)
{
  (void)state;
  rig_uring_is_old = 1;
  check_sends_without_io_uring("BROADCAST_IO=uring: the kernel's io_uring cannot send");
  rig_uring_is_old = 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      CASE(test_one_that_comes_and_goes),
      cmocka_unit_test_setup_teardown(test_a_session_is_spread_over_all_workers, set_up_two,
                                      tear_down),
      CASE(test_the_largest_lag_is_told),
      CASE(test_what_they_say),
      CASE(test_no_memory_for_what_they_say),
      CASE(test_more_than_a_turn_reads),
      CASE(test_pings_that_flood),
      CASE(test_no_pong),
      CASE(test_no_pong_to_a_ping_that_waits_in_the_queue),
      CASE(test_no_pong_to_a_ping_that_waits_in_the_kernel),
      CASE(test_kicked),
      CASE(test_a_full_lane_to_the_ledger),
      CASE(test_too_many_sessions),
      CASE(test_too_many_sessions_for_one_that_is_closed_meanwhile),
      cmocka_unit_test_setup_teardown(test_too_many_viewers, set_up_few, tear_down),
      CASE(test_an_idle_viewer_is_small),
      cmocka_unit_test(test_a_kernel_without_io_uring),
      cmocka_unit_test(test_a_kernel_whose_io_uring_cannot_send),
      CASE(test_a_drain_spreads_the_closes),
      CASE(test_a_drain_gives_a_slow_one_its_last_messages),
  };
  return cmocka_run_group_tests_name("broadcast/viewers", tests, NULL, NULL);
}
