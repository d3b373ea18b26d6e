// Every allocation of the room fails once, and a run of them from each one on: nothing breaks or
// leaks, and when there is memory again the room takes publishers as before.
#include "no_memory.h"
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct rig rig;

static void turn_some(void)
{
  for (int i = 0; i < 4; i++) {
    rig_turn(&rig);
  }
}

// Each step is tried; what becomes of it is left to the allocations.
static void try_publisher(struct publisher *publisher, const char *flash_version, int is_stalled)
{
  publisher_open(publisher, &rig, flash_version);
  publisher_shake_hands(publisher);
  turn_some();
  publisher_connect(publisher, "live");
  publisher_say(publisher, "createStream");
  turn_some();
  publisher_publish(publisher, "room");
  turn_some();
  publisher_send_audio(publisher, 0, "\xaf\0", 0x12, 2);
  hand_set_capacity(rig.decode, 0, is_stalled ? 0 : HAND_UNBOUNDED);
  publisher_send_frame(publisher, 1);
  publisher_write(publisher, "\4", 1); // a header that is kept for later
  turn_some();
  hand_set_capacity(rig.decode, 0, HAND_UNBOUNDED);
  rig_pass(&rig, 1);
}

// Sound, a mute, more sound in two frames, then it is gone.
static void try_track(int is_stalled)
{
  static const char bytes[] = "\x82\x84\0\0\0\0abcd"
                              "\x81\x8e\0\0\0\0{\"muted\":true}"
                              "\x02\x84\0\0\0\0abcd"
                              "\x80\x84\0\0\0\0abcd";
  struct vc_track_newcomer newcomer = {
      .slug = "room", .participant = "Ada", .rate_hz = 16000, .n_channels = 1, .is_exempt = 1};
  int fds[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  newcomer.fd = fds[1];
  vc_ingest_adopt(rig.door, &newcomer);
  turn_some();
  hand_set_capacity(rig.decode, 0, is_stalled ? 0 : HAND_UNBOUNDED);
  ssize_t n = send(fds[0], bytes, sizeof bytes - 1, MSG_NOSIGNAL);
  (void)n; // it may be gone
  turn_some();
  hand_set_capacity(rig.decode, 0, HAND_UNBOUNDED);
  close(fds[0]);
  turn_some();
}

// One whose token has expired, and whom the other nodes know, if they are asked.
static void try_to_come_back(struct publisher *publisher)
{
  publisher_open(publisher, &rig, "d");
  publisher_shake_hands(publisher);
  turn_some();
  publisher_connect(publisher, "live");
  publisher_publish(publisher, "elsewhere?token=old");
  turn_some();
  struct vc_item *item = hand_take(rig.fleet, 0);
  if (item != NULL) {
    vc_query_set_number(vc_query_of(item), 1);
    vc_query_answer(vc_query_of(item), 200, NULL);
  }
  turn_some();
  publisher_close(publisher);
  turn_some();
}

static size_t count_taken(enum vc_turn turn)
{
  size_t n = 0;
  for (size_t i = 0; i < rig.n_taken; i++) {
    n += rig.taken[i].turn == turn;
  }
  return n;
}

// Returns: how many allocations there were where `length` of them fail after `after`.
static size_t play(uint32_t n_workers, size_t after, size_t length)
{
  struct publisher first, second, back, last;
  rig_init(&rig);
  rig.n_workers = n_workers;
  rig.expired = "token=old";
  rig.has_fleet = 1;
  rig_start(&rig);
  memory_fail(after, length);
  try_publisher(&first, "a", 0);
  try_publisher(&second, "b", 1); // takes over
  publisher_close(&second);
  turn_some();
  try_track(0);
  try_track(1); // goes on
  try_to_come_back(&back);
  rig_pass(&rig, 40000); // nobody comes back
  size_t n = memory_n_allocations();
  memory_fail(0, 0);
  // One that was left alone with its name goes for its silence first, then its session for its
  // absence; each may have begun a turn late.
  for (int i = 0; i < 3; i++) {
    rig_pass(&rig, 40000);
  }
  AWAIT_COUNTER(&rig, "ingest.publishers", 0);
  rig_pass(&rig, 1);
  assert_int_equal(count_taken(VC_TURN_CLOSE), count_taken(VC_TURN_OPEN));
  rig_forget(&rig);
  publisher_start(&last, &rig, "c", "room");
  assert_string_equal(last.code, "NetStream.Publish.Start");
  rig_taken(&rig, 0, VC_TURN_OPEN);
  rig_stop(&rig);
  return n;
}

static void check_run(uint32_t n_workers, size_t length)
{
  size_t n = 1;
  for (size_t after = 0; after < n; after++) {
    size_t n_of_this = play(n_workers, after, length);
    n = n_of_this > n ? n_of_this : n;
  }
  assert_in_range(n, 30, 5000);
}

static void test_one_fails(void **state)
{
  check_run(1, 1);
  check_run(2, 1);
}

static void test_several_fail(void **state)
{
  check_run(2, 4);
}

int main(void)
{
  memory_count_while(&hand_is_turning);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_one_fails),
      cmocka_unit_test(test_several_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
