// What publishers play: raw PCM, and ADTS (ISO/IEC 14496-3, annex 1.A): what `ffmpeg -f adts`
// writes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define HEADER_SIZE 7
#define HEADER_SIZE_WITH_CRC 9
#define AAC_FRAME_SAMPLES 1024
#define PCM_RATE_HZ 48000
#define PCM_SAMPLE_BYTES 4 // of both channels

static const uint32_t rates_hz[] = {96000, 88200, 64000, 48000, 44100, 32000, 24000,
                                    22050, 16000, 12000, 11025, 8000,  7350};

static size_t read_file(const char *path, uint8_t **bytes)
{
  FILE *file = fopen(path, "rb");
  size_t n = 0, capacity = 0;
  if (file == NULL) {
    die("cannot open %s", path);
  }
  *bytes = NULL;
  do {
    if (n == capacity) {
      capacity = capacity > 0 ? capacity * 2 : 65536;
      *bytes = grow(*bytes, capacity, 1);
    }
    n += fread(*bytes + n, 1, capacity - n, file);
  } while (n == capacity);
  fclose(file);
  return n;
}

static void read_config(struct sound *sound, const uint8_t *header)
{
  uint8_t profile = header[2] >> 6, rate = header[2] >> 2 & 0xf;
  uint8_t channels = (uint8_t)((header[2] & 1) << 2 | header[3] >> 6);
  if (rate >= sizeof rates_hz / sizeof *rates_hz) {
    die("the audio's ADTS header names sample rate %u", rate);
  }
  sound->sample_rate_hz = rates_hz[rate];
  sound->config[0] = (uint8_t)((profile + 1) << 3 | rate >> 1);
  sound->config[1] = (uint8_t)((rate & 1) << 7 | channels << 3);
}

static void add_frame(struct sound *sound, size_t *capacity, const uint8_t *at, size_t size)
{
  if (sound->n_frames == *capacity) {
    *capacity = *capacity > 0 ? *capacity * 2 : 1024;
    sound->frames = grow(sound->frames, *capacity, sizeof *sound->frames);
  }
  sound->frames[sound->n_frames++] = (struct sound_frame){at, size};
}

void sound_read_pcm(struct sound *sound, const char *path)
{
  size_t n = read_file(path, &sound->bytes), capacity = 0;
  sound->sample_rate_hz = PCM_RATE_HZ;
  sound->frame_samples = PCM_RATE_HZ / 100;
  size_t size = (size_t)sound->frame_samples * PCM_SAMPLE_BYTES;
  for (size_t at = 0; at + size <= n; at += size) {
    add_frame(sound, &capacity, sound->bytes + at, size);
  }
  if (sound->n_frames == 0) {
    die("%s holds no audio", path);
  }
}

void sound_read_adts(struct sound *sound, const char *path)
{
  size_t n = read_file(path, &sound->bytes), capacity = 0;
  sound->frame_samples = sound->delay_samples = AAC_FRAME_SAMPLES;
  for (size_t at = 0; at + HEADER_SIZE <= n;) {
    const uint8_t *header = sound->bytes + at;
    size_t size = (size_t)(header[3] & 3) << 11 | (size_t)header[4] << 3 | header[5] >> 5;
    size_t header_size = (header[1] & 1) != 0 ? HEADER_SIZE : HEADER_SIZE_WITH_CRC;
    if (header[0] != 0xff || (header[1] & 0xf6) != 0xf0 || size <= header_size || size > n - at) {
      die("%s is no ADTS file: byte %zu", path, at);
    }
    if (sound->n_frames == 0) {
      read_config(sound, header);
    }
    add_frame(sound, &capacity, header + header_size, size - header_size);
    at += size;
  }
  if (sound->n_frames == 0) {
    die("%s holds no audio", path);
  }
}

void sound_fini(struct sound *sound)
{
  free(sound->frames);
  free(sound->bytes);
  *sound = (struct sound){0};
}
