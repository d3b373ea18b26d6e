// Transcripts of a Gladia server: what is shown of them, what is refused.
#include <verbacast/wire/gladia.h>
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

#include "no_memory.h"

static int parse(const char *text, struct vc_gladia_message *message)
{
  return vc_gladia_parse(text, strlen(text), message);
}

static void check_malformed(const char *text)
{
  struct vc_gladia_message message;
  assert_int_equal(parse(text, &message), 1);
  assert_null(message.utterance);
}

#define UTTERANCE(fields)                                                                          \
  "{\"type\":\"transcript\",\"data\":{\"id\":\"00-1\",\"is_final\":true,\"utterance\":{"           \
  "\"text\":\"a\"" fields "}}}"

// The caller destroys it.
static struct vc_utterance *heard(const char *text)
{
  struct vc_gladia_message message;
  assert_int_equal(parse(text, &message), 0);
  assert_int_equal(message.kind, VC_GLADIA_TRANSCRIPT);
  assert_non_null(message.utterance);
  return message.utterance;
}

static void test_transcript(void **state)
{
  (void)state;
  struct vc_utterance *utterance = heard(
      "{\"type\":\"transcript\",\"session_id\":\"s\",\"created_at\":\"Z\",\"data\":{"
      "\"id\":\"00-00000004\",\"is_final\":false,\"utterance\":{\"start\":0.44,\"end\":1.9,"
      "\"confidence\":0.87,\"channel\":1,\"language\":\"ru\",\"text\":\" \xd0\xb4\xd0\xb0 \\\"so"
      "\\\"\\n\",\"words\":[{\"word\":\" \xd0\xb4\xd0\xb0\",\"start\":0.44,\"end\":1.0,"
      "\"confidence\":0.9},{\"word\":\" \\\"so\\\"\",\"start\":1.1,\"end\":1.9}]}}}");
  assert_string_equal(utterance->id, "00-00000004");
  assert_string_equal(utterance->text, "\xd0\xb4\xd0\xb0 \"so\"");
  assert_string_equal(utterance->language, "ru");
  assert_null(utterance->speaker);
  assert_true(utterance->start_s == 0.44 && utterance->end_s == 1.9);
  assert_true(utterance->confidence == 0.87);
  assert_int_equal(utterance->channel, 1);
  assert_false(utterance->is_final);
  assert_false(utterance->is_approximate);
  assert_int_equal(utterance->n_words, 2);
  assert_string_equal(utterance->words[0].text, "\xd0\xb4\xd0\xb0");
  assert_true(utterance->words[0].start_s == 0.44 && utterance->words[0].end_s == 1.0);
  assert_true(utterance->words[0].confidence == 0.9);
  assert_string_equal(utterance->words[1].text, "\"so\"");
  assert_true(isnan(utterance->words[1].confidence));
  vc_utterance_destroy(&utterance);
}

static void check_bare(const char *text)
{
  struct vc_utterance *utterance = heard(text);
  assert_string_equal(utterance->text, "a");
  assert_string_equal(utterance->language, "");
  assert_null(utterance->speaker);
  assert_true(utterance->start_s == 0 && utterance->end_s == 0);
  assert_true(isnan(utterance->confidence));
  assert_int_equal(utterance->channel, 0);
  assert_true(utterance->is_final);
  assert_int_equal(utterance->n_words, 0);
  vc_utterance_destroy(&utterance);
}

static void test_null_and_missing_are_unknown(void **state)
{
  (void)state;
  check_bare(UTTERANCE(""));
  check_bare(UTTERANCE(",\"start\":null,\"end\":null,\"confidence\":null,\"channel\":null,"
                       "\"language\":null,\"speaker\":null,\"words\":null,\"later\":{}"));
  check_bare(UTTERANCE(",\"words\":[]"));
}

static void test_wrong_types(void **state)
{
  (void)state;
  check_malformed(UTTERANCE(",\"start\":\"1\""));
  check_malformed(UTTERANCE(",\"end\":\"1\""));
  check_malformed(UTTERANCE(",\"end\":true"));
  check_malformed(UTTERANCE(",\"confidence\":\"high\""));
  check_malformed(UTTERANCE(",\"channel\":\"0\""));
  check_malformed(UTTERANCE(",\"words\":\"a\""));
  check_malformed(UTTERANCE(",\"words\":{\"word\":\"a\"}"));
  check_malformed(UTTERANCE(",\"words\":[{\"word\":7}]"));
  check_malformed(UTTERANCE(",\"words\":[{\"word\":\"a\",\"start\":\"1\"}]"));
  check_malformed(UTTERANCE(",\"words\":[{\"word\":\"a\",\"end\":{}}]"));
  check_malformed(UTTERANCE(",\"words\":[{\"word\":\"a\"},{\"word\":\"b\",\"confidence\":\"\"}]"));
}

static void test_what_a_transcript_must_have(void **state)
{
  (void)state;
  static const char *const bad[] = {
      "null",
      "[]",
      "{\"is_final\":true,\"utterance\":{\"text\":\"a\"}}",
      "{\"id\":\"\",\"is_final\":true,\"utterance\":{\"text\":\"a\"}}",
      "{\"id\":7,\"is_final\":true,\"utterance\":{\"text\":\"a\"}}",
      "{\"id\":\"1\",\"utterance\":{\"text\":\"a\"}}",
      "{\"id\":\"1\",\"is_final\":null,\"utterance\":{\"text\":\"a\"}}",
      "{\"id\":\"1\",\"is_final\":1,\"utterance\":{\"text\":\"a\"}}",
      "{\"id\":\"1\",\"is_final\":\"true\",\"utterance\":{\"text\":\"a\"}}",
      "{\"id\":\"1\",\"is_final\":true}",
      "{\"id\":\"1\",\"is_final\":true,\"utterance\":\"a\"}",
      "{\"id\":\"1\",\"is_final\":true,\"utterance\":{}}",
      "{\"id\":\"1\",\"is_final\":true,\"utterance\":{\"text\":null}}",
      "{\"id\":\"1\",\"is_final\":true,\"utterance\":{\"text\":[\"a\"]}}",
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    char text[256];
    snprintf(text, sizeof text, "{\"type\":\"transcript\",\"data\":%s}", bad[i]);
    check_malformed(text);
  }
}

// An id of so many bytes, a language of so many.
static int parse_lengths(int id, int language)
{
  char text[512];
  struct vc_gladia_message message;
  snprintf(text, sizeof text,
           "{\"type\":\"transcript\",\"data\":{\"id\":\"%0*d\",\"is_final\":true,\"utterance\":{"
           "\"text\":\"a\",\"language\":\"%0*d\"}}}",
           id, 1, language, 1);
  int status = parse(text, &message);
  if (status == 0) {
    assert_int_equal(strlen(message.utterance->id), id);
    assert_int_equal(strlen(message.utterance->language), language);
    vc_utterance_destroy(&message.utterance);
  }
  return status;
}

static void test_bounds_of_ids_and_languages(void **state)
{
  (void)state;
  assert_int_equal(parse_lengths(63, 31), 0);
  assert_int_equal(parse_lengths(64, 31), 1);
  assert_int_equal(parse_lengths(63, 32), 1);
}

static void test_bounds_of_channels(void **state)
{
  (void)state;
  struct vc_utterance *utterance = heard(UTTERANCE(",\"channel\":255"));
  assert_int_equal(utterance->channel, 255);
  vc_utterance_destroy(&utterance);
  check_malformed(UTTERANCE(",\"channel\":256"));
  check_malformed(UTTERANCE(",\"channel\":-1"));
  check_malformed(UTTERANCE(",\"channel\":1e300"));
}

static void check_times(const char *text, double start_s, double end_s)
{
  struct vc_utterance *utterance = heard(text);
  assert_true(utterance->start_s == start_s);
  assert_true(utterance->end_s == end_s);
  vc_utterance_destroy(&utterance);
}

static void test_times_are_tidy(void **state)
{
  (void)state;
  check_times(UTTERANCE(",\"start\":2,\"end\":1"), 2, 2);
  check_times(UTTERANCE(",\"start\":-1,\"end\":1"), 0, 1);
  check_times(UTTERANCE(",\"start\":-2,\"end\":-1"), 0, 0);
  check_times(UTTERANCE(",\"start\":3"), 3, 3);
  check_times(UTTERANCE(",\"start\":1,\"end\":1e300"), 1, 1);
  check_times(UTTERANCE(",\"start\":1e7,\"end\":2"), 0, 2);
}

static void check_confidence(const char *text, double expected)
{
  struct vc_utterance *utterance = heard(text);
  assert_true(isnan(expected) ? isnan(utterance->confidence) : utterance->confidence == expected);
  vc_utterance_destroy(&utterance);
}

static void test_confidences(void **state)
{
  (void)state;
  check_confidence(UTTERANCE(",\"confidence\":0"), 0);
  check_confidence(UTTERANCE(",\"confidence\":1"), 1);
  check_confidence(UTTERANCE(",\"confidence\":1.001"), NAN);
  check_confidence(UTTERANCE(",\"confidence\":-0.5"), NAN);
}

static void check_speaker(const char *text, const char *expected)
{
  struct vc_utterance *utterance = heard(text);
  if (expected == NULL) {
    assert_null(utterance->speaker);
  } else {
    assert_non_null(utterance->speaker);
    assert_string_equal(utterance->speaker, expected);
  }
  vc_utterance_destroy(&utterance);
}

static void test_speakers(void **state)
{
  (void)state;
  check_speaker(UTTERANCE(",\"speaker\":0"), "0");
  check_speaker(UTTERANCE(",\"speaker\":12"), "12");
  check_speaker(UTTERANCE(",\"speaker\":\"Ann\""), "Ann");
  check_speaker(UTTERANCE(",\"speaker\":true"), NULL);
  check_speaker(UTTERANCE(",\"speaker\":\"\""), NULL);
#define SEVEN "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"
  check_speaker(UTTERANCE(",\"speaker\":\"" SEVEN SEVEN SEVEN SEVEN "\""), SEVEN SEVEN SEVEN);
}

static void test_spread_words(void **state)
{
  (void)state;
  struct vc_utterance *utterance = heard(UTTERANCE(",\"approximate\":true"));
  assert_true(utterance->is_approximate);
  vc_utterance_destroy(&utterance);
  utterance = heard(UTTERANCE(",\"approximate\":1"));
  assert_false(utterance->is_approximate);
  vc_utterance_destroy(&utterance);
}

static void check_word(const struct vc_word *word, const char *text, double start_s, double end_s)
{
  assert_string_equal(word->text, text);
  assert_true(word->start_s == start_s);
  assert_true(word->end_s == end_s);
}

// A word without times stands where the one before begins; one of blanks is none.
static void test_words(void **state)
{
  (void)state;
  struct vc_utterance *utterance = heard(UTTERANCE(
      ",\"start\":1,\"end\":4,\"words\":[{\"word\":\" one\"},{\"word\":\" \"},{\"start\":2},"
      "{\"word\":\"two\",\"start\":3,\"end\":2},{\"word\":null},7,"
      "{\"word\":\"three\\t\",\"start\":null,\"end\":null,\"confidence\":2}]"));
  assert_int_equal(utterance->n_words, 3);
  check_word(&utterance->words[0], "one", 1, 4);
  check_word(&utterance->words[1], "two", 3, 3);
  check_word(&utterance->words[2], "three", 3, 4);
  assert_true(isnan(utterance->words[2].confidence));
  vc_utterance_destroy(&utterance);
}

// An utterance's text of `n` times `unit`, and as many words of it.
static struct vc_utterance *heard_many(const char *unit, size_t n)
{
  struct vc_gladia_message message;
  struct vc_text text = {0};
  vc_text_add(&text, "{\"type\":\"transcript\",\"data\":{\"id\":\"1\",\"is_final\":true,"
                     "\"utterance\":{\"text\":\"");
  for (size_t i = 0; i < n; i++) {
    vc_text_add(&text, unit);
  }
  vc_text_add(&text, "\",\"words\":[");
  for (size_t i = 0; i < n; i++) {
    vc_text_format(&text, "%s{\"word\":\"%s\"}", i > 0 ? "," : "", unit);
  }
  vc_text_add(&text, "]}}}");
  assert_false(text.has_failed);
  assert_int_equal(vc_gladia_parse(text.at, text.size, &message), 0);
  vc_text_fini(&text);
  return message.utterance;
}

static void test_too_much_is_cut(void **state)
{
  (void)state;
  struct vc_utterance *utterance = heard_many("\xe2\x82\xac", VC_GLADIA_TEXT_MAX / 3 + 1);
  assert_int_equal(strlen(utterance->text), VC_GLADIA_TEXT_MAX / 3 * 3);
  assert_int_equal(utterance->n_words, VC_GLADIA_WORDS_MAX);
  vc_utterance_destroy(&utterance);
  utterance = heard_many("a ", VC_GLADIA_TEXT_MAX / 2 + 1);
  assert_int_equal(strlen(utterance->text), VC_GLADIA_TEXT_MAX - 1);
  vc_utterance_destroy(&utterance);
  utterance = heard_many("ab", VC_GLADIA_WORDS_MAX);
  assert_int_equal(strlen(utterance->text), VC_GLADIA_WORDS_MAX * 2);
  assert_int_equal(utterance->n_words, VC_GLADIA_WORDS_MAX);
  vc_utterance_destroy(&utterance);
}

static void parse_transcript(void)
{
  static const char text[] =
      UTTERANCE(",\"speaker\":\"Ann\",\"words\":[{\"word\":\"a\"},{\"word\":\"b\"}]");
  struct vc_gladia_message message;
  int status = parse(text, &message);
  assert_int_equal(status, memory_has_failed ? -1 : 0);
  assert_int_equal(message.utterance != NULL, status == 0);
  vc_utterance_destroy(&message.utterance);
}

static void test_without_memory(void **state)
{
  (void)state;
  assert_true(memory_fail_each(parse_transcript) > 10);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_transcript),
      cmocka_unit_test(test_null_and_missing_are_unknown),
      cmocka_unit_test(test_wrong_types),
      cmocka_unit_test(test_what_a_transcript_must_have),
      cmocka_unit_test(test_bounds_of_ids_and_languages),
      cmocka_unit_test(test_bounds_of_channels),
      cmocka_unit_test(test_times_are_tidy),
      cmocka_unit_test(test_confidences),
      cmocka_unit_test(test_speakers),
      cmocka_unit_test(test_spread_words),
      cmocka_unit_test(test_words),
      cmocka_unit_test(test_too_much_is_cut),
      cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
