#include "trail.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void stt_trail_begin(struct trail *trail, uint64_t sent_to)
{
  trail->n_spans = 0;
  trail->end = 0;
  trail->sent = sent_to;
  trail->n_frames = 0;
  trail->acknowledged = 0;
  trail->n_lost = 0;
  trail->is_placed = 1; // at 0
}

void stt_trail_fini(struct trail *trail)
{
  free(trail->frames);
  *trail = (struct trail){0};
}

static void add(struct trail *trail, uint64_t audio, uint32_t n)
{
  const struct trail_span *last = trail->n_spans > 0 ? &trail->spans[trail->n_spans - 1] : NULL;
  if (last == NULL || last->audio + (trail->end - last->stream) != audio) {
    if (trail->n_spans == TRAIL_SPANS_MAX) {
      memmove(trail->spans, trail->spans + 1, (TRAIL_SPANS_MAX - 1) * sizeof *trail->spans);
      trail->n_spans--;
    }
    trail->spans[trail->n_spans++] = (struct trail_span){trail->end, audio, trail->sent};
  }
  trail->end += n;
  if (audio + n > trail->sent) {
    trail->sent = audio + n;
  }
}

// What was sent beyond `at` never came.
static void cut(struct trail *trail, uint64_t at)
{
  while (trail->n_spans > 0 && trail->spans[trail->n_spans - 1].stream >= at) {
    trail->n_spans--;
  }
  trail->end = at;
}

static struct trail_frame *frame_at(struct trail *trail, size_t i)
{
  assert(trail->capacity > 0);
  return &trail->frames[(trail->first + i) % trail->capacity];
}

void stt_trail_reconnect(struct trail *trail)
{
  if (!trail->is_placed && trail->n_frames > 0) {
    trail->lost_audio = frame_at(trail, 0)->audio;
    for (size_t i = 0; i < trail->n_frames; i++) {
      trail->n_lost += frame_at(trail, i)->n;
    }
  }
  trail->n_frames = 0;
  trail->is_placed = trail->end == 0; // nothing was ever sent
}

static void place(struct trail *trail, uint64_t begin)
{
  uint64_t at = begin > trail->n_lost ? begin - trail->n_lost : 0;
  at = at < trail->acknowledged ? trail->acknowledged : at;
  cut(trail, at < begin ? at : begin);
  if (at < begin) {
    add(trail, trail->lost_audio, (uint32_t)(begin - at));
  }
  trail->n_lost = 0;
  trail->is_placed = 1;
  for (size_t i = 0; i < trail->n_frames; i++) {
    const struct trail_frame *frame = frame_at(trail, i);
    add(trail, frame->audio, frame->n);
  }
}

int stt_trail_reserve(struct trail *trail)
{
  if (trail->n_frames < trail->capacity || trail->capacity == TRAIL_SENT_MAX) {
    return 0;
  }
  size_t capacity = trail->capacity == 0 ? 16 : trail->capacity * 2;
  struct trail_frame *frames = malloc(capacity * sizeof *frames);
  if (frames == NULL) {
    return -1;
  }
  for (size_t i = 0; i < trail->n_frames; i++) {
    frames[i] = *frame_at(trail, i);
  }
  free(trail->frames);
  trail->frames = frames;
  trail->capacity = capacity;
  trail->first = 0;
  return 0;
}

void stt_trail_sent(struct trail *trail, uint64_t audio, uint32_t n)
{
  if (trail->n_frames == TRAIL_SENT_MAX) {
    stt_trail_drop_oldest(trail);
  }
  trail->n_frames++;
  *frame_at(trail, trail->n_frames - 1) = (struct trail_frame){audio, n};
  if (trail->is_placed) {
    add(trail, audio, n);
  }
}

void stt_trail_drop_oldest(struct trail *trail)
{
  if (trail->n_frames > 0) {
    trail->first = (trail->first + 1) % trail->capacity;
    trail->n_frames--;
  }
}

// By order and length; a sample more or less is how one counts inclusive ends.
void stt_trail_acknowledge(struct trail *trail, uint64_t begin, uint64_t end)
{
  if (!trail->is_placed) {
    place(trail, begin);
  }
  trail->acknowledged = end;
  uint64_t n = end - begin;
  while (n > 0 && trail->n_frames > 0) {
    struct trail_frame *frame = frame_at(trail, 0);
    if (n + 1 < frame->n) {
      frame->audio += n;
      frame->n -= (uint32_t)n;
      return;
    }
    n = n > frame->n + UINT64_C(1) ? n - frame->n : 0;
    stt_trail_drop_oldest(trail);
  }
}

uint64_t stt_trail_unacknowledged(const struct trail *trail, uint64_t otherwise)
{
  uint64_t earliest = trail->n_frames > 0 ? trail->frames[trail->first].audio : otherwise;
  for (size_t i = 1; i < trail->n_frames; i++) {
    uint64_t audio = trail->frames[(trail->first + i) % trail->capacity].audio;
    earliest = audio < earliest ? audio : earliest;
  }
  return earliest;
}

double stt_trail_find(const struct trail *trail, double stream, double *sent_to)
{
  if (trail->n_spans == 0) {
    *sent_to = 0;
    return stream;
  }
  size_t i = trail->n_spans - 1;
  while (i > 0 && (double)trail->spans[i].stream > stream) {
    i--;
  }
  const struct trail_span *span = &trail->spans[i];
  double audio = (double)span->audio + (stream - (double)span->stream);
  *sent_to = (double)span->sent_to;
  return audio > 0 ? audio : 0;
}
