// The figures were measured (docs/stt.md): 0.4 s of pre-roll keep first consonants; a look costs a
// whole decode of the segment so far, so the longer it is, the more seldom; a segment that gets too
// long is cut where it was quietest in the last two seconds.
#include "segmenter.h"

#include <assert.h>
#include <math.h>

#define S ENGINE_RATE_HZ
#define PRE_ROLL (S * 2 / 5)
#define ONSET (S / 10)    // the detector tells a voice so late
#define HANGOVER (S / 10) // and its end
#define FIRST_LOOK (S * 6 / 10)
#define NEXT_LOOK (S * 35 / 100)
#define BEHIND_LOOK (S * 2)
#define CUT_BACK (S * 2) // how far back a cut is looked for
#define CUT_MARGIN (S / 5)
#define SHORTEST (S / 2)
#define ENERGY_FLOOR (1e-6f * ENGINE_WINDOW)

void segmenter_init(struct segmenter *segmenter, double endpointing_s, double longest_s,
                    double context_max_s)
{
  *segmenter = (struct segmenter){
      .endpointing = (uint64_t)(endpointing_s * S),
      .longest = (uint64_t)(longest_s * S),
      .context_max = (uint64_t)(context_max_s * S),
  };
  assert(segmenter->longest / ENGINE_WINDOW < SEGMENT_FLAGS - 8);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
  return a > b ? a : b;
}

static uint64_t less(uint64_t position, uint64_t by)
{
  return position > by ? position - by : 0;
}

static size_t slot_of(uint64_t position)
{
  return (size_t)(position / ENGINE_WINDOW % SEGMENT_FLAGS);
}

int segmenter_is_voiced(const struct segmenter *segmenter, uint64_t position)
{
  uint64_t told = position + ONSET;
  return told >= segmenter->position ? 1 : segmenter->flags[slot_of(told)];
}

// --- opening

static void open_at(struct segmenter *segmenter, uint64_t begin, uint64_t voice_begin)
{
  segmenter->is_open = 1;
  segmenter->open.id++;
  segmenter->open.begin = begin;
  segmenter->open.context = begin;
  segmenter->open.voice_begin = larger(begin, voice_begin);
  segmenter->looked = begin;
}

static unsigned step_closed(struct segmenter *segmenter, int is_voice)
{
  if (!is_voice) {
    return 0;
  }
  uint64_t begin = larger(less(segmenter->position, PRE_ROLL), segmenter->last_end);
  open_at(segmenter, begin, less(segmenter->position, ONSET + ENGINE_WINDOW));
  segmenter->voiced = segmenter->position;
  return SEGMENT_STARTED;
}

// --- closing

// Where the voice of the open segment ended, as far as is known.
static uint64_t voice_end(const struct segmenter *segmenter)
{
  uint64_t end = segmenter->voiced == segmenter->position ? segmenter->voiced
                                                          : less(segmenter->voiced, HANGOVER);
  return larger(end, segmenter->open.voice_begin);
}

static void complete(struct segmenter *segmenter, uint64_t end)
{
  segmenter->done = segmenter->open;
  segmenter->done.end = end;
  if (larger(end, segmenter->position) - segmenter->done.context > segmenter->context_max) {
    segmenter->done.context = segmenter->done.begin;
  }
  uint64_t voice = voice_end(segmenter);
  segmenter->done.voice_end = voice < end ? voice : end;
  segmenter->last_end = end;
  segmenter->is_open = 0;
}

// Of a window and, by half, its neighbours: a pause is longer than one window, the closing of the
// lips is not.
static float loudness(const struct segmenter *segmenter, uint64_t at)
{
  float before = segmenter->energies[slot_of(at - ENGINE_WINDOW)];
  float here = segmenter->energies[slot_of(at)];
  float after = segmenter->energies[slot_of(at + ENGINE_WINDOW)];
  return logf(here + ENERGY_FLOOR) + (logf(before + ENERGY_FLOOR) + logf(after + ENERGY_FLOOR)) / 2;
}

// The middle of the quietest window of the last two seconds.
static uint64_t quietest(const struct segmenter *segmenter)
{
  uint64_t from = larger(less(segmenter->position, CUT_BACK), segmenter->open.begin + SHORTEST);
  uint64_t to = less(segmenter->position, CUT_MARGIN);
  uint64_t best = segmenter->position;
  float lowest = 0;
  for (uint64_t at = from; at < to; at += ENGINE_WINDOW) {
    float loud = loudness(segmenter, at);
    if (best == segmenter->position || loud < lowest) {
      lowest = loud;
      best = at - at % ENGINE_WINDOW + ENGINE_WINDOW / 2;
    }
  }
  return best;
}

static unsigned cut(struct segmenter *segmenter)
{
  uint64_t at = quietest(segmenter);
  uint64_t voice = voice_end(segmenter);
  complete(segmenter, at);
  if (voice <= at) {
    return SEGMENT_FINAL | SEGMENT_ENDED;
  }
  open_at(segmenter, at, at);
  segmenter->open.context = segmenter->done.begin;
  return SEGMENT_FINAL;
}

static unsigned step_open(struct segmenter *segmenter, int is_voice)
{
  if (is_voice) {
    segmenter->voiced = segmenter->position;
  }
  uint64_t voice = voice_end(segmenter);
  uint64_t silence = segmenter->position - voice;
  if (!is_voice && silence >= segmenter->endpointing) {
    uint64_t end = voice + larger(segmenter->endpointing / 2, HANGOVER);
    complete(segmenter, end < segmenter->position ? end : segmenter->position);
    return SEGMENT_FINAL | SEGMENT_ENDED;
  }
  return segmenter->position - segmenter->open.begin >= segmenter->longest ? cut(segmenter) : 0;
}

// --- what others call

unsigned segmenter_step(struct segmenter *segmenter, int is_voice, float energy)
{
  size_t slot = slot_of(segmenter->position);
  segmenter->flags[slot] = is_voice != 0;
  segmenter->energies[slot] = energy;
  segmenter->position += ENGINE_WINDOW;
  unsigned decided =
      segmenter->is_open ? step_open(segmenter, is_voice) : step_closed(segmenter, is_voice);
  segmenter->open.end = segmenter->position;
  return decided;
}

unsigned segmenter_finish(struct segmenter *segmenter, uint64_t n_rest)
{
  if (!segmenter->is_open) {
    return 0;
  }
  complete(segmenter, segmenter->position + n_rest);
  return SEGMENT_FINAL | SEGMENT_ENDED;
}

// A cut may have left no more than the end of a word.
static int is_guess(const struct segmenter *segmenter)
{
  return segmenter->open.context != segmenter->open.begin &&
         voice_end(segmenter) - segmenter->open.begin < SHORTEST;
}

int segmenter_wants_look(const struct segmenter *segmenter, enum segmenter_load load)
{
  if (!segmenter->is_open || is_guess(segmenter)) {
    return 0;
  }
  uint64_t interval = segmenter->looked == segmenter->open.begin
                          ? FIRST_LOOK
                          : larger(NEXT_LOOK, (segmenter->position - segmenter->open.begin) / 10);
  if (load == SEGMENTER_IS_BEHIND) {
    interval = larger(interval, BEHIND_LOOK);
  }
  return segmenter->position - segmenter->looked >= interval;
}

void segmenter_looked(struct segmenter *segmenter)
{
  segmenter->looked = segmenter->position;
}

uint64_t segmenter_keep_from(const struct segmenter *segmenter)
{
  if (!segmenter->is_open) {
    return larger(less(segmenter->position, PRE_ROLL), segmenter->last_end);
  }
  int is_context_used = segmenter->position - segmenter->open.context <= segmenter->context_max;
  return is_context_used ? segmenter->open.context : segmenter->open.begin;
}
