#include <verbacast/base/backoff.h>

uint64_t vc_backoff_next(uint64_t last_ms, uint64_t first_ms, uint64_t max_ms)
{
  uint64_t next_ms = last_ms == 0 ? first_ms : last_ms * 2;
  return next_ms < max_ms ? next_ms : max_ms;
}
