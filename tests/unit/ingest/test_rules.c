// Who is refused, and what is said, closed and counted then.
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#include <verbacast/flow/listener.h>
#include <verbacast/flow/query.h>

static struct rig rig;

static void check_refused(const char *name, const char *code, const char *counter)
{
  struct publisher publisher;
  uint64_t before = rig_counter(&rig, counter);
  publisher_start(&publisher, &rig, "a", name);
  AWAIT(&rig, publisher.is_closed);
  assert_string_equal(publisher.code, code);
  assert_string_equal(publisher.level, "error");
  assert_int_equal(rig_counter(&rig, counter), before + 1);
  publisher_close(&publisher);
  AWAIT_COUNTER(&rig, "ingest.connections", 0);
}

static void test_bad_names(void **state)
{
  char long_name[200], longer[9000];
  memset(long_name, 'x', 129);
  long_name[129] = 0;
  snprintf(longer, sizeof longer, "room?token=%08694d", 1);
  const char *const names[] = {"",    "/",   "?token=t",  "-a",   ".a",      "_a",
                               "a b", "a/b", "a\xc3\xa9", "../a", long_name, longer};
  rig_init(&rig);
  rig_start(&rig);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    check_refused(names[i], "NetStream.Publish.BadName", "ingest.name_refused_total");
  }
  assert_int_equal(rig.n_taken, 0);
  rig_stop(&rig);
}

static void test_good_names(void **state)
{
  char long_name[140], longer[9000];
  memset(long_name, 'x', 128);
  long_name[128] = 0;
  snprintf(longer, sizeof longer, "room?token=%08192d", 1);
  const char *const names[] = {"a",     "9",        "Room-1_2.3", "/room",
                               "room/", "room?x=y", long_name,    longer};
  const char *const slugs[] = {"a", "9", "Room-1_2.3", "room", "room", "room", long_name, "room"};
  rig_init(&rig);
  rig_start(&rig);
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    struct publisher publisher;
    rig_forget(&rig);
    publisher_start(&publisher, &rig, "a", names[i]);
    assert_string_equal(publisher.code, "NetStream.Publish.Start");
    assert_string_equal(rig_taken(&rig, 0, VC_TURN_OPEN)->slug, slugs[i]);
    publisher_say(&publisher, "closeStream");
    rig_taken(&rig, 1, VC_TURN_CLOSE);
    publisher_close(&publisher);
  }
  rig_stop(&rig);
}

static void test_applications(void **state)
{
  static const char *const others[] = {"", "other", "live2", "live/room", "?live", "livelive"};
  static const char *const live[] = {"live", "live/", "/live", "live?x=y"};
  rig_init(&rig);
  rig_start(&rig);
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    struct publisher publisher;
    publisher_open(&publisher, &rig, "a");
    publisher_shake_hands(&publisher);
    publisher_connect(&publisher, others[i]);
    AWAIT(&rig, publisher.is_closed);
    assert_string_equal(publisher.code, "NetConnection.Connect.Rejected");
    assert_int_equal(rig_counter(&rig, "ingest.app_refused_total"), i + 1);
    publisher_close(&publisher);
  }
  for (size_t i = 0; i < sizeof live / sizeof *live; i++) {
    struct publisher publisher;
    publisher_open(&publisher, &rig, "a");
    publisher_shake_hands(&publisher);
    publisher_connect(&publisher, live[i]);
    AWAIT_CODE(&publisher, "NetConnection.Connect.Success");
    publisher_close(&publisher);
  }
  rig_stop(&rig);
}

static void test_gate_and_token(void **state)
{
  struct publisher first, back;
  rig_init(&rig);
  rig.password = "token=right";
  rig_start(&rig);
  check_refused("room?token=wrong", "NetStream.Publish.Denied", "ingest.token_refused_total");
  check_refused("room", "NetStream.Publish.Denied", "ingest.token_refused_total");
  publisher_start(&first, &rig, "a", "room?token=right");
  assert_string_equal(first.code, "NetStream.Publish.Start");
  publisher_close(&first);
  rig_taken(&rig, 1, VC_TURN_LOST);
  rig.refusal = "The journal is full.";
  check_refused("other?token=right", "NetConnection.Connect.Rejected", "ingest.gate_refused_total");
  publisher_start(&back, &rig, "a", "room?token=right"); // a session that stands goes on
  assert_string_equal(back.code, "NetStream.Publish.Start");
  rig_stop(&rig);
}

static void test_wants_to_play(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig_start(&rig);
  publisher_open(&publisher, &rig, "a");
  publisher_shake_hands(&publisher);
  publisher_connect(&publisher, "live");
  publisher_say(&publisher, "play");
  AWAIT(&rig, publisher.is_closed);
  assert_string_equal(publisher.code, "NetStream.Play.StreamNotFound");
  assert_int_equal(rig_counter(&rig, "ingest.name_refused_total"), 1);
  rig_stop(&rig);
}

// Before any connect too: what is said then must be readable as well.
static void test_out_of_turn(void **state)
{
  struct publisher playing, publishing;
  rig_init(&rig);
  rig_start(&rig);
  publisher_open(&playing, &rig, "a");
  publisher_shake_hands(&playing);
  publisher_say(&playing, "play");
  AWAIT(&rig, playing.is_closed);
  assert_string_equal(playing.code, "NetStream.Play.StreamNotFound");
  publisher_open(&publishing, &rig, "a");
  publisher_shake_hands(&publishing);
  publisher_publish(&publishing, "room");
  AWAIT(&rig, publishing.is_closed);
  assert_int_equal(rig_counter(&rig, "ingest.protocol_errors_total"), 1);
  rig_stop(&rig);
}

static void test_max_publishers(void **state)
{
  struct publisher first, second, third;
  rig_init(&rig);
  rig.options.max_publishers = 2;
  rig_start(&rig);
  publisher_start(&first, &rig, "a", "one");
  assert_null(vc_ingest_refusal(rig.ingest));
  publisher_start(&second, &rig, "a", "two");
  publisher_close(&second); // it is waited for
  rig_taken(&rig, 2, VC_TURN_LOST);
  assert_string_equal(vc_ingest_refusal(rig.ingest), "Too many publishers.");
  publisher_start(&third, &rig, "a", "three");
  AWAIT(&rig, third.is_closed);
  assert_string_equal(third.code, "NetConnection.Connect.Rejected");
  assert_int_equal(rig_counter(&rig, "ingest.full_refused_total"), 1);
  publisher_start(&second, &rig, "a", "two");
  assert_string_equal(second.code, "NetStream.Publish.Start");
  publisher_say(&first, "FCUnpublish");
  rig_taken(&rig, 4, VC_TURN_CLOSE);
  assert_null(vc_ingest_refusal(rig.ingest));
  publisher_close(&third);
  publisher_start(&third, &rig, "a", "three");
  assert_string_equal(third.code, "NetStream.Publish.Start");
  rig_stop(&rig);
}

static void test_max_connections(void **state)
{
  struct publisher publishers[9];
  rig_init(&rig);
  rig.options.max_publishers = 2; // four connections each
  rig_start(&rig);
  for (int i = 0; i < 8; i++) {
    publisher_open(&publishers[i], &rig, "a");
  }
  AWAIT_COUNTER(&rig, "ingest.connections", 8);
  publisher_open(&publishers[8], &rig, "a");
  AWAIT(&rig, publishers[8].is_closed);
  assert_int_equal(rig_counter(&rig, "ingest.full_refused_total"), 1);
  publisher_close(&publishers[0]);
  AWAIT_COUNTER(&rig, "ingest.connections", 7);
  publisher_open(&publishers[0], &rig, "a");
  AWAIT_COUNTER(&rig, "ingest.connections", 8);
  rig_stop(&rig);
}

// The listener rests, the publisher waits in the backlog.
static void test_no_descriptor_is_left(void **state)
{
  struct publisher publisher;
  struct rlimit before;
  rig_init(&rig);
  rig.n_workers = 1;
  rig_start(&rig);
  publisher_open(&publisher, &rig, "a");
  assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
  int next = dup(publisher.fd);
  close(next);
  struct rlimit none = {.rlim_cur = (rlim_t)next, .rlim_max = before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
  AWAIT_COUNTER(&rig, "ingest.accept_rests_total", 1);
  uint64_t n_events = hand_n_events;
  for (int i = 0; i < 100; i++) {
    rig_turn(&rig);
  }
  assert_int_equal(hand_n_events, n_events);
  assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
  rig_pass(&rig, VC_LISTENER_REST_MS);
  AWAIT_COUNTER(&rig, "ingest.connections", 1);
  assert_int_equal(rig_counter(&rig, "ingest.accept_rests_total"), 1);
  rig_stop(&rig);
}

// --- a balancer's PROXY header

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
static const char proxy_v4[] = SIGNATURE "\x21\x11\0\x0c\xc0\0\2\1\x0a\0\0\1\x12\x34\x07\x91";
static const char proxy_mapped[] = SIGNATURE "\x21\x21\0\x24"
                                             "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1"
                                             "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1"
                                             "\x12\x34\x07\x91";
static const char proxy_v6[] = SIGNATURE "\x21\x21\0\x27"
                                         "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1"
                                         "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2"
                                         "\x12\x34\x07\x91"
                                         "\4\0\0"; // a TLV
static const char proxy_local[] = SIGNATURE "\x20\0\0\0";
static const char proxy_v1[] = "PROXY TCP4 192.0.2.1 10.0.0.1 4660 1937\r\n";

static void start_behind_proxy(void)
{
  rig_init(&rig);
  rig.options.trusted_proxies = "127.0.0.0/8";
  rig.options.max_connections_per_address = 2;
  rig_start(&rig);
}

static void open_with(struct publisher *publisher, const char *header, size_t size)
{
  publisher_open(publisher, &rig, "a");
  for (size_t i = 0; i < size; i++) { // in single bytes
    publisher_write(publisher, header + i, 1);
    rig_turn(&rig);
  }
  publisher_shake_hands(publisher);
  AWAIT(&rig, publisher->n_handshake == RTMP_S0S1S2_SIZE || publisher->is_closed);
}
#define OPEN_WITH(publisher, header) open_with(publisher, header, sizeof(header) - 1)

static void test_proxy_header_says_the_address(void **state)
{
  struct publisher publishers[7];
  start_behind_proxy();
  OPEN_WITH(&publishers[0], proxy_v4);
  OPEN_WITH(&publishers[1], proxy_mapped); // the same address
  assert_true(!publishers[0].is_closed && !publishers[1].is_closed);
  OPEN_WITH(&publishers[2], proxy_v1);
  assert_int_equal(publishers[2].is_closed, 1);
  assert_int_equal(rig_counter(&rig, "ingest.address_refused_total"), 1);
  OPEN_WITH(&publishers[3], proxy_v6);
  assert_int_equal(publishers[3].is_closed, 0);
  for (int i = 4; i < 7; i++) { // a health check: the proxy itself, which is exempt
    OPEN_WITH(&publishers[i], proxy_local);
    assert_int_equal(publishers[i].is_closed, 0);
  }
  publisher_close(&publishers[0]);
  AWAIT_COUNTER(&rig, "ingest.connections", 5);
  OPEN_WITH(&publishers[0], proxy_v1);
  assert_int_equal(publishers[0].is_closed, 0);
  rig_stop(&rig);
}

static void test_proxy_header_is_mandatory(void **state)
{
  static const struct {
    const char *bytes;
    size_t size;
  } wrong[] = {{"\3", 1},
               {"PROXY TCP4 192.0.2.1\r\n", 22},
               {SIGNATURE "\x11\x11\0\0", 16},      // version 1
               {SIGNATURE "\x22\x11\0\0", 16},      // neither LOCAL nor PROXY
               {SIGNATURE "\x21\x11\xff\xff", 16}}; // 64 KiB of it
  start_behind_proxy();
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    struct publisher publisher;
    open_with(&publisher, wrong[i].bytes, wrong[i].size);
    assert_int_equal(publisher.is_closed, 1);
    assert_int_equal(publisher.n_handshake, 0);
    assert_int_equal(rig_counter(&rig, "ingest.protocol_errors_total"), i + 1);
    publisher_close(&publisher);
  }
  rig_stop(&rig);
}

// Who begins a header and does not end it has as long as who does not publish.
static void test_proxy_header_in_time(void **state)
{
  struct publisher silent, slow;
  start_behind_proxy();
  publisher_open(&silent, &rig, "a");
  publisher_open(&slow, &rig, "a");
  publisher_write(&slow, proxy_v4, sizeof proxy_v4 - 2);
  AWAIT_COUNTER(&rig, "ingest.connections", 2);
  for (int s = 0; s < 9; s++) {
    rig_pass(&rig, 1000);
  }
  assert_int_equal(rig_counter(&rig, "ingest.timeouts_total"), 0);
  rig_pass(&rig, 1000);
  AWAIT(&rig, silent.is_closed && slow.is_closed);
  assert_int_equal(rig_counter(&rig, "ingest.timeouts_total"), 2);
  rig_stop(&rig);
}

// From elsewhere it is no header but a broken handshake.
static void test_proxy_header_from_a_stranger(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig.options.trusted_proxies = "192.0.2.0/24";
  rig_start(&rig);
  OPEN_WITH(&publisher, proxy_v4);
  assert_int_equal(publisher.is_closed, 1);
  assert_int_equal(rig_counter(&rig, "ingest.protocol_errors_total"), 1);
  rig_stop(&rig);
}

// --- the end

static void test_drain(void **state)
{
  struct publisher first, second, idle;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&first, &rig, "a", "one");
  publisher_start(&second, &rig, "a", "two");
  publisher_close(&second);
  publisher_open(&idle, &rig, "a");
  rig_taken(&rig, 2, VC_TURN_LOST);
  assert_int_equal(vc_stage_stop(rig.ingest, 0), 0);
  struct vc_item *item;
  for (int i = 0; i < 2; i++) {
    item = hand_take(rig.decode, 0);
    assert_non_null(item);
    assert_int_equal(((struct vc_packet *)item)->turn, VC_TURN_CLOSE);
    assert_int_equal(((struct vc_packet *)item)->reason, VC_CLOSE_SHUTDOWN);
    vc_item_destroy(item);
  }
  assert_null(hand_take(rig.decode, 0));
  rig_stop(&rig);
}

// Whoever closes a session from within: its publisher hears why, the stages behind hear how.
static void check_closed_by(enum vc_query_kind kind, enum vc_close_reason reason, const char *code)
{
  struct publisher publisher;
  struct vc_putter *putter = vc_putter_create(rig.ingest);
  rig_forget(&rig);
  publisher_start(&publisher, &rig, "a", "room");
  struct vc_query *query = vc_query_create(kind, "room");
  assert_int_equal(vc_putter_put(putter, 0, vc_query_item(query)), 0);
  AWAIT(&rig, publisher.is_closed);
  assert_int_equal(vc_query_wait(query, 0), 0);
  assert_int_equal(vc_query_status(query), 200);
  vc_query_unref(query);
  assert_string_equal(publisher.code, code);
  assert_int_equal(rig_taken(&rig, 1, VC_TURN_CLOSE)->reason, reason);
  publisher_close(&publisher);
}

static void test_sessions_closed_from_within(void **state)
{
  rig_init(&rig);
  rig_start(&rig);
  check_closed_by(VC_QUERY_KICK_PUBLISHER, VC_CLOSE_KICKED, "NetStream.Publish.Denied");
  check_closed_by(VC_QUERY_TAKE_OVER, VC_CLOSE_TAKEN_OVER, "NetStream.Publish.BadName");
  struct vc_putter *putter = vc_putter_create(rig.ingest);
  struct vc_query *query = vc_query_create(VC_QUERY_TAKE_OVER, "nobody");
  assert_int_equal(vc_putter_put(putter, 0, vc_query_item(query)), 0);
  AWAIT(&rig, vc_query_wait(query, 0) == 0);
  assert_int_equal(vc_query_status(query), 404);
  vc_query_unref(query);
  rig_stop(&rig);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_bad_names),
      cmocka_unit_test(test_good_names),
      cmocka_unit_test(test_applications),
      cmocka_unit_test(test_gate_and_token),
      cmocka_unit_test(test_wants_to_play),
      cmocka_unit_test(test_out_of_turn),
      cmocka_unit_test(test_max_publishers),
      cmocka_unit_test(test_max_connections),
      cmocka_unit_test(test_no_descriptor_is_left),
      cmocka_unit_test(test_proxy_header_says_the_address),
      cmocka_unit_test(test_proxy_header_is_mandatory),
      cmocka_unit_test(test_proxy_header_in_time),
      cmocka_unit_test(test_proxy_header_from_a_stranger),
      cmocka_unit_test(test_drain),
      cmocka_unit_test(test_sessions_closed_from_within),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
