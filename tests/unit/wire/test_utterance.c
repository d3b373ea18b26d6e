// An utterance is a copy that stands on its own: the address sanitizer finds what points out of it.
#include <verbacast/wire/utterance.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "no_memory.h"

static void test_everything_is_copied(void **state)
{
  (void)state;
  char strings[6][8] = {"00-1", "Hi you", "en", "Ann", "Hi", "you"};
  struct vc_word words[] = {{strings[4], 0.5, 1.25, 0.75}, {strings[5], 1.25, 2, NAN}};
  const struct vc_utterance from = {
      .id = strings[0],
      .text = strings[1],
      .language = strings[2],
      .speaker = strings[3],
      .start_s = 0.5,
      .end_s = 2,
      .confidence = 0.875,
      .channel = 3,
      .is_final = 1,
      .is_approximate = 1,
      .words = words,
      .n_words = 2,
  };
  struct vc_utterance *made = vc_utterance_create(&from);
  assert_non_null(made);
  memset(strings, 'x', sizeof strings);
  memset(words, 0, sizeof words);
  assert_string_equal(made->id, "00-1");
  assert_string_equal(made->text, "Hi you");
  assert_string_equal(made->language, "en");
  assert_string_equal(made->speaker, "Ann");
  assert_true(made->start_s == 0.5 && made->end_s == 2 && made->confidence == 0.875);
  assert_int_equal(made->channel, 3);
  assert_true(made->is_final && made->is_approximate);
  assert_int_equal(made->n_words, 2);
  assert_string_equal(made->words[0].text, "Hi");
  assert_true(made->words[0].start_s == 0.5 && made->words[0].end_s == 1.25);
  assert_true(made->words[0].confidence == 0.75);
  assert_string_equal(made->words[1].text, "you");
  assert_true(isnan(made->words[1].confidence));
  vc_utterance_destroy(&made);
  assert_null(made);
}

static void test_is_placed_elsewhere(void **state)
{
  (void)state;
  const struct vc_word word = {"Hi", 0.5, 1.25, NAN};
  const struct vc_utterance from = {.id = "1",
                                    .text = "Hi",
                                    .language = "",
                                    .speaker = "Ann",
                                    .start_s = 0.5,
                                    .end_s = 2,
                                    .confidence = NAN,
                                    .words = &word,
                                    .n_words = 1};
  struct vc_utterance *made = vc_utterance_place(&from, 10, "Somebody with a long name");
  assert_non_null(made);
  assert_string_equal(made->speaker, "Somebody with a long name");
  assert_true(made->start_s == 10.5 && made->end_s == 12);
  assert_true(made->words[0].start_s == 10.5 && made->words[0].end_s == 11.25);
  vc_utterance_destroy(&made);
  made = vc_utterance_place(&from, -0.25, NULL);
  assert_string_equal(made->speaker, "Ann");
  assert_true(made->start_s == 0.25);
  vc_utterance_destroy(&made);
}

static void test_what_is_unknown_stays_unknown(void **state)
{
  (void)state;
  const struct vc_utterance from = {.id = "1", .text = "", .language = "", .confidence = NAN};
  struct vc_utterance *made = vc_utterance_create(&from);
  assert_non_null(made);
  assert_string_equal(made->text, "");
  assert_string_equal(made->language, "");
  assert_null(made->speaker);
  assert_true(isnan(made->confidence));
  assert_int_equal(made->n_words, 0);
  vc_utterance_destroy(&made);
  vc_utterance_destroy(&made);
  assert_null(made);
}

// Every length of the strings before the words: they are aligned for what they hold.
static void test_words_are_aligned(void **state)
{
  (void)state;
  static const char long_text[] = "abcdefghijklmnop";
  for (size_t i = 0; i < sizeof long_text; i++) {
    const struct vc_word word = {long_text + i, 1, 2, 3};
    const struct vc_utterance from = {
        .id = long_text + i, .text = long_text, .language = "", .words = &word, .n_words = 1};
    struct vc_utterance *made = vc_utterance_create(&from);
    assert_non_null(made);
    assert_int_equal((uintptr_t)made->words % _Alignof(struct vc_word), 0);
    assert_string_equal(made->words[0].text, long_text + i);
    assert_string_equal(made->id, long_text + i);
    vc_utterance_destroy(&made);
  }
}

static void create(void)
{
  const struct vc_word word = {"one", 0, 1, 1};
  const struct vc_utterance from = {
      .id = "1", .text = "one", .language = "en", .words = &word, .n_words = 1};
  struct vc_utterance *made = vc_utterance_create(&from);
  assert_int_equal(made == NULL, memory_has_failed);
  vc_utterance_destroy(&made);
}

static void test_without_memory(void **state)
{
  (void)state;
  assert_int_equal(memory_fail_each(create), 1); // all of it is one block
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_everything_is_copied),
      cmocka_unit_test(test_is_placed_elsewhere),
      cmocka_unit_test(test_what_is_unknown_stays_unknown),
      cmocka_unit_test(test_words_are_aligned),
      cmocka_unit_test(test_without_memory),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
