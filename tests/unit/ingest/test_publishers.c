// What publishers send, and what the decode stage gets of it; one publisher after the other.
#include "rig.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static struct rig rig;

static void test_a_session_from_open_to_close(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&publisher, &rig, "a", "room");
  assert_string_equal(publisher.code, "NetStream.Publish.Start");
  assert_string_equal(publisher.level, "status");
  publisher_send_audio(&publisher, 0, "\xaf\0", 0x12, 2);
  publisher_send_frame(&publisher, 23);
  publisher_send_audio(&publisher, 46, "\x2f", 0xff, 300);
  publisher_send_audio(&publisher, 70, "\x91Opus", 0x33, 50);
  publisher_say(&publisher, "deleteStream");
  const struct taken *open = rig_taken(&rig, 0, VC_TURN_OPEN);
  assert_string_equal(open->slug, "room");
  const struct taken *config = rig_taken(&rig, 1, VC_TURN_CONFIG);
  assert_true(config->codec == VC_CODEC_AAC && config->size == 2 && config->first == 0x12);
  const struct taken *aac = rig_taken(&rig, 2, VC_TURN_DATA);
  assert_true(aac->codec == VC_CODEC_AAC && aac->size == 100 && aac->timestamp_ms == 23);
  const struct taken *mp3 = rig_taken(&rig, 3, VC_TURN_DATA);
  assert_true(mp3->codec == VC_CODEC_MP3 && mp3->size == 300 && mp3->timestamp_ms == 46);
  const struct taken *opus = rig_taken(&rig, 4, VC_TURN_DATA);
  assert_true(opus->codec == VC_CODEC_OPUS && opus->size == 50 && opus->first == 0x33);
  assert_int_equal(rig_taken(&rig, 5, VC_TURN_CLOSE)->reason, VC_CLOSE_PUBLISHER_LEFT);
  assert_int_equal(rig_counter(&rig, "ingest.packets_total"), 4);
  AWAIT_CODE(&publisher, "NetStream.Unpublish.Success");
  publisher_send_frame(&publisher, 90); // behind its end
  publisher_close(&publisher);
  AWAIT_COUNTER(&rig, "ingest.connections", 0);
  assert_int_equal(rig.n_taken, 6);
  assert_int_equal(rig_counter(&rig, "ingest.lost_total"), 0);
  rig_stop(&rig);
}

static const struct order {
  const char *slug;
  const char *commands[5];
  int n_answers; // that of connect too
} orders[] = {
    {"bare", {"createStream"}, 2},
    {"announced", {"releaseStream", "FCPublish", "createStream"}, 4},
    {"late", {"createStream", "releaseStream", "FCPublish"}, 4},
    {"curious", {"releaseStream", "FCPublish", "createStream", "_checkbw"}, 5},
    {"unknown", {"setPeerInfo", "createStream", "FCSubscribe"}, 2},
};

static void say_in_order(struct publisher *publisher, const struct order *order)
{
  publisher_open(publisher, &rig, "a");
  publisher_shake_hands(publisher);
  publisher_connect(publisher, "live");
  for (size_t i = 0; order->commands[i] != NULL; i++) {
    publisher_say(publisher, order->commands[i]);
  }
  AWAIT(&rig, publisher->n_answers == order->n_answers || publisher->is_closed);
  publisher->code[0] = 0;
  publisher_publish(publisher, order->slug);
}

static void test_commands_in_any_usual_order(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig_start(&rig);
  for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
    say_in_order(&publisher, &orders[i]);
    AWAIT_CODE(&publisher, "NetStream.Publish.Start");
    assert_int_equal(publisher.n_answers, orders[i].n_answers);
    publisher_send_frame(&publisher, 0);
    publisher_say(&publisher, "FCUnpublish");
    publisher_say(&publisher, "closeStream");
    publisher_say(&publisher, "deleteStream");
    assert_string_equal(rig_taken(&rig, 3 * i, VC_TURN_OPEN)->slug, orders[i].slug);
    rig_taken(&rig, 3 * i + 1, VC_TURN_DATA);
    rig_taken(&rig, 3 * i + 2, VC_TURN_CLOSE);
    publisher_close(&publisher);
    AWAIT_COUNTER(&rig, "ingest.connections", 0);
  }
  rig_stop(&rig);
  assert_int_equal(rig.n_taken, 3 * sizeof orders / sizeof *orders);
}

// One that closes with acknowledgements unread resets the connection: nothing can be sent to it any
// more, and what it said before is still to be read.
static void test_an_end_that_is_read_behind_a_reset(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&publisher, &rig, "a", "room");
  publisher.reads = 0;
  int one = 1;
  setsockopt(publisher.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); // a reset drops what waits
  publisher_send_audio(&publisher, 0, "\xaf\1", 0x21, 20000);
  AWAIT_COUNTER(&rig, "ingest.packets_total", 1);
  for (uint32_t at_ms = 23; at_ms < 70; at_ms += 23) {
    publisher_send_audio(&publisher, at_ms, "\xaf\1", 0x21, 22000); // more than one read
  }
  publisher_say(&publisher, "deleteStream");
  publisher_close(&publisher);
  AWAIT_COUNTER(&rig, "ingest.connections", 0);
  assert_int_equal(rig_counter(&rig, "ingest.lost_total"), 0);
  AWAIT_COUNTER(&rig, "ingest.publishers", 0);
  rig_stop(&rig);
}

static void test_acknowledgements_are_far_apart(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&publisher, &rig, "a", "room");
  for (uint32_t n = 1; n <= 20; n++) {
    publisher_send_audio(&publisher, n * 23, "\xaf\1", 0x21, 2000);
    AWAIT_COUNTER(&rig, "ingest.packets_total", n);
    publisher_read(&publisher);
  }
  assert_int_equal(publisher.n_acknowledgements, 1); // the first comes early
  rig_pass(&rig, 2000);
  publisher_send_frame(&publisher, 500);
  AWAIT(&rig, publisher.n_acknowledgements == 2);
  publisher_close(&publisher);
  rig_stop(&rig);
}

// What is written in small pieces waits in its socket for the ACK of the piece before.
static void test_frames_do_not_wait_for_an_ack(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&publisher, &rig, "a", "room");
  for (uint32_t n = 1; n <= 100; n++) { // the kernel is quick at first
    struct tcp_info info;
    socklen_t size = sizeof info;
    publisher_send_frame(&publisher, n * 23);
    AWAIT_COUNTER(&rig, "ingest.packets_total", n);
    assert_int_equal(getsockopt(publisher.fd, IPPROTO_TCP, TCP_INFO, &info, &size), 0);
    assert_int_equal(info.tcpi_unacked, 0);
  }
  publisher_close(&publisher);
  rig_stop(&rig);
}

static void test_what_is_passed_over(void **state)
{
  struct publisher publisher;
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&publisher, &rig, "a", "room");
  publisher_send_audio(&publisher, 1, "\xaf\0", 0, 0); // an empty config
  publisher_send_audio(&publisher, 2,
                       "\x91"
                       "fLaC",
                       0, 50);                              // a codec that is not taken
  publisher_send_audio(&publisher, 3, "\x95\1Opus", 0, 50); // another track
  publisher_send_audio(&publisher, 4, "\x3f", 0, 50);       // PCM
  publisher_say(&publisher, "onMetaData");
  publisher_send_frame(&publisher, 5);
  rig_taken(&rig, 0, VC_TURN_OPEN);
  assert_int_equal(rig_taken(&rig, 1, VC_TURN_DATA)->timestamp_ms, 5);
  rig_stop(&rig);
}

static void put_tag(struct rtmp_bytes *out, uint8_t type, uint8_t time, uint8_t size)
{
  uint8_t tag[11] = {type, 0, 0, size, 0, 0, time};
  uint8_t body[64] = {0xaf, 1, time}, trailer[4] = {0, 0, 0, (uint8_t)(size + 11)};
  rtmp_bytes_add(out, tag, sizeof tag);
  rtmp_bytes_add(out, body, size);
  rtmp_bytes_add(out, trailer, sizeof trailer);
}

static void test_aggregate(void **state)
{
  struct publisher publisher;
  struct rtmp_bytes tags = {0}, out = {0};
  rig_init(&rig);
  rig_start(&rig);
  publisher_start(&publisher, &rig, "a", "room");
  put_tag(&tags, RTMP_AUDIO, 10, 20);
  put_tag(&tags, RTMP_VIDEO, 15, 30);
  put_tag(&tags, RTMP_AUDIO, 33, 40);
  struct rtmp_message message = {.type = RTMP_AGGREGATE,
                                 .stream_id = 1,
                                 .timestamp_ms = 1000,
                                 .payload = tags.at,
                                 .size = tags.size - 20}; // its last trailer and sound are cut
  rtmp_write(&out, 128, 4, &message);
  message.size = tags.size;
  rtmp_write(&out, 128, 4, &message);
  publisher_write(&publisher, out.at, out.size);
  rig_taken(&rig, 0, VC_TURN_OPEN);
  for (size_t i = 1; i <= 2; i++) { // the first of the one that is cut, the first of the whole
    const struct taken *first = rig_taken(&rig, i, VC_TURN_DATA);
    assert_true(first->timestamp_ms == 1000 && first->size == 18 && first->first == 10);
  }
  const struct taken *second = rig_taken(&rig, 3, VC_TURN_DATA);
  assert_true(second->timestamp_ms == 1023 && second->size == 38 && second->first == 33);
  rtmp_bytes_fini(&tags);
  rtmp_bytes_fini(&out);
  rig_stop(&rig);
}

// --- the same bytes however they come

static void put_command(struct rtmp_bytes *out, int is_amf3, struct rtmp_bytes *body)
{
  struct rtmp_bytes wrapped = {0};
  if (is_amf3) {
    rtmp_bytes_add(&wrapped, "", 1);
  }
  rtmp_bytes_add(&wrapped, body->at, body->size);
  struct rtmp_message message = {.type = is_amf3 ? RTMP_COMMAND_AMF3 : RTMP_COMMAND_AMF0,
                                 .payload = wrapped.at,
                                 .size = wrapped.size};
  rtmp_write(out, 128, 3, &message);
  rtmp_bytes_fini(&wrapped);
  rtmp_bytes_fini(body);
}

static void put_publisher(struct rtmp_bytes *out, int is_amf3)
{
  static const uint8_t frame[400] = {0xaf, 1, 0x21};
  uint8_t hands[RTMP_C0C1_SIZE + RTMP_HANDSHAKE_SIZE] = {3};
  struct rtmp_bytes body = {0};
  rtmp_bytes_add(out, hands, sizeof hands);
  rtmp_amf_write_string(&body, "connect");
  rtmp_amf_write_number(&body, 1);
  rtmp_amf_begin_object(&body);
  rtmp_amf_write_key(&body, "app");
  rtmp_amf_write_string(&body, "/live/?x=y");
  rtmp_amf_end_object(&body);
  put_command(out, is_amf3, &body);
  rtmp_amf_write_string(&body, "publish");
  rtmp_amf_write_number(&body, 2);
  rtmp_amf_write_null(&body);
  rtmp_amf_write_string(&body, "/room?token=t");
  put_command(out, is_amf3, &body);
  struct rtmp_message audio = {
      .type = RTMP_AUDIO, .timestamp_ms = 5, .payload = frame, .size = sizeof frame};
  rtmp_write(out, 128, 4, &audio);
}

static void check_cut(const struct rtmp_bytes *bytes, size_t cut, size_t step)
{
  struct publisher publisher;
  rig_forget(&rig);
  publisher_open(&publisher, &rig, "a");
  publisher_write(&publisher, bytes->at, cut);
  rig_turn(&rig);
  for (size_t at = cut; at < bytes->size; at += step) {
    publisher_write(&publisher, bytes->at + at, bytes->size - at < step ? bytes->size - at : step);
    rig_turn(&rig);
  }
  rig_taken(&rig, 0, VC_TURN_OPEN);
  const struct taken *sound = rig_taken(&rig, 1, VC_TURN_DATA);
  assert_true(sound->size == 398 && sound->timestamp_ms == 5);
  publisher_say(&publisher, "FCUnpublish");
  rig_taken(&rig, 2, VC_TURN_CLOSE);
  publisher_close(&publisher);
  AWAIT_COUNTER(&rig, "ingest.connections", 0);
}

static void check_cuts(uint32_t n_workers, int is_amf3)
{
  struct rtmp_bytes bytes = {0};
  rig_init(&rig);
  rig.n_workers = n_workers;
  rig.password = "token=t";
  rig_start(&rig);
  put_publisher(&bytes, is_amf3);
  for (size_t cut = 1; cut<bytes.size; cut += cut> 1530 && cut < 1545 ? 1 : 61) {
    check_cut(&bytes, cut, SIZE_MAX / 2);
  }
  for (size_t cut = 2 * RTMP_HANDSHAKE_SIZE; cut < bytes.size; cut++) {
    check_cut(&bytes, cut, SIZE_MAX / 2);
  }
  check_cut(&bytes, 0, bytes.size);
  check_cut(&bytes, 3000, 1);
  rtmp_bytes_fini(&bytes);
  rig_stop(&rig);
}

// The connection moves to the slug's worker in the midst of it, or stays.
static void test_cut_at_every_place(void **state)
{
  check_cuts(1, 0);
  check_cuts(2, 1);
  check_cuts(3, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_session_from_open_to_close),
      cmocka_unit_test(test_commands_in_any_usual_order),
      cmocka_unit_test(test_an_end_that_is_read_behind_a_reset),
      cmocka_unit_test(test_acknowledgements_are_far_apart),
      cmocka_unit_test(test_frames_do_not_wait_for_an_ack),
      cmocka_unit_test(test_what_is_passed_over),
      cmocka_unit_test(test_aggregate),
      cmocka_unit_test(test_cut_at_every_place),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
