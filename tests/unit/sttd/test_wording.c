#include "wording.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static void expect_after(const char *told, const char *heard, const char *rest)
{
  size_t offset = 0;
  assert_int_equal(wording_after(told, heard, &offset), 0);
  assert_string_equal(heard + offset, rest);
}

static void test_what_follows(void **state)
{
  expect_after("one two", "one two three", "three");
  expect_after("Press one.", "Press one, to speak.", "to speak.");
  expect_after("one two three", "one two three", "");
  expect_after("", "one", "one");
}

static void test_other_words_do_not_hide_where_it_begins(void **state)
{
  // The last word was cut, the first heard otherwise, one was left out, one is new.
  expect_after("for an operator pres", "for an operator press zero", "zero");
  expect_after("Then you know your party's", "When you know your party's extension", "extension");
  expect_after("he was a young man", "he was young man of means", "of means");
  expect_after("he was young man", "he was a young man of means", "of means");
  expect_after("say one", "say one one", "one");
  expect_after("mañana por la", "Mañana por la tarde", "tarde");
}

static void test_other_texts_are_told_apart(void **state)
{
  size_t offset = 0;
  assert_int_equal(wording_after("please hold the line", "nothing of that was said", &offset), 1);
  assert_int_equal(wording_after("please hold the line", "", &offset), 1);
  assert_int_equal(wording_after("please hold the line now or", "please", &offset), 1);
}

static void make_words(char *text, size_t n)
{
  text[0] = '\0';
  for (size_t i = 0, size = 0; i < n; i++) {
    size += (size_t)sprintf(text + size, "%zu ", i);
  }
}

static void test_long_texts(void **state)
{
  static char told[8192], heard[8192], word[1000];
  size_t offset = 0;
  make_words(told, WORDING_WORDS_MAX - 1);
  make_words(heard, WORDING_WORDS_MAX);
  expect_after(told, heard, "255 ");
  make_words(heard, WORDING_WORDS_MAX + 1);
  assert_int_equal(wording_after(told, heard, &offset), 1);
  assert_int_equal(wording_after(heard, told, &offset), 1);
  memset(word, 'a', sizeof word - 1);
  expect_after(word, word, "");
}

static void expect_circle(const char *text, const char *to, const char *left)
{
  struct wording_circle circle = {0};
  assert_true(wording_is_circular(text, &circle));
  assert_int_equal(circle.end, strlen(to));
  assert_memory_equal(text, to, circle.end);
  assert_string_equal(text + circle.left, left);
}

static void test_circles(void **state)
{
  struct wording_circle circle;
  expect_circle("to be able to be able to be able, to be able to go",
                "to be able to be able to be able, to be able", " go");
  expect_circle("No no no no NO no no no.", "No no no no NO no no no", ".");
  expect_circle("no no no no no no no no no no, stop it", "no no no no no no no no", ", stop it");
  expect_circle("and one two three one two three one two three one two three",
                "and one two three one two three one two three one two three", "");
  assert_false(wording_is_circular("no no no no no no no", &circle));
  assert_false(wording_is_circular("one two one two one two and one two", &circle));
  assert_false(
      wording_is_circular("press one to speak press two to speak press three to speak", &circle));
  assert_false(wording_is_circular("", &circle));
  static char text[8192];
  make_words(text, WORDING_WORDS_MAX + 20);
  assert_false(wording_is_circular(text, &circle));
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_what_follows),
      cmocka_unit_test(test_other_words_do_not_hide_where_it_begins),
      cmocka_unit_test(test_other_texts_are_told_apart),
      cmocka_unit_test(test_long_texts),
      cmocka_unit_test(test_circles),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
