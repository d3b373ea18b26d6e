#include <verbacast/base/metrics.h>

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

enum { COUNT, LEVEL, PEAK, DELAY };
static const struct vc_metric rows[] = {
    [COUNT] = {"test.items_total", VC_METRIC_COUNTER, "items", "Items."},
    [LEVEL] = {"test.level", VC_METRIC_GAUGE, "1", "Level."},
    [PEAK] = {"test.peak", VC_METRIC_GAUGE_MAX, "1", "Peak."},
    [DELAY] = {"test.delay_ms", VC_METRIC_DISTRIBUTION, "ms", "Delay."},
    VC_METRIC_ROWS_END,
};

// A clock that is turned by hand.
static _Atomic uint64_t hand_ns;

static uint64_t hand_monotonic_ns(void *context)
{
  return atomic_load(&hand_ns);
}

static int64_t hand_unix_us(void *context)
{
  return (int64_t)(atomic_load(&hand_ns) / 1000);
}

static const struct vc_clock hand = {hand_monotonic_ns, hand_unix_us, NULL};

static int set_up(void **state)
{
  atomic_store(&hand_ns, 1000 * VC_NS_PER_S);
  *state = vc_metrics_create(&hand);
  return *state == NULL;
}

static int tear_down(void **state)
{
  vc_metrics_destroy((struct vc_metrics **)state);
  return 0;
}

static struct vc_distribution read_delay(struct vc_metrics *metrics)
{
  struct vc_distribution distribution;
  assert_int_equal(vc_metrics_distribution(metrics, "test.delay_ms", &distribution), 0);
  return distribution;
}

static uint64_t read_number(struct vc_metrics *metrics, const char *name)
{
  uint64_t value;
  assert_int_equal(vc_metrics_counter(metrics, name, &value), 0);
  return value;
}

static void assert_near(double value, double expected, double share)
{
  if (!(fabs(value - expected) <= fabs(expected) * share)) {
    fail_msg("%g is not near %g", value, expected);
  }
}

static void test_sums_over_writers(void **state)
{
  struct vc_slots *first = vc_metrics_slots_create(*state, rows);
  struct vc_slots *second = vc_metrics_slots_create(*state, rows);
  vc_metric_add(first, COUNT, 3);
  vc_metric_add(second, COUNT, 4);
  vc_metric_set(first, LEVEL, 10);
  vc_metric_set(second, LEVEL, -3);
  vc_metric_set(first, PEAK, 10);
  vc_metric_set(second, PEAK, 12);
  assert_int_equal(read_number(*state, "test.items_total"), 7);
  assert_int_equal(read_number(*state, "test.level"), 7);
  assert_int_equal(read_number(*state, "test.peak"), 12);
  vc_metric_record(first, DELAY, 10, hand_ns);
  vc_metric_record(second, DELAY, 30, hand_ns);
  struct vc_distribution delay = read_delay(*state);
  assert_int_equal(delay.count, 2);
  assert_near(delay.avg, 20, 0);
  assert_near(delay.min, 10, 0);
  assert_near(delay.max, 30, 0);
}

static void test_unknown_and_none(void **state)
{
  uint64_t value;
  struct vc_distribution distribution;
  assert_int_equal(vc_metrics_counter(*state, "test.items_total", &value), 1);
  assert_int_equal(vc_metrics_distribution(*state, "test.delay_ms", &distribution), 1);
  vc_metric_add(NULL, COUNT, 1);
  vc_metric_set(NULL, LEVEL, 1);
  vc_metric_record(NULL, DELAY, 1, hand_ns);
  assert_non_null(vc_metrics_slots_create(*state, rows));
  distribution = read_delay(*state);
  assert_int_equal(distribution.count, 0);
  assert_true(isnan(distribution.avg) && isnan(distribution.min) && isnan(distribution.p99));
}

static int compare(const void *a, const void *b)
{
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

// Against the exact quantiles, over five decades.
static void test_quantiles(void **state)
{
  enum { N = 20000 };
  struct vc_slots *slots = vc_metrics_slots_create(*state, rows);
  double *values = calloc(N, sizeof *values);
  double sum = 0;
  uint64_t random = 7;
  assert_non_null(values);
  for (int i = 0; i < N; i++) {
    random = random * UINT64_C(6364136223846793005) + 1442695040888963407U;
    values[i] = 0.01 * exp((double)(random >> 40) / (1 << 24) * log(1e5));
    sum += values[i];
    vc_metric_record(slots, DELAY, values[i], hand_ns);
  }
  qsort(values, N, sizeof *values, compare);
  struct vc_distribution delay = read_delay(*state);
  assert_int_equal(delay.count, N);
  assert_near(delay.avg, sum / N, 1e-9);
  assert_near(delay.min, values[0], 0);
  assert_near(delay.max, values[N - 1], 0);
  assert_near(delay.p50, values[N / 2 - 1], 0.03);
  assert_near(delay.p95, values[N / 100 * 95 - 1], 0.03);
  assert_near(delay.p99, values[N / 100 * 99 - 1], 0.03);
  free(values);
}

static void test_extremes(void **state)
{
  struct vc_slots *slots = vc_metrics_slots_create(*state, rows);
  const double values[] = {0, -5, 1e300, NAN, INFINITY, -INFINITY};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    vc_metric_record(slots, DELAY, values[i], hand_ns);
  }
  struct vc_distribution delay = read_delay(*state);
  assert_int_equal(delay.count, 3); // what is no number is not taken
  assert_near(delay.min, -5, 0);
  assert_near(delay.max, 1e300, 0);
  assert_true(delay.p50 >= -5 && delay.p99 <= 1e300);
}

static void test_window_slides(void **state)
{
  struct vc_slots *slots = vc_metrics_slots_create(*state, rows);
  for (int second = 0; second < 600; second++) {
    vc_metric_record(slots, DELAY, second, hand_ns);
    struct vc_distribution delay = read_delay(*state);
    // 60 s, and the slice of 5 s that has begun.
    uint64_t at_least = second < 60 ? (uint64_t)second + 1 : 60;
    assert_in_range(delay.count, at_least, 65);
    assert_int_equal(delay.count_total, second + 1);
    assert_near(delay.max, second, 0);
    assert_true(delay.min >= second - 65);
    atomic_fetch_add(&hand_ns, VC_NS_PER_S);
  }
  atomic_fetch_add(&hand_ns, 66 * VC_NS_PER_S);
  struct vc_distribution delay = read_delay(*state);
  assert_int_equal(delay.count, 0);
  assert_int_equal(delay.count_total, 600);
}

static struct vc_slots *shared_slots;
static _Atomic int is_over;

static void *write_delays(void *context)
{
  for (int i = 0; i < 30000; i++) {
    vc_metric_add(shared_slots, COUNT, 1);
    vc_metric_record(shared_slots, DELAY, 5, atomic_fetch_add(&hand_ns, VC_NS_PER_S / 500));
  }
  atomic_store(&is_over, 1);
  return NULL;
}

// All values are 5, so a reader that saw anything else saw a slice half begun.
static void test_reader_beside_writer(void **state)
{
  pthread_t writer;
  int n_wrong = 0;
  shared_slots = vc_metrics_slots_create(*state, rows);
  atomic_store(&is_over, 0);
  assert_int_equal(pthread_create(&writer, NULL, write_delays, NULL), 0);
  while (!atomic_load(&is_over)) {
    struct vc_distribution delay;
    if (vc_metrics_distribution(*state, "test.delay_ms", &delay) != 0 || delay.count == 0) {
      continue;
    }
    n_wrong += delay.min != 5 || delay.max != 5 || delay.p50 != 5;
  }
  pthread_join(writer, NULL);
  assert_int_equal(n_wrong, 0);
  assert_int_equal(read_number(*state, "test.items_total"), 30000);
  assert_int_equal(read_delay(*state).count_total, 30000);
}

static void count_row(void *context, const struct vc_metric_value *value)
{
  size_t *n = context;
  assert_ptr_equal(value->row->name, rows[*n].name);
  (*n)++;
}

static void test_each_row_once(void **state)
{
  size_t n = 0;
  vc_metrics_slots_create(*state, rows);
  vc_metrics_slots_create(*state, rows);
  vc_metrics_each(*state, count_row, &n);
  assert_int_equal(n, 4);
}

static void test_prometheus(void **state)
{
  struct vc_slots *slots = vc_metrics_slots_create(*state, rows);
  char *text = NULL;
  size_t size;
  vc_metric_add(slots, COUNT, 2);
  vc_metric_record(slots, DELAY, 8, hand_ns);
  FILE *out = open_memstream(&text, &size);
  vc_metrics_print_prometheus(*state, out);
  fclose(out);
  assert_non_null(strstr(text, "# TYPE verbacast_test_items_total counter\n"
                               "verbacast_test_items_total 2\n"));
  assert_non_null(strstr(text, "# TYPE verbacast_test_delay_ms summary\n"
                               "verbacast_test_delay_ms{quantile=\"0.5\"} 8\n"));
  assert_non_null(strstr(text, "\nverbacast_test_delay_ms_sum 8\n"
                               "verbacast_test_delay_ms_count 1\n"));
  free(text);
}

// The quantiles slide, `_sum` and `_count` grow: rate(_sum) / rate(_count) must be an average.
static void test_prometheus_totals(void **state)
{
  struct vc_slots *slots = vc_metrics_slots_create(*state, rows);
  char *text = NULL;
  size_t size;
  vc_metric_record(slots, DELAY, 8, hand_ns);
  atomic_fetch_add(&hand_ns, 120 * VC_NS_PER_S);
  vc_metric_record(slots, DELAY, 2, hand_ns);
  FILE *out = open_memstream(&text, &size);
  vc_metrics_print_prometheus(*state, out);
  fclose(out);
  assert_non_null(strstr(text, "\nverbacast_test_delay_ms{quantile=\"0.99\"} 2\n"));
  assert_non_null(strstr(text, "\nverbacast_test_delay_ms_sum 10\n"
                               "verbacast_test_delay_ms_count 2\n"));
  free(text);
}

static void test_markdown(void **state)
{
  const struct vc_metric *tables[] = {rows};
  char *text = NULL;
  size_t size;
  FILE *out = open_memstream(&text, &size);
  vc_metrics_print_markdown(tables, 1, out);
  fclose(out);
  assert_non_null(strstr(text, "| `test.delay_ms` | distribution | ms | Delay. |\n"));
  free(text);
}

#define METRICS_TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
  const struct CMUnitTest tests[] = {
      METRICS_TEST(test_sums_over_writers), METRICS_TEST(test_unknown_and_none),
      METRICS_TEST(test_quantiles),         METRICS_TEST(test_extremes),
      METRICS_TEST(test_window_slides),     METRICS_TEST(test_reader_beside_writer),
      METRICS_TEST(test_each_row_once),     METRICS_TEST(test_prometheus),
      METRICS_TEST(test_prometheus_totals), METRICS_TEST(test_markdown),
  };
  return cmocka_run_group_tests_name("base/metrics", tests, NULL, NULL);
}
