// What the producer promises: each record stored, in order, none sent twice for being asked again.
#include "rig.h"

#include <verbacast/base/log.h>

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define N_RECORDS 50
#define SHORT_MS 300
#define LARGE_SIZE 1200000

static struct rig rig;
static struct vc_kafka_producer *producer;
static struct vc_error error;
static struct vc_kafka_record records[N_RECORDS];
static char values[N_RECORDS][16];
static struct rig_seen seen[N_RECORDS * 4];
static char large[LARGE_SIZE];

static int set_up_with(int n_partitions)
{
  rig_init(&rig, n_partitions);
  for (size_t i = 0; i < N_RECORDS; i++) {
    snprintf(values[i], sizeof values[i], "value-%zu", i);
    records[i] = (struct vc_kafka_record){.id = (int64_t)i + 1,
                                          .topic = VC_KAFKA_TRANSCRIPTS,
                                          .key = "demo",
                                          .key_size = 4,
                                          .value = values[i],
                                          .size = strlen(values[i])};
  }
  return 0;
}

static int set_up(void **state)
{
  set_up_with(1);
  producer = rig_producer(&rig);
  return 0;
}

static int tear_down(void **state)
{
  vc_kafka_producer_destroy(&producer, 0);
  rig_fini(&rig);
  return 0;
}

static void send_until_stored(size_t n)
{
  struct rig_wait wait = rig_wait();
  int status;
  while ((status = vc_kafka_producer_send(producer, records, n, 1000, &error)) == 1) {
    assert_false(rig_is_late(&wait));
  }
  assert_int_equal(status, 0);
}

static void assert_topic_holds(const char *topic, size_t from, size_t n)
{
  assert_int_equal(rig_read(&rig, topic, seen, sizeof seen / sizeof *seen), n);
  for (size_t i = 0; i < n; i++) {
    assert_string_equal(seen[i].value, values[from + i]);
  }
}

// First occurrences are in order, however often one comes.
static void assert_topic_repeats(size_t n)
{
  size_t n_seen = rig_read(&rig, RIG_TOPIC, seen, sizeof seen / sizeof *seen), next = 0;
  for (size_t i = 0; i < n_seen; i++) {
    next += next < n && strcmp(seen[i].value, values[next]) == 0;
  }
  assert_int_equal(next, n);
}

static void push_error(int16_t request, rd_kafka_resp_err_t code)
{
  rd_kafka_mock_push_request_errors(rig.cluster, request, 1, code);
}

static void test_order(void **state)
{
  send_until_stored(N_RECORDS);
  assert_topic_holds(RIG_TOPIC, 0, N_RECORDS);
  assert_string_equal(seen[0].key, "demo");
  assert_string_equal(seen[0].headers,
                      "content-type=application/json;schema=verbacast.transcript.v1;node=node-1;");
  assert_int_equal(rig_metric(&rig, "kafka.stored_total"), N_RECORDS);
}

static void test_topics(void **state)
{
  struct vc_kafka_source source = {
      .topic = RIG_TOPIC ".sessions", .partition = 3, .offset = 77, .reason = "no JSON"};
  records[1].topic = VC_KAFKA_SESSIONS;
  records[2].topic = VC_KAFKA_DEAD;
  records[2].source = &source;
  send_until_stored(3);
  assert_topic_holds(RIG_TOPIC, 0, 1);
  assert_topic_holds(RIG_TOPIC ".sessions", 1, 1);
  assert_string_equal(seen[0].headers,
                      "content-type=application/json;schema=verbacast.sessions.v1;node=node-1;");
  assert_topic_holds(RIG_TOPIC ".dead", 2, 1);
  assert_string_equal(seen[0].headers,
                      "content-type=application/json;schema=verbacast.sessions.v1;node=node-1;"
                      "reason=no JSON;topic=transcripts.sessions;partition=3;offset=77;");
}

// The name of ours may end as that of the sessions does.
static void test_topic_that_is_named_like_another(void **state)
{
  static const char topic[] = "our.sessions";
  rig.options.kafka_topic = topic;
  assert_int_equal(rd_kafka_mock_topic_create(rig.cluster, topic, 1, RIG_BROKERS), 0);
  assert_int_equal(rd_kafka_mock_topic_create(rig.cluster, "our.sessions.sessions", 1, RIG_BROKERS),
                   0);
  vc_kafka_producer_destroy(&producer, 0);
  producer = rig_producer(&rig);
  records[1].topic = VC_KAFKA_SESSIONS;
  send_until_stored(2);
  assert_topic_holds(topic, 0, 1);
  assert_string_equal(seen[0].headers,
                      "content-type=application/json;schema=verbacast.transcript.v1;node=node-1;");
  assert_topic_holds("our.sessions.sessions", 1, 1);
  assert_string_equal(seen[0].headers,
                      "content-type=application/json;schema=verbacast.sessions.v1;node=node-1;");
}

static void test_brokers_down_and_up(void **state)
{
  send_until_stored(1);
  rig_down(&rig);
  assert_int_equal(vc_kafka_producer_send(producer, records + 1, N_RECORDS - 1, SHORT_MS, &error),
                   1);
  struct rig_wait wait = rig_wait();
  while (strstr(error.text, "no broker of 127.0.0.1:") == NULL) {
    assert_false(rig_is_late(&wait));
    assert_int_equal(vc_kafka_producer_send(producer, records + 1, N_RECORDS - 1, SHORT_MS, &error),
                     1);
  }
  assert_non_null(strstr(error.text, "(since 2"));
  assert_int_equal(vc_kafka_producer_send(producer, NULL, 0, SHORT_MS, &error), 1);
  rig_up(&rig);
  wait = rig_wait();
  int status;
  while ((status = vc_kafka_producer_send(producer, records + 1, N_RECORDS - 1, SHORT_MS,
                                          &error)) == 1) {
    assert_false(rig_is_late(&wait));
  }
  assert_int_equal(status, 0);
  assert_int_equal(vc_kafka_producer_send(producer, NULL, 0, RIG_PATIENCE_MS, &error), 0);
  assert_topic_holds(RIG_TOPIC, 0, N_RECORDS);
  assert_int_equal(rig_metric(&rig, "kafka.sent_anew_total"), 0);
  assert_true(rig_metric(&rig, "kafka.producer_brokers_down_total") > 0);
  assert_true(rig_metric(&rig, "kafka.producer_transport_errors_total") > 0);
}

static void test_passing_errors(void **state)
{
  send_until_stored(1);
  push_error(RIG_PRODUCE, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS);
  push_error(RIG_PRODUCE, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
  push_error(RIG_PRODUCE, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT);
  send_until_stored(N_RECORDS);
  assert_topic_repeats(N_RECORDS);
  assert_int_equal(rig_metric(&rig, "kafka.producers_replaced_total"), 0);
}

static void test_authorization(void **state)
{
  send_until_stored(1);
  push_error(RIG_PRODUCE, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
  send_until_stored(N_RECORDS);
  assert_topic_repeats(N_RECORDS);
  assert_true(rig_metric(&rig, "kafka.producer_authorization_errors_total") > 0);
  assert_true(rig_metric(&rig, "kafka.producers_replaced_total") > 0);
}

// Without a producer's id it can never send: fatal, at once.
static int set_up_fatal(void **state)
{
  set_up_with(1);
  push_error(RIG_INIT_PRODUCER_ID, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED);
  producer = rig_producer(&rig);
  return 0;
}

static void test_fatal(void **state)
{
  send_until_stored(N_RECORDS);
  assert_topic_holds(RIG_TOPIC, 0, N_RECORDS);
  assert_int_equal(rig_metric(&rig, "kafka.producer_fatal_errors_total"), 1);
  assert_int_equal(rig_metric(&rig, "kafka.producers_replaced_total"), 1);
}

static int set_up_stranger(void **state)
{
  set_up_with(1);
  rig.options.kafka_config = "security.protocol=sasl_plaintext,sasl.mechanism=PLAIN,"
                             "sasl.username=somebody,sasl.password=hunter2";
  producer = rig_producer(&rig);
  return 0;
}

static void test_authentication(void **state)
{
  struct rig_wait wait = rig_wait();
  do {
    assert_false(rig_is_late(&wait));
    assert_int_equal(vc_kafka_producer_send(producer, records, 1, SHORT_MS, &error), 1);
    assert_null(strstr(error.text, "hunter2"));
  } while (rig_metric(&rig, "kafka.producer_authentication_errors_total") == 0);
}

static void test_too_large_for_us(void **state)
{
  records[1].value = large;
  records[1].size = sizeof large;
  send_until_stored(3);
  assert_null(records[0].hopeless);
  assert_string_equal(records[1].hopeless, "larger than the producer's message.max.bytes");
  assert_null(records[2].hopeless);
  assert_int_equal(rig_metric(&rig, "kafka.hopeless_total"), 1);
  memcpy(values[1], values[2], sizeof values[1]);
  assert_topic_holds(RIG_TOPIC, 0, 2);
}

// A batch is refused as a whole: nobody is hopeless for that.
static void test_too_large_batch(void **state)
{
  send_until_stored(1);
  push_error(RIG_PRODUCE, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
  send_until_stored(N_RECORDS);
  for (size_t i = 0; i < N_RECORDS; i++) {
    assert_null(records[i].hopeless);
  }
  assert_topic_repeats(N_RECORDS);
  assert_true(rig_metric(&rig, "kafka.too_large_total") > 0);
  assert_int_equal(rig_metric(&rig, "kafka.hopeless_total"), 0);
}

static void test_too_large_for_topic(void **state)
{
  send_until_stored(1);
  push_error(RIG_PRODUCE, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
  push_error(RIG_PRODUCE, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
  records[0].id = N_RECORDS + 1;
  send_until_stored(1);
  assert_string_equal(records[0].hopeless, "larger than the topic's max.message.bytes");
  assert_int_equal(rig_metric(&rig, "kafka.hopeless_total"), 1);
}

static void send_others(void)
{
  for (size_t i = 0; i < N_RECORDS; i++) {
    records[i].id += N_RECORDS;
  }
  send_until_stored(N_RECORDS);
}

// Who is refused in a batch is not hopeless for that; who is refused alone is.
static void test_a_refusal_is_forgotten(void **state)
{
  push_error(RIG_PRODUCE, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
  send_until_stored(N_RECORDS);
  assert_int_equal(rig_metric(&rig, "kafka.producers_replaced_total"), 1);
  for (size_t n = N_RECORDS; n < 1000; n += N_RECORDS) {
    send_others();
  }
  assert_int_equal(rig_metric(&rig, "kafka.producers_replaced_total"), 1);
  send_others();
  assert_int_equal(rig_metric(&rig, "kafka.producers_replaced_total"), 2);
  push_error(RIG_PRODUCE, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
  send_others();
  assert_int_equal(rig_metric(&rig, "kafka.producers_replaced_total"), 3);
  assert_int_equal(rig_metric(&rig, "kafka.hopeless_total"), 0);
}

// A clock that is set right again makes it a record like others.
static void test_a_time_that_is_refused(void **state)
{
  push_error(RIG_PRODUCE, RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP);
  push_error(RIG_PRODUCE, RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP);
  send_until_stored(N_RECORDS);
  for (size_t i = 0; i < N_RECORDS; i++) {
    assert_null(records[i].hopeless);
  }
  assert_topic_repeats(N_RECORDS);
}

static int set_up_small_queue(void **state)
{
  set_up_with(1);
  rig.options.kafka_config = "queue.buffering.max.messages=10";
  producer = rig_producer(&rig);
  return 0;
}

static void test_queue_full(void **state)
{
  send_until_stored(N_RECORDS);
  assert_topic_holds(RIG_TOPIC, 0, N_RECORDS);
  assert_true(rig_metric(&rig, "kafka.queue_full_total") > 0);
}

static void test_queue_stays_full(void **state)
{
  rig_down(&rig);
  assert_int_equal(vc_kafka_producer_send(producer, records, N_RECORDS, SHORT_MS, &error), 1);
  assert_true(rig_metric(&rig, "kafka.queue_full_total") > 0);
  rig_up(&rig);
  send_until_stored(N_RECORDS);
  assert_topic_holds(RIG_TOPIC, 0, N_RECORDS);
}

static int set_up_no_topic(void **state)
{
  set_up_with(1);
  rd_kafka_mock_topic_set_error(rig.cluster, RIG_TOPIC, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
  rig.options.kafka_config =
      "topic.metadata.propagation.max.ms=100,topic.metadata.refresh.interval.ms=500";
  producer = rig_producer(&rig);
  return 0;
}

static void test_unknown_topic(void **state)
{
  struct rig_wait wait = rig_wait();
  do {
    assert_false(rig_is_late(&wait));
    assert_int_equal(vc_kafka_producer_send(producer, records, N_RECORDS, SHORT_MS, &error), 1);
  } while (strstr(error.text, "topic transcripts is unknown to the brokers and must be created") ==
           NULL);
  assert_true(rig_metric(&rig, "kafka.producer_unknown_topic_total") > 0);
  rd_kafka_mock_topic_set_error(rig.cluster, RIG_TOPIC, RD_KAFKA_RESP_ERR_NO_ERROR);
  send_until_stored(N_RECORDS);
  assert_topic_holds(RIG_TOPIC, 0, N_RECORDS);
}

// The batch is given up by its caller: what of it was under way is no burden for the next.
static void test_another_batch(void **state)
{
  send_until_stored(1);
  rig_down(&rig);
  assert_int_equal(vc_kafka_producer_send(producer, records + 1, 10, SHORT_MS, &error), 1);
  rig_up(&rig);
  for (size_t i = 0; i < 5; i++) {
    records[i].id += N_RECORDS;
  }
  send_until_stored(5);
  assert_int_equal(rig_metric(&rig, "kafka.hopeless_total"), 0);
}

static void test_configuration_is_wrong(void **state)
{
  struct vc_kafka_options wrong = rig.options;
  struct vc_kafka_producer *none = NULL;
  wrong.kafka_config = "acks=1";
  struct vc_kafka_producer_settings settings = {
      .options = &wrong, .node = "node-1", .clock = &vc_clock_system};
  assert_int_equal(vc_kafka_producer_create(&none, &settings, &error), -1);
  assert_null(none);
}

int main(void)
{
#define WITH(test, before) cmocka_unit_test_setup_teardown(test, before, tear_down)
  const struct CMUnitTest tests[] = {
      WITH(test_order, set_up),
      WITH(test_topics, set_up),
      WITH(test_topic_that_is_named_like_another, set_up),
      WITH(test_brokers_down_and_up, set_up),
      WITH(test_passing_errors, set_up),
      WITH(test_authorization, set_up),
      WITH(test_fatal, set_up_fatal),
      WITH(test_authentication, set_up_stranger),
      WITH(test_too_large_for_us, set_up),
      WITH(test_too_large_batch, set_up),
      WITH(test_too_large_for_topic, set_up),
      WITH(test_a_refusal_is_forgotten, set_up),
      WITH(test_a_time_that_is_refused, set_up),
      WITH(test_queue_full, set_up_small_queue),
      WITH(test_queue_stays_full, set_up_small_queue),
      WITH(test_unknown_topic, set_up_no_topic),
      WITH(test_another_batch, set_up),
      WITH(test_configuration_is_wrong, set_up),
  };
  vc_log_level_set((enum vc_log_level) - 1);
  return cmocka_run_group_tests_name("kafka/producer", tests, NULL, NULL);
}
