#include "bench.h"

void window_begin(struct window *window, const struct system *system)
{
  window->system = system;
  system_usage(system, &window->before);
  load_usage(&window->load_before);
  window->from_ns = vc_clock_now_ns(&vc_clock_system);
}

void window_end(struct window *window)
{
  window->to_ns = vc_clock_now_ns(&vc_clock_system);
  load_usage(&window->load_after);
  system_usage(window->system, &window->after);
}

double window_s(const struct window *window)
{
  return (double)(window->to_ns - window->from_ns) / (double)VC_NS_PER_S;
}

double window_cpu_s(const struct window *window)
{
  return window->after.cpu_s - window->before.cpu_s;
}

double window_load_part(const struct window *window)
{
  return load_usage_most(&window->load_before, &window->load_after) / window_s(window);
}
