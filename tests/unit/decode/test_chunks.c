// Chunks: all of the sound in pieces of one length, and a remainder that goes out short when
// nothing has come for a while. Time passes only as the worker asked to be woken.
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define PATIENCE_MS 96 // 1.5 frames of the exact sound

static struct sound exact;

static int make_sound(void **state)
{
  rig_exact_sound(&exact, 50);
  return 0;
}

static int free_sound(void **state)
{
  sound_fini(&exact);
  return 0;
}

static void test_sound_comes_in_chunks_of_50_ms(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 50, 7000);
  const struct heard *heard = &rig.heard[0];
  assert_int_equal(rig_count(&rig, 0, 'D'), 50 * RIG_FRAME / RIG_CHUNK);
  assert_int_equal(heard->n_story, 1 + 50 * RIG_FRAME / RIG_CHUNK);
  assert_int_equal(heard->position, 50 * RIG_FRAME);
  assert_int_equal(heard->n_jumps, 0);
  assert_true(sound_tone_share(heard->samples + RIG_FRAME, heard->n_samples - RIG_FRAME, 440) >
              0.98);
  assert_int_equal(rig_counter(&rig, "decode.frames_total"), 50);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 0);
  rig_say(&rig, 0, VC_TURN_CLOSE);
  assert_int_equal(heard->story[heard->n_story - 1], 'C');
  rig_stop(&rig);
}

// A rate that needs the resampler: nothing is lost or doubled on the way.
static void test_resampled_sound_keeps_its_length(void **state)
{
  struct rig rig;
  struct sound sound;
  sound_encode(&sound, &(struct sound_wish){"aac", 44100, 2, 440, 100, 0});
  rig_start(&rig, 25);
  rig_open(&rig, 0, &sound);
  rig_play(&rig, 0, VC_CODEC_AAC, &sound, 0, 100, 0);
  assert_int_equal(rig_count(&rig, 0, 's'), 0);
  rig_say(&rig, 0, VC_TURN_CLOSE);
  uint64_t expected = UINT64_C(100) * 1024 * 16000 / 44100;
  assert_in_range(rig.heard[0].position, expected - 2, expected + 2);
  assert_int_equal(rig.heard[0].n_jumps, 0);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 0);
  rig_stop(&rig);
  sound_fini(&sound);
}

static void test_a_remainder_goes_out_short(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[0], 0);
  assert_string_equal(rig.heard[0].story, "OD");
  rig_pass_ms(&rig, PATIENCE_MS - 1);
  assert_string_equal(rig.heard[0].story, "OD");
  rig_pass_ms(&rig, 1);
  assert_string_equal(rig.heard[0].story, "ODs");
  assert_int_equal(rig.heard[0].position, RIG_FRAME);
  rig_pass_ms(&rig, 5000);
  assert_string_equal(rig.heard[0].story, "ODs");
  rig_stop(&rig);
}

static void test_a_longer_flush_interval_rules(void **state)
{
  struct rig rig;
  rig_start(&rig, 200);
  rig_open(&rig, 0, &exact);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[0], 0);
  rig_pass_ms(&rig, 199);
  assert_string_equal(rig.heard[0].story, "OD");
  rig_pass_ms(&rig, 1);
  assert_string_equal(rig.heard[0].story, "ODs");
  rig_stop(&rig);
}

// The worker had asked to be woken for the remainder as it was before it grew.
static void test_a_remainder_that_grew_waits_anew(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[0], 0);
  rig_pass_ms(&rig, 64);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[1], 64);
  assert_string_equal(rig.heard[0].story, "ODD");
  rig_pass_ms(&rig, PATIENCE_MS - 1);
  assert_string_equal(rig.heard[0].story, "ODD");
  rig_pass_ms(&rig, 1);
  assert_string_equal(rig.heard[0].story, "ODDs");
  assert_int_equal(rig.heard[0].position, 2 * RIG_FRAME);
  rig_stop(&rig);
}

static void test_each_remainder_has_its_own_patience(void **state)
{
  struct rig rig;
  struct sound fast; // 1.5 of its frames are 32 ms
  sound_encode(&fast, &(struct sound_wish){"aac", 48000, 1, 440, 4, 0});
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_open(&rig, 1, &fast);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[0], 0);
  rig_pass_ms(&rig, 1);
  rig_send(&rig, 1, VC_CODEC_AAC, &fast.frames[0], 0);
  rig_pass_ms(&rig, 31);
  assert_string_equal(rig.heard[1].story, "O");
  rig_pass_ms(&rig, 1);
  assert_string_equal(rig.heard[1].story, "Os");
  assert_string_equal(rig.heard[0].story, "OD");
  rig_pass_ms(&rig, PATIENCE_MS - 33);
  assert_string_equal(rig.heard[0].story, "ODs");
  rig_stop(&rig);
  sound_fini(&fast);
}

// Frames that yield nothing are no growth, and do not put a session behind those that grow.
static void test_corrupt_frames_do_not_hold_a_remainder(void **state)
{
  struct rig rig;
  uint8_t garbage[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  struct sound_frame corrupt = {garbage, sizeof garbage};
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_open(&rig, 1, &exact);
  rig_send(&rig, 1, VC_CODEC_AAC, &exact.frames[0], 0);
  for (int i = 0; i * 10 < PATIENCE_MS; i++) {
    rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[i], sound_timestamp_ms(&exact, i));
    rig_send(&rig, 1, VC_CODEC_AAC, &corrupt, 0);
    rig_pass_ms(&rig, 10);
  }
  assert_string_equal(rig.heard[1].story, "ODs");
  rig_stop(&rig);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_sound_comes_in_chunks_of_50_ms),
      cmocka_unit_test(test_resampled_sound_keeps_its_length),
      cmocka_unit_test(test_a_remainder_goes_out_short),
      cmocka_unit_test(test_a_longer_flush_interval_rules),
      cmocka_unit_test(test_a_remainder_that_grew_waits_anew),
      cmocka_unit_test(test_each_remainder_has_its_own_patience),
      cmocka_unit_test(test_corrupt_frames_do_not_hold_a_remainder),
  };
  return cmocka_run_group_tests(tests, make_sound, free_sound);
}
