// The producer keeps an entry for each record by its id, which is also the opaque of the message:
// reports come from a thread of the handle's own that does nothing but poll. An entry is new, under
// way, stored or hopeless; a call of send moves the new ones on, in their order, and waits.
//
// Order: what librdkafka was given it sends in order, and gapless (config.c) makes an error that
// would break it fatal. Then the handle is replaced: what has no report is new again. Nothing is
// sent while a record before it could not be: a queue that is full, a topic that is unknown.
//
// A broker refuses a whole batch, for its size or for one record in it. From then on each record is
// a batch of its own, which is many times as slow, and what is refused then is hopeless. When
// SINGLE_MOST in a row were not refused they go in batches again.
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HASH_NONFATAL_OOM 1 // an element that was not added has hh.tbl NULL
#include <uthash.h>

#include <verbacast/base/backoff.h>
#include <verbacast/base/thread.h>

#include "room.h"

#define POLL_MS 100
#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS 5000
#define SINGLE_MOST 1000

static const char too_large_for_us[] = "larger than the producer's message.max.bytes";
static const char too_large_for_topic[] = "larger than the topic's max.message.bytes";
static const char refused_for_good[] = "refused by the brokers as invalid";

enum {
  STORED = N_CLIENT_METRICS,
  HOPELESS,
  TOO_LARGE,
  QUEUE_FULL,
  SENT_ANEW,
  REPLACED,
  STORE_MS,
};
const struct vc_metric vc_kafka_producer_metrics[] = {
    KAFKA_CLIENT_METRICS("kafka.producer_", "sent to"),
    [STORED] = {"kafka.stored_total", VC_METRIC_COUNTER, "records",
                "Records that all brokers in sync have acknowledged."},
    [HOPELESS] = {"kafka.hopeless_total", VC_METRIC_COUNTER, "records",
                  "Records that no broker will ever take."},
    [TOO_LARGE] = {"kafka.too_large_total", VC_METRIC_COUNTER, "records",
                   "Refusals for size; of a whole batch, or of one record that then is hopeless."},
    [QUEUE_FULL] = {"kafka.queue_full_total", VC_METRIC_COUNTER, "times",
                    "Times that the producer's queue had no room."},
    [SENT_ANEW] = {"kafka.sent_anew_total", VC_METRIC_COUNTER, "records",
                   "Records given to the brokers again: refused, or under way in a producer that "
                   "was replaced."},
    [REPLACED] = {"kafka.producers_replaced_total", VC_METRIC_COUNTER, "producers",
                  "Producers that could not go on, or not with each record by itself, and were "
                  "replaced."},
    [STORE_MS] = {"kafka.store_ms", VC_METRIC_DISTRIBUTION, "ms",
                  "From giving a record to the producer to its acknowledgment."},
    VC_METRIC_ROWS_END,
};

enum entry_state { ENTRY_NEW, ENTRY_UNDER_WAY, ENTRY_STORED, ENTRY_HOPELESS };

struct entry {
  struct vc_kafka_producer *producer;
  UT_hash_handle hh; // in producer.entries
  int64_t id;
  enum entry_state state;
  int is_wanted; // by the call of send
  int was_sent;
  uint64_t given_ns;
  const char *hopeless;
  char topic[VC_KAFKA_TOPIC_MAX + 1];
};

struct vc_kafka_producer {
  struct client client;
  struct vc_kafka_producer_settings settings;
  /* the caller's thread */
  rd_kafka_t *handle; // NULL: could not be made
  pthread_t thread;   // polls the handle
  rd_kafka_topic_t *warm[2];
  uint64_t retry_ns; // nothing is given to the handle before
  uint32_t retry_ms;
  /* any thread, under the mutex */
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  struct entry *entries; // by id
  size_t n_under_way, n_wanted_under_way;
  int is_waiting_for_room;
  int is_single;      // each record is a batch of its own
  int must_be_single; // with the next handle
  size_t n_single;    // stored by themselves since the last refusal
  int has_moved;      // since the last back-off a record was stored, or given up
  int has_failed;     // a record: it is time to look
  int is_broken;      // the handle must be replaced
  int is_ending;      // the thread
};

static uint64_t now_ns(void)
{
  return vc_clock_now_ns(&vc_clock_system);
}

// --- reports. Thread: the handle's

static int is_for_good(rd_kafka_resp_err_t code)
{
  switch (code) {
  case RD_KAFKA_RESP_ERR_INVALID_RECORD:
  case RD_KAFKA_RESP_ERR_INVALID_MSG:
  case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    return 1;
  default:
    return 0;
  }
}

static int breaks_handle(rd_kafka_resp_err_t code)
{
  return code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
         code == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED || code == RD_KAFKA_RESP_ERR__FATAL;
}

static void give_up(struct entry *entry, const char *why)
{
  entry->producer->has_moved = 1;
  entry->state = ENTRY_HOPELESS;
  entry->hopeless = why;
  vc_metric_add(entry->producer->client.slots, HOPELESS, 1);
}

static int is_left_behind(rd_kafka_resp_err_t code) // by an error of another record
{
  return code == RD_KAFKA_RESP_ERR__FATAL || code == RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE ||
         code == RD_KAFKA_RESP_ERR__PURGE_QUEUE || code == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
}

// The record itself, or another in its batch.
static void take_refusal(struct entry *entry, const char *why)
{
  struct vc_kafka_producer *producer = entry->producer;
  producer->n_single = 0;
  if (producer->is_single) {
    give_up(entry, why);
  } else {
    producer->must_be_single = producer->is_broken = 1;
  }
}

static void take_failure(struct entry *entry, rd_kafka_resp_err_t code)
{
  struct vc_kafka_producer *producer = entry->producer;
  entry->state = ENTRY_NEW;
  producer->has_failed = 1;
  producer->is_broken |= breaks_handle(code);
  if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
    vc_metric_add(producer->client.slots, TOO_LARGE, 1);
    take_refusal(entry, too_large_for_topic);
  } else if (is_for_good(code)) {
    take_refusal(entry, refused_for_good);
  } else if (!is_left_behind(code)) {
    client_take_error(&producer->client, code, entry->topic, rd_kafka_err2str(code));
  }
}

static void take_success(struct entry *entry)
{
  struct client *client = &entry->producer->client;
  uint64_t now = now_ns();
  entry->producer->has_moved = 1;
  entry->producer->n_single += (size_t)entry->producer->is_single;
  entry->state = ENTRY_STORED;
  vc_metric_add(client->slots, STORED, 1);
  vc_metric_record(client->slots, STORE_MS, (double)(now - entry->given_ns) / VC_NS_PER_MS, now);
  client_topic_works(client, entry->topic);
}

static void take_report(struct vc_kafka_producer *producer, const rd_kafka_message_t *message)
{
  struct entry *entry = message->_private;
  producer->n_under_way--;
  producer->n_wanted_under_way -= (size_t)entry->is_wanted;
  if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
    take_success(entry);
  } else {
    take_failure(entry, message->err);
  }
}

static void take_reports(struct vc_kafka_producer *producer, rd_kafka_event_t *event)
{
  const rd_kafka_message_t *message;
  pthread_mutex_lock(&producer->mutex);
  while ((message = rd_kafka_event_message_next(event)) != NULL) {
    take_report(producer, message);
  }
  if (producer->n_wanted_under_way == 0 || producer->n_under_way == 0 || producer->has_failed ||
      producer->is_waiting_for_room) {
    pthread_cond_signal(&producer->changed);
  }
  pthread_mutex_unlock(&producer->mutex);
}

static void take_event(struct vc_kafka_producer *producer, rd_kafka_event_t *event)
{
  switch (rd_kafka_event_type(event)) {
  case RD_KAFKA_EVENT_DR:
    take_reports(producer, event);
    break;
  case RD_KAFKA_EVENT_ERROR:
    client_take_failure(&producer->client, producer->handle,
                        rd_kafka_event_error_is_fatal(event) ? RD_KAFKA_RESP_ERR__FATAL
                                                             : rd_kafka_event_error(event),
                        rd_kafka_event_error_string(event));
    break;
  case RD_KAFKA_EVENT_STATS: {
    const char *json = rd_kafka_event_stats(event);
    statistics_take(&producer->client, json, strlen(json));
    break;
  }
  default:
    break;
  }
}

static int is_ending(struct vc_kafka_producer *producer)
{
  pthread_mutex_lock(&producer->mutex);
  if (rd_kafka_fatal_error(producer->handle, NULL, 0) != RD_KAFKA_RESP_ERR_NO_ERROR &&
      !producer->is_broken) {
    producer->is_broken = 1;
    pthread_cond_signal(&producer->changed);
  }
  int ending = producer->is_ending;
  pthread_mutex_unlock(&producer->mutex);
  return ending;
}

// Events, no callbacks: what is ours does not run within the library, and what watches threads and
// has to look away from the library sees it.
static void *poll_handle(void *context)
{
  struct vc_kafka_producer *producer = context;
  rd_kafka_queue_t *queue = rd_kafka_queue_get_main(producer->handle);
  while (!is_ending(producer)) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, POLL_MS);
    if (event != NULL) {
      take_event(producer, event);
      rd_kafka_event_destroy(event);
    }
  }
  rd_kafka_queue_destroy(queue);
  return NULL;
}

// --- the handle. Thread: the caller's

static int start_polling(struct vc_kafka_producer *producer)
{
  producer->is_ending = 0;
  return vc_thread_start(&producer->thread, "vc-kafka", 0, poll_handle, producer);
}

// The first record need not wait for librdkafka to learn who leads its partition.
static void warm_up(struct vc_kafka_producer *producer)
{
  static const enum vc_kafka_topic topics[] = {VC_KAFKA_TRANSCRIPTS, VC_KAFKA_SESSIONS};
  for (size_t i = 0; i < sizeof topics / sizeof *topics; i++) {
    char topic[VC_KAFKA_TOPIC_MAX + 1];
    kafka_topic_print(topic, producer->settings.options, topics[i]);
    producer->warm[i] = rd_kafka_topic_new(producer->handle, topic, NULL);
  }
}

static int open_handle(struct vc_kafka_producer *producer, struct vc_error *error)
{
  const struct vc_kafka_options *options = producer->settings.options;
  rd_kafka_conf_t *conf = kafka_conf_create(options, options->kafka_brokers, kafka_producer_ours,
                                            kafka_producer_fixed, error);
  if (conf == NULL) {
    return -1;
  }
  if (producer->must_be_single && kafka_conf_set(conf, "batch.num.messages", "1", error) != 0) {
    rd_kafka_conf_destroy(conf);
    return -1;
  }
  producer->is_single = producer->must_be_single;
  client_configure_log(&producer->client, conf);
  rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_STATS);
  producer->handle = kafka_new(RD_KAFKA_PRODUCER, conf, error);
  if (producer->handle == NULL) {
    return -1;
  }
  client_renewed(&producer->client);
  if (start_polling(producer) != 0) {
    rd_kafka_destroy(producer->handle);
    producer->handle = NULL;
    return vc_error_set(error, "kafka: no thread");
  }
  warm_up(producer);
  return 0;
}

static void close_handle(struct vc_kafka_producer *producer)
{
  if (producer->handle == NULL) {
    return;
  }
  pthread_mutex_lock(&producer->mutex);
  producer->is_ending = 1;
  pthread_mutex_unlock(&producer->mutex);
  pthread_join(producer->thread, NULL);
  for (size_t i = 0; i < sizeof producer->warm / sizeof *producer->warm; i++) {
    if (producer->warm[i] != NULL) {
      rd_kafka_topic_destroy(producer->warm[i]);
    }
    producer->warm[i] = NULL;
  }
  rd_kafka_destroy(producer->handle);
  producer->handle = NULL;
}

static void back_off(struct vc_kafka_producer *producer)
{
  producer->retry_ms = (uint32_t)vc_backoff_next(producer->has_moved ? 0 : producer->retry_ms,
                                                 RETRY_FIRST_MS, RETRY_MAX_MS);
  producer->retry_ns = now_ns() + producer->retry_ms * VC_NS_PER_MS;
  producer->has_moved = 0;
}

// What has no report is new again: another handle knows nothing of it.
static void replace_handle(struct vc_kafka_producer *producer)
{
  struct vc_error why;
  struct entry *entry, *next;
  if (producer->handle != NULL) {
    vc_metric_add(producer->client.slots, REPLACED, 1);
  }
  close_handle(producer);
  pthread_mutex_lock(&producer->mutex);
  HASH_ITER(hh, producer->entries, entry, next)
  {
    if (entry->state == ENTRY_UNDER_WAY) {
      entry->state = ENTRY_NEW;
    }
  }
  producer->n_under_way = producer->n_wanted_under_way = 0;
  producer->is_broken = 0;
  pthread_mutex_unlock(&producer->mutex);
  if (open_handle(producer, &why) != 0) {
    client_trouble(&producer->client, TROUBLE_FATAL, "%s", why.text);
    producer->is_broken = 1;
  }
}

int vc_kafka_producer_create(struct vc_kafka_producer **producer_out,
                             const struct vc_kafka_producer_settings *settings,
                             struct vc_error *error)
{
  struct vc_kafka_producer *producer = calloc(1, sizeof *producer);
  if (producer == NULL) {
    return vc_error_set(error, "kafka: no memory");
  }
  producer->settings = *settings;
  if (client_init(&producer->client, "producer", settings->options, settings->clock,
                  settings->metrics, vc_kafka_producer_metrics, error) != 0) {
    free(producer);
    return -1;
  }
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&producer->changed, &attributes);
  pthread_condattr_destroy(&attributes);
  pthread_mutex_init(&producer->mutex, NULL);
  *producer_out = producer;
  if (open_handle(producer, error) != 0) {
    vc_kafka_producer_destroy(producer_out, 0);
    return -1;
  }
  return 0;
}

// --- entries. Under the mutex

static void forget(struct vc_kafka_producer *producer, struct entry *entry)
{
  HASH_DEL(producer->entries, entry);
  free(entry);
}

static struct entry *find(struct vc_kafka_producer *producer, int64_t id)
{
  struct entry *entry;
  HASH_FIND(hh, producer->entries, &id, sizeof id, entry);
  return entry;
}

static struct entry *add(struct vc_kafka_producer *producer, const struct vc_kafka_record *record)
{
  struct entry *entry = calloc(1, sizeof *entry);
  if (entry == NULL) {
    return NULL;
  }
  entry->producer = producer;
  entry->id = record->id;
  kafka_topic_print(entry->topic, producer->settings.options, record->topic);
  HASH_ADD(hh, producer->entries, id, sizeof entry->id, entry);
  if (entry->hh.tbl == NULL) {
    free(entry);
    return NULL;
  }
  return entry;
}

// What is not asked for again is forgotten when its report is there.
static int want(struct vc_kafka_producer *producer, const struct vc_kafka_record *records,
                size_t n_records)
{
  struct entry *entry, *next;
  for (entry = producer->entries; entry != NULL; entry = entry->hh.next) {
    entry->is_wanted = 0;
  }
  producer->n_wanted_under_way = 0;
  for (size_t i = 0; i < n_records; i++) {
    entry = find(producer, records[i].id);
    entry = entry != NULL ? entry : add(producer, &records[i]);
    if (entry == NULL) {
      return -1;
    }
    assert(!entry->is_wanted);
    entry->is_wanted = 1;
    producer->n_wanted_under_way += entry->state == ENTRY_UNDER_WAY;
  }
  HASH_ITER(hh, producer->entries, entry, next)
  {
    if (!entry->is_wanted && entry->state != ENTRY_UNDER_WAY) {
      forget(producer, entry);
    }
  }
  return 0;
}

// --- sending

static const char *schema_of(const struct vc_kafka_producer *producer,
                             const struct vc_kafka_record *record)
{
  char sessions[VC_KAFKA_TOPIC_MAX + 1];
  kafka_topic_print(sessions, producer->settings.options, VC_KAFKA_SESSIONS);
  int is_of_sessions = record->source != NULL ? strcmp(record->source->topic, sessions) == 0
                                              : record->topic == VC_KAFKA_SESSIONS;
  return is_of_sessions ? "verbacast.sessions.v1" : "verbacast.transcript.v1";
}

static rd_kafka_headers_t *headers_of(const struct vc_kafka_producer *producer,
                                      const struct vc_kafka_record *record)
{
  rd_kafka_headers_t *headers =
      kafka_headers_create(schema_of(producer, record), producer->settings.node);
  const struct vc_kafka_source *source = record->source;
  if (source != NULL) {
    char partition[16], offset[24];
    snprintf(partition, sizeof partition, "%" PRId32, source->partition);
    snprintf(offset, sizeof offset, "%" PRId64, source->offset);
    rd_kafka_header_add(headers, "reason", -1, source->reason, -1);
    rd_kafka_header_add(headers, "topic", -1, source->topic, -1);
    rd_kafka_header_add(headers, "partition", -1, partition, -1);
    rd_kafka_header_add(headers, "offset", -1, offset, -1);
  }
  return headers;
}

static rd_kafka_resp_err_t give(struct vc_kafka_producer *producer, struct entry *entry,
                                const struct vc_kafka_record *record)
{
  return kafka_give(producer->handle,
                    &(struct kafka_message){.topic = entry->topic,
                                            .key = record->key,
                                            .key_size = record->key_size,
                                            .value = record->value,
                                            .size = record->size,
                                            .headers = headers_of(producer, record),
                                            .opaque = entry});
}

// Returns: 0 go on with the next, 1 nothing behind it may be sent now.
static int send_one(struct vc_kafka_producer *producer, struct entry *entry,
                    const struct vc_kafka_record *record)
{
  entry->given_ns = now_ns();
  rd_kafka_resp_err_t code = give(producer, entry, record);
  switch (code) {
  case RD_KAFKA_RESP_ERR_NO_ERROR:
    vc_metric_add(producer->client.slots, SENT_ANEW, (uint64_t)entry->was_sent);
    entry->was_sent = 1;
    entry->state = ENTRY_UNDER_WAY;
    producer->n_under_way++;
    producer->n_wanted_under_way++;
    return 0;
  case RD_KAFKA_RESP_ERR__QUEUE_FULL:
    vc_metric_add(producer->client.slots, QUEUE_FULL, 1);
    producer->is_waiting_for_room = 1;
    return 1;
  case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    vc_metric_add(producer->client.slots, TOO_LARGE, 1);
    give_up(entry, too_large_for_us);
    return 0;
  default:
    take_failure(entry, code);
    return 1;
  }
}

// Returns: how many have no report yet.
static size_t send_new(struct vc_kafka_producer *producer, const struct vc_kafka_record *records,
                       size_t n_records)
{
  size_t n_left = 0;
  int is_held = now_ns() < producer->retry_ns || producer->handle == NULL;
  producer->is_waiting_for_room = 0;
  for (size_t i = 0; i < n_records; i++) {
    struct entry *entry = find(producer, records[i].id);
    if (entry->state == ENTRY_NEW && !is_held) {
      is_held = send_one(producer, entry, &records[i]);
    }
    n_left += entry->state == ENTRY_NEW || entry->state == ENTRY_UNDER_WAY;
  }
  return n_left;
}

static void wait_changed(struct vc_kafka_producer *producer, uint64_t until_ns)
{
  struct timespec limit = {.tv_sec = (time_t)(until_ns / VC_NS_PER_S),
                           .tv_nsec = (long)(until_ns % VC_NS_PER_S)};
  pthread_cond_timedwait(&producer->changed, &producer->mutex, &limit);
}

// Where a record failed: those behind it are waited for before anything is sent anew, so that it
// does not fall behind them.
static int is_settling(const struct vc_kafka_producer *producer)
{
  return producer->has_failed && producer->n_under_way > 0 && !producer->is_broken;
}

static int repair(struct vc_kafka_producer *producer)
{
  if (!producer->is_broken || now_ns() < producer->retry_ns) {
    return 0;
  }
  pthread_mutex_unlock(&producer->mutex);
  replace_handle(producer);
  pthread_mutex_lock(&producer->mutex);
  return 1;
}

// What failed is sent anew, a little later each time.
static void start_over(struct vc_kafka_producer *producer)
{
  back_off(producer);
  producer->has_failed = 0;
}

// The next call has another handle.
static void go_back_to_batches(struct vc_kafka_producer *producer)
{
  if (producer->is_single && producer->n_single >= SINGLE_MOST) {
    producer->must_be_single = 0;
    producer->is_broken = 1;
    producer->n_single = 0;
  }
}

// Under the mutex. Returns: how many have no report yet.
static size_t send_until(struct vc_kafka_producer *producer, const struct vc_kafka_record *records,
                         size_t n_records, uint64_t until_ns)
{
  for (;;) {
    if (repair(producer)) {
      start_over(producer);
    }
    size_t n_left = n_records;
    if (!producer->is_broken && !is_settling(producer)) {
      if (producer->has_failed) {
        start_over(producer);
      }
      n_left = send_new(producer, records, n_records);
    }
    if (n_left == 0) {
      producer->retry_ms = 0;
      go_back_to_batches(producer);
      return 0;
    }
    uint64_t now = now_ns();
    if (now >= until_ns) {
      return n_left;
    }
    uint64_t wake_ns =
        now < producer->retry_ns && producer->retry_ns < until_ns ? producer->retry_ns : until_ns;
    wait_changed(producer, wake_ns);
  }
}

static void tell_trouble(struct vc_kafka_producer *producer, size_t n_left, size_t n_records,
                         struct vc_error *error)
{
  char text[400];
  if (client_print_trouble(&producer->client, text, sizeof text)) {
    vc_error_set(error, "kafka: %s", text);
  } else {
    vc_error_set(error, "kafka: %zu of %zu records are not acknowledged yet by %s", n_left,
                 n_records, producer->settings.options->kafka_brokers);
  }
}

static int ask_brokers(struct vc_kafka_producer *producer, uint32_t wait_ms, struct vc_error *error)
{
  const struct rd_kafka_metadata *metadata;
  rd_kafka_resp_err_t code =
      producer->handle != NULL
          ? rd_kafka_metadata(producer->handle, 0, producer->warm[0], &metadata, (int)wait_ms)
          : RD_KAFKA_RESP_ERR__STATE;
  if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
    rd_kafka_metadata_destroy(metadata);
    return 0;
  }
  char text[400];
  vc_error_set(error, "kafka: %s",
               client_print_trouble(&producer->client, text, sizeof text) ? text
                                                                          : rd_kafka_err2str(code));
  return 1;
}

int vc_kafka_producer_send(struct vc_kafka_producer *producer, struct vc_kafka_record *records,
                           size_t n_records, uint32_t wait_ms, struct vc_error *error)
{
  uint64_t until_ns = now_ns() + wait_ms * VC_NS_PER_MS;
  if (n_records == 0) {
    return ask_brokers(producer, wait_ms, error);
  }
  pthread_mutex_lock(&producer->mutex);
  if (want(producer, records, n_records) != 0) {
    pthread_mutex_unlock(&producer->mutex);
    return vc_error_set(error, "kafka: no memory");
  }
  size_t n_left = send_until(producer, records, n_records, until_ns);
  for (size_t i = 0; i < n_records; i++) {
    struct entry *entry = find(producer, records[i].id);
    records[i].hopeless = entry->hopeless;
    if (n_left == 0) {
      forget(producer, entry);
    }
  }
  pthread_mutex_unlock(&producer->mutex);
  if (n_left > 0) {
    tell_trouble(producer, n_left, n_records, error);
    return 1;
  }
  return 0;
}

void vc_kafka_producer_destroy(struct vc_kafka_producer **producer_in, uint32_t flush_ms)
{
  struct vc_kafka_producer *producer = *producer_in;
  if (producer == NULL) {
    return;
  }
  uint64_t until_ns = now_ns() + flush_ms * VC_NS_PER_MS;
  pthread_mutex_lock(&producer->mutex);
  while (producer->n_under_way > 0 && !producer->is_broken && now_ns() < until_ns) {
    wait_changed(producer, until_ns);
  }
  pthread_mutex_unlock(&producer->mutex);
  close_handle(producer);
  struct entry *entry, *next;
  HASH_ITER(hh, producer->entries, entry, next)
  {
    forget(producer, entry);
  }
  pthread_cond_destroy(&producer->changed);
  pthread_mutex_destroy(&producer->mutex);
  client_fini(&producer->client);
  free(producer);
  *producer_in = NULL;
}
