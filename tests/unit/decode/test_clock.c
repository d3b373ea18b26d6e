// The audio clock: what a publisher's timestamps leave out becomes silence, so that times stay
// true, and what they make up does not.
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct sound exact;

static int make_sound(void **state)
{
  rig_exact_sound(&exact, 100);
  return 0;
}

static int free_sound(void **state)
{
  sound_fini(&exact);
  return 0;
}

static void test_a_gap_becomes_silence(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 25, 1000);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 25, 50, 1000 + 25 * RIG_FRAME_MS + 530);
  const struct heard *heard = &rig.heard[0];
  // Ten chunks of silence and the thirty milliseconds that are left.
  assert_non_null(strstr(heard->story, "DzzzzzzzzzzzD"));
  assert_int_equal(rig_count(&rig, 0, 'z'), 11);
  assert_int_equal(heard->position, 50 * RIG_FRAME + 530 * 16);
  assert_int_equal(heard->n_jumps, 0);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 530);
  assert_true(sound_level(heard->samples + 25 * RIG_FRAME, 530 * 16) == 0);
  assert_true(sound_level(heard->samples + 25 * RIG_FRAME + 530 * 16, RIG_FRAME) > 1000);
  rig_stop(&rig);
}

// What was gathered before the gap goes out before the silence.
static void test_the_remainder_comes_before_the_silence(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[0], 0);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[1], RIG_FRAME_MS + 150);
  assert_string_equal(rig.heard[0].story, "ODszzzD");
  assert_int_equal(rig.heard[0].n_jumps, 0);
  rig_stop(&rig);
}

static void test_jitter_is_no_gap(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  for (int i = 0; i < 50; i++) {
    uint32_t jitter_ms = i % 2 == 0 ? 0 : 100;
    rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[i], sound_timestamp_ms(&exact, i) + jitter_ms);
  }
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 0);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[50], sound_timestamp_ms(&exact, 50) + 101);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 101);
  rig_stop(&rig);
}

static void test_silence_is_bounded(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 5, 0);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 5, 10, 24 * 3600 * 1000);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), VC_DECODE_SILENCE_MAX_S * 1000);
  assert_int_equal(rig_count(&rig, 0, 'z'), VC_DECODE_SILENCE_MAX_S * 20);
  assert_int_equal(rig.heard[0].n_jumps, 0);
  rig_stop(&rig);
}

static void test_timestamps_may_wrap(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 50, UINT32_MAX - 20 * RIG_FRAME_MS);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 0);
  assert_int_equal(rig.heard[0].position, 50 * RIG_FRAME);
  rig_stop(&rig);
}

// Timestamps that go back add nothing; a gap is then measured from where they went on.
static void test_timestamps_may_go_back(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 25, 600000);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 25, 50, 0);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 0);
  assert_int_equal(rig.heard[0].position, 50 * RIG_FRAME);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 50, 75, 25 * RIG_FRAME_MS + 300);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 300);
  rig_stop(&rig);
}

// Plays, is lost for `away_ms`, comes back with the timestamp. Returns: the silence that was made.
static uint64_t silence_after_return(uint64_t away_ms, uint32_t timestamp_ms)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 10, 0);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[10], 10 * RIG_FRAME_MS);
  rig_say(&rig, 0, VC_TURN_LOST);
  assert_string_equal(rig.heard[0].story + rig.heard[0].n_story - 2, "sL");
  assert_int_equal(rig.heard[0].position, 11 * RIG_FRAME);
  rig_pass_ms(&rig, away_ms);
  rig_say(&rig, 0, VC_TURN_BACK);
  rig_configure(&rig, 0, VC_CODEC_AAC, exact.config, exact.config_size);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 11, 36, timestamp_ms);
  rig_say(&rig, 0, VC_TURN_CLOSE);
  uint64_t silence_ms = rig_counter(&rig, "decode.silence_ms_total");
  assert_int_equal(rig.heard[0].position, 36 * RIG_FRAME + silence_ms * 16);
  assert_non_null(strstr(rig.heard[0].story, "LBz"));
  assert_int_equal(rig.heard[0].n_jumps, 0);
  rig_stop(&rig);
  return silence_ms;
}

static void test_a_publisher_that_returns(void **state)
{
  // Its timestamps go on, and are more exact than the arrivals.
  assert_int_equal(silence_after_return(3000, 11 * RIG_FRAME_MS + 2900), 2900);
  // They begin anew, or are somebody else's: the clock says how long it was away.
  assert_int_equal(silence_after_return(3000, 0), 3000);
  assert_int_equal(silence_after_return(3000, 77000000), 3000);
  assert_int_equal(silence_after_return(3600 * 1000, 0), VC_DECODE_SILENCE_MAX_S * 1000);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_gap_becomes_silence),
      cmocka_unit_test(test_the_remainder_comes_before_the_silence),
      cmocka_unit_test(test_jitter_is_no_gap),
      cmocka_unit_test(test_silence_is_bounded),
      cmocka_unit_test(test_timestamps_may_wrap),
      cmocka_unit_test(test_timestamps_may_go_back),
      cmocka_unit_test(test_a_publisher_that_returns),
  };
  return cmocka_run_group_tests(tests, make_sound, free_sound);
}
