// Who publishes a name, when: take-over, flaps, the resume window, time-outs. The clock is the
// test's.
#include "rig.h"

#include <verbacast/flow/query.h>

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct rig rig;

static void test_second_publisher_takes_over(void **state)
{
  struct publisher first, second;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&first, &rig, "a", "room");
  publisher_send_frame(&first, 1);
  uint64_t id = rig_taken(&rig, 0, VC_TURN_OPEN)->session_id;
  rig_taken(&rig, 1, VC_TURN_DATA);
  publisher_start(&second, &rig, "b", "room");
  assert_string_equal(second.code, "NetStream.Publish.Start");
  AWAIT(&rig, first.is_closed);
  assert_string_equal(first.code, "NetStream.Publish.BadName");
  publisher_send_frame(&second, 2);
  assert_int_equal(rig_taken(&rig, 2, VC_TURN_BACK)->session_id, id);
  assert_int_equal(rig_taken(&rig, 3, VC_TURN_DATA)->session_id, id);
  assert_int_equal(rig_counter(&rig, "ingest.takeovers_total"), 1);
  assert_int_equal(rig_counter(&rig, "ingest.publishers"), 1);
  assert_int_equal(rig_counter(&rig, "ingest.lost_total"), 0);
  publisher_close(&first); // the dead connection takes nothing with it
  rig_turn(&rig);
  publisher_send_frame(&second, 3);
  rig_taken(&rig, 4, VC_TURN_DATA);
  rig_stop(&rig);
}

static void test_who_was_replaced_may_not_replace_its_replacer(void **state)
{
  struct publisher a, b, again, later;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&a, &rig, "a", "room");
  publisher_start(&b, &rig, "b", "room");
  AWAIT(&rig, a.is_closed);
  rig_pass(&rig, 9999);
  publisher_start(&again, &rig, "a", "room");
  AWAIT(&rig, again.is_closed);
  assert_string_equal(again.code, "NetStream.Publish.BadName");
  assert_string_equal(again.level, "error");
  assert_int_equal(rig_counter(&rig, "ingest.takeover_flaps_total"), 1);
  assert_int_equal(b.is_closed, 0);
  rig_pass(&rig, 1);
  publisher_start(&later, &rig, "a", "room");
  assert_string_equal(later.code, "NetStream.Publish.Start");
  AWAIT(&rig, b.is_closed);
  assert_int_equal(rig_counter(&rig, "ingest.takeovers_total"), 2);
  assert_int_equal(rig_counter(&rig, "ingest.takeover_flaps_total"), 1);
  rig_stop(&rig);
}

// A third one, the same one once more, and one whose replacer has left: none of them is a flap.
static void test_what_is_no_flap(void **state)
{
  struct publisher a, b, c, again, back;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&a, &rig, "a", "room");
  publisher_start(&again, &rig, "a", "room"); // its own dead connection
  assert_string_equal(again.code, "NetStream.Publish.Start");
  publisher_start(&b, &rig, "b", "room");
  assert_string_equal(b.code, "NetStream.Publish.Start");
  publisher_start(&c, &rig, "c", "room");
  assert_string_equal(c.code, "NetStream.Publish.Start");
  publisher_close(&c);
  AWAIT_COUNTER(&rig, "ingest.lost_total", 1);
  publisher_start(&back, &rig, "b", "room");
  assert_string_equal(back.code, "NetStream.Publish.Start");
  assert_int_equal(rig_counter(&rig, "ingest.takeover_flaps_total"), 0);
  assert_int_equal(rig_counter(&rig, "ingest.takeovers_total"), 3);
  rig_stop(&rig);
}

static void test_resume_window(void **state)
{
  struct publisher first, second, third;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&first, &rig, "a", "room");
  uint64_t id = rig_taken(&rig, 0, VC_TURN_OPEN)->session_id;
  publisher_close(&first);
  rig_taken(&rig, 1, VC_TURN_LOST);
  rig_pass(&rig, 29999);
  assert_int_equal(rig.n_taken, 2);
  publisher_start(&second, &rig, "b", "room");
  assert_int_equal(rig_taken(&rig, 2, VC_TURN_BACK)->session_id, id);
  publisher_close(&second);
  rig_taken(&rig, 3, VC_TURN_LOST);
  rig_pass(&rig, 29999);
  assert_int_equal(rig.n_taken, 4);
  assert_int_equal(rig_counter(&rig, "ingest.publishers"), 1);
  rig_pass(&rig, 250); // a tick
  assert_int_equal(rig_taken(&rig, 4, VC_TURN_CLOSE)->reason, VC_CLOSE_PUBLISHER_LEFT);
  assert_int_equal(rig_counter(&rig, "ingest.publishers"), 0);
  publisher_start(&third, &rig, "a", "room");
  assert_int_not_equal(rig_taken(&rig, 5, VC_TURN_OPEN)->session_id, id);
  assert_int_equal(rig_counter(&rig, "ingest.sessions_total"), 2);
  rig_stop(&rig);
}

static void test_silence(void **state)
{
  struct publisher silent, talking;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&silent, &rig, "a", "silent");
  publisher_start(&talking, &rig, "a", "talking");
  for (int i = 0; i < 3; i++) {
    rig_pass(&rig, 4999);
    publisher_send_frame(&talking, (uint32_t)i);
    rig_taken(&rig, (size_t)(2 + i), VC_TURN_DATA);
  }
  assert_int_equal(rig_counter(&rig, "ingest.timeouts_total"), 0);
  rig_pass(&rig, 250);
  AWAIT(&rig, silent.is_closed);
  assert_string_equal(rig_taken(&rig, 5, VC_TURN_LOST)->slug, "silent");
  assert_int_equal(rig_counter(&rig, "ingest.timeouts_total"), 1);
  assert_int_equal(talking.is_closed, 0);
  rig_stop(&rig);
}

// However far one has come, and however it dribbles: 10 s from accept to publish.
static void test_set_up_takes_too_long(void **state)
{
  struct publisher mute, dribbling, shaken, connected, publishing;
  rig_init(&rig);
  rig_start(&rig);
  publisher_open(&mute, &rig, "a");
  publisher_open(&dribbling, &rig, "a");
  publisher_open(&shaken, &rig, "a");
  publisher_shake_hands(&shaken);
  publisher_open(&connected, &rig, "a");
  publisher_shake_hands(&connected);
  publisher_connect(&connected, "live");
  publisher_start(&publishing, &rig, "a", "room");
  AWAIT_CODE(&connected, "NetConnection.Connect.Success");
  for (int i = 0; i < 9; i++) {
    rig_pass(&rig, 1000);
    publisher_write(&dribbling, "\3", 1);
  }
  rig_pass(&rig, 999);
  rig_turn(&rig);
  assert_int_equal(rig_counter(&rig, "ingest.connections"), 5);
  rig_pass(&rig, 250);
  AWAIT(&rig, mute.is_closed && dribbling.is_closed && shaken.is_closed && connected.is_closed);
  assert_int_equal(rig_counter(&rig, "ingest.timeouts_total"), 4);
  assert_int_equal(publishing.is_closed, 0);
  rig_stop(&rig);
}

// Returns: what the ingest answers to "the room of this slug is over".
static int say_over(const char *slug)
{
  struct vc_putter *putter = vc_putter_create(rig.ingest);
  struct vc_query *query = vc_query_create(VC_QUERY_END_SESSION, slug);
  uint32_t worker = vc_slug_hash(slug, strlen(slug)) % rig.n_workers;
  assert_int_equal(vc_putter_put(putter, worker, vc_query_item(query)), 0);
  rig_turn(&rig);
  assert_int_equal(vc_query_wait(query, 0), 0);
  int status = vc_query_status(query);
  vc_query_unref(query);
  return status;
}

static void test_room_that_is_over_waits_for_nobody(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig_start(&rig);
  assert_int_equal(say_over("room"), 404);
  publisher_start(&publisher, &rig, "a", "room");
  publisher_close(&publisher);
  AWAIT_COUNTER(&rig, "ingest.lost_total", 1);
  rig_forget(&rig);
  assert_int_equal(say_over("room"), 200);
  assert_int_equal(rig_taken(&rig, 0, VC_TURN_CLOSE)->reason, VC_CLOSE_PUBLISHER_LEFT);
  assert_int_equal(say_over("room"), 404);
  rig_stop(&rig);
}

static void test_room_that_is_over_hears_its_publisher_out(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&publisher, &rig, "a", "room");
  assert_int_equal(say_over("room"), 200);
  rig_taken(&rig, 0, VC_TURN_OPEN);
  publisher_send_frame(&publisher, 1);
  rig_taken(&rig, 1, VC_TURN_DATA);
  publisher_close(&publisher);
  AWAIT_COUNTER(&rig, "ingest.publishers", 0);
  assert_int_equal(rig_taken(&rig, 2, VC_TURN_CLOSE)->reason, VC_CLOSE_PUBLISHER_LEFT);
  assert_int_equal(rig_counter(&rig, "ingest.lost_total"), 0);
  rig_stop(&rig);
}

static void test_publisher_that_stays_when_the_room_is_over(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&publisher, &rig, "a", "room");
  say_over("room");
  rig_pass(&rig, 1000);
  say_over("room"); // said twice it is no later
  rig_pass(&rig, 1999);
  rig_taken(&rig, 0, VC_TURN_OPEN);
  assert_int_equal(rig.n_taken, 1);
  rig_pass(&rig, 250); // a tick
  AWAIT(&rig, publisher.is_closed);
  assert_string_equal(publisher.code, "NetStream.Publish.Denied");
  assert_int_equal(rig_taken(&rig, 1, VC_TURN_CLOSE)->reason, VC_CLOSE_PUBLISHER_LEFT);
  rig_stop(&rig);
}

static void test_room_that_is_on_again(void **state)
{
  struct publisher first, second;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&first, &rig, "a", "room");
  say_over("room");
  publisher_start(&second, &rig, "b", "room");
  AWAIT(&rig, first.is_closed);
  rig_pass(&rig, 10000);
  assert_int_equal(second.is_closed, 0);
  assert_int_equal(rig_counter(&rig, "ingest.publishers"), 1);
  rig_stop(&rig);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_second_publisher_takes_over),
      cmocka_unit_test(test_room_that_is_over_waits_for_nobody),
      cmocka_unit_test(test_room_that_is_over_hears_its_publisher_out),
      cmocka_unit_test(test_publisher_that_stays_when_the_room_is_over),
      cmocka_unit_test(test_room_that_is_on_again),
      cmocka_unit_test(test_who_was_replaced_may_not_replace_its_replacer),
      cmocka_unit_test(test_what_is_no_flap),
      cmocka_unit_test(test_resume_window),
      cmocka_unit_test(test_silence),
      cmocka_unit_test(test_set_up_takes_too_long),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
