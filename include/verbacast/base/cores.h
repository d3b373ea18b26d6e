// How many cores this process may use: what sizes threads and limits that nobody has set.
#pragma once

#include <stdint.h>

// The cores that this thread may run on, and no more than the control group's quota is worth.
// Returns: 1 at least.
uint32_t vc_cores(void);
// `text` is what cpu.max of a control group says: a quota and its period in us.
// Returns: whole cores, 1 at least; 0: without a quota, or not understood.
uint32_t vc_cores_parse_quota(const char *text);
