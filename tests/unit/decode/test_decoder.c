// One stream's decoder: whatever codec, rate and channels, 16 kHz mono comes out with the sound of
// what went in.
#include "decoder.h"
#include "sound.h"

#include <verbacast/base/clock.h>
#include <verbacast/flow/chunk.h>

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TONE_HZ 440.0
#define N_FRAMES 60
#define EDGE 3200       // samples at both ends where codecs swing in and out
#define FULL_LEVEL 5793 // of the tone that sound.c makes

struct decoded {
  struct decoder *decoder;
  struct pcm pcm;
};

static void decode_all(struct decoded *decoded, enum vc_codec codec, const struct sound *sound)
{
  *decoded = (struct decoded){.decoder = decoder_create()};
  assert_non_null(decoded->decoder);
  assert_int_equal(decoder_open(decoded->decoder, codec, sound->config, sound->config_size), 0);
  assert_true(decoder_is_open(decoded->decoder, codec));
  for (int i = 0; i < sound->n_frames; i++) {
    const struct sound_frame *frame = &sound->frames[i];
    assert_int_equal(decoder_decode(decoded->decoder, frame->bytes, frame->size, &decoded->pcm), 0);
  }
  assert_int_equal(decoder_flush(decoded->decoder, &decoded->pcm), 0);
}

static void fini(struct decoded *decoded)
{
  decoder_destroy(&decoded->decoder);
  pcm_fini(&decoded->pcm);
}

static void check_length(const struct pcm *pcm, double expected, double slack)
{
  if ((double)pcm->n < expected - slack || (double)pcm->n > expected + slack) {
    fail_msg("%zu samples, expected %.0f", pcm->n, expected);
  }
}

static void check_tone(const struct pcm *pcm, double level)
{
  assert_true(pcm->n > 2 * EDGE);
  const int16_t *middle = pcm->samples + EDGE;
  size_t n = pcm->n - 2 * EDGE;
  double share = sound_tone_share(middle, n, TONE_HZ);
  double seen = sound_level(middle, n);
  if (share < 0.98 || seen < level * 0.9 || seen > level * 1.1) {
    fail_msg("a tone of share %.3f and level %.0f, expected level %.0f", share, seen, level);
  }
}

static void check_sound(enum vc_codec codec, const struct sound_wish *wish)
{
  struct sound sound;
  struct decoded decoded;
  print_message("# %s %d Hz, %d channels\n", wish->encoder, wish->rate_hz, wish->channels);
  sound_encode(&sound, wish);
  decode_all(&decoded, codec, &sound);
  double frame = (double)sound.frame_samples * VC_SAMPLE_RATE_HZ / sound.rate_hz;
  check_length(&decoded.pcm, frame * sound.n_frames, frame + 1);
  check_tone(&decoded.pcm, wish->is_left_only ? FULL_LEVEL / 2.0 : FULL_LEVEL);
  uint64_t frame_ns = (uint64_t)sound.frame_samples * VC_NS_PER_S / (uint64_t)sound.rate_hz;
  assert_int_equal(decoder_frame_ns(decoded.decoder), frame_ns);
  fini(&decoded);
  sound_fini(&sound);
}

static void test_aac_of_any_rate(void **state)
{
  static const int rates_hz[] = {96000, 48000, 44100, 32000, 24000, 22050, 16000, 11025, 8000};
  for (size_t i = 0; i < sizeof rates_hz / sizeof *rates_hz; i++) {
    check_sound(VC_CODEC_AAC, &(struct sound_wish){"aac", rates_hz[i], 1, TONE_HZ, N_FRAMES, 0});
  }
}

static void test_aac_stereo(void **state)
{
  check_sound(VC_CODEC_AAC, &(struct sound_wish){"aac", 48000, 2, TONE_HZ, N_FRAMES, 0});
  check_sound(VC_CODEC_AAC, &(struct sound_wish){"aac", 44100, 2, TONE_HZ, N_FRAMES, 1});
}

// Its channels have places, and each its weight: the front left one is 0.71 of the center, as the
// right one, and those behind are 0.5; the bass is left out.
static void test_aac_of_five_and_a_bass(void **state)
{
  struct sound sound;
  struct decoded decoded;
  sound_encode(&sound, &(struct sound_wish){"aac", 48000, 6, TONE_HZ, N_FRAMES, 1});
  decode_all(&decoded, VC_CODEC_AAC, &sound);
  check_tone(&decoded.pcm, FULL_LEVEL * M_SQRT1_2 / (2 * M_SQRT1_2 + 1 + 2 * 0.5));
  fini(&decoded);
  sound_fini(&sound);
}

// The configuration announces SBR over a core of half the rate: every frame is twice as long as
// its core says.
static void test_aac_with_sbr_signalled(void **state)
{
  // AOT 5, 24 kHz, mono, extended to 48 kHz, AOT 2: the shape that encoders write at 32 kbit/s.
  static const uint8_t config[] = {0x2b, 0x09, 0x88, 0x00};
  struct sound sound;
  struct decoded decoded;
  sound_encode(&sound, &(struct sound_wish){"aac", 24000, 1, TONE_HZ, N_FRAMES, 0});
  memcpy(sound.config, config, sizeof config);
  sound.config_size = sizeof config;
  decode_all(&decoded, VC_CODEC_AAC, &sound);
  double frame = 1024.0 * VC_SAMPLE_RATE_HZ / 24000;
  check_length(&decoded.pcm, frame * N_FRAMES, frame + 1);
  check_tone(&decoded.pcm, FULL_LEVEL);
  assert_int_equal(decoder_frame_ns(decoded.decoder), 1024 * VC_NS_PER_S / 24000);
  fini(&decoded);
  sound_fini(&sound);
}

static void test_mp3(void **state)
{
  check_sound(VC_CODEC_MP3, &(struct sound_wish){"libmp3lame", 44100, 2, TONE_HZ, N_FRAMES, 0});
  check_sound(VC_CODEC_MP3, &(struct sound_wish){"libmp3lame", 48000, 1, TONE_HZ, N_FRAMES, 0});
  check_sound(VC_CODEC_MP3, &(struct sound_wish){"libmp3lame", 22050, 1, TONE_HZ, N_FRAMES, 0});
}

static void test_opus(void **state)
{
  check_sound(VC_CODEC_OPUS, &(struct sound_wish){"libopus", 48000, 1, TONE_HZ, N_FRAMES, 0});
  check_sound(VC_CODEC_OPUS, &(struct sound_wish){"libopus", 48000, 2, TONE_HZ, N_FRAMES, 0});
}

static void test_a_corrupt_frame_is_passed_over(void **state)
{
  struct sound sound;
  struct decoded decoded;
  uint8_t garbage[64];
  sound_encode(&sound, &(struct sound_wish){"aac", 48000, 1, TONE_HZ, N_FRAMES, 0});
  decode_all(&decoded, VC_CODEC_AAC, &sound);
  size_t before = decoded.pcm.n;
  memset(garbage, 0xff, sizeof garbage);
  assert_int_equal(decoder_decode(decoded.decoder, garbage, sizeof garbage, &decoded.pcm), 1);
  assert_int_equal(decoder_decode(decoded.decoder, garbage, 0, &decoded.pcm), 1);
  assert_int_equal(decoded.pcm.n, before);
  for (int i = 0; i < sound.n_frames; i++) {
    const struct sound_frame *frame = &sound.frames[i];
    assert_int_equal(decoder_decode(decoded.decoder, frame->bytes, frame->size, &decoded.pcm), 0);
  }
  assert_true(decoded.pcm.n > before * 3 / 2);
  fini(&decoded);
  sound_fini(&sound);
}

// A second flush, and sound after a flush: what follows a publisher's pause.
static void test_sound_goes_on_after_a_flush(void **state)
{
  struct sound sound;
  struct decoded decoded;
  sound_encode(&sound, &(struct sound_wish){"aac", 44100, 1, TONE_HZ, N_FRAMES, 0});
  decode_all(&decoded, VC_CODEC_AAC, &sound);
  size_t before = decoded.pcm.n;
  assert_int_equal(decoder_flush(decoded.decoder, &decoded.pcm), 0);
  assert_int_equal(decoded.pcm.n, before);
  for (int i = 0; i < sound.n_frames; i++) {
    const struct sound_frame *frame = &sound.frames[i];
    assert_int_equal(decoder_decode(decoded.decoder, frame->bytes, frame->size, &decoded.pcm), 0);
  }
  double share = sound_tone_share(decoded.pcm.samples + before + EDGE,
                                  decoded.pcm.n - before - 2 * EDGE, TONE_HZ);
  assert_true(share > 0.98);
  fini(&decoded);
  sound_fini(&sound);
}

static void test_what_is_no_config_is_refused(void **state)
{
  static const uint8_t no_rate[] = {0x17, 0x80, 0x00, 0x00, 0x08, 0x00}; // an explicit 1 Hz
  static const uint8_t no_type[] = {0x00, 0x00};
  uint8_t large[5000] = {0};
  struct decoder *decoder = decoder_create();
  assert_non_null(decoder);
  assert_int_equal(decoder_open(decoder, VC_CODEC_AAC, no_rate, sizeof no_rate), 1);
  assert_int_equal(decoder_open(decoder, VC_CODEC_AAC, no_type, sizeof no_type), 1);
  assert_int_equal(decoder_open(decoder, VC_CODEC_AAC, large, sizeof large), 1);
  assert_false(decoder_is_open(decoder, VC_CODEC_AAC));
  assert_int_equal(decoder_open(decoder, VC_CODEC_MP3, NULL, 0), 0);
  assert_true(decoder_is_open(decoder, VC_CODEC_MP3));
  assert_false(decoder_is_open(decoder, VC_CODEC_AAC));
  decoder_destroy(&decoder);
  assert_null(decoder);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_aac_of_any_rate),
      cmocka_unit_test(test_aac_stereo),
      cmocka_unit_test(test_aac_of_five_and_a_bass),
      cmocka_unit_test(test_aac_with_sbr_signalled),
      cmocka_unit_test(test_mp3),
      cmocka_unit_test(test_opus),
      cmocka_unit_test(test_a_corrupt_frame_is_passed_over),
      cmocka_unit_test(test_sound_goes_on_after_a_flush),
      cmocka_unit_test(test_what_is_no_config_is_refused),
  };
  decoder_route_log();
  return cmocka_run_group_tests(tests, NULL, NULL);
}
