// Sound for the tests: a tone, encoded frame by frame with libavcodec, and what a tone is known by.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SOUND_FRAMES_MAX 512
#define SOUND_CONFIG_MAX 64

struct sound_wish {
  const char *encoder; // as libavcodec names it: "aac", "libmp3lame", "libopus"
  int rate_hz, channels;
  double tone_hz;
  int n_frames;
  int is_left_only; // the other channels are silent
};

struct sound {
  int rate_hz;
  int frame_samples; // at rate_hz
  uint8_t config[SOUND_CONFIG_MAX];
  size_t config_size; // 0: the codec has none
  int n_frames;
  struct sound_frame {
    uint8_t *bytes;
    size_t size;
  } frames[SOUND_FRAMES_MAX];
};

void sound_encode(struct sound *sound, const struct sound_wish *wish);
void sound_fini(struct sound *sound);
// When the frame begins, on the clock of a publisher that began with the first one.
uint32_t sound_timestamp_ms(const struct sound *sound, int frame);

// The part of the samples' energy that is a tone of `hz`: 1 a pure tone, 0 nothing of it.
double sound_tone_share(const int16_t *samples, size_t n, double hz);
double sound_level(const int16_t *samples, size_t n); // root mean square
