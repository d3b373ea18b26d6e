#include <verbacast/base/cores.h>

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_quota(void **state)
{
  (void)state;
  assert_int_equal(vc_cores_parse_quota("200000 100000\n"), 2);
  assert_int_equal(vc_cores_parse_quota("350000 100000\n"), 3);
  assert_int_equal(vc_cores_parse_quota("20000 100000"), 1);
  assert_int_equal(vc_cores_parse_quota("max 100000\n"), 0);
  assert_int_equal(vc_cores_parse_quota("200000"), 0);
  assert_int_equal(vc_cores_parse_quota("200000 0"), 0);
  assert_int_equal(vc_cores_parse_quota("0 100000"), 0);
  assert_int_equal(vc_cores_parse_quota(""), 0);
  assert_in_range(vc_cores_parse_quota("18446744073709551615 1"), 1, 65536);
}

static void test_affinity(void **state)
{
  (void)state;
  cpu_set_t all, one;
  assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
  assert_in_range(vc_cores(), 1, (uint32_t)CPU_COUNT(&all));
  int core = 0;
  while (!CPU_ISSET(core, &all)) {
    core++;
  }
  CPU_ZERO(&one);
  CPU_SET(core, &one);
  assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
  assert_int_equal(vc_cores(), 1);
  assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_quota),
      cmocka_unit_test(test_affinity),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
