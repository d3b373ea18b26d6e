#include "bench.h"

void window_begin(struct window *window, const struct system *system)
{
  window->system = system;
  window->memory_before = system_memory_bytes(system);
  load_usage(&window->load_before);
  window->cpu_s_before = system_cpu_s(system);
  window->from_ns = vc_clock_now_ns(&vc_clock_system);
}

void window_end(struct window *window)
{
  window->to_ns = vc_clock_now_ns(&vc_clock_system);
  window->cpu_s_after = system_cpu_s(window->system);
  load_usage(&window->load_after);
  window->memory_after = system_memory_bytes(window->system);
}

double window_s(const struct window *window)
{
  return (double)(window->to_ns - window->from_ns) / (double)VC_NS_PER_S;
}

double window_cpu_s(const struct window *window)
{
  return window->cpu_s_after - window->cpu_s_before;
}

double window_load_part(const struct window *window)
{
  return load_usage_most(&window->load_before, &window->load_after) / window_s(window);
}
