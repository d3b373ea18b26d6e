// What goes wrong: frames that are none, configurations that change or are none, and a stt stage
// that does not take what it is given.
#include "rig.h"

#include <verbacast/base/log.h>

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "../ledger/hand_stage.h"

#define WAIT_MS (VC_DECODE_WAIT_MAX * 50)

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

static void send_corrupt(struct rig *rig, uint32_t timestamp_ms)
{
  uint8_t garbage[40];
  memset(garbage, 0xff, sizeof garbage);
  rig_send(rig, 0, VC_CODEC_AAC, &(struct sound_frame){garbage, sizeof garbage}, timestamp_ms);
}

static void test_a_corrupt_frame_is_passed_over_and_counted(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 10, 0);
  send_corrupt(&rig, 10 * RIG_FRAME_MS);
  rig_pass_ms(&rig, RIG_FRAME_MS);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 11, 36, 11 * RIG_FRAME_MS);
  assert_int_equal(rig_counter(&rig, "decode.corrupt_frames_total"), 1);
  assert_int_equal(rig_counter(&rig, "decode.frames_total"), 35);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 0);
  rig_say(&rig, 0, VC_TURN_CLOSE);
  assert_int_equal(rig.heard[0].position, 35 * RIG_FRAME);
  rig_stop(&rig);
}

// Frames in a row are a gap, whose time comes back as soon as it is more than jitter.
static void test_the_time_of_many_corrupt_frames_is_kept(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 10, 0);
  for (uint32_t i = 10; i < 20; i++) {
    send_corrupt(&rig, i * RIG_FRAME_MS);
    rig_pass_ms(&rig, RIG_FRAME_MS);
  }
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 20, 45, 20 * RIG_FRAME_MS);
  rig_say(&rig, 0, VC_TURN_CLOSE);
  assert_int_equal(rig_counter(&rig, "decode.corrupt_frames_total"), 10);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 10 * RIG_FRAME_MS);
  assert_int_equal(rig.heard[0].position, 45 * RIG_FRAME);
  rig_stop(&rig);
}

static void test_a_new_config_opens_the_decoder_anew(void **state)
{
  struct rig rig;
  struct sound other;
  sound_encode(&other, &(struct sound_wish){"aac", 48000, 2, 1000, 100, 0});
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 24, 0);
  rig_configure(&rig, 0, VC_CODEC_AAC, other.config, other.config_size);
  rig_play(&rig, 0, VC_CODEC_AAC, &other, 0, 100, 24 * RIG_FRAME_MS);
  rig_say(&rig, 0, VC_TURN_CLOSE);
  const struct heard *heard = &rig.heard[0];
  size_t turn = 24 * RIG_FRAME;
  assert_true(sound_tone_share(heard->samples + RIG_FRAME, turn - RIG_FRAME, 440) > 0.98);
  assert_true(sound_tone_share(heard->samples + turn + 3200, 25600, 1000) > 0.98);
  assert_in_range(heard->position, turn + 34132, turn + 34134);
  assert_int_equal(heard->n_jumps, 0);
  assert_int_equal(rig_counter(&rig, "decode.corrupt_frames_total"), 0);
  assert_int_equal(rig_counter(&rig, "decode.silence_ms_total"), 0);
  rig_stop(&rig);
  sound_fini(&other);
}

static void test_a_new_codec_opens_the_decoder_anew(void **state)
{
  struct rig rig;
  struct sound mp3;
  sound_encode(&mp3, &(struct sound_wish){"libmp3lame", 44100, 2, 1000, 50, 0});
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 25, 0);
  rig_play(&rig, 0, VC_CODEC_MP3, &mp3, 0, 50, 25 * RIG_FRAME_MS);
  rig_configure(&rig, 0, VC_CODEC_AAC, exact.config, exact.config_size);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 25, 50, 25 * RIG_FRAME_MS + 50 * 1152 * 10 / 441);
  const struct heard *heard = &rig.heard[0];
  assert_true(sound_tone_share(heard->samples + 25 * RIG_FRAME + 3200, 12800, 1000) > 0.98);
  assert_true(sound_tone_share(heard->samples + heard->n_samples - 16000, 16000, 440) > 0.98);
  assert_int_equal(rig_counter(&rig, "decode.corrupt_frames_total"), 0);
  assert_int_equal(rig_counter(&rig, "decode.undecodable_total"), 0);
  rig_stop(&rig);
  sound_fini(&mp3);
}

// Publishers repeat their configuration: that interrupts nothing.
static void test_the_same_config_again_changes_nothing(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  for (int i = 0; i < 50; i++) {
    rig_configure(&rig, 0, VC_CODEC_AAC, exact.config, exact.config_size);
    rig_play(&rig, 0, VC_CODEC_AAC, &exact, i, i + 1, sound_timestamp_ms(&exact, i));
  }
  const struct heard *heard = &rig.heard[0];
  assert_int_equal(rig_count(&rig, 0, 'D'), heard->n_story - 1);
  assert_true(sound_tone_share(heard->samples + RIG_FRAME, heard->n_samples - RIG_FRAME, 440) >
              0.98);
  rig_stop(&rig);
}

static void test_without_a_config_frames_are_counted(void **state)
{
  static const uint8_t bad[] = {0x00, 0x00};
  struct rig rig;
  rig_start(&rig, 25);
  rig_say(&rig, 0, VC_TURN_OPEN);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[0], 0);
  assert_int_equal(rig_counter(&rig, "decode.undecodable_total"), 1);
  rig_configure(&rig, 0, VC_CODEC_AAC, bad, sizeof bad);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[0], RIG_FRAME_MS);
  assert_int_equal(rig_counter(&rig, "decode.bad_configs_total"), 1);
  assert_int_equal(rig_counter(&rig, "decode.undecodable_total"), 2);
  assert_string_equal(rig.heard[0].story, "O");
  rig_configure(&rig, 0, VC_CODEC_AAC, exact.config, exact.config_size);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 25, 2 * RIG_FRAME_MS);
  assert_int_equal(rig_count(&rig, 0, 'D'), 25 * RIG_FRAME / RIG_CHUNK);
  rig_stop(&rig);
}

static void test_packets_of_no_session_are_nobodys(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_configure(&rig, 0, VC_CODEC_AAC, exact.config, exact.config_size);
  rig_send(&rig, 0, VC_CODEC_AAC, &exact.frames[0], 0);
  rig_say(&rig, 0, VC_TURN_CLOSE);
  assert_string_equal(rig.heard[0].story, "");
  assert_int_equal(rig_counter(&rig, "decode.sessions"), 0);
  rig_stop(&rig);
}

// --- a stt stage that is full

static void test_chunks_wait_in_order(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  hand_set_capacity(rig.stt, 0, 0);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 50, 0);
  assert_string_equal(rig.heard[0].story, "O");
  hand_set_capacity(rig.stt, 0, 3);
  rig_pass_ms(&rig, 2);
  assert_in_range(rig_count(&rig, 0, 'D'), 3, 6);
  rig_say(&rig, 0, VC_TURN_CLOSE);
  hand_set_capacity(rig.stt, 0, HAND_UNBOUNDED);
  rig_pass_ms(&rig, 2);
  const struct heard *heard = &rig.heard[0];
  assert_int_equal(rig_count(&rig, 0, 'D'), 50 * RIG_FRAME / RIG_CHUNK);
  assert_int_equal(heard->story[heard->n_story - 1], 'C');
  assert_int_equal(heard->n_jumps, 0);
  assert_int_equal(rig_counter(&rig, "decode.audio_dropped_ms_total"), 0);
  rig_stop(&rig);
}

// Four gaps of a minute, of which less can wait. The hole shows in the chunks' positions.
static void test_the_oldest_sound_is_dropped_and_no_turn(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  hand_set_capacity(rig.stt, 0, 0);
  uint32_t timestamp_ms = 0;
  for (int i = 0; i < 4; i++) {
    rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 25, timestamp_ms);
    rig_say(&rig, 0, VC_TURN_LOST);
    rig_say(&rig, 0, VC_TURN_BACK);
    timestamp_ms += 25 * RIG_FRAME_MS + VC_DECODE_SILENCE_MAX_S * 1000;
    rig_pass_ms(&rig, VC_DECODE_SILENCE_MAX_S * 1000);
  }
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 25, 50, timestamp_ms);
  rig_say(&rig, 0, VC_TURN_CLOSE);
  assert_int_equal(rig_counter(&rig, "decode.sessions"), 1);
  hand_set_capacity(rig.stt, 0, HAND_UNBOUNDED);
  rig_pass_ms(&rig, 2);
  const struct heard *heard = &rig.heard[0];
  uint64_t dropped_ms = rig_counter(&rig, "decode.audio_dropped_ms_total");
  assert_int_equal(heard->n_story, 1 + VC_DECODE_WAIT_MAX);
  assert_int_equal(heard->n_jumps, 1);
  assert_int_equal(heard->n_jumped, dropped_ms * 16);
  assert_int_equal(heard->position, (5 * 25 * RIG_FRAME_MS + 4 * 60000) * 16);
  assert_in_range(dropped_ms, 5 * 25 * RIG_FRAME_MS + 4 * 60000 - WAIT_MS,
                  5 * 25 * RIG_FRAME_MS + 4 * 60000 - WAIT_MS + 1000);
  assert_int_equal(rig_count(&rig, 0, 'L'), 4);
  assert_int_equal(rig_count(&rig, 0, 'B'), 4);
  assert_true(sound_level(heard->samples + heard->n_samples - RIG_FRAME, RIG_FRAME) > 1000);
  assert_int_equal(heard->story[heard->n_story - 1], 'C');
  assert_int_equal(rig_counter(&rig, "decode.sessions"), 0);
  rig_stop(&rig);
}

static void make_room(void *context)
{
  struct rig *rig = context;
  rig->now_ns += VC_NS_PER_MS;
  rig_hear(rig);
  hand_set_capacity(rig->stt, 0, 7);
}

static void test_what_waits_at_the_end_still_goes_out(void **state)
{
  struct rig rig;
  rig_start(&rig, 25);
  rig_open(&rig, 0, &exact);
  hand_set_capacity(rig.stt, 0, 0);
  rig_play(&rig, 0, VC_CODEC_AAC, &exact, 0, 50, 0);
  rig_say(&rig, 0, VC_TURN_CLOSE);
  assert_string_equal(rig.heard[0].story, "O");
  hand_before_turn = make_room;
  hand_context = &rig;
  assert_int_equal(vc_stage_stop(rig.decode, 1000), 0);
  hand_before_turn = NULL;
  rig_hear(&rig);
  assert_int_equal(rig_count(&rig, 0, 'D'), 50 * RIG_FRAME / RIG_CHUNK);
  assert_int_equal(rig_count(&rig, 0, 'C'), 1);
  rig_stop(&rig);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_corrupt_frame_is_passed_over_and_counted),
      cmocka_unit_test(test_the_time_of_many_corrupt_frames_is_kept),
      cmocka_unit_test(test_a_new_config_opens_the_decoder_anew),
      cmocka_unit_test(test_a_new_codec_opens_the_decoder_anew),
      cmocka_unit_test(test_the_same_config_again_changes_nothing),
      cmocka_unit_test(test_without_a_config_frames_are_counted),
      cmocka_unit_test(test_packets_of_no_session_are_nobodys),
      cmocka_unit_test(test_chunks_wait_in_order),
      cmocka_unit_test(test_the_oldest_sound_is_dropped_and_no_turn),
      cmocka_unit_test(test_what_waits_at_the_end_still_goes_out),
  };
  vc_log_level_set(VC_LOG_ERROR);
  return cmocka_run_group_tests(tests, make_sound, free_sound);
}
