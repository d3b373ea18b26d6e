// A distribution is a histogram of logarithmic buckets, in slices of 5 s. Its writer is one thread;
// a reader adds up the slices that lie within the last 60 s. All fields are relaxed atomics: a
// figure that is read while it is written may miss the newest sample, never more. A slice that is
// used again carries its start time, which the reader checks before and after.
#include <verbacast/base/metrics.h>

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SLICE_NS (5 * VC_NS_PER_S)
#define WINDOW_SLICES 12
#define N_SLICES (WINDOW_SLICES + 2)
#define SMALLEST 1e-4 // everything below counts as this
#define BUCKETS_PER_OCTAVE 16
#define N_BUCKETS 640 // 40 octaves: up to 1e8

struct slice {
  _Atomic uint64_t number; // of SLICE_NS since time began, + 1; 0: never used
  _Atomic uint64_t count;
  _Atomic double sum, min, max;
  _Atomic uint32_t buckets[N_BUCKETS];
};

struct distribution {
  _Atomic uint64_t count_total;
  _Atomic double sum_total;
  struct slice slices[N_SLICES];
};

union cell {
  _Atomic int64_t number;
  struct distribution *distribution;
};

struct vc_slots {
  const struct vc_metric *rows;
  size_t n_rows;
  struct vc_slots *next; // in vc_metrics.first
  union cell cells[];
};

struct vc_metrics {
  const struct vc_clock *clock;
  pthread_mutex_t mutex; // guards the list; slots are never removed
  struct vc_slots *first, *last;
};

struct vc_metrics *vc_metrics_create(const struct vc_clock *clock)
{
  struct vc_metrics *metrics = calloc(1, sizeof *metrics);
  if (metrics != NULL) {
    metrics->clock = clock;
    pthread_mutex_init(&metrics->mutex, NULL);
  }
  return metrics;
}

static void slots_destroy(struct vc_slots *slots)
{
  for (size_t i = 0; i < slots->n_rows; i++) {
    if (slots->rows[i].kind == VC_METRIC_DISTRIBUTION) {
      free(slots->cells[i].distribution);
    }
  }
  free(slots);
}

void vc_metrics_destroy(struct vc_metrics **metrics)
{
  if (*metrics == NULL) {
    return;
  }
  for (struct vc_slots *slots = (*metrics)->first; slots != NULL;) {
    struct vc_slots *next = slots->next;
    slots_destroy(slots);
    slots = next;
  }
  pthread_mutex_destroy(&(*metrics)->mutex);
  free(*metrics);
  *metrics = NULL;
}

struct vc_slots *vc_metrics_slots_create(struct vc_metrics *metrics, const struct vc_metric *rows)
{
  size_t n = 0;
  while (rows[n].name != NULL) {
    n++;
  }
  struct vc_slots *slots = calloc(1, sizeof *slots + n * sizeof slots->cells[0]);
  if (slots == NULL) {
    return NULL;
  }
  slots->rows = rows;
  slots->n_rows = n;
  for (size_t i = 0; i < n; i++) {
    if (rows[i].kind == VC_METRIC_DISTRIBUTION) {
      slots->cells[i].distribution = calloc(1, sizeof(struct distribution));
      if (slots->cells[i].distribution == NULL) {
        slots_destroy(slots);
        return NULL;
      }
    }
  }
  pthread_mutex_lock(&metrics->mutex);
  if (metrics->last != NULL) {
    metrics->last->next = slots;
  } else {
    metrics->first = slots;
  }
  metrics->last = slots;
  pthread_mutex_unlock(&metrics->mutex);
  return slots;
}

void vc_metric_add(struct vc_slots *slots, size_t index, uint64_t n)
{
  if (slots != NULL) {
    assert(index < slots->n_rows && slots->rows[index].kind != VC_METRIC_DISTRIBUTION);
    atomic_fetch_add_explicit(&slots->cells[index].number, (int64_t)n, memory_order_relaxed);
  }
}

void vc_metric_set(struct vc_slots *slots, size_t index, int64_t value)
{
  if (slots != NULL) {
    assert(index < slots->n_rows && slots->rows[index].kind != VC_METRIC_DISTRIBUTION);
    atomic_store_explicit(&slots->cells[index].number, value, memory_order_relaxed);
  }
}

static size_t bucket_of(double value)
{
  if (!(value > SMALLEST)) {
    return 0;
  }
  double position = log2(value / SMALLEST) * BUCKETS_PER_OCTAVE;
  return position >= N_BUCKETS - 1 ? N_BUCKETS - 1 : (size_t)position;
}

static double middle_of(size_t bucket)
{
  return SMALLEST * exp2(((double)bucket + 0.5) / BUCKETS_PER_OCTAVE);
}

#define LOAD(field) atomic_load_explicit(&(field), memory_order_relaxed)
#define STORE(field, value) atomic_store_explicit(&(field), (value), memory_order_relaxed)

static void slice_begin(struct slice *slice, uint64_t number, double value)
{
  STORE(slice->number, 0);
  // Release: a reader that sees anything of the new slice sees that the old number is gone.
  atomic_thread_fence(memory_order_release);
  STORE(slice->count, 0);
  STORE(slice->sum, 0);
  STORE(slice->min, value);
  STORE(slice->max, value);
  for (size_t i = 0; i < N_BUCKETS; i++) {
    STORE(slice->buckets[i], 0);
  }
  // Pairs with the acquire load of `number` in slice_read.
  atomic_store_explicit(&slice->number, number, memory_order_release);
}

void vc_metric_record(struct vc_slots *slots, size_t index, double value, uint64_t now_ns)
{
  if (slots == NULL) {
    return;
  }
  assert(index < slots->n_rows && slots->rows[index].kind == VC_METRIC_DISTRIBUTION);
  if (!isfinite(value)) {
    return;
  }
  struct distribution *distribution = slots->cells[index].distribution;
  uint64_t number = now_ns / SLICE_NS + 1;
  struct slice *slice = &distribution->slices[number % N_SLICES];
  if (LOAD(slice->number) != number) {
    slice_begin(slice, number, value);
  }
  size_t bucket = bucket_of(value);
  STORE(slice->buckets[bucket], LOAD(slice->buckets[bucket]) + 1);
  STORE(slice->sum, LOAD(slice->sum) + value);
  if (value < LOAD(slice->min)) {
    STORE(slice->min, value);
  }
  if (value > LOAD(slice->max)) {
    STORE(slice->max, value);
  }
  STORE(slice->count, LOAD(slice->count) + 1);
  STORE(distribution->sum_total, LOAD(distribution->sum_total) + value);
  STORE(distribution->count_total, LOAD(distribution->count_total) + 1);
}

// What was added up of all writers.
struct total {
  uint64_t count, count_total, in_buckets;
  double sum, sum_total, min, max;
  uint64_t buckets[N_BUCKETS];
};

static void slice_read(const struct slice *slice, uint64_t oldest, uint64_t newest,
                       struct total *total)
{
  uint64_t number = atomic_load_explicit(&slice->number, memory_order_acquire);
  if (number < oldest || number > newest) {
    return;
  }
  uint64_t count = LOAD(slice->count);
  double sum = LOAD(slice->sum), min = LOAD(slice->min), max = LOAD(slice->max);
  uint32_t buckets[N_BUCKETS];
  for (size_t i = 0; i < N_BUCKETS; i++) {
    buckets[i] = LOAD(slice->buckets[i]);
  }
  atomic_thread_fence(memory_order_acquire);
  if (LOAD(slice->number) != number || count == 0) {
    return; // it was begun anew meanwhile: it is older than the window
  }
  for (size_t i = 0; i < N_BUCKETS; i++) {
    total->buckets[i] += buckets[i];
    total->in_buckets += buckets[i];
  }
  total->min = total->count == 0 || min < total->min ? min : total->min;
  total->max = total->count == 0 || max > total->max ? max : total->max;
  total->count += count;
  total->sum += sum;
}

static double quantile_of(const struct total *total, double quantile)
{
  uint64_t rank = (uint64_t)ceil(quantile * (double)total->in_buckets);
  uint64_t seen = 0;
  for (size_t i = 0; i < N_BUCKETS; i++) {
    seen += total->buckets[i];
    if (seen >= rank && total->buckets[i] > 0) {
      double value = middle_of(i);
      return value < total->min ? total->min : value > total->max ? total->max : value;
    }
  }
  return total->max;
}

static void finish(const struct total *total, struct vc_distribution *result)
{
  result->count = total->count;
  result->count_total = total->count_total;
  result->sum_total = total->sum_total;
  if (total->count == 0) {
    result->avg = result->min = result->max = result->p50 = result->p95 = result->p99 = NAN;
    return;
  }
  result->avg = total->sum / (double)total->count;
  result->min = total->min;
  result->max = total->max;
  result->p50 = quantile_of(total, 0.50);
  result->p95 = quantile_of(total, 0.95);
  result->p99 = quantile_of(total, 0.99);
}

// Adds up the row `row` over all slots. Returns: how many writers have it.
static size_t sum_row(struct vc_metrics *metrics, const struct vc_metric *row, int64_t *number,
                      struct total *total)
{
  uint64_t newest = vc_clock_now_ns(metrics->clock) / SLICE_NS + 1;
  uint64_t oldest = newest > WINDOW_SLICES ? newest - WINDOW_SLICES : 1;
  size_t n = 0;
  *number = 0;
  for (struct vc_slots *slots = metrics->first; slots != NULL; slots = slots->next) {
    for (size_t i = 0; i < slots->n_rows; i++) {
      if (strcmp(slots->rows[i].name, row->name) != 0) {
        continue;
      }
      n++;
      if (row->kind == VC_METRIC_DISTRIBUTION) {
        const struct distribution *distribution = slots->cells[i].distribution;
        total->count_total += LOAD(distribution->count_total);
        total->sum_total += LOAD(distribution->sum_total);
        for (size_t s = 0; s < N_SLICES; s++) {
          slice_read(&distribution->slices[s], oldest, newest, total);
        }
      } else {
        int64_t value = LOAD(slots->cells[i].number);
        int is_max = row->kind == VC_METRIC_GAUGE_MAX;
        *number = !is_max ? *number + value : value > *number ? value : *number;
      }
    }
  }
  return n;
}

static const struct vc_metric *find_row(struct vc_metrics *metrics, const char *name)
{
  for (struct vc_slots *slots = metrics->first; slots != NULL; slots = slots->next) {
    for (size_t i = 0; i < slots->n_rows; i++) {
      if (strcmp(slots->rows[i].name, name) == 0) {
        return &slots->rows[i];
      }
    }
  }
  return NULL;
}

static void read_row(struct vc_metrics *metrics, const struct vc_metric *row,
                     struct vc_metric_value *value)
{
  struct total total = {0};
  value->row = row;
  sum_row(metrics, row, &value->number, &total);
  finish(&total, &value->distribution);
}

int vc_metrics_counter(struct vc_metrics *metrics, const char *name, uint64_t *value)
{
  pthread_mutex_lock(&metrics->mutex);
  const struct vc_metric *row = find_row(metrics, name);
  struct vc_metric_value found;
  if (row != NULL) {
    read_row(metrics, row, &found);
    *value = (uint64_t)found.number;
  }
  pthread_mutex_unlock(&metrics->mutex);
  return row == NULL;
}

int vc_metrics_distribution(struct vc_metrics *metrics, const char *name,
                            struct vc_distribution *distribution)
{
  pthread_mutex_lock(&metrics->mutex);
  const struct vc_metric *row = find_row(metrics, name);
  struct vc_metric_value found;
  if (row != NULL) {
    read_row(metrics, row, &found);
    *distribution = found.distribution;
  }
  pthread_mutex_unlock(&metrics->mutex);
  return row == NULL;
}

// Returns: 1 when an earlier table has a row of the same name.
static int was_seen(const struct vc_metrics *metrics, const struct vc_slots *until, size_t index)
{
  for (const struct vc_slots *slots = metrics->first; slots != until->next; slots = slots->next) {
    size_t n = slots == until ? index : slots->n_rows;
    for (size_t i = 0; i < n; i++) {
      if (strcmp(slots->rows[i].name, until->rows[index].name) == 0) {
        return 1;
      }
    }
  }
  return 0;
}

void vc_metrics_each(struct vc_metrics *metrics,
                     void (*visit)(void *context, const struct vc_metric_value *value),
                     void *context)
{
  pthread_mutex_lock(&metrics->mutex);
  for (struct vc_slots *slots = metrics->first; slots != NULL; slots = slots->next) {
    for (size_t i = 0; i < slots->n_rows; i++) {
      if (!was_seen(metrics, slots, i)) {
        struct vc_metric_value value;
        read_row(metrics, &slots->rows[i], &value);
        visit(context, &value);
      }
    }
  }
  pthread_mutex_unlock(&metrics->mutex);
}

// --- Prometheus: text exposition format 0.0.4

static void print_name(FILE *out, const char *name)
{
  fputs("verbacast_", out);
  for (; *name != '\0'; name++) {
    fputc(*name == '.' || *name == '-' ? '_' : *name, out);
  }
}

static void print_sample(FILE *out, const char *name, const char *rest, double value)
{
  print_name(out, name);
  if (isnan(value)) {
    fprintf(out, "%s NaN\n", rest);
  } else {
    fprintf(out, "%s %.10g\n", rest, value);
  }
}

static void print_prometheus(void *context, const struct vc_metric_value *value)
{
  static const char *const types[] = {"counter", "gauge", "gauge", "summary"};
  FILE *out = context;
  const char *name = value->row->name;
  fputs("# HELP ", out);
  print_name(out, name);
  fprintf(out, " %s\n# TYPE ", value->row->help);
  print_name(out, name);
  fprintf(out, " %s\n", types[value->row->kind]);
  if (value->row->kind != VC_METRIC_DISTRIBUTION) {
    print_name(out, name);
    fprintf(out, " %" PRId64 "\n", value->number);
    return;
  }
  const struct vc_distribution *d = &value->distribution;
  print_sample(out, name, "{quantile=\"0.5\"}", d->p50);
  print_sample(out, name, "{quantile=\"0.95\"}", d->p95);
  print_sample(out, name, "{quantile=\"0.99\"}", d->p99);
  print_sample(out, name, "_sum", d->sum_total); // as _count: a rate over both is their average
  print_name(out, name);
  fprintf(out, "_count %" PRIu64 "\n", d->count_total);
}

void vc_metrics_print_prometheus(struct vc_metrics *metrics, FILE *out)
{
  vc_metrics_each(metrics, print_prometheus, out);
}

void vc_metrics_print_markdown(const struct vc_metric *const *tables, size_t n_tables, FILE *out)
{
  static const char *const kinds[] = {"counter", "gauge", "gauge (largest)", "distribution"};
  fputs("| name | kind | unit | meaning |\n| --- | --- | --- | --- |\n", out);
  for (size_t t = 0; t < n_tables; t++) {
    for (const struct vc_metric *row = tables[t]; row->name != NULL; row++) {
      fprintf(out, "| `%s` | %s | %s | %s |\n", row->name, kinds[row->kind], row->unit, row->help);
    }
  }
}
