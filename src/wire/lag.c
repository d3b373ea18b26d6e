#include <verbacast/wire/lag.h>

#include <verbacast/wire/json.h>

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#define SLICE_NS (10 * VC_NS_PER_S)
#define SMALLEST_MS 0.001
#define BUCKETS_PER_OCTAVE 4

static size_t bucket_of(double waited_ms)
{
  double bucket = waited_ms > SMALLEST_MS ? log2(waited_ms / SMALLEST_MS) * BUCKETS_PER_OCTAVE : 0;
  return bucket < VC_LAG_BUCKETS - 1 ? (size_t)bucket : VC_LAG_BUCKETS - 1;
}

static double middle_of(size_t bucket)
{
  return SMALLEST_MS * exp2(((double)bucket + 0.5) / BUCKETS_PER_OCTAVE);
}

// All but the buckets.
static void add_figures(struct vc_lag_counts *into, const struct vc_lag_counts *from)
{
  if (from->count > 0) {
    into->min_ms = into->count == 0 ? from->min_ms : fmin(into->min_ms, from->min_ms);
    into->max_ms = into->count == 0 ? from->max_ms : fmax(into->max_ms, from->max_ms);
    into->sum_ms += from->sum_ms;
    into->count += from->count;
  }
}

void vc_lag_record(struct vc_lag *lag, double waited_ms, uint64_t now_ns)
{
  uint64_t number = now_ns / SLICE_NS + 1;
  struct vc_lag_slice *slice = &lag->slices[number % VC_LAG_SLICES];
  if (slice->number != number) {
    *slice = (struct vc_lag_slice){.number = number};
  }
  add_figures(&slice->counts,
              &(struct vc_lag_counts){
                  .count = 1, .sum_ms = waited_ms, .min_ms = waited_ms, .max_ms = waited_ms});
  slice->counts.buckets[bucket_of(waited_ms)]++;
  lag->count_total++;
}

// The reader's clock says what is still within the window: a session where nothing is said any
// more has no figures after a minute.
static void add_slices(const struct vc_lag *lag, uint64_t now_ns, struct vc_lag_counts *into)
{
  uint64_t newest = now_ns / SLICE_NS + 1;
  for (size_t i = 0; i < VC_LAG_SLICES; i++) {
    const struct vc_lag_slice *slice = &lag->slices[i];
    if (slice->number == 0 || slice->number > newest || slice->number + VC_LAG_SLICES <= newest) {
      continue;
    }
    add_figures(into, &slice->counts);
    for (size_t bucket = 0; bucket < VC_LAG_BUCKETS; bucket++) {
      into->buckets[bucket] += slice->counts.buckets[bucket];
    }
  }
}

void vc_lag_print(const struct vc_lag *lag, uint64_t now_ns, struct vc_text *text)
{
  struct vc_lag_counts counts = {.count = 0};
  add_slices(lag, now_ns, &counts);
  vc_text_format(text,
                 "{\"count\":%" PRIu64 ",\"count_total\":%" PRIu64
                 ",\"sum\":%.6f,\"min\":%.6f,\"max\":%.6f,\"buckets\":{",
                 counts.count, lag->count_total, counts.sum_ms, counts.min_ms, counts.max_ms);
  const char *comma = "";
  for (size_t i = 0; i < VC_LAG_BUCKETS; i++) {
    if (counts.buckets[i] > 0) {
      vc_text_format(text, "%s\"%zu\":%" PRIu32, comma, i, counts.buckets[i]);
      comma = ",";
    }
  }
  vc_text_add(text, "}}");
}

static uint64_t whole(const json_t *object, const char *key)
{
  long long number = vc_json_integer(object, key, 0);
  return number > 0 ? (uint64_t)number : 0;
}

void vc_lag_sum_add(struct vc_lag_sum *sum, const json_t *printed)
{
  sum->count_total += whole(printed, "count_total");
  add_figures(&sum->counts, &(struct vc_lag_counts){.count = whole(printed, "count"),
                                                    .sum_ms = vc_json_real(printed, "sum", 0),
                                                    .min_ms = vc_json_real(printed, "min", 0),
                                                    .max_ms = vc_json_real(printed, "max", 0)});
  const char *key;
  json_t *value;
  json_object_foreach(json_object_get(printed, "buckets"), key, value)
  {
    long bucket = strtol(key, NULL, 10);
    if (bucket >= 0 && bucket < VC_LAG_BUCKETS && json_integer_value(value) > 0) {
      sum->counts.buckets[bucket] += (uint32_t)json_integer_value(value);
    }
  }
}

static double quantile_of(const struct vc_lag_counts *counts, double quantile)
{
  double rank = ceil(quantile * (double)counts->count);
  uint64_t seen = 0;
  for (size_t i = 0; i < VC_LAG_BUCKETS; i++) {
    seen += counts->buckets[i];
    if ((double)seen >= rank && counts->buckets[i] > 0) {
      return fmin(fmax(middle_of(i), counts->min_ms), counts->max_ms);
    }
  }
  return counts->max_ms;
}

void vc_lag_sum_get(const struct vc_lag_sum *sum, struct vc_distribution *distribution)
{
  const struct vc_lag_counts *counts = &sum->counts;
  int has_any = counts->count > 0;
  *distribution = (struct vc_distribution){
      .count = counts->count,
      .count_total = sum->count_total,
      .sum_total = NAN, // the workers do not tell it
      .avg = has_any ? counts->sum_ms / (double)counts->count : NAN,
      .min = has_any ? counts->min_ms : NAN,
      .max = has_any ? counts->max_ms : NAN,
      .p50 = has_any ? quantile_of(counts, 0.50) : NAN,
      .p95 = has_any ? quantile_of(counts, 0.95) : NAN,
      .p99 = has_any ? quantile_of(counts, 0.99) : NAN,
  };
}
