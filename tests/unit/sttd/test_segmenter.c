#include "heard.h"
#include "segmenter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#define W ENGINE_WINDOW
#define S ENGINE_RATE_HZ

// Gives the segmenter windows until something was decided, at most n of them.
static unsigned give(struct segmenter *segmenter, int is_voice, size_t n)
{
  unsigned decided = 0;
  for (size_t i = 0; i < n && decided == 0; i++) {
    decided = segmenter_step(segmenter, is_voice, is_voice ? 1.0f : 0.01f);
  }
  return decided;
}

static void test_silence_decides_nothing(void **state)
{
  struct segmenter segmenter;
  segmenter_init(&segmenter, 0.3, 10, 0);
  assert_int_equal(give(&segmenter, 0, 2000), 0);
  assert_int_equal(segmenter.is_open, 0);
  assert_int_equal(segmenter_finish(&segmenter, 100), 0);
  assert_true(segmenter.position - segmenter_keep_from(&segmenter) <= S * 2 / 5);
}

static void test_a_voice_is_one_segment(void **state)
{
  struct segmenter segmenter;
  segmenter_init(&segmenter, 0.3, 10, 0);
  give(&segmenter, 0, 50);
  assert_int_equal(segmenter_step(&segmenter, 1, 1), SEGMENT_STARTED);
  uint64_t begin = segmenter.position;
  assert_int_equal(segmenter.open.begin, begin - S * 2 / 5);
  assert_true(segmenter.open.voice_begin < begin && segmenter.open.voice_begin >= begin - S / 5);
  assert_int_equal(give(&segmenter, 1, 60), 0);
  uint64_t voiced = segmenter.position;
  assert_int_equal(give(&segmenter, 0, 100), SEGMENT_FINAL | SEGMENT_ENDED);
  // The detector is 0.1 s late, so the voice ended before its last window, and so did the wait.
  assert_int_equal(segmenter.done.voice_end, voiced - S / 10);
  assert_true(segmenter.position - segmenter.done.voice_end >= S * 3 / 10);
  assert_true(segmenter.position - segmenter.done.voice_end < S * 3 / 10 + W);
  assert_true(segmenter.done.end > segmenter.done.voice_end);
  assert_true(segmenter.done.end <= segmenter.position);
  assert_int_equal(segmenter.done.id, 1);
  assert_int_equal(segmenter.is_open, 0);
}

static void test_a_pause_does_not_end_it(void **state)
{
  struct segmenter segmenter;
  segmenter_init(&segmenter, 0.5, 10, 0);
  give(&segmenter, 1, 1);
  give(&segmenter, 1, 30);
  assert_int_equal(give(&segmenter, 0, 8), 0); // 0.26 s, and 0.1 s that the detector is late
  assert_int_equal(give(&segmenter, 1, 30), 0);
  assert_int_equal(segmenter.is_open, 1);
}

static void test_pre_roll_takes_nothing_twice(void **state)
{
  struct segmenter segmenter;
  segmenter_init(&segmenter, 0.2, 10, 0);
  give(&segmenter, 1, 1);
  give(&segmenter, 1, 30);
  assert_int_equal(give(&segmenter, 0, 100), SEGMENT_FINAL | SEGMENT_ENDED);
  uint64_t end = segmenter.done.end;
  assert_int_equal(give(&segmenter, 1, 1), SEGMENT_STARTED);
  assert_int_equal(segmenter.open.begin, end);
  assert_int_equal(segmenter.open.id, 2);
}

static void test_the_longest_is_cut_where_it_is_quietest(void **state)
{
  struct segmenter segmenter;
  segmenter_init(&segmenter, 0.3, 5, 0);
  give(&segmenter, 1, 1);
  unsigned decided = 0;
  uint64_t quiet = 0;
  while (decided == 0) {
    int is_quiet = segmenter.position >= 4 * S && quiet == 0;
    quiet = is_quiet ? segmenter.position : quiet;
    decided = segmenter_step(&segmenter, 1, is_quiet ? 0.1f : 1.0f);
  }
  assert_int_equal(decided, SEGMENT_FINAL);
  assert_int_equal(segmenter.done.end, quiet + W / 2);
  assert_int_equal(segmenter.open.begin, segmenter.done.end);
  assert_int_equal(segmenter.open.id, segmenter.done.id + 1);
  assert_true(segmenter.is_open);
}

// Windows of a voice until something was decided; one is quiet at about 4 s.
static void give_until_cut(struct segmenter *segmenter)
{
  uint64_t begin = segmenter->position;
  unsigned decided = 0;
  while (decided == 0) {
    uint64_t at = segmenter->position - begin;
    decided = segmenter_step(segmenter, 1, at >= 4 * S && at < 4 * S + W ? 0.1f : 1.0f);
  }
  assert_int_equal(decided, SEGMENT_FINAL);
}

static void test_what_is_cut_off_has_a_context(void **state)
{
  struct segmenter segmenter;
  segmenter_init(&segmenter, 0.3, 5, 10);
  give(&segmenter, 1, 1);
  assert_int_equal(segmenter.open.context, segmenter.open.begin);
  give_until_cut(&segmenter);
  uint64_t first = segmenter.done.begin;
  assert_int_equal(segmenter.done.context, first);
  assert_int_equal(segmenter.open.context, first);
  assert_int_equal(segmenter_keep_from(&segmenter), first);
  give(&segmenter, 1, 40);
  assert_int_equal(give(&segmenter, 0, 100), SEGMENT_FINAL | SEGMENT_ENDED);
  assert_int_equal(segmenter.done.context, first);
  // After a pause there is none.
  assert_int_equal(give(&segmenter, 1, 1), SEGMENT_STARTED);
  assert_int_equal(segmenter.open.context, segmenter.open.begin);
}

static void test_a_context_that_gets_too_long_is_let_go(void **state)
{
  struct segmenter segmenter;
  segmenter_init(&segmenter, 0.3, 5, 6);
  give(&segmenter, 1, 1);
  give_until_cut(&segmenter);
  uint64_t begin = segmenter.open.begin;
  assert_true(segmenter_keep_from(&segmenter) < begin);
  assert_int_equal(give(&segmenter, 1, 60), 0);
  assert_int_equal(segmenter_keep_from(&segmenter), begin);
  assert_int_equal(give(&segmenter, 0, 100), SEGMENT_FINAL | SEGMENT_ENDED);
  assert_int_equal(segmenter.done.context, begin);
}

static void test_the_end_of_a_cut_word_is_not_looked_at(void **state)
{
  struct segmenter segmenter;
  segmenter_init(&segmenter, 1, 5, 10);
  give(&segmenter, 1, 1);
  for (int is_cut = 0; !is_cut;) {
    is_cut = segmenter_step(&segmenter, 1, segmenter.position >= 47 * S / 10 ? 0.5f : 1.0f) != 0;
  }
  assert_true(segmenter.position - segmenter.open.begin < S / 2);
  for (int i = 0; i < 25 && segmenter.is_open; i++) {
    assert_false(segmenter_wants_look(&segmenter, SEGMENTER_KEEPS_UP));
    give(&segmenter, 0, 1);
  }
  give(&segmenter, 1, 20);
  assert_true(segmenter_wants_look(&segmenter, SEGMENTER_KEEPS_UP));
}

static void test_a_pause_is_quieter_than_a_closed_mouth(void **state)
{
  struct segmenter segmenter;
  segmenter_init(&segmenter, 0.3, 5, 0);
  give(&segmenter, 1, 1);
  unsigned decided = 0;
  for (size_t i = 1; decided == 0; i++) {
    int is_pause = i >= 118 && i < 121;
    int is_closed = i == 135;
    decided = segmenter_step(&segmenter, 1, is_pause ? 0.02f : is_closed ? 0.01f : 1.0f);
  }
  assert_int_equal(segmenter.done.end, 119 * W + W / 2);
}

static void test_looks_become_rarer(void **state)
{
  struct segmenter segmenter;
  segmenter_init(&segmenter, 0.3, 30, 0);
  size_t n_keeps_up = 0, n_behind = 0;
  give(&segmenter, 1, 1);
  while (segmenter.position < 8 * S) {
    segmenter_step(&segmenter, 1, 1);
    if (segmenter_wants_look(&segmenter, SEGMENTER_KEEPS_UP)) {
      segmenter_looked(&segmenter);
      n_keeps_up++;
    }
  }
  segmenter_init(&segmenter, 0.3, 30, 0);
  give(&segmenter, 1, 1);
  while (segmenter.position < 8 * S) {
    segmenter_step(&segmenter, 1, 1);
    if (segmenter_wants_look(&segmenter, SEGMENTER_IS_BEHIND)) {
      segmenter_looked(&segmenter);
      n_behind++;
    }
  }
  assert_in_range(n_keeps_up, 10, 22);
  assert_in_range(n_behind, 2, 4);
}

static void test_finish_closes(void **state)
{
  struct segmenter segmenter;
  segmenter_init(&segmenter, 0.3, 10, 0);
  give(&segmenter, 1, 1);
  give(&segmenter, 1, 20);
  assert_int_equal(segmenter_finish(&segmenter, 77), SEGMENT_FINAL | SEGMENT_ENDED);
  assert_int_equal(segmenter.done.end, segmenter.position + 77);
}

static uint32_t next_random(uint32_t *state)
{
  *state = *state * 1664525u + 1013904223u;
  return *state >> 8;
}

// Whatever comes: segments are in order, none overlaps another, none is longer than it may be, and
// every window with a voice lies in one.
static void run_random(uint32_t seed)
{
  struct segmenter segmenter;
  uint64_t last_begin = 0, last_end = 0, last_id = 0, voiced_from = 0;
  int is_voice = 0, has_uncovered = 0;
  segmenter_init(&segmenter, 0.2 + (double)(seed % 8) / 10, 5 + seed % 20, seed % 2 == 0 ? 10 : 0);
  for (int i = 0; i < 20000; i++) {
    if (next_random(&seed) % 24 == 0) {
      is_voice = !is_voice;
    }
    if (is_voice && !has_uncovered) {
      has_uncovered = 1;
      voiced_from = segmenter.position;
    }
    uint64_t kept = segmenter_keep_from(&segmenter);
    unsigned decided = segmenter_step(&segmenter, is_voice, (float)(next_random(&seed) % 100));
    assert_true(segmenter_keep_from(&segmenter) <= segmenter.position);
    assert_true(!segmenter.is_open || segmenter_keep_from(&segmenter) <= segmenter.open.begin);
    if (decided & SEGMENT_FINAL) {
      const struct segment *done = &segmenter.done;
      assert_true(done->begin >= last_end && done->end > done->begin);
      assert_true(done->id > last_id);
      assert_true(done->context == done->begin ||
                  (done->context == last_begin && done->begin == last_end &&
                   done->end - done->context <= segmenter.context_max && kept <= done->context));
      last_begin = done->begin;
      assert_true(done->end - done->begin <= segmenter.longest + W);
      assert_true(done->voice_begin >= done->begin && done->voice_end <= done->end);
      assert_true(done->voice_begin <= done->voice_end);
      assert_true(!has_uncovered || done->begin <= voiced_from);
      has_uncovered = segmenter.is_open;
      voiced_from = segmenter.is_open ? segmenter.open.begin : 0;
      last_end = done->end;
      last_id = done->id;
    }
  }
}

static void test_random_voices(void **state)
{
  for (uint32_t seed = 1; seed <= 50; seed++) {
    run_random(seed);
  }
}

// --- words

static struct engine_words words;

static void set_text(const char *text)
{
  words.text.size = 0;
  words.n_words = 0;
  vc_text_add(&words.text, text);
}

static void hear_two_voices(struct segmenter *segmenter)
{
  segmenter_init(segmenter, 0.6, 10, 0);
  give(segmenter, 0, 20);
  give(segmenter, 1, 1);
  give(segmenter, 1, 40);
  give(segmenter, 0, 14);
  give(segmenter, 1, 40);
  assert_int_equal(give(segmenter, 0, 100), SEGMENT_FINAL | SEGMENT_ENDED);
}

static void test_words_are_spread_over_the_voice(void **state)
{
  struct segmenter segmenter;
  struct vc_utterance *utterance = NULL;
  hear_two_voices(&segmenter);
  const struct heard heard = {&segmenter, &segmenter.done, "en", 1};
  set_text("  First one,  then another \n");
  assert_int_equal(heard_utterance(&heard, &words, &utterance), 0);
  assert_string_equal(utterance->text, "First one,  then another");
  assert_string_equal(utterance->language, "en");
  assert_int_equal(utterance->n_words, 4);
  assert_true(utterance->is_approximate && utterance->is_final && isnan(utterance->confidence));
  double last = utterance->start_s;
  for (size_t i = 0; i < 4; i++) {
    const struct vc_word *word = &utterance->words[i];
    assert_true(word->start_s >= last && word->end_s > word->start_s);
    // None is put wholly into the pause between the voices (1.95 s to 2.40 s, less the 0.1 s).
    assert_false(word->start_s > 1.87 && word->end_s < 2.28);
    last = word->end_s;
  }
  assert_true(last <= utterance->end_s + 1e-9);
  assert_string_equal(utterance->words[3].text, "another");
  vc_utterance_destroy(&utterance);
}

static void test_known_times_are_kept(void **state)
{
  struct segmenter segmenter;
  struct vc_utterance *utterance = NULL;
  hear_two_voices(&segmenter);
  const struct heard heard = {&segmenter, &segmenter.done, "en", 0};
  set_text("one two");
  words.n_words = 2;
  words.words[0] = (struct engine_word){0, 3, 0.5f, 0.75f, 0.25f};
  words.words[1] = (struct engine_word){4, 3, 1.0f, 99.0f, NAN};
  assert_int_equal(heard_utterance(&heard, &words, &utterance), 0);
  double begin = (double)segmenter.done.begin / S;
  assert_int_equal(utterance->n_words, 2);
  assert_false(utterance->is_approximate || utterance->is_final);
  assert_string_equal(utterance->words[0].text, "one");
  assert_true(fabs(utterance->words[0].start_s - (begin + 0.5)) < 1e-6);
  assert_true(fabs(utterance->words[0].confidence - 0.25) < 1e-6);
  assert_true(utterance->words[1].end_s <= (double)segmenter.done.end / S + 1e-9);
  vc_utterance_destroy(&utterance);
}

static void test_nothing_heard(void **state)
{
  struct segmenter segmenter;
  struct vc_utterance *utterance = NULL;
  hear_two_voices(&segmenter);
  const struct heard heard = {&segmenter, &segmenter.done, "en", 1};
  set_text(" \n ");
  assert_int_equal(heard_utterance(&heard, &words, &utterance), 1);
  set_text("");
  assert_int_equal(heard_utterance(&heard, &words, &utterance), 1);
  assert_null(utterance);
}

static int free_words(void **state)
{
  vc_text_fini(&words.text);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_silence_decides_nothing),
      cmocka_unit_test(test_a_voice_is_one_segment),
      cmocka_unit_test(test_a_pause_does_not_end_it),
      cmocka_unit_test(test_pre_roll_takes_nothing_twice),
      cmocka_unit_test(test_the_longest_is_cut_where_it_is_quietest),
      cmocka_unit_test(test_what_is_cut_off_has_a_context),
      cmocka_unit_test(test_a_context_that_gets_too_long_is_let_go),
      cmocka_unit_test(test_the_end_of_a_cut_word_is_not_looked_at),
      cmocka_unit_test(test_a_pause_is_quieter_than_a_closed_mouth),
      cmocka_unit_test(test_looks_become_rarer),
      cmocka_unit_test(test_finish_closes),
      cmocka_unit_test(test_random_voices),
      cmocka_unit_test(test_words_are_spread_over_the_voice),
      cmocka_unit_test(test_known_times_are_kept),
      cmocka_unit_test(test_nothing_heard),
  };
  return cmocka_run_group_tests_name("sttd/segmenter", tests, NULL, free_words);
}
