#include "arrivals.h"

#include <verbacast/base/clock.h>
#include <verbacast/flow/chunk.h>

#define SAMPLES_PER_MS (VC_SAMPLE_RATE_HZ / 1000)
#define HOLE_SAMPLES (ARRIVALS_HOLE_MS * SAMPLES_PER_MS)
#define MUTED_STEP_MS 100

void arrivals_begin(struct arrivals *arrivals, uint64_t origin_ns)
{
  *arrivals = (struct arrivals){.origin_ns = origin_ns, .last_ns = origin_ns};
}

static int64_t samples_between(uint64_t then_ns, uint64_t now_ns)
{
  uint64_t elapsed_ns = now_ns > then_ns ? now_ns - then_ns : 0;
  uint64_t whole = elapsed_ns / VC_NS_PER_MS * SAMPLES_PER_MS;
  return (int64_t)(whole + elapsed_ns % VC_NS_PER_MS * SAMPLES_PER_MS / VC_NS_PER_MS);
}

// How many samples a stream lags that has come to `end` at that time; negative: it is ahead.
static int64_t late_samples(const struct arrivals *arrivals, uint64_t now_ns, uint64_t end)
{
  return samples_between(arrivals->origin_ns, now_ns) - (int64_t)end;
}

// So much of a mute's silence is there: it is not made once more.
static void count_silence(struct arrivals *arrivals, uint64_t n)
{
  arrivals->muted_left -= n < arrivals->muted_left ? n : arrivals->muted_left;
  if (arrivals->muted_left == 0) {
    arrivals->muted_next_ns = 0;
  }
}

static int take(struct arrivals *arrivals, uint64_t now_ns, uint64_t position, uint64_t n)
{
  int is_after_pause =
      arrivals->is_broken || now_ns > arrivals->last_ns + ARRIVALS_HOLE_MS * VC_NS_PER_MS;
  arrivals->last_ns = now_ns;
  arrivals->is_broken = 0;
  if (arrivals->settle_at_ns == 0 && is_after_pause &&
      late_samples(arrivals, now_ns, position + n) > HOLE_SAMPLES) {
    arrivals->settle_at_ns = now_ns + ARRIVALS_SETTLE_MS * VC_NS_PER_MS;
  }
  return arrivals->settle_at_ns != 0;
}

int arrivals_take(struct arrivals *arrivals, uint64_t now_ns, uint64_t position, uint64_t n)
{
  arrivals->muted_next_ns = 0;
  return take(arrivals, now_ns, position, n);
}

int arrivals_take_silence(struct arrivals *arrivals, uint64_t now_ns, uint64_t position, uint64_t n)
{
  if (arrivals->muted_next_ns != 0) { // it is made again when the run has ended
    arrivals->muted_next_ns = now_ns + ARRIVALS_HOLE_MS * VC_NS_PER_MS;
  }
  count_silence(arrivals, n);
  return take(arrivals, now_ns, position, n);
}

int arrivals_is_settled(const struct arrivals *arrivals, uint64_t now_ns, uint64_t position,
                        uint64_t n_held)
{
  return now_ns >= arrivals->settle_at_ns || n_held >= ARRIVALS_HELD_MAX_S * VC_SAMPLE_RATE_HZ ||
         late_samples(arrivals, arrivals->last_ns, position + n_held) <= HOLE_SAMPLES;
}

uint64_t arrivals_settle(struct arrivals *arrivals, uint64_t position, uint64_t n_held)
{
  int64_t late = late_samples(arrivals, arrivals->last_ns, position + n_held);
  uint64_t hole = late > HOLE_SAMPLES ? (uint64_t)late : 0;
  arrivals->settle_at_ns = 0;
  count_silence(arrivals, hole);
  return hole;
}

void arrivals_mute(struct arrivals *arrivals, uint64_t now_ns)
{
  arrivals->muted_ns = now_ns;
  arrivals->muted_left = ARRIVALS_SILENCE_MS * SAMPLES_PER_MS;
  arrivals->muted_next_ns = now_ns + MUTED_STEP_MS * VC_NS_PER_MS;
}

uint64_t arrivals_silence(struct arrivals *arrivals, uint64_t now_ns, uint64_t position)
{
  if (arrivals->settle_at_ns != 0 || arrivals->muted_next_ns == 0 ||
      now_ns < arrivals->muted_next_ns) {
    return 0;
  }
  uint64_t given = ARRIVALS_SILENCE_MS * SAMPLES_PER_MS - arrivals->muted_left;
  int64_t late = late_samples(arrivals, now_ns, position);
  int64_t passed = samples_between(arrivals->muted_ns, now_ns) - (int64_t)given;
  int64_t due = late > passed ? late : passed;
  uint64_t n = due > 0 ? (uint64_t)due : 0;
  n = n < arrivals->muted_left ? n : arrivals->muted_left;
  arrivals->muted_left -= n;
  arrivals->muted_next_ns = arrivals->muted_left > 0 ? now_ns + MUTED_STEP_MS * VC_NS_PER_MS : 0;
  return n;
}

uint64_t arrivals_wake_ns(const struct arrivals *arrivals)
{
  return arrivals->settle_at_ns != 0 ? arrivals->settle_at_ns : arrivals->muted_next_ns;
}
