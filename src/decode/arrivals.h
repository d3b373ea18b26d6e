// The audio clock of raw PCM, which carries no times of its own: samples are counted as long as
// they come, and over a hole the arrivals tell how long it was.
//
// - The clock begins when the first sample was spoken: its packet's arrival less its length.
// - Packets that come within ARRIVALS_HOLE_MS of each other are a run: whatever their jitter,
//   samples are counted. What a sender's clock loses or gains against ours adds up until the next
//   hole, which makes it good.
// - After a longer pause, or where packets were dropped, the stream is late. It may have a hole (it
//   was muted), or it was held up and now all comes at once. So what comes is held back until a
//   burst has caught up, for at most ARRIVALS_SETTLE_MS. By how much the stream is late then is the
//   hole: it stands before what was held back.
// - So a burst after a hole fills it and does not run ahead of time. One that goes on for longer
//   than that does: nothing is dropped, and the next hole is the shorter for it.
// - A hole is heard as at most ARRIVALS_SILENCE_MS of silence, enough to end an utterance; over the
//   rest the clock jumps.
// - A publisher that says that it is muted is not waited for: as time goes by silence follows, up
//   to ARRIVALS_SILENCE_MS, so that what was said last is told; also where it had run ahead. What
//   comes meanwhile of samples that are all zero, as LiveKit sends them, is a part of that silence;
//   sound ends it.
//
// Pure: times and counts of samples at VC_SAMPLE_RATE_HZ. `position` is the clock's.
#pragma once

#include <stdint.h>

#define ARRIVALS_HOLE_MS 200
#define ARRIVALS_SETTLE_MS 250
#define ARRIVALS_SILENCE_MS 2000
#define ARRIVALS_HELD_MAX_S 10 // of sound that is held back; then it goes on as it is

struct arrivals {
  uint64_t origin_ns;     // of the clock, 0: nothing came
  uint64_t last_ns;       // the last packet
  uint64_t settle_at_ns;  // 0: nothing is held back
  uint64_t muted_ns;      // when it said so last
  uint64_t muted_next_ns; // when silence is due again, 0: it is not
  uint64_t muted_left;    // samples of silence, while it is due
  int is_broken;          // the next packet comes after some that were dropped
};

// The first sample was spoken at `origin_ns`.
void arrivals_begin(struct arrivals *arrivals, uint64_t origin_ns);
// A packet of n samples came. Returns: 1 when it is to be held back, like all that follow until
// arrivals_settle; 0 when it goes on.
int arrivals_take(struct arrivals *arrivals, uint64_t now_ns, uint64_t position, uint64_t n);
// The same of samples that are all zero.
int arrivals_take_silence(struct arrivals *arrivals, uint64_t now_ns, uint64_t position,
                          uint64_t n);
// Returns: 1 when what is held back is to go on: it has caught up, or its time is over.
int arrivals_is_settled(const struct arrivals *arrivals, uint64_t now_ns, uint64_t position,
                        uint64_t n_held);
// It goes on now. Returns: how many samples long the hole before it is.
uint64_t arrivals_settle(struct arrivals *arrivals, uint64_t position, uint64_t n_held);
void arrivals_mute(struct arrivals *arrivals, uint64_t now_ns);
// Returns: how many samples of silence are due.
uint64_t arrivals_silence(struct arrivals *arrivals, uint64_t now_ns, uint64_t position);
// When there is something to settle or silence is due next, 0: never.
uint64_t arrivals_wake_ns(const struct arrivals *arrivals);
