// The consumer goes by the positions that it is told, whatever happens to the group and the
// brokers.
#include "rig.h"

#include <verbacast/base/log.h>

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define POLL_MS 100
#define N_RECORDS 20
#define N_PARTITIONS 4
#define N_TOPICS 2
// To let another member in, the mock takes as long as a session lasts, less a second: where there
// are two, it is short. But one that does not run for so long is thrown out, and the mock never
// answers one that was just joining: where there is one, its session lasts as long as by itself,
// and of two each asks again after max.poll.interval.ms.
#define ALONE "heartbeat.interval.ms=200"
#define TOGETHER ALONE ",session.timeout.ms=6000,max.poll.interval.ms=10000"

static struct rig rig;
static struct vc_error error;

// A member of the group, and who keeps its positions.
struct member {
  struct vc_kafka_consumer *consumer;
  struct vc_kafka_consumed consumed;
  int64_t next;     // given for every partition of the topic
  int n_fails_left; // of `assigned`
  int n_asked;
  size_t n_ours, n_revoked;
  int is_ours[N_TOPICS][N_PARTITIONS];
};

// What librdkafka says at debug=topic, as it happens and on the thread that does it.
static atomic_int is_held, is_begun_late, n_out_of_range;

void __real_vc_log_write(enum vc_log_level level, const struct vc_log_field *fields);
void __wrap_vc_log_write(enum vc_log_level level, const struct vc_log_field *fields);

void __wrap_vc_log_write(enum vc_log_level level, const struct vc_log_field *fields)
{
  const char *text = "";
  for (const struct vc_log_field *field = fields; field->kind != VC_LOG_END; field++) {
    text = strcmp(field->key, "text") == 0 ? field->string : text;
  }
  if (strstr(text, "Start consuming " RIG_TOPIC " [0]") != NULL) {
    struct rig_wait wait = rig_wait();
    while (atomic_load(&is_held) && !rig_is_late(&wait)) {
      atomic_store(&is_begun_late, 1);
      sched_yield();
    }
  }
  if (strstr(text, "offset reset (at offset 1000") != NULL) {
    atomic_fetch_add(&n_out_of_range, 1);
  }
  __real_vc_log_write(level, fields);
}

static int topic_of(const char *topic)
{
  return strcmp(topic, RIG_TOPIC) == 0 ? 0 : 1;
}

static int assigned(void *context, struct vc_kafka_position *positions, size_t n,
                    struct vc_error *why)
{
  struct member *member = context;
  member->n_asked++;
  if (member->n_fails_left > 0) {
    member->n_fails_left--;
    return vc_error_set(why, "the table is away");
  }
  for (size_t i = 0; i < n; i++) {
    positions[i].next = topic_of(positions[i].topic) == 0 ? member->next : -1;
    assert_false(member->is_ours[topic_of(positions[i].topic)][positions[i].partition]);
    member->is_ours[topic_of(positions[i].topic)][positions[i].partition] = 1;
  }
  member->n_ours = n;
  return 0;
}

static void revoked(void *context, const struct vc_kafka_position *positions, size_t n)
{
  struct member *member = context;
  assert_int_equal(n, member->n_ours);
  for (size_t i = 0; i < n; i++) {
    assert_true(member->is_ours[topic_of(positions[i].topic)][positions[i].partition]);
    member->is_ours[topic_of(positions[i].topic)][positions[i].partition] = 0;
  }
  member->n_ours = 0;
  member->n_revoked += n;
}

static void join_as(struct member *member, const char *config)
{
  struct vc_kafka_consumer_settings settings = {.options = &rig.options,
                                                .group = "group",
                                                .queue_max = 100,
                                                .metrics = rig.metrics,
                                                .assigned = assigned,
                                                .revoked = revoked,
                                                .context = member};
  rig.options.kafka_config = config;
  int status = vc_kafka_consumer_create(&member->consumer, &settings, &error);
  assert_int_equal(status, 0);
}

static void join(struct member *member)
{
  join_as(member, ALONE);
}

static int poll(struct member *member)
{
  vc_kafka_consumed_fini(&member->consumed);
  return vc_kafka_consumer_poll(member->consumer, POLL_MS, &member->consumed, &error);
}

static void leave(struct member *member)
{
  vc_kafka_consumed_fini(&member->consumed);
  vc_kafka_consumer_destroy(&member->consumer);
}

#define POLL_UNTIL(member, condition)                                                              \
  do {                                                                                             \
    struct rig_wait wait = rig_wait();                                                             \
    while (!(condition)) {                                                                         \
      assert_false(rig_is_late(&wait));                                                            \
      assert_int_equal(poll(member), 0);                                                           \
    }                                                                                              \
  } while (0)

static void poll_record(struct member *member, int64_t offset)
{
  struct rig_wait wait = rig_wait();
  int status;
  while ((status = poll(member)) == 0) {
    assert_false(rig_is_late(&wait));
  }
  if (status != 1) {
    fail_msg("%s", error.text);
  }
  assert_int_equal(member->consumed.offset, offset);
}

static void produce(size_t n)
{
  static int64_t id;
  struct vc_kafka_producer *producer = rig_producer(&rig);
  for (size_t i = 0; i < n; i++) {
    char value[32];
    snprintf(value, sizeof value, "value-%zu", i);
    struct vc_kafka_record record = {.id = ++id,
                                     .topic = VC_KAFKA_TRANSCRIPTS,
                                     .key = "demo",
                                     .key_size = 4,
                                     .value = value,
                                     .size = strlen(value)};
    struct rig_wait wait = rig_wait();
    while (vc_kafka_producer_send(producer, &record, 1, 1000, &error) != 0) {
      assert_false(rig_is_late(&wait));
    }
  }
  vc_kafka_producer_destroy(&producer, 0);
}

static int set_up(void **state)
{
  atomic_store(&n_out_of_range, 0);
  atomic_store(&is_held, 0);
  atomic_store(&is_begun_late, 0);
  rig_init(&rig, 1);
  return 0;
}

static int set_up_wide(void **state)
{
  rig_init(&rig, N_PARTITIONS);
  return 0;
}

static int tear_down(void **state)
{
  rig_fini(&rig);
  return 0;
}

static void test_positions(void **state)
{
  struct member member = {.next = 5};
  produce(N_RECORDS);
  join(&member);
  poll_record(&member, 5);
  assert_string_equal(member.consumed.topic, RIG_TOPIC);
  assert_int_equal(member.consumed.partition, 0);
  assert_int_equal(member.consumed.key_size, 4);
  assert_memory_equal(member.consumed.key, "demo", 4);
  assert_int_equal(member.consumed.size, 7);
  assert_memory_equal(member.consumed.value, "value-5", 7);
  assert_true(member.consumed.produced_ms > 0);
  for (int64_t i = 6; i < N_RECORDS; i++) {
    poll_record(&member, i);
  }
  assert_int_equal(rig_metric(&rig, "kafka.consumed_total"), N_RECORDS - 5);
  assert_non_null(vc_kafka_consumer_cluster(member.consumer));
  leave(&member);
  assert_int_equal(member.n_revoked, N_TOPICS);
}

static void test_seek(void **state)
{
  struct member member = {.next = -1};
  struct vc_kafka_position position = {.topic = RIG_TOPIC, .partition = 0, .next = 1};
  produce(N_RECORDS);
  join(&member);
  assert_int_equal(vc_kafka_consumer_seek(member.consumer, &position), -1); // nothing is ours yet
  for (int64_t i = 0; i < 3; i++) {
    poll_record(&member, i);
  }
  assert_int_equal(vc_kafka_consumer_seek(member.consumer, &position), 0);
  for (int64_t i = 1; i < 5; i++) {
    poll_record(&member, i);
  }
  position.next = -1;
  assert_int_equal(vc_kafka_consumer_seek(member.consumer, &position), 0);
  for (int64_t i = 0; i < N_RECORDS; i++) {
    poll_record(&member, i);
  }
  position.partition = 7;
  assert_int_equal(vc_kafka_consumer_seek(member.consumer, &position), -1);
  leave(&member);
}

// That nothing comes is no condition that could be waited for: ten polls find nothing although
// there are records, some of them fetched already, and then they come.
static void test_pause(void **state)
{
  struct member member = {.next = -1};
  struct vc_kafka_position position = {.topic = RIG_TOPIC, .partition = 0, .next = 0};
  produce(N_RECORDS);
  join(&member);
  poll_record(&member, 0);
  vc_kafka_consumer_pause(member.consumer);
  for (int i = 0; i < 10; i++) {
    assert_int_equal(poll(&member), 0);
  }
  vc_kafka_consumer_resume(member.consumer);
  poll_record(&member, 1);
  vc_kafka_consumer_pause(member.consumer);
  assert_int_equal(vc_kafka_consumer_seek(member.consumer, &position), 0);
  for (int i = 0; i < 10; i++) {
    assert_int_equal(poll(&member), 0);
  }
  vc_kafka_consumer_resume(member.consumer);
  for (int64_t i = 0; i < N_RECORDS; i++) {
    poll_record(&member, i);
  }
  leave(&member);
}

// The seek is done at a poll; by then it is paused no more.
static void test_resume_behind_a_seek(void **state)
{
  struct member member = {.next = -1};
  struct vc_kafka_position position = {.topic = RIG_TOPIC, .partition = 0, .next = 0};
  produce(N_RECORDS);
  join(&member);
  poll_record(&member, 0);
  vc_kafka_consumer_pause(member.consumer);
  assert_int_equal(poll(&member), 0);
  assert_int_equal(vc_kafka_consumer_seek(member.consumer, &position), 0);
  vc_kafka_consumer_resume(member.consumer);
  for (int64_t i = 0; i < N_RECORDS; i++) {
    poll_record(&member, i);
  }
  leave(&member);
}

// One that is paused before it has anything.
static void test_pause_before_the_assignment(void **state)
{
  struct member member = {.next = -1};
  produce(N_RECORDS);
  join(&member);
  vc_kafka_consumer_pause(member.consumer);
  POLL_UNTIL(&member, member.n_ours == N_TOPICS);
  for (int i = 0; i < 10; i++) {
    assert_int_equal(poll(&member), 0);
  }
  vc_kafka_consumer_resume(member.consumer);
  poll_record(&member, 0);
  leave(&member);
}

// librdkafka's thread that begins a partition has drawn its number for that and goes on only when
// the poll that assigned it is over.
static void test_seek_begun_late(void **state)
{
  struct member member = {.next = -1};
  struct vc_kafka_position position = {.topic = RIG_TOPIC, .partition = 0, .next = 1};
  produce(N_RECORDS);
  join_as(&member, ALONE ",debug=topic");
  poll_record(&member, 0);
  assert_int_equal(vc_kafka_consumer_seek(member.consumer, &position), 0);
  atomic_store(&is_held, 1);
  POLL_UNTIL(&member, atomic_load(&is_begun_late));
  atomic_store(&is_held, 0);
  poll_record(&member, 1);
  leave(&member);
}

static void test_out_of_range(void **state)
{
  struct member member = {.next = 1000};
  struct vc_kafka_position position = {.topic = RIG_TOPIC, .partition = 0, .next = 3};
  produce(N_RECORDS);
  join(&member);
  for (int i = 0; i < 2; i++) { // and again
    struct rig_wait wait = rig_wait();
    int status;
    while ((status = poll(&member)) == 0) {
      assert_false(rig_is_late(&wait));
    }
    assert_int_equal(status, -1);
    assert_non_null(strstr(error.text, "topic transcripts partition 0: "));
    assert_non_null(strstr(error.text, "offset 1000"));
  }
  assert_int_equal(vc_kafka_consumer_seek(member.consumer, &position), 0);
  poll_record(&member, 3);
  leave(&member);
}

// What it was told of 1000 while nobody asked is no news of 3.
static void test_out_of_range_before_a_seek(void **state)
{
  struct member member = {.next = 1000};
  struct vc_kafka_position position = {.topic = RIG_TOPIC, .partition = 0, .next = 3};
  produce(N_RECORDS);
  join_as(&member, ALONE ",debug=topic");
  struct rig_wait wait = rig_wait();
  while (member.n_ours != N_TOPICS) { // the error is half a second behind, the mock's patience
    assert_false(rig_is_late(&wait));
    assert_int_equal(vc_kafka_consumer_poll(member.consumer, 0, &member.consumed, &error), 0);
    sched_yield();
  }
  while (atomic_load(&n_out_of_range) == 0) {
    assert_false(rig_is_late(&wait));
    sched_yield();
  }
  assert_int_equal(vc_kafka_consumer_seek(member.consumer, &position), 0);
  poll_record(&member, 3);
  leave(&member);
}

static void test_positions_cannot_be_told(void **state)
{
  struct member member = {.next = 2, .n_fails_left = 3};
  produce(N_RECORDS);
  join(&member);
  POLL_UNTIL(&member, member.n_asked == 1);
  const char *trouble = vc_kafka_consumer_trouble(member.consumer);
  assert_non_null(trouble);
  assert_non_null(strstr(trouble, "positions: the table is away (since 2"));
  poll_record(&member, 2);
  assert_int_equal(member.n_asked, 4);
  assert_null(vc_kafka_consumer_trouble(member.consumer));
  leave(&member);
}

// There are more members than partitions.
static void test_who_has_no_partition_has_no_trouble(void **state)
{
  struct member first = {.next = -1}, second = {.next = -1, .n_fails_left = 1};
  join_as(&first, TOGETHER);
  POLL_UNTIL(&first, first.n_ours == N_TOPICS);
  first.n_fails_left = 1;
  join_as(&second, TOGETHER);
  struct rig_wait wait = rig_wait();
  while (first.n_asked < 3 || second.n_asked < 2 || first.n_ours + second.n_ours != N_TOPICS) {
    assert_false(rig_is_late(&wait));
    assert_int_equal(poll(&first), 0);
    assert_int_equal(poll(&second), 0);
  }
  assert_null(vc_kafka_consumer_trouble(first.consumer));
  assert_null(vc_kafka_consumer_trouble(second.consumer));
  leave(&second);
  leave(&first);
}

// They cannot be told, and the group goes on all the same: another member gets its share.
static void test_positions_hold_nobody_up(void **state)
{
  struct member first = {.next = -1, .n_fails_left = 1000000}, second = {.next = -1};
  join_as(&first, TOGETHER);
  POLL_UNTIL(&first, first.n_asked > 0);
  join_as(&second, TOGETHER);
  POLL_UNTIL(&second, poll(&first) == 0 && second.n_ours == N_PARTITIONS);
  first.n_fails_left = 0;
  POLL_UNTIL(&first, poll(&second) == 0 && first.n_ours == N_PARTITIONS);
  leave(&first);
  leave(&second);
}

static void test_rebalance(void **state)
{
  struct member first = {.next = -1}, second = {.next = -1};
  join_as(&first, TOGETHER);
  POLL_UNTIL(&first, first.n_ours == N_TOPICS * N_PARTITIONS);
  join_as(&second, TOGETHER);
  POLL_UNTIL(&second,
             poll(&first) == 0 && first.n_ours == N_PARTITIONS && second.n_ours == N_PARTITIONS);
  assert_true(first.n_revoked >= N_TOPICS * N_PARTITIONS);
  for (size_t i = 0; i < N_PARTITIONS; i++) {
    // Each has one owner, the same for both topics.
    assert_int_equal(first.is_ours[0][i] + second.is_ours[0][i], 1);
    assert_int_equal(first.is_ours[0][i], first.is_ours[1][i]);
  }
  leave(&second);
  POLL_UNTIL(&first, first.n_ours == N_TOPICS * N_PARTITIONS);
  leave(&first);
}

static void test_brokers_down_and_up(void **state)
{
  struct member member = {.next = -1};
  produce(N_RECORDS);
  join(&member);
  for (int64_t i = 0; i < N_RECORDS; i++) {
    poll_record(&member, i);
  }
  assert_null(vc_kafka_consumer_trouble(member.consumer));
  rig_down(&rig);
  POLL_UNTIL(&member,
             vc_kafka_consumer_trouble(member.consumer) != NULL &&
                 strstr(vc_kafka_consumer_trouble(member.consumer), "no broker of") != NULL);
  rig_up(&rig);
  POLL_UNTIL(&member, vc_kafka_consumer_trouble(member.consumer) == NULL);
  produce(1);
  poll_record(&member, N_RECORDS);
  leave(&member);
}

static void test_nothing_in_it(void **state)
{
  struct member member = {.next = -1};
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  char why[256];
  assert_int_equal(
      rd_kafka_conf_set(conf, "bootstrap.servers", rig.options.kafka_brokers, why, sizeof why),
      RD_KAFKA_CONF_OK);
  rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
  assert_non_null(producer);
  const rd_kafka_vu_t parts[] = {{.vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = RIG_TOPIC}};
  assert_null(rd_kafka_produceva(producer, parts, 1));
  assert_int_equal(rd_kafka_flush(producer, RIG_PATIENCE_MS), 0);
  rd_kafka_destroy(producer);
  join(&member);
  poll_record(&member, 0);
  assert_null(member.consumed.key);
  assert_null(member.consumed.value);
  leave(&member);
}

static int64_t gauge; // the one that is looked for

static void look(void *context, const struct vc_metric_value *value)
{
  if (strcmp(value->row->name, context) == 0) {
    gauge = value->number;
  }
}

static int64_t gauge_of(const char *name)
{
  gauge = -1;
  vc_metrics_each(rig.metrics, look, (void *)name);
  return gauge;
}

static void test_figures(void **state)
{
  struct member member = {.next = -1};
  produce(N_RECORDS);
  join(&member);
  poll_record(&member, 0);
  vc_kafka_consumer_pause(member.consumer);
  POLL_UNTIL(&member, gauge_of("kafka.consumer_lag") == N_RECORDS - 1);
  POLL_UNTIL(&member, gauge_of("kafka.consumer_brokers_up") > 0);
  POLL_UNTIL(&member, gauge_of("kafka.consumer_brokers") == RIG_BROKERS);
  assert_int_equal(gauge_of("kafka.consumer_partitions"), N_TOPICS);
  POLL_UNTIL(&member, gauge_of("kafka.consumer_rtt_max_us") > 0);
  vc_kafka_consumer_resume(member.consumer);
  for (int64_t i = 1; i < N_RECORDS; i++) {
    poll_record(&member, i);
  }
  POLL_UNTIL(&member, gauge_of("kafka.consumer_lag") == 0);
  POLL_UNTIL(&member, rig_metric(&rig, "kafka.consumer_messages_total") >= N_RECORDS);
  leave(&member);
}

int main(void)
{
#define WITH(test, before) cmocka_unit_test_setup_teardown(test, before, tear_down)
  const struct CMUnitTest tests[] = {
      WITH(test_positions, set_up),
      WITH(test_seek, set_up),
      WITH(test_pause, set_up),
      WITH(test_resume_behind_a_seek, set_up),
      WITH(test_pause_before_the_assignment, set_up),
      WITH(test_seek_begun_late, set_up),
      WITH(test_out_of_range, set_up),
      WITH(test_out_of_range_before_a_seek, set_up),
      WITH(test_positions_cannot_be_told, set_up),
      WITH(test_positions_hold_nobody_up, set_up_wide),
      WITH(test_who_has_no_partition_has_no_trouble, set_up),
      WITH(test_rebalance, set_up_wide),
      WITH(test_brokers_down_and_up, set_up),
      WITH(test_nothing_in_it, set_up),
      WITH(test_figures, set_up),
  };
  vc_log_level_set((enum vc_log_level) - 1);
  return cmocka_run_group_tests_name("kafka/consumer", tests, NULL, NULL);
}
