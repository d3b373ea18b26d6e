// Where memory gives out a call fails and says so, and the same call later does all of its work.
#include "no_memory.h"
#include "rig.h"

#include <verbacast/base/log.h>

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define N_RECORDS 5
#define N_CONSUMER_ALLOCATIONS 4 // those before the first record

static struct rig rig;
static struct vc_error error;
static struct rig_seen seen[N_RECORDS * 8];

static int set_up(void **state)
{
  rig_init(&rig, 1);
  return 0;
}

static int tear_down(void **state)
{
  rig_fini(&rig);
  return 0;
}

static void check_refusal(int status)
{
  assert_int_equal(status, -1);
  assert_true(memory_has_failed);
  assert_non_null(strstr(error.text, "no memory"));
}

static struct vc_kafka_producer *try_a_producer(void)
{
  struct vc_kafka_producer *producer = NULL;
  struct vc_kafka_producer_settings settings = {
      .options = &rig.options, .node = "node-1", .clock = &vc_clock_system, .metrics = rig.metrics};
  int status = vc_kafka_producer_create(&producer, &settings, &error);
  if (status != 0) {
    check_refusal(status);
    assert_null(producer);
  }
  return producer;
}

static void make_a_producer(void)
{
  struct vc_kafka_producer *producer = try_a_producer();
  vc_kafka_producer_destroy(&producer, 0);
}

static void test_producer(void **state)
{
  rig.options.kafka_config = "linger.ms=5";
  assert_true(memory_fail_each(make_a_producer) > 2);
}

static struct vc_kafka_producer *sender;
static int64_t last_id;

static void send_some(void)
{
  struct vc_kafka_record records[N_RECORDS];
  for (size_t i = 0; i < N_RECORDS; i++) {
    records[i] = (struct vc_kafka_record){.id = ++last_id,
                                          .topic = VC_KAFKA_TRANSCRIPTS,
                                          .key = "demo",
                                          .key_size = 4,
                                          .value = "value",
                                          .size = 5};
  }
  struct rig_wait wait = rig_wait();
  int status;
  while ((status = vc_kafka_producer_send(sender, records, N_RECORDS, 1000, &error)) != 0) {
    assert_false(rig_is_late(&wait));
    if (status < 0) {
      check_refusal(status);
    }
  }
}

static void test_send(void **state)
{
  sender = rig_producer(&rig);
  last_id = 0;
  memory_fail(0, 1); // the first of a table that was empty, alone
  send_some();
  assert_true(memory_has_failed);
  memory_fail(2, 3); // several
  send_some();
  assert_true(memory_has_failed);
  memory_fail(0, 0);
  assert_int_equal(rig_read(&rig, RIG_TOPIC, seen, sizeof seen / sizeof *seen), last_id);
  vc_kafka_producer_destroy(&sender, 0);
}

static int assigned(void *context, struct vc_kafka_position *positions, size_t n,
                    struct vc_error *why)
{
  return 0;
}

static void revoked(void *context, const struct vc_kafka_position *positions, size_t n) {}

// Returns: whether the consumer could be made; then it has consumed.
static int consume_one(void)
{
  struct vc_kafka_consumer *consumer = NULL;
  struct vc_kafka_consumed consumed = {0};
  struct vc_kafka_consumer_settings settings = {.options = &rig.options,
                                                .group = "group",
                                                .queue_max = 10,
                                                .metrics = rig.metrics,
                                                .assigned = assigned,
                                                .revoked = revoked};
  int status = vc_kafka_consumer_create(&consumer, &settings, &error);
  if (status != 0) {
    check_refusal(status);
    assert_null(consumer);
    return 0;
  }
  struct rig_wait wait = rig_wait();
  while ((status = vc_kafka_consumer_poll(consumer, 100, &consumed, &error)) == 0) {
    assert_false(rig_is_late(&wait));
  }
  assert_int_equal(status, 1);
  vc_kafka_consumed_fini(&consumed);
  vc_kafka_consumer_destroy(&consumer);
  return 1;
}

static void test_consumer(void **state)
{
  sender = rig_producer(&rig);
  send_some();
  vc_kafka_producer_destroy(&sender, 0);
  int n_made = 0;
  for (size_t after = 0; after < N_CONSUMER_ALLOCATIONS; after++) {
    memory_fail(after, 1);
    n_made += consume_one();
    assert_true(memory_has_failed);
  }
  memory_fail(0, 0);
  assert_in_range(n_made, 1, N_CONSUMER_ALLOCATIONS - 1); // positions are asked for again
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      WITH(test_producer),
      WITH(test_send),
      WITH(test_consumer),
  };
  vc_log_level_set((enum vc_log_level) - 1);
  return cmocka_run_group_tests_name("kafka/memory", tests, NULL, NULL);
}
