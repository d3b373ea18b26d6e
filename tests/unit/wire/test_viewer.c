// What a viewer receives, byte by byte.
#include <verbacast/wire/viewer.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "no_memory.h"

#define E INT64_C(1790000000000)

static const struct vc_word good_morning[] = {{"Good", 12.48, 12.71, 0.97},
                                              {"morning.", 12.7104, 13.02, NAN}};

// Takes the text.
static void expect(struct vc_text *text, const char *expected)
{
  assert_false(text->has_failed);
  assert_string_equal(text->at, expected);
  assert_int_equal(text->size, strlen(expected));
  vc_text_fini(text);
}

static void test_hello(void **state)
{
  (void)state;
  struct vc_text text = {0};
  struct vc_viewer_hello hello = {
      .session = "demo", .epoch = E, .seq = 41, .state = "live", .node = "a1"};
  vc_viewer_print_hello(&text, &hello);
  expect(&text, "{\"type\":\"hello\",\"session\":\"demo\",\"epoch\":1790000000000,\"seq\":41,"
                "\"state\":\"live\",\"reason\":null,\"node\":\"a1\"}");
  hello = (struct vc_viewer_hello){
      .session = "x", .state = "stt_down", .reason = "HTTP \"401\"\n", .node = "n\\1"};
  vc_viewer_print_hello(&text, &hello);
  expect(&text, "{\"type\":\"hello\",\"session\":\"x\",\"epoch\":0,\"seq\":0,"
                "\"state\":\"stt_down\",\"reason\":\"HTTP \\\"401\\\"\\n\",\"node\":\"n\\\\1\"}");
}

static void print_transcript(struct vc_text *text, const struct vc_utterance *utterance)
{
  const struct vc_viewer_transcript transcript = {
      .session = "demo",
      .epoch = E,
      .seq = 42,
      .utterance_id = "1-0-00000004",
      .utterance = utterance,
      .sent_at_us = INT64_C(1790000000123999),
  };
  vc_viewer_print_transcript(text, &transcript);
}

static void test_partial(void **state)
{
  (void)state;
  struct vc_text text = {0};
  const struct vc_utterance utterance = {.text = "good mor",
                                         .language = "en",
                                         .start_s = 12.48,
                                         .end_s = 13.02,
                                         .confidence = 0.91,
                                         .words = good_morning,
                                         .n_words = 2};
  print_transcript(&text, &utterance);
  expect(&text, "{\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":1790000000000,\"seq\":42,"
                "\"utteranceId\":\"1-0-00000004\",\"isFinal\":false,\"text\":\"good mor\","
                "\"language\":\"en\",\"speaker\":null,\"confidence\":0.910,\"start\":12.480,"
                "\"end\":13.020,\"sentAt\":1790000000.123}");
}

static void test_final(void **state)
{
  (void)state;
  struct vc_text text = {0};
  struct vc_utterance utterance = {.text = "Good morning.",
                                   .language = "en",
                                   .speaker = "0",
                                   .start_s = 12.48,
                                   .end_s = 13.02,
                                   .confidence = 0.91,
                                   .is_final = 1,
                                   .words = good_morning,
                                   .n_words = 2};
#define FINAL                                                                                      \
  "{\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":1790000000000,\"seq\":42,"              \
  "\"utteranceId\":\"1-0-00000004\",\"isFinal\":true,\"text\":\"Good morning.\","                  \
  "\"language\":\"en\",\"speaker\":\"0\",\"confidence\":0.910,\"start\":12.480,\"end\":13.020,"    \
  "\"sentAt\":1790000000.123,\"words\":["                                                          \
  "{\"word\":\"Good\",\"start\":12.480,\"end\":12.710,\"confidence\":0.970},"                      \
  "{\"word\":\"morning.\",\"start\":12.710,\"end\":13.020,\"confidence\":null}]"
  print_transcript(&text, &utterance);
  expect(&text, FINAL "}");
  utterance.is_approximate = 1;
  print_transcript(&text, &utterance);
  expect(&text, FINAL ",\"approximate\":true}");
}

static void test_what_is_unknown_is_null(void **state)
{
  (void)state;
  struct vc_text text = {0};
  const struct vc_utterance utterance = {
      .text = "", .language = "", .confidence = NAN, .is_final = 1};
  const struct vc_viewer_transcript transcript = {
      .session = "demo", .epoch = 1, .seq = 1, .utterance_id = "1-0-a", .utterance = &utterance};
  vc_viewer_print_transcript(&text, &transcript);
  expect(&text, "{\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":1,\"seq\":1,"
                "\"utteranceId\":\"1-0-a\",\"isFinal\":true,\"text\":\"\",\"language\":null,"
                "\"speaker\":null,\"confidence\":null,\"start\":0.000,\"end\":0.000,"
                "\"sentAt\":0.000,\"words\":null}");
}

// Whatever a provider may say is one line of valid JSON.
static void test_escaping(void **state)
{
  (void)state;
  struct vc_text text = {0};
  const struct vc_word word = {"\"\x01", 0, 0, 1};
  const struct vc_utterance utterance = {.text = "a\"b\\c\nd\te \xc3\xa9 \xff",
                                         .language = "e\"n",
                                         .speaker = "</script>\r",
                                         .confidence = 1,
                                         .is_final = 1,
                                         .words = &word,
                                         .n_words = 1};
  const struct vc_viewer_transcript transcript = {
      .session = "demo", .epoch = 1, .seq = 1, .utterance_id = "1-0-\"", .utterance = &utterance};
  vc_viewer_print_transcript(&text, &transcript);
  expect(&text, "{\"type\":\"transcript\",\"session\":\"demo\",\"epoch\":1,\"seq\":1,"
                "\"utteranceId\":\"1-0-\\\"\",\"isFinal\":true,"
                "\"text\":\"a\\\"b\\\\c\\nd\\u0009e \xc3\xa9 \xef\xbf\xbd\","
                "\"language\":\"e\\\"n\",\"speaker\":\"</script>\\u000d\",\"confidence\":1.000,"
                "\"start\":0.000,\"end\":0.000,\"sentAt\":0.000,\"words\":["
                "{\"word\":\"\\\"\\u0001\",\"start\":0.000,\"end\":0.000,\"confidence\":1.000}]}");
}

static void test_no_words(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_viewer_print_words(&text, NULL, 0);
  expect(&text, "null");
}

static void test_retract(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_viewer_print_retract(&text, "demo", E, 43, "1-0-00000005");
  expect(&text, "{\"type\":\"retract\",\"session\":\"demo\",\"epoch\":1790000000000,\"seq\":43,"
                "\"utteranceId\":\"1-0-00000005\"}");
}

static void test_status(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_viewer_print_status(&text, "demo", E, 44, "stt_down", "HTTP 503");
  expect(&text, "{\"type\":\"status\",\"session\":\"demo\",\"epoch\":1790000000000,\"seq\":44,"
                "\"state\":\"stt_down\",\"reason\":\"HTTP 503\"}");
  vc_viewer_print_status(&text, "demo", E, 45, "live", NULL);
  expect(&text, "{\"type\":\"status\",\"session\":\"demo\",\"epoch\":1790000000000,\"seq\":45,"
                "\"state\":\"live\",\"reason\":null}");
}

static void test_gap(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_viewer_print_gap(&text, "demo", E, 44, 58);
  expect(&text, "{\"type\":\"gap\",\"session\":\"demo\",\"epoch\":1790000000000,\"from\":44,"
                "\"to\":58}");
  vc_viewer_print_gap(&text, "demo", E, 44, 0);
  expect(&text, "{\"type\":\"gap\",\"session\":\"demo\",\"epoch\":1790000000000,\"from\":44,"
                "\"to\":null}");
}

static void test_end(void **state)
{
  (void)state;
  struct vc_text text = {0};
  vc_viewer_print_end(&text, "demo", INT64_MAX, UINT64_MAX, "publisher_left");
  expect(&text, "{\"type\":\"end\",\"session\":\"demo\",\"epoch\":9223372036854775807,"
                "\"seq\":18446744073709551615,\"reason\":\"publisher_left\"}");
}

static void test_since(void **state)
{
  (void)state;
  int64_t epoch;
  uint64_t seq;
  assert_int_equal(vc_viewer_parse_since("1790000000000.42", &epoch, &seq), 0);
  assert_true(epoch == E && seq == 42);
  assert_int_equal(vc_viewer_parse_since("1.0", &epoch, &seq), 0);
  assert_true(epoch == 1 && seq == 0);
  assert_int_equal(vc_viewer_parse_since("999999999999999999.999999999999999999", &epoch, &seq), 0);
  assert_true(epoch == INT64_C(999999999999999999) && seq == UINT64_C(999999999999999999));
}

static void test_malformed_since(void **state)
{
  (void)state;
  static const char *const bad[] = {"",
                                    ".",
                                    "1",
                                    "1.",
                                    ".1",
                                    "0.1",
                                    "00.1",
                                    "1.2.3",
                                    "-1.2",
                                    "1.-2",
                                    "+1.2",
                                    " 1.2",
                                    "1 .2",
                                    "1. 2",
                                    "1.2 ",
                                    "1.2\n",
                                    "a.1",
                                    "1.a",
                                    "0x1.1",
                                    "1e3.1",
                                    "1,2",
                                    "1..2",
                                    "\xd9\xa1.1",
                                    "1000000000000000000.1",
                                    "1.1000000000000000000"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    int64_t epoch;
    uint64_t seq;
    assert_int_equal(vc_viewer_parse_since(bad[i], &epoch, &seq), -1);
  }
}

static void print_long(void)
{
  static char said[5000];
  memset(said, 'a', sizeof said - 1);
  struct vc_text text = {0};
  const struct vc_utterance utterance = {
      .text = said, .language = "en", .is_final = 1, .words = good_morning, .n_words = 2};
  print_transcript(&text, &utterance);
  assert_int_equal(text.has_failed, memory_has_failed);
  vc_text_fini(&text);
}

static void test_without_memory(void **state)
{
  (void)state;
  assert_true(memory_fail_each(print_long) >= 2);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_hello),
      cmocka_unit_test(test_partial),
      cmocka_unit_test(test_final),
      cmocka_unit_test(test_what_is_unknown_is_null),
      cmocka_unit_test(test_escaping),
      cmocka_unit_test(test_no_words),
      cmocka_unit_test(test_retract),
      cmocka_unit_test(test_status),
      cmocka_unit_test(test_gap),
      cmocka_unit_test(test_end),
      cmocka_unit_test(test_since),
      cmocka_unit_test(test_malformed_since),
      cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
