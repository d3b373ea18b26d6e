// JSON from outside: what is refused, and what readers make of members they did not expect.
#include <verbacast/wire/json.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "no_memory.h"

static json_t *parse(const char *text)
{
  const char *why = NULL;
  json_t *value = vc_json_parse(text, strlen(text), &why);
  assert_non_null(value);
  assert_null(why);
  return value;
}

static void check_refused(const char *text, size_t size, const char *expected)
{
  const char *why = NULL;
  assert_null(vc_json_parse(text, size, &why));
  assert_string_equal(why, expected);
  assert_null(vc_json_parse(text, size, NULL));
}

static void test_no_json(void **state)
{
  (void)state;
  static const char *const bad[] = {"",
                                    " ",
                                    "null",
                                    "1",
                                    "\"text\"",
                                    "{",
                                    "[",
                                    "}",
                                    "{\"a\":}",
                                    "{\"a\" 1}",
                                    "{a:1}",
                                    "[1,]",
                                    "[01]",
                                    "[+1]",
                                    "[.5]",
                                    "[NaN]",
                                    "[1e999]",
                                    "[1] x",
                                    "{\"a\":1}{}",
                                    "[\"\xff\"]",
                                    "[\"\\u0000\"]",
                                    "[\"\\ud800\"]",
                                    "[\"a\nb\"]",
                                    "[\"a]",
                                    "{\"a\":1,\"a\":2}"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    check_refused(bad[i], strlen(bad[i]), "not a JSON object or array");
  }
  check_refused("[1]\0", 4, "not a JSON object or array");
  check_refused("[1]", 2, "not a JSON object or array");
}

static void fill_depth(char *text, size_t depth, const char *open, const char *close)
{
  text[0] = '\0';
  for (size_t i = 0; i < depth; i++) {
    strcat(text, open);
  }
  for (size_t i = 0; i < depth; i++) {
    strcat(text, close);
  }
}

static void test_depth(void **state)
{
  (void)state;
  char text[1024];
  fill_depth(text, VC_JSON_DEPTH_MAX, "[", "]");
  json_decref(parse(text));
  fill_depth(text, VC_JSON_DEPTH_MAX + 1, "[", "]");
  check_refused(text, strlen(text), "JSON nested deeper than 64");
  fill_depth(text, VC_JSON_DEPTH_MAX / 2 + 1, "[{\"a\":", "}]");
  check_refused(text, strlen(text), "JSON nested deeper than 64");
}

// A bottomless text is refused before anything recurses.
static void test_bottomless(void **state)
{
  (void)state;
  static char text[1 << 20];
  memset(text, '[', sizeof text);
  check_refused(text, sizeof text, "JSON nested deeper than 64");
}

static void test_brackets_within_strings_are_no_depth(void **state)
{
  (void)state;
  char brackets[200], text[512];
  memset(brackets, '[', sizeof brackets - 1);
  brackets[sizeof brackets - 1] = '\0';
  snprintf(text, sizeof text, "[\"\\\"%s\",\"\\\\\",\"%s\\\\\\\"{\"]", brackets, brackets);
  json_decref(parse(text));
}

static void test_width_is_no_depth(void **state)
{
  (void)state;
  char text[1024] = "[0";
  for (int i = 0; i < 100; i++) {
    strcat(text, ",[],{}");
  }
  strcat(text, "]");
  json_t *value = parse(text);
  assert_int_equal(json_array_size(value), 201);
  json_decref(value);
}

static void test_readers(void **state)
{
  (void)state;
  json_t *object = parse("{\"s\":\"x\",\"e\":\"\",\"i\":-7,\"r\":2.5,\"t\":true,\"f\":false,"
                         "\"n\":null,\"o\":{},\"one\":1}");
  assert_string_equal(vc_json_string(object, "s", "no"), "x");
  assert_string_equal(vc_json_string(object, "e", "no"), "");
  assert_int_equal(vc_json_integer(object, "i", 3), -7);
  assert_true(vc_json_real(object, "r", 3) == 2.5);
  assert_true(vc_json_real(object, "i", 3) == -7);
  assert_int_equal(vc_json_true(object, "t"), 1);
  json_decref(object);
}

static void test_readers_fall_back(void **state)
{
  (void)state;
  json_t *object =
      parse("{\"s\":\"1\",\"i\":1,\"r\":2.0,\"f\":false,\"n\":null,\"o\":{},\"l\":[1]}");
  static const char *const no_string[] = {"i", "r", "f", "n", "o", "l", "missing"};
  static const char *const no_number[] = {"s", "f", "n", "o", "l", "missing"};
  for (size_t i = 0; i < sizeof no_string / sizeof *no_string; i++) {
    assert_null(vc_json_string(object, no_string[i], NULL));
    assert_string_equal(vc_json_string(object, no_string[i], "no"), "no");
    assert_int_equal(vc_json_true(object, no_string[i]), 0);
  }
  for (size_t i = 0; i < sizeof no_number / sizeof *no_number; i++) {
    assert_true(isnan(vc_json_real(object, no_number[i], NAN)));
    assert_int_equal(vc_json_integer(object, no_number[i], -1), -1);
  }
  assert_int_equal(vc_json_integer(object, "r", -1), -1); // a real is no whole number
  json_decref(object);
}

static void test_readers_of_what_is_no_object(void **state)
{
  (void)state;
  json_t *list = parse("[1]");
  assert_string_equal(vc_json_string(list, "s", "no"), "no");
  assert_int_equal(vc_json_integer(NULL, "i", 5), 5);
  assert_true(vc_json_real(NULL, "r", 5) == 5);
  assert_int_equal(vc_json_true(NULL, "t"), 0);
  json_decref(list);
}

static void check_printed(json_t *value, const char *expected)
{
  char *text = vc_json_print(value);
  assert_non_null(text);
  assert_string_equal(text, expected);
  free(text);
  json_decref(value);
}

static void test_print(void **state)
{
  (void)state;
  check_printed(parse(" { \"b\" : [ 1 , 2.50, \"\xc3\xa9\\u00e9\\n\" ] , \"a\" : null } "),
                "{\"b\":[1,2.5,\"\xc3\xa9\xc3\xa9\\n\"],\"a\":null}");
  check_printed(parse("[12.48,0.1,-3.0,1790000000.123,9223372036854775807]"),
                "[12.48,0.1,-3.0,1790000000.123,9223372036854775807]");
  check_printed(json_string("a"), "\"a\"");
  check_printed(json_null(), "null");
}

static const char long_names[] = "{\"a name of some length\":\"a text that is longer still\"}";

// Whole or not at all: no member under another name, no text with another wording.
static void parse_all(void)
{
  const char *why = NULL;
  json_t *value = vc_json_parse(long_names, sizeof long_names - 1, &why);
  assert_int_equal(value == NULL, memory_has_failed);
  assert_ptr_equal(why, memory_has_failed ? vc_json_no_memory : NULL);
  if (value != NULL) {
    assert_string_equal(vc_json_string(value, "a name of some length", ""),
                        "a text that is longer still");
  }
  json_decref(value);
}

static void parse_nothing(void)
{
  const char *why = NULL;
  assert_null(vc_json_parse("{\"a\":", 5, &why));
  assert_string_equal(why, memory_has_failed ? "no memory" : "not a JSON object or array");
}

static json_t *printed;

static void print_all(void)
{
  char *text = vc_json_print(printed);
  assert_true(text != NULL || memory_has_failed);
  if (text != NULL) {
    assert_string_equal(text, long_names);
  }
  free(text);
}

static void test_without_memory(void **state)
{
  (void)state;
  assert_true(memory_fail_each(parse_all) >= 5);
  assert_true(memory_fail_each(parse_nothing) >= 3);
  printed = parse(long_names);
  assert_true(memory_fail_each(print_all) >= 1);
  json_decref(printed);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_no_json),
      cmocka_unit_test(test_depth),
      cmocka_unit_test(test_bottomless),
      cmocka_unit_test(test_brackets_within_strings_are_no_depth),
      cmocka_unit_test(test_width_is_no_depth),
      cmocka_unit_test(test_readers),
      cmocka_unit_test(test_readers_fall_back),
      cmocka_unit_test(test_readers_of_what_is_no_object),
      cmocka_unit_test(test_print),
      cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
