#include <verbacast/wire/lag.h>

#include <verbacast/base/clock.h>
#include <verbacast/wire/json.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static uint64_t at_s(double s)
{
  return (uint64_t)(s * (double)VC_NS_PER_S);
}

// As control sees it: printed by every worker, read and added up.
static struct vc_distribution figures_of(const struct vc_lag *workers, size_t n, uint64_t now_ns)
{
  struct vc_lag_sum sum = {0};
  struct vc_distribution figures;
  for (size_t i = 0; i < n; i++) {
    struct vc_text text = {0};
    vc_lag_print(&workers[i], now_ns, &text);
    assert_false(text.has_failed);
    json_t *printed = vc_json_parse(text.at, text.size, NULL);
    assert_non_null(printed);
    vc_lag_sum_add(&sum, printed);
    json_decref(printed);
    vc_text_fini(&text);
  }
  vc_lag_sum_get(&sum, &figures);
  return figures;
}

static void test_nothing_has_no_figures(void **state)
{
  struct vc_lag lag = {0};
  struct vc_distribution figures = figures_of(&lag, 1, at_s(5));
  assert_int_equal(figures.count, 0);
  assert_int_equal(figures.count_total, 0);
  assert_true(isnan(figures.avg) && isnan(figures.min) && isnan(figures.max));
  assert_true(isnan(figures.p50) && isnan(figures.p95) && isnan(figures.p99));
}

static void test_workers_are_added_up(void **state)
{
  struct vc_lag lags[2] = {0};
  vc_lag_record(&lags[0], 1, at_s(1));
  vc_lag_record(&lags[0], 2, at_s(1));
  vc_lag_record(&lags[1], 9, at_s(2));
  struct vc_distribution figures = figures_of(lags, 2, at_s(3));
  assert_int_equal(figures.count, 3);
  assert_int_equal(figures.count_total, 3);
  assert_true(figures.avg == 4 && figures.min == 1 && figures.max == 9);
}

// A worker that has nothing to tell is no zero.
static void test_a_worker_without_any_does_not_count(void **state)
{
  struct vc_lag lags[3] = {0};
  vc_lag_record(&lags[1], 7, at_s(1));
  struct vc_distribution figures = figures_of(lags, 3, at_s(1));
  assert_int_equal(figures.count, 1);
  assert_true(figures.min == 7 && figures.max == 7 && figures.p50 == 7);
}

static void test_a_quiet_session_forgets_within_the_window(void **state)
{
  struct vc_lag lag = {0};
  vc_lag_record(&lag, 50, at_s(9));
  assert_int_equal(figures_of(&lag, 1, at_s(9)).count, 1);
  assert_int_equal(figures_of(&lag, 1, at_s(69)).count, 1); // 60 s later it still counts
  struct vc_distribution figures = figures_of(&lag, 1, at_s(70));
  assert_int_equal(figures.count, 0);
  assert_true(isnan(figures.avg) && isnan(figures.max));
  assert_int_equal(figures.count_total, 1); // what is since the beginning stays
}

static void test_the_window_slides(void **state)
{
  struct vc_lag lag = {0};
  for (int s = 0; s < 200; s++) {
    vc_lag_record(&lag, s, at_s(s));
  }
  struct vc_distribution figures = figures_of(&lag, 1, at_s(199));
  assert_int_equal(figures.count, 70);
  assert_int_equal(figures.count_total, 200);
  assert_true(figures.min == 130 && figures.max == 199);
  // A slice is used again, whatever lay between.
  vc_lag_record(&lag, 3, at_s(100000));
  figures = figures_of(&lag, 1, at_s(100000));
  assert_int_equal(figures.count, 1);
  assert_int_equal(figures.count_total, 201);
  assert_true(figures.max == 3);
}

static void test_quantiles_are_near(void **state)
{
  struct vc_lag lag = {0};
  for (int i = 1; i <= 1000; i++) {
    vc_lag_record(&lag, i * 0.1, at_s(1));
  }
  struct vc_distribution figures = figures_of(&lag, 1, at_s(1));
  double off = exp2(0.25); // a bucket's breadth
  assert_true(figures.p50 > 50 / off && figures.p50 < 50 * off);
  assert_true(figures.p95 > 95 / off && figures.p95 <= 100);
  assert_true(figures.p99 > 99 / off && figures.p99 <= 100);
  assert_true(figures.p50 <= figures.p95 && figures.p95 <= figures.p99);
}

static void test_the_ends_of_the_buckets_hold_all_beyond(void **state)
{
  static const double waits[] = {0, -1, 0.0001, 0.001, 240000, 1e12};
  for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
    struct vc_lag lag = {0};
    vc_lag_record(&lag, waits[i], at_s(1));
    struct vc_distribution figures = figures_of(&lag, 1, at_s(1));
    assert_int_equal(figures.count, 1);
    assert_true(fabs(figures.p50 - waits[i]) <= 1e-6);
  }
}

static void test_what_is_no_lag_adds_nothing_that_harms(void **state)
{
  static const char *const texts[] = {
      "{}",
      "[]",
      "{\"count\":-5,\"count_total\":-1}",
      "{\"count\":\"many\",\"buckets\":7}",
      "{\"buckets\":{\"-1\":3,\"112\":3,\"99999999999999999999\":3,\"x\":-3}}",
  };
  struct vc_lag_sum sum = {0};
  struct vc_distribution figures;
  vc_lag_sum_add(&sum, NULL);
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    json_t *json = vc_json_parse(texts[i], strlen(texts[i]), NULL);
    assert_non_null(json);
    vc_lag_sum_add(&sum, json);
    json_decref(json);
  }
  vc_lag_sum_get(&sum, &figures);
  assert_int_equal(figures.count, 0);
  assert_int_equal(figures.count_total, 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_nothing_has_no_figures),
      cmocka_unit_test(test_workers_are_added_up),
      cmocka_unit_test(test_a_worker_without_any_does_not_count),
      cmocka_unit_test(test_a_quiet_session_forgets_within_the_window),
      cmocka_unit_test(test_the_window_slides),
      cmocka_unit_test(test_quantiles_are_near),
      cmocka_unit_test(test_the_ends_of_the_buckets_hold_all_beyond),
      cmocka_unit_test(test_what_is_no_lag_adds_nothing_that_harms),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
