// Publishers whose token has expired, and whose session other nodes are asked for: each answer, and
// none, and what comes meanwhile.
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ASKED "ingest.comebacks_asked_total"
#define UNASKED "ingest.comebacks_unasked_total"
#define UNANSWERED "ingest.comebacks_unanswered_total"
#define REFUSED "ingest.token_refused_total"
#define OLD "?token=old"
#define BEGAN_MS (RIG_EXPIRED_MS - 1)
#define ASKED_MAX 256

static struct rig rig;

static void start(uint32_t n_workers)
{
  rig_init(&rig);
  rig.n_workers = n_workers;
  rig.password = "token=right";
  rig.expired = "token=old";
  rig.has_fleet = 1;
  rig_start(&rig);
}

// Up to its `publish`, without an answer.
static void begin(struct publisher *publisher, const char *slug)
{
  char name[64];
  snprintf(name, sizeof name, "%s" OLD, slug);
  publisher_open(publisher, &rig, "a");
  publisher_shake_hands(publisher);
  publisher_connect(publisher, "live");
  publisher_say(publisher, "createStream");
  AWAIT(&rig, publisher->n_answers == 2);
  publisher->code[0] = 0;
  publisher_publish(publisher, name);
}

// What was asked of the other nodes. Gives it.
static struct vc_query *take_question(const char *slug)
{
  AWAIT(&rig, hand_count(rig.fleet, 0) == 1);
  struct vc_query *query = vc_query_of(hand_take(rig.fleet, 0));
  assert_int_equal(vc_query_kind(query), VC_QUERY_FLEET_BEGAN);
  assert_string_equal(vc_query_slug(query), slug);
  return query;
}

static void answer(struct vc_query *query, int status, int64_t began_ms)
{
  vc_query_set_number(query, began_ms);
  vc_query_answer(query, status, NULL);
}

static struct vc_query *begin_asking(struct publisher *publisher, const char *slug)
{
  begin(publisher, slug);
  return take_question(slug);
}

static void check_denied(struct publisher *publisher)
{
  AWAIT(&rig, publisher->is_closed);
  assert_string_equal(publisher->code, "NetStream.Publish.Denied");
  assert_string_equal(publisher->level, "error");
  assert_int_equal(publisher->was_reset, 0);
  publisher_close(publisher);
}

static void turn_some(void)
{
  for (int i = 0; i < 10; i++) {
    rig_turn(&rig);
  }
}

// --- what comes of it

// What it says before the answer is not read before it, and not lost.
static void check_yes(uint32_t n_workers, const char *slug)
{
  struct publisher publisher;
  start(n_workers);
  struct vc_query *query = begin_asking(&publisher, slug);
  uint64_t n_bytes = rig_counter(&rig, "ingest.bytes_total");
  publisher_send_audio(&publisher, 0, "\xaf\0", 0x12, 2);
  publisher_send_frame(&publisher, 23);
  turn_some();
  assert_int_equal(rig.n_taken, 0);
  assert_int_equal(rig_counter(&rig, "ingest.bytes_total"), n_bytes);
  assert_string_equal(publisher.code, "");
  answer(query, 200, BEGAN_MS);
  AWAIT_CODE(&publisher, "NetStream.Publish.Start");
  assert_string_equal(rig_taken(&rig, 0, VC_TURN_OPEN)->slug, slug);
  rig_taken(&rig, 1, VC_TURN_CONFIG);
  assert_int_equal(rig_taken(&rig, 2, VC_TURN_DATA)->timestamp_ms, 23);
  assert_int_equal(rig_counter(&rig, ASKED), 1);
  assert_int_equal(rig_counter(&rig, REFUSED), 0);
  rig_stop(&rig);
}

static void test_yes(void **state)
{
  check_yes(1, "room");
  for (char slug[] = "a"; slug[0] <= 'h'; slug[0]++) { // those of either worker, at either one
    check_yes(2, slug);
  }
}

// All in one piece, as no encoder does it: what `connect` is answered does not wait for the rest.
static void check_yes_to_one_that_did_not_wait(const char *slug)
{
  struct publisher publisher;
  char name[64];
  snprintf(name, sizeof name, "%s" OLD, slug);
  start(2);
  publisher_open(&publisher, &rig, "a");
  publisher_shake_hands(&publisher);
  publisher_connect(&publisher, "live");
  publisher_publish(&publisher, name);
  publisher_send_audio(&publisher, 0, "\xaf\0", 0x12, 2);
  for (uint32_t i = 1; i <= 100; i++) {
    publisher_send_frame(&publisher, i);
  }
  struct vc_query *query = take_question(slug);
  AWAIT(&rig, publisher.n_answers == 1);
  answer(query, 200, BEGAN_MS);
  AWAIT(&rig, rig.n_taken == 102);
  for (uint32_t i = 1; i <= 100; i++) {
    assert_int_equal(rig_taken(&rig, i + 1, VC_TURN_DATA)->timestamp_ms, i);
  }
  rig_stop(&rig);
}

static void test_yes_to_one_that_did_not_wait(void **state)
{
  for (char slug[] = "a"; slug[0] <= 'h'; slug[0]++) {
    check_yes_to_one_that_did_not_wait(slug);
  }
}

// It was told once when its session began: that counts as long as the session is here.
static void test_yes_and_back_once_more(void **state)
{
  struct publisher publisher, other;
  start(2);
  answer(begin_asking(&publisher, "room"), 200, BEGAN_MS);
  AWAIT_CODE(&publisher, "NetStream.Publish.Start");
  publisher_close(&publisher);
  rig_taken(&rig, 1, VC_TURN_LOST);
  publisher_start(&publisher, &rig, "a", "room" OLD);
  assert_string_equal(publisher.code, "NetStream.Publish.Start");
  assert_int_equal(rig_counter(&rig, ASKED), 1);
  publisher_say(&publisher, "closeStream");
  rig_taken(&rig, 3, VC_TURN_CLOSE);
  publisher_close(&publisher);
  answer(begin_asking(&publisher, "room"), 404, 0); // it has ended
  check_denied(&publisher);
  publisher_start(&other, &rig, "a", "room?token=right");
  assert_string_equal(other.code, "NetStream.Publish.Start");
  publisher_start(&publisher, &rig, "b", "room" OLD); // another one, which began too late
  check_denied(&publisher);
  assert_int_equal(rig_counter(&rig, ASKED), 2);
  rig_stop(&rig);
}

// One that only waits for its packets to go is over.
static void test_yes_after_one_that_is_over(void **state)
{
  struct publisher before, publisher;
  start(1);
  publisher_start(&before, &rig, "a", "room?token=right");
  rig_taken(&rig, 0, VC_TURN_OPEN);
  hand_set_capacity(rig.decode, 0, 0);
  publisher_say(&before, "closeStream");
  AWAIT_COUNTER(&rig, "ingest.publishers", 0);
  struct vc_query *query = begin_asking(&publisher, "room");
  hand_set_capacity(rig.decode, 0, HAND_UNBOUNDED);
  rig_pass(&rig, 250);
  rig_taken(&rig, 1, VC_TURN_CLOSE);
  answer(query, 200, BEGAN_MS);
  AWAIT_CODE(&publisher, "NetStream.Publish.Start");
  rig_stop(&rig);
}

static void test_no(void **state)
{
  struct publisher publisher;
  start(2);
  answer(begin_asking(&publisher, "room"), 404, 0);
  check_denied(&publisher);
  answer(begin_asking(&publisher, "room"), 200, RIG_EXPIRED_MS);
  check_denied(&publisher);
  assert_int_equal(rig_counter(&rig, REFUSED), 2);
  assert_int_equal(rig_counter(&rig, UNANSWERED), 0);
  assert_int_equal(rig.n_taken, 0);
  rig_stop(&rig);
}

// Wrong in more than its time, or good in all, or without other nodes.
static void test_who_is_not_asked_for(void **state)
{
  struct publisher publisher;
  start(2);
  publisher_start(&publisher, &rig, "a", "room?token=wrong");
  check_denied(&publisher);
  publisher_start(&publisher, &rig, "a", "room?token=right");
  assert_string_equal(publisher.code, "NetStream.Publish.Start");
  struct vc_query *asked = rig_ask(&rig, VC_QUERY_MAY_PUBLISH, "room", "Ada");
  assert_int_equal(vc_query_number(asked), -1);
  vc_query_unref(asked);
  asked = rig_ask(&rig, VC_QUERY_MAY_PUBLISH, "other", "Ada");
  assert_int_equal(vc_query_number(asked), 0);
  vc_query_unref(asked);
  assert_int_equal(hand_count(rig.fleet, 0), 0);
  rig_stop(&rig);
  rig_init(&rig);
  rig.expired = "token=old";
  rig_start(&rig);
  publisher_start(&publisher, &rig, "a", "room" OLD);
  check_denied(&publisher);
  assert_int_equal(rig_counter(&rig, UNASKED), 0);
  assert_int_equal(rig_counter(&rig, ASKED), 0);
  rig_stop(&rig);
}

// --- no answer

static void test_late(void **state)
{
  struct publisher first, second;
  start(2);
  struct vc_query *late = begin_asking(&first, "room");
  rig_pass(&rig, 999);
  turn_some();
  assert_int_equal(first.is_closed, 0);
  rig_pass(&rig, 251);
  check_denied(&first);
  assert_int_equal(rig_counter(&rig, UNANSWERED), 1);
  assert_int_equal(rig_counter(&rig, REFUSED), 1);
  struct vc_query *query = begin_asking(&second, "room");
  answer(late, 200, BEGAN_MS); // is nobody's
  turn_some();
  assert_string_equal(second.code, "");
  answer(query, 404, 0);
  check_denied(&second);
  assert_int_equal(rig.n_taken, 0);
  rig_stop(&rig);
}

static void test_away(void **state)
{
  struct publisher publisher;
  start(2);
  answer(begin_asking(&publisher, "room"), 503, 0);
  check_denied(&publisher);
  assert_int_equal(rig_counter(&rig, UNANSWERED), 1);
  assert_int_equal(rig_counter(&rig, UNASKED), 0);
  rig_stop(&rig);
}

static void test_no_room_on_the_lanes(void **state)
{
  struct publisher publisher;
  start(1);
  hand_set_capacity(rig.fleet, 0, 0);
  begin(&publisher, "room");
  check_denied(&publisher);
  assert_int_equal(rig_counter(&rig, UNASKED), 1);
  hand_set_capacity(rig.fleet, 0, HAND_UNBOUNDED);
  struct vc_query *query = begin_asking(&publisher, "room");
  hand_set_capacity(rig.ingest, 0, 0);
  answer(query, 200, BEGAN_MS); // is lost
  hand_set_capacity(rig.ingest, 0, HAND_UNBOUNDED);
  turn_some();
  assert_int_equal(publisher.is_closed, 0);
  rig_pass(&rig, 1250);
  check_denied(&publisher);
  assert_int_equal(rig_counter(&rig, UNANSWERED), 1);
  rig_stop(&rig);
}

static void test_gone_meanwhile(void **state)
{
  struct publisher first, second;
  start(2);
  struct vc_query *query = begin_asking(&first, "room");
  publisher_close(&first);
  AWAIT_COUNTER(&rig, "ingest.connections", 0);
  begin(&second, "room");
  answer(query, 200, BEGAN_MS);
  turn_some();
  assert_int_equal(rig.n_taken, 0);
  assert_string_equal(second.code, "");
  answer(take_question("room"), 200, BEGAN_MS);
  AWAIT_CODE(&second, "NetStream.Publish.Start");
  assert_int_equal(rig_counter(&rig, "ingest.publishers"), 1);
  rig_stop(&rig);
}

// Somebody with a good token was quicker: who comes back takes over, as anywhere.
static void test_session_begun_meanwhile(void **state)
{
  struct publisher back, quicker;
  start(2);
  struct vc_query *query = begin_asking(&back, "room");
  publisher_start(&quicker, &rig, "b", "room?token=right");
  assert_string_equal(quicker.code, "NetStream.Publish.Start");
  answer(query, 200, BEGAN_MS);
  AWAIT_CODE(&back, "NetStream.Publish.Start");
  AWAIT(&rig, quicker.is_closed);
  assert_int_equal(rig_counter(&rig, "ingest.takeovers_total"), 1);
  rig_stop(&rig);
}

// --- bounds

// One that comes and comes, however soon it is answered.
static void test_asked_so_often_a_second(void **state)
{
  struct publisher publisher;
  start(1);
  for (int i = 0; i < ASKED_MAX; i++) {
    answer(begin_asking(&publisher, "room"), 404, 0);
    check_denied(&publisher);
  }
  begin(&publisher, "room");
  check_denied(&publisher);
  assert_int_equal(hand_count(rig.fleet, 0), 0);
  assert_int_equal(rig_counter(&rig, UNASKED), 1);
  rig_pass(&rig, 1000);
  answer(begin_asking(&publisher, "room"), 200, BEGAN_MS);
  AWAIT_CODE(&publisher, "NetStream.Publish.Start");
  assert_int_equal(rig_counter(&rig, ASKED), ASKED_MAX + 1);
  rig_stop(&rig);
}

// As many as may wait at a time, and each hears its own answer.
static void test_many_at_a_time(void **state)
{
  static struct publisher publishers[20];
  struct vc_query *queries[20];
  char slug[8];
  start(2);
  for (int i = 0; i < 20; i++) {
    snprintf(slug, sizeof slug, "room%d", i);
    queries[i] = begin_asking(&publishers[i], slug);
  }
  for (int i = 19; i >= 0; i--) {
    answer(queries[i], i % 2 == 0 ? 200 : 404, BEGAN_MS);
  }
  for (int i = 0; i < 20; i++) {
    if (i % 2 == 0) {
      AWAIT_CODE(&publishers[i], "NetStream.Publish.Start");
    } else {
      check_denied(&publishers[i]);
    }
  }
  rig_stop(&rig);
}

static void test_the_end(void **state)
{
  struct publisher first, second;
  start(2);
  struct vc_query *query = begin_asking(&first, "room");
  begin(&second, "other");
  AWAIT(&rig, hand_count(rig.fleet, 0) == 1);
  assert_int_equal(vc_stage_stop(rig.ingest, 0), 0);
  answer(query, 200, BEGAN_MS); // that of the other is dropped with the lane
  rig_stop(&rig);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_yes),
      cmocka_unit_test(test_yes_to_one_that_did_not_wait),
      cmocka_unit_test(test_yes_and_back_once_more),
      cmocka_unit_test(test_yes_after_one_that_is_over),
      cmocka_unit_test(test_no),
      cmocka_unit_test(test_who_is_not_asked_for),
      cmocka_unit_test(test_late),
      cmocka_unit_test(test_away),
      cmocka_unit_test(test_no_room_on_the_lanes),
      cmocka_unit_test(test_gone_meanwhile),
      cmocka_unit_test(test_session_begun_meanwhile),
      cmocka_unit_test(test_asked_so_often_a_second),
      cmocka_unit_test(test_many_at_a_time),
      cmocka_unit_test(test_the_end),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
