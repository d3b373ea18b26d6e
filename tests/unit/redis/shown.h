// Waiting for what shows: the end of every wait, and what a room's metrics show.
#pragma once

#include <stdint.h>

#include <verbacast/base/metrics.h>

// When a wait that begins now is given up: after SERVER_PATIENCE_MS.
uint64_t shown_patience_ns(void);
int shown_wait_more(uint64_t until_ns); // a moment; 0: the time is over

uint64_t shown_counter(struct vc_metrics *metrics, const char *name);
void shown_await_counter(struct vc_metrics *metrics, const char *name, uint64_t at_least);
int64_t shown_gauge(struct vc_metrics *metrics, const char *name); // -1: nobody has it
void shown_await_gauge(struct vc_metrics *metrics, const char *name, int64_t value);
