// An utterance on the session's clock, from a stream that holds some sound twice.
#include "room.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define S VC_SAMPLE_RATE_HZ

// Two seconds came; after a drop the second one is sent again, and another behind it: the stream's
// third second is the clock's second one.
static void send_twice(struct session *session)
{
  memset(session, 0, sizeof *session);
  stt_trail_begin(&session->trail, 0);
  assert_int_equal(stt_trail_reserve(&session->trail), 0);
  stt_trail_sent(&session->trail, 0, 2 * S);
  stt_trail_acknowledge(&session->trail, 0, S);
  stt_trail_reconnect(&session->trail);
  stt_trail_sent(&session->trail, S, 2 * S);
  stt_trail_acknowledge(&session->trail, UINT64_C(2) * S, UINT64_C(4) * S);
}

static struct vc_utterance *place(const struct session *session, const struct vc_word *words,
                                  size_t n, enum placing expected)
{
  struct vc_utterance *told = NULL;
  const struct vc_utterance said = {.id = "00-1",
                                    .text = "whole",
                                    .language = "en",
                                    .start_s = words[0].start_s,
                                    .end_s = words[n - 1].end_s,
                                    .is_final = 1,
                                    .words = words,
                                    .n_words = n};
  assert_int_equal(stt_place_utterance(session, &said, &told), expected);
  return told;
}

static void test_words_heard_at_second_sight_stand_in_order(void **state)
{
  struct session session;
  send_twice(&session);
  const struct vc_word words[] = {{"a", 0.5, 0.9, 1},
                                  {"c", 1.5, 1.9, 1},
                                  {"b", 2.1, 2.4, 1}, // was missed
                                  {"c", 2.5, 2.9, 1},
                                  {"d", 3.2, 3.6, 1}};
  struct vc_utterance *told = place(&session, words, 5, PLACED_IN_PARTS);
  assert_string_equal(told->text, "a b c d");
  for (size_t i = 1; i < told->n_words; i++) {
    assert_true(told->words[i - 1].start_s < told->words[i].start_s);
  }
  vc_utterance_destroy(&told);
  stt_trail_fini(&session.trail);
}

static void test_word_over_a_seam_is_told_once(void **state)
{
  struct session session;
  send_twice(&session);
  stt_told_add(&session.told, 0.2, 1.8);
  const struct vc_word words[] = {{"known", 2.1, 2.7, 1}, {"over", 2.7, 3.3, 1}};
  struct vc_utterance *told = place(&session, words, 2, PLACED_IN_PARTS);
  assert_string_equal(told->text, "over");
  assert_true(told->start_s > 1.69 && told->start_s < 1.71);
  assert_true(told->end_s > 2.29 && told->end_s < 2.31);
  stt_told_add(&session.told, told->start_s, told->end_s);
  vc_utterance_destroy(&told);
  const struct vc_word again = {"over", 2.8, 2.99, 1};
  assert_null(place(&session, &again, 1, KNOWN));
  stt_trail_fini(&session.trail);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_words_heard_at_second_sight_stand_in_order),
      cmocka_unit_test(test_word_over_a_seam_is_told_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
