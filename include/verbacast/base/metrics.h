// Metrics: one row makes the counter, its JSON name, its Prometheus name and its line in
// docs/metrics.md. Every worker has slots of its own that only it writes (relaxed atomics);
// a reader sums them. Distributions slide over the last 60 s.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <verbacast/base/clock.h>

enum vc_metric_kind {
  VC_METRIC_COUNTER,      // only grows
  VC_METRIC_GAUGE,        // summed over the workers
  VC_METRIC_GAUGE_MAX,    // the largest of the workers
  VC_METRIC_DISTRIBUTION, // count, avg, min, max, p50, p95, p99 over 60 s; count since start
};

struct vc_metric {
  const char *name; // as in JSON: "ws.fanout_ms"
  enum vc_metric_kind kind;
  const char *unit; // "ms", "bytes", "1", …
  const char *help; // one sentence, exact about what is measured
};
#define VC_METRIC_ROWS_END                                                                         \
  {                                                                                                \
    .name = NULL                                                                                   \
  }

struct vc_metrics; // all tables of one program and their slots
struct vc_slots;   // one writer's values of one table

struct vc_metrics *vc_metrics_create(const struct vc_clock *clock);
void vc_metrics_destroy(struct vc_metrics **metrics);

// `rows` is a constant table ended by VC_METRIC_ROWS_END; the same table may be given any number of
// times, once for each writer. Thread: any (start-up path). Returns: NULL without memory. The slots
// live as long as the metrics.
struct vc_slots *vc_metrics_slots_create(struct vc_metrics *metrics, const struct vc_metric *rows);

// `index` is the row's position in its table. NULL slots are allowed.
// Thread: any for counters and gauges; one at a time, the slots' writer, for distributions.
void vc_metric_add(struct vc_slots *slots, size_t index, uint64_t n);
void vc_metric_set(struct vc_slots *slots, size_t index, int64_t value);
void vc_metric_record(struct vc_slots *slots, size_t index, double value, uint64_t now_ns);

struct vc_distribution {
  uint64_t count;                      // within the window
  uint64_t count_total;                // since start
  double sum_total;                    // since start
  double avg, min, max, p50, p95, p99; // NAN when count is 0
};
// Thread: any. Sums over all writers of the row called `name`. Returns: 0, or 1 no such metric.
int vc_metrics_counter(struct vc_metrics *metrics, const char *name, uint64_t *value);
int vc_metrics_distribution(struct vc_metrics *metrics, const char *name,
                            struct vc_distribution *distribution);

// Walks all rows, each once, in the order of first registration.
struct vc_metric_value {
  const struct vc_metric *row;
  int64_t number; // counters and gauges
  struct vc_distribution distribution;
};
void vc_metrics_each(struct vc_metrics *metrics,
                     void (*visit)(void *context, const struct vc_metric_value *value),
                     void *context);
// Prometheus text exposition 0.0.4: verbacast_ws_fanout_ms{quantile="0.5"} …
void vc_metrics_print_prometheus(struct vc_metrics *metrics, FILE *out);
void vc_metrics_print_markdown(const struct vc_metric *const *tables, size_t n_tables, FILE *out);
