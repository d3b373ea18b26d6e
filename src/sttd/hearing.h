// What a speech engine makes of one segment: with the sound before a cut where that helps, again
// where the model went round in circles. Thread: one at a time; each recogniser has its own.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <verbacast/base/metrics.h>

#include "engine.h"
#include "segmenter.h"

struct hearing {
  struct vc_slots *slots; // borrowed; vc_sttd_pool_metrics
  /* what was heard last: the reader's until the next call */
  struct engine_words words;
  /* its own */
  float *samples; // of a segment and its context; grows to the longest
  size_t samples_size;
};

struct hearing_sound {
  struct ear *ear;
  const int16_t *ring; // a sample stands at its position modulo the size
  uint32_t ring_size;  // a power of two
  const struct segment *segment;
  const char *told; // of the segment that this one was cut off from; NULL: unknown
  int is_final;     // worth a context and a second try
};

// What cannot be heard (no memory, the engine fails) is counted and leaves no words.
void hearing_hear(struct hearing *hearing, const struct hearing_sound *sound);
int hearing_has_words(const struct hearing *hearing);
void hearing_fini(struct hearing *hearing);
