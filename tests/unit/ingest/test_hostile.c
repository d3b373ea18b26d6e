// Peers that do what nobody should: commands at the wrong time, buffers that are never read,
// rubbish. The linker puts our send and realloc in the place of the real ones.
#include "rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static struct rig rig;
static size_t send_room = SIZE_MAX; // what the server's sockets take
static int was_full;                // a send of the server's took nothing
static size_t largest;              // buffer that the server has made

ssize_t __real_send(int fd, const void *bytes, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags)
{
  if (!hand_is_turning) {
    return __real_send(fd, bytes, size, flags);
  }
  errno = EAGAIN;
  ssize_t n =
      send_room == 0 ? -1 : __real_send(fd, bytes, size < send_room ? size : send_room, flags);
  send_room -= n > 0 && send_room != SIZE_MAX ? (size_t)n : 0;
  was_full |= n < 0;
  return n;
}

void *__wrap_realloc(void *old, size_t size)
{
  largest = hand_is_turning && size > largest ? size : largest;
  return __real_realloc(old, size);
}

static void begin(void)
{
  rig_init(&rig);
  rig_start(&rig);
  send_room = SIZE_MAX;
  largest = 0;
  was_full = 0;
}

// --- commands at the wrong time

static void check_breaks_while_publishing(void (*breach)(struct publisher *publisher))
{
  struct publisher publisher, next;
  begin();
  publisher_start(&publisher, &rig, "a", "room");
  breach(&publisher);
  AWAIT(&rig, publisher.is_closed);
  rig_taken(&rig, 1, VC_TURN_LOST); // the session lives on without it
  publisher_start(&next, &rig, "b", "room");
  assert_string_equal(next.code, "NetStream.Publish.Start");
  publisher_send_frame(&next, 5);
  rig_taken(&rig, 2, VC_TURN_BACK);
  rig_taken(&rig, 3, VC_TURN_DATA);
  assert_int_equal(rig_counter(&rig, "ingest.takeovers_total"), 0);
  rig_stop(&rig);
}

static void play(struct publisher *publisher)
{
  publisher_say(publisher, "play");
}

static void connect_elsewhere(struct publisher *publisher)
{
  publisher_connect(publisher, "other");
}

static void publish_again(struct publisher *publisher)
{
  publisher_publish(publisher, "room");
}

static void test_commands_while_publishing(void **state)
{
  check_breaks_while_publishing(play);
  check_breaks_while_publishing(connect_elsewhere);
  check_breaks_while_publishing(publish_again);
}

static void send_command(struct publisher *publisher, const char *bytes, size_t size)
{
  struct rtmp_bytes out = {0};
  struct rtmp_message message = {
      .type = RTMP_COMMAND_AMF0, .payload = (const uint8_t *)bytes, .size = size};
  rtmp_write(&out, 128, 3, &message);
  publisher_write(publisher, out.at, out.size);
  rtmp_bytes_fini(&out);
}

// An array that ends with the message, and its last string with it: nothing behind it is read.
static void test_application_at_the_end(void **state)
{
  static const char connect[] =
      "\2\0\7connect\0\x3f\xf0\0\0\0\0\0\0\x08\0\0\0\1\0\3app\2\0\7outside";
  struct publisher publisher;
  begin();
  publisher_open(&publisher, &rig, "a");
  publisher_shake_hands(&publisher);
  send_command(&publisher, connect, sizeof connect - 1);
  AWAIT(&rig, publisher.is_closed);
  assert_string_equal(publisher.code, "NetConnection.Connect.Rejected");
  rig_stop(&rig);
}

static void test_malformed_commands(void **state)
{
  static const struct {
    const char *bytes;
    size_t size;
  } commands[] = {{"", 0}, {"\5", 1}, {"\2\0\7conn", 7}, {"\2\0\7connect\5\5", 12}};
  begin();
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    struct publisher publisher;
    publisher_open(&publisher, &rig, "a");
    publisher_shake_hands(&publisher);
    send_command(&publisher, commands[i].bytes, commands[i].size);
    AWAIT(&rig, publisher.is_closed);
    assert_int_equal(rig_counter(&rig, "ingest.protocol_errors_total"), i + 1);
    publisher_close(&publisher);
  }
  rig_stop(&rig);
}

static void test_a_large_message_ends_it(void **state)
{
  static const uint8_t header[12] = {4, 0, 0, 0, 0x10, 0, 1, RTMP_AUDIO};
  struct publisher publisher;
  begin();
  publisher_start(&publisher, &rig, "a", "room");
  publisher_write(&publisher, header, sizeof header);
  AWAIT(&rig, publisher.is_closed);
  rig_taken(&rig, 1, VC_TURN_LOST);
  assert_int_equal(rig_counter(&rig, "ingest.protocol_errors_total"), 1);
  rig_stop(&rig);
}

// --- peers that do not read

static void ping(struct publisher *publisher, int n)
{
  for (int i = 0; i < n; i++) {
    publisher_ping(publisher);
  }
}

static void test_who_never_reads_is_closed(void **state)
{
  struct publisher publisher;
  begin();
  publisher_start(&publisher, &rig, "a", "room");
  send_room = 0;
  for (int i = 0; i < 100 && rig_counter(&rig, "ingest.lost_total") == 0; i++) {
    ping(&publisher, 100);
    rig_turn(&rig);
  }
  assert_int_equal(rig_counter(&rig, "ingest.lost_total"), 1);
  assert_in_range(largest, 65536, 4 * 65536);
  send_room = SIZE_MAX;
  rig_stop(&rig);
}

// It always reads a little less than all: what it has read does not stay in memory.
static void test_who_reads_late_costs_little(void **state)
{
  struct publisher publisher;
  begin();
  publisher_start(&publisher, &rig, "a", "room");
  send_room = 0;
  ping(&publisher, 1000);
  AWAIT(&rig, was_full);
  for (int i = 0; i < 400; i++) {
    int before = publisher.n_pongs;
    ping(&publisher, 100);
    send_room = 1800;
    AWAIT(&rig, send_room == 0 && publisher.n_pongs > before);
  }
  assert_int_equal(publisher.is_closed, 0);
  assert_in_range(largest, 18000, 4 * 65536);
  send_room = SIZE_MAX;
  AWAIT(&rig, publisher.n_pongs == 1000 + 400 * 100);
  rig_stop(&rig);
}

static void check_at_rest(void)
{
  rig_turn(&rig);
  uint64_t before = hand_n_events;
  for (int i = 0; i < 20; i++) {
    rig_turn(&rig);
  }
  assert_int_equal(hand_n_events, before);
}

// When all is sent the worker sleeps again, even if the first send took nothing at all.
static void test_a_socket_with_room_wakes_nobody(void **state)
{
  struct publisher publisher;
  begin();
  publisher_start(&publisher, &rig, "a", "room");
  send_room = 0;
  publisher_ping(&publisher);
  AWAIT(&rig, was_full);
  send_room = SIZE_MAX;
  AWAIT(&rig, publisher.n_pongs == 1);
  check_at_rest();
  rig_stop(&rig);
}

// One that is refused, does not read the refusal and talks on: the socket is really full.
static void test_a_closing_one_wakes_nobody(void **state)
{
  struct publisher publisher;
  begin();
  publisher_open(&publisher, &rig, "a");
  publisher_shake_hands(&publisher);
  publisher_connect(&publisher, "live");
  AWAIT_CODE(&publisher, "NetConnection.Connect.Success");
  publisher.reads = 0;
  for (int i = 0; i < 20000 && !was_full; i++) {
    ping(&publisher, 100);
    rig_turn(&rig);
  }
  assert_int_equal(was_full, 1);
  publisher_publish(&publisher, "-");
  AWAIT_COUNTER(&rig, "ingest.name_refused_total", 1);
  ping(&publisher, 10);
  check_at_rest();
  assert_int_equal(rig_counter(&rig, "ingest.connections"), 1);
  rig_pass(&rig, 10000); // and it does not stay for ever
  AWAIT_COUNTER(&rig, "ingest.connections", 0);
  rig_stop(&rig);
}

// --- peers that are refused

static void refuse(struct publisher *publisher)
{
  publisher_open(publisher, &rig, "a");
  publisher_shake_hands(publisher);
  publisher_connect(publisher, "live");
  AWAIT_CODE(publisher, "NetConnection.Connect.Success");
  publisher->reads = 0;
  publisher_publish(publisher, "-");
}

// What it has sent meanwhile does not turn the close into a reset, which may overtake the refusal.
static void test_who_talks_on_hears_the_refusal(void **state)
{
  struct publisher publisher;
  begin();
  refuse(&publisher);
  for (uint32_t i = 0; i < 50; i++) {
    publisher_send_audio(&publisher, i, "\xaf\1", 0x21, 20000);
  }
  AWAIT_COUNTER(&rig, "ingest.name_refused_total", 1);
  publisher.reads = 1;
  AWAIT(&rig, publisher.is_closed);
  assert_string_equal(publisher.code, "NetStream.Publish.BadName");
  assert_int_equal(publisher.was_reset, 0);
  assert_int_equal(rig_counter(&rig, "ingest.connections"), 1);
  for (int i = 0; i < 100; i++) {
    rig_turn(&rig); // the rest of its megabyte is read away
  }
  check_at_rest();
  publisher_close(&publisher);
  AWAIT_COUNTER(&rig, "ingest.connections", 0);
  rig_stop(&rig);
}

static void test_who_does_not_hang_up_is_closed(void **state)
{
  struct publisher publisher;
  begin();
  refuse(&publisher);
  AWAIT_COUNTER(&rig, "ingest.name_refused_total", 1);
  rig_pass(&rig, 1999);
  assert_int_equal(rig_counter(&rig, "ingest.connections"), 1);
  rig_pass(&rig, 250); // a tick
  AWAIT_COUNTER(&rig, "ingest.connections", 0);
  assert_int_equal(rig_counter(&rig, "ingest.timeouts_total"), 0);
  rig_stop(&rig);
}

static void test_who_talks_for_ever_is_closed(void **state)
{
  struct publisher publisher;
  uint32_t n = 0;
  begin();
  refuse(&publisher);
  while (n < 1000 && rig_counter(&rig, "ingest.connections") != 0) {
    publisher_send_audio(&publisher, n++, "\xaf\1", 0x21, 60000);
    rig_turn(&rig);
  }
  AWAIT_COUNTER(&rig, "ingest.connections", 0);
  assert_in_range(n, 4 * 1024 * 1024 / 61000, 999);
  rig_stop(&rig);
}

// The lane to its owner is full.
static void test_who_cannot_move_is_told(void **state)
{
  struct publisher publisher = {.fd = -1};
  begin();
  hand_set_capacity(rig.ingest, 0, 0);
  hand_set_capacity(rig.ingest, 1, 0);
  for (int i = 0; i < 16 && rig_counter(&rig, "ingest.full_refused_total") == 0; i++) {
    char name[8];
    snprintf(name, sizeof name, "room%d", i);
    publisher_start(&publisher, &rig, "a", name);
  }
  AWAIT(&rig, publisher.is_closed);
  assert_string_equal(publisher.code, "NetStream.Publish.BadName");
  assert_int_equal(publisher.was_reset, 0);
  hand_set_capacity(rig.ingest, 0, HAND_UNBOUNDED);
  hand_set_capacity(rig.ingest, 1, HAND_UNBOUNDED);
  rig_stop(&rig);
}

// --- rubbish

static void test_rubbish(void **state)
{
  uint32_t dice = 20261126;
  begin();
  for (int i = 0; i < 400; i++) {
    struct publisher publisher;
    uint8_t bytes[600];
    for (size_t j = 0; j < sizeof bytes; j++) {
      dice = dice * 1664525 + 1013904223;
      bytes[j] = (uint8_t)(dice >> 24);
    }
    if (i % 4 == 0) {
      publisher_open(&publisher, &rig, "a");
    } else if (i % 4 == 1) {
      publisher_open(&publisher, &rig, "a");
      publisher_shake_hands(&publisher);
    } else {
      publisher_start(&publisher, &rig, "a", "room");
    }
    publisher_write(&publisher, bytes, sizeof bytes);
    rig_turn(&rig);
    publisher_close(&publisher);
    AWAIT_COUNTER(&rig, "ingest.connections", 0);
    rig_forget(&rig);
  }
  assert_in_range(rig_counter(&rig, "ingest.protocol_errors_total"), 100, 400);
  rig_stop(&rig);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_commands_while_publishing),
      cmocka_unit_test(test_application_at_the_end),
      cmocka_unit_test(test_malformed_commands),
      cmocka_unit_test(test_a_large_message_ends_it),
      cmocka_unit_test(test_who_never_reads_is_closed),
      cmocka_unit_test(test_who_reads_late_costs_little),
      cmocka_unit_test(test_a_socket_with_room_wakes_nobody),
      cmocka_unit_test(test_a_closing_one_wakes_nobody),
      cmocka_unit_test(test_who_talks_on_hears_the_refusal),
      cmocka_unit_test(test_who_does_not_hang_up_is_closed),
      cmocka_unit_test(test_who_talks_for_ever_is_closed),
      cmocka_unit_test(test_who_cannot_move_is_told),
      cmocka_unit_test(test_rubbish),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
