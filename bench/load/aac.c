// ADTS (ISO/IEC 14496-3, annex 1.A): what `ffmpeg -f adts` writes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define HEADER_SIZE 7
#define HEADER_SIZE_WITH_CRC 9

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

static void read_config(struct aac *aac, const uint8_t *header)
{
  uint8_t profile = header[2] >> 6, rate = header[2] >> 2 & 0xf;
  uint8_t channels = (uint8_t)((header[2] & 1) << 2 | header[3] >> 6);
  if (rate >= sizeof rates_hz / sizeof *rates_hz) {
    die("the audio's ADTS header names sample rate %u", rate);
  }
  aac->sample_rate_hz = rates_hz[rate];
  aac->config[0] = (uint8_t)((profile + 1) << 3 | rate >> 1);
  aac->config[1] = (uint8_t)((rate & 1) << 7 | channels << 3);
}

void aac_read(struct aac *aac, const char *path)
{
  size_t n = read_file(path, &aac->bytes), capacity = 0;
  for (size_t at = 0; at + HEADER_SIZE <= n;) {
    const uint8_t *header = aac->bytes + at;
    size_t size = (size_t)(header[3] & 3) << 11 | (size_t)header[4] << 3 | header[5] >> 5;
    size_t header_size = (header[1] & 1) != 0 ? HEADER_SIZE : HEADER_SIZE_WITH_CRC;
    if (header[0] != 0xff || (header[1] & 0xf6) != 0xf0 || size <= header_size || size > n - at) {
      die("%s is no ADTS file: byte %zu", path, at);
    }
    if (aac->n_frames == 0) {
      read_config(aac, header);
    }
    if (aac->n_frames == capacity) {
      capacity = capacity > 0 ? capacity * 2 : 1024;
      aac->frames = grow(aac->frames, capacity, sizeof *aac->frames);
    }
    aac->frames[aac->n_frames++] = (struct aac_frame){header + header_size, size - header_size};
    at += size;
  }
  if (aac->n_frames == 0) {
    die("%s holds no audio", path);
  }
}

void aac_fini(struct aac *aac)
{
  free(aac->frames);
  free(aac->bytes);
  *aac = (struct aac){0};
}
