#include <verbacast/base/clock.h>

#include <time.h>

static uint64_t monotonic_ns(void *context)
{
  (void)context;
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * VC_NS_PER_S + (uint64_t)now.tv_nsec;
}

static int64_t unix_us(void *context)
{
  (void)context;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

const struct vc_clock vc_clock_system = {.monotonic_ns = monotonic_ns, .unix_us = unix_us};
