// Cuts a stream of windows (voice or not, how loud) into segments to be decoded, and says when a
// look at an open segment is worth its cost. Pure: positions in, decisions out; it never sees a
// sample. Positions are samples since the stream's begin.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "engine.h"

#define SEGMENT_FLAGS 1024 // windows remembered: 32.7 s, more than the longest segment

// What a step decided: bits.
enum segment_step {
  SEGMENT_STARTED = 1, // a voice began: segmenter.open
  SEGMENT_FINAL = 2,   // segmenter.done is to be decoded for good
  SEGMENT_ENDED = 4,   // the voice is over (after SEGMENT_FINAL)
};

struct segment {
  uint64_t id;                     // grows by one
  uint64_t begin, end;             // the samples to be decoded: [begin, end)
  uint64_t context;                // begin of the segment it was cut off from; else its own
  uint64_t voice_begin, voice_end; // where the voice is, within them
};

struct segmenter {
  /* set by init */
  uint64_t endpointing; // samples of silence that end a segment
  uint64_t longest;     // samples
  uint64_t context_max; // samples of a segment and the one before it
  /* the segmenter's, read by its user */
  uint64_t position; // end of the last window
  int is_open;
  struct segment open; // while is_open; its `end` is `position`
  struct segment done; // after SEGMENT_FINAL
  /* the segmenter's */
  uint64_t last_end; // of the segment before: nothing is decoded twice
  uint64_t looked;   // position of the last look at the open segment
  uint64_t voiced;   // end of the last window with a voice
  float energies[SEGMENT_FLAGS];
  uint8_t flags[SEGMENT_FLAGS]; // voice or not
};

// All are taken as they are: the caller keeps them within the engine's limits. What is cut off gets
// the segment before it as context while both are no longer than `context_max_s` (0: never).
void segmenter_init(struct segmenter *segmenter, double endpointing_s, double longest_s,
                    double context_max_s);
// One more window. Returns: bits of enum segment_step.
unsigned segmenter_step(struct segmenter *segmenter, int is_voice, float energy);
// The stream is over, `n_rest` samples (less than a window) after the last window.
unsigned segmenter_finish(struct segmenter *segmenter, uint64_t n_rest);

// Is a look at the open segment due? One who is behind looks more seldom; what was cut off is not
// looked at before it is long enough to be more than a guess.
enum segmenter_load { SEGMENTER_KEEPS_UP, SEGMENTER_IS_BEHIND };
int segmenter_wants_look(const struct segmenter *segmenter, enum segmenter_load load);
void segmenter_looked(struct segmenter *segmenter);
// The first sample that is still needed.
uint64_t segmenter_keep_from(const struct segmenter *segmenter);
// Was there a voice in the window that holds `position` (made good for the detector's delay)?
int segmenter_is_voiced(const struct segmenter *segmenter, uint64_t position);
