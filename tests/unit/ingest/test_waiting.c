// The decode stage takes nothing for a while: what waits is bounded, whatever the publisher does.
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct rig rig;

static void begin(uint32_t n_workers)
{
  rig_init(&rig);
  rig.n_workers = n_workers;
  rig_start(&rig);
  hand_set_capacity(rig.decode, 0, 0);
}

static void let_through(void)
{
  hand_set_capacity(rig.decode, 0, HAND_UNBOUNDED);
  rig_pass(&rig, 1);
}

static void test_oldest_sound_is_dropped(void **state)
{
  struct publisher publisher;
  begin(2);
  publisher_start(&publisher, &rig, "a", "room");
  for (uint32_t i = 0; i < 600; i++) {
    publisher_send_frame(&publisher, i);
  }
  AWAIT_COUNTER(&rig, "ingest.packets_total", 600);
  assert_int_equal(rig_counter(&rig, "ingest.packets_dropped_total"),
                   600 - (VC_INGEST_WAIT_MAX - 1));
  let_through();
  publisher_send_frame(&publisher, 600);
  rig_taken(&rig, 0, VC_TURN_OPEN);
  for (uint32_t i = 1; i <= VC_INGEST_WAIT_MAX; i++) {
    const struct taken *taken = rig_taken(&rig, i, VC_TURN_DATA);
    assert_int_equal(taken->timestamp_ms, 600 - VC_INGEST_WAIT_MAX + i);
    assert_int_equal(taken->is_discontinuity, i == 1);
  }
  rig_stop(&rig);
}

static void test_of_configs_the_last_is_kept(void **state)
{
  struct publisher publisher;
  begin(2);
  publisher_start(&publisher, &rig, "a", "room");
  for (uint32_t i = 0; i < 1000; i++) {
    publisher_send_audio(&publisher, i, "\xaf\0", (uint8_t)i, 5);
  }
  AWAIT_COUNTER(&rig, "ingest.packets_total", 1000);
  let_through();
  publisher_say(&publisher, "FCUnpublish");
  rig_taken(&rig, 0, VC_TURN_OPEN);
  rig_taken(&rig, VC_INGEST_WAIT_MAX, VC_TURN_CLOSE);
  assert_int_equal(rig_taken(&rig, VC_INGEST_WAIT_MAX - 1, VC_TURN_CONFIG)->timestamp_ms, 999);
  rig_stop(&rig);
}

// A publisher that comes and goes without a sound makes turns, and those are never dropped.
static void test_turns_do_not_pile_up(void **state)
{
  struct publisher publisher;
  int n_refused = 0;
  begin(1);
  for (int i = 0; i < VC_INGEST_WAIT_MAX; i++) {
    publisher_start(&publisher, &rig, "a", "room");
    n_refused += strcmp(publisher.code, "NetStream.Publish.BadName") == 0;
    publisher_close(&publisher);
    AWAIT_COUNTER(&rig, "ingest.connections", 0);
  }
  assert_int_equal(n_refused, VC_INGEST_WAIT_MAX / 2);
  assert_int_equal(rig_counter(&rig, "ingest.full_refused_total"), n_refused);
  let_through();
  publisher_start(&publisher, &rig, "a", "room");
  assert_string_equal(publisher.code, "NetStream.Publish.Start");
  rig_taken(&rig, 0, VC_TURN_OPEN);
  rig_taken(&rig, VC_INGEST_WAIT_MAX, VC_TURN_BACK);
  assert_int_equal(rig.n_taken, VC_INGEST_WAIT_MAX + 1);
  rig_stop(&rig);
}

static void test_a_session_that_ends_is_waited_for(void **state)
{
  struct publisher publisher, next;
  begin(2);
  publisher_start(&publisher, &rig, "a", "room");
  publisher_say(&publisher, "FCUnpublish");
  AWAIT_CODE(&publisher, "NetStream.Unpublish.Success");
  publisher_start(&next, &rig, "a", "room");
  assert_string_equal(next.code, "NetStream.Publish.BadName");
  let_through();
  publisher_close(&next);
  publisher_start(&next, &rig, "a", "room");
  assert_string_equal(next.code, "NetStream.Publish.Start");
  uint64_t first = rig_taken(&rig, 0, VC_TURN_OPEN)->session_id;
  rig_taken(&rig, 1, VC_TURN_CLOSE);
  assert_int_not_equal(rig_taken(&rig, 2, VC_TURN_OPEN)->session_id, first);
  rig_stop(&rig);
}

static void test_a_frame_beyond_all_sense_is_dropped(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&publisher, &rig, "a", "room");
  publisher_send_audio(&publisher, 1, "\xaf\1", 7, 65536);
  publisher_send_audio(&publisher, 2, "\xaf\1", 7, 65537);
  publisher_send_frame(&publisher, 3);
  publisher_send_frame(&publisher, 4);
  rig_taken(&rig, 0, VC_TURN_OPEN);
  assert_int_equal(rig_taken(&rig, 1, VC_TURN_DATA)->size, 65536);
  const struct taken *after = rig_taken(&rig, 2, VC_TURN_DATA);
  assert_true(after->timestamp_ms == 3 && after->is_discontinuity);
  assert_int_equal(rig_taken(&rig, 3, VC_TURN_DATA)->is_discontinuity, 0);
  assert_int_equal(rig_counter(&rig, "ingest.packets_dropped_total"), 1);
  rig_stop(&rig);
}

// --- a drain that waits for the decode stage

static struct publisher late;
static int n_turns;

static void publish_late(void *context)
{
  rig.now_ns += 5 * VC_NS_PER_MS;
  if (n_turns == 0) {
    publisher_publish(&late, "late");
  } else if (n_turns == 100) {
    hand_set_capacity(rig.decode, 0, HAND_UNBOUNDED);
  }
  n_turns++;
}

static void test_nothing_begins_in_a_drain(void **state)
{
  static const enum vc_turn turns[] = {VC_TURN_OPEN, VC_TURN_CLOSE};
  struct publisher publisher;
  begin(1);
  publisher_start(&publisher, &rig, "a", "room");
  publisher_open(&late, &rig, "b");
  publisher_shake_hands(&late);
  publisher_connect(&late, "live");
  AWAIT_CODE(&late, "NetConnection.Connect.Success");
  n_turns = 0;
  hand_before_turn = publish_late;
  assert_int_equal(vc_stage_stop(rig.ingest, 0), 0);
  hand_before_turn = NULL;
  assert_int_equal(rig_counter(&rig, "ingest.gate_refused_total"), 1);
  assert_int_equal(rig_counter(&rig, "ingest.sessions_total"), 1);
  for (size_t i = 0; i < 2; i++) {
    struct vc_item *item = hand_take(rig.decode, 0);
    assert_non_null(item);
    assert_int_equal(((struct vc_packet *)item)->turn, turns[i]);
    vc_item_destroy(item);
  }
  assert_null(hand_take(rig.decode, 0));
  rig_stop(&rig);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_oldest_sound_is_dropped),
      cmocka_unit_test(test_of_configs_the_last_is_kept),
      cmocka_unit_test(test_turns_do_not_pile_up),
      cmocka_unit_test(test_a_session_that_ends_is_waited_for),
      cmocka_unit_test(test_a_frame_beyond_all_sense_is_dropped),
      cmocka_unit_test(test_nothing_begins_in_a_drain),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
