#include <verbacast/wire/text.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static void check_string(const char *string, const char *expected)
{
  struct vc_text text = {0};
  vc_text_json_string(&text, string);
  assert_string_equal(text.at, expected);
  vc_text_fini(&text);
}

static void test_json_strings(void **state)
{
  check_string(NULL, "null");
  check_string("", "\"\"");
  check_string("Guten \"Tag\"\\\n", "\"Guten \\\"Tag\\\"\\\\\\n\"");
  check_string("\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\"");
  check_string("\xc3\xa9\xf0\x9f\x98\x80", "\"\xc3\xa9\xf0\x9f\x98\x80\"");
  check_string("a\xff"
               "b\xc3",
               "\"a\xef\xbf\xbd"
               "b\xef\xbf\xbd\"");
  check_string("\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void test_json_numbers(void **state)
{
  struct vc_text text = {0};
  vc_text_json_number(&text, 12.4804, 3);
  vc_text_add(&text, " ");
  vc_text_json_number(&text, NAN, 3);
  vc_text_add(&text, " ");
  vc_text_json_number(&text, -INFINITY, 0);
  assert_string_equal(text.at, "12.480 null null");
  vc_text_fini(&text);
}

static void test_growth(void **state)
{
  struct vc_text text = {0};
  for (int i = 0; i < 10000; i++) {
    vc_text_format(&text, "%04d", i);
    assert_int_equal(text.size, (size_t)(i + 1) * 4);
    assert_int_equal(text.at[text.size], '\0');
  }
  for (int i = 0; i < 10000; i++) {
    char expected[5];
    snprintf(expected, sizeof expected, "%04d", i);
    assert_memory_equal(text.at + i * 4, expected, 4);
  }
  assert_false(text.has_failed);
  vc_text_fini(&text);
  assert_null(text.at);
}

static void test_a_failure_stays(void **state)
{
  struct vc_text text = {.has_failed = 1};
  vc_text_add(&text, "x");
  vc_text_format(&text, "%d", 1);
  assert_int_equal(text.size, 0);
  assert_true(text.has_failed);
  vc_text_fini(&text);
}

// By the table of well-formed sequences in the Unicode standard (3-7), on its own.
static size_t expected_length(const uint8_t *s, size_t n)
{
  uint8_t low = 0x80, high = 0xbf;
  if (n == 0 || s[0] < 0x80) {
    return n == 0 ? 0 : 1;
  }
  size_t length = s[0] >= 0xc2 && s[0] <= 0xdf   ? 2
                  : s[0] >= 0xe0 && s[0] <= 0xef ? 3
                  : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4
                                                 : 0;
  low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : low;
  high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : high;
  if (length == 0 || n < length || s[1] < low || s[1] > high) {
    return 0;
  }
  for (size_t i = 2; i < length; i++) {
    if (s[i] < 0x80 || s[i] > 0xbf) {
      return 0;
    }
  }
  return length;
}

static void test_sequences(void **state)
{
  for (unsigned first = 0; first < 256; first++) {
    for (unsigned second = 0; second < 256; second++) {
      static const uint8_t edges[] = {0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff};
      for (size_t e = 0; e < sizeof edges; e++) {
        uint8_t bytes[4] = {(uint8_t)first, (uint8_t)second, edges[e], 0x80};
        for (size_t n = 0; n <= 4; n++) {
          assert_int_equal(vc_utf8_sequence((const char *)bytes, n), expected_length(bytes, n));
        }
      }
    }
  }
}

static int is_valid_by_sequences(const uint8_t *bytes, size_t size)
{
  for (size_t at = 0, n; at < size; at += n) {
    n = expected_length(bytes + at, size - at);
    if (n == 0) {
      return 0;
    }
  }
  return 1;
}

// Texts of random pieces, whole and cut at every place: both ways to ask agree.
static void test_feeding_in_pieces(void **state)
{
  static const char *const pieces[] = {"abcdefghijklmnop", "\xc3\xa9", "\xe2\x82\xac",
                                       "\xf0\x9f\x98\x80", "\xff",     "\x80",
                                       "\xe2\x82",         "x"};
  unsigned seed = 20261126;
  for (int round = 0; round < 3000; round++) {
    char text[256] = "";
    for (int i = 0; i < 6; i++) {
      // The bad ones seldom, so that good texts occur.
      strcat(text, pieces[rand_r(&seed) % (rand_r(&seed) % 4 == 0 ? 8 : 4)]);
    }
    size_t size = strlen(text), cut = (size_t)rand_r(&seed) % (size + 1);
    int expected = is_valid_by_sequences((const uint8_t *)text, size);
    struct vc_utf8_state fed = {0};
    int status = vc_utf8_feed(&fed, (const uint8_t *)text, cut);
    status = status == 0 ? vc_utf8_feed(&fed, (const uint8_t *)text + cut, size - cut) : status;
    assert_int_equal(status == 0 && fed.n_left == 0, expected);
    assert_int_equal(vc_utf8_is_valid(text, size), expected);
  }
}

static void test_cut(void **state)
{
  static const char text[] = "a\xc3\xa9\xe2\x82\xac";
  static const size_t expected[] = {0, 1, 1, 3, 3, 3, 6, 6};
  for (size_t most = 0; most < sizeof expected / sizeof *expected; most++) {
    assert_int_equal(vc_utf8_cut(text, sizeof text - 1, most), expected[most]);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_json_strings), cmocka_unit_test(test_json_numbers),
      cmocka_unit_test(test_growth),       cmocka_unit_test(test_a_failure_stays),
      cmocka_unit_test(test_sequences),    cmocka_unit_test(test_feeding_in_pieces),
      cmocka_unit_test(test_cut),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
