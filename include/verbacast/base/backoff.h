// How long to wait before something that failed is tried again: twice as long each time. Pure.
#pragma once

#include <stdint.h>

// `last_ms`: what was waited before the try that failed, 0: it is the first to fail.
uint64_t vc_backoff_next(uint64_t last_ms, uint64_t first_ms, uint64_t max_ms);
