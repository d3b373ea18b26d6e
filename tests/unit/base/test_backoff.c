#include <verbacast/base/backoff.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_twice_as_long_each_time(void **state)
{
  static const uint64_t wanted[] = {100, 200, 400, 800, 1000, 1000};
  uint64_t ms = 0;
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    ms = vc_backoff_next(ms, 100, 1000);
    assert_int_equal(ms, wanted[i]);
  }
}

static void test_never_beyond_the_most(void **state)
{
  assert_int_equal(vc_backoff_next(0, 100, 50), 50);
  assert_int_equal(vc_backoff_next(500, 100, 1000), 1000);
  assert_int_equal(vc_backoff_next(2000, 100, 1000), 1000);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_twice_as_long_each_time),
      cmocka_unit_test(test_never_beyond_the_most),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
