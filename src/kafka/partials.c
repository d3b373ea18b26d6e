// Partials: a producer that keeps nothing for anybody. Its worker never waits: librdkafka's queue
// takes a partial at once or not at all. The worker polls for the reports itself.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <verbacast/flow/record.h>

#include "room.h"

#define LANE_CAPACITY 4096
#define TICK_MS 100
#define RENEW_MS 5000 // a handle that topics are refused to
#define NUMBER_MAX 24
#define SCHEMA "verbacast.transcript.v1"

enum {
  DELIVERED = N_CLIENT_METRICS,
  DROPPED,
};
const struct vc_metric vc_kafka_partials_metrics[] = {
    KAFKA_CLIENT_METRICS("kafka.partials_", "sent to"),
    [DELIVERED] = {"kafka.partials_delivered_total", VC_METRIC_COUNTER, "records",
                   "Partials that a broker has acknowledged."},
    [DROPPED] = {"kafka.partials_dropped_total", VC_METRIC_COUNTER, "records",
                 "Partials that found the queue full, or that no broker took in time."},
    VC_METRIC_ROWS_END,
};

struct partials {
  struct client client;
  struct vc_kafka_producer_settings settings;
  char topic[VC_KAFKA_TOPIC_MAX + 1];
  rd_kafka_t *handle; // NULL: could not be made again yet
  uint64_t opened_ns;
  int is_broken;
};

static void take_report(rd_kafka_t *handle, const rd_kafka_message_t *message, void *opaque)
{
  struct client *client = opaque;
  struct partials *partials = client->owner;
  if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
    vc_metric_add(client->slots, DELIVERED, 1);
    client_topic_works(client, partials->topic);
    return;
  }
  vc_metric_add(client->slots, DROPPED, 1);
  if (message->err != RD_KAFKA_RESP_ERR__MSG_TIMED_OUT) {
    client_take_error(client, message->err, partials->topic, rd_kafka_err2str(message->err));
  }
  partials->is_broken |= message->err == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
}

static int open_handle(struct partials *partials, uint64_t now, struct vc_error *error)
{
  const struct vc_kafka_options *options = partials->settings.options;
  char most[NUMBER_MAX];
  partials->opened_ns = now;
  rd_kafka_conf_t *conf = kafka_conf_create(options, options->kafka_brokers, kafka_partials_ours,
                                            kafka_partials_fixed, error);
  if (conf == NULL) {
    return -1;
  }
  snprintf(most, sizeof most, "%d", VC_KAFKA_PARTIALS_MAX);
  if (kafka_conf_set(conf, "queue.buffering.max.messages", most, error) != 0) {
    rd_kafka_conf_destroy(conf);
    return -1;
  }
  client_configure(&partials->client, conf);
  rd_kafka_conf_set_dr_msg_cb(conf, take_report);
  client_renewed(&partials->client);
  partials->handle = kafka_new(RD_KAFKA_PRODUCER, conf, error);
  return partials->handle != NULL ? 0 : -1;
}

static void close_handle(struct partials *partials)
{
  if (partials->handle != NULL) {
    rd_kafka_purge(partials->handle, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_poll(partials->handle, 0); // the reports of what is dropped
    rd_kafka_destroy(partials->handle);
    partials->handle = NULL;
  }
}

static int enter(struct vc_worker *worker, void *config, struct vc_error *error)
{
  const struct vc_kafka_producer_settings *settings = config;
  struct partials *partials = calloc(1, sizeof *partials);
  if (partials == NULL) {
    return vc_error_set(error, "kafka: no memory");
  }
  partials->settings = *settings;
  kafka_topic_print(partials->topic, settings->options, VC_KAFKA_PARTIAL);
  if (client_init(&partials->client, "partials", settings->options, settings->clock,
                  settings->metrics, vc_kafka_partials_metrics, error) != 0) {
    free(partials);
    return -1;
  }
  partials->client.owner = partials;
  if (open_handle(partials, vc_worker_now_ns(worker), error) != 0) {
    client_fini(&partials->client);
    free(partials);
    return -1;
  }
  vc_worker_set_state(worker, partials);
  return 0;
}

// Returns: 0, or -1: it is dropped.
static int give(struct partials *partials, const struct vc_record *record)
{
  if (partials->handle == NULL) {
    return -1;
  }
  rd_kafka_headers_t *headers = kafka_headers_create(SCHEMA, partials->settings.node);
  rd_kafka_resp_err_t code =
      kafka_give(partials->handle, &(struct kafka_message){.topic = partials->topic,
                                                           .key = record->slug,
                                                           .key_size = strlen(record->slug),
                                                           .value = record->value->data,
                                                           .size = record->value->size,
                                                           .headers = headers});
  if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR__QUEUE_FULL) {
    client_take_error(&partials->client, code, partials->topic, rd_kafka_err2str(code));
    partials->is_broken |= code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
  }
  return code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : -1;
}

static void handle(struct vc_worker *worker, struct vc_item *item)
{
  struct partials *partials = vc_worker_state(worker);
  const struct vc_record *record = (const struct vc_record *)item;
  if (item->kind == VC_ITEM_RECORD && record->kind == VC_RECORD_PARTIAL &&
      give(partials, record) != 0) {
    vc_metric_add(partials->client.slots, DROPPED, 1);
  }
  vc_item_destroy(item);
}

static void poll_reports(struct vc_worker *worker)
{
  struct partials *partials = vc_worker_state(worker);
  if (partials->handle != NULL) {
    rd_kafka_poll(partials->handle, 0);
  }
}

static void tick(struct vc_worker *worker)
{
  struct partials *partials = vc_worker_state(worker);
  struct vc_error why;
  uint64_t now = vc_worker_now_ns(worker);
  poll_reports(worker);
  if ((partials->is_broken || partials->handle == NULL) &&
      now - partials->opened_ns >= RENEW_MS * VC_NS_PER_MS) {
    close_handle(partials);
    partials->is_broken = 0;
    if (open_handle(partials, now, &why) != 0) {
      client_trouble(&partials->client, TROUBLE_FATAL, "%s", why.text);
    }
  }
}

static void leave(struct vc_worker *worker)
{
  struct partials *partials = vc_worker_state(worker);
  close_handle(partials);
  client_fini(&partials->client);
  free(partials);
}

static const struct vc_stage_ops ops = {
    .name = "partials",
    .enter = enter,
    .handle = handle,
    .turned = poll_reports,
    .tick = tick,
    .leave = leave,
};

int vc_kafka_partials_create(struct vc_stage **stage,
                             const struct vc_kafka_producer_settings *settings,
                             struct vc_error *error)
{
  return vc_stage_create(stage,
                         &(struct vc_stage_settings){
                             .ops = &ops,
                             .config = settings,
                             .config_size = sizeof *settings,
                             .n_workers = 1,
                             .tick_ms = TICK_MS,
                             .lane_capacity = LANE_CAPACITY,
                             .clock = settings->clock,
                             .metrics = settings->metrics,
                         },
                         error);
}
