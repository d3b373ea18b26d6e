// The list by itself: a stage that is turned by hand is behind, and lets through what a test says.
#include <verbacast/flow/waiting.h>

#include <verbacast/flow/packet.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "../ledger/hand_stage.h"

#define MAX 4

static struct vc_clock clock_of_test;
static uint64_t hand_ns;
static struct vc_stage *putting, *behind;
static struct vc_putter *putter;
static struct vc_session *session;
static struct vc_waiting waiting;
static uint32_t dropped[16], n_dropped; // timestamps
static const void *dropped_after;       // what stood behind the last of them
static void (*play)(struct vc_worker *worker);

static uint64_t now_ns(void *context)
{
  return hand_ns;
}

static int64_t unix_us(void *context)
{
  return 0;
}

static int put(struct vc_worker *worker, struct vc_item *item)
{
  return vc_putter_put(putter, 0, item);
}

static struct vc_item *find_sound(const struct vc_waiting *list)
{
  struct vc_item *item = list->items;
  while (item != NULL && ((struct vc_packet *)item)->turn != VC_TURN_DATA) {
    item = item->next;
  }
  return item;
}

static void dropping(struct vc_worker *worker, void *owner, struct vc_item *item)
{
  assert_ptr_equal(owner, &waiting);
  dropped[n_dropped++] = ((struct vc_packet *)item)->timestamp_ms;
  dropped_after = item->next;
}

static const struct vc_waiting_rules rules = {
    .max = MAX, .put = put, .find_droppable = find_sound, .dropping = dropping};

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  return 0;
}

static void turned(struct vc_worker *worker)
{
  if (play != NULL) {
    play(worker);
  }
}

static void leave(struct vc_worker *worker) {}

static const struct vc_stage_ops ops = {
    .name = "test", .enter = enter, .turned = turned, .leave = leave};

static int begin(void **state)
{
  struct vc_error error;
  hand_ns = VC_NS_PER_S;
  clock_of_test = (struct vc_clock){now_ns, unix_us, NULL};
  waiting = (struct vc_waiting){0};
  n_dropped = 0;
  const struct vc_stage_settings settings = {.ops = &ops, .n_workers = 1, .clock = &clock_of_test};
  if (vc_stage_create(&putting, &settings, &error) != 0 ||
      vc_stage_create(&behind, &settings, &error) != 0 || vc_stage_start(putting, &error) != 0) {
    return -1;
  }
  putter = vc_putter_create(behind);
  session = vc_session_create("room", 1, 0);
  return session == NULL;
}

static int end(void **state)
{
  vc_waiting_fini(&waiting);
  vc_stage_stop(putting, 0);
  vc_stage_destroy(&putting);
  vc_stage_destroy(&behind);
  int is_leaked = session->n_refs != 1;
  vc_session_unref(session);
  return is_leaked;
}

// Plays on the worker.
static void do_on_worker(void (*what)(struct vc_worker *worker))
{
  play = what;
  hand_turn(putting);
  play = NULL;
}

static void give(struct vc_worker *worker, enum vc_turn turn, uint32_t timestamp_ms)
{
  struct vc_packet *packet = vc_packet_create(session, turn);
  assert_non_null(packet);
  packet->timestamp_ms = timestamp_ms;
  vc_waiting_give(&waiting, &rules, worker, &waiting, &packet->item);
}

static void let_through(size_t n)
{
  hand_set_capacity(behind, 0, hand_count(behind, 0) + n);
}

static void expect(uint32_t timestamp_ms)
{
  struct vc_item *item = hand_take(behind, 0);
  assert_non_null(item);
  assert_int_equal(((struct vc_packet *)item)->timestamp_ms, timestamp_ms);
  vc_item_destroy(item);
}

static void give_three_sounds(struct vc_worker *worker)
{
  give(worker, VC_TURN_DATA, 1);
  give(worker, VC_TURN_DATA, 2);
  give(worker, VC_TURN_DATA, 3);
}

static void flush_some_left(struct vc_worker *worker)
{
  assert_int_equal(vc_waiting_flush(&waiting, &rules, worker), 1);
}

static void flush_all(struct vc_worker *worker)
{
  assert_int_equal(vc_waiting_flush(&waiting, &rules, worker), 0);
}

static void test_with_room_nothing_waits(void **state)
{
  do_on_worker(give_three_sounds);
  assert_int_equal(waiting.n, 0);
  assert_int_equal(hand_wake_at_ns(putting, 0), 0);
  do_on_worker(flush_all);
  for (uint32_t i = 1; i <= 3; i++) {
    expect(i);
  }
}

// What comes while others wait goes behind them, though there is room again.
static void test_order_is_kept(void **state)
{
  let_through(0);
  do_on_worker(give_three_sounds);
  assert_int_equal(waiting.n, 3);
  assert_int_equal(hand_wake_at_ns(putting, 0), hand_ns + VC_WAITING_RETRY_MS * VC_NS_PER_MS);
  let_through(1);
  do_on_worker(flush_some_left);
  assert_int_equal(waiting.n, 2);
  let_through(1);
  do_on_worker(flush_some_left);
  hand_set_capacity(behind, 0, HAND_UNBOUNDED);
  do_on_worker(give_three_sounds);
  assert_int_equal(hand_count(behind, 0), 2);
  do_on_worker(flush_all);
  static const uint32_t order[] = {1, 2, 3, 1, 2, 3};
  for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
    expect(order[i]);
  }
  assert_int_equal(n_dropped, 0);
}

static void give_turns_and_sounds(struct vc_worker *worker)
{
  give(worker, VC_TURN_OPEN, 10);
  give(worker, VC_TURN_DATA, 11);
  give(worker, VC_TURN_DATA, 12);
  give(worker, VC_TURN_LOST, 13);
  assert_int_equal(n_dropped, 0);
  give(worker, VC_TURN_BACK, 14);
  assert_int_equal(n_dropped, 1);
  assert_int_equal(((const struct vc_packet *)dropped_after)->timestamp_ms, 12);
  give(worker, VC_TURN_DATA, 15);
}

static void test_the_oldest_that_may_go_goes(void **state)
{
  let_through(0);
  do_on_worker(give_turns_and_sounds);
  assert_int_equal(waiting.n, MAX);
  assert_true(n_dropped == 2 && dropped[0] == 11 && dropped[1] == 12);
  hand_set_capacity(behind, 0, HAND_UNBOUNDED);
  do_on_worker(flush_all);
  static const uint32_t kept[] = {10, 13, 14, 15};
  for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
    expect(kept[i]);
  }
}

static void give_turns(struct vc_worker *worker)
{
  for (uint32_t i = 0; i < MAX + 2; i++) {
    give(worker, VC_TURN_BACK, i);
  }
  give(worker, VC_TURN_DATA, 99);
}

// Beyond the bound too; then no sound has a place.
static void test_what_must_be_kept_is_kept(void **state)
{
  let_through(0);
  do_on_worker(give_turns);
  assert_int_equal(waiting.n, MAX + 2);
  assert_true(n_dropped == 1 && dropped[0] == 99);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_with_room_nothing_waits, begin, end),
      cmocka_unit_test_setup_teardown(test_order_is_kept, begin, end),
      cmocka_unit_test_setup_teardown(test_the_oldest_that_may_go_goes, begin, end),
      cmocka_unit_test_setup_teardown(test_what_must_be_kept_is_kept, begin, end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
