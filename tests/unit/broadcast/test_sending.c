// What a viewer is sent, in which order, in how many writes, and when it cannot take it.
#include "rig.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct vc_position nowhere;

static void small_ring(struct rig *rig)
{
  rig->options.max_broadcast_queue_size = 16;
}

static int set_up(void **state)
{
  *state = rig_create(NULL);
  return 0;
}

static int set_up_small(void **state)
{
  *state = rig_create(small_ring);
  return 0;
}

static int tear_down(void **state)
{
  rig_destroy(*state);
  return 0;
}

static void say_finals(struct rig *rig, uint64_t from, uint64_t to)
{
  for (uint64_t seq = from; seq <= to; seq++) {
    rig_say(rig, VC_MESSAGE_FINAL, seq, 0);
  }
}

static void test_history_and_live_meet_without_hole_or_double(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_come(rig, "demo", nowhere);
  rig_expect_requests(rig, "join demo 1 0.0");
  say_finals(rig, 1, 3); // before the answer: in it
  struct vc_answer *answer = rig_answer(peer, "demo");
  rig_answer_add(answer, rig_message(VC_MESSAGE_HELLO, "demo", 1, 3, 0, 0));
  rig_answer_add(answer, rig_message(VC_MESSAGE_FINAL, "demo", 1, 2, 0, 0));
  rig_answer_add(answer, rig_message(VC_MESSAGE_FINAL, "demo", 1, 3, 0, 0));
  rig_answer_last(rig, peer, answer, (struct vc_position){1, 4});
  say_finals(rig, 4, 5);
  rig_turn(rig);
  peer_expect(peer, "H1.3 F1.2 F1.3 F1.4 F1.5");
  say_finals(rig, 6, 6);
  rig_turn(rig);
  peer_expect(peer, "F1.6");
  rig_expect_requests(rig, "");
}

static void test_an_answer_in_parts(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_come(rig, "demo", (struct vc_position){1, 1});
  rig_expect_requests(rig, "join demo 1 1.1");
  struct vc_answer *answer = rig_answer(peer, "demo");
  rig_answer_add(answer, rig_message(VC_MESSAGE_HELLO, "demo", 1, 3, 0, 0));
  rig_answer_add(answer, rig_message(VC_MESSAGE_FINAL, "demo", 1, 2, 0, 0));
  rig_answer_part(rig, peer, answer);
  rig_turn(rig);
  rig_expect_requests(rig, "catch_up demo 1 1.2");
  say_finals(rig, 4, 4);
  answer = rig_answer(peer, "demo");
  rig_answer_add(answer, rig_message(VC_MESSAGE_FINAL, "demo", 1, 3, 0, 0));
  rig_answer_add(answer, rig_message(VC_MESSAGE_FINAL, "demo", 1, 4, 0, 0));
  rig_answer_last(rig, peer, answer, (struct vc_position){1, 5});
  say_finals(rig, 5, 5);
  rig_turn(rig);
  peer_expect(peer, "H1.3 F1.2 F1.3 F1.4 F1.5");
}

static void test_a_batch_is_one_write_a_viewer(void **state)
{
  struct rig *rig = *state;
  struct peer *a = rig_watch(rig, "demo", 1, 0), *b = rig_watch(rig, "demo", 1, 0);
  size_t before = rig_n_writes;
  say_finals(rig, 1, 40);
  rig_turn(rig);
  assert_int_equal(rig_n_writes - before, 2);
  assert_string_equal(peer_read(a), peer_read(b));
  assert_non_null(strstr(a->told, "F1.1 F1.2"));
  assert_non_null(strstr(a->told, "F1.40"));
  before = rig_n_writes;
  say_finals(rig, 41, 240); // more than one write carries
  rig_turn(rig);
  assert_int_equal(rig_n_writes - before, 2 * 4);
  assert_int_equal(rig_counter(rig, "ws.delivered_total"), 2 + 2 * 240);
}

static void test_other_sessions_do_not_mix(void **state)
{
  struct rig *rig = *state;
  struct peer *a = rig_watch(rig, "demo", 1, 0), *b = rig_watch(rig, "other", 1, 0);
  say_finals(rig, 1, 1);
  rig_live(rig, rig_message(VC_MESSAGE_FINAL, "other", 1, 9, 0, 0));
  rig_live(rig, rig_message(VC_MESSAGE_FINAL, "nobody", 1, 9, 0, 0));
  rig_turn(rig);
  peer_expect(a, "F1.1");
  peer_expect(b, "F1.9");
}

static void test_a_head_is_never_cut(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_watch(rig, "demo", 1, 0);
  rig_live(rig, rig_message(VC_MESSAGE_PARTIAL, "demo", 1, 1, 'a', 300));
  rig_stall(peer, 7); // in the middle of it
  rig_turn(rig);
  rig_live(rig, rig_message(VC_MESSAGE_PARTIAL, "demo", 1, 2, 'a', 300));
  rig_live(rig, rig_message(VC_MESSAGE_FINAL, "demo", 1, 3, 'a', 300));
  peer_send(peer, VC_WS_PING, "x", 1); // its pong is no reason to cut it either
  rig_turn(rig);
  for (int i = 0; i < 120; i++) {
    rig_take(rig, peer, 5); // in the middle of everything
  }
  rig_take(rig, peer, SIZE_MAX);
  peer_expect(peer, "P1.1a pong:x F1.3a");
  assert_int_equal(rig_counter(rig, "ws.partials_skipped_total"), 1);
}

static void test_overtaken_partials_are_passed_over(void **state)
{
  struct rig *rig = *state;
  struct peer *slow = rig_watch(rig, "demo", 1, 0), *quick = rig_watch(rig, "demo", 1, 0);
  rig_stall(slow, 0);
  rig_say(rig, VC_MESSAGE_PARTIAL, 1, 'a');
  rig_turn(rig);
  rig_say(rig, VC_MESSAGE_PARTIAL, 2, 'a');
  rig_say(rig, VC_MESSAGE_PARTIAL, 3, 'b');
  rig_say(rig, VC_MESSAGE_FINAL, 4, 'a');
  rig_say(rig, VC_MESSAGE_PARTIAL, 5, 'b');
  rig_say(rig, VC_MESSAGE_STATUS, 6, 0);
  rig_say(rig, VC_MESSAGE_PARTIAL, 7, 'c');
  rig_say(rig, VC_MESSAGE_RETRACT, 8, 'c');
  rig_turn(rig);
  rig_take(rig, slow, SIZE_MAX);
  peer_expect(slow, "F1.4a P1.5b S1.6 R1.8c");
  peer_expect(quick, "P1.1a P1.2a P1.3b F1.4a P1.5b S1.6 P1.7c R1.8c");
  assert_int_equal(rig_counter(rig, "ws.partials_skipped_total"), 4);
  rig_say(rig, VC_MESSAGE_PARTIAL, 9, 'd'); // it keeps up again
  rig_say(rig, VC_MESSAGE_PARTIAL, 10, 'd');
  rig_turn(rig);
  peer_expect(slow, "P1.9d P1.10d");
}

static void test_what_left_the_ring_is_asked_of_the_ledger(void **state)
{
  struct rig *rig = *state;
  struct peer *slow = rig_watch(rig, "demo", 1, 0), *quick = rig_watch(rig, "demo", 1, 0);
  rig_stall(slow, 0);
  for (uint64_t seq = 1; seq <= 40; seq++) {
    say_finals(rig, seq, seq);
    rig_turn(rig);
  }
  assert_non_null(strstr(peer_read(quick), "F1.40")); // nobody waits for the slow one
  rig_take(rig, slow, SIZE_MAX);
  rig_expect_requests(rig, "catch_up demo 1 1.0");
  say_finals(rig, 41, 41);
  struct vc_answer *answer = rig_answer(slow, "demo");
  rig_answer_add(answer, rig_message(VC_MESSAGE_GAP, "demo", 1, 30, 0, 0));
  for (uint64_t seq = 31; seq <= 41; seq++) {
    rig_answer_add(answer, rig_message(VC_MESSAGE_FINAL, "demo", 1, seq, 0, 0));
  }
  rig_answer_last(rig, slow, answer, (struct vc_position){1, 42});
  say_finals(rig, 42, 42);
  rig_turn(rig);
  peer_expect(slow,
              "G1.30 F1.31 F1.32 F1.33 F1.34 F1.35 F1.36 F1.37 F1.38 F1.39 F1.40 F1.41 F1.42");
  peer_expect(quick, "F1.41 F1.42");
  assert_int_equal(rig_counter(rig, "ws.queue_drops_total"), 1);
  assert_int_equal(rig_counter(rig, "ws.catch_ups_total"), 1);
}

// A ring of 16 messages.
static void test_partials_are_counted_when_they_are_not_given(void **state)
{
  struct rig *rig = *state;
  struct peer *slow = rig_watch(rig, "demo", 1, 0), *quick = rig_watch(rig, "demo", 1, 0);
  rig_stall(slow, 0);
  for (uint64_t seq = 1; seq <= 40; seq += 2) { // 20 partials; 24 messages leave the ring
    rig_say(rig, VC_MESSAGE_PARTIAL, seq, 'a');
    rig_say(rig, VC_MESSAGE_FINAL, seq + 1, 'a');
    rig_turn(rig);
  }
  peer_read(quick);
  rig_take(rig, slow, SIZE_MAX);
  rig_expect_requests(rig, "catch_up demo 1 1.0");
  rig_say(rig, VC_MESSAGE_PARTIAL, 41, 'b'); // overtaken before the ledger answers
  rig_say(rig, VC_MESSAGE_PARTIAL, 42, 'b');
  struct vc_answer *answer = rig_answer(slow, "demo");
  for (uint64_t seq = 2; seq <= 20; seq += 2) {
    rig_answer_add(answer, rig_message(VC_MESSAGE_FINAL, "demo", 1, seq, 'a', 0));
  }
  rig_answer_part(rig, slow, answer);
  rig_turn(rig);
  rig_expect_requests(rig, "catch_up demo 1 1.20");
  answer = rig_answer(slow, "demo");
  for (uint64_t seq = 22; seq <= 40; seq += 2) {
    rig_answer_add(answer, rig_message(VC_MESSAGE_FINAL, "demo", 1, seq, 'a', 0));
  }
  rig_answer_add(answer, rig_message(VC_MESSAGE_PARTIAL, "demo", 1, 42, 'b', 0));
  rig_answer_last(rig, slow, answer, (struct vc_position){1, 43});
  rig_say(rig, VC_MESSAGE_PARTIAL, 43, 'b');
  rig_turn(rig);
  assert_non_null(strstr(peer_read(slow), "F1.38a F1.40a P1.42b P1.43b"));
  assert_int_equal(rig_counter(rig, "ws.partials_skipped_total"), 21);
}

// It came anew: it was not there for the partials of before.
static void test_partials_from_before_a_viewer_came_are_not_skipped(void **state)
{
  struct rig *rig = *state;
  rig_watch(rig, "demo", 1, 0);
  struct peer *peer = rig_come(rig, "demo", nowhere);
  rig_requests(rig);
  rig_say(rig, VC_MESSAGE_PARTIAL, 1, 'a');
  rig_say(rig, VC_MESSAGE_FINAL, 2, 'a');
  struct vc_answer *answer = rig_answer(peer, "demo");
  rig_answer_add(answer, rig_message(VC_MESSAGE_HELLO, "demo", 1, 2, 0, 0));
  rig_answer_last(rig, peer, answer, (struct vc_position){1, 3});
  rig_stall(peer, 5);
  for (uint64_t seq = 3; seq <= 40; seq++) { // 19 partials
    rig_say(rig, seq % 2 != 0 ? VC_MESSAGE_PARTIAL : VC_MESSAGE_FINAL, seq, 'b');
    rig_turn(rig);
  }
  rig_take(rig, peer, SIZE_MAX);
  rig_expect_requests(rig, "catch_up demo 2 1.2");
  answer = rig_answer(peer, "demo");
  rig_answer_last(rig, peer, answer, (struct vc_position){1, 41});
  rig_turn(rig);
  peer_expect(peer, "H1.2");
  assert_int_equal(rig_counter(rig, "ws.partials_skipped_total"), 19);
}

static void test_the_ring_moves_on_while_an_answer_is_taken(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_come(rig, "demo", nowhere);
  rig_requests(rig);
  rig_stall(peer, 5);
  struct vc_answer *answer = rig_answer(peer, "demo");
  rig_answer_add(answer, rig_message(VC_MESSAGE_HELLO, "demo", 1, 1, 0, 0));
  rig_answer_add(answer, rig_message(VC_MESSAGE_FINAL, "demo", 1, 1, 0, 0));
  rig_answer_last(rig, peer, answer, (struct vc_position){1, 2});
  for (uint64_t seq = 2; seq <= 60; seq++) {
    say_finals(rig, seq, seq);
    rig_turn(rig);
  }
  rig_take(rig, peer, SIZE_MAX);
  peer_expect(peer, "H1.1 F1.1");
  rig_expect_requests(rig, "catch_up demo 1 1.1");
}

static void test_messages_that_did_not_fit_the_lane(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_watch(rig, "demo", 1, 0);
  say_finals(rig, 1, 1);
  rig_live_after_loss(rig, rig_message(VC_MESSAGE_FINAL, "demo", 1, 4, 0, 0));
  say_finals(rig, 5, 5);
  rig_turn(rig);
  peer_expect(peer, "F1.1");
  rig_expect_requests(rig, "catch_up demo 1 1.1");
  struct vc_answer *answer = rig_answer(peer, "demo");
  for (uint64_t seq = 2; seq <= 5; seq++) {
    rig_answer_add(answer, rig_message(VC_MESSAGE_FINAL, "demo", 1, seq, 0, 0));
  }
  rig_answer_last(rig, peer, answer, (struct vc_position){1, 6});
  rig_live_after_loss(rig, rig_message(VC_MESSAGE_FINAL, "demo", 1, 5, 0, 0)); // it has that
  rig_turn(rig);
  peer_expect(peer, "F1.2 F1.3 F1.4 F1.5");
  rig_expect_requests(rig, "");
}

static void test_a_new_epoch_comes_live(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_watch(rig, "demo", 1, 8);
  rig_say(rig, VC_MESSAGE_END, 9, 0);
  rig_live(rig, rig_message(VC_MESSAGE_HELLO, "demo", 2, 0, 0, 0));
  rig_live(rig, rig_message(VC_MESSAGE_FINAL, "demo", 2, 1, 0, 0));
  rig_turn(rig);
  peer_expect(peer, "E1.9 H2.0 F2.1");
  rig_live(rig, rig_message(VC_MESSAGE_FINAL, "demo", 1, 10, 0, 0)); // older than it has
  rig_turn(rig);
  peer_expect(peer, "");
}

// What was lost lies before its number: nobody is led past it.
static void test_a_hello_behind_a_loss(void **state)
{
  struct rig *rig = *state;
  struct peer *behind = rig_watch(rig, "demo", 1, 3), *whole = rig_watch(rig, "demo", 1, 8);
  rig_live_after_loss(rig, rig_message(VC_MESSAGE_HELLO, "demo", 1, 8, 0, 0));
  rig_say(rig, VC_MESSAGE_FINAL, 9, 0);
  rig_turn(rig);
  rig_expect_requests(rig, "catch_up demo 1 1.3");
  peer_expect(whole, "F1.9");
  struct vc_answer *answer = rig_answer(behind, "demo");
  rig_answer_add(answer, rig_message(VC_MESSAGE_GAP, "demo", 1, 8, 0, 0));
  rig_answer_last(rig, behind, answer, (struct vc_position){1, 9});
  rig_turn(rig);
  peer_expect(behind, "G1.8 F1.9");
}

static void test_a_session_that_nobody_has_published(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_watch(rig, "demo", 0, 0), *other = rig_watch(rig, "demo", 1, 3);
  rig_live(rig, rig_message(VC_MESSAGE_STATUS, "demo", 0, 0, 0, 0));
  rig_turn(rig);
  peer_expect(peer, "S0.0");
  peer_expect(other, "");
  rig_live(rig, rig_message(VC_MESSAGE_HELLO, "demo", 2, 0, 0, 0));
  rig_turn(rig);
  peer_expect(peer, "H2.0");
}

static void test_one_that_takes_nothing_is_closed(void **state)
{
  struct rig *rig = *state;
  struct peer *slow = rig_watch(rig, "demo", 1, 0), *moving = rig_watch(rig, "demo", 1, 0);
  rig_stall(slow, 3);
  rig_stall(moving, 3);
  say_finals(rig, 1, 2);
  rig_turn(rig);
  rig_pass_ms(rig, 29000);
  rig_take(rig, moving, 1);
  peer_send(slow, VC_WS_PONG, "", 0); // it is alive and does not read
  rig_pass_ms(rig, 900);
  assert_int_equal(rig_counter(rig, "ws.slow_closed_total"), 0);
  // The kernel has room for the rest of what was begun and for the close.
  rig_stall(slow, SIZE_MAX);
  rig_pass_ms(rig, 300);
  assert_int_equal(rig_counter(rig, "ws.slow_closed_total"), 1);
  peer_expect(slow, "F1.1 close:4008 eof");
  rig_expect_requests(rig, "");
  peer_hang_up(slow);
  rig_turn(rig);
  rig_expect_requests(rig, "leave demo 1");
  assert_int_equal(rig_counter(rig, "ws.viewers"), 1);
}

// With a token for another 10 s.
static struct peer *watch_with_token(struct rig *rig, int64_t on_epoch)
{
  rig->expires_ms = (int64_t)(rig->now_ns / VC_NS_PER_MS) + 10000;
  struct peer *peer = rig_come(rig, "demo", (struct vc_position){0});
  struct vc_answer *answer = rig_answer(peer, "demo");
  rig_answer_add(answer, rig_message(VC_MESSAGE_HELLO, "demo", on_epoch, 0, 0, 0));
  answer->began_ms = rig->began_ms != 0 ? rig->began_ms : on_epoch;
  rig_answer_last(rig, peer, answer, (struct vc_position){on_epoch, 1});
  rig_turn(rig);
  rig->expires_ms = 0;
  peer_read(peer);
  return peer;
}

static void test_a_token_expires_while_nothing_is_on(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = watch_with_token(rig, 0), *without = rig_watch(rig, "demo", 0, 0);
  rig_pass_ms(rig, 9900);
  peer_expect(peer, "");
  rig_pass_ms(rig, 300);
  peer_expect(peer, "close:4001 eof");
  peer_expect(without, "");
  assert_int_equal(rig_counter(rig, "ws.expired_closed_total"), 1);
}

static void test_a_token_is_good_until_its_session_ends(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = watch_with_token(rig, 1);
  rig_pass_ms(rig, 12000);
  rig_say(rig, VC_MESSAGE_FINAL, 1, 0);
  rig_pass_ms(rig, 300);
  peer_expect(peer, "F1.1");
  rig_say(rig, VC_MESSAGE_END, 2, 0);
  rig_pass_ms(rig, 300);
  peer_expect(peer, "E1.2 close:4001 eof");
}

static void test_a_token_is_not_good_for_a_session_that_begins_later(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = watch_with_token(rig, 0);
  int64_t later = (int64_t)(rig->now_ns / VC_NS_PER_MS) + 10001;
  rig_live(rig, rig_message(VC_MESSAGE_HELLO, "demo", later, 0, 0, 0));
  rig_pass_ms(rig, 10300);
  assert_non_null(strstr(peer_read(peer), "close:4001"));
}

// What came before it is none of it: it is closed when it expires, whatever is on.
static void test_a_token_is_not_good_for_a_session_that_began_before(void **state)
{
  struct rig *rig = *state;
  rig->begins_ms = rig->began_ms = (int64_t)(rig->now_ns / VC_NS_PER_MS);
  struct peer *good = watch_with_token(rig, 1);
  rig->begins_ms++;
  struct peer *late = watch_with_token(rig, 1);
  rig_pass_ms(rig, 9900);
  peer_expect(late, "");
  rig_pass_ms(rig, 300);
  peer_expect(late, "close:4001 eof");
  peer_expect(good, "");
}

// The clock was set back: what it shows is behind the epochs.
static void test_a_token_is_measured_by_the_clock(void **state)
{
  struct rig *rig = *state;
  rig->began_ms = (int64_t)(rig->now_ns / VC_NS_PER_MS);
  int64_t epoch = rig->began_ms + 1000000;
  struct peer *peer = watch_with_token(rig, epoch);
  rig_live(rig, rig_message(VC_MESSAGE_FINAL, "demo", epoch, 1, 0, 0));
  rig_pass_ms(rig, 12000);
  peer_expect(peer, "F1100000.1");
}

// It takes a little now and then, so that there is always something left for it.
static void test_who_is_behind_is_given_no_later_session(void **state)
{
  struct rig *rig = *state;
  struct peer *slow = watch_with_token(rig, 1);
  rig_stall(slow, 3);
  say_finals(rig, 1, 2);
  rig_say(rig, VC_MESSAGE_END, 3, 0);
  rig_pass_ms(rig, 12000);
  assert_int_equal(rig_counter(rig, "ws.expired_closed_total"), 0);
  int64_t later = (int64_t)(rig->now_ns / VC_NS_PER_MS);
  rig_live(rig, rig_message(VC_MESSAGE_HELLO, "demo", later, 0, 0, 0));
  rig_pass_ms(rig, 300);
  assert_int_equal(rig_counter(rig, "ws.expired_closed_total"), 1);
  rig_take(rig, slow, SIZE_MAX);
  peer_expect(slow, "F1.1 close:4001 eof");
}

static void test_one_that_takes_nothing_even_then_is_given_up(void **state)
{
  struct rig *rig = *state;
  struct peer *slow = rig_watch(rig, "demo", 1, 0);
  rig_stall(slow, 3);
  say_finals(rig, 1, 2);
  rig_turn(rig);
  rig_pass_ms(rig, 30300);
  assert_int_equal(rig_counter(rig, "ws.slow_closed_total"), 1);
  assert_int_equal(rig_counter(rig, "ws.viewers"), 1);
  rig_pass_ms(rig, 2100);
  assert_int_equal(rig_counter(rig, "ws.viewers"), 0);
  rig_expect_requests(rig, "leave demo 1");
}

static void test_a_dead_socket_is_counted(void **state)
{
  struct rig *rig = *state;
  struct peer *dead = rig_watch(rig, "demo", 1, 0), *other = rig_watch(rig, "demo", 1, 0);
  say_finals(rig, 1, 1);
  peer_hang_up(dead);
  hand_turn(rig->stage);
  peer_expect(other, "F1.1");
  assert_int_equal(rig_counter(rig, "ws.viewers"), 1);
  rig_expect_requests(rig, "leave demo 1");
}

// More than one system call carries; one of them is blocked, one dead.
static void test_many_viewers(void **state)
{
  struct rig *rig = *state;
  struct peer *peers[150];
  for (size_t i = 0; i < 150; i++) {
    peers[i] = rig_watch(rig, "demo", 1, 0);
  }
  rig_stall(peers[7], 3);
  peer_hang_up(peers[9]);
  say_finals(rig, 1, 2);
  rig_turn(rig);
  rig_turn(rig);
  say_finals(rig, 3, 3);
  rig_turn(rig);
  rig_turn(rig);
  for (size_t i = 0; i < 150; i++) {
    if (i != 7 && i != 9) {
      peer_expect(peers[i], "F1.1 F1.2 F1.3");
    }
  }
  assert_int_equal(rig_counter(rig, "ws.viewers"), 149);
  rig_take(rig, peers[7], SIZE_MAX);
  peer_expect(peers[7], "F1.1 F1.2 F1.3");
}

// The others' viewers come in between; what comes to the crowd meanwhile is given to all of it,
// each once; and who goes while it would be his turn is no trouble.
static void test_a_crowd_does_not_hold_up_others(void **state)
{
  struct rig *rig = *state;
  struct peer *crowd[300], *other = rig_watch(rig, "other", 1, 0);
  struct vc_distribution fanout;
  for (size_t i = 0; i < 300; i++) {
    crowd[i] = rig_watch(rig, "demo", 1, 0);
  }
  rig_say(rig, VC_MESSAGE_FINAL, 1, 0);
  rig_turn(rig);
  rig_live(rig, rig_message(VC_MESSAGE_FINAL, "other", 1, 1, 0, 0));
  rig_say(rig, VC_MESSAGE_FINAL, 2, 0);
  peer_hang_up(crowd[128]);
  rig_turn(rig);
  peer_expect(crowd[0], "F1.1");
  peer_expect(crowd[140], "F1.1 F1.2");
  peer_expect(crowd[299], "");
  vc_metrics_distribution(rig->metrics, "ws.fanout_ms", &fanout);
  assert_int_equal(fanout.count_total, 0); // it is not over
  rig_turn(rig);
  peer_expect(other, "F1.1");
  peer_expect(crowd[299], "F1.1 F1.2");
  peer_expect(crowd[0], "F1.2");
  peer_expect(crowd[127], "F1.1");
  for (int i = 0; i < 2; i++) {
    assert_int_equal(hand_wake_at_ns(rig->stage, 0), rig->now_ns);
    rig_turn(rig);
  }
  assert_int_equal(hand_wake_at_ns(rig->stage, 0), 0);
  peer_expect(crowd[127], "F1.2");
  peer_expect(crowd[140], "");
  vc_metrics_distribution(rig->metrics, "ws.fanout_ms", &fanout);
  assert_int_equal(fanout.count_total, 3);
}

// Before the kernel takes the first of the writes: each is done by itself then, and from then on.
static void test_a_kernel_that_takes_no_more(void **state)
{
  struct rig *rig = *state;
  struct peer *one = rig_watch(rig, "demo", 1, 0), *other = rig_watch(rig, "demo", 1, 0);
  rig_uring_status = -ENOMEM;
  say_finals(rig, 1, 1);
  rig_turn(rig);
  rig_uring_status = 0;
  peer_expect(one, "F1.1");
  peer_expect(other, "F1.1");
  say_finals(rig, 2, 2);
  rig_turn(rig);
  peer_expect(one, "F1.2");
  peer_expect(other, "F1.2");
}

static void test_lag_and_fan_out_are_measured(void **state)
{
  struct rig *rig = *state;
  struct peer *peer = rig_watch(rig, "demo", 1, 0);
  struct vc_distribution lag, fanout, ingest;
  struct vc_message *message = rig_message(VC_MESSAGE_FINAL, "demo", 1, 1, 0, 0);
  message->received_ns = rig->now_ns - 5 * VC_NS_PER_MS;
  rig_live(rig, message);
  rig_pass_ms(rig, 200);
  peer_expect(peer, "F1.1");
  assert_int_equal(vc_metrics_distribution(rig->metrics, "ws.session_broadcast_lag_ms", &lag), 0);
  assert_int_equal(vc_metrics_distribution(rig->metrics, "ws.fanout_ms", &fanout), 0);
  assert_int_equal(vc_metrics_distribution(rig->metrics, "ingest.broadcast_latency_ms", &ingest),
                   0);
  assert_int_equal(lag.count, 1);
  assert_int_equal((int)lag.max, 200);
  assert_int_equal((int)fanout.max, 200);
  assert_int_equal((int)ingest.max, 205);
  rig_turn(rig); // once only
  vc_metrics_distribution(rig->metrics, "ws.session_broadcast_lag_ms", &lag);
  assert_int_equal(lag.count_total, 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define CASE_SMALL(name) cmocka_unit_test_setup_teardown(name, set_up_small, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      CASE(test_history_and_live_meet_without_hole_or_double),
      CASE(test_an_answer_in_parts),
      CASE(test_a_batch_is_one_write_a_viewer),
      CASE(test_other_sessions_do_not_mix),
      CASE(test_a_head_is_never_cut),
      CASE(test_overtaken_partials_are_passed_over),
      CASE_SMALL(test_what_left_the_ring_is_asked_of_the_ledger),
      CASE_SMALL(test_partials_are_counted_when_they_are_not_given),
      CASE_SMALL(test_partials_from_before_a_viewer_came_are_not_skipped),
      CASE_SMALL(test_the_ring_moves_on_while_an_answer_is_taken),
      CASE(test_messages_that_did_not_fit_the_lane),
      CASE(test_a_new_epoch_comes_live),
      CASE(test_a_hello_behind_a_loss),
      CASE(test_a_session_that_nobody_has_published),
      CASE(test_one_that_takes_nothing_is_closed),
      CASE(test_a_token_expires_while_nothing_is_on),
      CASE(test_a_token_is_good_until_its_session_ends),
      CASE(test_a_token_is_not_good_for_a_session_that_begins_later),
      CASE(test_a_token_is_not_good_for_a_session_that_began_before),
      CASE(test_a_token_is_measured_by_the_clock),
      CASE(test_who_is_behind_is_given_no_later_session),
      CASE(test_one_that_takes_nothing_even_then_is_given_up),
      CASE(test_a_dead_socket_is_counted),
      CASE(test_many_viewers),
      CASE(test_a_crowd_does_not_hold_up_others),
      CASE(test_a_kernel_that_takes_no_more),
      CASE(test_lag_and_fan_out_are_measured),
  };
  return cmocka_run_group_tests_name("broadcast/sending", tests, NULL, NULL);
}
