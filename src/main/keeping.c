#include "keeping.h"

#include <verbacast/base/log.h>

#include <stdlib.h>
#include <string.h>

#define KAFKA_MOST 1000      // rows in a batch
#define KAFKA_BACKOFF_MS 100 // the producer waits by itself
#define EXPIRE_EVERY_MS 60000
#define EXPIRE_MOST 100 // sessions at a time, so that rows need not wait for long
#define DAY_MS INT64_C(86400000)
#define QUICK_MS 1000 // a database that took longer has no time for what is old

int keeping_has_kafka(const struct vc_kafka_options *options)
{
  return options->kafka_brokers[0] != '\0';
}

uint32_t keeping_call_max_ms(const struct vc_store_options *store,
                             const struct vc_kafka_options *kafka)
{
  return keeping_has_kafka(kafka) ? KEEPING_WAIT_MS
                                  : KEEPING_CALLS_MAX * vc_store_call_max_ms(store->database_url);
}

// --- the database. Thread: the relay's, but for the first call

static int read_epoch(struct keeping *keeping, struct vc_error *error)
{
  if (atomic_load_explicit(&keeping->stored_epoch, memory_order_relaxed) != 0) {
    return 0;
  }
  int64_t epoch = vc_store_highest_epoch(keeping->store, error);
  if (epoch < 0) {
    return -1;
  }
  atomic_store_explicit(&keeping->stored_epoch, epoch, memory_order_relaxed);
  return 0;
}

static int open_store(struct keeping *keeping, struct vc_error *error)
{
  if (vc_store_open(&keeping->store, keeping->settings.store->database_url, error) != 0) {
    return -1;
  }
  if (read_epoch(keeping, error) != 0) {
    vc_store_close(&keeping->store);
    return -1;
  }
  return 0;
}

static int write_rows(struct keeping *keeping, const struct vc_journal_row *rows, size_t n_rows,
                      struct vc_error *error)
{
  struct vc_store_row *batch = calloc(n_rows + 1, sizeof *batch);
  if (batch == NULL) {
    return vc_error_set(error, "no memory for a batch of %zu", n_rows);
  }
  for (size_t i = 0; i < n_rows; i++) {
    batch[i] = (struct vc_store_row){.topic = "journal",
                                     .key = rows[i].key,
                                     .epoch = rows[i].epoch,
                                     .value = rows[i].value,
                                     .size = rows[i].size};
  }
  uint64_t begun = vc_clock_now_ns(&vc_clock_system);
  int status = vc_store_write(keeping->store, batch, n_rows, error);
  vc_store_tell_time(keeping->store_slots, begun, vc_clock_now_ns(&vc_clock_system));
  vc_store_tell(keeping->store_slots, batch, status == 0 ? n_rows : 0);
  free(batch);
  return status;
}

// A little at a time: what is left goes at the next, and so does what could not be deleted, so that
// no row waits for that.
static int expire(struct keeping *keeping, struct vc_error *error)
{
  int64_t days = keeping->settings.store->retention_days;
  uint64_t now = vc_clock_now_ns(&vc_clock_system);
  if (days == 0 || now < keeping->expire_ns) {
    return 0;
  }
  keeping->expire_ns = now + EXPIRE_EVERY_MS * VC_NS_PER_MS;
  int64_t before_ms = vc_clock_unix_ms(&vc_clock_system) - days * DAY_MS;
  struct vc_store_expiry expiry;
  int status = vc_store_expire(keeping->store, before_ms, EXPIRE_MOST, &expiry, error);
  vc_store_tell_expiry(keeping->store_slots, &expiry);
  if (expiry.n_gone > 0) {
    vc_log(VC_LOG_INFO, VC_EVENT("store.expired"), VC_INT("sessions", expiry.n_gone),
           VC_INT("retention_days", days));
  }
  return status;
}

static int write_to_store(void *context, struct vc_journal_row *rows, size_t n_rows,
                          struct vc_error *error)
{
  struct keeping *keeping = context;
  if (keeping->store == NULL && open_store(keeping, error) != 0) {
    return -1;
  }
  uint64_t begun = vc_clock_now_ns(&vc_clock_system);
  int status = write_rows(keeping, rows, n_rows, error);
  int is_quick = vc_clock_now_ns(&vc_clock_system) - begun < QUICK_MS * VC_NS_PER_MS;
  struct vc_error why;
  if (status == 0 && is_quick && expire(keeping, &why) != 0) {
    // The rows are there: only what is old stays longer.
    vc_log(VC_LOG_WARN, VC_EVENT("store.expire_stopped"), VC_STR("why", why.text));
    vc_store_close(&keeping->store);
  }
  if (status != 0) {
    vc_store_close(&keeping->store); // opened anew at the next try
  }
  return status;
}

// --- Kafka. Thread: the relay's

static enum vc_kafka_topic topic_of(enum vc_record_kind kind)
{
  return kind == VC_RECORD_FINAL ? VC_KAFKA_TRANSCRIPTS : VC_KAFKA_SESSIONS;
}

static int send_to_kafka(void *context, struct vc_journal_row *rows, size_t n_rows,
                         struct vc_error *error)
{
  struct keeping *keeping = context;
  struct vc_kafka_record *records = calloc(n_rows + 1, sizeof *records);
  if (records == NULL) {
    return vc_error_set(error, "no memory for a batch of %zu", n_rows);
  }
  for (size_t i = 0; i < n_rows; i++) {
    records[i] = (struct vc_kafka_record){.id = rows[i].id,
                                          .topic = topic_of(rows[i].kind),
                                          .key = rows[i].key,
                                          .key_size = strlen(rows[i].key),
                                          .value = rows[i].value,
                                          .size = rows[i].size};
  }
  int status = vc_kafka_producer_send(keeping->producer, records, n_rows, KEEPING_WAIT_MS, error);
  for (size_t i = 0; i < n_rows && status == 0; i++) {
    rows[i].hopeless = records[i].hopeless;
  }
  free(records);
  return status == 0 ? 0 : -1;
}

// Whether the database that the sink writes is there yet is not this node's business.
static void read_epoch_once(struct keeping *keeping)
{
  const char *url = keeping->settings.store->database_url;
  struct vc_error why;
  if (url[0] == '\0') {
    return;
  }
  if (vc_store_open_existing(&keeping->store, url, &why) != 0 || read_epoch(keeping, &why) != 0) {
    vc_log(VC_LOG_INFO, VC_EVENT("store.unread"), VC_STR("why", why.text));
  }
  vc_store_close(&keeping->store);
}

static int init_kafka(struct keeping *keeping, struct vc_error *error)
{
  const struct keeping_settings *settings = &keeping->settings;
  read_epoch_once(keeping);
  if (vc_kafka_producer_create(&keeping->producer,
                               &(struct vc_kafka_producer_settings){.options = settings->kafka,
                                                                    .node = settings->node,
                                                                    .clock = &vc_clock_system,
                                                                    .metrics = settings->metrics},
                               error) != 0) {
    return -1;
  }
  vc_health_set(settings->health, "kafka", "no broker has answered yet");
  return 0;
}

// --- either

// Whoever reads the metrics finds the same names whatever is configured.
static int name_metrics(struct vc_metrics *metrics, struct vc_error *error)
{
  const struct vc_metric *const tables[] = {vc_store_metrics, vc_kafka_producer_metrics,
                                            vc_kafka_partials_metrics};
  for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
    if (vc_metrics_slots_create(metrics, tables[i]) == NULL) {
      return vc_error_set(error, "no memory for metrics");
    }
  }
  return 0;
}

int keeping_init(struct keeping *keeping, const struct keeping_settings *settings,
                 struct vc_error *error)
{
  struct vc_error why;
  keeping->settings = *settings;
  if (name_metrics(settings->metrics, error) != 0) {
    return -1;
  }
  if (keeping_has_kafka(settings->kafka)) {
    return init_kafka(keeping, error);
  }
  keeping->store_slots = vc_metrics_slots_create(settings->metrics, vc_store_metrics);
  if (settings->store->database_url[0] != '\0' && open_store(keeping, &why) != 0) {
    vc_health_set(settings->health, "database", why.text);
  }
  return 0;
}

void keeping_fini(struct keeping *keeping)
{
  vc_store_close(&keeping->store);
  vc_kafka_producer_destroy(&keeping->producer, 0); // the relay has waited as long as it may
}

struct vc_journal_sink keeping_sink(struct keeping *keeping)
{
  const struct keeping_settings *settings = &keeping->settings;
  if (keeping->producer != NULL) {
    return (struct vc_journal_sink){.write = send_to_kafka,
                                    .what = "kafka",
                                    .most = KAFKA_MOST,
                                    .backoff_max_ms = KAFKA_BACKOFF_MS,
                                    .is_past_disk = 1,
                                    .erased_by = settings->node,
                                    .context = keeping};
  }
  int has_store = settings->store->database_url[0] != '\0';
  return (struct vc_journal_sink){.write = has_store ? write_to_store : NULL,
                                  .what = "database",
                                  .gather_ms = (uint32_t)settings->store->batch_flush_interval_ms,
                                  .most = (uint32_t)settings->store->batch_max_size,
                                  .idle_ms =
                                      settings->store->retention_days > 0 ? EXPIRE_EVERY_MS : 0,
                                  .context = keeping};
}
