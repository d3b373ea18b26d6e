#include <rtmp.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct sample {
  const char *bytes;
  size_t size;
  int status;
  enum rtmp_audio_kind kind;
  enum rtmp_audio_codec codec;
  uint32_t sample_rate_hz, channels;
  const char *data;
};
#define SAMPLE(bytes, ...)                                                                         \
  {                                                                                                \
    bytes, sizeof(bytes) - 1, __VA_ARGS__                                                          \
  }

// Each lies in memory of its exact size, so that a sanitizer sees every step beyond it.
static void check(const struct sample *samples, size_t n)
{
  for (size_t i = 0; i < n; i++) {
    const struct sample *sample = &samples[i];
    uint8_t *copy = malloc(sample->size);
    struct rtmp_audio_tag tag;
    assert_true(copy != NULL || sample->size == 0);
    if (sample->size > 0) {
      memcpy(copy, sample->bytes, sample->size);
    }
    assert_int_equal(rtmp_audio_parse(copy, sample->size, &tag), sample->status);
    if (sample->status == 0) {
      assert_int_equal(tag.kind, sample->kind);
      assert_int_equal(tag.codec, sample->codec);
      assert_int_equal(tag.sample_rate_hz, sample->sample_rate_hz);
      assert_int_equal(tag.channels, sample->channels);
    }
    if (sample->data != NULL) {
      assert_int_equal(tag.size, strlen(sample->data));
      assert_memory_equal(tag.data, sample->data, tag.size);
    }
    free(copy);
  }
}
#define CHECK(samples) check(samples, sizeof(samples) / sizeof *(samples))

static void test_aac(void **state)
{
  static const struct sample samples[] = {
      SAMPLE("\xaf\0\x12\x10", 0, RTMP_AUDIO_CONFIG, RTMP_CODEC_AAC, 44100, 2, "\x12\x10"),
      SAMPLE("\xaf\1frame", 0, RTMP_AUDIO_FRAME, RTMP_CODEC_AAC, 44100, 2, "frame"),
      SAMPLE("\xae\1frame", 0, RTMP_AUDIO_FRAME, RTMP_CODEC_AAC, 44100, 1, "frame"),
      SAMPLE("\xaf\0", 0, RTMP_AUDIO_IGNORED, RTMP_CODEC_AAC, 44100, 2, ""),
      SAMPLE("\xaf\1", 0, RTMP_AUDIO_IGNORED, RTMP_CODEC_AAC, 44100, 2, ""),
      SAMPLE("\xaf", -1),
  };
  CHECK(samples);
}

static void test_mp3(void **state)
{
  static const struct sample samples[] = {
      SAMPLE("\x2f\xff\xfb", 0, RTMP_AUDIO_FRAME, RTMP_CODEC_MP3, 44100, 2, "\xff\xfb"),
      SAMPLE("\x2a\xff", 0, RTMP_AUDIO_FRAME, RTMP_CODEC_MP3, 22050, 1, "\xff"),
      SAMPLE("\x26\xff", 0, RTMP_AUDIO_FRAME, RTMP_CODEC_MP3, 11025, 1, "\xff"),
      SAMPLE("\x22\xff", 0, RTMP_AUDIO_FRAME, RTMP_CODEC_MP3, 5512, 1, "\xff"),
      SAMPLE("\xe2\xff", 0, RTMP_AUDIO_FRAME, RTMP_CODEC_MP3, 8000, 1, "\xff"),
      SAMPLE("\x2f", 0, RTMP_AUDIO_IGNORED, RTMP_CODEC_MP3, 44100, 2, ""),
  };
  CHECK(samples);
}

static void test_enhanced(void **state)
{
  static const struct sample samples[] = {
      SAMPLE("\x90Opus\1\2", 0, RTMP_AUDIO_CONFIG, RTMP_CODEC_OPUS, 0, 0, "\1\2"),
      SAMPLE("\x91Opusframe", 0, RTMP_AUDIO_FRAME, RTMP_CODEC_OPUS, 0, 0, "frame"),
      SAMPLE("\x90mp4a\x12\x10", 0, RTMP_AUDIO_CONFIG, RTMP_CODEC_AAC, 0, 0, "\x12\x10"),
      SAMPLE("\x91mp4aframe", 0, RTMP_AUDIO_FRAME, RTMP_CODEC_AAC, 0, 0, "frame"),
      SAMPLE("\x91.mp3frame", 0, RTMP_AUDIO_FRAME, RTMP_CODEC_MP3, 0, 0, "frame"),
      SAMPLE("\x91"
             "fLaCframe",
             0, RTMP_AUDIO_IGNORED, RTMP_CODEC_OTHER, 0, 0, "frame"),
      SAMPLE("\x91opusframe", 0, RTMP_AUDIO_IGNORED, RTMP_CODEC_OTHER, 0, 0, "frame"),
      SAMPLE("\x92Opus", 0, RTMP_AUDIO_IGNORED, RTMP_CODEC_OPUS, 0, 0, ""),      // end of sequence
      SAMPLE("\x94Opusx", 0, RTMP_AUDIO_IGNORED, RTMP_CODEC_OPUS, 0, 0, "x"),    // channel config
      SAMPLE("\x95Opus\0x", 0, RTMP_AUDIO_IGNORED, RTMP_CODEC_OPUS, 0, 0),       // multitrack
      SAMPLE("\x95\1Opus\0x", 0, RTMP_AUDIO_IGNORED, RTMP_CODEC_OTHER, 0, 0),    // as OBS sends it
      SAMPLE("\x97\0\0\0\1Opus", 0, RTMP_AUDIO_IGNORED, RTMP_CODEC_OTHER, 0, 0), // modifiers
      SAMPLE("\x91Opus", 0, RTMP_AUDIO_IGNORED, RTMP_CODEC_OPUS, 0, 0, ""),
      SAMPLE("\x90Opus", 0, RTMP_AUDIO_IGNORED, RTMP_CODEC_OPUS, 0, 0, ""),
      SAMPLE("\x91Opu", -1),
      SAMPLE("\x90", -1),
  };
  CHECK(samples);
}

static void test_everything_else(void **state)
{
  struct rtmp_audio_tag tag;
  assert_int_equal(rtmp_audio_parse(NULL, 0, &tag), -1);
  for (unsigned first = 0; first < 256; first++) {
    uint8_t bytes[6] = {(uint8_t)first, 9, 9, 9, 9, 9};
    unsigned format = first >> 4;
    if (format == 2 || format == 9 || format == 10 || format == 14) {
      continue;
    }
    assert_int_equal(rtmp_audio_parse(bytes, sizeof bytes, &tag), 0);
    assert_int_equal(tag.kind, RTMP_AUDIO_IGNORED);
    assert_int_equal(tag.codec, RTMP_CODEC_OTHER);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_aac),
      cmocka_unit_test(test_mp3),
      cmocka_unit_test(test_enhanced),
      cmocka_unit_test(test_everything_else),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
