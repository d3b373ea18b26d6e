#include <verbacast/base/limits.h>

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static struct vc_address address_of(const char *text, uint16_t port)
{
  struct vc_address address;
  memset(&address, 0xa5, sizeof address); // what lies in the padding must not matter
  assert_int_equal(vc_address_parse(text, &address), 0);
  address.port = port;
  return address;
}

static void test_per_address(void **state)
{
  struct vc_limits *limits = vc_limits_create(10, 2);
  struct vc_address first = address_of("192.0.2.1", 1000), again = address_of("192.0.2.1", 1001);
  struct vc_address mapped = address_of("::ffff:192.0.2.1", 1002);
  struct vc_address other = address_of("192.0.2.2", 1000);
  assert_non_null(limits);
  assert_int_equal(vc_limits_enter(limits, &first, 0), 0);
  assert_int_equal(vc_limits_enter(limits, &again, 0), 0);
  assert_int_equal(vc_limits_ask(limits, &first, 0), 1);
  assert_int_equal(vc_limits_enter(limits, &mapped, 0), 1);
  assert_int_equal(vc_limits_enter(limits, &other, 0), 0);
  assert_int_equal(vc_limits_count(limits), 3);
  vc_limits_leave(limits, &again, 0);
  assert_int_equal(vc_limits_enter(limits, &mapped, 0), 0);
  vc_limits_destroy(&limits);
  assert_null(limits);
}

static void test_all_together(void **state)
{
  struct vc_limits *limits = vc_limits_create(2, 1);
  struct vc_address loopback = address_of("127.0.0.1", 1), other = address_of("2001:db8::1", 1);
  assert_non_null(limits);
  assert_int_equal(vc_limits_enter(limits, &loopback, 1), 0);
  assert_int_equal(vc_limits_enter(limits, &loopback, 1), 0);
  assert_int_equal(vc_limits_enter(limits, &loopback, 1), 2);
  assert_int_equal(vc_limits_ask(limits, &other, 0), 2);
  assert_int_equal(vc_limits_count(limits), 2);
  vc_limits_leave(limits, &loopback, 1);
  assert_int_equal(vc_limits_enter(limits, &other, 0), 0);
  vc_limits_destroy(&limits);
}

static void test_many_come_and_go(void **state)
{
  struct vc_limits *limits = vc_limits_create(1000, 1);
  assert_non_null(limits);
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 250; i++) {
      struct vc_address address = address_of("10.1.1.0", (uint16_t)i);
      address.bytes[3] = (uint8_t)i;
      assert_int_equal(vc_limits_enter(limits, &address, 0), 0);
    }
    for (int i = 0; i < 250; i++) {
      struct vc_address address = address_of("10.1.1.0", (uint16_t)(i + 1000));
      address.bytes[3] = (uint8_t)i;
      vc_limits_leave(limits, &address, 0);
    }
    assert_int_equal(vc_limits_count(limits), 0);
  }
  vc_limits_destroy(&limits);
}

static void test_who_is_not_counted_by_address(void **state)
{
  struct vc_networks proxies;
  struct vc_error error;
  assert_int_equal(vc_networks_parse("10.0.0.0/8, 2001:db8::/32", &proxies, &error), 0);
  static const char *const exempt[] = {"127.0.0.1", "::1", "::ffff:127.0.0.1", "10.1.2.3",
                                       "2001:db8::7"};
  static const char *const counted[] = {"192.0.2.1", "11.0.0.1", "2001:db9::1", "::2"};
  for (size_t i = 0; i < sizeof exempt / sizeof *exempt; i++) {
    struct vc_address address = address_of(exempt[i], 1);
    assert_int_equal(vc_limits_exempt(&proxies, &address), 1);
  }
  for (size_t i = 0; i < sizeof counted / sizeof *counted; i++) {
    struct vc_address address = address_of(counted[i], 1);
    assert_int_equal(vc_limits_exempt(&proxies, &address), 0);
  }
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_per_address),
      cmocka_unit_test(test_all_together),
      cmocka_unit_test(test_many_come_and_go),
      cmocka_unit_test(test_who_is_not_counted_by_address),
  };
  return cmocka_run_group_tests_name("base/limits", tests, NULL, NULL);
}
