// How long a session's messages waited before they were sent: each of broadcast's workers counts
// its own, tells control as JSON, and control adds the workers' up. Slides over the last 60 s, as
// the distributions of base/metrics do, with buckets that cost a session little.
//
// Thread: a vc_lag is its worker's; the rest is pure.
#pragma once

#include <jansson.h>

#include <verbacast/base/metrics.h>
#include <verbacast/wire/text.h>

#define VC_LAG_BUCKETS 112 // four an octave from 1 microsecond on: up to 4 minutes
#define VC_LAG_SLICES 7    // of 10 s: the one being filled, and 60 s before it

struct vc_lag_counts {
  uint64_t count;
  double sum_ms, min_ms, max_ms; // min and max mean nothing while count is 0
  uint32_t buckets[VC_LAG_BUCKETS];
};

// Zero it to begin.
struct vc_lag {
  uint64_t count_total;
  struct vc_lag_slice {
    uint64_t number; // of 10 s since time began, + 1; 0: never used
    struct vc_lag_counts counts;
  } slices[VC_LAG_SLICES];
};

void vc_lag_record(struct vc_lag *lag, double waited_ms, uint64_t now_ns);
// {"count":…,"count_total":…,"sum":…,"min":…,"max":…,"buckets":{"17":2,…}}
void vc_lag_print(const struct vc_lag *lag, uint64_t now_ns, struct vc_text *text);

// Zero it to begin.
struct vc_lag_sum {
  uint64_t count_total;
  struct vc_lag_counts counts;
};
// Adds what vc_lag_print printed.
void vc_lag_sum_add(struct vc_lag_sum *sum, const json_t *printed);
void vc_lag_sum_get(const struct vc_lag_sum *sum, struct vc_distribution *distribution);
