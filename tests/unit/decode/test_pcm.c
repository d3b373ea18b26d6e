// Raw PCM: what it becomes, and its clock, which only the arrivals tell.
#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MS 16 // samples

static void start(struct rig *rig)
{
  rig_start(rig, 25);
  rig_say(rig, 0, VC_TURN_OPEN);
}

static int set_up(void **state)
{
  static struct rig rig;
  start(&rig);
  *state = &rig;
  return 0;
}

static int tear_down(void **state)
{
  rig_stop(*state);
  return 0;
}

// In packets of 20 ms, each when its last sample was spoken, as 16 kHz mono: no sample is missing.
static void speak(struct rig *rig, uint32_t ms)
{
  for (uint32_t i = 0; i < ms / 20; i++) {
    rig_pass_ms(rig, 20);
    rig_send_pcm(rig, 0, 16000, 1, 20);
  }
}

// The same, all at once.
static void burst(struct rig *rig, uint32_t ms)
{
  for (uint32_t i = 0; i < ms / 20; i++) {
    rig_send_pcm(rig, 0, 16000, 1, 20);
  }
}

static void expect_position_ms(struct rig *rig, uint64_t ms)
{
  rig_pass_ms(rig, 50); // what is short goes out too
  assert_int_equal(rig->heard[0].position, ms * MS);
}

static void test_becomes_mono_of_16_khz(void **state)
{
  static const struct {
    uint32_t rate_hz, channels;
  } rows[] = {{48000, 2}, {48000, 1}, {44100, 2}, {16000, 1}, {8000, 1}, {96000, 8}, {22050, 6}};
  (void)state;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct rig rig;
    start(&rig);
    for (int j = 0; j < 100; j++) {
      rig_pass_ms(&rig, 20);
      rig_send_pcm(&rig, 0, rows[i].rate_hz, rows[i].channels, 20);
    }
    rig_say(&rig, 0, VC_TURN_CLOSE);
    assert_in_range(rig.heard[0].n_samples, 2000 * MS - 2 * MS, 2000 * MS + 2 * MS);
    assert_true(sound_level(rig.heard[0].samples + 1000 * MS, 100 * MS) > 1000);
    assert_int_equal(rig.heard[0].n_jumps, 0);
    assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 0);
    assert_int_equal(rig_counter(&rig, "decode.corrupt_frames_total"), 0);
    rig_stop(&rig);
  }
}

// A voice may be in any of them: they have no places in a room.
static void test_hears_each_channel_alike(void **state)
{
  (void)state;
  for (uint32_t n = 1; n <= VC_TRACK_CHANNELS_MAX; n++) {
    for (uint32_t channel = 0; channel < n; channel++) {
      struct rig rig;
      start(&rig);
      for (int i = 0; i < 50; i++) {
        rig_pass_ms(&rig, 20);
        rig_send_pcm_of(&rig, 0, 48000, n, channel, 20);
      }
      rig_say(&rig, 0, VC_TURN_CLOSE);
      double level = sound_level(rig.heard[0].samples + 500 * MS, 100 * MS) * n;
      assert_true(level > 5600 && level < 5700);
      rig_stop(&rig);
    }
  }
}

static void test_may_change_its_shape(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_say(rig, 0, VC_TURN_LOST);
  rig_say(rig, 0, VC_TURN_BACK);
  for (int i = 0; i < 50; i++) {
    rig_pass_ms(rig, 20);
    rig_send_pcm(rig, 0, 48000, 2, 20);
  }
  rig_say(rig, 0, VC_TURN_CLOSE);
  assert_in_range(rig->heard[0].position, 2000 * MS - MS, 2000 * MS + MS);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 0);
}

static void test_counts_samples_whatever_the_jitter(void **state)
{
  struct rig *rig = *state;
  for (int i = 0; i < 100; i++) { // 200 ms nothing, then ten at once
    rig_pass_ms(rig, 200);
    burst(rig, 200);
  }
  expect_position_ms(rig, 20000);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 0);
}

// The network stood still for three seconds: nothing was left out.
static void test_a_burst_fills_its_hole(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_pass_ms(rig, 3000);
  burst(rig, 3000);
  assert_int_equal(rig->heard[0].position, 4000 * MS); // nothing more is waited for
  speak(rig, 1000);
  expect_position_ms(rig, 5000);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 0);
  assert_int_equal(rig->heard[0].n_jumps, 0);
}

static void test_a_hole_becomes_silence(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_pass_ms(rig, 1500);
  speak(rig, 200);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 0); // it may yet catch up
  speak(rig, 800);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 1500);
  expect_position_ms(rig, 3500);
  assert_int_equal(rig->heard[0].n_jumps, 0);
  assert_true(sound_level(rig->heard[0].samples + 1000 * MS, 1500 * MS) == 0);
  assert_true(sound_level(rig->heard[0].samples + 2500 * MS, 1000 * MS) > 1000);
}

// A part of it was only late.
static void test_a_burst_fills_a_part_of_its_hole(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_pass_ms(rig, 1500);
  burst(rig, 1000);
  speak(rig, 1000);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 500);
  expect_position_ms(rig, 3500);
}

// What comes after the silence was given is not thrown away; the next hole is shorter.
static void test_what_runs_ahead_is_made_good(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_pass_ms(rig, 1500);
  speak(rig, 500);
  burst(rig, 1500);              // too late
  expect_position_ms(rig, 4500); // of 3000
  rig_pass_ms(rig, 4950);
  speak(rig, 1000);
  expect_position_ms(rig, 9000);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 1500 + 3500 - 1500);
}

static void test_a_long_hole_is_jumped_over(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_pass_ms(rig, 3600000);
  speak(rig, 1000);
  expect_position_ms(rig, 3602000);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 2000);
  assert_int_equal(rig->heard[0].n_jumps, 1);
  assert_int_equal(rig->heard[0].n_jumped, 3598000 * MS);
}

static void test_a_mute_is_silence_as_time_goes_by(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_say(rig, 0, VC_TURN_MUTED);
  rig_pass_ms(rig, 600);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 600);
  rig_pass_ms(rig, 9400);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 2000);
  assert_int_equal(rig->heard[0].position, 3000 * MS);
  speak(rig, 1000);
  expect_position_ms(rig, 12000);
}

// As LiveKit sends them while somebody is muted.
static void send_zeros(struct rig *rig, uint32_t ms)
{
  rig_send_pcm_of(rig, 0, 16000, 1, RIG_NO_CHANNEL, ms);
}

static void test_zeros_are_a_part_of_a_mute(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_say(rig, 0, VC_TURN_MUTED);
  for (int i = 0; i < 20; i++) {
    rig_pass_ms(rig, 20);
    send_zeros(rig, 20);
  }
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 0); // nothing is missing
  assert_int_equal(rig->heard[0].position, 1400 * MS);
  rig_pass_ms(rig, 600);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 600);
  rig_pass_ms(rig, 9000);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 1600);
  assert_int_equal(rig->heard[0].position, 3000 * MS);
  speak(rig, 1000);
  expect_position_ms(rig, 12000);
}

// All of the silence that a mute asks for comes by itself; then one that is told again asks anew.
static void test_zeros_may_be_all_of_a_mute(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_say(rig, 0, VC_TURN_MUTED);
  for (int i = 0; i < 100; i++) {
    rig_pass_ms(rig, 20);
    send_zeros(rig, 20);
  }
  rig_pass_ms(rig, 1000);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 0);
  rig_say(rig, 0, VC_TURN_MUTED);
  rig_pass_ms(rig, 9000);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 2000);
  assert_int_equal(rig->heard[0].position, 5000 * MS);
}

// It was silent for long without a word, then says so and goes on with zeros, or stops again while
// they are held back: the hole is all of the silence.
static void check_zeros_of_a_mute_after_a_hole(int n_pieces)
{
  struct rig rig;
  start(&rig);
  rig_say(&rig, 1, VC_TURN_OPEN);
  speak(&rig, 1000);
  rig_pass_ms(&rig, 60000);
  rig_say(&rig, 0, VC_TURN_MUTED);
  for (int i = 0; i < n_pieces; i++) {
    rig_pass_ms(&rig, 20);
    send_zeros(&rig, 20);
  }
  rig_pass_ms(&rig, 130);
  rig_send_pcm(&rig, 1, 16000, 1, 20);
  rig_say(&rig, 1, VC_TURN_MUTED); // another one, for whom the worker turns before that is settled
  rig_pass_ms(&rig, 2870);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 2000 + 2000);
  assert_int_equal(rig.heard[0].position, (uint64_t)(61000 + 20 * n_pieces) * MS);
  speak(&rig, 1000);
  expect_position_ms(&rig, 65000 + 20 * (uint64_t)n_pieces);
  rig_stop(&rig);
}

static void test_zeros_of_a_mute_after_a_hole(void **state)
{
  (void)state;
  check_zeros_of_a_mute_after_a_hole(1);
  check_zeros_of_a_mute_after_a_hole(50);
}

static void test_a_short_mute_takes_no_time(void **state)
{
  struct rig *rig = *state;
  rig_say(rig, 0, VC_TURN_MUTED); // before anything was said it means nothing
  rig_pass_ms(rig, 500);
  rig_say(rig, 0, VC_TURN_MUTED);
  speak(rig, 1000);
  rig_say(rig, 0, VC_TURN_MUTED);
  rig_pass_ms(rig, 460);
  speak(rig, 1000); // it goes on at once: there is no hole to wait for
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 400);
  rig_pass_ms(rig, 40);
  assert_int_equal(rig->heard[0].position, 2400 * MS);
}

// Ten seconds came too early; whoever waits for the last words of them does not wait for those.
static void test_a_mute_of_one_that_is_early(void **state)
{
  struct rig *rig = *state;
  burst(rig, 10000);
  rig_say(rig, 0, VC_TURN_MUTED);
  rig_pass_ms(rig, 600);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 600);
  rig_pass_ms(rig, 19400);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), 2000);
  speak(rig, 1000);
  expect_position_ms(rig, 21020); // the mute made it good
}

// It is muted while it is not known yet how long the hole was: first what was said.
static void test_a_mute_after_a_hole(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_pass_ms(rig, 1000);
  speak(rig, 100);
  rig_say(rig, 0, VC_TURN_MUTED);
  assert_int_equal(rig->heard[0].position, 2100 * MS);
  rig_pass_ms(rig, 500);
  assert_int_equal(rig->heard[0].position, 2600 * MS);
  assert_true(sound_level(rig->heard[0].samples + 2000 * MS, 100 * MS) > 1000);
}

// The end comes while it is not known yet how long the hole was.
static void test_what_is_held_back_is_not_lost(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_pass_ms(rig, 1000);
  speak(rig, 100);
  assert_int_equal(rig->heard[0].position, 1000 * MS);
  rig_say(rig, 0, VC_TURN_CLOSE);
  assert_int_equal(rig->heard[0].position, 2100 * MS);
  assert_int_equal(rig->heard[0].story[rig->heard[0].n_story - 1], 'C');
}

// A second is missing, and packets come as if they followed each other.
static void miss_a_second(struct rig *rig)
{
  speak(rig, 1000);
  for (int i = 0; i < 6; i++) {
    rig_pass_ms(rig, 190);
    rig_send_pcm(rig, 0, 16000, 1, 20);
  }
}

static void test_a_return_is_looked_at(void **state)
{
  struct rig *rig = *state;
  miss_a_second(rig);
  rig_say(rig, 0, VC_TURN_BACK); // another one took over
  speak(rig, 1000);
  expect_position_ms(rig, 3140);
}

// The lane was full, and the oldest sound gave way.
static void test_what_was_dropped_is_looked_at(void **state)
{
  struct rig *rig = *state;
  miss_a_second(rig);
  rig->is_discontinuity = 1;
  speak(rig, 1000);
  expect_position_ms(rig, 3140);
}

// What is held back is bounded by its length too, not only by time.
static void test_a_flood_is_not_held_back(void **state)
{
  struct rig *rig = *state;
  speak(rig, 1000);
  rig_pass_ms(rig, 60000);
  for (int i = 0; i < 11; i++) {
    rig_send_pcm(rig, 0, 16000, 1, 1000);
  }
  assert_int_equal(rig->heard[0].position, (uint64_t)62000 * MS);
}

// It is lost while its sound is held back: what another one waits for is not forgotten.
static void test_a_lost_one_keeps_nobody_waiting(void **state)
{
  struct rig *rig = *state;
  rig_say(rig, 1, VC_TURN_OPEN);
  rig_pass_ms(rig, 20);
  rig_send_pcm(rig, 1, 16000, 1, 20);
  rig_pass_ms(rig, 1000);
  speak(rig, 1000);
  rig_say(rig, 0, VC_TURN_MUTED);
  rig_send_pcm(rig, 1, 16000, 1, 20); // after a pause
  rig_say(rig, 1, VC_TURN_LOST);
  uint64_t silence_ms = rig_counter(rig, "decode.silence_ms_total");
  rig_pass_ms(rig, 600);
  assert_int_equal(rig_counter(rig, "decode.silence_ms_total"), silence_ms + 600);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_becomes_mono_of_16_khz),
      cmocka_unit_test(test_hears_each_channel_alike),
      TEST(test_may_change_its_shape),
      TEST(test_counts_samples_whatever_the_jitter),
      TEST(test_a_burst_fills_its_hole),
      TEST(test_a_hole_becomes_silence),
      TEST(test_a_burst_fills_a_part_of_its_hole),
      TEST(test_what_runs_ahead_is_made_good),
      TEST(test_a_long_hole_is_jumped_over),
      TEST(test_a_mute_is_silence_as_time_goes_by),
      TEST(test_zeros_are_a_part_of_a_mute),
      TEST(test_zeros_may_be_all_of_a_mute),
      cmocka_unit_test(test_zeros_of_a_mute_after_a_hole),
      TEST(test_a_short_mute_takes_no_time),
      TEST(test_a_mute_of_one_that_is_early),
      TEST(test_a_mute_after_a_hole),
      TEST(test_what_is_held_back_is_not_lost),
      TEST(test_a_return_is_looked_at),
      TEST(test_what_was_dropped_is_looked_at),
      TEST(test_a_flood_is_not_held_back),
      TEST(test_a_lost_one_keeps_nobody_waiting),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
