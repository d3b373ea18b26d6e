#include "rig.h"

#include <stdio.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static const char *const topics[] = {RIG_TOPIC, RIG_TOPIC ".sessions", RIG_TOPIC ".partial",
                                     RIG_TOPIC ".dead"};
#define N_TOPICS (sizeof topics / sizeof *topics)

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
  char why[256];
  assert_int_equal(rd_kafka_conf_set(conf, key, value, why, sizeof why), RD_KAFKA_CONF_OK);
}

static rd_kafka_t *make(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
  char why[256];
  rd_kafka_conf_set_log_cb(conf, NULL);
  rd_kafka_t *handle = rd_kafka_new(type, conf, why, sizeof why);
  assert_non_null(handle);
  return handle;
}

void rig_init(struct rig *rig, int n_partitions)
{
  *rig = (struct rig){.host = make(RD_KAFKA_PRODUCER, rd_kafka_conf_new())};
  rig->cluster = rd_kafka_mock_cluster_new(rig->host, RIG_BROKERS);
  assert_non_null(rig->cluster);
  for (size_t i = 0; n_partitions > 0 && i < N_TOPICS; i++) {
    assert_int_equal(rd_kafka_mock_topic_create(rig->cluster, topics[i], n_partitions, 1), 0);
  }
  rig->options = (struct vc_kafka_options){
      .kafka_brokers = rd_kafka_mock_cluster_bootstraps(rig->cluster),
      .kafka_topic = RIG_TOPIC,
      .kafka_config = "",
  };
  rig->metrics = vc_metrics_create(&vc_clock_system);
  assert_non_null(rig->metrics);
}

void rig_fini(struct rig *rig)
{
  rd_kafka_mock_cluster_destroy(rig->cluster);
  rd_kafka_destroy(rig->host);
  vc_metrics_destroy(&rig->metrics);
}

void rig_down(struct rig *rig)
{
  for (int32_t i = 1; i <= RIG_BROKERS; i++) {
    rd_kafka_mock_broker_set_down(rig->cluster, i);
  }
}

void rig_up(struct rig *rig)
{
  for (int32_t i = 1; i <= RIG_BROKERS; i++) {
    rd_kafka_mock_broker_set_up(rig->cluster, i);
  }
}

struct vc_kafka_producer *rig_producer(struct rig *rig)
{
  struct vc_kafka_producer *producer = NULL;
  struct vc_error error = {.text = ""};
  struct vc_kafka_producer_settings settings = {.options = &rig->options,
                                                .node = "node-1",
                                                .clock = &vc_clock_system,
                                                .metrics = rig->metrics};
  int status = vc_kafka_producer_create(&producer, &settings, &error);
  assert_string_equal(error.text, "");
  assert_int_equal(status, 0);
  return producer;
}

uint64_t rig_metric(struct rig *rig, const char *name)
{
  uint64_t value = 0;
  assert_int_equal(vc_metrics_counter(rig->metrics, name, &value), 0);
  return value;
}

struct rig_wait rig_wait(void)
{
  return (struct rig_wait){.until_ns =
                               vc_clock_now_ns(&vc_clock_system) + RIG_PATIENCE_MS * VC_NS_PER_MS};
}

int rig_is_late(const struct rig_wait *wait)
{
  return vc_clock_now_ns(&vc_clock_system) >= wait->until_ns;
}

// --- reading

static void copy(char *into, size_t room, const void *bytes, size_t size)
{
  size = size < room - 1 ? size : room - 1;
  memcpy(into, bytes != NULL ? bytes : "", size);
  into[size] = '\0';
}

static void see(const rd_kafka_message_t *message, struct rig_seen *seen)
{
  rd_kafka_headers_t *headers = NULL;
  *seen = (struct rig_seen){.partition = message->partition, .offset = message->offset};
  copy(seen->key, sizeof seen->key, message->key, message->key_len);
  copy(seen->value, sizeof seen->value, message->payload, message->len);
  rd_kafka_message_headers(message, &headers);
  const char *name;
  const void *value;
  size_t size, at = 0;
  for (size_t i = 0; headers != NULL && rd_kafka_header_get_all(headers, i, &name, &value, &size) ==
                                            RD_KAFKA_RESP_ERR_NO_ERROR;
       i++) {
    at += (size_t)snprintf(seen->headers + at, sizeof seen->headers - at, "%s=%.*s;", name,
                           (int)size, (const char *)value);
    assert_true(at < sizeof seen->headers);
  }
}

static rd_kafka_topic_partition_list_t *partitions_of(rd_kafka_t *handle, const char *topic)
{
  const struct rd_kafka_metadata *metadata;
  rd_kafka_topic_t *wanted = rd_kafka_topic_new(handle, topic, NULL);
  assert_int_equal(rd_kafka_metadata(handle, 0, wanted, &metadata, RIG_PATIENCE_MS), 0);
  rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(8);
  for (int i = 0; i < metadata->topics[0].partition_cnt; i++) {
    rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
  }
  rd_kafka_metadata_destroy(metadata);
  rd_kafka_topic_destroy(wanted);
  return list;
}

size_t rig_read(struct rig *rig, const char *topic, struct rig_seen *seen, size_t most)
{
  rd_kafka_conf_t *conf = rd_kafka_conf_new();
  set(conf, "bootstrap.servers", rig->options.kafka_brokers);
  set(conf, "group.id", "reader");
  set(conf, "enable.partition.eof", "true");
  rd_kafka_t *handle = make(RD_KAFKA_CONSUMER, conf);
  rd_kafka_poll_set_consumer(handle);
  rd_kafka_topic_partition_list_t *list = partitions_of(handle, topic);
  assert_int_equal(rd_kafka_assign(handle, list), 0);
  struct rig_wait wait = rig_wait();
  size_t n = 0;
  for (int n_ends = 0; n_ends < list->cnt;) {
    assert_false(rig_is_late(&wait));
    rd_kafka_message_t *message = rd_kafka_consumer_poll(handle, 100);
    if (message != NULL && message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
      n_ends++;
    } else if (message != NULL && message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      assert_true(n < most);
      see(message, &seen[n++]);
    }
    if (message != NULL) {
      rd_kafka_message_destroy(message);
    }
  }
  rd_kafka_topic_partition_list_destroy(list);
  rd_kafka_consumer_close(handle);
  rd_kafka_destroy(handle);
  return n;
}
