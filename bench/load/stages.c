#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench.h"

__attribute__((noreturn, format(printf, 2, 0))) static void end(int status, const char *format,
                                                                va_list arguments)
{
  static _Atomic int is_dying;
  while (atomic_exchange(&is_dying, 1)) {
    pause(); // what goes wrong because systems are being ended is not worth a word
  }
  fprintf(stderr, "verbacast-bench: ");
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  system_stop_all();
  _Exit(status);
}

void die(const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  end(1, format, arguments);
}

void refuse(const char *format, ...)
{
  va_list arguments;
  va_start(arguments, format);
  end(2, format, arguments);
}

void *grow(void *old, size_t n, size_t size)
{
  void *grown = reallocarray(old, n, size);
  if (grown == NULL) {
    die("out of memory");
  }
  return grown;
}

struct vc_stage *load_start(const struct vc_stage_ops *ops, void *config)
{
  struct vc_stage *stage = NULL;
  struct vc_error error;
  const struct vc_stage_settings settings = {.ops = ops,
                                             .config = &config,
                                             .config_size = sizeof config,
                                             .n_workers = 1,
                                             .lane_capacity = 7,
                                             .clock = &vc_clock_system};
  if (vc_stage_create(&stage, &settings, &error) != 0 || vc_stage_start(stage, &error) != 0) {
    die("%s: %s", ops->name, error.text);
  }
  return stage;
}

void load_stop(struct vc_stage **stage)
{
  vc_stage_stop(*stage, 1000);
  vc_stage_destroy(stage);
}

void load_sleep(double seconds)
{
  struct timespec left = {.tv_sec = (time_t)seconds,
                          .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
  while (nanosleep(&left, &left) != 0) {
  }
}

void load_wait(_Atomic size_t *counter, size_t n, double seconds, const char *what)
{
  uint64_t end_ns = vc_clock_now_ns(&vc_clock_system) + (uint64_t)(seconds * (double)VC_NS_PER_S);
  while (atomic_load_explicit(counter, memory_order_relaxed) < n) {
    if (vc_clock_now_ns(&vc_clock_system) > end_ns) {
      die("%zu of %zu %s after %.0f s", atomic_load(counter), n, what, seconds);
    }
    load_sleep(0.005);
  }
}

void load_handle_nothing(struct vc_worker *worker, struct vc_item *item)
{
  vc_item_destroy(item);
}
