// Time, injected: whoever needs it is given a clock, so that a test can turn it by hand.
// Durations and instants are monotonic nanoseconds; wall time is only shown to people and peers.
#pragma once

#include <stdint.h>

struct vc_clock {
  uint64_t (*monotonic_ns)(void *context);
  int64_t (*unix_us)(void *context);
  void *context;
};

extern const struct vc_clock vc_clock_system;

static inline uint64_t vc_clock_now_ns(const struct vc_clock *clock)
{
  return clock->monotonic_ns(clock->context);
}

static inline int64_t vc_clock_unix_us(const struct vc_clock *clock)
{
  return clock->unix_us(clock->context);
}

static inline int64_t vc_clock_unix_ms(const struct vc_clock *clock)
{
  return clock->unix_us(clock->context) / 1000;
}

#define VC_NS_PER_MS UINT64_C(1000000)
#define VC_NS_PER_S UINT64_C(1000000000)
