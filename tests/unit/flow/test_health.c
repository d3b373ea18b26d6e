#include <verbacast/flow/health.h>

#include <verbacast/base/log.h>

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

static int64_t hand_us = 1000000;

static uint64_t hand_monotonic_ns(void *context)
{
  return 0;
}

static int64_t hand_unix_us(void *context)
{
  return hand_us;
}

static const struct vc_clock hand = {hand_monotonic_ns, hand_unix_us, NULL};

static void test_set_and_clear(void **state)
{
  struct vc_condition now[VC_HEALTH_MAX];
  struct vc_health *health = vc_health_create(&hand);
  assert_non_null(health);
  assert_int_equal(vc_health_list(health, now), 0);
  vc_health_set(health, "stt", "401");
  hand_us += 5000000;
  vc_health_set(health, "stt", "timeout");
  vc_health_set(health, "journal", "disk full");
  assert_int_equal(vc_health_list(health, now), 2);
  assert_string_equal(now[0].what, "stt");
  assert_string_equal(now[0].reason, "timeout");
  assert_int_equal(now[0].since_unix_ms, 1000);
  assert_int_equal(now[1].since_unix_ms, 6000);
  vc_health_clear(health, "stt");
  vc_health_clear(health, "stt");
  assert_int_equal(vc_health_list(health, now), 1);
  assert_string_equal(now[0].what, "journal");
  vc_health_destroy(&health);
  assert_null(health);
}

static void test_bounds(void **state)
{
  struct vc_condition now[VC_HEALTH_MAX];
  struct vc_health *health = vc_health_create(&hand);
  char reason[300], what[16];
  assert_non_null(health);
  memset(reason, 'x', sizeof reason - 1);
  reason[sizeof reason - 1] = '\0';
  for (int i = 0; i < VC_HEALTH_MAX + 5; i++) {
    snprintf(what, sizeof what, "part-%d", i);
    vc_health_set(health, what, reason);
  }
  assert_int_equal(vc_health_list(health, now), VC_HEALTH_MAX);
  assert_int_equal(strlen(now[0].reason), sizeof now[0].reason - 1);
  vc_health_clear(health, "part-3");
  assert_int_equal(vc_health_list(health, now), VC_HEALTH_MAX - 1);
  assert_string_equal(now[3].what, "part-4");
  vc_health_set(NULL, "stt", "401");
  vc_health_clear(NULL, "stt");
  vc_health_destroy(&health);
  vc_health_destroy(&health);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_set_and_clear),
      cmocka_unit_test(test_bounds),
  };
  vc_log_level_set(VC_LOG_ERROR);
  return cmocka_run_group_tests_name("flow/health", tests, NULL, NULL);
}
