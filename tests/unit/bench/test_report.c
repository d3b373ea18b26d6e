// What a table says of its rounds.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <bench.h>

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static json_t *as_json(const struct report *report)
{
  char path[] = "/tmp/vc-report-XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  close(fd);
  report_write_json(report, path);
  json_t *root = json_load_file(path, 0, NULL);
  unlink(path);
  assert_non_null(root);
  return root;
}

static double figure_of(const json_t *root, size_t row, const char *column, const char *what)
{
  const json_t *rows = json_object_get(root, "rows");
  return json_number_value(
      json_object_get(json_object_get(json_array_get(rows, row), column), what));
}

static void test_the_middle_of_the_rounds(void **state)
{
  struct report *report = report_create("a test");
  const double odd[] = {9, 1, 4}, even[] = {8, 1, 2, 4};
  (void)state;
  for (size_t i = 0; i < 3; i++) {
    report_add(report, "a", "odd", FIGURE_MS, odd[i]);
  }
  for (size_t i = 0; i < 4; i++) {
    report_add(report, "b", "even", FIGURE_MS, even[i]);
  }
  report_add(report, "b", "nothing", FIGURE_MS, NAN);
  json_t *root = as_json(report);
  assert_float_equal(figure_of(root, 0, "odd", "median"), 4, 1e-9);
  assert_float_equal(figure_of(root, 0, "odd", "least"), 1, 1e-9);
  assert_float_equal(figure_of(root, 0, "odd", "most"), 9, 1e-9);
  assert_float_equal(figure_of(root, 1, "even", "median"), 3, 1e-9);
  const json_t *row = json_array_get(json_object_get(root, "rows"), 1);
  assert_null(json_object_get(row, "nothing"));
  assert_null(json_object_get(row, "odd"));
  json_decref(root);
  report_destroy(&report);
}

static void test_rounds_without_a_latency_are_counted(void **state)
{
  struct report *report = report_create("a test");
  struct samples some = {0}, none = {0};
  (void)state;
  samples_add(&some, 1);
  report_add_latency(report, "a", &some);
  assert_int_equal(report_n_empty(report), 0);
  report_add_latency(report, "a", &none);
  report_add_latency(report, "b", &none);
  assert_int_equal(report_n_empty(report), 2);
  samples_fini(&some);
  report_destroy(&report);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_the_middle_of_the_rounds),
      cmocka_unit_test(test_rounds_without_a_latency_are_counted),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
