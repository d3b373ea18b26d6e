#include "room.h"

#include <string.h>

#define PIECE 2048 // samples

// Half-way between two samples: a windowed sinc, eight taps, symmetric.
static const float taps[4] = {0.6105f, -0.1463f, 0.0392f, -0.0034f};

static int16_t half_way(const int16_t history[8])
{
  float sum = 0;
  for (int i = 0; i < 4; i++) {
    sum += taps[i] * (float)(history[3 - i] + history[4 + i]);
  }
  return (int16_t)(sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum);
}

static void double_rate(struct session *session, const int16_t *from, size_t n, int16_t *into)
{
  int16_t *history = session->history;
  for (size_t i = 0; i < n; i++) {
    memmove(history, history + 1, 7 * sizeof *history);
    history[7] = from[i];
    into[2 * i] = history[3];
    into[2 * i + 1] = half_way(history);
  }
}

static void feed_piece(struct session *session, const int16_t *samples, size_t n)
{
  if (session->request.sample_rate_hz == ENGINE_RATE_HZ) {
    stream_feed(session->stream, samples, n);
  } else {
    int16_t doubled[PIECE * 2];
    double_rate(session, samples, n, doubled);
    stream_feed(session->stream, doubled, n * 2);
  }
}

// Whole samples from bytes, with the odd byte of the message before. Returns: bytes used.
static size_t take_samples(struct session *session, const uint8_t *bytes, size_t size,
                           int16_t samples[PIECE], size_t n_wanted)
{
  uint8_t *into = (uint8_t *)samples;
  size_t n_odd = session->odd >= 0;
  size_t n = n_wanted * 2 - n_odd < size ? n_wanted * 2 - n_odd : size;
  if (n_odd) {
    into[0] = (uint8_t)session->odd;
  }
  memcpy(into + n_odd, bytes, n);
  session->odd = (n + n_odd) % 2 == 1 ? into[n + n_odd - 1] : -1;
  feed_piece(session, samples, (n + n_odd) / 2);
  return n;
}

size_t sound_feed(struct session *session, const uint8_t *bytes, size_t size)
{
  int16_t samples[PIECE];
  size_t factor = ENGINE_RATE_HZ / (size_t)session->request.sample_rate_hz;
  size_t room = stream_room(session->stream, (size / 2 + 1) * factor) / factor;
  size_t used = 0;
  while (used < size && room > 0) {
    size_t n_wanted = room < PIECE ? room : PIECE;
    used += take_samples(session, bytes + used, size - used, samples, n_wanted);
    room -= n_wanted;
  }
  session->n_bytes += used;
  room_count(session->room, AUDIO_BYTES, used);
  return used;
}
