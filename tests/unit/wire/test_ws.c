#include <verbacast/wire/ws.h>

#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "no_memory.h"

#define MESSAGE_MAX 1024
#define EVENTS_MAX 16

// What a parser made of some bytes, fed in pieces.
struct outcome {
  int status; // of the last call
  int code;
  size_t n;
  struct {
    enum vc_ws_opcode opcode;
    size_t size;
    int code;
    char payload[MESSAGE_MAX + 1];
  } events[EVENTS_MAX];
};

static void feed(struct vc_ws_parser *parser, const uint8_t *bytes, size_t size,
                 struct outcome *outcome)
{
  struct vc_ws_event event;
  size_t used;
  while ((outcome->status = vc_ws_parse(parser, bytes, size, &used, &event)) == 1) {
    assert_true(outcome->n < EVENTS_MAX && event.size <= MESSAGE_MAX && used <= size);
    outcome->events[outcome->n].opcode = event.opcode;
    outcome->events[outcome->n].size = event.size;
    outcome->events[outcome->n].code = event.close_code;
    if (event.size > 0) {
      memcpy(outcome->events[outcome->n].payload, event.payload, event.size);
    }
    outcome->n++;
    bytes += used;
    size -= used;
  }
  outcome->code = event.close_code;
  assert_true(outcome->status < 0 || used == size);
}

// In pieces of `step` bytes.
static struct outcome *parse(enum vc_ws_role role, const void *bytes, size_t size, size_t step)
{
  static struct outcome outcome;
  struct vc_ws_parser parser;
  outcome = (struct outcome){0};
  vc_ws_parser_init(&parser, role, MESSAGE_MAX);
  for (size_t at = 0; at < size && outcome.status >= 0; at += step) {
    feed(&parser, (const uint8_t *)bytes + at, size - at < step ? size - at : step, &outcome);
  }
  vc_ws_parser_fini(&parser);
  return &outcome;
}

#define SERVER_SAYS(bytes) parse(VC_WS_CLIENT, bytes, sizeof bytes - 1, sizeof bytes)
#define SAYS_WRONG(bytes, close_code)                                                              \
  do {                                                                                             \
    const struct outcome *wrong = SERVER_SAYS(bytes);                                              \
    assert_int_equal(wrong->status, -1);                                                           \
    assert_int_equal(wrong->code, close_code);                                                     \
  } while (0)

static void test_examples_of_the_standard(void **state)
{
  const struct outcome *hello = SERVER_SAYS("\x81\x05Hello");
  assert_int_equal(hello->n, 1);
  assert_int_equal(hello->events[0].opcode, VC_WS_TEXT);
  assert_string_equal(hello->events[0].payload, "Hello");
  static const char masked[] = "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
  hello = parse(VC_WS_SERVER, masked, sizeof masked - 1, sizeof masked);
  assert_int_equal(hello->n, 1);
  assert_string_equal(hello->events[0].payload, "Hello");
  hello = SERVER_SAYS("\x01\x03Hel\x80\x02lo");
  assert_int_equal(hello->n, 1);
  assert_string_equal(hello->events[0].payload, "Hello");
}

static void test_control_frames_between_fragments(void **state)
{
  const struct outcome *outcome = SERVER_SAYS("\x01\x03Hel\x89\x02hi\x8a\x00\x00\x00\x80\x02lo");
  assert_int_equal(outcome->n, 3);
  assert_int_equal(outcome->events[0].opcode, VC_WS_PING);
  assert_string_equal(outcome->events[0].payload, "hi");
  assert_int_equal(outcome->events[1].opcode, VC_WS_PONG);
  assert_int_equal(outcome->events[1].size, 0);
  assert_int_equal(outcome->events[2].opcode, VC_WS_TEXT);
  assert_string_equal(outcome->events[2].payload, "Hello");
}

static void test_what_breaks_the_protocol(void **state)
{
  SAYS_WRONG("\xc1\x01x", 1002); // a reserved bit
  SAYS_WRONG("\x83\x00", 1002);  // opcodes that do not exist
  SAYS_WRONG("\x8b\x00", 1002);
  SAYS_WRONG("\x80\x01x", 1002);                                // continues nothing
  SAYS_WRONG("\x01\x01x\x81\x01y", 1002);                       // begins while another is open
  SAYS_WRONG("\x09\x01x", 1002);                                // a control frame in pieces
  SAYS_WRONG("\x89\x7e\x00\x7e", 1002);                         // a control frame of 126 bytes
  SAYS_WRONG("\x81\x85\x01\x02\x03\x04", 1002);                 // a server that masks
  SAYS_WRONG("\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00", 1002); // the length's top bit
  const struct outcome *bare = parse(VC_WS_SERVER, "\x81\x01x", 3, 3);
  assert_int_equal(bare->code, 1002); // a client that does not mask
}

static void test_too_large_before_it_comes(void **state)
{
  SAYS_WRONG("\x82\x7e\x04\x01", 1009);
  SAYS_WRONG("\x82\x7f\x00\x00\x00\xff\xff\xff\xff\xff", 1009);
  // Two fragments that are too large together only.
  uint8_t bytes[4 + 1000 + 4] = {0x02, 0x7e, 0x03, 0xe8};
  memcpy(bytes + 1004, "\x80\x7e\x00\x19", 4);
  const struct outcome *outcome = parse(VC_WS_CLIENT, bytes, sizeof bytes, sizeof bytes);
  assert_int_equal(outcome->status, -1);
  assert_int_equal(outcome->code, 1009);
}

static void test_text_is_utf8(void **state)
{
  SAYS_WRONG("\x81\x01\xff", 1007);
  SAYS_WRONG("\x81\x02\xc3\x28", 1007);
  SAYS_WRONG("\x81\x01\xc3", 1007);         // ends inside a character
  SAYS_WRONG("\x81\x03\xed\xa0\x80", 1007); // a surrogate
  SAYS_WRONG("\x01\x7e\x03\xe8\xff", 1007); // at once, though the message goes on
  const struct outcome *cut = SERVER_SAYS("\x01\x01\xc3\x80\x01\xa9"); // cut by a frame's end
  assert_int_equal(cut->n, 1);
  assert_string_equal(cut->events[0].payload, "\xc3\xa9");
  const struct outcome *binary = SERVER_SAYS("\x82\x01\xff");
  assert_int_equal(binary->n, 1);
}

static void test_close(void **state)
{
  const struct outcome *outcome = SERVER_SAYS("\x88\x00");
  assert_int_equal(outcome->events[0].code, 1005);
  outcome = SERVER_SAYS("\x88\x07\x03\xe9later");
  assert_int_equal(outcome->n, 1);
  assert_int_equal(outcome->events[0].code, 1001);
  SAYS_WRONG("\x88\x01\x03", 1002);
  SAYS_WRONG("\x88\x02\x03\xed", 1002);     // 1005 may not be sent
  SAYS_WRONG("\x88\x02\x0b\xb7", 1002);     // 2999
  SAYS_WRONG("\x88\x03\x03\xe8\xff", 1007); // a reason that is no text
  static const int good[] = {1000, 1003, 1007, 1014, 3000, 4008, 4999};
  static const int bad[] = {0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
    assert_true(vc_ws_close_code_is_valid(good[i]));
  }
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_false(vc_ws_close_code_is_valid(bad[i]));
  }
}

// A masked frame as a client writes it. Returns: its size.
static size_t write_frame(uint8_t *to, enum vc_ws_opcode opcode, int is_final, const uint8_t *from,
                          size_t size, unsigned *seed)
{
  uint8_t mask[4];
  for (size_t i = 0; i < 4; i++) {
    mask[i] = (uint8_t)rand_r(seed);
  }
  size_t n = vc_ws_print_header(to, opcode, size, mask);
  to[0] = (uint8_t)(is_final ? to[0] : to[0] & 0x7f);
  if (size > 0) {
    memcpy(to + n, from, size);
  }
  vc_ws_mask(to + n, size, mask);
  return n + size;
}

// Messages of random sizes in random fragments with pings between, read in pieces of every size.
static void test_pieces_do_not_change_what_is_read(void **state)
{
  unsigned seed = 20261126;
  for (int round = 0; round < 200; round++) {
    uint8_t message[MESSAGE_MAX], bytes[8 * MESSAGE_MAX];
    size_t size = (size_t)rand_r(&seed) % (MESSAGE_MAX + 1), n = 0, at = 0;
    for (size_t i = 0; i < size; i++) {
      message[i] = (uint8_t)('a' + rand_r(&seed) % 26);
    }
    size_t n_pings = 0;
    do {
      size_t part = (size_t)rand_r(&seed) % (size - at + 1);
      part = size - at < 8 ? size - at : part;
      n += write_frame(bytes + n, at == 0 && n_pings == 0 ? VC_WS_TEXT : VC_WS_CONTINUATION,
                       at + part == size, message + at, part, &seed);
      at += part;
      if (at < size || n_pings == 0) {
        n += write_frame(bytes + n, VC_WS_PING, 1, message, n_pings % 8, &seed);
        n_pings++;
      }
    } while (at < size && n_pings < EVENTS_MAX - 2);
    if (at < size) {
      continue; // too many pieces for this test's list
    }
    static const size_t steps[] = {1, 2, 3, 7, 64, sizeof bytes};
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++) {
      const struct outcome *outcome = parse(VC_WS_SERVER, bytes, n, steps[s]);
      assert_int_equal(outcome->status, 0);
      assert_int_equal(outcome->n, n_pings + 1);
      size_t n_texts = 0;
      for (size_t i = 0; i < outcome->n; i++) {
        if (outcome->events[i].opcode == VC_WS_TEXT) {
          n_texts++;
          assert_int_equal(outcome->events[i].size, size);
          assert_memory_equal(outcome->events[i].payload, message, size);
        }
      }
      assert_int_equal(n_texts, 1);
    }
  }
}

static void test_memory_follows_what_has_come(void **state)
{
  struct vc_ws_parser parser;
  struct vc_ws_event event;
  size_t used;
  vc_ws_parser_init(&parser, VC_WS_CLIENT, 1 << 20);
  assert_int_equal(vc_ws_parse(&parser,
                               (const uint8_t *)"\x82\x7f\x00\x00\x00\x00\x00\x0f\xff\xffx", 11,
                               &used, &event),
                   0);
  assert_true(parser.message_capacity <= 256); // a megabyte is announced, a byte has come
  vc_ws_parser_fini(&parser);
  vc_ws_parser_init(&parser, VC_WS_CLIENT, MESSAGE_MAX);
  assert_int_equal(vc_ws_parse(&parser, (const uint8_t *)"\x81\x02hi\x89\x00", 6, &used, &event),
                   1);
  assert_int_equal(vc_ws_parse(&parser, (const uint8_t *)"\x89\x00", 2, &used, &event), 1);
  assert_null(parser.message); // nothing is kept for a viewer that says nothing
  assert_null(parser.control);
  assert_int_equal(vc_ws_parse(&parser, (const uint8_t *)"\x89\x02hi\x8a\x00", 6, &used, &event),
                   1);
  assert_memory_equal(event.payload, "hi", 2);
  assert_int_equal(vc_ws_parse(&parser, (const uint8_t *)"\x8a\x00", 2, &used, &event), 1);
  assert_null(parser.control);
  static const char during[] = "\x01\x02hi\x89\x02yo\x80\x01!";
  const uint8_t *bytes = (const uint8_t *)during;
  assert_int_equal(vc_ws_parse(&parser, bytes, sizeof during - 1, &used, &event), 1);
  assert_non_null(parser.control);
  assert_int_equal(vc_ws_parse(&parser, bytes + used, 1, &used, &event), 0);
  assert_null(parser.control); // also while a message goes on
  vc_ws_parser_fini(&parser);
}

static void test_the_longest_of_control(void **state)
{
  uint8_t bytes[2 + VC_WS_CONTROL_MAX] = {0x89, VC_WS_CONTROL_MAX};
  memset(bytes + 2, 'p', VC_WS_CONTROL_MAX);
  for (size_t step = 1; step <= sizeof bytes; step += 42) {
    const struct outcome *outcome = parse(VC_WS_CLIENT, bytes, sizeof bytes, step);
    assert_int_equal(outcome->status, 0);
    assert_int_equal(outcome->n, 1);
    assert_int_equal(outcome->events[0].size, VC_WS_CONTROL_MAX);
    assert_memory_equal(outcome->events[0].payload, bytes + 2, VC_WS_CONTROL_MAX);
  }
}

static void test_no_memory(void **state)
{
  static const char *const frames[] = {"\x89\x02hi", "\x81\x02hi"};
  for (size_t i = 0; i < sizeof frames / sizeof *frames; i++) {
    struct vc_ws_parser parser;
    struct vc_ws_event event;
    size_t used;
    vc_ws_parser_init(&parser, VC_WS_CLIENT, MESSAGE_MAX);
    memory_fail(0, 1);
    assert_int_equal(vc_ws_parse(&parser, (const uint8_t *)frames[i], 4, &used, &event), -1);
    memory_fail(0, 0);
    assert_int_equal(event.close_code, 1011);
    vc_ws_parser_fini(&parser);
  }
}

static void test_headers(void **state)
{
  static const struct {
    size_t size;
    const char *header;
    size_t n;
  } rows[] = {{0, "\x81\x00", 2},
              {125, "\x81\x7d", 2},
              {126, "\x81\x7e\x00\x7e", 4},
              {65535, "\x81\x7e\xff\xff", 4},
              {65536, "\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    uint8_t header[VC_WS_HEADER_MAX];
    assert_int_equal(vc_ws_print_header(header, VC_WS_TEXT, rows[i].size, NULL), rows[i].n);
    assert_memory_equal(header, rows[i].header, rows[i].n);
    assert_int_equal(
        vc_ws_print_header(header, VC_WS_TEXT, rows[i].size, (const uint8_t *)"\1\2\3\4"),
        rows[i].n + 4);
    assert_memory_equal(header + rows[i].n, "\1\2\3\4", 4);
    assert_int_equal(header[1] & 0x80, 0x80);
  }
}

static void test_frames(void **state)
{
  uint32_t offset;
  struct vc_buffer *frame = vc_ws_frame_create(VC_WS_TEXT, "Hello", 5, &offset);
  assert_int_equal(frame->size, 7);
  assert_int_equal(offset, 2);
  assert_memory_equal(frame->data, "\x81\x05Hello", 7);
  vc_buffer_unref(frame);
  frame = vc_ws_frame_create(VC_WS_PING, NULL, 0, NULL);
  assert_int_equal(frame->size, 2);
  vc_buffer_unref(frame);
}

static void test_close_payloads(void **state)
{
  uint8_t payload[VC_WS_CONTROL_MAX];
  char long_reason[400];
  assert_int_equal(vc_ws_print_close(payload, 4008, "too slow"), 10);
  assert_memory_equal(payload, "\x0f\xa8too slow", 10);
  assert_int_equal(vc_ws_print_close(payload, 1000, NULL), 2);
  for (size_t i = 0; i + 1 < sizeof long_reason; i += 2) {
    memcpy(long_reason + i, "\xc3\xa9", 2);
  }
  long_reason[sizeof long_reason - 2] = '\0';
  size_t n = vc_ws_print_close(payload, 1000, long_reason);
  assert_int_equal(n, 2 + 122); // 123 would cut a character
  assert_true(vc_utf8_is_valid((const char *)payload + 2, n - 2));
}

static void test_close_frames(void **state)
{
  uint8_t frame[VC_WS_HEADER_MAX + VC_WS_CONTROL_MAX];
  assert_int_equal(vc_ws_print_close_frame(frame, 1013, "too many"), 12);
  assert_memory_equal(frame, "\x88\x0a\x03\xf5too many", 12);
  assert_int_equal(vc_ws_print_close_frame(frame, 1000, NULL), 4);
  assert_memory_equal(frame, "\x88\x02\x03\xe8", 4);
}

static void test_keys(void **state)
{
  char accept[VC_WS_ACCEPT_SIZE], key[VC_WS_KEY_SIZE];
  vc_ws_print_accept("dGhlIHNhbXBsZSBub25jZQ==", accept);
  assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  vc_ws_print_key((const uint8_t *)"the sample nonce", key);
  assert_string_equal(key, "dGhlIHNhbXBsZSBub25jZQ==");
  assert_true(vc_ws_key_is_valid(key));
  assert_true(vc_ws_key_is_valid("AAAAAAAAAAAAAAAAAAA+/A=="));
  static const char *const odd[] = {NULL,
                                    "",
                                    "x",
                                    "dGhlIHNhbXBsZSBub25jZQ",
                                    "dGhlIHNhbXBsZSBub25jZQ=",
                                    "dGhlIHNhbXBsZSBub25jZQ===",
                                    "dGhlIHNhbXBsZSBub25jZS4=",
                                    "dGhlIHNhbXBsZSBub25j-Q==",
                                    "dGhlIHNhbXBsZSBub25jZQ== "};
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
    assert_false(vc_ws_key_is_valid(odd[i]));
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_examples_of_the_standard),
      cmocka_unit_test(test_control_frames_between_fragments),
      cmocka_unit_test(test_what_breaks_the_protocol),
      cmocka_unit_test(test_too_large_before_it_comes),
      cmocka_unit_test(test_text_is_utf8),
      cmocka_unit_test(test_close),
      cmocka_unit_test(test_pieces_do_not_change_what_is_read),
      cmocka_unit_test(test_memory_follows_what_has_come),
      cmocka_unit_test(test_the_longest_of_control),
      cmocka_unit_test(test_no_memory),
      cmocka_unit_test(test_headers),
      cmocka_unit_test(test_frames),
      cmocka_unit_test(test_close_payloads),
      cmocka_unit_test(test_close_frames),
      cmocka_unit_test(test_keys),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
