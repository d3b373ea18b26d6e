// The order of what comes in: cases by hand, then an owner whose messages are lost on the way, are
// late, are trimmed, flushed and written again, by thousands of seeds. Whatever happens, each kept
// message is given once and in order, or lies in a gap that was announced, and no gap is announced
// for what could have been read.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <verbacast/base/clock.h>

#include "order.h"
#include "no_memory.h"

#define MS VC_NS_PER_MS
#define KIND(letter)                                                                               \
  ((letter) == 'h'   ? VC_MESSAGE_HELLO                                                            \
   : (letter) == 'p' ? VC_MESSAGE_PARTIAL                                                          \
   : (letter) == 'r' ? VC_MESSAGE_RETRACT                                                          \
   : (letter) == 'e' ? VC_MESSAGE_END                                                              \
                     : VC_MESSAGE_FINAL)

static struct vc_remote *message(char letter, int64_t epoch, uint64_t seq, uint64_t prev_final)
{
  struct vc_remote *remote = vc_remote_create(VC_REMOTE_MESSAGE, "demo");
  remote->message = vc_message_create(KIND(letter), "demo");
  remote->message->epoch = epoch;
  remote->message->seq = seq;
  remote->message->prev_final = prev_final;
  return remote;
}

// --- by hand: what comes out is written down as "1.2 1.3 [1.3-7]"

struct by_hand {
  struct order order;
  struct order_counts counts;
  char said[8192];
};

static void say(struct by_hand *by_hand, const char *text)
{
  size_t size = strlen(by_hand->said);
  snprintf(by_hand->said + size, sizeof by_hand->said - size, "%s%s", size > 0 ? " " : "", text);
}

static void write_message(void *context, struct vc_remote *remote)
{
  char text[64];
  snprintf(text, sizeof text, "%d.%d", (int)remote->message->epoch, (int)remote->message->seq);
  say(context, text);
  vc_item_destroy(&remote->item);
}

static void write_gap(void *context, int64_t epoch, uint64_t from, uint64_t to)
{
  char text[64];
  snprintf(text, sizeof text, "[%d.%d-%d]", (int)epoch, (int)from, (int)to);
  say(context, text);
}

static const struct order_ops writing = {.give = write_message, .gap = write_gap};

static void begin(struct by_hand *by_hand, int64_t epoch, uint64_t seq)
{
  memset(by_hand, 0, sizeof *by_hand);
  order_init(&by_hand->order, &writing, by_hand, &by_hand->counts,
             (struct vc_position){.epoch = epoch, .seq = seq}, 0);
}

// What was said since, and no more.
static void expect(struct by_hand *by_hand, const char *expected)
{
  assert_string_equal(by_hand->said, expected);
  by_hand->said[0] = '\0';
}

static void live(struct by_hand *by_hand, char letter, int64_t epoch, uint64_t seq,
                 uint64_t prev_final, uint64_t at_ms)
{
  order_live(&by_hand->order, message(letter, epoch, seq, prev_final), at_ms * MS);
}

static void entry(struct by_hand *by_hand, char letter, int64_t epoch, uint64_t seq,
                  uint64_t prev_final)
{
  order_entry(&by_hand->order, message(letter, epoch, seq, prev_final));
}

static void begin_read(struct by_hand *by_hand, uint64_t at_ms)
{
  assert_true(order_wants_read(&by_hand->order, at_ms * MS));
  order_begin_read(&by_hand->order, at_ms * MS);
  assert_false(order_wants_read(&by_hand->order, at_ms * MS));
}

static void end_read(struct by_hand *by_hand, uint64_t at_ms)
{
  order_end_read(&by_hand->order, at_ms * MS);
}

static void read_nothing(struct by_hand *by_hand, uint64_t at_ms)
{
  begin_read(by_hand, at_ms);
  end_read(by_hand, at_ms);
}

// Nothing is held, and no read is wanted.
static void finish(struct by_hand *by_hand)
{
  expect(by_hand, "");
  assert_int_equal(by_hand->order.n_held, 0);
  assert_false(order_wants_read(&by_hand->order, UINT64_MAX));
  order_fini(&by_hand->order);
}

static void test_the_stream_comes_first(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 0, 0);
  live(&it, 'f', 5, 4, 3, 10);
  live(&it, 'p', 5, 5, 4, 10);
  begin_read(&it, 11);
  order_begins_with(&it.order, (struct vc_position){.epoch = 5});
  expect(&it, "");
  entry(&it, 'h', 5, 0, 0);
  entry(&it, 'f', 5, 3, 0);
  expect(&it, "5.0 5.3 5.4 5.5"); // what is held follows at once
  entry(&it, 'f', 5, 4, 3);
  end_read(&it, 12);
  assert_int_equal(it.counts.repeats, 1);
  finish(&it);
}

static void test_what_follows_is_given_at_once(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 9);
  begin_read(&it, 1);
  live(&it, 'f', 5, 10, 8, 2);
  live(&it, 'p', 5, 14, 10, 3); // partials before it were lost, which is nothing
  live(&it, 'f', 5, 12, 10, 3); // late
  live(&it, 'p', 4, 99, 98, 3);
  expect(&it, "5.10 5.14");
  assert_int_equal(it.counts.repeats, 1);
  assert_int_equal(it.counts.stale, 1);
  end_read(&it, 4);
  finish(&it);
}

static void test_a_lost_final_is_read(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 9);
  read_nothing(&it, 1);
  live(&it, 'f', 5, 14, 12, 1000);
  live(&it, 'p', 5, 15, 14, 1001);
  expect(&it, "");
  begin_read(&it, 1001);
  entry(&it, 'f', 5, 10, 9);
  entry(&it, 'f', 5, 12, 10);
  expect(&it, "5.10 5.12 5.14 5.15");
  entry(&it, 'f', 5, 14, 12);
  end_read(&it, 1002);
  finish(&it);
}

static void test_what_is_not_there_after_two_seconds_is_a_gap(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 9);
  read_nothing(&it, 1);
  live(&it, 'f', 5, 14, 12, 1000);
  read_nothing(&it, 1000);
  assert_false(order_wants_read(&it.order, 1249 * MS));
  assert_int_equal(order_wakes_ns(&it.order), 1250 * MS);
  read_nothing(&it, 1250);
  live(&it, 'f', 5, 16, 14, 2000);
  live(&it, 'f', 5, 19, 17, 2999);
  read_nothing(&it, 2999); // not yet
  expect(&it, "");
  read_nothing(&it, 3249);
  expect(&it, "[5.9-12] 5.14 5.16"); // the other hole has its time
  read_nothing(&it, 4998);
  expect(&it, "");
  read_nothing(&it, 5248);
  expect(&it, "[5.16-17] 5.19");
  finish(&it);
}

// What this read is about to bring is not given up because an older one did not.
static void test_a_hole_is_not_given_up_within_a_read(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 9);
  read_nothing(&it, 1);
  live(&it, 'f', 5, 19, 17, 1000);
  live(&it, 'f', 5, 14, 12, 2000); // late: its own two seconds
  read_nothing(&it, 3500);
  begin_read(&it, 3750); // all was written again
  entry(&it, 'f', 5, 12, 9);
  expect(&it, "5.12 5.14");
  entry(&it, 'f', 5, 17, 14);
  expect(&it, "5.17 5.19");
  end_read(&it, 3751);
  finish(&it);
}

static void test_a_trimmed_stream_is_a_gap(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 9);
  begin_read(&it, 1);
  order_begins_with(&it.order, (struct vc_position){.epoch = 5, .seq = 30});
  entry(&it, 'f', 5, 30, 28);
  end_read(&it, 1);
  expect(&it, "[5.9-28] 5.30");
  finish(&it);
  begin(&it, 0, 0); // for somebody who knew nothing too
  begin_read(&it, 1);
  order_begins_with(&it.order, (struct vc_position){.epoch = 5, .seq = 30});
  entry(&it, 'f', 5, 30, 28);
  end_read(&it, 1);
  expect(&it, "[5.0-28] 5.30");
  finish(&it);
}

static void test_the_rest_of_an_epoch_comes_before_the_next(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 9);
  read_nothing(&it, 1);
  live(&it, 'h', 6, 0, 0, 1000);
  live(&it, 'p', 6, 1, 0, 1000);
  live(&it, 'p', 5, 12, 9, 1000); // follows, and is the old one's last
  expect(&it, "5.12");
  begin_read(&it, 1000);
  order_begins_with(&it.order, (struct vc_position){.epoch = 5, .seq = 1});
  entry(&it, 'f', 5, 13, 9);
  entry(&it, 'h', 6, 0, 0);
  expect(&it, "5.13 6.0 6.1");
  end_read(&it, 1001);
  finish(&it);
}

// Its hello is in no stream that was read after it had come: that was flushed.
static void test_a_hello_needs_no_stream(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 9);
  begin_read(&it, 1);
  live(&it, 'h', 6, 0, 0, 2); // the read began before it
  end_read(&it, 3);
  expect(&it, "");
  read_nothing(&it, 3);
  expect(&it, "[5.9-0] 6.0"); // nobody knows what else 5 has said
  finish(&it);
}

static void test_an_epoch_that_lost_its_begin(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 9);
  read_nothing(&it, 1);
  order_begins_with(&it.order, (struct vc_position){.epoch = 5, .seq = 9});
  live(&it, 'p', 6, 4, 3, 1000);
  read_nothing(&it, 2999);
  expect(&it, "");
  read_nothing(&it, 3249);
  expect(&it, "[6.0-3] 6.4");
  live(&it, 'p', 7, 1, 0, 4000);
  read_nothing(&it, 4000);
  read_nothing(&it, 6000);
  expect(&it, "7.1"); // nothing that has a number is missing
  finish(&it);
}

static void test_the_end_of_an_epoch_may_be_trimmed(void **state)
{
  (void)state;
  struct by_hand it;
  const struct vc_position later = {.epoch = 6};
  begin(&it, 5, 9);
  begin_read(&it, 1);
  order_begins_with(&it.order, later);
  order_begins_with(&it.order, later); // the next piece
  entry(&it, 'h', 6, 0, 0);
  entry(&it, 'e', 6, 2, 0);
  end_read(&it, 1);
  expect(&it, "[5.9-0] 6.0 6.2");
  order_again(&it.order, 2 * MS);
  begin_read(&it, 2);
  order_begins_with(&it.order, (struct vc_position){.epoch = 7}); // but 6 had ended
  entry(&it, 'h', 7, 0, 0);
  end_read(&it, 2);
  expect(&it, "7.0");
  finish(&it);
}

// Whoever had it said more than the stream ever held.
static void test_a_hello_tells_of_a_loss(void **state)
{
  (void)state;
  for (int has_ended = 0; has_ended <= 1; has_ended++) {
    struct by_hand it;
    begin(&it, 5, 0);
    begin_read(&it, 1);
    order_begins_with(&it.order, (struct vc_position){.epoch = 5});
    entry(&it, has_ended ? 'e' : 'f', 5, 2, 0);
    struct vc_remote *hello = message('h', 6, 0, 0);
    hello->message->is_after_loss = 1;
    order_entry(&it.order, hello);
    end_read(&it, 1);
    expect(&it, has_ended ? "5.2 6.0" : "5.2 [5.2-0] 6.0");
    finish(&it);
  }
}

// Others took its owner for lost, and said so.
static void test_an_end_that_is_not_the_owners_hides_no_loss(void **state)
{
  (void)state;
  for (int is_after_loss = 0; is_after_loss <= 1; is_after_loss++) {
    struct by_hand it;
    begin(&it, 5, 0);
    begin_read(&it, 1);
    order_begins_with(&it.order, (struct vc_position){.epoch = 5});
    struct vc_remote *last = message('e', 5, 2, 0);
    snprintf(last->reason, sizeof last->reason, "owner_lost");
    order_entry(&it.order, last);
    struct vc_remote *hello = message('h', 6, 0, 0);
    hello->message->is_after_loss = is_after_loss;
    order_entry(&it.order, hello);
    end_read(&it, 1);
    expect(&it, is_after_loss ? "5.2 [5.2-0] 6.0" : "5.2 6.0");
    finish(&it);
  }
}

// The stream expires, and somebody begins again.
static void test_a_stream_that_expired_behind_an_end_lacks_nothing(void **state)
{
  (void)state;
  for (int is_known = 0; is_known <= 1; is_known++) { // when the order begins
    struct by_hand it;
    begin(&it, 5, is_known ? 2 : 0);
    it.order.ending = is_known ? ORDER_GIVEN_UP : ORDER_GOES_ON;
    begin_read(&it, 1);
    order_begins_with(&it.order, (struct vc_position){.epoch = 5});
    if (!is_known) {
      struct vc_remote *last = message('e', 5, 2, 0);
      snprintf(last->reason, sizeof last->reason, "owner_lost");
      order_entry(&it.order, last);
    }
    end_read(&it, 1);
    expect(&it, is_known ? "" : "5.2");
    live(&it, 'h', 6, 0, 0, 100000);
    begin_read(&it, 100001);
    order_begins_with(&it.order, (struct vc_position){.epoch = 6});
    assert_false(order_may_lack_rest(&it.order));
    order_entry(&it.order, message('h', 6, 0, 0));
    end_read(&it, 100002);
    expect(&it, "6.0");
    finish(&it);
  }
}

// Nothing came behind what was given: then it is the stream that tells.
static void test_what_may_lack_its_rest(void **state)
{
  (void)state;
  static const struct {
    struct vc_position given, begins;
    int is_lacking;
  } rows[] = {{{0, 0}, {0, 0}, 0}, {{5, 2}, {0, 0}, 1}, {{5, 2}, {5, 0}, 0},
              {{5, 2}, {5, 2}, 0}, {{5, 2}, {5, 3}, 1}, {{5, 2}, {4, 9}, 0}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    struct by_hand it;
    begin(&it, rows[i].given.epoch, rows[i].given.seq);
    begin_read(&it, 1);
    order_begins_with(&it.order, rows[i].begins);
    end_read(&it, 1);
    assert_int_equal(order_may_lack_rest(&it.order), rows[i].is_lacking);
    finish(&it);
  }
  struct by_hand ended;
  begin(&ended, 5, 2);
  read_nothing(&ended, 1);
  live(&ended, 'e', 5, 3, 2, 1);
  assert_false(order_may_lack_rest(&ended.order));
  expect(&ended, "5.3");
  finish(&ended);
}

static void test_a_stream_that_is_written_again(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 9);
  read_nothing(&it, 1);
  live(&it, 'f', 5, 14, 12, 1000);
  begin_read(&it, 1000);
  order_begins_with(&it.order, (struct vc_position){0});
  end_read(&it, 1000);
  live(&it, 'h', 5, 0, 0, 1100); // what its owner writes comes live too
  live(&it, 'f', 5, 9, 0, 1100);
  live(&it, 'f', 5, 12, 9, 1100);
  expect(&it, "5.12 5.14");
  finish(&it);
}

static void test_what_cannot_be_read_is_passed(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 9);
  begin_read(&it, 1);
  order_begins_with(&it.order, (struct vc_position){.epoch = 5, .seq = 1});
  order_pass(&it.order, (struct vc_position){.epoch = 5, .seq = 8}, 1); // had been given
  order_pass(&it.order, (struct vc_position){.epoch = 5, .seq = 10}, 0);
  entry(&it, 'f', 5, 11, 10);
  order_pass(&it.order, (struct vc_position){.epoch = 5, .seq = 12}, 1);
  order_pass(&it.order, (struct vc_position){.epoch = 6, .seq = 0}, 1);
  order_pass(&it.order, (struct vc_position){.epoch = 6, .seq = 1}, 1);
  entry(&it, 'f', 6, 2, 1);
  end_read(&it, 1);
  expect(&it, "5.11 [5.11-12] [6.0-1] 6.2");
  finish(&it);
}

static void test_partials_are_let_go_before_finals(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 1);
  read_nothing(&it, 1);
  begin_read(&it, 1000 * (live(&it, 'f', 5, 5, 4, 1000), 1));
  live(&it, 'p', 5, 6, 5, 1000);
  live(&it, 'p', 5, 7, 5, 1000);
  for (uint64_t seq = 8; seq < 8 + ORDER_HELD_MAX - 3; seq++) {
    live(&it, 'f', 5, seq, seq == 8 ? 5 : seq - 1, 1000);
  }
  assert_int_equal(it.order.n_held, ORDER_HELD_MAX);
  live(&it, 'p', 5, 600, 504, 1000);
  assert_int_equal(it.order.n_held, ORDER_HELD_MAX);
  entry(&it, 'f', 5, 4, 1);
  assert_memory_equal(it.said, "5.4 5.5 5.7 5.8 ", 16);
  assert_non_null(strstr(it.said, " 5.600"));
  it.said[0] = '\0';
  end_read(&it, 1001);
  assert_int_equal(it.counts.cut, 1);
  finish(&it);
}

static void test_finals_beyond_the_bound_are_read_again(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 1);
  read_nothing(&it, 1);
  for (uint64_t seq = 10; seq < 12 + ORDER_HELD_MAX; seq++) {
    live(&it, 'f', 5, seq, seq - 1, 1000);
  }
  assert_int_equal(it.order.n_held, ORDER_HELD_MAX);
  assert_int_equal(it.counts.cut, 2);
  live(&it, 'f', 5, 8, 7, 1000); // what comes first pushes out the last
  assert_int_equal(it.order.n_held, ORDER_HELD_MAX);
  begin_read(&it, 1001);
  for (uint64_t seq = 2; seq < 12 + ORDER_HELD_MAX; seq++) {
    entry(&it, 'f', 5, seq, seq - 1);
  }
  end_read(&it, 1002);
  assert_int_equal(it.order.given.seq, 11 + ORDER_HELD_MAX);
  assert_null(strchr(it.said, '['));
  it.said[0] = '\0';
  finish(&it);
}

static void test_what_was_pushed_out_makes_a_read_of_its_own(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 1);
  read_nothing(&it, 1);
  live(&it, 'f', 5, 10, 9, 1000);
  begin_read(&it, 1000);
  for (uint64_t seq = 11; seq < 11 + ORDER_HELD_MAX; seq++) {
    live(&it, 'f', 5, seq, seq - 1, 1000);
  }
  entry(&it, 'f', 5, 9, 1); // and all that is held
  end_read(&it, 1001);
  assert_int_equal(it.order.n_held, 0);
  it.said[0] = '\0';
  begin_read(&it, 1001);
  entry(&it, 'f', 5, 510, 509);
  end_read(&it, 1001);
  expect(&it, "5.510");
  finish(&it);
}

static void test_a_read_that_fails_is_tried_again(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 1);
  begin_read(&it, 1);
  order_fail_read(&it.order, 10 * MS);
  assert_false(order_wants_read(&it.order, 259 * MS));
  assert_int_equal(order_wakes_ns(&it.order), 260 * MS);
  read_nothing(&it, 260);
  assert_true(order_wakes_ns(&it.order) == ORDER_NEVER);
  order_miss(&it.order);
  read_nothing(&it, 600);
  finish(&it);
}

// A connection that was away has its two seconds from when it is back.
static void test_patience_begins_again(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 1);
  read_nothing(&it, 1);
  live(&it, 'f', 5, 5, 4, 1000);
  begin_read(&it, 1000);
  order_again(&it.order, 9000 * MS);
  read_nothing(&it, 9000);
  expect(&it, "");
  read_nothing(&it, 11000);
  expect(&it, "[5.1-4] 5.5");
  finish(&it);
}

static void test_what_was_erased_is_not_given(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 1);
  read_nothing(&it, 1);
  live(&it, 'f', 5, 5, 4, 1000);
  order_forget(&it.order, 4);
  assert_int_equal(it.order.n_held, 1);
  order_forget(&it.order, 5);
  assert_int_equal(it.order.n_held, 0);
  live(&it, 'f', 5, 6, 5, 1001);
  live(&it, 'h', 6, 0, 0, 1002);
  begin_read(&it, 1500);
  order_begins_with(&it.order, (struct vc_position){.epoch = 6});
  entry(&it, 'h', 6, 0, 0);
  end_read(&it, 1500);
  expect(&it, "6.0");
  finish(&it);
}

static void test_a_message_without_memory_is_read(void **state)
{
  (void)state;
  struct by_hand it;
  begin(&it, 5, 1);
  read_nothing(&it, 1);
  struct vc_remote *remote = message('f', 5, 5, 4);
  memory_fail(0, 1);
  order_live(&it.order, remote, 1000 * MS);
  memory_fail(0, 0);
  assert_int_equal(it.order.n_held, 0);
  read_nothing(&it, 1000);
  finish(&it);
}

// --- by seeds

#define KEPT_MAX 2000
#define QUEUE_MAX 4096
#define TAIL_MS 20000 // after the last message: all holes are settled

struct kept {
  char letter;
  int64_t epoch;
  uint64_t seq, prev;
  int is_in;         // the stream
  int was_in;        // else nobody can know of it: its epoch was over before
  uint64_t since_ns; // when it came into it
  int is_given, is_gap;
};

struct on_way {
  struct kept message; // or one that is not kept
  uint64_t at_ns;
};

struct model {
  uint64_t random;
  uint64_t now_ns;
  struct order order;
  struct order_counts counts;
  /* the owner */
  int64_t epoch;
  uint64_t seq, prev;
  int has_ended;
  struct kept kept[KEPT_MAX]; // all that ever was, by number
  size_t n_kept;
  size_t epoch_begin; // of the epoch's, in `kept`
  /* the channel */
  struct on_way queue[QUEUE_MAX];
  size_t first, n_queue;
  int is_deaf;
  uint64_t deaf_until_ns;
  int loss; // of 100
  /* the reader */
  int is_read_under_way;
  uint64_t piece_ns;
  /* what came out */
  struct vc_position said;
  size_t n_gaps;
};

static uint32_t next(struct model *model, uint32_t below)
{
  model->random ^= model->random << 13;
  model->random ^= model->random >> 7;
  model->random ^= model->random << 17;
  return (uint32_t)(model->random >> 16) % below;
}

static int is_after(struct vc_position a, int64_t epoch, uint64_t seq)
{
  return a.epoch > epoch || (a.epoch == epoch && a.seq > seq);
}

static struct kept *find_kept(struct model *model, int64_t epoch, uint64_t seq)
{
  for (size_t i = 0; i < model->n_kept; i++) {
    if (model->kept[i].epoch == epoch && model->kept[i].seq == seq) {
      return &model->kept[i];
    }
  }
  return NULL;
}

static void check_message(void *context, struct vc_remote *remote)
{
  struct model *model = context;
  const struct vc_message *message = remote->message;
  const struct vc_position number = {.epoch = message->epoch, .seq = message->seq};
  assert_true(model->said.epoch == 0 || is_after(number, model->said.epoch, model->said.seq));
  // Its epoch's kept messages before it were given, or are in a gap.
  model->said = number;
  struct kept *kept = find_kept(model, message->epoch, message->seq);
  if (kept != NULL) {
    assert_false(kept->is_given || kept->is_gap);
    kept->is_given = 1;
  }
  for (size_t i = 0; i < model->n_kept; i++) {
    const struct kept *before = &model->kept[i];
    if (before->epoch == message->epoch && before->seq < message->seq && before->seq > 0) {
      assert_true(before->is_given || before->is_gap);
    }
  }
  vc_item_destroy(&remote->item);
}

static void check_gap(void *context, int64_t epoch, uint64_t from, uint64_t to)
{
  struct model *model = context;
  assert_true(model->said.epoch < epoch ? from == 0 : from == model->said.seq);
  assert_true(to == 0 || to > from);
  size_t n = 0;
  for (size_t i = 0; i < model->n_kept; i++) {
    struct kept *kept = &model->kept[i];
    if (kept->epoch == epoch && kept->seq > from && (to == 0 || kept->seq <= to)) {
      assert_false(kept->is_given || kept->is_gap);
      // It could not be read: it was not there when the stream was last looked at.
      assert_false(kept->is_in && kept->since_ns < model->piece_ns);
      kept->is_gap = 1;
      n++;
    }
  }
  assert_true(n > 0 || to == 0); // of an unknown length: it cannot be known
  model->n_gaps++;
}

static const struct order_ops checking = {.give = check_message, .gap = check_gap};

// --- the owner, the stream and the channel

static void publish(struct model *model, const struct kept *message)
{
  if (model->is_deaf || next(model, 100) < (uint32_t)model->loss) {
    return;
  }
  assert_true(model->n_queue < QUEUE_MAX);
  uint64_t at_ns = model->now_ns + next(model, 3) * MS;
  if (model->n_queue > 0) { // one connection: the order stays
    uint64_t last = model->queue[(model->first + model->n_queue - 1) % QUEUE_MAX].at_ns;
    at_ns = at_ns < last ? last : at_ns;
  }
  model->queue[(model->first + model->n_queue++) % QUEUE_MAX] =
      (struct on_way){.message = *message, .at_ns = at_ns};
}

static void write_entry(struct model *model, struct kept *kept)
{
  kept->is_in = kept->was_in = 1;
  kept->since_ns = model->now_ns;
  publish(model, kept);
}

static struct kept *last_entry(struct model *model)
{
  for (size_t i = model->n_kept; i > 0; i--) {
    if (model->kept[i - 1].is_in) {
      return &model->kept[i - 1];
    }
  }
  return NULL;
}

// What is kept is written behind the one before it, which is written first if it is missing.
static void write_missing(struct model *model)
{
  const struct kept *last = last_entry(model);
  for (size_t i = model->epoch_begin; i < model->n_kept; i++) {
    struct kept *kept = &model->kept[i];
    if (!kept->is_in && (last == NULL || last->epoch < kept->epoch || last->seq < kept->seq)) {
      write_entry(model, kept);
      last = kept;
    }
  }
}

static void keep(struct model *model, char letter)
{
  if (model->n_kept < KEPT_MAX) {
    model->kept[model->n_kept++] = (struct kept){
        .letter = letter, .epoch = model->epoch, .seq = model->seq, .prev = model->prev};
    model->prev = model->seq;
    if (next(model, 20) > 0) { // else its lane was full
      write_missing(model);
    }
  }
}

static void begin_epoch(struct model *model)
{
  model->epoch += 1 + next(model, 3);
  model->seq = model->prev = 0;
  model->epoch_begin = model->n_kept;
  model->has_ended = 0;
  keep(model, 'h');
  write_missing(model); // a claim is by a Redis that is there
}

static void say_something(struct model *model)
{
  uint32_t what = next(model, 100);
  if (model->epoch == 0 || model->has_ended || what < 1) {
    begin_epoch(model);
    return;
  }
  model->seq++;
  if (what < 40) {
    keep(model, what < 38 ? 'f' : 'e');
    model->has_ended = what >= 38;
    return;
  }
  const struct kept fleeting = {.letter = what < 95 ? 'p' : 'r',
                                .epoch = model->epoch,
                                .seq = model->seq,
                                .prev = model->prev};
  publish(model, &fleeting);
}

static void trim(struct model *model, size_t n)
{
  for (size_t i = 0; i < model->n_kept && n > 0; i++) {
    if (model->kept[i].is_in) {
      model->kept[i].is_in = 0;
      n--;
    }
  }
}

static void deliver(struct model *model)
{
  while (model->n_queue > 0 && model->queue[model->first].at_ns <= model->now_ns) {
    const struct kept it = model->queue[model->first].message;
    model->first = (model->first + 1) % QUEUE_MAX;
    model->n_queue--;
    order_live(&model->order, message(it.letter, it.epoch, it.seq, it.prev), model->now_ns);
  }
}

static void break_connection(struct model *model)
{
  model->is_deaf = 1;
  model->deaf_until_ns = model->now_ns + next(model, 3000) * MS;
  model->n_queue = 0;
  if (model->is_read_under_way && next(model, 2) == 0) {
    model->is_read_under_way = 0;
    order_fail_read(&model->order, model->now_ns);
  }
}

static void come_back(struct model *model)
{
  if (model->is_deaf && model->now_ns >= model->deaf_until_ns) {
    model->is_deaf = 0;
    model->is_read_under_way = 0;
    order_again(&model->order, model->now_ns);
  }
}

// --- the reader

static void read_piece(struct model *model)
{
  size_t most = 1 + next(model, 8), n = 0;
  struct vc_position begins = {0};
  model->piece_ns = model->now_ns;
  for (size_t i = 0; i < model->n_kept && begins.epoch == 0; i++) {
    if (model->kept[i].is_in) {
      begins = (struct vc_position){model->kept[i].epoch, model->kept[i].seq};
    }
  }
  order_begins_with(&model->order, begins);
  const struct vc_position from = model->order.given;
  for (size_t i = 0; i < model->n_kept && n < most; i++) {
    struct kept *it = &model->kept[i];
    const struct vc_position number = {it->epoch, it->seq};
    if (it->is_in && (from.epoch == 0 || is_after(number, from.epoch, from.seq))) {
      order_entry(&model->order, message(it->letter, it->epoch, it->seq, it->prev));
      n++;
    }
  }
  if (n < most) {
    model->is_read_under_way = 0;
    order_end_read(&model->order, model->now_ns);
  }
}

static void read_on(struct model *model)
{
  if (model->is_read_under_way) {
    read_piece(model);
  } else if (!model->is_deaf && order_wants_read(&model->order, model->now_ns)) {
    order_begin_read(&model->order, model->now_ns);
    model->is_read_under_way = 1;
  }
}

static void step(struct model *model)
{
  uint32_t what = next(model, 1000);
  model->now_ns += (1 + next(model, what < 20 ? 400 : 20)) * MS;
  come_back(model);
  deliver(model);
  if (next(model, 3) > 0) {
    say_something(model);
  }
  if (what < 4) {
    trim(model, 1 + next(model, 60));
  } else if (what < 6) {
    trim(model, SIZE_MAX); // flushed
  } else if (what < 10) {
    break_connection(model);
  } else if (what < 30) {
    write_missing(model);
  }
  if (next(model, 2) == 0) {
    read_on(model);
  }
}

// Nothing more is said; what is on its way comes, and all is settled.
static void settle(struct model *model)
{
  write_missing(model);
  model->loss = 0;
  for (uint64_t until = model->now_ns + TAIL_MS * MS; model->now_ns < until;) {
    model->now_ns += 10 * MS;
    come_back(model);
    deliver(model);
    read_on(model);
  }
  order_miss(&model->order);
  for (int i = 0; i < KEPT_MAX && (model->is_read_under_way || i == 0); i++) {
    read_on(model);
    read_on(model);
  }
}

static void check_all(const struct model *model)
{
  assert_int_equal(model->order.n_held, 0);
  int64_t last_epoch = model->n_kept > 0 ? model->kept[model->n_kept - 1].epoch : 0;
  assert_int_equal(model->said.epoch, last_epoch);
  for (size_t i = 0; i < model->n_kept; i++) {
    const struct kept *kept = &model->kept[i];
    // An epoch of which nothing was seen is not missed by who has seen none of it.
    int is_seen = kept->is_given || kept->is_gap || kept->seq == 0 || !kept->was_in;
    for (size_t k = 0; k < model->n_kept && !is_seen; k++) {
      assert_false(model->kept[k].epoch == kept->epoch && model->kept[k].is_given);
    }
  }
}

static size_t run_seed(uint64_t seed, int loss)
{
  struct model *model = calloc(1, sizeof *model);
  model->random = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
  model->loss = loss;
  model->now_ns = VC_NS_PER_S;
  order_init(&model->order, &checking, model, &model->counts, (struct vc_position){0}, 0);
  for (int i = 0; i < 1500; i++) {
    step(model);
  }
  settle(model);
  check_all(model);
  order_fini(&model->order);
  size_t n_gaps = model->n_gaps;
  free(model);
  return n_gaps;
}

static void test_any_owner_is_followed(void **state)
{
  (void)state;
  const char *seeds = getenv("VC_ORDER_SEEDS");
  uint64_t n = seeds != NULL ? strtoull(seeds, NULL, 10) : 60;
  size_t n_gaps = 0;
  for (uint64_t seed = 1; seed <= n; seed++) {
    static const int losses[] = {0, 2, 20, 60, 100};
    print_message("seed %d\n", (int)seed);
    n_gaps += run_seed(seed, losses[seed % 5]);
  }
  assert_true(n_gaps > 0); // there was something to announce
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_stream_comes_first),
      cmocka_unit_test(test_what_follows_is_given_at_once),
      cmocka_unit_test(test_a_lost_final_is_read),
      cmocka_unit_test(test_what_is_not_there_after_two_seconds_is_a_gap),
      cmocka_unit_test(test_a_hole_is_not_given_up_within_a_read),
      cmocka_unit_test(test_a_trimmed_stream_is_a_gap),
      cmocka_unit_test(test_the_rest_of_an_epoch_comes_before_the_next),
      cmocka_unit_test(test_a_hello_needs_no_stream),
      cmocka_unit_test(test_an_epoch_that_lost_its_begin),
      cmocka_unit_test(test_the_end_of_an_epoch_may_be_trimmed),
      cmocka_unit_test(test_a_hello_tells_of_a_loss),
      cmocka_unit_test(test_an_end_that_is_not_the_owners_hides_no_loss),
      cmocka_unit_test(test_a_stream_that_expired_behind_an_end_lacks_nothing),
      cmocka_unit_test(test_what_may_lack_its_rest),
      cmocka_unit_test(test_a_stream_that_is_written_again),
      cmocka_unit_test(test_what_cannot_be_read_is_passed),
      cmocka_unit_test(test_partials_are_let_go_before_finals),
      cmocka_unit_test(test_finals_beyond_the_bound_are_read_again),
      cmocka_unit_test(test_what_was_pushed_out_makes_a_read_of_its_own),
      cmocka_unit_test(test_a_read_that_fails_is_tried_again),
      cmocka_unit_test(test_patience_begins_again),
      cmocka_unit_test(test_what_was_erased_is_not_given),
      cmocka_unit_test(test_a_message_without_memory_is_read),
      cmocka_unit_test(test_any_owner_is_followed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
