// The consumer. Its positions are the caller's: it keeps for each partition what comes next, and a
// seek is a change of that and a new assignment at the next poll, as after a change of the group.
//
// An assignment whose positions cannot be told yet is answered with an empty one, so that the group
// goes on; the true one follows when they can be.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <verbacast/wire/json.h>

#include "room.h"

#define CLUSTER_WAIT_MS 500
#define ASK_AGAIN_MS 250 // positions that could not be told

enum {
  CONSUMED = N_CLIENT_METRICS,
  REBALANCES,
  LAG,
  PARTITIONS,
};
const struct vc_metric vc_kafka_consumer_metrics[] = {
    KAFKA_CLIENT_METRICS("kafka.consumer_", "received from"),
    [CONSUMED] = {"kafka.consumed_total", VC_METRIC_COUNTER, "records", "Records given on."},
    [REBALANCES] = {"kafka.rebalances_total", VC_METRIC_COUNTER, "times",
                    "Times that partitions were assigned or revoked."},
    [LAG] = {"kafka.consumer_lag", VC_METRIC_GAUGE, "records",
             "Records of our partitions that have not been given on yet."},
    [PARTITIONS] = {"kafka.consumer_partitions", VC_METRIC_GAUGE, "partitions",
                    "Partitions that are assigned to us."},
    VC_METRIC_ROWS_END,
};

struct vc_kafka_consumer {
  struct client client;
  struct vc_kafka_consumer_settings settings;
  rd_kafka_t *handle;
  rd_kafka_topic_partition_list_t *partitions; // ours, `offset` is the next; NULL: none
  struct vc_kafka_position *positions;         // the same, as they are shown
  int is_unplaced;                             // their positions could not be told yet
  uint64_t ask_ns;                             // for them again
  int is_moved;                                // the assignment must be made anew
  int is_paused;
  char *cluster; // librdkafka's
  char trouble[256];
};

static uint64_t now_ns(void)
{
  return vc_clock_now_ns(&vc_clock_system);
}

static size_t n_partitions(const struct vc_kafka_consumer *consumer)
{
  return consumer->partitions != NULL ? (size_t)consumer->partitions->cnt : 0;
}

static int64_t shown_offset(int64_t offset)
{
  return offset >= 0 ? offset : -1;
}

// --- what is assigned

static void forget_partitions(struct vc_kafka_consumer *consumer)
{
  if (consumer->partitions != NULL) {
    rd_kafka_topic_partition_list_destroy(consumer->partitions);
  }
  free(consumer->positions);
  consumer->partitions = NULL;
  consumer->positions = NULL;
  consumer->is_unplaced = consumer->is_moved = 0;
  vc_metric_set(consumer->client.slots, PARTITIONS, 0);
  vc_metric_set(consumer->client.slots, LAG, 0);
}

static void show_positions(struct vc_kafka_consumer *consumer)
{
  for (size_t i = 0; i < n_partitions(consumer); i++) {
    const rd_kafka_topic_partition_t *partition = &consumer->partitions->elems[i];
    consumer->positions[i] = (struct vc_kafka_position){.topic = partition->topic,
                                                        .partition = partition->partition,
                                                        .next = shown_offset(partition->offset)};
  }
}

// To librdkafka one that was paused stays so, assigned anew or not.
static void hold(struct vc_kafka_consumer *consumer)
{
  if (consumer->is_paused) {
    rd_kafka_pause_partitions(consumer->handle, consumer->partitions);
  } else {
    rd_kafka_resume_partitions(consumer->handle, consumer->partitions);
  }
}

// Replaces what librdkafka consumes by what is ours, at our positions. Its thread stops what went
// on and begins the new after rd_kafka_assign has returned, and takes no beginning that it numbered
// before a pause or resume that it was told meanwhile: the partition would stand still for good.
// So that is told before.
static void assign(struct vc_kafka_consumer *consumer)
{
  hold(consumer);
  rd_kafka_resp_err_t code = rd_kafka_assign(consumer->handle, consumer->partitions);
  consumer->is_moved = code != RD_KAFKA_RESP_ERR_NO_ERROR;
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
    client_take_error(&consumer->client, code, NULL, "assignment");
  }
}

// The same where nothing goes on that would have to be stopped first. The partitions may be new to
// librdkafka, which can then be told only behind it that they are paused.
static void begin(struct vc_kafka_consumer *consumer)
{
  assign(consumer);
  if (consumer->is_paused) {
    hold(consumer);
  }
}

// Nothing is consumed until `assigned` can tell from where.
static int place(struct vc_kafka_consumer *consumer)
{
  const struct vc_kafka_consumer_settings *settings = &consumer->settings;
  struct vc_error why = {.text = "no memory"};
  size_t n = n_partitions(consumer);
  if (consumer->positions == NULL) {
    consumer->positions = calloc(n + 1, sizeof *consumer->positions);
  }
  int status = -1;
  if (consumer->positions != NULL) {
    show_positions(consumer);
    status = settings->assigned(settings->context, consumer->positions, n, &why);
  }
  consumer->is_unplaced = status != 0;
  consumer->ask_ns = now_ns() + ASK_AGAIN_MS * VC_NS_PER_MS;
  if (status != 0) {
    client_trouble(&consumer->client, TROUBLE_OTHER, "positions: %.150s", why.text);
    return -1;
  }
  client_clear(&consumer->client, TROUBLE_OTHER, TROUBLE_OTHER);
  for (size_t i = 0; i < n; i++) {
    int64_t next = consumer->positions[i].next;
    consumer->partitions->elems[i].offset = next >= 0 ? next : RD_KAFKA_OFFSET_BEGINNING;
    client_topic_works(&consumer->client, consumer->partitions->elems[i].topic);
  }
  vc_metric_set(consumer->client.slots, PARTITIONS, (int64_t)n);
  return 0;
}

static void take_assigned(struct vc_kafka_consumer *consumer,
                          const rd_kafka_topic_partition_list_t *list)
{
  forget_partitions(consumer);
  consumer->partitions = rd_kafka_topic_partition_list_copy(list);
  if (place(consumer) == 0) {
    begin(consumer);
    return;
  }
  rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(0);
  rd_kafka_assign(consumer->handle, none);
  rd_kafka_topic_partition_list_destroy(none);
}

static void take_revoked(struct vc_kafka_consumer *consumer)
{
  if (consumer->partitions != NULL && !consumer->is_unplaced) {
    show_positions(consumer);
    consumer->settings.revoked(consumer->settings.context, consumer->positions,
                               n_partitions(consumer));
  }
  forget_partitions(consumer);
  rd_kafka_assign(consumer->handle, NULL);
}

// Thread: the one that polls or closes.
static void rebalance(rd_kafka_t *handle, rd_kafka_resp_err_t code,
                      rd_kafka_topic_partition_list_t *list, void *opaque)
{
  struct client *client = opaque;
  vc_metric_add(client->slots, REBALANCES, 1);
  if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
    take_assigned(client->owner, list);
  } else {
    take_revoked(client->owner);
  }
}

// --- figures

// A broker that nobody needs is not connected to; who leads a partition of ours is needed.
static void check_leader(struct client *client, const json_t *brokers, const json_t *partition,
                         const rd_kafka_topic_partition_t *own)
{
  int64_t leader = vc_json_integer(partition, "leader", 0);
  const char *name;
  json_t *broker;
  json_object_foreach((json_t *)brokers, name, broker)
  {
    const char *state = json_string_value(json_object_get(broker, "state"));
    const char *source = json_string_value(json_object_get(broker, "source"));
    if (vc_json_integer(broker, "nodeid", 0) == leader && leader >= 0 && source != NULL &&
        strcmp(source, "logical") != 0 && state != NULL && strcmp(state, "UP") != 0) {
      client_trouble(client, TROUBLE_TRANSPORT,
                     "broker %s, which leads topic %s partition %" PRId32 ", is not connected",
                     name, own->topic, own->partition);
    }
  }
}

static void count_partitions(struct client *client, const void *statistics)
{
  const struct vc_kafka_consumer *consumer = client->owner;
  const json_t *topics = json_object_get(statistics, "topics");
  int64_t lag = 0, queued = 0, queued_bytes = 0;
  for (size_t i = 0; i < n_partitions(consumer) && !consumer->is_unplaced; i++) {
    const rd_kafka_topic_partition_t *own = &consumer->partitions->elems[i];
    char number[16];
    snprintf(number, sizeof number, "%" PRId32, own->partition);
    const json_t *topic = json_object_get(topics, own->topic);
    const json_t *partition = json_object_get(json_object_get(topic, "partitions"), number);
    check_leader(client, json_object_get(statistics, "brokers"), partition, own);
    int64_t next = own->offset >= 0 ? own->offset : vc_json_integer(partition, "lo_offset", 0);
    int64_t end = vc_json_integer(partition, "ls_offset", 0);
    lag += next >= 0 && end > next ? end - next : 0;
    queued += vc_json_integer(partition, "fetchq_cnt", 0);
    queued_bytes += vc_json_integer(partition, "fetchq_size", 0);
  }
  vc_metric_set(client->slots, LAG, lag);
  vc_metric_set(client->slots, QUEUED, queued);
  vc_metric_set(client->slots, QUEUED_BYTES, queued_bytes);
}

// --- begin and end

static rd_kafka_conf_t *configure(struct vc_kafka_consumer *consumer, struct vc_error *error)
{
  const struct vc_kafka_consumer_settings *settings = &consumer->settings;
  char ahead[16];
  snprintf(ahead, sizeof ahead, "%" PRIu32, settings->queue_max > 0 ? settings->queue_max : 1);
  rd_kafka_conf_t *conf = kafka_conf_create(settings->options, settings->options->kafka_brokers,
                                            kafka_consumer_ours, kafka_consumer_fixed, error);
  if (conf == NULL || (kafka_conf_set(conf, "group.id", settings->group, error) == 0 &&
                       kafka_conf_set(conf, "queued.min.messages", ahead, error) == 0)) {
    return conf;
  }
  rd_kafka_conf_destroy(conf);
  return NULL;
}

static int subscribe(struct vc_kafka_consumer *consumer, struct vc_error *error)
{
  char sessions[VC_KAFKA_TOPIC_MAX + 1];
  kafka_topic_print(sessions, consumer->settings.options, VC_KAFKA_SESSIONS);
  rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(2);
  rd_kafka_topic_partition_list_add(topics, consumer->settings.options->kafka_topic,
                                    RD_KAFKA_PARTITION_UA);
  rd_kafka_topic_partition_list_add(topics, sessions, RD_KAFKA_PARTITION_UA);
  rd_kafka_resp_err_t code = rd_kafka_subscribe(consumer->handle, topics);
  rd_kafka_topic_partition_list_destroy(topics);
  return code == RD_KAFKA_RESP_ERR_NO_ERROR
             ? 0
             : vc_error_set(error, "kafka: subscribe: %s", rd_kafka_err2str(code));
}

static int open_handle(struct vc_kafka_consumer *consumer, struct vc_error *error)
{
  rd_kafka_conf_t *conf = configure(consumer, error);
  if (conf == NULL) {
    return -1;
  }
  client_configure(&consumer->client, conf);
  rd_kafka_conf_set_rebalance_cb(conf, rebalance);
  consumer->handle = kafka_new(RD_KAFKA_CONSUMER, conf, error);
  if (consumer->handle == NULL) {
    return -1;
  }
  rd_kafka_poll_set_consumer(consumer->handle);
  return subscribe(consumer, error);
}

int vc_kafka_consumer_create(struct vc_kafka_consumer **consumer_out,
                             const struct vc_kafka_consumer_settings *settings,
                             struct vc_error *error)
{
  struct vc_kafka_consumer *consumer = calloc(1, sizeof *consumer);
  if (consumer == NULL) {
    return vc_error_set(error, "kafka: no memory");
  }
  consumer->settings = *settings;
  if (client_init(&consumer->client, "consumer", settings->options, &vc_clock_system,
                  settings->metrics, vc_kafka_consumer_metrics, error) != 0) {
    free(consumer);
    return -1;
  }
  consumer->client.owner = consumer;
  consumer->client.counted = count_partitions;
  *consumer_out = consumer;
  if (open_handle(consumer, error) != 0) {
    vc_kafka_consumer_destroy(consumer_out);
    return -1;
  }
  return 0;
}

void vc_kafka_consumer_destroy(struct vc_kafka_consumer **consumer_in)
{
  struct vc_kafka_consumer *consumer = *consumer_in;
  if (consumer == NULL) {
    return;
  }
  if (consumer->handle != NULL) {
    rd_kafka_consumer_close(consumer->handle);
    if (consumer->cluster != NULL) {
      rd_kafka_mem_free(consumer->handle, consumer->cluster);
    }
    rd_kafka_destroy(consumer->handle);
  }
  forget_partitions(consumer);
  client_fini(&consumer->client);
  free(consumer);
  *consumer_in = NULL;
}

// --- consuming

static rd_kafka_topic_partition_t *find(const struct vc_kafka_consumer *consumer, const char *topic,
                                        int32_t partition)
{
  return consumer->partitions == NULL || consumer->is_unplaced || topic == NULL
             ? NULL
             : rd_kafka_topic_partition_list_find(consumer->partitions, topic, partition);
}

// The brokers do not have the offset. Where none was asked for, the first that there is may have
// been deleted between the question and the fetch. One of another offset tells of where we were
// before a seek, but stops what is fetched now: ours is asked for anew and told of itself.
static int take_out_of_range(struct vc_kafka_consumer *consumer, const rd_kafka_message_t *message,
                             struct vc_error *error)
{
  const char *topic = rd_kafka_topic_name(message->rkt);
  const rd_kafka_topic_partition_t *own = find(consumer, topic, message->partition);
  consumer->is_moved |= own != NULL;
  return own == NULL || own->offset < 0 || own->offset != message->offset
             ? 0
             : vc_error_set(error,
                            "kafka: topic %s partition %" PRId32 ": the brokers do not have "
                            "offset %" PRId64 " (any more): %.200s",
                            topic, message->partition, own->offset,
                            rd_kafka_message_errstr(message));
}

static int take_error(struct vc_kafka_consumer *consumer, const rd_kafka_message_t *message,
                      struct vc_error *error)
{
  if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
      message->err == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE) {
    return take_out_of_range(consumer, message, error);
  }
  client_take_error(&consumer->client, message->err,
                    message->rkt != NULL ? rd_kafka_topic_name(message->rkt) : NULL,
                    rd_kafka_message_errstr(message));
  return 0;
}

static int check_fatal(const struct vc_kafka_consumer *consumer, struct vc_error *error)
{
  char why[256];
  return rd_kafka_fatal_error(consumer->handle, why, sizeof why) == RD_KAFKA_RESP_ERR_NO_ERROR
             ? 0
             : vc_error_set(error, "kafka: the consumer cannot go on: %s", why);
}

static int take_record(struct vc_kafka_consumer *consumer, rd_kafka_message_t *message,
                       struct vc_kafka_consumed *consumed)
{
  const char *topic = rd_kafka_topic_name(message->rkt);
  rd_kafka_topic_partition_t *own = find(consumer, topic, message->partition);
  if (own == NULL || consumer->is_moved || (own->offset >= 0 && message->offset < own->offset)) {
    return 0; // fetched before the partition was moved
  }
  rd_kafka_timestamp_type_t kind;
  int64_t produced_ms = rd_kafka_message_timestamp(message, &kind);
  own->offset = message->offset + 1;
  *consumed = (struct vc_kafka_consumed){
      .topic = topic,
      .partition = message->partition,
      .offset = message->offset,
      .key = message->key,
      .key_size = message->key_len,
      .value = message->payload,
      .size = message->len,
      .produced_ms = kind == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : produced_ms,
      .message = message,
  };
  vc_metric_add(consumer->client.slots, CONSUMED, 1);
  client_topic_works(&consumer->client, topic);
  return 1;
}

int vc_kafka_consumer_poll(struct vc_kafka_consumer *consumer, uint32_t wait_ms,
                           struct vc_kafka_consumed *consumed, struct vc_error *error)
{
  if (consumer->is_unplaced) {
    if (now_ns() >= consumer->ask_ns && place(consumer) == 0) {
      begin(consumer);
    }
  } else if (consumer->is_moved) {
    assign(consumer);
  }
  rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->handle, (int)wait_ms);
  if (message == NULL) {
    return check_fatal(consumer, error);
  }
  int status = message->err == RD_KAFKA_RESP_ERR_NO_ERROR ? take_record(consumer, message, consumed)
                                                          : take_error(consumer, message, error);
  if (status <= 0) {
    rd_kafka_message_destroy(message);
  }
  return status;
}

void vc_kafka_consumed_fini(struct vc_kafka_consumed *consumed)
{
  if (consumed->message != NULL) {
    rd_kafka_message_destroy(consumed->message);
  }
  *consumed = (struct vc_kafka_consumed){0};
}

static int is_assigned(const struct vc_kafka_consumer *consumer)
{
  return consumer->partitions != NULL && !consumer->is_unplaced && !consumer->is_moved;
}

void vc_kafka_consumer_pause(struct vc_kafka_consumer *consumer)
{
  if (!consumer->is_paused && is_assigned(consumer)) {
    rd_kafka_pause_partitions(consumer->handle, consumer->partitions);
  }
  consumer->is_paused = 1;
}

void vc_kafka_consumer_resume(struct vc_kafka_consumer *consumer)
{
  if (consumer->is_paused && is_assigned(consumer)) {
    rd_kafka_resume_partitions(consumer->handle, consumer->partitions);
  }
  consumer->is_paused = 0;
}

int vc_kafka_consumer_seek(struct vc_kafka_consumer *consumer,
                           const struct vc_kafka_position *position)
{
  rd_kafka_topic_partition_t *own = find(consumer, position->topic, position->partition);
  if (own == NULL) {
    return -1;
  }
  own->offset = position->next >= 0 ? position->next : RD_KAFKA_OFFSET_BEGINNING;
  consumer->is_moved = 1;
  return 0;
}

const char *vc_kafka_consumer_cluster(struct vc_kafka_consumer *consumer)
{
  if (consumer->cluster == NULL) {
    consumer->cluster = rd_kafka_clusterid(consumer->handle, CLUSTER_WAIT_MS);
  }
  return consumer->cluster;
}

const char *vc_kafka_consumer_trouble(struct vc_kafka_consumer *consumer)
{
  return client_print_trouble(&consumer->client, consumer->trouble, sizeof consumer->trouble)
             ? consumer->trouble
             : NULL;
}
