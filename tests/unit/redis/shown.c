#include "shown.h"

#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "server.h"

uint64_t shown_patience_ns(void)
{
  return vc_clock_now_ns(&vc_clock_system) + SERVER_PATIENCE_MS * VC_NS_PER_MS;
}

int shown_wait_more(uint64_t until_ns)
{
  usleep(500);
  return vc_clock_now_ns(&vc_clock_system) < until_ns;
}

uint64_t shown_counter(struct vc_metrics *metrics, const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(metrics, name, &value), 0);
  return value;
}

void shown_await_counter(struct vc_metrics *metrics, const char *name, uint64_t at_least)
{
  uint64_t until = shown_patience_ns();
  while (shown_counter(metrics, name) < at_least) {
    if (!shown_wait_more(until)) {
      fail_msg("%s is %lu, not %lu", name, (unsigned long)shown_counter(metrics, name),
               (unsigned long)at_least);
    }
  }
}

struct wanted {
  const char *name;
  int64_t value;
};

static void see(void *context, const struct vc_metric_value *value)
{
  struct wanted *wanted = context;
  if (strcmp(value->row->name, wanted->name) == 0) {
    wanted->value = value->number;
  }
}

int64_t shown_gauge(struct vc_metrics *metrics, const char *name)
{
  struct wanted wanted = {name, -1};
  vc_metrics_each(metrics, see, &wanted);
  return wanted.value;
}

void shown_await_gauge(struct vc_metrics *metrics, const char *name, int64_t value)
{
  uint64_t until = shown_patience_ns();
  while (shown_gauge(metrics, name) != value) {
    if (!shown_wait_more(until)) {
      fail_msg("%s is %ld, not %ld", name, (long)shown_gauge(metrics, name), (long)value);
    }
  }
}
