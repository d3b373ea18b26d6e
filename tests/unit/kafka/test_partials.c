// Partials: what the brokers take in time arrives in order, the rest is dropped and counted, and
// nobody waits for it.
#include "rig.h"

#include <verbacast/base/log.h>
#include <verbacast/flow/record.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define N_RECORDS 50
#define BEYOND 100

static struct rig rig;
static struct vc_stage *stage;
static struct vc_putter *putter;
static struct rig_seen seen[N_RECORDS * 2];

static int set_up(void **state)
{
  struct vc_error error;
  rig_init(&rig, 1);
  struct vc_kafka_producer_settings settings = {
      .options = &rig.options, .node = "node-1", .clock = &vc_clock_system, .metrics = rig.metrics};
  assert_int_equal(vc_kafka_partials_create(&stage, &settings, &error), 0);
  putter = vc_putter_create(stage);
  assert_non_null(putter);
  assert_int_equal(vc_stage_start(stage, &error), 0);
  return 0;
}

static int tear_down(void **state)
{
  vc_stage_stop(stage, RIG_PATIENCE_MS);
  vc_stage_destroy(&stage);
  rig_fini(&rig);
  return 0;
}

static void nap(void)
{
  nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void put(enum vc_record_kind kind, size_t number)
{
  char value[16];
  struct vc_record *record = vc_record_create(kind, "demo");
  assert_non_null(record);
  snprintf(value, sizeof value, "value-%zu", number);
  record->value = vc_buffer_copy(value, strlen(value));
  assert_non_null(record->value);
  struct rig_wait wait = rig_wait();
  while (vc_putter_put(putter, 0, &record->item) != 0) {
    assert_false(rig_is_late(&wait));
    nap();
  }
}

static void wait_metric(const char *name, uint64_t value)
{
  struct rig_wait wait = rig_wait();
  while (rig_metric(&rig, name) < value) {
    assert_false(rig_is_late(&wait));
    nap();
  }
  assert_int_equal(rig_metric(&rig, name), value);
}

static void test_order(void **state)
{
  for (size_t i = 0; i < N_RECORDS; i++) {
    put(VC_RECORD_PARTIAL, i);
  }
  wait_metric("kafka.partials_delivered_total", N_RECORDS);
  assert_int_equal(rig_read(&rig, RIG_TOPIC ".partial", seen, sizeof seen / sizeof *seen),
                   N_RECORDS);
  for (size_t i = 0; i < N_RECORDS; i++) {
    char value[16];
    snprintf(value, sizeof value, "value-%zu", i);
    assert_string_equal(seen[i].value, value);
    assert_string_equal(seen[i].key, "demo");
    assert_string_equal(
        seen[i].headers,
        "content-type=application/json;schema=verbacast.transcript.v1;node=node-1;");
  }
  assert_int_equal(rig_metric(&rig, "kafka.partials_dropped_total"), 0);
}

static void test_other_records_pass_by(void **state)
{
  put(VC_RECORD_FINAL, 0);
  put(VC_RECORD_PARTIAL, 1);
  wait_metric("kafka.partials_delivered_total", 1);
  assert_int_equal(rig_read(&rig, RIG_TOPIC ".partial", seen, sizeof seen / sizeof *seen), 1);
}

// Those beyond the bound are dropped at once, the others when their time is over.
static void test_dropped_at_the_bound(void **state)
{
  put(VC_RECORD_PARTIAL, 0);
  wait_metric("kafka.partials_delivered_total", 1);
  rig_down(&rig);
  for (size_t i = 0; i < VC_KAFKA_PARTIALS_MAX + BEYOND; i++) {
    put(VC_RECORD_PARTIAL, i);
  }
  wait_metric("kafka.partials_dropped_total", VC_KAFKA_PARTIALS_MAX + BEYOND);
  rig_up(&rig);
  put(VC_RECORD_PARTIAL, 1);
  wait_metric("kafka.partials_delivered_total", 2);
}

// What is refused breaks the handle; another takes its place.
static void test_refused(void **state)
{
  rd_kafka_mock_push_request_errors(rig.cluster, RIG_PRODUCE, 1,
                                    RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
  put(VC_RECORD_PARTIAL, 0);
  wait_metric("kafka.partials_dropped_total", 1);
  assert_true(rig_metric(&rig, "kafka.partials_authorization_errors_total") > 0);
  struct rig_wait wait = rig_wait();
  while (rig_metric(&rig, "kafka.partials_delivered_total") == 0) {
    assert_false(rig_is_late(&wait));
    put(VC_RECORD_PARTIAL, 1);
    nap();
  }
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH(test_order),
      WITH(test_other_records_pass_by),
      WITH(test_dropped_at_the_bound),
      WITH(test_refused),
  };
  vc_log_level_set((enum vc_log_level) - 1);
  return cmocka_run_group_tests_name("kafka/partials", tests, NULL, NULL);
}
