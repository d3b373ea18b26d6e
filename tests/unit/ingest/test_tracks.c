// Streams of single participants, whose handshake the front door has done: what they send, how they
// end, and whose place they take.
#include "no_verdict.h"
#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include <verbacast/wire/ws.h>

struct peer {
  struct rig *rig;
  struct vc_ws_parser parser;
  int fd;
  int is_open;
  int n_pings, n_pongs;
  int close_code; // that came, 0: none
  int is_at_end;  // the socket
  char pong[126]; // the last one's payload
  char why[126];  // of the close
};

static struct peer peers[8];

static int make_rig(void **state)
{
  struct rig *rig = malloc(sizeof *rig);
  assert_non_null(rig);
  rig_init(rig);
  *state = rig;
  memset(peers, 0, sizeof peers);
  return 0;
}

static void peer_close(struct peer *peer)
{
  if (peer->is_open) {
    close(peer->fd);
    vc_ws_parser_fini(&peer->parser);
    peer->is_open = 0;
  }
}

static int end_rig(void **state)
{
  struct rig *rig = *state;
  rig_stop(rig);
  for (size_t i = 0; i < sizeof peers / sizeof *peers; i++) {
    peer_close(&peers[i]);
  }
  free(rig);
  return 0;
}

// --- a peer

static void peer_read(struct peer *peer)
{
  uint8_t bytes[4096];
  struct vc_ws_event event;
  ssize_t n;
  while ((n = recv(peer->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
    const uint8_t *at = bytes;
    size_t left = (size_t)n, used;
    while (left > 0 && vc_ws_parse(&peer->parser, at, left, &used, &event) == 1) {
      at += used;
      left -= used;
      peer->n_pings += event.opcode == VC_WS_PING;
      if (event.opcode == VC_WS_PONG) {
        peer->n_pongs++;
        snprintf(peer->pong, sizeof peer->pong, "%.*s", (int)event.size, event.payload);
      }
      if (event.opcode == VC_WS_CLOSE) {
        peer->close_code = event.close_code;
        snprintf(peer->why, sizeof peer->why, "%.*s", event.size > 2 ? (int)event.size - 2 : 0,
                 event.size > 2 ? (const char *)event.payload + 2 : "");
      }
    }
  }
  peer->is_at_end |= n == 0 || (n < 0 && errno == ECONNRESET);
}

static int heard(struct peer *peer, int *what, int value)
{
  peer_read(peer);
  return *what == value;
}
#define AWAIT_PEER(peer, member, value) AWAIT((peer)->rig, heard(peer, &(peer)->member, value))

static void send_bytes(struct peer *peer, const void *bytes, size_t size)
{
  const uint8_t *at = bytes;
  int n_tries = 0;
  while (size > 0) {
    ssize_t n = send(peer->fd, at, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      assert_true(errno == EAGAIN && ++n_tries < RIG_PATIENCE);
      rig_turn(peer->rig);
      continue;
    }
    at += n;
    size -= (size_t)n;
  }
}

// A frame of a message: `first` 0x80 | opcode, or less where the message goes on.
static void send_frame(struct peer *peer, uint8_t first, const void *payload, size_t size)
{
  static const uint8_t mask[4] = {7, 77, 177, 27};
  uint8_t header[VC_WS_HEADER_MAX];
  size_t n = vc_ws_print_header(header, VC_WS_BINARY, size, mask);
  uint8_t *masked = malloc(size + 1);
  assert_non_null(masked);
  header[0] = first;
  if (size > 0) {
    memcpy(masked, payload, size);
  }
  vc_ws_mask(masked, size, mask);
  send_bytes(peer, header, n);
  send_bytes(peer, masked, size);
  free(masked);
}

static void send_sound(struct peer *peer, size_t size)
{
  uint8_t *bytes = malloc(size);
  assert_non_null(bytes);
  for (size_t i = 0; i < size; i++) {
    bytes[i] = (uint8_t)i;
  }
  send_frame(peer, 0x82, bytes, size);
  free(bytes);
}

static void send_text(struct peer *peer, const char *text)
{
  send_frame(peer, 0x81, text, strlen(text));
}

static void send_close(struct peer *peer, int code)
{
  uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
  send_frame(peer, 0x88, payload, code == 0 ? 0 : 2);
}

static struct vc_track_newcomer newcomer_of(const char *slug, const char *participant)
{
  struct vc_track_newcomer newcomer = {.rate_hz = 48000, .n_channels = 2, .identity = 1};
  snprintf(newcomer.slug, sizeof newcomer.slug, "%s", slug);
  snprintf(newcomer.participant, sizeof newcomer.participant, "%s", participant);
  assert_int_equal(vc_address_parse("192.0.2.7", &newcomer.address), 0);
  return newcomer;
}

static void peer_come(struct peer *peer, struct rig *rig, struct vc_track_newcomer newcomer)
{
  int fds[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  *peer = (struct peer){.rig = rig, .fd = fds[0], .is_open = 1};
  vc_ws_parser_init(&peer->parser, VC_WS_CLIENT, 65536);
  newcomer.fd = fds[1];
  vc_ingest_adopt(rig->door, &newcomer);
  rig_turn(rig);
}

static struct peer *start(struct rig *rig, int i, const char *slug, const char *participant)
{
  peer_come(&peers[i], rig, newcomer_of(slug, participant));
  return &peers[i];
}

// --- what is sent

static int64_t number_of(struct rig *rig, const char *slug, const char *participant)
{
  struct vc_query *query = rig_ask(rig, VC_QUERY_MAY_PUBLISH, slug, participant);
  int64_t number = vc_query_number(query);
  assert_int_equal(vc_query_status(query), 200);
  vc_query_unref(query);
  return number;
}

static void test_says_when_it_began(void **state)
{
  struct rig *rig = *state;
  int64_t now_ms = 1000 * 1000;
  rig_start(rig);
  assert_int_equal(number_of(rig, "demo", "Ada"), 0);
  start(rig, 0, "demo", "Ada");
  assert_int_equal(number_of(rig, "demo", "Ada"), now_ms);
  assert_int_equal(number_of(rig, "demo", "Bob"), -1);
  assert_int_equal(number_of(rig, "other", "Bob"), 0);
  struct vc_track_newcomer newcomer = newcomer_of("demo", "Bob"); // on another node, earlier
  newcomer.began_ms = now_ms - 5000;
  peer_come(&peers[1], rig, newcomer);
  assert_int_equal(number_of(rig, "demo", "Bob"), now_ms - 5000);
  assert_int_equal(number_of(rig, "demo", "Ada"), now_ms);
  assert_int_equal(number_of(rig, "demo", "Cid"), now_ms - 5000);
}

static void test_becomes_packets(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  assert_string_equal(rig_taken(rig, 0, VC_TURN_OPEN)->participant, "Ada");
  assert_string_equal(rig->taken[0].slug, "demo");
  send_sound(ada, 1920);
  const struct taken *taken = rig_taken(rig, 1, VC_TURN_DATA);
  assert_int_equal(taken->codec, VC_CODEC_PCM_S16LE);
  assert_int_equal(taken->rate_hz, 48000);
  assert_int_equal(taken->channels, 2);
  assert_int_equal(taken->size, 1920);
  assert_int_equal(taken->arrival_ns, rig->now_ns);
  assert_int_equal(taken->first_audio_ns, rig->now_ns - 10 * VC_NS_PER_MS);
  rig_pass(rig, 10);
  send_sound(ada, 1920);
  assert_int_equal(rig_taken(rig, 2, VC_TURN_DATA)->first_audio_ns, taken->first_audio_ns);
  assert_int_equal(rig_counter(rig, "ingest.tracks"), 1);
  assert_int_equal(rig_counter(rig, "ingest.publishers"), 1);
}

// Messages that hold no whole sample begin nothing.
static void test_the_clock_begins_with_a_sample(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  send_sound(ada, 0);
  send_sound(ada, 3);
  AWAIT_COUNTER(rig, "ingest.packets_total", 2);
  rig_pass(rig, 5000);
  send_sound(ada, 1917);
  const struct taken *taken = rig_taken(rig, 1, VC_TURN_DATA);
  assert_int_equal(taken->size, 1920);
  assert_int_equal(taken->first_audio_ns, rig->now_ns - 10 * VC_NS_PER_MS);
}

// Samples of four bytes that come in pieces of any size.
static void test_is_cut_anywhere(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  send_frame(ada, 0x82, bytes, 3);
  AWAIT_COUNTER(rig, "ingest.packets_total", 1);
  assert_int_equal(rig->n_taken, 1); // open
  send_frame(ada, 0x02, bytes + 3, 4);
  send_frame(ada, 0x00, bytes + 7, 0);
  send_frame(ada, 0x80, bytes + 7, 3);
  const struct taken *taken = rig_taken(rig, 1, VC_TURN_DATA);
  assert_int_equal(taken->size, 8);
  assert_int_equal(taken->first, 1);
  assert_int_equal(taken->last, 8);
  send_frame(ada, 0x82, bytes, 6);
  taken = rig_taken(rig, 2, VC_TURN_DATA);
  assert_int_equal(taken->size, 8);
  assert_int_equal(taken->first, 9);
  assert_int_equal(taken->last, 6);
}

static void test_takes_large_messages_in_parts(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct vc_track_newcomer newcomer = newcomer_of("demo", "Ada");
  newcomer.n_channels = 3; // no power of two
  peer_come(&peers[0], rig, newcomer);
  send_sound(&peers[0], 256 * 1024);
  size_t size = 0;
  for (size_t i = 1; size + 6 <= 256 * 1024; i++) {
    const struct taken *taken = rig_taken(rig, i, VC_TURN_DATA);
    assert_in_range(taken->size, 6, 65536);
    assert_int_equal(taken->size % 6, 0);
    assert_int_equal(taken->first, (uint8_t)size);
    size += taken->size;
  }
  assert_int_equal(size, 256 * 1024 / 6 * 6);
}

static void test_says_that_it_is_muted(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  send_sound(ada, 1922); // two bytes of the next sample
  send_text(ada, "{\"muted\":true}");
  send_text(ada, " { \"muted\" : true , \"more\": [] } ");
  send_text(ada, "{\"something\":\"else\"}");
  send_text(ada, "{\"muted\":false}");
  send_text(ada, "{\"muted\":true}");
  assert_int_equal(rig_taken(rig, 1, VC_TURN_DATA)->size, 1920);
  rig_taken(rig, 2, VC_TURN_MUTED);
  rig_taken(rig, 3, VC_TURN_MUTED);
  send_sound(ada, 1918);
  assert_int_equal(rig_taken(rig, 4, VC_TURN_DATA)->size, 1920);
  assert_int_equal(rig->n_taken, 5);
}

static int is_listed_as_muted(struct rig *rig)
{
  struct vc_query *query = rig_ask(rig, VC_QUERY_PUBLISHERS, "demo", "");
  const struct vc_buffer *reply = vc_query_reply(query);
  int is_muted = memmem(reply->data, reply->size, "\"muted\":true", 12) != NULL;
  vc_query_unref(query);
  return is_muted;
}

// LiveKit's egress sends silence while a participant is muted.
static void test_silence_ends_no_mute(void **state)
{
  struct rig *rig = *state;
  static const uint8_t silence[1920];
  rig->n_workers = 1;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  send_text(ada, "{\"muted\":true}");
  send_frame(ada, 0x82, silence, sizeof silence);
  rig_taken(rig, 1, VC_TURN_MUTED);
  assert_int_equal(rig_taken(rig, 2, VC_TURN_DATA)->size, sizeof silence);
  assert_true(is_listed_as_muted(rig));
  send_text(ada, "{\"muted\":true}"); // no more of it comes
  send_text(ada, "{\"muted\":true}");
  rig_taken(rig, 3, VC_TURN_MUTED);
  send_sound(ada, sizeof silence);
  rig_taken(rig, 4, VC_TURN_DATA);
  assert_false(is_listed_as_muted(rig));
}

static void test_answers_pings(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  send_frame(ada, 0x89, "ping", 4);
  AWAIT_PEER(ada, n_pongs, 1);
  assert_string_equal(ada->pong, "ping");
}

// --- how it ends

static void expect_closed(struct peer *peer, int code, const char *why)
{
  AWAIT_PEER(peer, close_code, code);
  AWAIT_PEER(peer, is_at_end, 1); // our side; a browser waits for it
  assert_string_equal(peer->why, why);
}

static void test_a_close_ends_it(void **state)
{
  static const struct {
    int said, answered;
  } rows[] = {{0, 1000}, {1000, 1000}, {1001, 1001}};
  struct rig *rig = *state;
  rig_start(rig);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    rig_forget(rig);
    struct peer *ada = start(rig, 0, "demo", "Ada");
    send_sound(ada, 1920);
    send_close(ada, rows[i].said);
    rig_taken(rig, 1, VC_TURN_DATA);
    assert_int_equal(rig_taken(rig, 2, VC_TURN_CLOSE)->reason, VC_CLOSE_PUBLISHER_LEFT);
    expect_closed(ada, rows[i].answered, "");
    peer_close(ada);
    AWAIT_COUNTER(rig, "ingest.tracks", 0);
    assert_int_equal(rig_counter(rig, "ingest.publishers"), 0);
  }
}

static void test_a_close_that_tells_of_trouble_loses_it(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  send_close(ada, 1011);
  rig_taken(rig, 1, VC_TURN_LOST);
  expect_closed(ada, 1011, "");
}

static void test_a_lost_one_is_waited_for(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  peer_close(start(rig, 0, "demo", "Ada"));
  rig_taken(rig, 1, VC_TURN_LOST);
  rig_pass(rig, 29000);
  start(rig, 1, "demo", "Ada");
  rig_taken(rig, 2, VC_TURN_BACK);
  assert_int_equal(rig->taken[2].session_id, rig->taken[0].session_id);
  peer_close(&peers[1]);
  rig_taken(rig, 3, VC_TURN_LOST);
  rig_pass(rig, 30001);
  assert_int_equal(rig_taken(rig, 4, VC_TURN_CLOSE)->reason, VC_CLOSE_PUBLISHER_LEFT);
}

static void test_silence_is_not_absence(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  send_text(ada, "{\"muted\":true}");
  for (int i = 0; i < 10; i++) { // it is pinged, and answers as LiveKit does
    rig_pass(rig, 5001);
    AWAIT_PEER(ada, n_pings, i + 1);
    send_frame(ada, 0x8a, "pong", 4);
    rig_turn(rig);
  }
  assert_int_equal(rig_counter(rig, "ingest.timeouts_total"), 0);
  rig_pass(rig, 15001);
  expect_closed(ada, 4009, "nothing was heard");
  assert_int_equal(rig_counter(rig, "ingest.timeouts_total"), 1);
  assert_int_equal(rig->taken[rig->n_taken - 1].turn, VC_TURN_LOST);
  rig_pass(rig, 2001); // the peer does not hang up
  assert_int_equal(rig_counter(rig, "ingest.tracks"), 0);
}

static void test_a_drain_ends_it(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  start(rig, 1, "demo", "Bob");
  assert_int_equal(vc_stage_stop(rig->ingest, 0), 0);
  rig_turn(rig);
  peer_read(ada);
  assert_int_equal(ada->close_code, 1001);
  assert_int_equal(rig->n_taken, 4);
  assert_int_equal(rig->taken[3].reason, VC_CLOSE_SHUTDOWN);
}

// --- a decode stage that is behind

static void test_the_oldest_sound_gives_way(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  rig_taken(rig, 0, VC_TURN_OPEN);
  hand_set_capacity(rig->decode, 0, 0);
  send_text(ada, "{\"muted\":true}");
  for (int i = 0; i < VC_INGEST_WAIT_MAX + 9; i++) {
    send_sound(ada, 4);
    rig_turn(rig);
  }
  AWAIT_COUNTER(rig, "ingest.packets_total", VC_INGEST_WAIT_MAX + 9);
  send_close(ada, 0);
  AWAIT_COUNTER(rig, "ingest.packets_dropped_total", 11);
  hand_set_capacity(rig->decode, 0, HAND_UNBOUNDED);
  rig_pass(rig, 1);
  rig_taken(rig, 1, VC_TURN_MUTED); // there is sound to drop
  assert_int_equal(rig_taken(rig, 2, VC_TURN_DATA)->is_discontinuity, 1);
  assert_int_equal(rig_taken(rig, 3, VC_TURN_DATA)->is_discontinuity, 0);
  rig_taken(rig, VC_INGEST_WAIT_MAX, VC_TURN_CLOSE);
}

// Mutes without sound between them wait too, and give way.
static void test_mutes_are_bounded(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  rig_taken(rig, 0, VC_TURN_OPEN);
  hand_set_capacity(rig->decode, 0, 0);
  for (int i = 0; i < VC_INGEST_WAIT_MAX + 5; i++) {
    send_text(ada, "{\"muted\":true}");
    send_text(ada, "{\"muted\":false}");
  }
  AWAIT_COUNTER(rig, "ingest.packets_dropped_total", 5);
  hand_set_capacity(rig->decode, 0, HAND_UNBOUNDED);
  rig_pass(rig, 1);
  rig_taken(rig, VC_INGEST_WAIT_MAX, VC_TURN_MUTED);
}

// Until no more of it is read. Returns: how much it sent.
static uint64_t flood(struct peer *peer)
{
  uint64_t n_sent = 0;
  while (rig_counter(peer->rig, "ingest.held_back_total") == 0 && n_sent < UINT64_C(4000000)) {
    send_sound(peer, 48000);
    n_sent += 48000;
    rig_turn(peer->rig);
  }
  AWAIT_COUNTER(peer->rig, "ingest.held_back_total", 1);
  return n_sent;
}

// Ten seconds too early at once, and then no faster than four times as it is spoken.
static void test_a_flood_is_read_slowly(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  uint64_t second = 48000 * 4, n_sent = flood(ada);
  uint64_t before = rig_counter(rig, "ingest.bytes_total");
  assert_in_range(before, 10 * second, 11 * second);
  send_sound(ada, 4800); // there is room for it in the socket
  rig_pass(rig, 1000);   // four of ten seconds are made good
  rig_pass(rig, 0);
  assert_int_equal(rig_counter(rig, "ingest.bytes_total"), before);
  rig_pass(rig, 500);
  AWAIT(rig, rig_counter(rig, "ingest.bytes_total") > n_sent + 4800);
  send_close(ada, 0);
  AWAIT_PEER(ada, close_code, 1000);
}

// While it is not read it is not pinged, and cannot show that it is there.
static void test_one_that_is_held_back_is_not_absent(void **state)
{
  struct rig *rig = *state;
  rig->options.ingest_idle_timeout_ms = 1000;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  flood(ada);
  rig_pass(rig, 1500); // it is read again, and says nothing
  rig_pass(rig, 900);
  assert_int_equal(rig_counter(rig, "ingest.timeouts_total"), 0);
  rig_pass(rig, 300);
  expect_closed(ada, 4009, "nothing was heard");
}

// One that is not read is closed as any other, and its going noticed.
static void test_one_that_is_held_back_is_kicked(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  flood(ada);
  vc_query_unref(rig_ask(rig, VC_QUERY_KICK_PUBLISHER, "demo", "Ada"));
  send_sound(ada, 1920);
  expect_closed(ada, 4003, "Closed by the operator.");
  peer_close(ada);
  AWAIT_COUNTER(rig, "ingest.tracks", 0);
}

// --- whose place it takes

static void test_the_same_participant_takes_over(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *first = start(rig, 0, "demo", "Ada");
  start(rig, 1, "demo", "Bob");
  struct peer *second = start(rig, 2, "demo", "Ada");
  expect_closed(first, 4002, "another stream of this participant took over");
  assert_int_equal(rig_taken(rig, 2, VC_TURN_BACK)->session_id, rig->taken[0].session_id);
  send_sound(second, 1920);
  assert_int_equal(rig_taken(rig, 3, VC_TURN_DATA)->session_id, rig->taken[0].session_id);
  assert_int_equal(rig_counter(rig, "ingest.takeovers_total"), 1);
  assert_int_equal(rig_counter(rig, "ingest.publishers"), 2);
}

static void test_two_do_not_take_over_for_ever(void **state)
{
  struct rig *rig = *state;
  struct vc_track_newcomer other = newcomer_of("demo", "Ada");
  other.identity = 2;
  rig_start(rig);
  start(rig, 0, "demo", "Ada");
  peer_come(&peers[1], rig, other);
  start(rig, 2, "demo", "Ada");
  expect_closed(&peers[2], 1013, "It was replaced a moment ago; two publishers use one name.");
  assert_int_equal(rig_counter(rig, "ingest.takeover_flaps_total"), 1);
  rig_pass(rig, 10000);
  start(rig, 3, "demo", "Ada");
  AWAIT_PEER(&peers[1], close_code, 4002);
}

static void test_goes_beside_rtmp(void **state)
{
  struct rig *rig = *state;
  static struct publisher publisher;
  rig_start(rig);
  publisher_start(&publisher, rig, "FMLE/3.0", "demo");
  AWAIT_CODE(&publisher, "NetStream.Publish.Start");
  start(rig, 0, "demo", "Ada");
  assert_int_equal(rig->n_taken, 2);
  assert_string_equal(rig->taken[0].participant, "");
  assert_string_equal(rig->taken[1].participant, "Ada");
  publisher_send_frame(&publisher, 0);
  assert_int_equal(rig_taken(rig, 2, VC_TURN_DATA)->first_audio_ns, rig->now_ns);
}

// --- what is asked

static void expect_answer_of(struct rig *rig, const char *slug, const char *participant, int status,
                             const char *why)
{
  struct vc_query *query = rig_ask(rig, VC_QUERY_MAY_PUBLISH, slug, participant);
  const struct vc_buffer *reply = vc_query_reply(query);
  assert_int_equal(vc_query_status(query), status);
  if (why != NULL) {
    assert_non_null(reply);
    assert_int_equal(reply->size, strlen(why));
    assert_memory_equal(reply->data, why, reply->size);
  }
  vc_query_unref(query);
}

static void expect_answer(struct rig *rig, const char *participant, int status, const char *why)
{
  expect_answer_of(rig, "demo", participant, status, why);
}

static void test_is_asked_before(void **state)
{
  struct rig *rig = *state;
  rig->options.max_publishers = 2;
  rig_start(rig);
  expect_answer(rig, "Ada", 200, NULL);
  start(rig, 0, "demo", "Ada");
  struct vc_query *query = rig_ask(rig, VC_QUERY_MAY_PUBLISH, "demo", "Ada");
  assert_true(vc_query_number(query) > 0); // when it began
  vc_query_unref(query);
  start(rig, 1, "demo", "Bob");
  expect_answer(rig, "Ada", 200, NULL);                   // it would take over
  expect_answer(rig, "Cid", 429, "Too many publishers."); // elsewhere he would take the session
  query = rig_ask(rig, VC_QUERY_MAY_PUBLISH, "demo", "Cid");
  assert_int_equal(vc_query_number(query), -1); // what is on is told all the same
  vc_query_unref(query);
  expect_answer_of(rig, "other", "Cid", 503, "Too many publishers.");
  start(rig, 2, "demo", "Cid");
  expect_closed(&peers[2], 1013, "Too many publishers.");
  assert_int_equal(rig_counter(rig, "ingest.full_refused_total"), 4);
}

static void test_is_asked_at_the_gate(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  start(rig, 0, "demo", "Ada");
  rig->refusal = "the journal is full";
  assert_string_equal(vc_ingest_refusal(rig->ingest), "the journal is full");
  expect_answer(rig, "Bob", 429, "the journal is full");
  expect_answer_of(rig, "other", "Bob", 503, "the journal is full");
  expect_answer(rig, "Ada", 200, NULL); // what is on may go on
}

static void test_participants_are_bounded(void **state)
{
  struct rig *rig = *state;
  int fds[VC_PARTICIPANTS_MAX];
  rig_start(rig);
  for (int i = 0; i < VC_PARTICIPANTS_MAX; i++) {
    char name[16];
    snprintf(name, sizeof name, "P%d", i);
    struct vc_track_newcomer newcomer = newcomer_of("demo", name);
    newcomer.is_exempt = 1;
    peer_come(&peers[0], rig, newcomer);
    fds[i] = peers[0].fd;
  }
  assert_int_equal(rig_counter(rig, "ingest.publishers"), VC_PARTICIPANTS_MAX);
  expect_answer(rig, "one more", 429, "Too many participants in this session.");
  start(rig, 1, "demo", "one more");
  expect_closed(&peers[1], 1013, "Too many participants in this session.");
  start(rig, 2, "other", "one more");
  assert_int_equal(rig_counter(rig, "ingest.publishers"), VC_PARTICIPANTS_MAX + 1);
  for (int i = 0; i < VC_PARTICIPANTS_MAX - 1; i++) {
    close(fds[i]);
  }
}

static void test_connections_of_an_address_are_bounded(void **state)
{
  struct rig *rig = *state;
  rig->options.max_connections_per_address = 1;
  rig_start(rig);
  start(rig, 0, "demo", "Ada");
  start(rig, 1, "demo", "Bob");
  expect_closed(&peers[1], 1013, "too many connections");
  peer_close(&peers[0]);
  AWAIT_COUNTER(rig, "ingest.tracks", 0);
  start(rig, 2, "demo", "Bob");
  assert_int_equal(rig_counter(rig, "ingest.tracks"), 1);
}

static void test_is_kicked(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  start(rig, 0, "demo", "Ada");
  start(rig, 1, "demo", "Bob");
  start(rig, 2, "demo", "Cid");
  start(rig, 3, "other", "Ada");
  vc_query_unref(rig_ask(rig, VC_QUERY_KICK_PUBLISHER, "demo", "Bob"));
  expect_closed(&peers[1], 4003, "Closed by the operator.");
  assert_int_equal(rig_counter(rig, "ingest.publishers"), 3);
  struct vc_query *query = rig_ask(rig, VC_QUERY_KICK_PUBLISHER, "demo", "Bob");
  assert_int_equal(vc_query_status(query), 404);
  vc_query_unref(query);
  vc_query_unref(rig_ask(rig, VC_QUERY_KICK_PUBLISHER, "demo", ""));
  expect_closed(&peers[0], 4003, "Closed by the operator.");
  expect_closed(&peers[2], 4003, "Closed by the operator.");
  assert_int_equal(rig_counter(rig, "ingest.publishers"), 1);
}

// It waits for its packets to go, and is nobody's any more.
static void test_is_not_kicked_twice(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  hand_set_capacity(rig->decode, 0, 0);
  start(rig, 0, "demo", "Ada");
  vc_query_unref(rig_ask(rig, VC_QUERY_KICK_PUBLISHER, "demo", "Ada"));
  struct vc_query *query = rig_ask(rig, VC_QUERY_KICK_PUBLISHER, "demo", "");
  assert_int_equal(vc_query_status(query), 404);
  vc_query_unref(query);
  start(rig, 1, "demo", "Ada");
  expect_closed(&peers[1], 1013, "The session before has not ended yet.");
  hand_set_capacity(rig->decode, 0, HAND_UNBOUNDED);
  rig_pass(rig, 1);
  assert_int_equal(rig_taken(rig, 1, VC_TURN_CLOSE)->reason, VC_CLOSE_KICKED);
  assert_int_equal(rig->n_taken, 2);
}

static void test_goes_on_at_another_node(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  start(rig, 0, "demo", "Ada");
  start(rig, 1, "demo", "Bob");
  vc_query_unref(rig_ask(rig, VC_QUERY_TAKE_OVER, "demo", ""));
  expect_closed(&peers[0], 4002, "Another publisher took over.");
  expect_closed(&peers[1], 4002, "Another publisher took over.");
  assert_int_equal(rig_taken(rig, 2, VC_TURN_CLOSE)->reason, VC_CLOSE_TAKEN_OVER);
  assert_int_equal(rig_taken(rig, 3, VC_TURN_CLOSE)->reason, VC_CLOSE_TAKEN_OVER);
  assert_int_equal(rig_counter(rig, "ingest.publishers"), 0);
}

// Who is there is heard out for three seconds; who is lost is not waited for.
static void test_a_room_that_is_over(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  peer_close(start(rig, 1, "demo", "Bob"));
  rig_taken(rig, 2, VC_TURN_LOST);
  start(rig, 2, "demo", "Cid");
  vc_query_unref(rig_ask(rig, VC_QUERY_END_SESSION, "demo", ""));
  assert_string_equal(rig_taken(rig, 4, VC_TURN_CLOSE)->participant, "Bob");
  rig_pass(rig, 2700);
  send_sound(ada, 1920);
  rig_taken(rig, 5, VC_TURN_DATA);
  peer_close(&peers[2]);
  assert_string_equal(rig_taken(rig, 6, VC_TURN_CLOSE)->participant, "Cid");
  rig_pass(rig, 300);
  expect_closed(ada, 1000, "The room is over.");
  assert_int_equal(rig_taken(rig, 7, VC_TURN_CLOSE)->reason, VC_CLOSE_PUBLISHER_LEFT);
}

// One that comes meanwhile shows that a room of that name is on again.
static void test_a_room_that_is_on_again(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  start(rig, 0, "demo", "Ada");
  vc_query_unref(rig_ask(rig, VC_QUERY_END_SESSION, "demo", ""));
  start(rig, 1, "demo", "Ada");
  rig_pass(rig, 3001);
  assert_int_equal(rig_counter(rig, "ingest.publishers"), 1);
  peer_close(&peers[1]);
  rig_taken(rig, 2, VC_TURN_LOST);
}

static void test_is_listed(void **state)
{
  struct rig *rig = *state;
  rig->n_workers = 1;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "A \"quoted\" name");
  send_text(ada, "{\"muted\":true}");
  rig_taken(rig, 1, VC_TURN_MUTED);
  struct vc_query *query = rig_ask(rig, VC_QUERY_PUBLISHERS, "demo", "");
  static const char expected[] =
      "{\"demo/A \\\"quoted\\\" name\":{\"address\":\"192.0.2.7\",\"connected\":true,"
      "\"codec\":\"pcm\",\"muted\":true,\"rate\":48000,\"channels\":2}}";
  const struct vc_buffer *reply = vc_query_reply(query);
  assert_int_equal(reply->size, strlen(expected));
  assert_memory_equal(reply->data, expected, reply->size);
  vc_query_unref(query);
}

// --- what is hostile

static void test_breaks_the_protocol(void **state)
{
  static const struct {
    const char *bytes;
    size_t size;
    int code;
  } rows[] = {
      {"\x82\x01z", 3, 1002},                             // not masked
      {"\xc2\x81\0\0\0\0z", 7, 1002},                     // a reserved bit
      {"\x83\x81\0\0\0\0z", 7, 1002},                     // a reserved opcode
      {"\x80\x81\0\0\0\0z", 7, 1002},                     // nothing goes on
      {"\x09\x80\0\0\0\0", 6, 1002},                      // half a ping
      {"\x81\x81\0\0\0\0\xff", 7, 1007},                  // no UTF-8
      {"\x82\xff\0\0\0\0\0\x04\0\x01\0\0\0\0", 14, 1009}, // 256 KiB and one
      {"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 14, 1002},
      {"\x88\x81\0\0\0\0z", 7, 1002}, // half a close code
      {"\x81\x85\0\0\0\0hello", 11, 1003},
      {"\x81\x82\0\0\0\0[]", 8, 1003},
      {"\x81\x80\0\0\0\0", 6, 1003},
  };
  struct rig *rig = *state;
  rig_start(rig);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct peer *peer = start(rig, 0, "demo", "Ada");
    send_sound(peer, 1920);
    send_bytes(peer, rows[i].bytes, rows[i].size);
    AWAIT_PEER(peer, close_code, rows[i].code);
    assert_int_equal(rig_counter(rig, "ingest.protocol_errors_total"), i + 1);
    assert_int_equal(rig->taken[rig->n_taken - 2].turn, VC_TURN_DATA); // what came before counts
    assert_int_equal(rig->taken[rig->n_taken - 1].turn, VC_TURN_LOST);
    peer_close(peer);
  }
}

// What there is no memory for is no error of theirs.
static void test_no_memory_for_what_they_say(void **state)
{
  struct rig *rig = *state;
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  send_frame(ada, 0x89, "ping", 4);
  no_memory_for_frames(1);
  rig_turn(rig);
  no_memory_for_frames(0);
  AWAIT_PEER(ada, close_code, 1011);
  assert_string_equal(ada->why, "no memory");
  assert_int_equal(rig_counter(rig, "ingest.protocol_errors_total"), 0);
}

static void test_a_text_is_bounded(void **state)
{
  struct rig *rig = *state;
  char text[4098];
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  memset(text, '[', 4097);
  text[4096] = '\0';
  send_text(ada, text); // deep, too
  AWAIT_PEER(ada, close_code, 1003);
  struct peer *bob = start(rig, 1, "demo", "Bob");
  text[4096] = '[';
  text[4097] = '\0';
  send_text(bob, text);
  AWAIT_PEER(bob, close_code, 1009);
}

// It asks and does not read the answers.
static void test_a_flood_of_pings_is_closed(void **state)
{
  struct rig *rig = *state;
  uint8_t ping[131] = {0x89, 0x80 | 125};
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  for (int i = 0; i < 100000 && rig_counter(rig, "ingest.tracks") == 1; i++) {
    if (send(ada->fd, ping, sizeof ping, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      rig_turn(rig);
    }
  }
  AWAIT_COUNTER(rig, "ingest.tracks", 0);
  assert_int_equal(rig->taken[1].turn, VC_TURN_LOST);
}

// One that was closed and sends on is cut off.
static void test_what_comes_after_the_close_is_bounded(void **state)
{
  struct rig *rig = *state;
  static const uint8_t bytes[65536];
  rig_start(rig);
  struct peer *ada = start(rig, 0, "demo", "Ada");
  send_text(ada, "no");
  AWAIT_PEER(ada, close_code, 1003);
  size_t n = 0;
  while (rig_counter(rig, "ingest.tracks") == 1) {
    ssize_t sent = send(ada->fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    n += sent > 0 ? (size_t)sent : 0;
    assert_in_range(n, 0, 6 * 1024 * 1024);
    rig_turn(rig);
  }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_rig, end_rig)

int main(void)
{
  const struct CMUnitTest tests[] = {
      TEST(test_says_when_it_began),
      TEST(test_becomes_packets),
      TEST(test_the_clock_begins_with_a_sample),
      TEST(test_is_cut_anywhere),
      TEST(test_takes_large_messages_in_parts),
      TEST(test_says_that_it_is_muted),
      TEST(test_silence_ends_no_mute),
      TEST(test_answers_pings),
      TEST(test_a_close_ends_it),
      TEST(test_a_close_that_tells_of_trouble_loses_it),
      TEST(test_a_lost_one_is_waited_for),
      TEST(test_silence_is_not_absence),
      TEST(test_a_drain_ends_it),
      TEST(test_the_oldest_sound_gives_way),
      TEST(test_mutes_are_bounded),
      TEST(test_a_flood_is_read_slowly),
      TEST(test_one_that_is_held_back_is_not_absent),
      TEST(test_one_that_is_held_back_is_kicked),
      TEST(test_the_same_participant_takes_over),
      TEST(test_two_do_not_take_over_for_ever),
      TEST(test_goes_beside_rtmp),
      TEST(test_is_asked_before),
      TEST(test_is_asked_at_the_gate),
      TEST(test_participants_are_bounded),
      TEST(test_connections_of_an_address_are_bounded),
      TEST(test_is_kicked),
      TEST(test_is_not_kicked_twice),
      TEST(test_goes_on_at_another_node),
      TEST(test_a_room_that_is_over),
      TEST(test_a_room_that_is_on_again),
      TEST(test_is_listed),
      TEST(test_breaks_the_protocol),
      TEST(test_no_memory_for_what_they_say),
      TEST(test_a_text_is_bounded),
      TEST(test_a_flood_of_pings_is_closed),
      TEST(test_what_comes_after_the_close_is_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
