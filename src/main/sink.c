#include "sink.h"

#include <verbacast/base/backoff.h>
#include <verbacast/base/log.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "sink_batch.h"

#define POLL_MS 100
#define AHEAD_MAX 100000 // records; 16 MiB of them come first
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 5000
#define EXPIRE_EVERY_MS 60000
#define EXPIRE_SOON_MS 1000 // the portion was full
#define EXPIRE_MOST 100     // sessions
#define LEAVE_FLUSH_MS 1000
#define MS_PER_DAY INT64_C(86400000)

enum {
  BATCHES,
  BATCH_ROWS,
  LAG_MS,
  RETRIES,
  FENCED,
  REWOUND,
  PAUSED,
  TOMBSTONES,
  DEAD_LETTERS,
  DEAD_REFUSED,
  EXPIRED
};
const struct vc_metric sink_metrics[] = {
    [BATCHES] = {"sink.batches_total", VC_METRIC_COUNTER, "batches",
                 "Transactions of rows and positions that were committed."},
    [BATCH_ROWS] = {"sink.batch_rows", VC_METRIC_DISTRIBUTION, "rows", "Rows in such a one."},
    [LAG_MS] = {"sink.lag_ms", VC_METRIC_DISTRIBUTION, "ms",
                "From a record's time in Kafka to its commit in the database."},
    [RETRIES] = {"sink.retries_total", VC_METRIC_COUNTER, "tries",
                 "Calls of the database, or for dead letters, that failed and are tried again."},
    [FENCED] = {"sink.fenced_total", VC_METRIC_COUNTER, "batches",
                "Batches thrown away because another sink had moved a position."},
    [REWOUND] = {"sink.rewound_total", VC_METRIC_COUNTER, "rows",
                 "Rows let go of, for that or for a rebalance; they are read again by whoever has "
                 "their partition."},
    [PAUSED] = {"sink.paused", VC_METRIC_GAUGE, "1",
                "1 while nothing is consumed: the database or the dead letters' topic is away."},
    [TOMBSTONES] = {"sink.tombstones_total", VC_METRIC_COUNTER, "records",
                    "Records without a value, passed over."},
    [DEAD_LETTERS] = {"sink.dead_letters_total", VC_METRIC_COUNTER, "records",
                      "Records that the database cannot keep, written to the dead letters' topic."},
    [DEAD_REFUSED] = {"sink.dead_letters_refused_total", VC_METRIC_COUNTER, "records",
                      "Of those, records that the dead letters' topic will never take; the log "
                      "names each."},
    [EXPIRED] = {"sink.expired_total", VC_METRIC_COUNTER, "sessions",
                 "Sessions deleted because of RETENTION_DAYS."},
    VC_METRIC_ROWS_END,
};

struct sink {
  /* set before start, then read-only */
  struct sink_settings settings;
  struct vc_slots *slots, *store_slots;
  /* the sink's thread only */
  struct vc_kafka_consumer *consumer;
  struct vc_kafka_producer *producer;
  struct vc_store *store; // NULL: closed
  struct sink_batch batch;
  struct vc_kafka_record *letters;
  struct vc_kafka_source *sources; // of the letters
  struct vc_error letters_trouble; // "": none
  struct vc_error trouble;         // of the last try
  struct vc_error broken;          // "": it can go on
  uint64_t backoff_ms;             // 0: all is well
  uint64_t retry_ns;
  uint64_t expire_ns;
  uint32_t random;
  unsigned n_connections; // of the store, when the positions were read; 0: of none
  int must_reread;        // the positions, before anything is written
  int is_in_doubt;        // the last try may have been committed
  int is_paused;
  int is_finishing;
  int has_reset;
  int knows_cluster; // that the group's positions are not another's
  /* any thread, atomic: times on the clock, for sink_is_stuck alone */
  _Atomic uint64_t turned_ns;
  _Atomic uint64_t call_ns; // 0: no call of the database
};

static uint64_t now_ns(const struct sink *sink)
{
  return vc_clock_now_ns(sink->settings.clock);
}

static void begin_call(struct sink *sink)
{
  atomic_store_explicit(&sink->call_ns, now_ns(sink), memory_order_relaxed);
}

static void end_call(struct sink *sink)
{
  atomic_store_explicit(&sink->call_ns, 0, memory_order_relaxed);
  atomic_store_explicit(&sink->turned_ns, now_ns(sink), memory_order_relaxed);
}

int sink_is_stuck(const struct sink *sink, uint32_t silent_ms)
{
  // Relaxed: each is looked at by itself.
  uint64_t turned = atomic_load_explicit(&sink->turned_ns, memory_order_relaxed);
  uint64_t call = atomic_load_explicit(&sink->call_ns, memory_order_relaxed);
  uint64_t since = call != 0 ? call : turned;
  uint64_t most_ms = call != 0 ? SINK_CALL_MAX_MS : silent_ms;
  uint64_t now = now_ns(sink);
  return now > since && now - since > most_ms * VC_NS_PER_MS;
}

// --- the database, and what is done without it

// Half of it at least, so that many sinks do not come back at once.
static uint64_t jitter_ms(struct sink *sink, uint64_t ms)
{
  sink->random = sink->random * 1664525 + 1013904223;
  return ms / 2 + (uint64_t)(sink->random >> 16) % (ms / 2 + 1);
}

static int try_later(struct sink *sink, const struct vc_error *why)
{
  sink->trouble = *why;
  sink->backoff_ms = vc_backoff_next(sink->backoff_ms, BACKOFF_FIRST_MS, BACKOFF_MAX_MS);
  sink->retry_ns = now_ns(sink) + jitter_ms(sink, sink->backoff_ms) * VC_NS_PER_MS;
  vc_metric_add(sink->slots, RETRIES, 1);
  return -1;
}

// It is opened anew at the next try.
static int lose_store(struct sink *sink, const struct vc_error *why)
{
  vc_health_set(sink->settings.health, "database", why->text);
  vc_store_close(&sink->store);
  sink->n_connections = 0;
  return try_later(sink, why);
}

static void go_on(struct sink *sink)
{
  if (sink->backoff_ms > 0) {
    sink->backoff_ms = 0;
    vc_health_clear(sink->settings.health, "database");
  }
}

static int open_store(struct sink *sink, struct vc_error *error)
{
  const struct sink_options *options = sink->settings.options;
  if (sink->store == NULL && vc_store_open(&sink->store, options->store.database_url, error) != 0) {
    return -1;
  }
  if (options->reset_offsets && !sink->has_reset) {
    if (vc_store_reset_positions(sink->store, options->kafka_group, error) != 0) {
      return -1;
    }
    sink->has_reset = 1;
    vc_log(VC_LOG_WARN, VC_EVENT("sink.reset"), VC_STR("group", options->kafka_group));
  }
  return 0;
}

// --- positions

// Returns: 0, or -1: it cannot be told, or the sink is broken.
static int check_cluster(struct sink *sink, const char *cluster, struct vc_error *error)
{
  char other[128];
  const char *group = sink->settings.options->kafka_group;
  if (sink->knows_cluster) {
    return 0;
  }
  int status = vc_store_find_other_cluster(sink->store, cluster, group, other, sizeof other, error);
  if (status > 0) {
    vc_error_set(&sink->broken,
                 "the positions of group %s are of the cluster %s, and the brokers are of %s; "
                 "--reset-offsets forgets them and begins at the first record there is",
                 group, other, cluster);
    *error = sink->broken;
    return -1;
  }
  sink->knows_cluster = status == 0;
  return status;
}

static int find_positions(struct sink *sink, const char *cluster,
                          struct vc_kafka_position *positions, size_t n, struct vc_error *error)
{
  const char *group = sink->settings.options->kafka_group;
  int status = open_store(sink, error);
  if (status == 0) {
    status = check_cluster(sink, cluster, error);
  }
  for (size_t i = 0; i < n && status == 0; i++) {
    begin_call(sink);
    status = vc_store_find_position(sink->store, cluster, group, positions[i].topic,
                                    positions[i].partition, &positions[i].next, error);
  }
  return status;
}

static int take_partitions(struct sink *sink, const struct vc_kafka_position *positions, size_t n,
                           struct vc_error *error)
{
  for (size_t i = 0; i < n; i++) {
    const struct vc_kafka_position *at = &positions[i];
    if (sink_batch_assign(&sink->batch, at->topic, at->partition, at->next) != 0) {
      return vc_error_set(error, "no memory for %zu partitions", n);
    }
    vc_log(VC_LOG_INFO, VC_EVENT("sink.assigned"), VC_STR("topic", at->topic),
           VC_INT("partition", at->partition), VC_INT("next", at->next));
  }
  return 0;
}

static int assigned(void *context, struct vc_kafka_position *positions, size_t n,
                    struct vc_error *error)
{
  struct sink *sink = context;
  const char *cluster = vc_kafka_consumer_cluster(sink->consumer);
  if (cluster == NULL) {
    return vc_error_set(error, "the cluster's id is not known yet");
  }
  if (sink->broken.text[0] != '\0' || (sink->backoff_ms > 0 && now_ns(sink) < sink->retry_ns)) {
    *error = sink->backoff_ms > 0 ? sink->trouble : sink->broken;
    return -1;
  }
  begin_call(sink);
  int status = find_positions(sink, cluster, positions, n, error);
  end_call(sink);
  if (status != 0) {
    return sink->broken.text[0] != '\0' ? -1 : lose_store(sink, error);
  }
  go_on(sink);
  sink->n_connections = vc_store_connections(sink->store);
  return take_partitions(sink, positions, n, error);
}

static void revoked(void *context, const struct vc_kafka_position *positions, size_t n)
{
  struct sink *sink = context;
  size_t n_rows = 0;
  for (size_t i = 0; i < n; i++) {
    n_rows += sink_batch_revoke(&sink->batch, positions[i].topic, positions[i].partition);
  }
  vc_metric_add(sink->slots, REWOUND, n_rows);
  vc_log(VC_LOG_INFO, VC_EVENT("sink.revoked"), VC_INT("partitions", n), VC_INT("rows", n_rows));
}

// Returns: 1 when the table says of all what this batch would have made it say: the try whose
// answer did not come was committed.
static int is_written(const struct sink_batch *batch)
{
  for (size_t i = 0; i < batch->n_positions; i++) {
    if (batch->positions[i].found != batch->positions[i].next) {
      return 0;
    }
  }
  return 1;
}

static int is_unmoved(const struct sink_batch *batch)
{
  for (size_t i = 0; i < batch->n_positions; i++) {
    if (batch->positions[i].found != batch->positions[i].from) {
      return 0;
    }
  }
  return 1;
}

static void seek_to_positions(struct sink *sink)
{
  for (size_t i = 0; i < sink->batch.n_positions; i++) {
    const struct sink_position *position = &sink->batch.positions[i];
    const struct vc_kafka_position to = {
        .topic = position->topic, .partition = position->partition, .next = position->next};
    if (vc_kafka_consumer_seek(sink->consumer, &to) != 0) {
      vc_log(VC_LOG_INFO, VC_EVENT("sink.not_ours"), VC_STR("topic", to.topic),
             VC_INT("partition", to.partition)); // its revocation follows
    }
  }
}

static int read_positions(struct sink *sink, struct vc_error *error)
{
  const char *cluster = vc_kafka_consumer_cluster(sink->consumer);
  struct sink_batch *batch = &sink->batch;
  if (open_store(sink, error) != 0) {
    return -1;
  }
  for (size_t i = 0; i < batch->n_positions; i++) {
    struct sink_position *position = &batch->positions[i];
    begin_call(sink);
    if (vc_store_find_position(sink->store, cluster, sink->settings.options->kafka_group,
                               position->topic, position->partition, &position->found,
                               error) != 0) {
      return -1;
    }
  }
  return 0;
}

static void rewind_batch(struct sink *sink)
{
  size_t n_rows = sink_batch_rewind(&sink->batch);
  vc_metric_add(sink->slots, FENCED, 1);
  vc_metric_add(sink->slots, REWOUND, n_rows);
  vc_log(VC_LOG_WARN, VC_EVENT("sink.fenced"), VC_INT("rows", n_rows));
  seek_to_positions(sink);
}

// A position was not what it should have been, or may not be. Returns: 0, or -1: it cannot be told
// yet.
static int reread(struct sink *sink)
{
  struct vc_error error = {.text = ""};
  begin_call(sink);
  int status = read_positions(sink, &error);
  end_call(sink);
  if (status != 0) {
    return lose_store(sink, &error);
  }
  sink->must_reread = 0;
  sink->n_connections = vc_store_connections(sink->store);
  if (sink->is_in_doubt && is_written(&sink->batch)) {
    vc_log(VC_LOG_INFO, VC_EVENT("sink.was_written"), VC_INT("rows", sink->batch.n_rows));
    vc_metric_add(sink->slots, BATCHES, 1);
    sink_batch_settle(&sink->batch);
  } else if (!is_unmoved(&sink->batch)) {
    rewind_batch(sink);
  }
  sink->is_in_doubt = 0;
  go_on(sink);
  return 0;
}

// --- dead letters

static size_t address_letters(struct sink *sink, const struct vc_store_row *rows, size_t n_rows)
{
  size_t n = 0;
  for (size_t i = 0; i < n_rows; i++) {
    const struct sink_row *row = &sink->batch.rows[i]; // as they were shown
    int is_dead = rows[i].outcome == VC_STORE_CONFLICT || rows[i].outcome == VC_STORE_POISONED;
    if (!is_dead) {
      continue;
    }
    sink->sources[n] = (struct vc_kafka_source){.topic = row->consumed.topic,
                                                .partition = row->consumed.partition,
                                                .offset = row->consumed.offset,
                                                .reason = rows[i].why};
    sink->letters[n] = (struct vc_kafka_record){.id = row->id,
                                                .topic = VC_KAFKA_DEAD,
                                                .key = row->consumed.key,
                                                .key_size = row->consumed.key_size,
                                                .value = row->consumed.value,
                                                .size = row->consumed.size,
                                                .source = &sink->sources[n]};
    n++;
  }
  return n;
}

static void tell_letters(struct sink *sink, size_t n)
{
  size_t n_refused = 0;
  for (size_t i = 0; i < n; i++) {
    const struct vc_kafka_source *source = &sink->sources[i];
    if (sink->letters[i].hopeless != NULL) {
      n_refused++;
      vc_log(VC_LOG_ERROR, VC_EVENT("sink.dead_letter_refused"),
             VC_STR("why", sink->letters[i].hopeless), VC_STR("topic", source->topic),
             VC_INT("partition", source->partition), VC_INT("offset", source->offset));
    }
  }
  vc_metric_add(sink->slots, DEAD_LETTERS, n - n_refused);
  vc_metric_add(sink->slots, DEAD_REFUSED, n_refused);
}

static int bury(void *context, const struct vc_store_row *rows, size_t n_rows,
                struct vc_error *error)
{
  struct sink *sink = context;
  size_t n = address_letters(sink, rows, n_rows);
  if (vc_kafka_producer_send(sink->producer, sink->letters, n, SINK_LETTER_WAIT_MS, error) != 0) {
    vc_error_set(&sink->letters_trouble, "the dead letters' topic: %.400s", error->text);
    return -1;
  }
  sink->letters_trouble.text[0] = '\0';
  tell_letters(sink, n);
  return 0;
}

// --- batches

static void tell_lag(struct sink *sink)
{
  int64_t now_ms = vc_clock_unix_ms(sink->settings.clock);
  uint64_t now = now_ns(sink);
  for (size_t i = 0; i < sink->batch.n_rows; i++) {
    int64_t produced_ms = sink->batch.rows[i].consumed.produced_ms;
    if (produced_ms >= 0) {
      double lag_ms = (double)(now_ms - produced_ms);
      vc_metric_record(sink->slots, LAG_MS, lag_ms > 0 ? lag_ms : 0, now);
    }
  }
}

static void tell_batch(struct sink *sink)
{
  struct sink_batch *batch = &sink->batch;
  vc_metric_add(sink->slots, BATCHES, 1);
  vc_metric_record(sink->slots, BATCH_ROWS, (double)batch->n_rows, now_ns(sink));
  vc_store_tell(sink->store_slots, batch->shown, batch->n_rows);
  tell_lag(sink);
}

static int write_shown(struct sink *sink, struct vc_error *error)
{
  struct sink_batch *batch = &sink->batch;
  if (open_store(sink, error) != 0) {
    return -1;
  }
  const struct vc_store_batch shown = {.rows = batch->shown,
                                       .n_rows = batch->n_rows,
                                       .cluster = vc_kafka_consumer_cluster(sink->consumer),
                                       .group = sink->settings.options->kafka_group,
                                       .positions = batch->moved,
                                       .n_positions = batch->n_moved,
                                       .bury = bury,
                                       .context = sink};
  uint64_t begun = now_ns(sink);
  int status = vc_store_write_batch(sink->store, &shown, error);
  vc_store_tell_time(sink->store_slots, begun, now_ns(sink));
  return status;
}

// The positions that were written are what they should be. Those of partitions of which nothing
// came are looked at when the connection is another one: the server may have been played back, or
// be one that took over and lacks the last of what was committed.
static int check_connection(struct sink *sink)
{
  sink->must_reread = vc_store_connections(sink->store) != sink->n_connections;
  return sink->must_reread ? reread(sink) : 0;
}

// Returns: 0, or -1: it is tried again.
static int write_batch(struct sink *sink)
{
  struct vc_error error = {.text = ""};
  sink->letters_trouble.text[0] = '\0';
  sink_batch_show(&sink->batch);
  begin_call(sink);
  int status = write_shown(sink, &error);
  end_call(sink);
  if (status < 0) {
    sink->is_in_doubt = 1;
    return sink->letters_trouble.text[0] != '\0' ? try_later(sink, &error)
                                                 : lose_store(sink, &error);
  }
  if (status > 0) {
    sink->must_reread = 1;
    return reread(sink);
  }
  sink->is_in_doubt = 0;
  tell_batch(sink);
  sink_batch_settle(&sink->batch);
  go_on(sink);
  return check_connection(sink);
}

static uint64_t due_ns(const struct sink *sink)
{
  const struct sink_batch *batch = &sink->batch;
  uint64_t interval_ms = (uint64_t)sink->settings.options->store.batch_flush_interval_ms;
  if (sink->must_reread || (!sink_batch_is_empty(batch) && sink->backoff_ms > 0)) {
    return sink->backoff_ms > 0 ? sink->retry_ns : 0;
  }
  if (sink_batch_is_empty(batch)) {
    return UINT64_MAX;
  }
  return sink_batch_is_full(batch) || sink->is_finishing
             ? 0
             : batch->first_ns + interval_ms * VC_NS_PER_MS;
}

// --- what is too old

static void expire(struct sink *sink)
{
  int64_t days = sink->settings.options->store.retention_days;
  struct vc_store_expiry expiry;
  struct vc_error error;
  if (days == 0 || sink->store == NULL || sink->backoff_ms > 0 || now_ns(sink) < sink->expire_ns) {
    return;
  }
  begin_call(sink);
  int64_t before_ms = vc_clock_unix_ms(sink->settings.clock) - days * MS_PER_DAY;
  int status = vc_store_expire(sink->store, before_ms, EXPIRE_MOST, &expiry, &error);
  end_call(sink);
  uint64_t wait_ms = status == 0 && expiry.has_more ? EXPIRE_SOON_MS : EXPIRE_EVERY_MS;
  sink->expire_ns = now_ns(sink) + wait_ms * VC_NS_PER_MS;
  vc_store_tell_expiry(sink->store_slots, &expiry);
  if (status != 0) {
    vc_log(VC_LOG_WARN, VC_EVENT("sink.expire"), VC_STR("error", error.text));
  }
  if (expiry.n_gone > 0) {
    vc_metric_add(sink->slots, EXPIRED, (uint64_t)expiry.n_gone);
    vc_log(VC_LOG_INFO, VC_EVENT("sink.expire"), VC_INT("sessions", expiry.n_gone));
  }
}

// --- turns

static void pause_or_resume(struct sink *sink)
{
  // It is full still where a position was said to be another and then was not: written next turn.
  int is_paused = sink->backoff_ms > 0 || sink->is_finishing || sink_batch_is_full(&sink->batch);
  if (is_paused == sink->is_paused) {
    return;
  }
  sink->is_paused = is_paused;
  vc_metric_set(sink->slots, PAUSED, is_paused);
  if (is_paused) {
    vc_kafka_consumer_pause(sink->consumer);
  } else {
    vc_kafka_consumer_resume(sink->consumer);
  }
}

static void tell_kafka(struct sink *sink)
{
  const char *trouble = sink->letters_trouble.text[0] != '\0'
                            ? sink->letters_trouble.text
                            : vc_kafka_consumer_trouble(sink->consumer);
  if (trouble != NULL) {
    vc_health_set(sink->settings.health, "kafka", trouble);
  } else {
    vc_health_clear(sink->settings.health, "kafka");
  }
}

static uint32_t poll_ms(const struct sink *sink)
{
  uint64_t now = now_ns(sink), due = due_ns(sink);
  uint64_t wait_ms = due <= now ? 0 : (due - now + VC_NS_PER_MS - 1) / VC_NS_PER_MS;
  return wait_ms < POLL_MS ? (uint32_t)wait_ms : POLL_MS;
}

static int poll(struct sink *sink, struct vc_error *error)
{
  struct vc_kafka_consumed consumed;
  int status = vc_kafka_consumer_poll(sink->consumer, poll_ms(sink), &consumed, error);
  if (status > 0) {
    int is_tombstone = consumed.value == NULL;
    int was_passed = sink_batch_put(&sink->batch, &consumed, now_ns(sink));
    vc_metric_add(sink->slots, TOMBSTONES, is_tombstone && !was_passed);
  } else if (status == 0) {
    tell_kafka(sink);
  }
  return status < 0 ? -1 : 0;
}

int sink_turn(struct sink *sink, struct vc_error *error)
{
  struct vc_error why;
  uint64_t now = now_ns(sink);
  atomic_store_explicit(&sink->turned_ns, now, memory_order_relaxed);
  if (due_ns(sink) <= now) {
    int status = sink->must_reread ? reread(sink) : write_batch(sink);
    tell_kafka(sink);
    if (status == 0) {
      expire(sink);
    }
  } else if (sink_batch_is_empty(&sink->batch)) {
    expire(sink);
  }
  pause_or_resume(sink);
  if (poll(sink, &why) != 0) {
    return vc_error_set(error,
                        "%.380s; where the brokers have lost records, --reset-offsets begins at "
                        "the first that there are",
                        why.text);
  }
  if (sink->broken.text[0] != '\0') {
    *error = sink->broken;
    return -1;
  }
  return 0;
}

size_t sink_finish(struct sink *sink)
{
  uint64_t end = now_ns(sink) + SINK_FINISH_MS * VC_NS_PER_MS;
  struct vc_error error;
  sink->is_finishing = 1;
  while (!sink_batch_is_empty(&sink->batch) && now_ns(sink) < end && sink_turn(sink, &error) == 0) {
  }
  size_t n_rows = sink->batch.n_rows;
  vc_kafka_consumer_destroy(&sink->consumer);
  return n_rows;
}

// --- life

static int make_memory(struct sink *sink, struct vc_error *error)
{
  const struct vc_store_options *store = &sink->settings.options->store;
  size_t most = (size_t)(store->batch_max_size < store->batch_max_queue ? store->batch_max_size
                                                                        : store->batch_max_queue);
  sink->letters = calloc(most, sizeof *sink->letters);
  sink->sources = calloc(most, sizeof *sink->sources);
  sink->slots = vc_metrics_slots_create(sink->settings.metrics, sink_metrics);
  sink->store_slots = vc_metrics_slots_create(sink->settings.metrics, vc_store_metrics);
  return sink_batch_init(&sink->batch, most) != 0 || sink->letters == NULL ||
                 sink->sources == NULL || sink->slots == NULL || sink->store_slots == NULL
             ? vc_error_set(error, "no memory")
             : 0;
}

static int make_clients(struct sink *sink, struct vc_error *error)
{
  const struct sink_options *options = sink->settings.options;
  const struct vc_kafka_producer_settings producer = {.options = &options->kafka,
                                                      .node = sink->settings.node,
                                                      .clock = sink->settings.clock,
                                                      .metrics = sink->settings.metrics};
  const struct vc_kafka_consumer_settings consumer = {.options = &options->kafka,
                                                      .group = options->kafka_group,
                                                      .queue_max = AHEAD_MAX,
                                                      .metrics = sink->settings.metrics,
                                                      .assigned = assigned,
                                                      .revoked = revoked,
                                                      .context = sink};
  return vc_kafka_producer_create(&sink->producer, &producer, error) != 0
             ? -1
             : vc_kafka_consumer_create(&sink->consumer, &consumer, error);
}

int sink_create(struct sink **sink_out, const struct sink_settings *settings,
                struct vc_error *error)
{
  struct sink *sink = calloc(1, sizeof *sink);
  if (sink == NULL) {
    return vc_error_set(error, "no memory");
  }
  sink->settings = *settings;
  sink->random = (uint32_t)vc_clock_unix_us(settings->clock);
  atomic_store_explicit(&sink->turned_ns, now_ns(sink), memory_order_relaxed);
  if (make_memory(sink, error) != 0 || make_clients(sink, error) != 0) {
    sink_destroy(&sink);
    return -1;
  }
  *sink_out = sink;
  return 0;
}

void sink_destroy(struct sink **sink_in)
{
  struct sink *sink = *sink_in;
  if (sink == NULL) {
    return;
  }
  vc_kafka_consumer_destroy(&sink->consumer);
  vc_kafka_producer_destroy(&sink->producer, LEAVE_FLUSH_MS);
  vc_store_close(&sink->store);
  sink_batch_fini(&sink->batch);
  free(sink->letters);
  free(sink->sources);
  free(sink);
  *sink_in = NULL;
}
